# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same against a real Falco with modern_ebpf, where FALCO_BIN names one (root; the machine's own events).

FALCOTUNE_CHANGES says how many changes in a row (the default is small). FALCOTUNE_PLUGIN names the library of the container plugin,
FALCOTUNE_UPSTREAM a directory with Falco's own rules, for what plugins cost; FALCOTUNE_SECONDS says how long each run of that measures,
FALCOTUNE_REPEATS how often each test runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import direct
from conftest import ROOT, falco_files, leftovers, unit, wait_for
from playbooks import AUDIT, ROLLBACK, TRIAL, TUNE, play
from test_trial import VICTIMS, killed

BINARY = os.environ.get("FALCO_BIN")
CHANGES = int(os.environ.get("FALCOTUNE_CHANGES", "6"))

pytestmark = pytest.mark.skipif(not BINARY or os.geteuid() != 0, reason="FALCO_BIN names no real Falco, or this is not root")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    from hosts import Fleet

    fleet = Fleet(tmp_path_factory.mktemp("real") / "hosts")
    fleet.start({"defaults": {"cpus": os.cpu_count(), "memory": "16G", "binary": BINARY, "restart_seconds": 3, "cgroup_cpu": False,
                              "measures": "1s", "hostvars": {"falco_tune_min_healthy_time": 1, "falco_tune_healthy_deadline": 60}},
                 "hosts": {"real": {}}})
    host = fleet.hosts[0]
    time.sleep(5)
    assert unit(host)["ActiveState"] == "active"
    host.inventory = fleet.inventory
    yield host
    fleet.stop()


def test_tune_converge_and_roll_back(host):
    before = falco_files(host)
    check = play(TUNE, host.inventory, "--check", "-e", "falco_tune_buf_size_preset=5")
    assert check.changed == {"real"} and falco_files(host) == before
    run = play(TUNE, host.inventory, "-e", "falco_tune_buf_size_preset=5")
    assert run.failures == {}, run.output
    proof = run.result("real", "falco_config")["evidence"]
    assert proof["buffers"] == {"bytes_each": 16 << 20, "count": -(-os.cpu_count() // 2), "source": "memory map"}
    assert proof["source"] == "metrics.output_file" and proof["events"] > 0 and proof["interruptions"] == 1
    assert play(TUNE, host.inventory, "-e", "falco_tune_buf_size_preset=5").changed == set()
    assert play(ROLLBACK, host.inventory).failures == {}
    assert falco_files(host) == before


def test_an_edit_by_somebody_else_is_proven_as_it_runs(host):
    """The edit makes this Falco reload; the process stays, and is proven with what it has read."""
    assert play(TUNE, host.inventory).failures == {}
    main, process = host.root / "etc/falco/falco.yaml", unit(host)["MainPID"]
    text = main.read_text()
    main.write_text(text + "\n# by somebody else\n")
    run = play(TUNE, host.inventory)
    assert run.failures == {}, run.output
    proof = run.result("real", "falco_config")["evidence"]
    assert proof["adopted"] and proof["interruptions"] == 0 and proof["events"] > 0 and proof["buffers"]["source"] == "memory map"
    assert unit(host)["MainPID"] == process and leftovers(host) == []
    assert play(TUNE, host.inventory).changed == set()
    main.write_text(text)
    time.sleep(3)
    assert play(ROLLBACK, host.inventory).failures == {}


def test_fewer_system_calls_as_the_host_itself_selects_them(host):
    """What the plan predicts is what this Falco's own dry run selects, or the change would be refused."""
    wanted = json.dumps({"falco_tune_base_syscalls": {"custom_set": ["!dup"], "repair": True}, "falco_tune_protected_priority": "none"})
    before = falco_files(host)
    run = play(TUNE, host.inventory, "-e", wanted)
    assert run.failures == {}, run.output
    plan = next(event["result"]["ansible_facts"]["falco_plan"] for event in run.of("real")
                if "falco_plan" in (event["result"].get("ansible_facts") or {}))
    assert run.result("real", "falco_config")["evidence"]["events"] > 0
    assert "recvfrom" in plan["syscalls"]["removed"] and "execve" in plan["syscalls"]["selected"]
    found = plan["syscalls"]
    print(f"{found['before']} -> {found['after']} by {found['basis']}; blind: {found['coverage']['newly']}")
    assert play(TUNE, host.inventory, "-e", wanted).changed == set()
    assert play(ROLLBACK, host.inventory).failures == {}
    assert falco_files(host) == before


def test_a_candidate_that_falco_refuses_is_not_written(host):
    before, process = falco_files(host), unit(host)["MainPID"]
    rules = host.root / "etc/falco/falco_rules.local.yaml"
    text = rules.read_text()
    time.sleep(3)
    rules.write_text("- rule: [broken\n")  # Falco's own reload refuses it and goes on with the old rules
    time.sleep(3)
    run = play(TUNE, host.inventory, "-e", "falco_tune_buf_size_preset=6")
    assert "Falco refuses the candidate configuration" in run.failure("real")
    rules.write_text(text)
    wait_for(lambda: falco_files(host) == before)
    assert unit(host)["MainPID"] == process
    time.sleep(3)


def test_changes_in_a_row(host):
    chance = random.Random(1)
    main = host.root / "etc/falco/falco.yaml"
    blind = []
    for number in range(CHANGES):
        time.sleep(chance.uniform(0, 3))
        if chance.random() < 0.4:
            main.write_text(main.read_text() + "\n")
            time.sleep(chance.uniform(0, 0.6))
        answer = direct.finished(direct.change(host, buf_size_preset=5 + number % 2))
        assert answer.get("changed"), (number, answer)
        proof = answer["evidence"]
        assert proof["interruptions"] == 1 and proof["notes"] == [], (number, proof)
        assert proof["buffers"]["bytes_each"] == (16 << 20) << (number % 2)
        assert leftovers(host) == []
        blind.append(proof["blind_seconds_at_most"])
    print(f"{CHANGES} changes, blind for at most {max(blind)} s, median {sorted(blind)[len(blind) // 2]} s")


# Opens and closes as fast as it can: what it makes is what Falco watches by default.
LOAD = "import os\nwhile True:\n    os.close(os.open('/dev/null', os.O_RDONLY))\n"


@contextlib.contextmanager
def neighbours(number: int):
    """Processes of other people that want the CPU and make events."""
    running = [subprocess.Popen([sys.executable, "-S", "-E", "-c", LOAD], stdin=subprocess.DEVNULL) for _number in range(number)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def judged(host, folder, *words) -> dict:
    """The verdict of an audit, on metrics of some seconds under the present load."""
    since = time.time()
    metrics = host.root / "var/log/falco/metrics.jsonl"
    wait_for(lambda: sum(int(found) > since * 1e9 for found in re.findall(r'"evt.time":(\d+)', metrics.read_text())) > 9,
             90, "ten snapshots")
    run = play(AUDIT, host.inventory, "-e", f"falco_audit_report_dir={folder}", *WINDOW, *words)
    assert run.status == 0, run.output
    return json.loads((folder / "report.json").read_text())["hosts"][0]["verdict"]


# Only what was measured under the load counts.
WINDOW = ("-e", "falco_tune_min_observation=5", "-e", "falco_tune_window=8s")


@pytest.mark.skipif(os.path.exists("/proc/sys/kernel/sched_autogroup_enabled")
                    and open("/proc/sys/kernel/sched_autogroup_enabled").read().strip() == "1",
                    reason="autogroup is on and there is no cpu controller here: a nice value counts for nothing")
def test_a_starved_falco_is_told_by_its_waiting_and_cured_by_priority(host, tmp_path):
    """The measured 84 % at nice 0 and nothing at -10, as the product sees and cures it."""
    assert play(TUNE, host.inventory, *WINDOW).failures == {}
    with neighbours(10 * (os.cpu_count() or 1) // 2):
        before = judged(host, tmp_path / "before")
        assert (before["state"], before["bottleneck"], before["next_step"]) == ("dropping", "starved", "priority"), before
        run = play(TUNE, host.inventory, *WINDOW)
        assert run.failures == {} and "(unit) Nice: (not set) -> -10" in run.output, run.output
        after = judged(host, tmp_path / "after")
    print(f"lost {before['drops_percent']:.1f} % at nice 0, {after['drops_percent']:.1f} % at nice -10; {before['reasons'][-1]}")
    assert after["bottleneck"] != "starved" and after["drops_percent"] < before["drops_percent"] / 5, (before, after)


# Each is evaluated for every open. The load above and Falco's thread would share the machine's CPUs otherwise: it has its own rate.
NEEDLESS = [{"rule": "needless %d" % number, "desc": "d", "output": "%evt.type", "priority": "NOTICE", "tags": ["needless"],
             "condition": "evt.type in (open, openat, openat2) and (%s)" % " or ".join(
                 "%s regex '.*(tmp|home)/?%s%d[a-z]+x.*'" % (field, word, number)
                 for field in ("proc.cmdline", "proc.pcmdline", "proc.exepath", "fd.name")
                 for word in ("needle", "pin", "thorn"))} for number in range(60)]
# Nothing but the rules can help.
NOTHING_ELSE = {"falco_tune_syscalls": "keep", "falco_tune_priority": False}
RATED = [str(Path(__file__).parents[1] / "load" / "load.py"), "1", "300", "30000"]


@contextlib.contextmanager
def opens():
    """30 000 opens a second and as many closes, which a Falco with the host's own rules reads without loss."""
    running = subprocess.Popen([sys.executable, "-S", "-E", *RATED], stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.kill()
        running.wait()


def test_sixty_needless_rules_are_found_and_named_and_disabled_by_policy(host, tmp_path):
    """Their cost is told where policy allows nothing; with the policy's word the losses end, and a rollback gives them back."""
    assert play(TUNE, host.inventory, *WINDOW).failures == {}
    local = host.root / "etc/falco/falco_rules.local.yaml"
    text = local.read_text()
    process = unit(host)["MainPID"]
    local.write_text(json.dumps(NEEDLESS))  # Falco reloads by itself
    time.sleep(3)
    costs = ("-e", '{"falco_audit_rule_costs": true}')
    try:
        with opens():
            before = judged(host, tmp_path / "before", *costs)
            report = json.loads((tmp_path / "before/report.json").read_text())["hosts"][0]["rules"]
            print(json.dumps([before["reasons"], before["capacity"]]))
            assert before["state"] in ("dropping", "overloaded") and before["bottleneck"] == "consumer", before
            assert before["capacity"]["factor_alone"] > 1, before
            # A report keeps the 25 heaviest rules of a host.
            heaviest = [item["rule"] for item in report["weights"]]
            assert len(heaviest) == 25 and set(heaviest) < {item["rule"] for item in NEEDLESS}, report["weights"]
            held = play(TUNE, host.inventory, *WINDOW, "-e", json.dumps(NOTHING_ELSE))
            print("\n".join(line for line in held.output.splitlines() if "needless" in line))
            assert held.failures == {} and "needless" in held.output, held.output
            assert unit(host)["MainPID"] == process, "policy allows nothing that helps, so nothing is restarted"
            allowed = ("-e", json.dumps({**NOTHING_ELSE, "falco_tune_disabled_tags": ["needless"]}))
            run = play(TUNE, host.inventory, *WINDOW, *allowed)
            assert run.failures == {} and run.changed == {"real"} and "needless 59" in run.output, run.output
            assert run.result("real", "falco_config")["evidence"]["interruptions"] == 1
            after = judged(host, tmp_path / "after", *allowed)
        print("lost %.1f %% with sixty needless rules, %.3f %% without them" % (before["drops_percent"], after["drops_percent"]))
        assert after["state"] in ("healthy", "acceptable"), after
        assert play(ROLLBACK, host.inventory).failures == {}
    finally:
        local.write_text(text)
        time.sleep(3)


def test_the_guides_first_two_tests_beside_the_hosts_own(host):
    """A second Falco with modern_ebpf beside the first; its metrics are those of the tests above."""
    before, process = falco_files(host), unit(host)["MainPID"]
    two = {"falco_trial_tests": [
        {"name": "T1", "custom_set": ["clone", "clone3", "fork", "vfork", "execve", "execveat", "procexit"]},
        {"name": "T2", "repair": True}]}
    with neighbours(1):
        run = play(TRIAL, host.inventory, "-e", json.dumps({
            **two, "falco_trial_seconds": 10, "falco_trial_report_dir": "", "falco_trial_max_load_per_cpu": 1000}))
    assert run.failures == {}, run.output
    trial = run.result("real", "falco_trial")["ansible_facts"]["falco_trial"]
    print("\n".join(run.result("real", "falco_trial")["summary"]))
    assert (trial["verdict"], trial["largest"]) == ("largest", "T2"), trial
    assert [len(item["selected"]) for item in trial["tests"]] == [7, 18]
    for item in trial["tests"]:
        assert item["state"] in ("clean", "accepted") and item["seconds"] >= 10 and item["events"] > 0 and item["memory_bytes"] > 10 << 20
        assert item["rules_total"] == 5 and item["falco_cpu_percent"] is not None
    assert falco_files(host) == before and unit(host)["MainPID"] == process
    state = host.root / "var/lib/falcotune"
    assert not [name for name in os.listdir(state) if name.startswith(("trial", ".falcotune-"))]


PLUGIN = os.environ.get("FALCOTUNE_PLUGIN")
STOCK = Path(os.environ.get("FALCOTUNE_UPSTREAM") or ROOT.parent / "shared" / "upstream") / "falco_rules-5.1.0.yaml"
SECONDS, REPEATS = int(os.environ.get("FALCOTUNE_SECONDS", "10")), int(os.environ.get("FALCOTUNE_REPEATS", "3"))


@pytest.fixture
def plugged(host):
    """The host with Falco's own rules and the container plugin, as a package has them."""
    fragment = host.root / "etc/falco/config.d/falco.container_plugin.yaml"
    rules = host.root / "etc/falco/falco_rules.yaml"
    before = rules.read_text()
    host.systemctl("stop", host.unit)
    fragment.write_text(f"plugins:\n  - name: container\n    library_path: {PLUGIN}\nload_plugins: [container]\n")
    rules.write_text(STOCK.read_text())
    host.systemctl("start", host.unit)
    wait_for(lambda: unit(host)["ActiveState"] == "active", 30, "Falco with the plugin")
    time.sleep(5)
    yield host
    host.systemctl("stop", host.unit)
    fragment.unlink()
    rules.write_text(before)
    host.systemctl("start", host.unit)


@pytest.mark.skipif(not PLUGIN or not STOCK.exists(), reason="FALCOTUNE_PLUGIN names no container plugin, or no rules are here")
def test_what_the_container_plugin_and_the_rules_that_need_it_cost(plugged):
    """The rules that need the plugin go with it, and the private Falco starts without both.

    Its metrics have a long interval: on a busy machine a short one keeps the driver from loading.
    """
    before, process = falco_files(plugged), unit(plugged)["MainPID"]
    with neighbours(1):
        run = play("falcotune.fleet.trial_rules", plugged.inventory, "-e", json.dumps({
            "falco_trial_seconds": SECONDS, "falco_trial_repeats": REPEATS,
            "falco_trial_report_dir": "", "falco_trial_max_load_per_cpu": 1000,
            "falco_trial_max_more_drops_percent": 100, "falco_trial_metrics_interval": f"{SECONDS // 2}s"}))
    assert run.failures == {}, run.output
    trial = run.result("real", "falco_trial")["ansible_facts"]["falco_trial"]
    print("\n".join(run.result("real", "falco_trial")["summary"]))
    for test in trial["tests"]:
        print(test["name"], json.dumps([test["runs"], test["difference"]]))
    assert trial["verdict"] == "compared", trial
    whole, rules, plugins = trial["tests"]
    assert (whole["rules_total"], whole["plugins"], plugins["plugins"]) == (25, ["container"], [])
    assert rules["rules_removed"] == plugins["rules_removed"] and len(rules["rules_removed"]) == 13
    assert all(len(test["runs"]) == REPEATS and test["cpu_per_million"] > 0 for test in trial["tests"])
    assert plugins["difference"]["memory_bytes"]["mean"] < 0
    assert falco_files(plugged) == before and unit(plugged)["MainPID"] == process


def test_trials_that_are_killed_leave_nothing_behind(host):
    chance = random.Random(3)
    for _number in range(CHANGES):
        killed(host, chance.choice(VICTIMS), chance.uniform(0.3, 9), chance.choice(["beside", "instead"]))
