# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of sets of system calls: what they find, what ends them, and that nothing is left behind, whoever is killed and whenever.

FALCOTUNE_KILLS says how many random kills there are (the default is small).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import direct
from conftest import everything, log_of, starts_of, unit, wait_for
from playbooks import TRIAL, TUNE, environment, play

KILLS = int(os.environ.get("FALCOTUNE_KILLS", "3"))
METRICS = {"enabled": True, "interval": "500ms", "output_file": "{root}/var/log/falco/metrics.jsonl", "resource_utilization_enabled": True,
           "kernel_event_counters_enabled": True}
# The load is the machine's own, whatever else runs there.
QUICK = ("-e", "falco_trial_seconds=5", "-e", "falco_trial_report_dir=", "-e", "falco_trial_max_load_per_cpu=1000")


@pytest.fixture(scope="module")
def fleet(fleet_of):
    hosts = {
        "calm": {"config": {"metrics": METRICS}},
        "busy": {"consumer_events_per_second": 20, "load": {"events_per_second": 8000000}},
        "middle": {"release": "0.38.2", "consumer_events_per_second": 20000, "load": {"events_per_second": 9000000, "categories": {
            "open": 0.6, "close": 0.3, "execve": 0.00001, "clone_fork": 0.00001, "proc_exit": 0.00001, "connect": 0.05}}},
        "old": {"release": "0.34.1", "driver": "kmod"},
        "oldest": {"release": "0.35.0"},
        "kmod": {"driver": "kmod"},
        "load": {}, "memory": {}, "losing": {"config": {"metrics": METRICS}, "load": {"events_per_second": 400000}},
        "broken": {"fault": {"refuse": "the driver is busy", "when": {"webserver.enabled": False}}},
        "refusing": {"fault": {"refuse_config": "no", "when": {"webserver.enabled": False}}},
        "silent": {"fault": {"never_opens": True, "when": {"webserver.enabled": False}}},
        "deaf": {"fault": {"hang_on_term": True, "when": {"webserver.enabled": False}}},
        "instead": {}, "check": {}, "stopped": {"running": False}, "locked": {}, "kills": {"config": {"metrics": METRICS}},
        "controller": {}, "left": {},
    }
    return fleet_of(hosts, load={"events_per_second": 8000})


@pytest.fixture(scope="module")
def hosts(fleet):
    return {host.name: host for host in fleet.hosts}


def tried(fleet, name, *words, status=0):
    run = play(TRIAL, fleet.inventory, "--limit", name, *QUICK, *words)
    assert run.status == status, run.output
    return run


def found(run, name) -> dict:
    return run.result(name, "falco_trial")["ansible_facts"]["falco_trial"]


def own(*tests) -> tuple[str, str]:
    return "-e", json.dumps({"falco_trial_tests": list(tests)})


def private(host) -> list[int]:
    """Processes of trials of this host."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if str(host.root / "var/lib/falcotune/trial-").encode() in text:
            pids.append(int(path.parent.name))
    return pids


def left(host) -> list[str]:
    """What a trial should have taken away."""
    state = host.root / "var/lib/falcotune"
    names = sorted(name for name in (os.listdir(state) if state.exists() else []) if name not in ("lock", "history", "record.json"))
    return names + ["process %d" % pid for pid in private(host)]


# --- what they find ------------------------------------------------------------------------------------------------


def test_a_campaign_on_calm_busy_and_old_hosts(fleet, hosts):
    names = ("calm", "busy", "middle", "old", "oldest", "kmod")
    before = {name: (everything(hosts[name]), unit(hosts[name])) for name in names}
    run = tried(fleet, ",".join(names))
    trials = {name: found(run, name) for name in names}

    calm = trials["calm"]
    assert (calm["verdict"], calm["largest"], calm["mode"]) == ("largest", "T5 files", "beside"), calm
    assert [item["state"] for item in calm["tests"]] == ["clean"] * 5
    assert [len(item["selected"]) for item in calm["tests"]] == [7, 18, 13, 11, 11]
    files = calm["tests"][4]
    assert files["seconds"] >= 5 and files["events"] > 0
    assert files["rate_per_cpu"] * 4 == pytest.approx(files["events_per_second"], rel=0.01)
    assert files["falco_cpu_percent"] > 0 and files["falco_wait_percent"] is not None and files["memory_bytes"] > 1 << 20
    assert files["rules_total"] == 5
    assert sorted(files["rules_blind"]) == ["Another process traced", "Connection to the cloud's metadata service"]
    assert "T1 processes: 7 system calls, 5 s beside the host's own Falco" in run.output
    assert "could not be watched" not in " ".join(run.result("calm", "falco_trial").get("warnings") or [])

    busy = trials["busy"]
    assert (busy["verdict"], busy["largest"]) == ("too_busy", None)
    assert [item["state"] for item in busy["tests"]] == ["dropping"] + ["skipped"] * 4
    assert busy["tests"][0]["drops_percent"] > 1 and sum(busy["tests"][0]["drops_by_category"].values()) <= busy["tests"][0]["drops"]

    middle = trials["middle"]
    assert middle["verdict"] == "largest" and middle["largest"] in ("T1 processes", "T2 repair")
    assert middle["tests"][4]["state"] == "dropping"

    assert trials["old"]["verdict"] == "failed" and "no base_syscalls (since 0.35)" in trials["old"]["reason"]
    assert trials["oldest"]["verdict"] == trials["kmod"]["verdict"] == "largest"
    assert run.changed == set()
    for name in names:
        assert left(hosts[name]) == [] and (everything(hosts[name]), unit(hosts[name])) == before[name], name
        assert starts_of(hosts[name]) == 1


def test_a_test_of_ones_own(fleet, hosts):
    run = tried(fleet, "calm", *own({"name": "mine", "custom_set": ["open", "connect", "!close"], "repair": True}))
    mine = found(run, "calm")["tests"][0]
    assert mine["state"] == "clean" and {"open", "connect", "procexit", "execve"} <= set(mine["selected"])
    assert found(run, "calm")["largest"] == "mine"


@pytest.mark.parametrize("test,said", [
    ({"name": "mine", "custom_set": ["pread64"]}, "Falco calls it pread"),
    ({"name": "mine", "custom_set": ["opne"]}, "open is nearest"),
    ({"name": "mine", "custom_set": ["execve"]}, "selects nothing but"),
    ({"name": "mine", "custom-set": []}, "did you mean custom_set?"),
])
def test_a_wrong_test_is_refused_before_anything_is_touched(fleet, hosts, test, said):
    before = everything(hosts["check"])
    run = tried(fleet, "check", *own(test), status=2)
    assert said in run.failure("check")
    assert run.trips("check") == 1 and everything(hosts["check"]) == before  # the trip of the facts


def test_check_mode_touches_nothing_and_says_what_would_be_measured(fleet, hosts, tmp_path):
    host, before = hosts["check"], everything(hosts["check"])
    run = play(TRIAL, fleet.inventory, "--limit", "check", *QUICK, "--check", TMPDIR=str(tmp_path))
    assert run.status == 0, run.output
    checked = found(run, "check")
    assert checked["verdict"] == "none" and [item["state"] for item in checked["tests"]] == ["skipped"] * 5
    assert [len(item["selected"]) for item in checked["tests"]] == [7, 18, 13, 11, 11]
    assert "check mode: 18 system calls would be watched" in checked["tests"][1]["reason"] and checked["tests"][1]["rules_blind"]
    assert everything(host) == before and not (host.root / "var/lib/falcotune").exists() and run.changed == set()
    assert os.listdir(tmp_path) == []


def test_a_host_whose_falco_does_not_run(fleet, hosts):
    run = tried(fleet, "stopped", *own({"name": "mine", "custom_set": ["open"]}))
    assert found(run, "stopped")["largest"] == "mine" and left(hosts["stopped"]) == []
    assert "could not be watched" in " ".join(run.result("stopped", "falco_trial")["warnings"])
    assert unit(hosts["stopped"])["ActiveState"] == "inactive"


# --- what ends them ------------------------------------------------------------------------------------------------


def test_load_and_memory_abort(fleet, hosts):
    loadavg = hosts["load"].root / "proc/loadavg"
    loadavg.unlink()
    loadavg.write_text("41.00 9.00 3.00 1/100 1\n")
    (hosts["memory"].root / "proc/meminfo").write_text("MemTotal: 1000000 kB\nMemAvailable: 20000 kB\n")
    run = tried(fleet, "load,memory", "-e", "falco_trial_max_load_per_cpu=8", *own(
        {"name": "mine", "custom_set": ["open", "close"]}, {"name": "other", "custom_set": ["connect"]}))
    for name, said in (("load", "the load is 41.00 on 4 CPUs, 10.25 each: the limit is max_load_per_cpu 8"),
                       ("memory", "2.0 % of the memory is available: the limit is min_available_percent 5")):
        trial = found(run, name)
        assert trial["verdict"] == "aborted" and said in trial["reason"], trial
        assert [item["state"] for item in trial["tests"]] == ["aborted", "skipped"] and trial["tests"][0]["selected"]
        assert left(hosts[name]) == [] and unit(hosts[name])["ActiveState"] == "active" and starts_of(hosts[name]) == 1


def test_losses_of_the_hosts_own_falco_abort(hosts):
    host = hosts["losing"]
    process = direct.started(host, "falco_trial", {"request": direct.trial_request(host, seconds=120)})
    wait_for(lambda: direct.journal(host, "trial.json") and direct.journal(host, "trial.json").get("pid"), what="the trial's Falco")
    group = host.systemctl("show", "-p", "ControlGroup", "--value", host.unit).stdout.strip()
    quota = host.root / ("run/cgroup" + group) / "cpu.max"
    quota.write_text("1000 100000\n")
    answer = direct.finished(process)["trial"]
    assert answer["state"] == "aborted" and "the host's own Falco has lost" in answer["reason"], answer
    assert answer["production"]["watched"] and answer["production"]["more_drops_percent"] > 5
    assert left(host) == [] and unit(host)["ActiveState"] == "active" and starts_of(host) == 1


def test_a_falco_that_does_not_start_or_never_sees_an_event(fleet, hosts):
    run = tried(fleet, "broken,refusing,deaf", *own({"name": "mine", "custom_set": ["open"]}))
    assert "Falco ended: Error: the driver is busy" in found(run, "broken")["reason"]
    assert "Falco refuses the trial's configuration: Error: no" in found(run, "refusing")["reason"]
    assert found(run, "deaf")["verdict"] == "largest"  # SIGKILL helped
    for name in ("broken", "refusing", "deaf"):
        assert left(hosts[name]) == [] and unit(hosts[name])["ActiveState"] == "active"
    assert (found(run, "broken")["verdict"], found(run, "refusing")["verdict"]) == ("failed", "failed")


def test_one_run_at_a_time(fleet, hosts):
    first = direct.started(hosts["locked"], "falco_trial", {"request": direct.trial_request(hosts["locked"], seconds=30)})
    wait_for(lambda: private(hosts["locked"]), what="the trial")
    run = tried(fleet, "locked")
    assert found(run, "locked")["verdict"] == "failed" and "another run is changing or trying Falco" in found(run, "locked")["reason"]
    assert "another run is changing Falco" in direct.finished(direct.change(hosts["locked"]))["msg"]
    first.kill()
    first.wait()
    wait_for(lambda: left(hosts["locked"]) == [], what="the end of the first")


# --- instead of the host's own Falco ------------------------------------------------------------------------------


def test_instead_stops_the_hosts_own_falco_and_starts_it_again(fleet, hosts):
    host = hosts["instead"]
    before, process = everything(host), unit(host)["MainPID"]
    assert tried(fleet, "instead", "--check", "-e", "falco_trial_mode=instead").changed == {"instead"}
    assert unit(host)["MainPID"] == process
    run = tried(fleet, "instead", "-e", "falco_trial_mode=instead", *own({"name": "mine", "custom_set": ["open"]}))
    assert found(run, "instead")["verdict"] == "largest" and run.changed == {"instead"}
    now = unit(host)
    assert now["ActiveState"] == "active" and now["MainPID"] != process and starts_of(host) == 2
    assert "SIGINT received, exiting" in log_of(host) and left(host) == [] and everything(host) == before


def test_instead_and_aborted(fleet, hosts):
    host = hosts["instead"]
    loadavg = host.root / "proc/loadavg"
    process = direct.started(host, "falco_trial", {"request": direct.trial_request(host, mode="instead", seconds=30)})
    wait_for(lambda: unit(host)["ActiveState"] != "active" and private(host), what="the stop")
    loadavg.unlink()
    loadavg.write_text("9999 9 9 1/100 1\n")
    answer = direct.finished(process)["trial"]
    assert answer["state"] == "aborted" and "the load is 9999" in answer["reason"]
    assert unit(host)["ActiveState"] == "active" and left(host) == []


# --- whoever is killed ---------------------------------------------------------------------------------------------

VICTIMS = ("module", "watchdog", "worker", "module and worker", "module and watchdog", "watchdog and worker", "falco", "everyone")


def _processes(process) -> dict[str, list[int]]:
    watchdogs = direct.children(process.pid)
    workers = [pid for watchdog in watchdogs for pid in direct.children(watchdog)]
    return {"module": [process.pid], "watchdog": watchdogs, "worker": workers,
            "falco": [pid for worker in workers for pid in direct.children(worker)]}


def _kill(process, victim):
    processes = _processes(process)
    names = ("module", "watchdog", "worker") if victim == "everyone" else victim.split(" and ")
    pids = [pid for name in names for pid in processes[name]]
    # All at once: nobody has time to notice.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


def killed(host, victim, seconds, mode):
    """Begin a trial, kill somebody after so many seconds, and see what there is afterwards."""
    own_falco = unit(host)["MainPID"]
    process = direct.started(host, "falco_trial", {"request": direct.trial_request(host, seconds=4, mode=mode)})
    time.sleep(seconds)
    _kill(process, victim)
    process.communicate()
    if victim == "everyone":
        wait_for(lambda: not private(host), what="the end of the trial's Falco")
        direct.finished(direct.started(host, "falco_trial", {"request": direct.trial_request(host, seconds=1)}))
    wait_for(lambda: left(host) == [], 40, f"a clean host after killing {victim} after {seconds:.2f} s of a trial {mode}: {left(host)}")
    wait_for(lambda: unit(host)["ActiveState"] == "active", 30, "the host's own Falco")
    assert mode == "instead" or unit(host)["MainPID"] == own_falco
    assert not [path for path in host.root.rglob("*") if path.name.startswith((".falcotune-", "trial-", "trial.json"))]


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_in_the_middle(hosts, victim):
    """Instead of the host's own Falco, which must run again: all that there is to leave behind."""
    killed(hosts["kills"], victim, 3.5, "instead")


def test_a_tune_brings_back_what_a_killed_trial_stopped(fleet, hosts):
    """Nobody need know that trials exist for Falco to come back: the next tune of the host does it."""
    host = hosts["left"]
    process = direct.started(host, "falco_trial", {"request": direct.trial_request(host, mode="instead", seconds=30)})
    wait_for(lambda: unit(host)["ActiveState"] != "active" and private(host), what="the stop")
    _kill(process, "everyone")
    process.communicate()
    wait_for(lambda: not private(host), what="the end of the trial's Falco")
    assert unit(host)["ActiveState"] != "active"
    run = play(TUNE, fleet.inventory, "--limit", "left", "--check")
    assert run.result("left", "falco_config")["changes"][0]["from"] == "a trial that was broken off"
    run = play(TUNE, fleet.inventory, "--limit", "left")
    assert "was started again. Run again." in run.failure("left")
    assert unit(host)["ActiveState"] == "active" and left(host) == []
    run = play(TUNE, fleet.inventory, "--limit", "left")
    assert run.failures == {} and run.changed == {"left"}


def test_kills_at_random(hosts):
    chance = random.Random(int(os.environ.get("FALCOTUNE_SEED", "1")))
    for _number in range(KILLS):
        killed(hosts["kills"], chance.choice(VICTIMS), chance.uniform(0.2, 9), chance.choice(["beside", "beside", "instead"]))
    print(f"{KILLS} kills, nothing left behind")


def test_a_killed_controller_ends_the_trial(fleet, hosts):
    host, chance = hosts["controller"], random.Random(2)
    own_falco = unit(host)["MainPID"]
    for _number in range(max(1, KILLS // 5)):
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("ansible-playbook")), TRIAL, "-i", str(fleet.inventory), "--limit", "controller",
             *QUICK, "-e", "falco_trial_seconds=600"],
            env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: private(host), 60, "the trial")
        time.sleep(chance.uniform(0, 4))
        process.kill()
        process.wait()
        wait_for(lambda: left(host) == [], 60, "the end of the trial")
        assert unit(host)["MainPID"] == own_falco and unit(host)["ActiveState"] == "active"
