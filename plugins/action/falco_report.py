# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_report: what the hosts of a play brought → one report in all its forms, on the controller. No trip to any host."""

from __future__ import annotations

import datetime
import os
import tempfile
import time

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import (
    anonymise,
    audit,
    forms,
    history,
    html,
    models,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies

FORMS = ("json", "csv", "openmetrics", "html")
# A trial and a rollout lie beside the audit's report. The gauges are the audit's alone: one host has one
# state.
NAMES = {
    "json": "%s.json",
    "csv": "%s.csv",
    "openmetrics": "falcotune.prom",
    "html": "%s.html",
    "bundle": "bundle.json",
}
OTHERS = ("trial", "rollout")
COLLECTION = "falcotune.fleet"


class Wrong(ValueError):
    """A wrong argument, or a place that can't be written; the text says what to do."""


class ActionModule(ActionBase):
    """Reads hostvars, writes files; fails by policy."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False
    _VALID_ARGS = frozenset(
        (
            "kind",
            "hosts",
            "gathered",
            "directory",
            "forms",
            "textfile_dir",
            "history",
            "retention_days",
            "fail_on",
            "min_observation",
            "accepted_drops_percent",
            "accepted_hosts_percent",
            "bundle_hosts",
            "rollout",
        )
    )

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result["changed"] = False
        try:
            return dict(result, **self._report(self._arguments(task_vars), task_vars))
        except (Wrong, policies.PolicyError, history.HistoryError) as error:
            return dict(result, failed=True, msg=str(error))

    def _arguments(self, task_vars):
        given = {
            "kind": "audit",
            "hosts": None,
            "gathered": "",
            "directory": "falco-reports",
            "forms": list(FORMS),
            "textfile_dir": "",
            "history": "",
            "retention_days": 400,
            "fail_on": [],
            "min_observation": 60,
            "accepted_drops_percent": 1.0,
            "accepted_hosts_percent": 5.0,
            "bundle_hosts": [],
            "rollout": None,
        }
        unknown = sorted(set(self._task.args) - self._VALID_ARGS)
        if unknown:
            raise Wrong(
                "unsupported parameters: %s; supported are %s"
                % (", ".join(unknown), ", ".join(sorted(self._VALID_ARGS)))
            )
        given.update(self._task.args)
        wrong = [form for form in given["forms"] if form not in FORMS]
        if wrong:
            raise Wrong(
                "forms holds %r%s; the forms are %s"
                % (wrong[0], policies.nearest(str(wrong[0]), FORMS), ", ".join(FORMS))
            )
        if given["hosts"] is None:
            given["hosts"] = task_vars.get("ansible_play_hosts_all") or []
        for name, low, high, kind in (
            ("min_observation", 1, 30 * 86400, float),
            ("accepted_drops_percent", 0, 100, float),
            ("accepted_hosts_percent", 0, 100, float),
            ("retention_days", 1, 36500, int),
        ):
            try:
                given[name] = kind(given[name])
            except (TypeError, ValueError):
                raise Wrong(
                    "%s is %r: expected a number from %s to %s" % (name, given[name], low, high)
                ) from None
            if not low <= given[name] <= high:
                raise Wrong("%s is %r: expected a number from %s to %s" % (name, given[name], low, high))
        models.fail_on(given["fail_on"])
        if (given["kind"] == "rollout") != bool(given["rollout"]) or not isinstance(
            given["rollout"] or {}, dict
        ):
            found = "a %s" % type(given["rollout"]).__name__ if given["rollout"] else "not given"
            raise Wrong(
                "kind is %r and rollout is %s: kind rollout, and no other, takes the record of a rollout, a dict with its "
                "batches" % (given["kind"], found)
            )
        return given

    def _report(self, given, task_vars):
        directory = os.path.abspath(os.path.expanduser(given["directory"]))
        database = os.path.join(directory, "history.sqlite") if given["history"] == "" else given["history"]
        if given["kind"] in OTHERS:  # some hosts at a special time: no audit to compare with, or by
            database = "none"
        writes = not self._task.check_mode
        if writes:
            _make(directory)
        past = (
            history.History(os.path.expanduser(database), given["retention_days"])
            if database and database != "none" and (writes or os.path.exists(os.path.expanduser(database)))
            else None
        )
        try:
            return self._written(given, task_vars, directory, past, writes)
        finally:
            if past is not None:
                past.close()

    def _written(self, given, task_vars, directory, past, writes):
        names = [str(name) for name in given["hosts"]]
        older = past.snapshots(names) if past is not None else {}
        now = time.time()
        began, entries = self._entries(names, given, task_vars, older)
        meta = {
            "kind": given["kind"],
            "collection": COLLECTION,
            "made_at": _iso(now),
            "seconds": round(now - min([now] + began), 1),
        }
        wanted = {
            "accepted_drops_percent": given["accepted_drops_percent"],
            "accepted_hosts_percent": given["accepted_hosts_percent"],
            "min_observation_seconds": given["min_observation"],
            "fail_on": given["fail_on"],
        }
        model = models.assemble(
            entries, wanted, meta, past.last() if past is not None else None, given["rollout"]
        )
        paths = {}
        if past is not None:
            if writes:
                past.add(model)
            series = past.series(names)
            for host in model["hosts"]:
                host["history"] = series.get(host["name"]) or []
        public = models.public(model)
        if writes:
            paths = self._write(given, directory, public)
        breaches = public["fleet"]["breaches"]
        answer = {
            "report": {"paths": paths, "fleet": public["fleet"]},
            "summary": forms.to_terminal(public).splitlines(),
        }
        if breaches:
            answer.update(failed=True, msg="; ".join(item["text"] for item in breaches))
        return answer

    def _entries(self, names, given, task_vars, older):
        """(when the hosts were looked at, one entry a host); a host that brought nothing is unreachable or failed."""
        found, began, hostvars = [], [], task_vars["hostvars"]
        policy = {
            "min_observation": given["min_observation"],
            "accepted_drops_percent": given["accepted_drops_percent"],
        }
        for name in names:
            values = _values(hostvars, name)
            gathered = values.get(given["gathered"]) if given["gathered"] else None
            facts = (values.get("ansible_facts") or {}).get("falco")
            if isinstance(gathered, dict) and isinstance(gathered.get("began"), float):
                began.append(gathered["began"])
            if isinstance(gathered, dict) and gathered.get("unreachable"):
                found.append(audit.missing(name, "unreachable", gathered.get("msg") or "no connection"))
            elif isinstance(gathered, dict) and gathered.get("failed"):
                found.append(audit.missing(name, "failed", gathered.get("msg") or "no reason was given"))
            elif not isinstance(facts, dict):
                found.append(audit.missing(name, "failed", "it brought no facts"))
            else:
                plan = (values.get("ansible_facts") or {}).get("falco_plan")
                known = older.get(name)
                found.append(audit.entry(name, facts, plan, policy, known[2] if known else None))
            trial = (
                (values.get("ansible_facts") or {}).get("falco_trial") if given["kind"] == "trial" else None
            )
            if isinstance(trial, dict):
                found[-1] = audit.tried(name, trial, found[-1])
        return began, found

    def _write(self, given, directory, model):
        makers = {
            "json": forms.to_json,
            "csv": forms.to_csv,
            "openmetrics": forms.to_openmetrics,
            "html": html.render,
        }
        paths = {}
        stem = given["kind"] if given["kind"] in OTHERS else "report"
        for form in given["forms"]:
            if form == "openmetrics" and given["kind"] in OTHERS:
                continue
            text = makers[form](model)
            paths[form] = os.path.join(directory, NAMES[form].replace("%s", stem))
            _replace(paths[form], text, 0o600)
            if form == "openmetrics" and given["textfile_dir"]:
                # node_exporter runs as somebody else, and has to read it.
                paths["textfile"] = os.path.join(os.path.expanduser(given["textfile_dir"]), NAMES[form])
                _replace(paths["textfile"], text, 0o644)
        if given["bundle_hosts"]:
            paths["bundle"] = os.path.join(directory, NAMES["bundle"])
            _replace(
                paths["bundle"],
                forms.to_json(anonymise.bundle(model, [str(name) for name in given["bundle_hosts"]])),
                0o600,
            )
        return paths


def _values(hostvars, name):
    """A host's variables as they are: nothing here needs a template, and 10 000 hosts would feel one."""
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
            "the report can't be written to %s: %s; set falco_audit_report_dir" % (directory, error.strerror)
        ) from None


def _replace(path, text, mode):
    """A reader finds the old file or the new one."""
    try:
        handle, name = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".falcotune-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
                stream.write(text)
                os.fchmod(stream.fileno(), mode)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise Wrong("%s can't be written: %s" % (path, error.strerror)) from None
