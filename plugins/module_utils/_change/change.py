# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One change of one host, from the controller's request to the answer.

What falco_config does, without Ansible around it.
"""

import os
import re
import tempfile
import time

from ansible_collections.falcotune.fleet.plugins.module_utils._change import (
    access,
    candidate,
    evidence,
    files,
    packages,
    records,
    transaction,
    yaml_text,
)
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, processes, systemd

UNITS = "/etc/systemd/"
# Folders whose files neither Falco nor its unit reads.
QUIET = ("/etc/logrotate.d/", "/etc/sysctl.d/")


def _told(error):
    """An OSError as text."""
    return "%s: %s" % (error.filename or "a file", error.strerror or error)


def _moment(seen):
    """When a record was written last, as text."""
    times = [at for at in seen.values() if at is not None]
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(times))) if times else "no time: there is none"


def _hashes(found):
    return "".join("%s sha256 %s\n" % item for item in sorted(found.items()))


def _shown(name, before, after):
    """One entry of a diff."""
    return {"before_header": name, "after_header": name, "before": before, "after": after}


class Change:
    """Everything that one request would do to the host. Every method may raise Failed.

    request: as plugin_utils/_tuning/requests.py builds it.
    """

    def __init__(self, request):
        self.request = request
        self.root = request["host_root"].rstrip("/")
        self.state_dir = self.root + request["state_dir"]
        self.unit = None
        self.process = None
        self.items = []  # files that change
        self.made = []  # directories that are missing
        self.sysctls = {}
        self.old_sysctls = {}
        self.forget = []  # numbers of the changes that are taken back
        self.forget_since = 0
        self.written = None  # files of ours that are left after a rollback
        self.daemon_reload = False
        self.ours = []  # every file that the plan speaks of, changed or not

    # -- what is there and what will be

    def probe(self):
        """Read what the change reads, and keep nothing of it. On a dead mount this does not end: for a child
        process, before the host is locked and anything is touched.
        """
        try:
            self.look()
            records.unfinished(self.state_dir)
            os.path.exists(self.request["proof"]["metrics_file"] or "/")
            if self.request["state"] != "proven":
                self.collect()
        except (Failed, OSError):
            pass  # the change itself fails by it, and says so

    def look(self):
        """Which unit and process this is about."""
        wanted = self.request["unit"]
        try:
            self.unit = systemd.find(wanted or None, self.root)
        except systemd.ManagerError as error:
            raise Failed("systemd did not answer: %s" % error)
        if self.unit is None:
            raise Failed("systemd has no unit %s" % (wanted or "of Falco's packages"))
        self.process, dummy = processes.of_unit(self.root, self.unit)

    def collect(self):
        """The files, directories and sysctls of the request."""
        if self.request["state"] == "rolled_back":
            return self.collect_rollback()
        self._as_expected()
        self._collect_files()
        self.made = [path for path in self.request["directories"] if not os.path.isdir(path)]
        for path in self.made:
            if not os.path.isdir(os.path.dirname(path)):
                raise Failed("%s can't be made: %s does not exist" % (path, os.path.dirname(path)))
        for name, value in self.request["sysctls"].items():
            now = files.sysctl(self.root, name)
            if now != value:
                self.sysctls[name] = value
                if now:
                    self.old_sysctls[name] = now

    def _as_expected(self):
        """Falco's files are as the facts say."""
        for path, expected in sorted(self.request["expected"].items()):
            try:
                with host.regular(path) as stream:
                    found = host.digest(stream.read())
            except OSError as error:
                raise Failed("%s can't be read: %s; run with become" % (path, error.strerror))
            if found != expected:
                raise Failed(
                    "%s changed since the facts were gathered (sha256 %s, was %s): run again"
                    % (path, found[:12], expected[:12])
                )

    def _collect_files(self):
        target = files.Item(self.request["target"], None, 0o640)
        if self.request["content"]:
            target.new = self.request["content"].encode("utf-8")
            if self.request["layout"] == "full":
                target.new = self._by_blocks(target)
            elif target.old is None and self._user():
                self._readable(target)
            self.ours.append(target)
        for entry in self.request["host_files"]:
            content, mode = entry["content"].encode("utf-8"), int(entry["mode"], 8)
            self.ours.append(files.Item(self.root + entry["path"], content, mode))
        self.items = [item for item in self.ours if item.changed]
        self.daemon_reload = any(item.path.startswith(self.root + UNITS) for item in self.items)

    def _user(self):
        """The access.Account that Falco runs as; None for root and for one that is not known here."""
        user = access.account(self.unit) if os.geteuid() == 0 else None
        return user if user and user.uid != 0 else None

    def _readable(self, target):
        """A new fragment for a Falco that is not root's belongs to whom the main file belongs to."""
        try:
            found = os.stat(self.request["main"])
        except OSError as error:
            raise Failed("%s can't be read: %s; run with become" % (self.request["main"], error.strerror))
        target.owner, target.mode = [found.st_uid, found.st_gid], found.st_mode & 0o644 | 0o600

    def _by_blocks(self, target):
        """The main file with the request's blocks in place of its own."""
        content = self.request["content"]
        if target.old is None:
            raise Failed("%s does not exist" % target.path)
        try:
            blocks = {key: yaml_text.block(content, key) for key, dummy, dummy2 in yaml_text.spans(content)}
            return yaml_text.replace(target.old.decode("utf-8"), blocks).encode("utf-8")
        except ValueError as error:
            raise Failed(
                "%s %s: it can't be changed block by block; use the layout dropin or write it in block style"
                % (target.path, error)
            )

    def collect_rollback(self):
        """The files of the last change, or of all of them, as they were."""
        numbers = records.history(self.state_dir)
        if not numbers:
            return
        self.forget = numbers if self.request["rollback_to"] == "original" else numbers[-1:]
        wanted = {}
        for number in reversed(self.forget):
            manifest = records.manifest(self.state_dir, number)
            for name, value in (manifest.get("sysctls") or {}).items():
                self.sysctls[name] = value
                self.old_sysctls[name] = files.sysctl(self.root, name)
            self.forget_since = manifest.get("at") or 0
            self.written = manifest.get("written") or []
            # The oldest state that comes back is the one to be proven, by what proved it then.
            proved = manifest.get("proof") or {}
            self.request["proof"].update(
                {key: proved.get(key) for key in ("metrics_file", "scrape_url", "driver", "buffers")}
            )
            self._wanted_of(manifest, records.kept_folder(self.state_dir, number), wanted)
        for path, (data, meta, written) in wanted.items():
            item = files.Item(path, data, meta[0] if meta else 0o640)
            _unmoved(item, written)
            if item.changed:
                self.items.append(item)
                self.daemon_reload = self.daemon_reload or path.startswith(self.root + UNITS)

    @staticmethod
    def _wanted_of(manifest, folder, wanted):
        """Add {path: (bytes or None, meta, sha256 that the newest change wrote)} of one earlier change.

        An older one replaces what a later one had found.
        """
        for entry in manifest["files"]:
            data = None
            if entry["old"] is not None:
                try:
                    with open(os.path.join(folder, entry["old"]), "rb") as stream:
                        data = stream.read()
                except OSError as error:
                    raise Failed("%s; nothing was changed" % _told(error), undone=True)
            newest = wanted.get(entry["path"], (None, None, entry["new_sha256"]))[2]
            wanted[entry["path"]] = (data, entry["meta"], newest)

    @property
    def needed(self):
        request = self.request
        return bool(self.items or self.made or self.sysctls or request["restart"] or request["adopt"])

    @property
    def apply_mode(self):
        """restart, reload (Falco's own, where policy allows it and Falco's metrics tell whether it took
        place), or quiet: Falco and its unit don't read it.

        adopt is quiet, and proves the Falco that runs.
        """
        quiet = tuple(self.root + folder for folder in QUIET)
        if not self.request["restart"] and all(item.path.startswith(quiet) for item in self.items):
            return "adopt" if self.request["adopt"] else "quiet"
        proof = self.request["proof"]
        shown = proof["metrics_file"] and proof.get("counters", True)
        return self.request["apply"] if shown and not self.daemon_reload and self.process else "restart"

    def hashes(self):
        """Every file that Falco reads or that is ours, as it is once this is done: {path: sha256}."""
        found = dict(self.request["expected"])
        changed = [item for item in self.items + self.ours if item.new is not None]
        found.update({item.path: host.digest(item.new) for item in changed})
        return found

    def diff(self):
        """What changes, as Ansible shows it."""
        shown = []
        for item in self.items:
            before, after = ((data or b"").decode("utf-8", "replace") for data in (item.old, item.new))
            shown.append(_shown(item.path, before, after))
        if self.apply_mode == "adopt":
            before = records.load(self.state_dir) or {}
            known = "Falco %s\n" % (before.get("binary") or {}).get("version")
            after = "Falco %s\n" % self.request["version"] + _hashes(self.hashes())
            shown.append(_shown("proven", known + _hashes(before.get("files") or {}), after))
        shown.extend(_shown(path, "", "directory, mode 0750\n") for path in self.made)
        for name, value in sorted(self.sysctls.items()):
            shown.append(_shown(name, "%s\n" % self.old_sysctls.get(name, ""), "%s\n" % value))
        return shown

    # -- before anything is touched

    def ask_falco(self, where):
        """The host's own Falco reads the candidate. where: the directory for its private copy."""
        request = self.request
        changed = {item.path: item.new for item in self.items if item.path == request["target"]}
        if not changed:
            return
        started = processes.command(self.unit, self.process)
        if started["reason"]:
            raise Failed("%s. Nothing was changed." % started["reason"], undone=True)
        order = [item for item in request["load_order"] if item["path"] != request["main"]]
        buffers = request["proof"]["buffers"]
        expected = {"bytes_each": buffers and buffers["bytes_each"], "selected": request["selected"]}
        user = self._user()
        if user:
            # The state directory is root's, and nobody else passes it.
            where = next(path for path in (self.root + "/run", "/tmp") if os.path.isdir(path))
        try:
            candidate.dry_run(
                started["arguments"],
                processes.start_environment(self.unit, self.process, self._texts(changed)),
                request["dry_run"],
                request["main"],
                order,
                changed,
                expected,
                request["proof"]["metrics_file"],
                where,
                user,
            )
        except candidate.Refused as error:
            raise Failed("%s. Nothing was changed." % str(error).rstrip("."), undone=True)
        except OSError as error:
            raise Failed(
                "the candidate can't be tried: %s: %s. Nothing was changed."
                % (error.filename, error.strerror),
                undone=True,
            )

    def _texts(self, changed):
        """Falco's files as they will be. changed: {path: bytes}."""
        names = [self.request["main"]] + [item["path"] for item in self.request["load_order"]]
        texts = [host.read(path) for path in names if path not in changed]
        return texts + [data.decode("utf-8", "replace") for data in changed.values() if data is not None]

    def check(self):
        """What check mode does: the dry run alone, outside our own directory."""
        self.check_access()
        where = tempfile.mkdtemp(prefix="falcotune-")
        try:
            self.ask_falco(where)
        finally:
            os.rmdir(where)

    def still_so(self):
        """What was read before the lock was ours is still there: no other run has come in between."""
        self._record_as_seen()
        for item in self.items:
            if files.Item(item.path, None).old != item.old:
                raise Failed(
                    "%s was changed while this run began, by another run or by somebody else: nothing was "
                    "changed; run again" % item.path,
                    undone=True,
                )

    def _record_as_seen(self):
        """No other run has changed this host since the plan was made."""
        seen = self.request.get("seen")
        if seen is None:
            return
        found = records.seen(records.load(self.state_dir))
        if found != seen:
            raise Failed(
                "another run has changed this host since its facts were gathered (its record is of %s, "
                "expected %s): nothing was changed; run again" % (_moment(found), _moment(seen)),
                undone=True,
            )

    def prepare(self):
        """Our own directory."""
        try:
            # Two runs may be here at once: neither minds what the other has made.
            records.own(self.state_dir)
            os.makedirs(os.path.join(self.state_dir, "history"), 0o700, exist_ok=True)
        except OSError as error:
            raise Failed(
                "%s: %s; run with become, or set falco_tune_state_dir" % (self.state_dir, error.strerror),
                undone=True,
            )

    def lock(self):
        self.prepare()
        try:
            return records.lock(self.state_dir)
        except records.Locked as error:
            raise Failed(
                "another run is changing Falco on this host (%s): nothing was changed; run again when it "
                "is done" % error
            )

    # -- the ways to end

    def keep(self):
        """Keep the change for when it may be made, in a place that neither Falco nor systemd reads or
        watches.
        """
        lock = self.lock()
        self.still_so()
        self.ask_falco(self.state_dir)
        kept = [(item.path, item.new, item.mode or 0o640) for item in self.items]
        try:
            records.keep_staged(self.state_dir, self.request["stage"], kept)
        except OSError as error:
            raise Failed("the change can't be kept in %s: %s" % (self.state_dir, error.strerror), undone=True)
        os.close(lock)

    def drop_kept(self):
        lock = self.lock()
        records.drop_staged(self.state_dir)
        os.close(lock)

    def make(self, recoveries):
        """Stage, ask Falco, hand over to the worker and wait for its answer.

        recoveries: functions that finish or undo what an earlier run left in a state_dir, each with a
        sentence about it or None.
        """
        try:
            lock = self.lock()
            self._recover(recoveries)
            packages.wait(self.root)
            self.still_so()
            self.check_access()
            self.ask_falco(self.state_dir)
            work = self._staged()
        except OSError as error:
            raise Failed("%s; nothing was changed" % _told(error), undone=True)
        try:
            watchdog, reader = transaction.detached(work)
        except OSError as error:
            return work.undo(Failed("no process could be started for the change: %s" % error.strerror))
        os.close(lock)
        answer = transaction.answer_from(reader)
        os.waitpid(watchdog, 0)
        return answer or {
            "failed": True,
            "undone": False,
            "msg": "the transaction ended without an answer; run again to finish or undo it",
        }

    def _staged(self):
        """The change, with every file on disk under a name that nobody reads.

        The journal names all that is made before it is made: if this process is killed, the next run removes
        it. Raises Failed or OSError.
        """
        token = os.path.basename(tempfile.mkdtemp(dir=self.state_dir, prefix="token-"))
        os.rmdir(os.path.join(self.state_dir, token))
        parents = files.missing_parents(self.items)
        places = files.stage_places(self.items, self.state_dir, token)
        work = transaction.Transaction(self.journal_entry(token, [], places, parents))
        work.note("staged")
        try:
            files.make_parents(parents)
            files.check_writable(self.items)
            files.check_sysctls(self.root, self.sysctls)
            staged, stages = files.stage(self.items, self.state_dir, token)
            # Falco watches its main file for its last name going away: a second one would keep a hot reload
            # from coming.
            old_links = files.keep_old(self.items, self.state_dir, token, self.apply_mode == "restart")
        except (Failed, OSError) as error:
            files.remove_directories(parents)
            work.finish(False)
            raise Failed(str(error) if isinstance(error, Failed) else _told(error), undone=True)
        entries = [item.entry(staged, old_links) for item in self.items]
        made = [folder for folder in parents if folder not in self.made] + self.made
        return transaction.Transaction(self.journal_entry(token, entries, stages, made))

    def finish_earlier(self, recoveries):
        """Finish or undo what an earlier run left. Raises Failed where that was anything."""
        try:
            lock = self.lock()
            self._recover(recoveries)
            os.close(lock)
        except OSError as error:
            raise Failed("%s; run again" % _told(error), undone=False)

    def tidy(self):
        """Remove what a killed run left in our own directory, where nobody else is at work."""
        try:
            lock = self.lock()
            records.sweep(self.state_dir)
            os.close(lock)
        except (Failed, OSError):
            pass  # the next run removes it

    def check_access(self):
        """Raise Failed where Falco, as its unit runs it, could not write its metrics: it would not start."""
        path = self.request["proof"]["metrics_file"]
        if not path or self.apply_mode in transaction.UNINTERRUPTED or path in self._open_files():
            return
        unit = dict(
            self.unit, ReadWritePaths=" ".join([self.unit.get("ReadWritePaths") or ""] + self._writable())
        )
        setting = access.hidden(unit, os.path.dirname(path), self.root)
        why = "because of %s" % setting if setting else None
        if not why and os.path.dirname(path) not in self.made and access.denied(unit, [(path, os.W_OK)]):
            why = "as user %s" % (unit.get("User") or "root")
            if unit.get("User") in (None, "", "root"):
                why += " without cap_dac_override (CapabilityBoundingSet=)"
        if why:
            raise Failed(
                "with the unit %s Falco can't write metrics.output_file %s %s, and would not start. Nothing "
                "was changed. Let it write there, or set falco_tune_metrics_dir to a directory that it may "
                "write to, or that does not exist yet" % (self.unit.get("Id"), path, why),
                undone=True,
            )

    def _open_files(self):
        """Paths that the running Falco has open."""
        folder = self.process.path + "/fd" if self.process else os.devnull
        try:
            return {os.path.realpath(os.path.join(folder, name)) for name in os.listdir(folder)}
        except OSError:
            return set()

    def _writable(self):
        """Directories that our drop-in of the unit makes writable."""
        texts = [item.new.decode("utf-8") for item in self.ours if item.path.startswith(self.root + UNITS)]
        return [path for text in texts for path in re.findall(r"^ReadWritePaths=(.*)$", text, re.M)]

    def _recover(self, recoveries):
        for recover in recoveries:
            try:
                recovered = recover(self.state_dir)
            except (Failed, systemd.ManagerError) as error:
                raise Failed(str(error), undone=False)
            except OSError as error:
                raise Failed(
                    "%s; run again to finish or undo the earlier change" % _told(error), undone=False
                )
            if recovered:
                # What the facts saw is no longer so.
                raise Failed("%s. Run again." % recovered.rstrip("."), recovered=recovered, undone=True)

    def journal_entry(self, token, entries, stages, made):
        """Plain data for the worker and the journal; see transaction.Transaction.

        entries: of the files, as files.Item.entry() makes them.
        """
        binary = processes.command(self.unit, self.process)["binary"]
        return {
            "state_dir": self.state_dir,
            "token": token,
            "unit": self.unit["Id"],
            "phase": "staged",
            "at": time.time(),
            "apply": self.apply_mode,
            "files": entries,
            "stages": stages,
            "made": made,
            "owner": self._owner(),
            "sysctls": self.sysctls,
            "old_sysctls": self.old_sysctls,
            "daemon_reload": self.daemon_reload,
            "reload_paths": list(self.request["expected"]) + self.request["reload_paths"],
            "forget": self.forget,
            "forget_since": self.forget_since,
            "kept_changes": self.request["kept_changes"],
            "attempt": self.request["attempt"],
            "before": self.request["before"],
            # One that somebody restarts just now has no process, and must have one afterwards.
            "was_running": self.process is not None
            or self.unit.get("ActiveState") not in ("inactive", "failed"),
            "old_pid": self.process.pid if self.process else 0,
            "binary": {"identity": records.identity(binary), "version": self.request["version"]},
            "hashes": self.hashes(),
            "written": self.written if self.forget else [item.path for item in self.ours],
            "proof": dict(self.request["proof"], host_root=self.root),
        }

    def _owner(self):
        """[uid, gid] that Falco runs as."""
        owner = access.account(self.unit)
        if owner is None or os.getuid() != 0:
            return [os.getuid(), os.getgid()]
        return [owner.uid, owner.gid]

    def look_again(self, recoveries):
        """What a second look finds of the change that was proven; what fails is rolled back where policy
        allows it.
        """
        record, proven = records.load(self.state_dir) or {}, self.request["evidence"]
        process = record.get("process") or {}
        same = [process.get(name) == proven[name] for name in ("pid", "start_ticks")]
        if not all(same) or not record.get("marks"):
            raise Failed(
                "the record in %s is not of the change that was to be looked at again: another run came in "
                "between; it was left as it is" % self.state_dir,
                reverted=False,
            )
        try:
            return evidence.SecondLook(record["proof"], record["unit"], proven, record["marks"]).wait()
        except (evidence.Died, evidence.NoEvidence, systemd.ManagerError) as error:
            reason = "after its proof: %s" % str(error).rstrip(".")
        if not self.request["auto_revert"]:
            raise Failed(
                "%s. falco_tune_auto_revert is false: the change was left as it is" % reason, reverted=False
            )
        self.collect_rollback()
        answer = self.make(recoveries)
        if answer.get("failed"):
            raise Failed("%s. It could not be rolled back: %s" % (reason, answer["msg"]), reverted=False)
        raise Failed(
            "%s. The change was rolled back, and Falco runs as before" % reason,
            reverted=True,
            evidence=answer.get("evidence"),
        )


def _unmoved(item, written):
    """Raises Failed where somebody else has changed a file since an earlier change wrote it.

    item: as it was read for this rollback; a later edit is found before the rename. written: sha256 then.
    """
    now = host.digest(item.old) if item.old is not None else None
    if now and written is not None and now != written:
        raise Failed(
            "%s was changed by somebody else since (sha256 %s, written was %s): restore it by hand; nothing "
            "was changed" % (item.path, now[:12], written[:12])
        )
