# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sequence of a change on its host: keep → settle → stop → swap → start → evidence, or undo.

It runs in a worker that is detached from the connection, so a controller that dies changes nothing: the host
ends in the new proven state or in the old one. A journal on disk lets the next run finish what a power cut
broke off.
"""

import base64
import json
import math
import os
import time
import traceback

from ansible_collections.falcotune.fleet.plugins.module_utils._change import (
    dead_man,
    evidence,
    files,
    records,
    undo_script,
    unit_control,
)
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import detach, processes, systemd
from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import since

# Attempts that the record keeps: more than there are steps of tuning, few enough to travel with the facts.
MAX_ATTEMPTS = 12

# Ways to apply that neither restart nor reload Falco.
UNINTERRUPTED = ("quiet", "adopt")

FOREIGN = "was changed by somebody else meanwhile"


class Transaction:
    """One change of one host.

    journal_entry: plain data, so that it can be kept in the journal:
        state_dir, token, unit      the directory of journal and record, a random name, the unit's name
        phase, at                   how far it has come, and since when (Unix time)
        apply                       restart, reload, quiet or adopt
        files, stages               as files.Item.entry() and files.stage() make them
        made, owner                 directories to make, and their [uid, gid]
        sysctls, old_sysctls        {name: value}
        daemon_reload               whether systemd must read its units again
        reload_paths                files and folders a write to which begins a hot reload
        kept_changes                changes that the history holds at most
        forget, forget_since        numbers of the changes that are taken back, and the oldest one's time
        was_running, old_pid        of Falco before the change
        attempt, before, binary, hashes, written    for the record
        proof                       parameters of evidence.Proof
        kept, mark                  once they are known: the folder of the previous files, evidence.Proof.mark
        blind_from                  time.monotonic() before the interruption
    """

    def __init__(self, journal_entry):
        self.entry = journal_entry
        self.state_dir = journal_entry["state_dir"]
        self.proof = journal_entry["proof"]
        self.root = self.proof["host_root"].rstrip("/")
        self.swapped_at = None  # seconds since boot, where a start follows
        self.started_at = 0  # and Unix time
        self.unit = unit_control.Unit(journal_entry["unit"], self.root, journal_entry.get("reload_paths", ()))

    @property
    def deadline(self):
        """Seconds in which a change comes to its end, with an undo and a proof in the worst case; the
        watchdog ends it then.
        """
        steps = (
            unit_control.SETTLE_AT_MOST
            + unit_control.STOP_TIMEOUT
            + unit_control.START_TIMEOUT
            + unit_control.COMES_BACK
        )
        return 2 * (steps + self.proof["healthy_deadline"]) + 60

    # -- bookkeeping

    def note(self, phase):
        self.entry["phase"] = phase
        self.entry["at"] = time.time()
        records.write_journal(
            self.state_dir, dict(self.entry, files=files.without_reached(self.entry["files"]))
        )

    def note_if_possible(self, phase):
        """After the stop: a journal that can't be written must not keep Falco from its start.

        An earlier phase is undone too.
        """
        try:
            self.note(phase)
        except OSError as error:
            self.unit.notes.append("the journal could not be written: %s" % error.strerror)

    def keep(self):
        """The previous files, outside any directory that Falco reads.

        The journal knows of them before they are there.
        """
        numbers = records.history(self.state_dir)
        number = (numbers[-1] if numbers else 0) + 1
        folder = self.entry["kept"] = records.kept_folder(self.state_dir, number)
        self.note("staged")
        os.makedirs(folder, 0o700)
        # What proved the state that is left now would prove it again after a rollback.
        before = records.load(self.state_dir, required=True) or {}
        manifest = {
            "at": time.time(),
            "written": before.get("written"),
            "unit": self.entry["unit"],
            "files": [],
            "directories": self.entry["made"],
            "sysctls": self.entry["old_sysctls"],
            "proof": before.get("proof"),
        }
        for position, item in enumerate(self.entry["files"]):
            kept = {
                "path": item["path"],
                "meta": item["old_meta"],
                "old": None,
                "new_sha256": item["new_sha256"],
            }
            if item["old"] is not None:
                kept["old"] = "%d" % position
                records.write_atomic(os.path.join(folder, kept["old"]), base64.b64decode(item["old"]))
            manifest["files"].append(kept)
        records.write_json(os.path.join(folder, "manifest.json"), manifest)

    def mark(self):
        """Where the metrics file ends now, kept in the journal for whoever must finish this."""
        path = self.proof["metrics_file"]
        self.entry["mark"] = since.file_mark(path) if path else [0, 0]
        return self.entry["mark"]

    # -- steps

    def of_unit(self, entry):
        """Whether systemd reads this file, and not Falco."""
        return entry["path"].startswith(self.root + "/etc/systemd/")

    def swap_unit(self):
        """The unit's drop-in, before the stop: systemd takes up to a second to reload, and the running Falco
        does not see it.
        """
        files.swap([entry for entry in self.entry["files"] if self.of_unit(entry)])
        self.reload_systemd()

    def swap(self):
        """The other renames. The stage folders keep the previous files until the end."""
        files.swap([entry for entry in self.entry["files"] if not self.of_unit(entry)])

    def restore(self):
        """The previous files, whatever was swapped so far; the files of a third party stay."""
        foreign = None
        try:
            foreign = files.restore(self.entry["files"], self.state_dir, self.entry["token"])
            for path in foreign:
                self.unit.notes.append("%s %s: it was left as it is" % (path, FOREIGN))
        finally:
            # A file that is still the new one, or was made from it, may need them.
            if foreign == []:
                files.remove_directories(self.entry["made"])
            self.reload_systemd()

    def set_sysctls(self, values):
        self.unit.notes.extend(files.write_sysctls(self.root, values))

    def reload_systemd(self):
        if self.entry["daemon_reload"]:
            systemd.run(["systemctl", "daemon-reload"])

    def prove(self, began, mark):
        reloaded = self.entry["apply"] == "reload"
        try:
            proven = evidence.Proof(
                self.proof, self.entry["unit"], mark, began, self.swapped_at, reloaded
            ).wait()
        except evidence.TooEarly:
            self.unit.notes.append(
                "Falco was started by somebody else before all files were in place; it was restarted"
            )
            self.unit.stop()
            mark, began = self.mark(), time.monotonic()
            self.unit.start()
            proven = evidence.Proof(self.proof, self.entry["unit"], mark, began, self.swapped_at).wait()
        if self.unit.stopped_at and proven["basis"] == "counters":
            # A process that is alive may see nothing yet.
            proven["blind_seconds_at_most"] = _rounded_up(
                began - self.unit.stopped_at + proven["seconds_to_evidence"]
            )
        self.set_sysctls(self.entry["sysctls"])
        proven["interruptions"] = self.unit.interruptions
        proven["notes"] = self.unit.notes
        if self.entry["apply"] == "adopt":
            proven["adopted"] = True
        self.commit_if_possible(proven)
        return {"changed": True, "failed": False, "evidence": proven}

    # -- the whole

    def leave_session(self):
        """Worker and watchdog go on when the session of the connection ends."""
        name = "falcotune-%s.scope" % self.entry["token"]
        reason = detach.own_scope(name, [os.getpid(), os.getppid()], self.root)
        if reason:
            self.unit.notes.append(
                "the change ran in the cgroup of its session, whose end would have killed it: %s" % reason
            )

    def arm(self, pids):
        """What undoes this change if all of these processes are killed, or the host loses power.

        Before anything is touched. Raises Failed.
        """
        self.unit.notes.extend(undo_script.write(self.entry, pids))
        command = ["/bin/sh", undo_script.path_of(self.entry), "timer"]
        dead_man.arm(self.unit.name, self.entry["token"], command, dead_man.UNDOES_AFTER)

    def disarm(self):
        if self.entry["apply"] not in UNINTERRUPTED:
            dead_man.disarm(self.entry["token"])
            undo_script.remove(self.entry)
            # Systemd reads its units again, and forgets that of the script.
            self.unit.drop_dropin()

    def run(self):
        """{'changed', 'evidence' …} after success, {'failed', 'msg', 'undone' …} after an undo.

        Never raises. Where undoing failed, journal, undo.sh and timer stay: they may be the last that start
        Falco.
        """
        try:
            if self.entry["apply"] == "adopt" and not self.writes():
                return self.prove(time.monotonic(), self.mark())
            self.keep()
            self.note("kept")
            if self.entry["apply"] in UNINTERRUPTED:
                return self.run_quietly()
            self.leave_session()
            if self.entry["apply"] == "restart":
                self.entry["runtime_dropin"] = self.unit.listen()
            files.make_directories(self.entry["made"], self.entry["owner"])
            self.arm([os.getpid(), os.getppid()])
            if self.entry.get("runtime_dropin"):
                self.unit.write_dropin()
            self.unit.settle()
            # For the watchdog, should the worker be killed.
            self.entry["blind_from"] = time.monotonic()
            self.note("stopping")
            files.unreached(self.entry["files"])
            self.swap_unit()
            if self.entry["apply"] == "restart":
                self.unit.stop()
                self.note_if_possible("stopped")
            else:
                self.unit.interrupted()
            mark, began = self.mark(), time.monotonic()
            self.swap()
            self.note_if_possible("swapped")
            if self.entry["apply"] == "restart":
                self.swapped_at, self.started_at = processes.now(), time.time()
                self.unit.start()
            self.note_if_possible("started")
            return self.prove(began, mark)
        except Exception as error:  # pylint: disable=broad-except
            if self.committed():  # a quiet one
                return {"changed": True, "failed": False, "notes": [_told(error)]}
            return self.undo(error)

    def run_quietly(self):
        """Nothing here that Falco reads: it is not interrupted, and what was proven of it still holds, or is
        proven anew.
        """
        self.note("stopping")
        mark, began = self.mark(), time.monotonic()
        files.make_directories(self.entry["made"], self.entry["owner"])
        files.unreached(self.entry["files"])
        self.swap_unit()
        self.swap()
        self.note("swapped")
        if self.entry["apply"] == "adopt":
            return self.prove(began, mark)
        self.set_sysctls(self.entry["sysctls"])
        self.commit(None)
        return {"changed": True, "failed": False}

    def writes(self):
        return bool(self.entry["files"] or self.entry["made"] or self.entry["sysctls"])

    # -- the end

    def commit_if_possible(self, proven):
        """Bookkeeping that fails is no reason to stop a Falco that has proven itself."""
        try:
            self.commit(proven)
        except Exception as error:  # pylint: disable=broad-except
            said = getattr(error, "strerror", None) or _told(error)
            if self.committed():
                told = (
                    "the change is made; what only undoing needs could not be removed: %s; the next run "
                    "removes it" % said
                )
            else:
                told = (
                    "the change is proven, but its record in %s could not be written: %s; the next run "
                    "proves it anew" % (self.state_dir, said)
                )
                self.disarm()
            self.unit.notes.append(told)

    def committed(self):
        """Whether the record is this change's: it is not undone any more."""
        return (records.load(self.state_dir) or {}).get("token") == self.entry["token"]

    def commit(self, proven):
        """The new state is the proven one; proven: its evidence, None where Falco was not touched."""
        before = records.load(self.state_dir, required=True) or {}
        files.sync(self.entry["files"])
        # The change is made from here on: undo.sh looks for its token in the record.
        records.write_record(self.state_dir, self.record(proven, before))
        self.finish(True)

    def finish(self, committed):
        """Remove what only undoing would need, the journal last: while it is there, the next run removes the
        rest.

        committed: whether the record of this change is written; else the change is undone.
        """
        kept = [self.entry.get("kept")]
        if committed:
            # What waited for consent is made by this change, or void after it.
            records.drop_staged(self.state_dir)
            forgotten = [records.kept_folder(self.state_dir, number) for number in self.entry["forget"]]
            kept = forgotten + kept if forgotten else []
            if not forgotten:
                self.fold_history()
        files.unstage([folder for folder in kept if folder] + self.entry["stages"])
        if self.entry["phase"] != "staged":
            self.disarm()
        records.sweep(self.state_dir)
        paths = (
            kept + self.entry["stages"] + undo_script.paths(self.entry) + [self.entry.get("runtime_dropin")]
        )
        left = [path for path in paths if path and os.path.lexists(path)]
        if left:
            self.unit.notes.append("%s could not be removed; the next run tries again" % ", ".join(left))
            return
        try:
            records.drop_undone(self.state_dir)
            records.drop_journal(self.state_dir)
        except OSError as error:
            self.unit.notes.append("the journal could not be removed: %s" % error.strerror)

    def fold_history(self):
        """Old changes go, as policy says; where they can't, the next change tries again."""
        try:
            records.fold_history(self.state_dir, self.entry.get("kept_changes") or records.MOST_CHANGES)
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            self.unit.notes.append("old changes could not be removed: %s" % said)

    def record(self, proven, before):
        """The record of this change. before: the one that it replaces, {} without one."""
        binary = self.entry["binary"]
        if not binary.get("version"):
            # A rollback does not ask for the version; the earlier record knows it.
            known = before.get("binary") or {}
            binary = known if known.get("identity") == binary.get("identity") else {}
        written = set(self.entry["written"])
        if not self.entry["forget"]:
            written.update(before.get("written") or [])
        measured = before if self.entry["apply"] in UNINTERRUPTED else self.entry
        found = {
            "at": time.time(),
            "token": self.entry["token"],
            "unit": self.entry["unit"],
            "binary": binary,
            "files": self.entry["hashes"],
            "before": measured.get("before"),
            "written": sorted(written),
            "attempts": self.attempts(before)[-MAX_ATTEMPTS:],
        }
        if not proven:
            return dict(
                found, **{name: before.get(name) for name in ("evidence", "process", "proof", "marks")}
            )
        return dict(
            found,
            evidence=proven,
            process={name: proven[name] for name in ("pid", "start_ticks")},
            proof=self.proof,
            marks=self.marks(),
        )

    def attempts(self, before):
        """Every change that evidence asked for, this one included; what a person took back is not tried
        again.
        """
        found = list(before.get("attempts") or [])
        if self.entry["forget"]:
            oldest = self.entry.get("forget_since") or 0
            found = [dict(item, rolled_back=True) if item.get("at", 0) >= oldest else item for item in found]
        if self.entry.get("attempt"):
            found.append(dict(self.entry["attempt"], at=time.time()))
        return found

    def remember_failure(self):
        """A step whose proof failed is not tried again. Best effort: where there is no record, none is begun
        for it.
        """
        before = records.load(self.state_dir)
        if not before or not self.entry.get("attempt"):
            return
        failed = dict(self.entry["attempt"], at=time.time(), rolled_back=True)
        found = (before.get("attempts") or []) + [failed]
        try:
            records.write_record(self.state_dir, dict(before, attempts=found[-MAX_ATTEMPTS:]))
        except OSError as problem:
            self.unit.notes.append(
                "that this step failed could not be kept in %s: %s" % (self.state_dir, problem.strerror)
            )

    def marks(self):
        """Where the metrics file ended before the start, and where it ends at the proof: a second look reads
        on from there.
        """
        return {
            "started": self.entry.get("mark") or [0, 0],
            "proven": since.file_mark(self.proof.get("metrics_file") or ""),
        }

    # -- undo

    @property
    def touched(self):
        """Whether the change may have reached what Falco reads."""
        return self.entry["phase"] not in ("staged", "kept")

    def undo(self, error):
        """Back to the previous state. Every path ends with a start of what is on disk, whatever fails."""
        reason = _told(error)
        answer = {"changed": False, "failed": True, "notes": self.unit.notes}
        failed_at = time.time()
        touched = self.touched
        interrupted = touched and self.entry["apply"] not in UNINTERRUPTED
        failed = []

        def attempt(step):
            try:
                return step()
            except Exception as problem:  # pylint: disable=broad-except
                failed.append(_told(problem).rstrip("."))

        if interrupted and self._stop_again():
            attempt(self.unit.stop)
            said = self.cause() if isinstance(error, evidence.Died) else None
            reason = "%s. Falco said: %s" % (reason.rstrip("."), said) if said else reason
        if touched:
            attempt(self.restore)
        else:
            files.remove_directories(self.entry["made"])
        began = time.monotonic()
        if interrupted and self.entry["was_running"]:
            attempt(self.unit.start)
            attempt(self.unit.await_process)
        # Only now: a journal that takes its time must not keep Falco away.
        answer["log"] = self.unit.log_lines(failed_at)
        if touched:
            self.set_sysctls(self.entry["old_sysctls"])
        if failed:
            return dict(answer, undone=False, msg=self._half_undone(reason, failed))
        # From here on nothing is left to be undone.
        self.note_if_possible("undone")
        if isinstance(error, (evidence.Died, evidence.NoEvidence)):
            self.remember_failure()
        self.finish(False)
        answer.update(undone=True, touched=interrupted)
        if interrupted and self.entry.get("blind_from"):
            sees = max(time.monotonic(), began + unit_control.OPENS)
            answer["blind_seconds_at_most"] = _rounded_up(sees - self.entry["blind_from"])
        after = (
            "The previous configuration is back and Falco runs with it."
            if touched
            else "Nothing was changed."
        )
        return dict(answer, msg="%s. %s" % (reason.rstrip("."), after))

    def cause(self):
        """Falco's own words on why it ended, or None. Never raises."""
        try:
            said = self.unit.said(self.started_at) if self.unit.hears else None
            return said if self.unit.hears else self.unit.start_by_hand()
        except Exception as problem:  # pylint: disable=broad-except
            self.unit.notes.append("why Falco ended is not known: %s" % _told(problem))
            return None

    def _stop_again(self):
        """Whether a Falco with the new files must be stopped before they are taken back."""
        if self.entry["apply"] == "restart":
            of_falco = [entry for entry in self.entry["files"] if not self.of_unit(entry)]
            return files.swapped(of_falco) or self.entry["phase"] not in ("staged", "kept", "stopping")
        try:
            return not self.unit.runs_as(self.entry["old_pid"])
        except (systemd.ManagerError, IndexError):
            return True

    def _half_undone(self, reason, failed):
        state = "nobody knows its state"
        try:
            state = self.unit.properties().get("ActiveState")
        except (systemd.ManagerError, IndexError):
            pass
        return "%s. Undoing failed too: %s. The previous files are kept in %s. The unit %s is %s." % (
            reason.rstrip("."),
            "; ".join(failed),
            self.entry.get("kept"),
            self.entry["unit"],
            state,
        )


def _rounded_up(seconds):
    return math.ceil(100 * seconds) / 100.0


def _told(error):
    """An error as text; of one that was not expected, its type too."""
    if isinstance(error, (Failed, evidence.Died, evidence.NoEvidence, systemd.ManagerError)):
        return str(error)
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def recover(state_dir):
    """Finish or undo what an earlier run left. Returns a sentence for the user, or None. Raises Failed."""
    entry = records.journal(state_dir)
    if entry:
        # undo.sh may be at work, and come to its end here.
        _take_over(Transaction(entry))
        entry = records.journal(state_dir)
    if not entry:
        return _already_undone(state_dir)
    work = Transaction(entry)
    # One that can't be read now is not one of another change: recover() raises OSError.
    committed = (records.load(state_dir, required=True) or {}).get("token") == entry["token"]
    if committed or entry.get("phase") == "undone":
        work.finish(committed)
        return None
    if work.touched and entry["apply"] not in UNINTERRUPTED:
        try:
            # This process may be killed too, with Falco stopped.
            work.arm([os.getpid()])
        except Failed as error:
            work.unit.notes.append(str(error))
    return _recovered(work)


def _take_over(work):
    """Stop undo.sh. While Falco may be stopped, a timer that waits stays: this process may be killed before
    it has set another one.
    """
    stopped = work.touched and work.entry["apply"] not in UNINTERRUPTED
    if not stopped or work.committed() or work.entry["phase"] == "undone":
        dead_man.disarm(work.entry["token"])
        return
    try:
        # The script waits for this process from here on.
        undo_script.write(work.entry, [os.getpid()])
    except Failed:
        dead_man.disarm(work.entry["token"])
        return
    dead_man.interrupt(work.entry["token"])


def _already_undone(state_dir):
    """As recover(), where no journal is left: undo.sh may have been there."""
    entry = records.undone(state_dir)
    if not entry:
        records.sweep(state_dir)
        return None
    Transaction(dict(entry, state_dir=state_dir)).finish(False)
    return (
        "an earlier change was broken off (phase %s): its timer or the boot after it has put the previous "
        "configuration back" % entry.get("phase")
    )


def _recovered(work):
    entry = work.entry
    if entry.get("phase") == "started" and files.all_new(entry["files"]):
        try:
            work.prove(time.monotonic(), entry.get("mark") or [0, 0])
            return "an earlier change was broken off after Falco's start; it has now proven itself and stays"
        except (evidence.Died, evidence.NoEvidence, systemd.ManagerError) as error:
            answer = work.undo(
                type(error)("an earlier change was broken off after Falco's start: %s" % error)
            )
    else:
        answer = work.undo(Failed("an earlier change was broken off (phase %s)" % entry.get("phase")))
    if not answer["undone"]:
        raise Failed(answer["msg"])
    return " ".join([answer["msg"]] + [note + "." for note in work.unit.notes if FOREIGN in note])


def killed(work):
    """The answer for a worker that was killed: its change is undone, unless its record is written."""
    try:
        entry = records.journal(work.state_dir)
        record = records.load(work.state_dir, required=True) or {}
    except (Failed, OSError) as error:
        # undo.sh and its timer are still there.
        return {
            "changed": False,
            "failed": True,
            "undone": False,
            "msg": "the change was killed, and %s. Its timer puts the previous files back and starts Falco; "
            "run again" % str(error).rstrip("."),
        }
    if record.get("token") == work.entry["token"]:
        if entry:
            Transaction(entry).finish(True)
        answer = {"changed": True, "failed": False}
        if work.entry["apply"] != "quiet":
            answer["evidence"] = record["evidence"]
        return answer
    if entry:
        return Transaction(entry).undo(Failed("the change was killed in phase %s" % entry.get("phase")))
    return work.undo(Failed("the change was killed before anything was touched"))


def detached(work):
    """Run a Transaction in a worker below a watchdog, which undoes it where the worker is killed. → (pid of
    the watchdog, descriptor for answer_from()). Raises OSError.
    """
    reader, writer = os.pipe()

    def body():
        os.close(reader)
        try:
            ended = detach.work(lambda: _tell(writer, work.run()), work.deadline)
        except OSError:
            ended = False  # there was no process to be had
        if not ended:
            _tell(writer, killed(work))

    try:
        return detach.watchdog(body), reader
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)


def _tell(writer, answer):
    """One line. A pipe needs no room on a disk; where nobody is left to read it, record and journal tell."""
    data = json.dumps(answer).encode("utf-8") + b"\n"
    try:
        while data:
            data = data[os.write(writer, data) :]
    except BrokenPipeError:
        pass


def answer_from(reader):
    """The answer of a detached Transaction once its processes have ended; None where all were killed."""
    with os.fdopen(reader, "rb") as stream:
        lines = stream.read().splitlines()
    for line in reversed(lines):
        try:
            return json.loads(line.decode("utf-8"))
        except ValueError:
            continue  # its writer was killed
    return None
