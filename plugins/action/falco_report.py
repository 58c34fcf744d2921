# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_report: what the hosts of a play brought → one report in all its forms, on the controller."""

from __future__ import annotations

import datetime
import os
import stat
import tempfile
import time

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import collector, histories
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import (
    anonymise,
    audit,
    history,
    html,
    json_csv,
    models,
    openmetrics,
    parts,
    postgresql,
    terminal,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import some, value_text
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

MAKERS = {
    "json": json_csv.json_lines,
    "csv": json_csv.to_csv,
    "openmetrics": openmetrics.to_openmetrics,
    "html": html.render,
}
# Files of a trial and a rollout lie beside those of the audit. Only audits make gauges: a host has one state.
NAMES = {
    "json": "%s.json",
    "csv": "%s.csv",
    "openmetrics": "falcotune.prom",
    "html": "%s.html",
    "bundle": "bundle.json",
}
OTHERS = ("trial", "rollout")
COLLECTION = "falcotune.fleet"
# Where falco_prometheus_info leaves what Prometheus knows.
MONITORED_ON = "localhost"
# What the role trial registers the result of a host's trial in.
TRIED = "falco_trial_result"
ARGUMENTS = Arguments("falco_report")
# name, least, most, type
NUMBERS = (
    ("min_observation", 1, 30 * 86400, float),
    ("accepted_drops_percent", 0, 100, float),
    ("accepted_hosts_percent", 0, 100, float),
    ("retention_days", 1, 36500, int),
)


class Wrong(ValueError):
    """A wrong argument, or a directory that cannot be written; the text says what to do."""


class ActionModule(ActionBase):
    """Reads hostvars, writes files; fails by policy."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result["changed"] = False
        try:
            with collector.paused():
                return dict(result, **self._report(self._arguments(task_vars), task_vars))
        except (ArgumentError, Wrong, policies.PolicyError, history.HistoryError, parts.PartError) as error:
            return dict(result, failed=True, msg=str(error))

    def _arguments(self, task_vars):
        """The task's arguments, complete and checked."""
        asked = {name: value for name, value in self._task.args.items() if value is not None}
        # The policy's own checks first: they name the role's variables and ranges.
        for name, least, most, kind in NUMBERS:
            if name in asked:
                asked[name] = _number(name, asked[name], least, most, kind)
        models.fail_on(asked.get("fail_on", []))
        _check_rollout(asked.get("kind", "audit"), asked.get("rollout"))
        given = ARGUMENTS.check(asked)
        _check_part(given)
        if given["hosts"] is None:
            given["hosts"] = task_vars.get("ansible_play_hosts_all") or []
        return given

    def _report(self, given, task_vars):
        directory = os.path.abspath(os.path.expanduser(given["directory"]))
        writes = not self._task.check_mode
        merged = _merged(given, directory) if given["merge"] else None
        if writes:
            _make(directory)
        # A part is compared with earlier audits, and the merged audit is what is kept.
        with _Past(given, directory, writes and not given["part"]) as past:
            if given["part"]:
                found = self._part(given, task_vars, directory, past, writes)
            else:
                found = self._written(given, task_vars, directory, past, writes, merged)
            if past.problem:
                told = "This audit is not kept, or not compared with earlier ones: %s" % past.problem
                found.update(warnings=[told], summary=[*found["summary"], told])
            return found

    def _part(self, given, task_vars, directory, past, writes):
        """This job's hosts go into a file. They have no exit status and no report of their own."""
        began, entries, policy, meta = self._audited(given, task_vars, past)
        text = parts.to_part(given["id"], given["part"], entries, policy, meta, began)
        path = os.path.join(directory, parts.file_name(given["id"], given["part"]))
        if writes:
            _replace(path, text, 0o600)
        fleet = models.assemble(entries, {**policy, "fail_on": []}, meta)["fleet"]
        paths = {"part": path} if writes else {}
        told = "Part %s of audit %s. Merge the parts with falcotune.fleet.merge_audits."
        return {
            "report": {"paths": paths, "fleet": fleet},
            "summary": [fleet["headline"], told % (given["part"], given["id"])],
            "stats": _stats(given, fleet, paths),
        }

    def _written(self, given, task_vars, directory, past, writes, merged):
        files, whole = merged or ([], self._audited(given, task_vars, past)[1:])
        entries, policy, meta = whole
        last = past.ask("last")
        model = models.assemble(entries, policy, meta, last, given["rollout"])
        if writes:
            past.ask("add", model)
        series = past.ask("series", [host["name"] for host in model["hosts"]])
        for host in model["hosts"] if series else []:
            host["history"] = series.get(host["name"]) or []
        model["fleet"]["way"] = past.ask("way") or []
        public = models.public(model)
        paths = self._write(given, directory, public) if writes else {}
        if writes:
            for path in files:
                os.unlink(path)
        answer = {
            "report": {"paths": paths, "fleet": public["fleet"]},
            "summary": terminal.to_terminal(public).splitlines(),
            "stats": _stats(given, public["fleet"], paths),
        }
        breaches = public["fleet"]["breaches"]
        if breaches:
            answer.update(failed=True, msg="; ".join(item["text"] for item in breaches))
        return answer

    def _audited(self, given, task_vars, past):
        """(when the first host was examined, the entries of all hosts, policy, meta)."""
        monitored = _monitored(given, task_vars["hostvars"])
        # Hosts that were not visited need not be in this play.
        names = list(dict.fromkeys([*(str(name) for name in given["hosts"]), *monitored["left"]]))
        older = past.ask("snapshots", names) or {}
        now = time.time()
        visited = [name for name in names if name not in monitored["left"]]
        began, entries = self._entries(visited, given, task_vars["hostvars"], older)
        entries += [audit.monitored(name, known) for name, known in monitored["left"].items()]
        first = min([now, *began])
        meta = {
            "kind": given["kind"],
            "collection": COLLECTION,
            "made_at": _iso(now),
            "seconds": round(now - first, 1),
            "monitoring": monitored if monitored["server"] else None,
        }
        policy = {
            "accepted_drops_percent": given["accepted_drops_percent"],
            "accepted_hosts_percent": given["accepted_hosts_percent"],
            "min_observation_seconds": given["min_observation"],
            "fail_on": given["fail_on"],
        }
        return first, entries, policy, meta

    def _entries(self, names, given, hostvars, older):
        """(Unix times at which hosts were examined, one entry a host)."""
        entries, began = [], []
        policy = {name: given[name] for name in ("min_observation", "accepted_drops_percent")}
        for name in names:
            values = _values(hostvars, name)
            gathered = _untrusted.dictionary(values.get(given["gathered"]))
            if isinstance(gathered.get("began"), float):
                began.append(gathered["began"])
            facts = _untrusted.dictionary(values.get("ansible_facts"))
            known = older.get(name)
            entry = _guarded(name, gathered, facts, policy, known[2] if known else None)
            if given["kind"] == "trial":
                entry = _tried(name, values, facts, entry)
            entries.append(entry)
        return began, entries

    def _write(self, given, directory, model):
        paths = {}
        stem = given["kind"] if given["kind"] in OTHERS else "report"
        for form in given["forms"]:
            if form == "openmetrics" and given["kind"] in OTHERS:
                continue
            text = MAKERS[form](model)
            paths[form] = os.path.join(directory, NAMES[form].replace("%s", stem))
            _replace(paths[form], text, 0o600)
            if form == "openmetrics" and given["textfile_dir"]:
                # node_exporter runs as another user, which has to read it.
                paths["textfile"] = os.path.join(os.path.expanduser(given["textfile_dir"]), NAMES[form])
                _replace(paths["textfile"], text, 0o644)
        if given["bundle_hosts"]:
            bundle = anonymise.bundle(model, [str(name) for name in given["bundle_hosts"]])
            paths["bundle"] = os.path.join(directory, NAMES["bundle"])
            _replace(paths["bundle"], json_csv.to_json(bundle), 0o600)
        return paths


def _number(name, value, least, most, kind):
    wrong = Wrong("%s is %s: expected a number from %s to %s" % (name, value_text(value), least, most))
    try:
        found = kind(value)
    except (TypeError, ValueError):
        raise wrong from None
    if not least <= found <= most:
        raise wrong
    return found


def _check_rollout(kind, rollout):
    if isinstance(rollout, dict) and rollout if kind == "rollout" else not rollout:
        return
    raise Wrong(
        "kind is %r and rollout is %s: expected the record of a rollout, a dict with its batches, with kind "
        "rollout and with no other" % (kind, "a %s" % type(rollout).__name__ if rollout else "not given")
    )


def _check_part(given):
    """Names of an audit and of its parts become names of files."""
    if given["part"] and given["merge"]:
        raise Wrong("part and merge are both given: expected a part to write, or parts to merge")
    if (given["part"] or given["merge"]) and given["kind"] in OTHERS:
        raise Wrong("kind is %r: only audits have parts" % given["kind"])
    if given["part"]:
        parts.named("falco_audit_part", given["part"])
    if given["part"] or given["id"]:
        parts.named("falco_audit_id", given["id"])


def _merged(given, directory):
    """(paths of the parts, the whole audit)."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise Wrong("the parts in %s cannot be read: %s" % (directory, error.strerror)) from None
    audit_id = given["id"]
    if not audit_id:
        known = parts.audits_of(names)
        if len(known) > 1:
            raise Wrong(
                "%s has parts of %d audits (%s): set falco_audit_id" % (directory, len(known), some(known))
            )
        audit_id = known[0] if known else ""
    prefix = parts.file_name(audit_id, "").partition(".jsonl")[0]
    paths = [
        os.path.join(directory, name)
        for name in names
        if audit_id and name.startswith(prefix) and name.endswith(".jsonl") and "-" not in name[len(prefix) :]
    ]
    if len(paths) > parts.MOST_PARTS:
        raise Wrong("%s has %d parts: expected at most %d" % (directory, len(paths), parts.MOST_PARTS))
    found = []
    for path in paths:
        try:
            found.append(parts.read(_read(path), audit_id, given["kind"]))
        except parts.PartError as error:
            raise Wrong("%s: %s. Nothing was written" % (path, error)) from None
    return paths, parts.fold(found, given["parts"], {"kind": given["kind"], "collection": COLLECTION})


def _read(path):
    """The text of a part. Raises PartError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as stream:
            found = os.fstat(stream.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise parts.PartError("it is not a regular file")
            data = stream.read(parts.MOST_BYTES + 1)
    except OSError as error:
        raise parts.PartError("it cannot be read: %s" % error.strerror) from None
    if len(data) > parts.MOST_BYTES:
        raise parts.PartError("it has more than %d bytes" % parts.MOST_BYTES)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise parts.PartError("it is not ASCII, as a part is") from None


def _stats(given, fleet, paths):
    """What the next job of a workflow gets as extra variables: counts and paths, and no lists of hosts."""
    found = {
        "kind": given["kind"],
        "headline": fleet["headline"][:1000],
        "hosts": fleet["hosts"],
        "ok": fleet["ok"],
        **{name: len(fleet[name]) for name in ("unreachable", "failed", "monitored", "drifting")},
        "restart_required": len(fleet["restart_required"]),
        "states": fleet["states"],
        "breaches": [
            {"rule": item["rule"], "hosts": len(item["hosts"]), "text": item["text"]}
            for item in fleet["breaches"]
        ],
        "paths": paths,
    }
    return {"falco_audit": found, **({"falco_audit_id": given["id"]} if given["part"] else {})}


class _Past:
    """The earlier audits, where there are any and any are kept. problem: why a server was of no use.

    A file that cannot be used is an error. A server may be gone at any time, and the audit goes on without.
    """

    def __init__(self, given, directory, writes):
        self.problem, self.history = None, None
        # A trial or a rollout is not compared with audits, and no audit is compared with it.
        if given["kind"] in OTHERS or given["history"] == "none":
            return
        if given["history_dsn"]:
            self._connect(given, writes)
        else:
            path = given["history"] or os.path.join(directory, "history.sqlite")
            self.history = histories.in_file(path, given["retention_days"], writes)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self.history is not None:
            self.history.close()

    def _connect(self, given, writes):
        try:
            self.history = postgresql.Postgres(given["history_dsn"], given["retention_days"], writes=writes)
        except history.HistoryError as error:
            self.problem = str(error)
        else:
            if not self.history.version:  # a reader of what nobody has written yet
                self.history.close()
                self.history = None

    def ask(self, name, *arguments):
        """What a method of the history returns; None without a history."""
        if self.history is None:
            return None
        try:
            return getattr(self.history, name)(*arguments)
        except history.HistoryError as error:
            if not isinstance(self.history, postgresql.Postgres):
                raise
            self.problem = str(error)
            self.history.close()
            self.history = None
            return None


def _entry(name, gathered, facts, policy, older):
    """The entry of one host; one that brought nothing is unreachable or failed."""
    if gathered.get("unreachable"):
        return audit.missing(name, "unreachable", gathered.get("msg") or "no connection")
    if gathered.get("failed"):
        return audit.missing(name, "failed", gathered.get("msg") or "no reason was given")
    if isinstance(gathered.get("entry"), dict):
        return audit.whole(name, gathered["entry"])
    if "falco" not in facts:
        return audit.missing(name, "failed", "no facts were gathered")
    lacking = audit.incomplete(facts["falco"])
    if lacking:
        reason = "the facts have no %s: gather them with falco_facts" % ", ".join(lacking)
        return audit.missing(name, "failed", reason)
    return audit.entry(name, facts["falco"], facts.get("falco_plan"), policy, older)


def _monitored(given, hostvars):
    """What Prometheus knows: {'server', 'problem', 'sample', 'left' {host: what is known of it}}."""
    facts = {}
    if given["monitored"]:
        facts = _untrusted.dictionary(_values(hostvars, MONITORED_ON).get("ansible_facts"))
    found = _untrusted.dictionary(facts.get(given["monitored"]))
    left = _untrusted.dictionary(found.get("left"))
    return {
        "server": found.get("server"),
        "problem": found.get("problem"),
        "sample": _untrusted.sequence(found.get("sample")),
        "left": {str(name): _untrusted.dictionary(known) for name, known in left.items()},
    }


def _tried(name, values, facts, entry):
    """The entry of a host in a report of trials. entry: without its trial."""
    trial, failed = facts.get("falco_trial"), _untrusted.dictionary(values.get(TRIED))
    if isinstance(trial, dict):
        return audit.tried(name, trial, entry)
    if failed.get("failed") or failed.get("unreachable"):
        # It answered once, and then it did not.
        status = "unreachable" if failed.get("unreachable") else "failed"
        return audit.missing(name, status, failed.get("msg") or "no reason was given")
    return entry


def _guarded(name, gathered, facts, policy, older):
    """_entry(), whatever the facts hold: a fact cache may have those of another version, or a host's own."""
    try:
        return _entry(name, gathered, facts, policy, older)
    except Exception as error:  # pylint: disable=broad-except
        reason = "its facts can't be read: %s: %s" % (type(error).__name__, error)
        return audit.missing(name, "failed", reason)


def _values(hostvars, name):
    """A host's variables, untemplated: none that is read here needs it, and 10 000 hosts would take long."""
    try:
        return hostvars.raw_get(name)
    except (AttributeError, KeyError):
        return hostvars[name] if name in hostvars else {}


def _iso(at):
    return datetime.datetime.fromtimestamp(int(at), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _make(directory):
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
    except OSError as error:
        raise Wrong(
            "the report cannot be written to %s: %s; set falco_audit_report_dir" % (directory, error.strerror)
        ) from None
    histories.check_directory(directory, "falco_audit_report_dir")


def _replace(path, text, mode):
    """Replaced at once: a reader finds the old file or the new one. text: whole, or its parts in order."""
    try:
        handle, name = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".falcotune-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.writelines([text] if isinstance(text, str) else text)
                os.fchmod(stream.fileno(), mode)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise Wrong("%s cannot be written: %s" % (path, error.strerror)) from None
