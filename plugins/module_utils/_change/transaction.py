# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host-side transaction: keep → settle → stop → swap → start → evidence, or undo.

It runs in a keeper that is detached from the connection, so a controller that dies changes nothing: the host ends in
the new proven state or in the old one. A journal on disk lets the next run finish what a power cut broke off.
"""

import base64
import errno
import os
import shutil
import time
import traceback

from ansible_collections.falcotune.fleet.plugins.module_utils._change import candidate, evidence, records
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, systemd

# A hot reload that is under way loses a SIGTERM 0.25 to 0.5 s after the write that began it (recorded on 0.44.1, and
# longer where loading the rules takes longer): keep clear of it, and say it again where Falco did not hear.
SETTLE = 3.0
SAY_AGAIN = 2.5

# Attempts that the record keeps: more than there are kinds of steps, few enough to travel with the facts.
MAX_ATTEMPTS = 12

# Seconds for a start by hand that is to tell why a start failed. The host is blind for so long at most.
BY_HAND = 4


# Ways to apply that neither restart nor reload Falco.
UNINTERRUPTED = ("quiet", "adopt")


class Failed(Exception):
    """A step of the transaction did not work; the text says which and why."""


class Item(object):
    """One file of the change: what is there, what will be."""

    def __init__(self, path, new, mode=None):
        self.path = path
        self.new = new  # bytes, or None: the file goes away
        self.mode = mode
        self.old = None
        self.old_meta = None
        try:
            with open(path, "rb") as stream:
                self.old = stream.read()
                found = os.fstat(stream.fileno())
            self.old_meta = [found.st_mode & 0o7777, found.st_uid, found.st_gid]
        except (IOError, OSError) as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                raise Failed("%s can't be read: %s; run with become" % (path, error.strerror))

    @property
    def changed(self):
        return self.old != self.new

    def target(self):
        """The file behind a symbolic link: a link stays a link."""
        return os.path.realpath(self.path)


def stage_folder(folder, state, token):
    """A directory on the same file system as `folder`, outside anything that Falco reads or watches.

    Even a sub-directory made in config.d would begin a hot reload.
    """
    device = os.stat(folder).st_dev
    for base in (state, os.path.dirname(folder)):
        if os.stat(base).st_dev == device:
            name = os.path.join(base, ".falcotune-%s" % token)
            if not os.path.isdir(name):
                os.mkdir(name, 0o700)
            return name
    raise Failed(
        "%s is on a file system of its own: a file can't be renamed into it from %s or %s, so it can't be swapped "
        "atomically; set falco_tune_state_dir to a directory on that file system"
        % (folder, state, os.path.dirname(folder))
    )


def write_staged(name, data, mode, owner):
    """A complete file on disk under a name nobody reads."""
    handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        stream.flush()
        if owner:
            os.fchown(stream.fileno(), owner[0], owner[1])
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())


def stage(items, state, token):
    """Write every new file to where it can be renamed from. ({path: staged name}, [folders])."""
    staged, folders = {}, []
    try:
        for number, item in enumerate(items):
            if item.new is None:
                continue
            try:
                folder = stage_folder(os.path.dirname(item.target()), state, token)
                if folder not in folders:
                    folders.append(folder)
                name = os.path.join(folder, "%d" % number)
                mode = item.old_meta[0] if item.old_meta else item.mode
                write_staged(name, item.new, mode, item.old_meta[1:] if item.old_meta else None)
            except (IOError, OSError) as error:
                raise Failed("%s can't be written: %s; nothing was changed" % (item.path, error.strerror))
            staged[item.path] = name
        return staged, folders
    except BaseException:
        unstage(folders)
        raise


def unstage(folders):
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def writable(items):
    """Fail before the stop where a swap can't work: an immutable file, a read-only file system.

    Asked with access(2), which knows both: opening a watched file for writing would begin a hot reload.
    """
    for item in items:
        path = item.target()
        for name in (path, os.path.dirname(path)):
            if os.path.exists(name) and not os.access(name, os.W_OK):
                advice = (
                    "is it immutable (lsattr) or on a read-only file system?"
                    if os.geteuid() == 0
                    else "run with become"
                )
                raise Failed(
                    "%s can't be replaced: %s is not writable: %s; nothing was changed"
                    % (item.path, name, advice)
                )


class Transaction(object):
    """One change of one host. `plan` is plain data, so that it can be kept in the journal."""

    def __init__(self, plan):
        self.plan = plan
        self.state = plan["state"]
        self.journal = os.path.join(self.state, "journal.json")
        self.params = plan["watch"]
        self.log = []
        self.stopped_at = None
        self.interruptions = 0

    # -- bookkeeping

    def note(self, phase):
        self.plan["phase"] = phase
        self.plan["at"] = time.time()
        records.write_json(self.journal, self.plan)

    def keep(self):
        """The previous files, outside any directory that Falco reads. The journal knows of them before they are there."""
        numbers = records.history(self.state)
        number = (numbers[-1] if numbers else 0) + 1
        folder = self.plan["kept"] = os.path.join(self.state, "history", "%04d" % number)
        self.note("staged")
        os.makedirs(folder, 0o700)
        # What proved the state that is left now would prove it again after a rollback.
        before = records.load(self.state) or {}
        manifest = {
            "at": time.time(),
            "written": before.get("written"),
            "unit": self.plan["unit"],
            "files": [],
            "directories": self.plan["made"],
            "sysctls": self.plan["old_sysctls"],
            "watch": before.get("watch"),
        }
        for position, item in enumerate(self.plan["files"]):
            entry = {
                "path": item["path"],
                "meta": item["old_meta"],
                "old": None,
                "new_sha256": item["new_sha256"],
            }
            if item["old"] is not None:
                entry["old"] = "%d" % position
                records.write_atomic(os.path.join(folder, entry["old"]), base64.b64decode(item["old"]))
            manifest["files"].append(entry)
        records.write_json(os.path.join(folder, "manifest.json"), manifest)

    # -- Falco

    def settle(self):
        """Wait until no reload can be in the window in which SIGTERM is lost."""
        paths = [path for path in self.plan["watched"] if os.path.exists(path)]
        until = time.time() + 20
        while time.time() < until:
            newest = 0
            for path in paths:
                try:
                    newest = max(newest, os.stat(path).st_ctime, os.stat(path).st_mtime)
                except OSError:
                    pass
            age = time.time() - newest
            if age >= SETTLE or age < 0:
                return
            time.sleep(min(SETTLE - age, 0.25))

    def stop(self):
        """Stop the unit; where Falco did not hear SIGTERM, say it again instead of waiting for systemd's SIGKILL."""
        unit = systemd.show([self.plan["unit"]])[0]
        pid = host.integer(unit.get("MainPID")) or 0
        process = host.Process(self.params["host_root"].rstrip("/"), pid) if pid else None
        stat = process.stat() if process else None
        # Earlier failures must not keep the start from happening. Said now: nobody sees events between the stop and the start.
        systemd.run(["systemctl", "reset-failed", self.plan["unit"]])
        self.stopped_at = time.time()
        stopping = systemd.begin(["systemctl", "stop", self.plan["unit"]])
        self.interruptions += 1
        again = time.time() + SAY_AGAIN
        until = time.time() + self.plan["stop_timeout"]
        while time.time() < until:
            status, said = stopping.ended(0.05)
            gone = stat is None or not process.alive(stat[0])
            if status is not None and gone and (status == 0 or self.is_down()):
                return
            if status:
                raise Failed("systemctl stop %s: %s" % (self.plan["unit"], said))
            if not gone and time.time() >= again:
                self.log.append("SIGTERM was not heard, said again")
                systemd.run(["systemctl", "kill", "--signal=SIGTERM", self.plan["unit"]])
                again = time.time() + SAY_AGAIN
        stopping.give_up()
        raise Failed("Falco (process %d) did not stop within %d s" % (pid, self.plan["stop_timeout"]))

    def is_down(self):
        return systemd.show([self.plan["unit"]])[0].get("ActiveState") in ("inactive", "failed")

    def start(self):
        status, out, err = systemd.run(["systemctl", "start", self.plan["unit"]], timeout=120)
        if status != 0:
            raise Failed("systemctl start %s: %s" % (self.plan["unit"], (err or out).strip()))

    # -- files

    def swap(self):
        """Renames, then what the kernel and systemd must know. Every file is complete and on disk already."""
        for item in self.plan["files"]:
            target = os.path.realpath(item["path"])
            if item["staged"]:
                os.rename(item["staged"], target)
            elif os.path.lexists(item["path"]):
                os.unlink(item["path"])
            records.sync_folder(os.path.dirname(target))
        unstage(self.plan["stages"])
        self.apply_sysctls(self.plan["sysctls"])
        if self.plan["daemon_reload"]:
            systemd.run(["systemctl", "daemon-reload"])

    def apply_sysctls(self, values):
        for name, value in values.items():
            path = self.params["host_root"].rstrip("/") + "/proc/sys/" + name.replace(".", "/")
            try:
                with open(path, "w") as stream:
                    stream.write("%s\n" % value)
            except (IOError, OSError) as error:
                raise Failed("sysctl %s = %s: %s" % (name, value, error.strerror))

    def restore(self):
        """The previous files, whatever was swapped so far."""
        for item in self.plan["files"]:
            target = os.path.realpath(item["path"])
            if item["old"] is None:
                if os.path.lexists(item["path"]):
                    os.unlink(item["path"])
                continue
            data = base64.b64decode(item["old"])
            try:
                with open(target, "rb") as stream:
                    if stream.read() == data:
                        continue
            except (IOError, OSError):
                pass
            folder = stage_folder(os.path.dirname(target), self.state, self.plan["token"])
            name = os.path.join(folder, "restore")
            write_staged(name, data, item["old_meta"][0], item["old_meta"][1:])
            os.rename(name, target)
            records.sync_folder(os.path.dirname(target))
            unstage([folder])
        unstage(self.plan["stages"])
        self.apply_sysctls(self.plan["old_sysctls"])
        for folder in reversed(self.plan["made"]):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # Falco's metrics are in it
        if self.plan["daemon_reload"]:
            systemd.run(["systemctl", "daemon-reload"])

    # -- the whole

    def run(self):
        """{'changed', 'evidence' …} after success, {'failed', 'msg', 'undone' …} after an undo. Never raises."""
        try:
            if self.plan["apply"] == "adopt" and not self.writes():
                return self.prove(time.time(), self.mark())
            self.keep()
            self.note("kept")
            if self.plan["apply"] in UNINTERRUPTED:
                return self.run_quietly()
            self.settle()
            self.note("stopping")
            if self.plan["apply"] == "restart":
                self.stop()
                self.note("stopped")
            else:
                self.stopped_at = time.time()
                self.interruptions += 1
            mark, began = self.mark(), time.time()
            self.make_directories()
            self.swap()
            self.note("swapped")
            if self.plan["apply"] == "restart":
                self.start()
            self.note("started")
            return self.prove(began, mark)
        except Exception as error:  # pylint: disable=broad-except
            return self.undo(error)

    def run_quietly(self):
        """Nothing here that Falco reads: it is not interrupted, and what was proven of it still holds, or is proven anew."""
        self.note("stopping")
        mark, began = self.mark(), time.time()
        self.make_directories()
        self.swap()
        self.note("swapped")
        if self.plan["apply"] == "adopt":
            return self.prove(began, mark)
        self.commit(None)
        return {"changed": True, "failed": False}

    def writes(self):
        return bool(self.plan["files"] or self.plan["made"] or self.plan["sysctls"])

    def mark(self):
        """Where the metrics file ends now, kept in the journal for whoever must finish this."""
        self.plan["mark"] = (
            evidence.file_mark(self.params["metrics_file"]) if self.params["metrics_file"] else [0, 0]
        )
        return self.plan["mark"]

    def make_directories(self):
        for folder in self.plan["made"]:
            if not os.path.isdir(folder):
                os.mkdir(folder, 0o750)
                os.chown(folder, self.plan["owner"][0], self.plan["owner"][1])

    def prove(self, began, mark):
        proof = evidence.Watch(self.params, self.plan["unit"], None, mark, began).wait()
        if self.stopped_at:
            proof["blind_seconds_at_most"] = round(began - self.stopped_at + proof["seconds_to_evidence"], 2)
        proof["interruptions"] = self.interruptions
        proof["notes"] = self.log
        if self.plan["apply"] == "adopt":
            proof["adopted"] = True
        self.commit(proof)
        return {"changed": True, "failed": False, "evidence": proof}

    def commit(self, proof):
        """The new state is the proven one; proof is None where Falco was not touched."""
        binary, before = self.plan["binary"], records.load(self.state) or {}
        if not binary.get("version"):
            # A rollback does not ask for the version; the earlier record knows it.
            known = before.get("binary") or {}
            binary = known if known.get("identity") == binary.get("identity") else {}
        process = (
            {"pid": proof["pid"], "start_ticks": proof["start_ticks"]} if proof else before.get("process")
        )
        attempts = list(before.get("attempts") or [])
        written = set(self.plan["written"])
        if self.plan["forget"]:
            # What a person took back is not tried again.
            oldest = self.plan.get("forget_since") or 0
            attempts = [
                dict(item, rolled_back=True) if item.get("at", 0) >= oldest else item for item in attempts
            ]
        else:
            written.update(before.get("written") or [])
        if self.plan.get("attempt"):
            attempts.append(dict(self.plan["attempt"], at=time.time()))
        records.write_json(
            os.path.join(self.state, "record.json"),
            {
                "at": time.time(),
                "unit": self.plan["unit"],
                "evidence": proof or before.get("evidence"),
                "process": process,
                "binary": binary,
                "files": self.plan["hashes"],
                "watch": self.params if proof else before.get("watch"),
                "before": self.plan.get("before")
                if self.plan["apply"] not in UNINTERRUPTED
                else before.get("before"),
                "written": sorted(written),
                "attempts": attempts[-MAX_ATTEMPTS:],
                "marks": self.marks() if proof else before.get("marks"),
            },
        )
        # What waited for consent is made by this change, or void after it.
        records.drop_staged(self.state)
        if self.plan["forget"]:
            for number in self.plan["forget"]:
                shutil.rmtree(os.path.join(self.state, "history", "%04d" % number), ignore_errors=True)
            shutil.rmtree(self.plan["kept"], ignore_errors=True)
        if os.path.exists(self.journal):
            os.unlink(self.journal)

    def marks(self):
        """Where the metrics file ended before the start, and where it ends at the proof: a second look reads on from there."""
        return {
            "started": self.plan.get("mark") or [0, 0],
            "proven": evidence.file_mark(self.params.get("metrics_file") or ""),
        }

    def undo(self, error):
        """Back to the previous state; the host's Falco runs as before, or the answer says that it does not."""
        reason = (
            str(error)
            if isinstance(error, (Failed, evidence.Died, evidence.NoEvidence, systemd.ManagerError))
            else ("".join(traceback.format_exception_only(type(error), error)).strip())
        )
        answer = {"changed": False, "failed": True, "notes": self.log, "log": self.falco_log()}
        try:
            touched = self.plan["phase"] not in ("kept", "staged")
            interrupted = touched and self.plan["apply"] not in UNINTERRUPTED
            if interrupted and (self.plan["apply"] == "restart" or not self.same_process()):
                self.stop()
            if interrupted and isinstance(error, evidence.Died):
                said = self.by_hand()
                if said:
                    reason = "%s. Falco said: %s" % (reason.rstrip("."), said)
            if touched:
                self.restore()
            else:
                unstage(self.plan["stages"])
            if interrupted and self.plan["was_running"]:
                self.start()
                self.await_process()
            shutil.rmtree(self.plan.get("kept") or os.devnull, ignore_errors=True)
            if os.path.exists(self.journal):
                os.unlink(self.journal)
            records.sweep(self.state)
            answer["undone"] = True
            answer["touched"] = interrupted
            if interrupted and self.stopped_at:
                answer["blind_seconds_at_most"] = round(time.time() - self.stopped_at, 2)
            answer["msg"] = "%s. %s" % (
                reason.rstrip("."),
                "The previous configuration is back and Falco runs with it."
                if touched
                else "Nothing was changed.",
            )
        except Exception as second:  # pylint: disable=broad-except
            answer["undone"] = False
            answer["msg"] = (
                "%s. Undoing failed too: %s. The previous files are kept in %s; look at the unit %s."
                % (reason.rstrip("."), second, self.plan.get("kept"), self.plan["unit"])
            )
        return answer

    def same_process(self):
        unit = systemd.show([self.plan["unit"]])[0]
        return str(unit.get("MainPID")) == str(self.plan["old_pid"])

    def await_process(self):
        """Alive for a moment under the old configuration: it ran before, so this is all that is owed."""
        seen, until = None, time.time() + 30
        while time.time() < until:
            unit = systemd.show([self.plan["unit"]])[0]
            pid = unit.get("MainPID")
            if unit.get("ActiveState") == "active" and pid not in (None, "0"):
                if seen and seen[0] == pid:
                    if time.time() - seen[1] >= 2:
                        return
                else:
                    seen = (pid, time.time())
            time.sleep(0.25)
        raise Failed("Falco did not come back with the previous configuration")

    def by_hand(self):
        """The error that Falco ends with under the new configuration, or None.

        The packages' units send standard output, and with it the final "Error: ...", to /dev/null.
        """
        unit = systemd.show([self.plan["unit"]])[0]
        if not systemd.argv(unit) or unit.get("User") not in (None, "", "root"):
            return None
        status, out, err = systemd.run(systemd.argv(unit), timeout=BY_HAND)
        return candidate.cause(out, err, status) if status else None

    def falco_log(self):
        status, out, dummy = systemd.run(
            [
                "journalctl",
                "--quiet",
                "--no-pager",
                "--output=cat",
                "--lines=20",
                "--unit=" + self.plan["unit"],
            ],
            timeout=20,
        )
        return out.strip().splitlines()[-20:] if status == 0 else []


def recover(state):
    """Finish or undo what an earlier run left. Returns a note for the user, or None."""
    journal = records.read_json(os.path.join(state, "journal.json"))
    if not journal:
        records.sweep(state)
        return None
    work = Transaction(journal)
    if journal.get("phase") == "started":
        try:
            work.prove(time.time(), journal.get("mark") or [0, 0])
            return "an earlier change was broken off after Falco's start; it has now proven itself and stays"
        except (evidence.Died, evidence.NoEvidence, systemd.ManagerError) as error:
            answer = work.undo(error)
    else:
        answer = work.undo(Failed("an earlier change was broken off (phase %s)" % journal.get("phase")))
    if not answer["undone"]:
        raise Failed(answer["msg"])
    return answer["msg"]


def killed(work):
    """The answer for a keeper that was killed: its change is undone, unless it had come to its end."""
    journal = records.read_json(work.journal)
    if journal:
        return Transaction(journal).undo(Failed("the change was killed in phase %s" % journal.get("phase")))
    record = records.load(work.state) or {}
    if record.get("at", 0) >= work.plan["at"]:
        answer = {"changed": True, "failed": False}
        if work.plan["apply"] != "quiet":
            answer["evidence"] = record["evidence"]
        return answer
    return work.undo(Failed("the change was killed before anything was touched"))


def detached(work, result_path):
    """Run work() in a keeper of its own session, guarded by its parent; returns the guard's pid."""
    waiting = os.getpid()
    guard = os.fork()
    if guard:
        return guard
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for handle in (0, 1, 2):
        os.dup2(null, handle)
    keeper = os.fork()
    if keeper == 0:
        answer = work.run()
        records.write_json(result_path, answer)
        os._exit(0)
    dummy, status = os.waitpid(keeper, 0)
    if status != 0:
        records.write_json(result_path, killed(work))
    if os.getppid() != waiting:
        # Nobody will come for the answer; the record and the journal have told it.
        os.unlink(result_path)
    os._exit(0)
