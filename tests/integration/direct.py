# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules as they are, without a playbook around them: for changes by the hundred and for killing them in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from playbooks import COLLECTIONS

if str(COLLECTIONS) not in sys.path:
    sys.path.insert(0, str(COLLECTIONS))

RUNNER = """\
import importlib, json, sys
from ansible.module_utils.testing import patch_module_args
name, arguments, gate = json.load(sys.stdin)
if gate:
    # Hold the module where it is about to take the host's lock.
    import os, time
    from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
    take = records.lock
    def wait(state):
        open(gate + ".there", "w").close()
        while not os.path.exists(gate):
            time.sleep(0.02)
        return take(state)
    records.lock = wait
module = importlib.import_module("ansible_collections.falcotune.fleet.plugins.modules." + name)
with patch_module_args(arguments):
    module.main()
"""


def started(host, name: str, arguments: dict, gate: Path | None = None) -> subprocess.Popen:
    """A module that runs on the host, in a session of its own as sshd gives it one.

    gate: it waits for this file before it takes the lock, and makes gate.there when it has come so far.
    """
    env = {**os.environ, "PATH": f"{host.root}/usr/bin:{os.environ['PATH']}", "PYTHONPATH": str(COLLECTIONS)}
    process = subprocess.Popen([sys.executable, "-c", RUNNER], env=env, text=True, start_new_session=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write(json.dumps([name, arguments, str(gate) if gate else ""]))
    process.stdin.close()
    process.stdin = None
    return process


def finished(process: subprocess.Popen) -> dict:
    out, err = process.communicate()
    try:
        return json.loads(out)
    except ValueError:
        raise AssertionError(f"no answer, exit {process.returncode}: {out}{err}") from None


def request(host, **policy) -> dict:
    """What the controller would ask of falco_config now: facts, plan and rendering."""
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly, planner
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import requests

    given = {**host.hostvars(), **policy}
    complete = policies.complete({key: value for key, value in given.items() if not key.startswith("ansible_")})
    arguments = {name: complete[name] for name in ("host_root", "unit", "config_file", "state_dir", "metrics_dir")}
    gathered = finished(started(host, "falco_facts", {**arguments, "observe_seconds": 0}))
    assert "ansible_facts" in gathered, gathered
    found = assembly.assemble(gathered["ansible_facts"]["falco"])
    made = planner.make(found, complete)
    return requests.build("present", made, found, complete, yaml.safe_dump(made["settings"], sort_keys=False))


def trial_request(host, test: dict | None = None, **options) -> dict:
    """What the controller would ask of falco_trial for one test; the guide's first without one."""
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._trial import requests, tests
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import assembly
    from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

    given = {key: value for key, value in host.hostvars().items() if key.startswith("falco_tune_")}
    complete = policies.complete(given)
    arguments = {name: complete[name] for name in ("host_root", "unit", "config_file", "state_dir", "metrics_dir")}
    found = assembly.assemble(finished(started(host, "falco_facts", {**arguments, "observe_seconds": 0}))["ansible_facts"]["falco"])
    chosen = tests.options({"seconds": 5, "max_load_per_cpu": 1000})
    made = requests.build(test or tests.GUIDE[0], found, None, chosen, complete, requests.release_of(found), False)
    return {**made, **options}


def change(host, **policy) -> subprocess.Popen:
    """Begin a change by the policy as it is with these keys."""
    return started(host, "falco_config", {"state": "present", "plan": request(host, **policy)})


def journal(host, name: str = "journal.json") -> dict | None:
    """The journal of a change that is under way, or of a trial (trial.json)."""
    try:
        return json.loads((host.root / "var/lib/falcotune" / name).read_text())
    except (OSError, ValueError):
        return None


def record(host) -> dict | None:
    try:
        return json.loads((host.root / "var/lib/falcotune/record.json").read_text())
    except (OSError, ValueError):
        return None


def children(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found
