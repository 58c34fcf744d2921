# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import sys

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd


def unit(name, load="loaded", active="inactive", enabled="disabled", pid="0", **more):
    return dict({"Id": name, "LoadState": load, "ActiveState": active, "UnitFileState": enabled, "MainPID": pid}, **more)


def test_parse_show():
    text = "Id=a.service\nMainPID=7\nEnvironment=A=1 B=2\n\nId=b.service\nExecStart={ path=/x ; argv[]=/x ; }\nMainPID=\n\n\n"
    assert systemd.parse_show(text) == [{"Id": "a.service", "MainPID": "7", "Environment": "A=1 B=2"},
                                        {"Id": "b.service", "ExecStart": "{ path=/x ; argv[]=/x ; }", "MainPID": ""}]


@pytest.mark.parametrize("text", ["", "\n\n", "no equals sign\n"])
def test_parse_show_of_nothing(text):
    assert systemd.parse_show(text) == []


def test_parse_show_keeps_the_first_of_two():
    assert systemd.parse_show("ExecStart=a\nExecStart=b\n") == [{"ExecStart": "a"}]


@pytest.mark.parametrize("line, words", [
    ("{ path=/usr/bin/falco ; argv[]=/usr/bin/falco -o engine.kind=modern_ebpf ; ignore_errors=no ; start_time=[n/a] ; pid=0 }",
     ["/usr/bin/falco", "-o", "engine.kind=modern_ebpf"]),
    ("{ path=/usr/bin/falco ; argv[]=/usr/bin/falco ; ignore_errors=no }", ["/usr/bin/falco"]),
    ("{ path=/opt/my falco/falco ; argv[]=/opt/my falco/falco -A ; ignore_errors=no }", ["/opt/my falco/falco", "-A"]),
    ("{ path=/usr/bin/falco ; argv[]=falco -A ; flags= ; start_time=[n/a] }", ["/usr/bin/falco", "-A"]),
    ("{ path=/a ; argv[]=/a x ; y ; ignore_errors=no }", ["/a", "x", ";", "y"]),
    ("{ path=/a ; argv[]=/a $OPTS -o k=${ONE} $OTHER ${OTHER} ; ignore_errors=no }",
     ["/a", "-o", "x=1", "-o", "k=o n e", "$OTHER", "${OTHER}"]),
    ("", []),
])
def test_argv(line, words):
    assert systemd.argv({"ExecStart": line, "Environment": 'OPTS="-o x=1" "ONE=o n e"'}) == words
    assert systemd.argv({}) == []


@pytest.mark.parametrize("text, number", [
    ("0", 0), ("-10", -10), ("104857600\n", 104857600), ("infinity", None), ("[not set]", None), ("", None), (None, None),
    ("18446744073709551615", None), ("18446744073709551614", 18446744073709551614), ("5%", None),
])
def test_number(text, number):
    assert systemd.number(text) == number


@pytest.mark.parametrize("text, percent", [
    ("infinity", None), ("", None), (None, None), ("1s", 100), ("500ms", 50), ("1.5s", 150), ("2min 3s", 12300), ("1min", 6000),
    ("200us", 0.02),
    ("1s 500ms", 150), ("0", None),
])
def test_quota_percent(text, percent):
    assert systemd.quota_percent(text) == percent


MODERN, KMOD, CUSTOM = "falco-modern-bpf.service", "falco-kmod.service", "falco-custom.service"


@pytest.mark.parametrize("units, chosen", [
    ([unit(MODERN, active="active", pid="7"), unit(KMOD, enabled="enabled")], MODERN),
    ([unit(MODERN, enabled="enabled"), unit(KMOD, active="active", pid="7")], KMOD),
    # Active with a process goes before active without, and before one that is on its way.
    ([unit(MODERN, active="active", pid="0"), unit(KMOD, active="active", pid="7")], KMOD),
    ([unit(MODERN, enabled="enabled"), unit(KMOD, active="activating")], KMOD),
    ([unit(MODERN, active="failed"), unit(KMOD, enabled="enabled-runtime")], KMOD),
    ([unit(MODERN), unit(KMOD, active="failed")], KMOD),
    ([unit(MODERN), unit(KMOD)], MODERN),
    ([unit(MODERN, load="not-found"), unit(CUSTOM)], CUSTOM),
    # An alias shows the same Id twice.
    ([unit(MODERN, active="active", pid="7"), unit(MODERN, active="active", pid="7")], MODERN),
    ([unit(MODERN, load="not-found"), unit(KMOD, load="masked")], None),
    ([], None),
])
def test_find_takes_the_running_else_the_enabled_unit(monkeypatch, units, chosen):
    monkeypatch.setattr(systemd, "show", lambda names: units)
    found = systemd.find()
    assert (found and found["Id"]) == chosen


@pytest.mark.parametrize("name, asked", [("mine.service", ["mine.service"]), (None, list(systemd.UNITS)), ("", list(systemd.UNITS))])
def test_find_asks_for_the_named_unit_alone(monkeypatch, name, asked):
    seen = []
    monkeypatch.setattr(systemd, "show", lambda names: seen.extend(names) or [])
    assert systemd.find(name) is None
    assert seen == asked


def test_service():
    found = systemd.service(unit(
        MODERN, active="active", ExecStart="{ argv[]=/usr/bin/falco -o a=1 ; }", CPUQuotaPerSecUSec="500ms", CPUWeight="[not set]",
        Nice="-5",
        MemoryMax="infinity", PrivateTmp="yes", ProtectSystem="strict", ReadWritePaths="/a -/b", User=""))
    assert found == {
        "manager": "systemd", "unit": MODERN, "state": "active", "exec_start": ["/usr/bin/falco", "-o", "a=1"], "user": "root",
        "group": "root",
        "limits": {"cpu_quota": 50, "cpu_weight": None, "nice": -5, "memory_max": None},
        "sandbox": {"private_tmp": True, "protect_system": "strict", "read_write_paths": ["/a", "-/b"]},
    }


def test_service_of_a_unit_that_says_nothing():
    assert systemd.service({})["sandbox"] == {"private_tmp": False, "protect_system": "no", "read_write_paths": []}


def test_run_says_what_happened():
    assert systemd.run([sys.executable, "-c", "import sys; print('out'); sys.exit('err')"]) == (1, "out\n", "err\n")
    status, out, err = systemd.run(["/nonexistent/program"])
    assert (status, out) == (None, "") and err == "/nonexistent/program: No such file or directory"


def test_run_does_not_wait_for_ever():
    status, dummy, err = systemd.run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.3)
    assert status is None and "no answer after" in err


def test_a_command_that_takes_its_time():
    begun = systemd.begin([sys.executable, "-c", "import time; time.sleep(0.4); raise SystemExit('why not')"])
    assert begun.ended(0.01) == (None, "")
    assert begun.ended(20) == (1, "why not") == begun.ended(0.01)
    begun = systemd.begin([sys.executable, "-c", "import time; time.sleep(60)"])
    begun.give_up()
    assert begun.process.returncode == -9
    with pytest.raises(systemd.ManagerError, match="/nonexistent/program: No such file"):
        systemd.begin(["/nonexistent/program"])


@pytest.mark.parametrize("answer, message", [((None, "", "systemctl: No such file or directory"), "No such file"),
                                             ((1, "", ""), "systemctl show failed"),
                                             ((1, "", "System has not been booted with systemd"), "has not been booted")])
def test_show_raises_what_systemctl_said(monkeypatch, answer, message):
    monkeypatch.setattr(systemd, "run", lambda arguments: answer)
    with pytest.raises(systemd.ManagerError, match=message):
        systemd.show(["falco.service"])


def test_show_asks_for_every_property_at_once(monkeypatch):
    seen = []
    monkeypatch.setattr(systemd, "run", lambda arguments: seen.append(arguments) or (0, "Id=a\n", ""))
    assert systemd.show(["a", "b"]) == [{"Id": "a"}]
    assert len(seen) == 1 and seen[0][:2] == ["systemctl", "show"] and seen[0][-2:] == ["a", "b"]


@pytest.mark.parametrize("text, found", [
    ('A=1 "B=x y" C', {"A": "1", "B": "x y"}), ("", {}), (None, {}), ("A='", {"A": "'"}),
])
def test_environment(text, found):
    assert systemd.environment({"Environment": text}) == found


def test_a_program_of_falcos_gets_no_variable_of_this_session(monkeypatch):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/tmp")
    monkeypatch.setenv("SECRET", "x")
    code = "import os; print(sorted(set(os.environ) - {'PATH', 'HOME', 'LANG', 'LC_CTYPE'}))"
    assert systemd.run([sys.executable, "-c", code], environment={"A": "1"})[1] == "['A', 'LC_ALL']\n"


def test_what_hangs_is_ended_with_its_children(tmp_path):
    """F16: an orphan that holds the pipe would be waited for without end."""
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600']); sys.stdout.flush(); import time; time.sleep(600)"
    status, dummy, err = systemd.run([sys.executable, "-c", code], timeout=1, environment={})
    assert status is None and err.startswith("no answer after 1 s from:")


@pytest.mark.parametrize("line, runs", [
    ("ExecStart=/usr/bin/falco -c /etc/falco/falco.yaml", True),
    ("ExecStart=-/opt/falco/bin/falco", True),
    ('ExecStart="/opt/my falco/falco" -A', True),
    ("ExecStart=/usr/bin/nice -n 5 /usr/bin/falco", True),
    ("ExecStart=/usr/bin/falcoctl artifact follow", False),
    ("ExecStart=/usr/bin/cat /etc/falco/falco.yaml", False),
    ("#ExecStart=/usr/bin/falco", False),
    ("ExecStop=/usr/bin/falco", False),
])
def test_a_unit_of_the_sites_own_is_known_by_what_it_starts(tmp_path, line, runs):
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/shop.service").write_text("[Service]\n%s\n" % line)
    assert systemd.own_units(str(tmp_path)) == ({"shop.service": None} if runs else {})


def test_a_unit_of_the_sites_own_is_known_by_its_own_name(tmp_path):
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "shop.service").write_text("[Service]\nExecStart=/usr/bin/falco\n")
    (tmp_path / "etc/systemd/system/alias.service").symlink_to(tmp_path / "shop.service")
    assert systemd.own_units(str(tmp_path)) == {"shop.service": None}


@pytest.mark.parametrize("cgroup, names", [
    ("0::/system.slice/shop-falco.service\n", ["shop-falco.service"]),
    ("12:cpu:/\n1:name=systemd:/site.slice/site-agents.slice/falco@web.service\n0::/\n", ["falco@web.service"]),
    ("0::/system.slice/falco-kmod.service\n", []),  # one of the packages'
    ("0::/user.slice/user-0.slice/session-3.scope\n", []),
    ("0::/system.slice/docker-123.scope\n", []),
])
def test_a_unit_of_the_sites_own_is_known_by_its_process(tmp_path, cgroup, names):
    for pid, comm in (("7", "falcoctl"), ("8", "falco")):
        (tmp_path / "proc" / pid).mkdir(parents=True)
        (tmp_path / "proc" / pid / "comm").write_text(comm + "\n")
        (tmp_path / "proc" / pid / "cgroup").write_text(cgroup if pid == "8" else "0::/system.slice/falcoctl.service\n")
        (tmp_path / "proc" / pid / "status").write_text("Name:\tfalco\nUid:\t104\t104\t104\t104\n")
    assert systemd.own_units(str(tmp_path)) == dict.fromkeys(names, {104})


@pytest.mark.parametrize("user, uids, chosen", [
    ("", {0}, "shop.service"),
    ("0", {1000, 0}, "shop.service"),
    ("nobody", {65534}, "shop.service"),
    ("", {1000}, MODERN),  # a user's own sshd.service, or his process below cron.service
    ("nobody", {1000}, MODERN),
    ("no-such-user-here", {1000}, MODERN),
    ("", None, "shop.service"),  # its ExecStart says so
])
def test_a_process_of_another_user_does_not_name_a_unit(monkeypatch, user, uids, chosen):
    shown = {MODERN: unit(MODERN), "shop.service": dict(unit("shop.service", active="active", pid="8"), User=user)}
    monkeypatch.setattr(systemd, "show", lambda names: [shown[name] for name in names if name in shown])
    monkeypatch.setattr(systemd, "own_units", lambda root: {"shop.service": uids})
    monkeypatch.setattr(systemd.os, "geteuid", lambda: 0)
    assert systemd.find()["Id"] == chosen


@pytest.mark.parametrize("packages, asked, chosen", [
    ([unit(MODERN)], None, "shop.service"),
    ([unit(MODERN, active="active", pid="7")], None, MODERN),
    ([unit(MODERN)], MODERN, MODERN),
])
def test_it_is_looked_for_where_no_unit_of_the_packages_runs(monkeypatch, packages, asked, chosen):
    """F06: who starts the package's unit then gets two Falcos."""
    shown = {**{item["Id"]: item for item in packages}, "shop.service": unit("shop.service", active="active", pid="8")}
    monkeypatch.setattr(systemd, "show", lambda names: [shown[name] for name in names if name in shown])
    monkeypatch.setattr(systemd, "own_units", lambda root: {"shop.service": None})
    assert systemd.find(asked)["Id"] == chosen


def test_a_tool_whose_child_holds_the_pipe_is_left_behind(monkeypatch):
    """systemctl starts agents that outlive it; nobody waits for those."""
    monkeypatch.setattr(systemd, "KILLED", 0.2)
    code = "import subprocess, time; print(subprocess.Popen(['sleep', '30']).pid, flush=True); time.sleep(30)"
    status, out, err = systemd.run([sys.executable, "-c", code], timeout=2)
    assert (status, out) == (None, "") and err.startswith("no answer after 2 s from:")
    found = systemd.begin([sys.executable, "-c", code])
    assert found.ended(2) == (None, "")
    found.give_up()
    assert found.process.poll() is not None
