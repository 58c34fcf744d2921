# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin prometheus against servers that are slow, lie, refuse, redirect or are too large."""

import base64
import datetime
import ipaddress
import ssl
import time

import pytest
import yaml
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible_collections.falcotune.fleet.plugins.inventory import prometheus
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import prometheus_api
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import queries
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from ansible_collections.falcotune.fleet.tests.unit.prometheus_server import fleet, sent, servers
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

OPTIONS = yaml.safe_load(prometheus.DOCUMENTATION)["options"]
CONSTRUCTED = {"strict": False, "compose": {}, "groups": {}, "keyed_groups": [], "use_extra_vars": False, "leading_separator": True}
FIXTURES = ROOT / "tests" / "unit" / "fixtures" / "metrics"


class Plugin(prometheus.InventoryModule):
    """With options as they are documented, without a file."""

    def __init__(self, **given):
        super().__init__()
        self.given, self.warnings = given, []
        self.display = type("Display", (), {"warning": lambda _self, text: self.warnings.append(text)})()

    def _read_config_data(self, path):
        return self.given

    def get_option(self, option, hostvars=None):
        default = OPTIONS[option].get("default") if option in OPTIONS else CONSTRUCTED[option]
        return self.given.get(option, default)

    def run(self, **hosts):
        inventory = InventoryData()
        for name, variables in hosts.items():
            inventory.add_host(name)
            for key, value in variables.items():
                inventory.set_variable(name, key, value)
        self.parse(inventory, DataLoader(), "falco.prometheus.yml")
        return {name: sorted(host.name for host in group.hosts) for name, group in inventory.groups.items() if group.hosts}, inventory


@pytest.fixture
def server():
    with servers() as start:
        yield start


def failed(url, **given):
    with pytest.raises(AnsibleParserError) as error:
        Plugin(url=url, **given).run()
    return str(error.value)


@pytest.mark.parametrize(("release", "index"), [("0.38.2-A", 1), ("0.44.1-A", 0), ("0.44.1-G", 0)])
def test_the_names_of_metrics_are_those_that_falco_was_recorded_with(release, index):
    text = (FIXTURES / (release + ".prometheus.txt")).read_text()
    names = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}
    assert {queries.EVENTS[index], queries.DROPS[index], queries.VERSION} <= names
    assert not {queries.EVENTS[1 - index], queries.DROPS[1 - index]} & names


def test_hosts_are_grouped_and_no_group_is_missing(server):
    groups, inventory = Plugin(url=server(fleet({"web-01:8765": 0, "db-01:8765": 40}))).run()
    assert groups["falco_dropping"] == ["db-01"] and groups["falco_healthy"] == ["web-01"]
    assert {"falco_" + name for name in ("dropping", "blind", "stale", "healthy", "unknown")} <= set(inventory.groups)
    assert inventory.hosts["db-01"].vars["falco_prometheus"]["drops_percent"] == 40


def test_eight_requests_for_one_time(server):
    Plugin(url=server(fleet({"web-01:8765": 0})), limit=7, timeout=9).run()
    paths, forms = [path for path, _headers, _form in server.asked], [form for _path, _headers, form in server.asked]
    assert paths == ["/prom/api/v1/query"] * 8
    assert "time" not in forms[0] and len({form["time"] for form in forms[1:]}) == 1
    assert {form["limit"] for form in forms} == {"7"} and {form["timeout"] for form in forms} == {"9s"}


def test_who_asks(server):
    url = server(fleet({}))
    Plugin(url=url, url_username="falco", url_password="s3:cret", headers={"X-Scope-OrgID": "a"}).run()
    Plugin(url=url, bearer_token="t0ken").run()
    basic, bearer = server.asked[0][1], server.asked[-1][1]
    assert basic["Authorization"] == "Basic " + base64.b64encode(b"falco:s3:cret").decode()
    assert {name.lower(): value for name, value in basic.items()}["x-scope-orgid"] == "a"
    assert bearer["Authorization"] == "Bearer t0ken"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) of 127.0.0.1, which signs itself, and is server and client here."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256()))
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(folder / "cert.pem"), str(folder / "key.pem")


def test_certificates_of_both_sides(server, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.load_verify_locations(certificate[0])
    context.verify_mode = ssl.CERT_REQUIRED
    url = server(fleet({"web-01:8765": 0}), context)
    client = {"client_cert": certificate[0], "client_key": certificate[1]}
    groups, _inventory = Plugin(url=url, ca_path=certificate[0], **client).run()
    assert groups["falco_healthy"] == ["web-01"]
    asked = len(server.asked)
    assert "ertificate" in failed(url, **client)  # its authority is unknown
    assert failed(url, ca_path=certificate[0])  # the server wants a client's
    assert len(server.asked) == asked


def test_only_hosts_of_the_inventory_where_there_is_one(server):
    plugin = Plugin(url=server(fleet({"web-01:8765": 0, "192.0.2.9:8765": 40, "stranger:8765": 40})))
    groups, inventory = plugin.run(**{"web-01": {}, "db-01": {"ansible_host": "192.0.2.9"}, "app-01": {}})
    assert groups["falco_healthy"] == ["web-01"] and groups["falco_dropping"] == ["db-01"] and groups["falco_unknown"] == ["app-01"]
    assert "stranger" not in inventory.hosts and any("stranger" in text for text in plugin.warnings)


def test_an_address_of_two_hosts_names_neither(server):
    plugin = Plugin(url=server(fleet({"192.0.2.9:8765": 40})))
    groups, _inventory = plugin.run(a={"ansible_host": "192.0.2.9"}, b={"ansible_host": "192.0.2.9"})
    assert groups["falco_unknown"] == ["a", "b"] and any("192.0.2.9" in text for text in plugin.warnings)


def test_all_hosts_where_that_is_asked_for(server):
    groups, _inventory = Plugin(url=server(fleet({"stranger:8765": 40})), hosts="all").run(**{"web-01": {}})
    assert groups["falco_dropping"] == ["stranger"] and groups["falco_unknown"] == ["web-01"]


def test_names_that_are_no_hosts_or_are_groups_are_left_out(server):
    plugin = Plugin(url=server(fleet({"-oProxyCommand=id:1": 40, "all:1": 40, "falco_healthy:1": 40, "localhost:1": 40})))
    groups, inventory = plugin.run()
    assert not inventory.hosts and len(plugin.warnings) == 2


def test_a_server_that_is_down(server):
    url = server(fleet({}))
    port = int(url.split(":")[2].split("/")[0])
    assert "refused" in failed("http://127.0.0.1:%d" % (port + 1 if port < 65535 else 1))


def test_a_server_that_never_ends(server):
    def drip(handler, _query):
        handler.send_response(200)
        handler.end_headers()
        for _number in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    assert "timeout" in failed(server(drip), timeout=1)


def test_a_server_that_says_nothing(server):
    assert "timed out" in failed(server(lambda _handler, _query: time.sleep(4)), timeout=1)


def test_an_answer_without_end_is_not_read_whole(server, monkeypatch):
    monkeypatch.setattr(prometheus_api, "MOST_BYTES", 100000)

    def flood(handler, _query):
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    assert "more than 100000 bytes" in failed(server(flood))


def test_a_redirect_is_not_followed(server):
    other = server(fleet({}))
    assert "HTTP status 302" in failed(server(lambda handler, _query: sent(handler, b"", 302, Location=other)), bearer_token="t0ken")
    assert len(server.asked) == 1


@pytest.mark.parametrize(("status", "data", "said"), [
    (400, b'{"status":"error","errorType":"bad_data","error":"parse error"}', "HTTP status 400. bad_data: parse error"),
    (401, b"Unauthorized", "HTTP status 401."), (503, b"", "HTTP status 503."), (200, b"<html>", "not JSON"), (204, b"", "not JSON")])
def test_errors_say_which_server_and_query(server, status, data, said):
    url = server(lambda handler, _query: sent(handler, data, status))
    text = failed(url)
    assert said in text and url.rstrip("/") in text and "query known" in text


@pytest.mark.parametrize("status", [200, 400])
def test_a_connection_that_breaks_off(server, status):
    def broken(handler, _query):
        handler.send_response(status)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"status":')

    assert "query known" in failed(server(broken))


def test_garbage_instead_of_http(server):
    assert "query known" in failed(server(lambda handler, _query: handler.wfile.write(b"\x00\x01\x02\r\n\r\n")))


def test_an_answer_for_another_time(server):
    assert "cache" in failed(server(fleet({"web-01:8765": 0}, at=time.time() - 3600)))


def test_a_cut_answer(server):
    assert "raise limit" in failed(server(fleet({"web-01:8765": 0, "web-02:8765": 40})), limit=2)


@pytest.mark.parametrize("given", [
    {"window": "15"}, {"window": "15m]) or vector(1) #"}, {"remember": ""}, {"timeout": 0}, {"limit": -1}, {"name_regex": "("},
    {"name_replacement": r"\3"}, {"url": "file:///etc/passwd"}, {"url": "prometheus:9090"}])
def test_wrong_options(given):
    with pytest.raises(AnsibleParserError) as error:
        Plugin(**{"url": "http://127.0.0.1:1", **given}).run()
    assert next(iter(given)) in str(error.value)


def test_a_password_in_the_url_is_not_shown(server):
    url = server(lambda handler, _query: sent(handler, b"", 500)).replace("http://", "http://falco:s3cret@")
    assert "s3cret" not in failed(url)


@pytest.mark.parametrize(("path", "ours"), [
    ("falco.prometheus.yml", True), ("x.prometheus.yaml", True), ("prometheus.yml", False), ("hosts.yml", False)])
def test_which_files_are_read(tmp_path, path, ours):
    (tmp_path / path).write_text("plugin: falcotune.fleet.prometheus\n")
    assert Plugin().verify_file(str(tmp_path / path)) is ours
