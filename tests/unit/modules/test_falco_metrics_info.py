# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_metrics_info on a fake root: both halves, its documentation, and that it leaves everything as it was."""

import hashlib
import json
import os

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.action import falco_metrics_info as action
from ansible_collections.falcotune.fleet.plugins.doc_fragments import host
from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import journalctl, snapshots, sources
from ansible_collections.falcotune.fleet.plugins.modules import falco_metrics_info
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import windows
from ansible_collections.falcotune.fleet.tests.unit.falco_output import START, alert_line, line, minutes, text_line

UNIT = {"Id": "falco-modern-bpf.service", "LoadState": "loaded", "ActiveState": "active", "MainPID": "812"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with CPUs and one running Falco, which has its metrics file open below its PrivateTmp."""
    def write(path, content):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    write("sys/devices/system/cpu/online", b"0-3\n")
    write("proc/stat", b"btime %d\n" % (START - 10))
    write("proc/812/stat", b"812 (falco) S 1 812 812 0 -1 4194304 1 2 3 4 70 30 0 0 20 0 3 0 100 1 2\n")
    write("proc/812/root/tmp/metrics.jsonl", line(-5) + b"".join(line(number) for number in range(1, 6)))
    write("proc/812/fdinfo/7", b"flags:\t0102001\n")
    (tmp_path / "proc/812/fd").mkdir()
    (tmp_path / "proc/812/fd/7").symlink_to(tmp_path / "proc/812/root/tmp/metrics.jsonl")
    monkeypatch.setattr(systemd, "show", lambda names: [UNIT])
    monkeypatch.setattr(journalctl.Journal, "__iter__", lambda self: iter(()))
    return tmp_path


def params(root, **given):
    options = {name: option for text in (falco_metrics_info.DOCUMENTATION, host.ModuleDocFragment.DOCUMENTATION)
               for name, option in yaml.safe_load(text)["options"].items()}
    return dict({name: option.get("default") for name, option in options.items()}, host_root=str(root), **given)


def gather(root, **given):
    return falco_metrics_info.gather(params(root, **given))


def state_of(root):
    return {str(path): (os.lstat(path).st_mtime_ns, os.lstat(path).st_mode,
                        hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None) for path in root.rglob("*")}


def test_the_file_that_falco_has_open_is_found_and_nothing_is_touched(root):
    before = state_of(root)
    found = gather(root)
    assert minutes(found["pair"]) == (4, 5) and found["pair"]["source"] == "metrics_file" and found["cpus"] == 4
    assert minutes(gather(root, min_seconds=1e6)["pair"]) == (1, 5)  # and not the snapshot from before Falco's start
    assert state_of(root) == before


def test_a_named_file_is_meant_as_falco_sees_it(root):
    other = root / "proc/812/root/var/log"
    other.mkdir(parents=True)
    (other / "alerts").write_bytes(alert_line(7) + text_line(9))
    found = gather(root, alerts_file="/var/log/alerts", order=["alerts_file", "metrics_file"])
    assert minutes(found["pair"]) == (7, 9) and found["pair"]["source"] == "alerts_file"


def test_order_and_limits_are_the_tasks(root, monkeypatch):
    seen = {}
    monkeypatch.setattr(snapshots, "gather", lambda *arguments: seen.update(zip(("sources", "order", "limits"), arguments)) or {"first": 1})
    gather(root, order=["syslog", "prometheus"], max_bytes=70000, min_seconds=7, syslog=["/x"], prometheus_url="http://127.0.0.1/",
           prometheus_seconds=3)
    assert seen["order"] == ["syslog", "prometheus"] and seen["limits"] == {"since": START - 10 + 100 / os.sysconf("SC_CLK_TCK"),
                                                                            "max_bytes": 70000, "min_seconds": 7}
    assert seen["sources"]["syslog"] == ["/x"] and seen["sources"]["prometheus"]["seconds"] == 3


def test_without_systemd_and_falco_syslog_is_read_all_the_same(root, monkeypatch):
    def fail(names):
        raise systemd.ManagerError("no bus")

    (root / "var/log").mkdir(parents=True)
    (root / "var/log/syslog").write_bytes(b"".join(b"Nov 23 22:13:38 vm falco[812]: " + text_line(number) for number in (1, 2)))
    for show in (fail, lambda names: []):
        monkeypatch.setattr(systemd, "show", show)
        found = gather(root)["pair"]
        assert minutes(found) == (1, 2) and found["source"] == "syslog"
        assert "metrics.enabled" in gather(root, syslog=[])["pair"]["reason"]


class Answer(action.ActionModule):
    """The controller half with a host's answer on paper."""

    def __init__(self, answer):
        self.answer, self._task = answer, type("Task", (), {"args": {"min_seconds": 5}})()

    def _execute_module(self, module_name, module_args, task_vars):
        assert module_name == "falcotune.fleet.falco_metrics_info" and module_args == {"min_seconds": 5}
        return dict(self.answer)


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(action.HostAction, "run", lambda self, tmp=None, task_vars=None: {})
    return lambda answer: Answer(answer).run(task_vars={})


def test_the_controller_half_makes_the_window(root, run):
    sent = json.loads(json.dumps(gather(root)))
    result = run(dict(sent, changed=False, warnings=["one"]))
    assert result["metrics"] == windows.window(sent["pair"], None, 4) and result["metrics"]["drops_percent"] == 1.0
    assert result["changed"] is False and result["warnings"] == ["one"] and not {"pair", "cpus"} & set(result)
    assert set(result["metrics"]) == set(windows.EMPTY)


@pytest.mark.parametrize("answer", [{"failed": True, "msg": "no"}, {"unreachable": True}, {"failed": True, "pair": {}}])
def test_a_failure_is_passed_on(run, answer):
    assert run(answer) == answer


def test_the_documentation_is_the_argument_spec():
    documented = yaml.safe_load(falco_metrics_info.DOCUMENTATION)["options"]
    assert documented["order"]["choices"] == documented["order"]["default"] == list(snapshots.ORDER)
    for name, value in sources.OPTIONS.items():
        assert (documented[name].get("default") or None) == (value or None)
    assert set(yaml.safe_load(falco_metrics_info.RETURN)["metrics"]["contains"]) == set(windows.EMPTY)
    assert documented["max_bytes"]["default"] == snapshots.LIMITS["max_bytes"]
    assert documented["min_seconds"]["default"] == snapshots.LIMITS["min_seconds"]
