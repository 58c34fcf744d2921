# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's files, what is asked of it, and what an outside observer sees of it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from ansible_collections.falcotune.fleet.plugins.module_utils._change import change
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.modules import falco_config

from conductor import Conductor
from stand_in import DROPIN, END, FRAGMENTS, MAIN, UNIT, Manager, read

STATE = "var/lib/falcotune"
FRAGMENT = FRAGMENTS + "/zz-falcotune.yaml"
LOGROTATE = "etc/logrotate.d/falcotune"
SYSCTL = "proc/sys/kernel/bpf_stats_enabled"
METRICS = "var/log/falco/metrics.jsonl"
# Every file that a change of these scenes may write.
TARGETS = (FRAGMENT, DROPIN, LOGROTATE, MAIN)
LEFT = re.compile(r"^(\.falcotune-.*|candidate-.*|token-.*|result-.*|trial-.*|journal\.json|.*\.old|undo\.sh|undone\.json|"
                  r"falcotune-undo-.*|zz-falcotune-stderr\.conf)$")
FOREIGN = "# third party "


class Host:
    """A directory that is a host. mounts: of '', 'var', 'var/log' those that are file systems of their own."""

    def __init__(self, base: Path, mounts=(), restart: bool = True, watches: bool = False):
        self.folder = Path(tempfile.mkdtemp(dir=base, prefix="h"))
        self.root = self.folder / "root"
        for folder in ("etc/falco/config.d", "etc/systemd/system", "etc/logrotate.d", "usr/bin", "usr/lib/systemd/system", "var/lib",
                       "var/log", "proc/sys/kernel", "run"):
            (self.root / folder).mkdir(parents=True)
        (self.root / "usr/bin/falco").write_bytes(b"\x7fELF")
        (self.root / "usr/bin/falco").chmod(0o755)
        (self.root / f"usr/lib/systemd/system/{UNIT}").write_text("[Service]\n")
        (self.root / MAIN).write_text(f"rules_files: x\nconfig_files: {self.root}/{FRAGMENTS}\nbuf_size_preset: 4\n# zz_end: true\n")
        (self.root / SYSCTL).write_text("0\n")
        self.mounts, self.restart, self.watches = list(mounts), restart, watches
        self.conductor = Conductor(self.folder, self.root)
        self.conductor.mounts = self.mounts
        self.manager = Manager(self.conductor, self.root, restart, watches)
        self.manager.boot()
        self.conductor.run(self.conductor.now + 5)

    def close(self) -> None:
        self.conductor.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- requests

    def request(self, what: dict) -> dict:
        """As requests.build() makes it. what: {'state', 'preset', 'extra' (lines of the fragment), 'unit', 'full', 'apply', …}"""
        state = what.get("state", "present")
        made = {
            "state": state, "host_root": str(self.root), "state_dir": "/" + STATE, "unit": UNIT, "apply": what.get("apply", "restart"),
            "rollback_to": what.get("rollback_to", "last"), "content": "", "layout": None, "target": "/nonexistent", "main": None,
            "expected": {}, "reload_paths": [], "load_order": [], "host_files": [], "directories": [], "sysctls": {}, "stage": "",
            "evidence": None, "auto_revert": True, "selected": None, "restart": False, "adopt": False, "dry_run": "--dry-run",
            "version": None, "attempt": None, "before": None, "kept_changes": 1,
            "proof": {"healthy_deadline": 20, "min_healthy_time": 1, "metrics_file": "", "scrape_url": "", "driver": "modern_ebpf",
                      "buffers": None, "unit_settings": {}, "drops_at_most": None, "counters": True, "interval": 1.0}}
        if state != "present":
            return made
        metrics = f"{self.root}/{METRICS}"
        texts = {path: read(self.root / path) for path in (MAIN, FRAGMENT)}
        lines = f"metrics:\n  output_file: {metrics}\nengine:\n  buf_size_preset: {what['preset']}\n"
        lines += "".join(line + "\n" for line in what.get("extra", ())) + END
        target = MAIN if what.get("full") else FRAGMENT
        made.update({
            "content": lines, "layout": "full" if what.get("full") else "dropin", "target": f"{self.root}/{target}",
            "main": f"{self.root}/{MAIN}", "version": "0.44.1", "attempt": {"step": "buffers"},
            "expected": {f"{self.root}/{path}": hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()
                         if text is not None},
            "reload_paths": [f"{self.root}/{FRAGMENTS}"],
            "load_order": [] if what.get("full") else [{"path": f"{self.root}/{FRAGMENT}", "strategy": None}],
            "host_files": [], "directories": [f"{self.root}/{os.path.dirname(METRICS)}"],
            "sysctls": {"kernel.bpf_stats_enabled": "1"} if what.get("sysctl") else {}})
        if what.get("unit"):
            made["host_files"].append({"path": "/" + DROPIN, "content": f"[Service]\nNice=-{what['preset']}\n# {END}", "mode": "0644"})
            made["proof"]["unit_settings"] = {"Nice": "-%s" % what["preset"]}
        if what.get("logrotate"):
            made["host_files"].append({"path": "/" + LOGROTATE, "content": f"{metrics} {{ rotate {what['preset']} }}\n# {END}",
                                       "mode": "0644"})
        made["proof"].update(metrics_file=metrics, buffers={"count": 1, "bytes_each": 1 << 20 << (what["preset"] - 1)})
        return made

    def begin(self, what: dict) -> int:
        """Begin a run of falco_config; the number of its process."""
        made = self.request(what)

        def body():
            try:
                return falco_config.apply(change.Change(made), False)
            except Failed as error:
                return {"failed": True, "msg": str(error), **error.more}
        return self.conductor.launch(body)

    def run(self, what: dict) -> dict | None:
        """Its answer; None where it was killed."""
        number = self.begin(what)
        self.conductor.run()
        return self.conductor.answers.get(number)

    def rest(self, seconds: float) -> None:
        self.conductor.run(self.conductor.now + seconds)

    def reboot(self) -> None:
        """A reboot in the middle of it all: everything is on disk, what was in /run is gone."""
        self.conductor.kill(None, " (reboot)")
        self.manager.shutdown()
        self.conductor.after(20, self.manager.boot)

    # -- what an observer sees

    def files(self) -> dict[str, str | None]:
        return {path: read(self.root / path) for path in TARGETS}

    def leftovers(self) -> list[str]:
        found = []
        for folder, folders, names in os.walk(self.root):
            found += [os.path.relpath(os.path.join(folder, name), self.root) for name in folders + names if LEFT.match(name)]
        return sorted(found) + sorted(self.manager.timers) + sorted(
            name for name, process in self.manager.services.items() if process.alive)

    def outages(self, until: float) -> list[tuple[float, float]]:
        """Times without a Falco; one that lives for less than two seconds does not count."""
        merged: list[list[float]] = []
        for start, end in self.manager.down:
            end = until if end is None else end
            if merged and start - merged[-1][1] < 2:
                merged[-1][1] = end
            else:
                merged.append([start, end])
        return [(start, end) for start, end in merged]

    def everything(self) -> bytes:
        """All bytes of all files: is an edit still somewhere?"""
        found = []
        for folder, _folders, names in os.walk(self.root):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as stream:
                        data = stream.read()
                    found.append(data)
                    if name.endswith(".json"):
                        found += [base64.b64decode(word) for word in re.findall(rb'"old": "([A-Za-z0-9+/=]+)"', data)
                                  if len(word) % 4 == 0]
        return b"\n".join(found)
