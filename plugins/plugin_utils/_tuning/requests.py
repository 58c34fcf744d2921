# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one message that falco_config sends to a host: what to write, what to expect, what proves it. Pure."""

from __future__ import annotations

import hashlib
import json
import posixpath
from typing import Any, cast

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Change,
    Facts,
    LoadedFile,
    Plan,
    Policy,
    ProofParameters,
    Request,
    SeenRecord,
    Verdict,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.configuration import Settings
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import changes, effects, policies, sight

# Lines of the unit's drop-in whose effect can be read from the process and its cgroup.
SEEN_AT_THE_PROCESS = ("Nice", "CPUWeight", "CPUQuota")


def scrape_url(settings: Settings, early: bool = True) -> str:
    """The host's own /metrics where Falco serves it; '' otherwise.

    early: only where this release survives being asked before it captures events.
    """
    release = settings.release
    if not release.prometheus or (early and not release.scrape_before_capture):
        return ""
    needed = ("webserver.enabled", "webserver.prometheus_metrics_enabled", "metrics.enabled")
    if not all(settings.value(name) for name in needed) or settings.value("webserver.ssl_enabled"):
        return ""
    address = settings.value("webserver.listen_address") or "127.0.0.1"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    if ":" in address:
        address = "[%s]" % address
    return "http://%s:%d/metrics" % (address, settings.value("webserver.listen_port"))


def pending(facts: Facts, policy: Policy, plan: Plan) -> list[Change]:
    """Changes to files outside Falco's own: those that are not on the host as they were last written there.

    The unit's drop-in is left out where the plan names its lines one by one.
    """
    named = changes.has(plan["changes"], "unit")
    found = []
    for item in plan["host_files"]:
        if named and item["path"].startswith("/etc/systemd/"):
            continue
        now = facts["host"]["files"].get(policy["host_root"].rstrip("/") + item["path"])
        if now != hashlib.sha256(item["content"].encode("utf-8")).hexdigest():
            before = "something else" if now else None
            found.append(changes.change("file", item["path"], before, "written", item["why"]))
    return found


def build(state: str, plan: Plan | None, facts: Facts | None, policy: Policy, content: str = "") -> Request:
    """The request for one host.

    plan, facts: None for the states rolled_back and proven, for which the host's own records are enough.
    content: the rendered fragment.
    """
    request = _from_policy(state, policy)
    if plan is None or facts is None or plan["layout"] is None:
        return request
    config = facts["config"]
    release = releases.release_for(facts["falco"]["version"])
    after = Settings(config["effective"], release).but(plan["settings"])
    reloads = config["watch"] and release.reload_on_rename
    made: dict[str, Any] = {
        "apply": policy["apply"] if reloads else "restart",
        "content": content if plan["settings"] else "",
        "layout": plan["layout"],
        "target": plan["target"] or "",
        "main": config["order"][0],
        "expected": {item["path"]: item["sha256"] for item in config["files"]},
        "reload_paths": [item["path"] for item in config["folders"]] + _rules_files(after.effective),
        "load_order": _load_order(facts, plan),
        "host_files": plan["host_files"],
        "directories": plan["directories"],
        "sysctls": plan["sysctls"],
        "restart": plan["restart_required"],
        "dry_run": release.dry_run,
        "version": facts["falco"]["version"],
        "selected": _selected(plan),
        "adopt": changes.has(plan["changes"], "record"),
        "before": effects.measured(plan["verdict"]),
        "attempt": attempt(plan),
        "seen": _seen(facts),
    }
    request.update(cast(Request, made))
    _prove(request, plan, policy, after)
    return request


def _from_policy(state: str, policy: Policy) -> Request:
    """A request that changes nothing yet.

    stage: the digest under which the change is kept instead of made. evidence: of the change that state
    proven looks at. proof: what the host must show. reload_paths: a write to them begins a hot reload.
    """
    return {
        "state": state,
        "host_root": policy["host_root"],
        "state_dir": policy["state_dir"],
        "unit": policy["unit"],
        "apply": "restart",
        "rollback_to": policy["rollback_to"],
        "kept_changes": policy["kept_changes"],
        "content": "",
        "layout": None,
        "target": "/nonexistent",
        "main": None,
        "expected": {},
        "reload_paths": [],
        "load_order": [],
        "host_files": [],
        "directories": [],
        "sysctls": {},
        "stage": "",
        "evidence": None,
        "auto_revert": policy["auto_revert"],
        "selected": None,
        "restart": False,
        "adopt": False,
        "dry_run": "--dry-run",
        "version": None,
        "attempt": None,
        "before": None,
        "seen": None,
        "proof": {
            "healthy_deadline": policy["healthy_deadline"],
            "min_healthy_time": policy["min_healthy_time"],
            "metrics_file": "",
            "scrape_url": "",
            "driver": None,
            "buffers": None,
            "unit_settings": {},
            "drops_at_most": None,
            "counters": policy["evidence"] != "process",
            "interval": policies.duration_ms(policy["metrics_interval"]) / 1000.0,
        },
    }


def _prove(request: Request, plan: Plan, policy: Policy, after: Settings) -> None:
    """What proves the change."""
    rings, lines = plan["buffers"], plan["unit_dropin"] or {}
    if plan["metrics_file"]:
        interval = policies.duration_ms(after.value("metrics.interval"))
        request["proof"]["interval"] = interval / 1000.0
    made: dict[str, Any] = {
        "metrics_file": plan["metrics_file"] or "",
        "scrape_url": scrape_url(after),
        "driver": plan["driver"],
        "buffers": rings and {"count": rings["count"], "bytes_each": rings["bytes_each"]},
        "unit_settings": {name: value for name, value in lines.items() if name in SEEN_AT_THE_PROCESS},
        "drops_at_most": None if request["adopt"] else drops_at_most(plan["verdict"], policy),
    }
    request["proof"].update(cast(ProofParameters, made))


def _load_order(facts: Facts, plan: Plan) -> list[LoadedFile]:
    """Fragments in the order in which Falco will load them, the plan's own among them."""
    config, path = facts["config"], plan["target"] or ""
    order = [
        (item["entry"], item["path"], item["strategy"]) for item in config["files"] if item["entry"] >= 0
    ]
    if plan["layout"] == "dropin" and path not in [item[1] for item in order]:
        folder = next(item for item in reversed(config["folders"]) if item["path"] == posixpath.dirname(path))
        order.append((folder["entry"], path, folder["strategy"]))
        order.sort(key=lambda item: item[:2])
    return [{"path": item[1], "strategy": item[2]} for item in order]


def _selected(plan: Plan) -> list[str] | None:
    """What the host's own dry run must select, where the plan changes that; else None."""
    differs = any(
        item["kind"] == "config" and item["key"].startswith("base_syscalls.") for item in plan["changes"]
    )
    return plan["syscalls"]["selected"] if differs and plan["syscalls"] else None


def drops_at_most(verdict: Verdict | None, policy: Policy) -> float | None:
    """Percent of events that a host may lose after its change without being worse; None where nothing was
    measured before."""
    before = verdict["drops_percent"] if verdict else None
    if before is None:
        return None
    worse = 1 + policy["tolerance_percent"] / 100.0
    return round(float(before * worse + policy["accepted_drops_percent"]), 3)


def waits(plan: Plan, policy: Policy) -> bool:
    """Whether policy withholds the restart that the plan needs."""
    return plan["restart_required"] and not policy["restart_ok"]


def weak_evidence(plan: Plan, policy: Policy) -> str | None:
    """Why this host can't prove a change as the policy wants it, or None."""
    if policy["evidence"] != "counters" or plan["layout"] is None or plan["metrics_file"]:
        return None
    return (
        "falco_tune_evidence is counters, and this host would have none: %s; set falco_tune_evidence to "
        "auto for it. "
        "Nothing was changed."
        % (
            "falco_tune_metrics is false"
            if not policy["metrics"]
            else "Falco %s writes no metrics to a file, or too seldom for falco_tune_healthy_deadline"
            % plan["release"]
        )
    )


DIGESTED = ("content", "target", "layout", "expected", "host_files", "directories", "sysctls")


def digest(request: Request) -> str:
    """What tells one change that is kept from another: all that would be written, and what it would be
    written over."""
    part = {name: value for name, value in request.items() if name in DIGESTED}
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode("utf-8")).hexdigest()


def _seen(facts: Facts) -> SeenRecord:
    """The host's record as the facts show it: a plan from older facts is not made."""
    record = facts["host"]["record"]
    if not record:
        return {"at": None, "tried": None}
    tried = record["attempts"][-1]["at"] if record["attempts"] else None
    return {"at": record["at"] or None, "tried": tried or None}


def attempt(plan: Plan) -> dict[str, Any] | None:
    """What the host is to remember of the step that is taken."""
    step = plan["step"]
    if step is None:
        return None
    made: dict[str, Any] = {
        "step": step["name"],
        "to": step["to"],
        "release": plan["release"],
        "before": effects.measured(plan["verdict"]),
    }
    if step["predicted"] is not None:
        made["predicted"] = step["predicted"]
    if step["calls"] is not None:
        made["calls"] = step["calls"]
    made.update({name: step[name] for name in ("replaced", "also", "undoes") if step[name]})
    if any("custom_set" in item for item in [step["to"], *(part["to"] for part in step["also"])]):
        made["profile"] = (plan["syscalls"] or {}).get("shares") or {}
        # An audit shows what this selection costs without asking the host for its rules.
        made["coverage"] = sight.digest(plan["coverage"]) if plan["coverage"] else None
    return made


def _rules_files(effective: dict[str, Any]) -> list[str]:
    """Rules files are watched too: what touched them lately may have a reload under way."""
    value = effective.get("rules_files") or effective.get("rules_file") or []
    return [str(item) for item in (value if isinstance(value, list) else [value])]
