#!/usr/bin/python
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

DOCUMENTATION = r"""
module: falco_config
short_description: Change Falco's configuration in one proven transaction
version_added: 0.1.0
description:
  - Applies a plan of P(falcotune.fleet.plan#filter) to Falco's files, its unit's drop-in, log rotation and sysctls
    together, with exactly one interruption of Falco, in one trip.
  - The candidate is read by the host's own Falco first. The previous state is kept outside every directory that Falco
    reads. Then Falco is stopped, the files are swapped by rename, and Falco is started and watched until its event
    counters move. On failure or at the deadline the previous state is put back.
  - The transaction is detached from the connection. A controller that dies leaves the host in the new proven state or
    in the old one; what a power cut breaks off is finished or undone by the next run.
  - Without a change no trip to the host is made.
options:
  state:
    description:
      - V(present) applies O(plan). Where it needs a restart and the policy's C(restart_ok) is false, the change is kept in
        C(STATE_DIR/staged) once the host's own Falco has read it, and Falco is not touched.
      - V(planned) tells what V(present) would do, without a trip to the host.
      - V(proven) looks again at the change whose O(evidence) is given. The process must be the same, its counters must have moved on
        and its drops be no worse than before the change. Else the change is rolled back, unless the policy's C(auto_revert) is false,
        and the host fails.
      - V(rolled_back) puts back what an earlier run of this module replaced.
    type: str
    choices: [present, planned, proven, rolled_back]
    default: present
  plan:
    description:
      - What the plan filter returned. Required with O(state=present) and O(state=planned).
    type: dict
  content:
    description:
      - The rendered blocks, as text; whole file for the layout V(dropin), blocks to replace in the main file for V(full).
    type: str
  facts:
    description:
      - What P(falcotune.fleet.falco_facts#module) returned; the change is refused where the host is not as the facts say.
    type: dict
  evidence:
    description:
      - With O(state=proven), what O(state=present) returned as RV(evidence). Without it nothing is looked at.
    type: dict
  policy:
    description:
      - The policy as completed by P(falcotune.fleet.policy#filter).
    type: dict
extends_documentation_fragment:
  - falcotune.fleet.attributes
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: Tells what would change and lets the host's Falco read the candidate; touches nothing.
  diff_mode:
    support: full
    description: Shows every file before and after.
author:
  - falcotune contributors (@falcotune)
seealso:
  - module: falcotune.fleet.falco_facts
"""

EXAMPLES = r"""
- name: Apply the plan
  falcotune.fleet.falco_config:
    plan: "{{ plan }}"
    content: "{{ lookup('ansible.builtin.template', 'falco.yaml.j2') }}"
    facts: "{{ ansible_facts.falco }}"
    policy: "{{ policy }}"
  vars:
    plan: "{{ ansible_facts.falco | falcotune.fleet.plan(policy) }}"
    policy: "{{ {'metrics_interval': '1m'} | falcotune.fleet.policy }}"

- name: Undo the last change
  falcotune.fleet.falco_config:
    state: rolled_back
"""

RETURN = r"""
evidence:
  description:
    - What proved the change. C(adopted) is true where nothing that Falco reads was changed - what runs since a package upgrade, say, was
      proven as it is, without an interruption.
  returned: when something changed
  type: dict
  sample:
    pid: 4711
    start_ticks: 8123456
    restarts: 0
    source: metrics.output_file
    events: 51234
    drops_percent: 0.0
    buffers: {bytes_each: 33554432, count: 4, source: memory map}
    seconds_to_evidence: 2.4
    blind_seconds_at_most: 2.9
    interruptions: 1
    notes: []
undone:
  description: Whether the previous state is back.
  returned: on failure
  type: bool
touched:
  description: Whether Falco was interrupted before the previous state was put back.
  returned: on failure after a change began
  type: bool
look:
  description: What the second look found, as in RV(evidence).
  returned: with O(state=proven)
  type: dict
reverted:
  description: Whether the change was rolled back after the second look.
  returned: with O(state=proven) on failure
  type: bool
staged:
  description: Whether the change is kept until a restart is allowed.
  returned: when it is
  type: bool
rollout:
  description: What a rollout wants to know of the host.
  returned: with O(state=planned)
  type: dict
recovered:
  description: What was done about an earlier change or trial that had been broken off.
  returned: when there was one
  type: str
log:
  description: The last lines of Falco's log as the journal has them.
  returned: on failure
  type: list
  elements: str
changes:
  description: What changes and why.
  returned: always
  type: list
  elements: dict
  sample:
    - key: engine.modern_ebpf.buf_size_preset
      from: 4
      to: 6
      why: "preset 6: the class of machines from 16 CPUs with modern_ebpf"
"""

import base64
import os
import pwd
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.falcotune.fleet.plugins.module_utils._change import (
    candidate,
    evidence,
    records,
    transaction,
    yaml_text,
)
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import trial

UNITS = "/etc/systemd/"
# Folders whose files neither Falco nor its unit reads.
QUIET = ("/etc/logrotate.d/", "/etc/sysctl.d/")


def _hashes(files):
    return "".join("%s sha256 %s\n" % item for item in sorted(files.items()))


class Change(object):
    """Everything that one call would do to the host."""

    def __init__(self, module):
        self.module = module
        self.params = module.params["plan"]
        self.root = self.params["host_root"].rstrip("/")
        self.state = self.root + self.params["state_dir"]
        self.unit = None
        self.process = None
        self.items = []
        self.made = []
        self.sysctls = {}
        self.old_sysctls = {}
        self.forget = []
        self.forget_since = 0
        self.written = None  # files of ours that are left after a rollback
        self.daemon_reload = False
        self.ours = []  # every file that the plan speaks of, changed or not

    def fail(self, msg, **more):
        self.module.fail_json(msg=msg, **more)

    def look(self):
        """Which unit and process this is about."""
        try:
            self.unit = systemd.find(self.params["unit"] or None)
        except systemd.ManagerError as error:
            self.fail("systemd did not answer: %s" % error)
        if self.unit is None:
            self.fail("systemd has no unit %s" % (self.params["unit"] or "of Falco's packages"))
        pid = host.integer(self.unit.get("MainPID"))
        process = host.Process(self.root, pid) if pid else None
        if process and process.stat():
            self.process = process

    def collect(self):
        """The files, directories and sysctls of a plan."""
        params = self.params
        target = transaction.Item(params["target"], None, 0o640)
        for path, expected in sorted(params["expected"].items()):
            try:
                with open(path, "rb") as stream:
                    found = host.digest(stream.read())
            except (IOError, OSError) as error:
                self.fail("%s can't be read: %s; run with become" % (path, error.strerror))
            if found != expected:
                self.fail(
                    "%s changed since the facts were gathered (sha256 %s, was %s): run again"
                    % (path, found[:12], expected[:12])
                )
        if params["content"]:
            new = params["content"].encode("utf-8")
            if params["layout"] == "full":
                if target.old is None:
                    self.fail("%s does not exist" % params["target"])
                try:
                    text = target.old.decode("utf-8")
                    blocks = {
                        key: yaml_text.block(params["content"], key)
                        for key, dummy, dummy2 in yaml_text.spans(params["content"])
                    }
                    new = yaml_text.replace(text, blocks).encode("utf-8")
                except ValueError as error:
                    self.fail(
                        "%s %s: it can't be changed block by block; use the layout dropin or write it in block style"
                        % (params["target"], error)
                    )
            target.new = new
            self.ours.append(target)
        for entry in params["host_files"]:
            self.ours.append(
                transaction.Item(
                    self.root + entry["path"], entry["content"].encode("utf-8"), int(entry["mode"], 8)
                )
            )
        self.items = [item for item in self.ours if item.changed]
        self.daemon_reload = any(item.path.startswith(self.root + UNITS) for item in self.items)
        self.made = [path for path in params["directories"] if not os.path.isdir(path)]
        for path in self.made:
            if not os.path.isdir(os.path.dirname(path)):
                self.fail("%s can't be made: %s does not exist" % (path, os.path.dirname(path)))
        for name, value in params["sysctls"].items():
            now = (host.read("%s/proc/sys/%s" % (self.root, name.replace(".", "/"))) or "").strip()
            if now != value:
                self.sysctls[name] = value
                if now:
                    self.old_sysctls[name] = now

    def collect_rollback(self):
        """The files of the last change, or of all of them, as they were."""
        numbers = records.history(self.state)
        if not numbers:
            return
        self.forget = numbers if self.params["rollback_to"] == "original" else numbers[-1:]
        wanted, order = {}, []
        for number in reversed(self.forget):
            folder = os.path.join(self.state, "history", "%04d" % number)
            manifest = records.read_json(os.path.join(folder, "manifest.json"))
            if manifest is None:
                self.fail("%s/manifest.json can't be read: nothing was changed" % folder)
            self.old_sysctls_of(manifest)
            self.forget_since = manifest.get("at") or 0
            self.written = manifest.get("written") or []
            # The oldest state that comes back is the one to be proven, by what proved it then.
            proved = manifest.get("watch") or {}
            self.params["watch"].update(
                {key: proved.get(key) for key in ("metrics_file", "scrape_url", "driver", "buffers")}
            )
            for entry in manifest["files"]:
                if entry["path"] not in wanted:
                    order.append(entry["path"])
                    self.unmoved(entry)
                data = None
                if entry["old"] is not None:
                    with open(os.path.join(folder, entry["old"]), "rb") as stream:
                        data = stream.read()
                wanted[entry["path"]] = (data, entry["meta"])
        for path in order:
            data, meta = wanted[path]
            item = transaction.Item(path, data, meta[0] if meta else 0o640)
            if item.changed:
                self.items.append(item)
                self.daemon_reload = self.daemon_reload or path.startswith(self.root + UNITS)

    def old_sysctls_of(self, manifest):
        for name, value in (manifest.get("sysctls") or {}).items():
            now = (host.read("%s/proc/sys/%s" % (self.root, name.replace(".", "/"))) or "").strip()
            self.sysctls[name] = value
            self.old_sysctls[name] = now

    def unmoved(self, entry):
        """What somebody else wrote since is not ours to throw away."""
        try:
            with open(entry["path"], "rb") as stream:
                now = host.digest(stream.read())
        except (IOError, OSError):
            now = None
        if now is not None and entry["new_sha256"] is not None and now != entry["new_sha256"]:
            self.fail(
                "%s was changed by somebody else since (sha256 %s, written was %s): put it right by hand; nothing was changed"
                % (entry["path"], now[:12], entry["new_sha256"][:12])
            )

    @property
    def needed(self):
        return bool(self.items or self.made or self.sysctls or self.params["restart"] or self.params["adopt"])

    @property
    def apply_mode(self):
        """restart, reload (Falco's own, where policy says so), or quiet: nothing that Falco or its unit reads. adopt is quiet, and proves
        the Falco that runs.
        """
        quiet = tuple(self.root + folder for folder in QUIET)
        if not self.params["restart"] and all(item.path.startswith(quiet) for item in self.items):
            return "adopt" if self.params["adopt"] else "quiet"
        return self.params["apply"] if not self.daemon_reload and self.process else "restart"

    def hashes(self):
        """Every file that Falco reads or that is ours, as it is once this is done: {path: sha256}."""
        found = dict(self.params["expected"])
        found.update(
            {item.path: host.digest(item.new) for item in self.items + self.ours if item.new is not None}
        )
        return found

    def diff(self):
        shown = []
        for item in self.items:
            shown.append(
                {
                    "before_header": item.path,
                    "after_header": item.path,
                    "before": (item.old or b"").decode("utf-8", "replace"),
                    "after": (item.new or b"").decode("utf-8", "replace"),
                }
            )
        if self.apply_mode == "adopt":
            before = records.load(self.state) or {}
            known = "Falco %s\n" % (before.get("binary") or {}).get("version")
            shown.append(
                {
                    "before_header": "proven",
                    "after_header": "proven",
                    "before": known + _hashes(before.get("files") or {}),
                    "after": "Falco %s\n" % self.params["version"] + _hashes(self.hashes()),
                }
            )
        for path in self.made:
            shown.append(
                {"before_header": path, "after_header": path, "before": "", "after": "directory, mode 0750\n"}
            )
        for name, value in sorted(self.sysctls.items()):
            shown.append(
                {
                    "before_header": name,
                    "after_header": name,
                    "before": "%s\n" % self.old_sysctls.get(name, ""),
                    "after": "%s\n" % value,
                }
            )
        return shown

    def ask_falco(self, where):
        """The host's own Falco reads the candidate."""
        params = self.params
        files = {item.path: item.new for item in self.items if item.path == params["target"]}
        if not files:
            return
        arguments = (self.process.arguments() if self.process else []) or systemd.argv(self.unit)
        environment = (self.process.environment() if self.process else None) or {}
        order = [item for item in params["load_order"] if item["path"] != params["main"]]
        try:
            candidate.dry_run(
                arguments,
                environment,
                params["dry_run"],
                params["main"],
                order,
                files,
                {
                    "bytes_each": params["watch"]["buffers"] and params["watch"]["buffers"]["bytes_each"],
                    "selected": params["selected"],
                },
                params["watch"]["metrics_file"],
                where,
            )
        except candidate.Refused as error:
            self.fail("%s. Nothing was changed." % str(error).rstrip("."), undone=True)
        except (IOError, OSError) as error:
            self.fail(
                "the candidate can't be tried: %s: %s. Nothing was changed."
                % (error.filename, error.strerror),
                undone=True,
            )

    def plan(self, token, staged, stages):
        """Plain data for the journal and the keeper."""
        user = self.unit.get("User") or "root"
        try:
            owner = pwd.getpwnam(user)
            owner = [owner.pw_uid, owner.pw_gid]
        except KeyError:
            owner = [os.getuid(), os.getgid()]
        if os.getuid() != 0:
            owner = [os.getuid(), os.getgid()]
        watched = list(self.params["expected"]) + self.params["watched"]
        binary = systemd.argv(self.unit)[0] if systemd.argv(self.unit) else "/usr/bin/falco"
        return {
            "state": self.state,
            "token": token,
            "unit": self.unit["Id"],
            "phase": "staged",
            "at": time.time(),
            "apply": self.apply_mode,
            "files": [
                {
                    "path": item.path,
                    "staged": staged.get(item.path),
                    "old_meta": item.old_meta,
                    "old": base64.b64encode(item.old).decode("ascii") if item.old is not None else None,
                    "new_sha256": host.digest(item.new) if item.new is not None else None,
                }
                for item in self.items
            ],
            "stages": stages,
            "made": self.made,
            "owner": owner,
            "sysctls": self.sysctls,
            "old_sysctls": self.old_sysctls,
            "daemon_reload": self.daemon_reload,
            "watched": watched,
            "stop_timeout": 45,
            "forget": self.forget,
            "forget_since": self.forget_since,
            "attempt": self.params["attempt"],
            "before": self.params["before"],
            "was_running": self.process is not None,
            "old_pid": self.process.pid if self.process else 0,
            "binary": {"identity": records.identity(binary), "version": self.params["version"]},
            "hashes": self.hashes(),
            "written": self.written if self.forget else [item.path for item in self.ours],
            "watch": dict(self.params["watch"], host_root=self.root),
        }

    def lock(self):
        self.prepare()
        try:
            return records.lock(self.state)
        except records.Locked as error:
            self.fail(
                "another run is changing Falco on this host (%s): nothing was changed; run again when it is done"
                % error
            )

    def stage(self):
        """Keep the change for when it may be made, in a place that neither Falco nor systemd reads or watches."""
        lock = self.lock()
        self.still_so()
        self.ask_falco(self.state)
        try:
            records.keep_staged(
                self.state,
                self.params["stage"],
                [(item.path, item.new, item.mode or 0o640) for item in self.items],
            )
        except (IOError, OSError) as error:
            self.fail("the change can't be kept in %s: %s" % (self.state, error.strerror), undone=True)
        os.close(lock)

    def unstage(self):
        lock = self.lock()
        records.drop_staged(self.state)
        os.close(lock)

    def look_again(self):
        """Whether the change that was proven still is; what fails is rolled back where policy says so."""
        record, proof = records.load(self.state) or {}, self.params["proof"]
        process = record.get("process") or {}
        if (process.get("pid"), process.get("start_ticks")) != (
            proof["pid"],
            proof["start_ticks"],
        ) or not record.get("marks"):
            self.fail(
                "the record in %s is not of the change that was to be looked at again: another run came in between; it was left as "
                "it is" % self.state,
                reverted=False,
            )
        found, reason = None, ""
        try:
            found = evidence.SecondLook(record["watch"], record["unit"], proof, record["marks"]).wait()
        except (evidence.Died, evidence.NoEvidence, systemd.ManagerError) as error:
            reason = "after its proof: %s" % str(error).rstrip(".")
        if found:
            self.module.exit_json(changed=False, look=found)
        if not self.params["auto_revert"]:
            self.fail(
                "%s. falco_tune_auto_revert is false: the change was left as it is" % reason, reverted=False
            )
        self.collect_rollback()
        answer = self.apply()
        if answer.get("failed"):
            self.fail("%s. It could not be rolled back: %s" % (reason, answer["msg"]), reverted=False)
        self.fail(
            "%s. The change was rolled back, and Falco runs as before" % reason,
            reverted=True,
            evidence=answer.get("evidence"),
        )

    def apply(self):
        """Stage, ask Falco, hand over to the keeper and wait for its answer."""
        lock = self.lock()
        try:
            recovered = transaction.recover(self.state) or trial.recover(self.state)
        except (transaction.Failed, trial.Failed, systemd.ManagerError) as error:
            self.fail(str(error), undone=False)
        if recovered:
            # What the facts saw is no longer so.
            self.module.fail_json(
                msg="%s. Run again." % recovered.rstrip("."), recovered=recovered, undone=True
            )
        self.still_so()
        self.ask_falco(self.state)
        token = os.path.basename(tempfile.mkdtemp(dir=self.state, prefix="token-"))
        os.rmdir(os.path.join(self.state, token))
        made = []
        try:
            for item in self.items:
                folder = os.path.dirname(item.target())
                if item.new is not None and not os.path.isdir(folder):
                    os.mkdir(folder, 0o755)
                    made.append(folder)
            transaction.writable(self.items)
            staged, stages = transaction.stage(self.items, self.state, token)
        except (transaction.Failed, OSError) as error:
            for folder in reversed(made):
                os.rmdir(folder)
            self.fail(str(error), undone=True)
        work = transaction.Transaction(self.plan(token, staged, stages))
        work.plan["made"] = [folder for folder in made if folder not in self.made] + self.made
        result_path = os.path.join(self.state, "result-%s.json" % token)
        guard = transaction.detached(work, result_path)
        os.close(lock)
        os.waitpid(guard, 0)
        answer = records.read_json(result_path) or {
            "failed": True,
            "undone": False,
            "msg": "the transaction ended without an answer; run again to finish or undo it",
        }
        if os.path.exists(result_path):
            os.unlink(result_path)
        return answer

    def still_so(self):
        """What was read before the lock was ours is still there: no other run has come in between."""
        for item in self.items:
            if transaction.Item(item.path, None).old != item.old:
                self.fail(
                    "%s was changed while this run began, by another run or by somebody else: nothing was changed; run again"
                    % item.path,
                    undone=True,
                )

    def prepare(self):
        try:
            # Two runs may be here at once: neither minds what the other has made.
            os.makedirs(self.state, 0o700, exist_ok=True)
            os.chmod(self.state, 0o700)
            os.makedirs(os.path.join(self.state, "history"), 0o700, exist_ok=True)
        except OSError as error:
            self.fail(
                "%s: %s; run with become, or set falco_tune_state_dir" % (self.state, error.strerror),
                undone=True,
            )


def main():
    # The controller half completes `plan` with everything else, so that one message holds what the host needs.
    module = AnsibleModule(
        argument_spec={
            "state": {
                "type": "str",
                "choices": ["present", "planned", "proven", "rolled_back"],
                "default": "present",
            },
            "plan": {"type": "dict"},
            "content": {"type": "str"},
            "facts": {"type": "dict"},
            "evidence": {"type": "dict"},
            "policy": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    change = Change(module)
    change.look()
    if change.params["state"] == "proven":
        change.look_again()
    try:
        if change.params["state"] == "rolled_back":
            change.collect_rollback()
        else:
            change.collect()
    except transaction.Failed as error:
        module.fail_json(msg=str(error))
    unfinished = records.unfinished(change.state)
    left = records.staged(change.state) if not change.params["stage"] else None
    if not change.needed and not unfinished:
        if left and not module.check_mode:
            change.unstage()
        module.exit_json(changed=bool(left), diff=[])
    diff = change.diff()
    if module.check_mode:
        with_where = tempfile.mkdtemp(prefix="falcotune-")
        try:
            change.ask_falco(with_where)
        finally:
            os.rmdir(with_where)
        module.exit_json(changed=True, diff=diff)
    if change.params["stage"]:
        change.stage()
        module.exit_json(changed=True, diff=diff)
    answer = change.apply()
    if answer.get("failed"):
        module.fail_json(diff=diff, **{key: value for key, value in answer.items() if key != "failed"})
    module.exit_json(diff=diff, **answer)


if __name__ == "__main__":
    main()
