# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Falco with given rules and base_syscalls: what it selects and what it alerts.

At most two run at once, and each is waited for when it is stopped: a kernel that frees the programs of many Falcos at the same
moment can block its allocator for good.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

BINARY = os.environ.get("FALCO_BIN")
PLUGIN = os.environ.get("FALCO_PLUGIN")
START = 120  # seconds until the first event is seen; loading the programs takes a few
STOP = 30
AT_ONCE = 2
# Up to which event a Falco has come is asked with kill(2) of this number and the following ones (see corpus.FIRST_ACTION).
MARK = 4190000
MARKS = """\
- rule: Mark
  desc: Tells where an action begins.
  condition: evt.type=kill and evt.args contains "pid=419"
  output: mark (%evt.args)
  priority: NOTICE
"""
FINAL = re.compile(r"syscalls selected in total \(final set\): (.*)")
DROPS = re.compile(r"event drop detected: (\d+) occurrences|(\d+) system calls dropped in last second")

running = []


def release():
    out = subprocess.run([BINARY, "--version"], stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode()
    return re.search(r"^Falco version: +(\S+)", out, re.M).group(1)


class Falco:
    """rules: paths of rules files. repair, custom_set: base_syscalls.

    selected: names of the final set, as the dry run prints them.
    """

    def __init__(self, folder, name, rules, repair=False, custom_set=()):
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.config, self.output, self.log = (folder / (name + end) for end in (".yaml", ".jsonl", ".log"))
        marks = folder / "marks.yaml"
        marks.write_text(MARKS)
        self.config.write_text(json.dumps(self._settings([*rules, marks], repair, list(custom_set))))
        text = subprocess.run([BINARY, "-c", str(self.config), "--dry-run"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False, timeout=120).stdout.decode(errors="replace")
        found = FINAL.search(text)
        assert found, "Falco selects nothing with %s:\n%s" % (self.config, text[-3000:])
        self.selected = sorted(item.strip() for item in found.group(1).split(","))
        self._process, self._at, self._mark = None, 0, MARK

    def _settings(self, rules, repair, custom_set):
        settings = {
            "engine": {"kind": "modern_ebpf", "modern_ebpf": {
                "cpus_for_each_buffer": os.cpu_count(), "buf_size_preset": 8, "drop_failed_exit": False}},
            "rules_files": [str(path) for path in rules], "rule_matching": "all", "priority": "debug", "load_plugins": [],
            "json_output": True, "json_include_output_property": True, "buffered_outputs": False,
            "stdout_output": {"enabled": False}, "syslog_output": {"enabled": False},
            "file_output": {"enabled": True, "keep_alive": True, "filename": str(self.output)},
            "webserver": {"enabled": False}, "metrics": {"enabled": False}, "watch_config_files": False,
            "log_stderr": True, "log_syslog": False, "log_level": "debug",
            "syscall_event_drops": {"threshold": 0, "actions": ["log"], "rate": 1, "max_burst": 10},
            "base_syscalls": {"custom_set": custom_set, "repair": repair, "all": False},
        }
        if PLUGIN:
            settings.update(load_plugins=["container"], plugins=[{"name": "container", "library_path": PLUGIN}])
        return settings

    def __enter__(self):
        assert len(running) < AT_ONCE, "%s run already" % running
        running.append(self.name)
        self.output.write_text("")
        self._process = subprocess.Popen([BINARY, "-c", str(self.config)], stdout=subprocess.DEVNULL, stderr=self.log.open("w"))
        try:
            self.alerts(START)
        except BaseException:
            self.__exit__()
            raise
        prefer(self._process.pid)
        return self

    def __exit__(self, *_raised):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP)
        running.remove(self.name)

    def alerts(self, seconds=60):
        """All alerts since the last call, marks as {'mark': number}, once Falco has handled every event up to now."""
        self._mark += 1
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self._process.poll() is None, "%s ended: %s" % (self.name, self.log.read_text(errors="replace")[-2000:])
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._mark, 0)
            for _ in range(5):
                time.sleep(0.1)
                found = [_alert(line) for line in self._lines()]
                if {"mark": self._mark} in found:
                    self._at += len(found)
                    return found
        raise AssertionError("%s did not see the mark %d in %d s" % (self.name, self._mark, seconds))

    def _lines(self):
        text = Path(self.output).read_text(errors="replace")
        return text[:text.rfind("\n") + 1].splitlines()[self._at:]

    def drops(self):
        """Whether this Falco lost events. Falco looks once a second, so give it two seconds of events before it is stopped."""
        return sum(int(item) for found in DROPS.findall(self.log.read_text(errors="replace")) for item in found if item)


def prefer(process):
    """Lets the Falco run before everything else: a Falco that lags looks up descriptors in /proc when their process is gone."""
    with contextlib.suppress(PermissionError):
        for thread in os.listdir("/proc/%d/task" % process):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(1))


def _alert(line):
    alert = json.loads(line)
    if alert["rule"] == "Mark":
        return {"mark": int(re.search(r"pid=(\d+)", alert["output"]).group(1))}
    return {"rule": alert["rule"], "fields": alert["output_fields"]}
