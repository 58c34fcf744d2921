# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts in groups by what a Prometheus knows of their Falco."""

from __future__ import annotations

DOCUMENTATION = r"""
name: prometheus
short_description: Groups hosts by what a Prometheus knows of their Falco
version_added: 0.1.0
description:
  - Asks a Prometheus, or another server with its HTTP API, eight queries for the whole fleet, and puts each
    host into one group. No host is connected to.
  - C(falco_dropping) has hosts whose Falco lost more than O(drops_percent) of its events in O(window).
  - C(falco_blind) has hosts whose Falco runs, but counted no event in O(window).
  - C(falco_stale) has hosts whose Falco had metrics in O(remember) and has none now. It may have stopped, or
    Prometheus cannot reach it.
  - C(falco_healthy) has hosts whose Falco lost at most O(drops_percent).
  - C(falco_unknown) has all others, among them the hosts of earlier inventory sources that Prometheus does
    not know. Prometheus cannot tell about them; an audit can.
  - C(falco_sample) has O(sample_percent) of all hosts in addition, others each hour. An audit of them finds
    out whether Prometheus is right.
  - The variable C(falco_prometheus) of each host has its C(state), the C(reason) for it, Falco's C(release),
    C(age) (seconds since the last sample), C(events), C(drops), C(drops_percent), and the C(labels) of the
    target.
  - Falco serves C(/metrics) since 0.38, with C(metrics.enabled) and C(webserver.prometheus_metrics_enabled).
    Before 0.41.1, a request during the start of Falco can end it.
extends_documentation_fragment:
  - constructed
notes:
  - The name of the file must end in C(.prometheus.yml) or C(.prometheus.yaml).
  - Sources are read in the order of their C(-i) options, and files of a directory in the order of their
    names. Give your own inventory first.
  - An answer that is an error, is not whole, or is not what Prometheus sends, is an error of this source. No
    host is grouped then.
options:
  plugin:
    description: Always V(falcotune.fleet.prometheus).
    type: str
    required: true
    choices: [falcotune.fleet.prometheus]
  url:
    description: The server's URL, without C(/api/v1/query). Redirects are not followed.
    type: str
    required: true
    env:
      - name: FALCOTUNE_PROMETHEUS_URL
  url_username:
    description: User for basic authentication.
    type: str
    env:
      - name: FALCOTUNE_PROMETHEUS_USERNAME
  url_password:
    description: Password for basic authentication.
    type: str
    env:
      - name: FALCOTUNE_PROMETHEUS_PASSWORD
  bearer_token:
    description: Token for the header C(Authorization).
    type: str
    env:
      - name: FALCOTUNE_PROMETHEUS_TOKEN
  headers:
    description: More headers, such as C(X-Scope-OrgID) for a tenant.
    type: dict
    default: {}
  ca_path:
    description: File with the certificates of authorities that are trusted.
    type: path
  client_cert:
    description: File with the client's certificate, and with its key where O(client_key) is not set.
    type: path
  client_key:
    description: File with the client's key.
    type: path
  validate_certs:
    description: Whether the server's certificate is checked.
    type: bool
    default: true
  timeout:
    description: Seconds that the answer to one query may take.
    type: int
    default: 30
  limit:
    description:
      - The server is asked for at most so many series for each query. An answer with as many is an error,
        because hosts may be missing in it.
    type: int
    default: 100000
  selector:
    description: Label matchers that choose Falco's targets, as between the braces of a PromQL selector.
    type: str
    default: ''
  name_labels:
    description: Labels of a target that name its host. Their values are joined by C(;).
    type: list
    elements: str
    default: [instance]
  name_regex:
    description:
      - A regular expression of Python that must match all of O(name_labels). The default leaves out a port,
        and the brackets of an IPv6 address.
    type: str
    default: '\[?(.+?)\]?(?::[0-9]+)?'
  name_replacement:
    description: The host's name. C(\1) is the first group of O(name_regex).
    type: str
    default: '\1'
  hosts:
    description:
      - Which hosts are grouped.
      - With V(known), those of earlier inventory sources, by their name or by C(ansible_host). Targets of
        other hosts are named in a warning.
      - With V(all), every host that Prometheus names. Ansible then connects to names that Prometheus gave.
      - V(auto) is V(known) where an earlier source has hosts, and V(all) otherwise.
    type: str
    choices: [auto, known, all]
    default: auto
  window:
    description: Time over which counters are compared, as Prometheus writes it. At least three scrapes.
    type: str
    default: 15m
  remember:
    description: Time in which a host that has no metrics now must have had some to be in C(falco_stale).
    type: str
    default: 1d
  stale_seconds:
    description: A host whose last sample is older is in C(falco_stale).
    type: int
    default: 300
  drops_percent:
    description: Percent of events. A host that lost more is in C(falco_dropping).
    type: float
    default: 1.0
  sample_percent:
    description:
      - At most so many percent of the hosts are in C(falco_sample), and at least one host. V(0) leaves the
        group empty.
      - The hosts change each hour. With V(1), each host is in the group once in about 100 runs. This is 4
        days of hourly runs, or 100 days of daily ones at the same hour. It can take that long until an audit
        finds out that Prometheus is wrong about one host. If it is wrong about one host in twenty, of 1 000,
        6 runs find that out in 95 of 100 cases.
    type: float
    default: 1.0
"""

EXAMPLES = r"""
# falco.prometheus.yml: all that is needed to tune the hosts that lose events:
#   ansible-playbook falcotune.fleet.tune_falco -i falco.prometheus.yml --become --limit falco_dropping
plugin: falcotune.fleet.prometheus
url: https://prometheus.example.com:9090
selector: job="falco"

# Groups for the hosts of another inventory, whose names have no domain:
#   ansible-playbook falcotune.fleet.audit_falco -i inventory.yml -i falco.prometheus.yml --become
#     --limit 'falco_dropping:falco_blind:falco_stale:falco_unknown:falco_sample'
# plugin: falcotune.fleet.prometheus
# url: https://mimir.example.com/prometheus
# headers:
#   X-Scope-OrgID: production
# name_regex: '([^.:]+).*'

# Groups by a label of the targets, and by Falco's release
# plugin: falcotune.fleet.prometheus
# url: http://127.0.0.1:9090
# keyed_groups:
#   - key: falco_prometheus.labels.datacenter
#     prefix: dc
#   - key: falco_prometheus.release
#     prefix: falco_release
"""

import time

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import prometheus_api
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import monitored, queries
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import some


class InventoryModule(BaseInventoryPlugin, Constructable):
    """Asks, judges, and groups."""

    NAME = "falcotune.fleet.prometheus"

    def verify_file(self, path):
        return super().verify_file(path) and path.endswith((".prometheus.yml", ".prometheus.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        options = {name: self.get_option(name) for name in prometheus_api.OPTIONS}
        try:
            naming, limits = prometheus_api.naming(options, self._aliases()), prometheus_api.limits(options)
            server = prometheus_api.Server(options)
            given = server.answers(queries.queries(options["selector"], limits.window, limits.remember))
        except (prometheus_api.OptionError, prometheus_api.ServerError) as error:
            raise AnsibleParserError(str(error)) from None
        self._where = server.where
        found = monitored.judge(given, naming, limits)
        self._warn("targets whose name_labels give no name of a host are left out", found.nameless)
        self._group(found.hosts, limits)

    def _group(self, hosts, limits):
        groups = {state: self.inventory.add_group("falco_" + state) for state in monitored.STATES}
        sample, percent = self.inventory.add_group("falco_sample"), self.get_option("sample_percent")
        constructed = any(self.get_option(name) for name in ("compose", "groups", "keyed_groups"))
        known, wanted = set(self.inventory.hosts), self.get_option("hosts")
        if wanted == "known" or (wanted == "auto" and known):
            self._warn("hosts that no earlier inventory source has are left out", sorted(set(hosts) - known))
            hosts = {name: found for name, found in hosts.items() if name in known}
        taken = sorted(set(hosts) & set(self.inventory.groups))
        self._warn("hosts whose name is the name of a group are left out", taken)
        hosts = {name: found for name, found in hosts.items() if name not in taken}
        for name in sorted(known - set(hosts)):
            hosts[name] = monitored.absent(limits.remember)
        chosen = monitored.sampled(hosts, percent, int(time.time() // 3600)) if percent > 0 else set()
        for name, found in hosts.items():
            self.inventory.add_host(name, group=groups[found["state"]])
            if name in chosen:
                self.inventory.add_child(sample, name)
            self.inventory.set_variable(name, "falco_prometheus", _untemplated(found))
            if constructed:
                self._construct(name)

    def _aliases(self):
        """{ansible_host: name} of the hosts of earlier sources, where no other host has the same one."""
        found = {}
        for name, host in self.inventory.hosts.items():
            address = host.vars.get("ansible_host")
            if isinstance(address, str) and address not in self.inventory.hosts:
                found.setdefault(str(address), []).append(name)
        return {address: names[0] for address, names in found.items() if len(names) == 1}

    def _construct(self, name):
        variables, strict = self.inventory.get_host(name).get_vars(), self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)

    def _warn(self, what, names):
        if names:
            self.display.warning("%s: %s: %s" % (self._where, what, some(names)))


def _untemplated(value):
    """The value with texts that ansible-core before 2.19 would take for templates marked as unsafe.

    Labels are the text of others. Other texts stay as they are: ansible-inventory shows a mark.
    """
    if isinstance(value, dict):
        return {key: _untemplated(item) for key, item in value.items()}
    return wrap_var(value) if isinstance(value, str) and "{" in value else value
