# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one message that falco_config sends to a host: what to write, what to expect, what proves it."""

from __future__ import annotations

import hashlib
import json
import posixpath

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import changes, policies
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases


def scrape_url(settings, release, early=True):
    """The host's own /metrics where this release serves it, and, if early, survives being asked before capture. '' otherwise."""
    if not release.prometheus or (early and not release.scrape_before_capture):
        return ""

    def value(name):
        return configuration.value_in_force(settings, name, release)["value"]

    if not (
        value("webserver.enabled")
        and value("webserver.prometheus_metrics_enabled")
        and value("metrics.enabled")
    ):
        return ""
    address = value("webserver.listen_address") or "127.0.0.1"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    if ":" in address:
        address = "[%s]" % address
    if value("webserver.ssl_enabled"):
        return ""
    return "http://%s:%d/metrics" % (address, value("webserver.listen_port"))


def _load_order(facts, plan):
    """Fragments in the order in which Falco will load them, the plan's own among them."""
    config = facts["config"]
    order = [
        {name: item[name] for name in ("path", "strategy", "entry")}
        for item in config["files"]
        if item["entry"] >= 0
    ]
    if plan["layout"] == "dropin" and plan["target"] not in [item["path"] for item in order]:
        entry = next(
            item for item in reversed(config["folders"]) if item["path"] == posixpath.dirname(plan["target"])
        )
        order.append({"path": plan["target"], "strategy": entry["strategy"], "entry": entry["entry"]})
        order.sort(key=lambda item: (item["entry"], item["path"]))
    return [{"path": item["path"], "strategy": item["strategy"]} for item in order]


def pending(host_files, facts, policy, plan):
    """Changes to the files outside Falco's own: those that are not on the host as they were last written there.

    The unit's drop-in is left to the plan where that names its lines one by one.
    """
    found = (facts.get("host") or {}).get("files") or {}
    named = changes.has(plan["changes"], "unit")
    found_changes = []
    for item in host_files:
        if named and item["path"].startswith("/etc/systemd/"):
            continue
        now = found.get(policy["host_root"].rstrip("/") + item["path"])
        if now != hashlib.sha256(item["content"].encode("utf-8")).hexdigest():
            found_changes.append(
                changes.change(
                    "file", item["path"], "something else" if now else None, "written", item.get("why", "")
                )
            )
    return found_changes


def build(state, plan, facts, policy, content, host_files):
    """The request for one host. Plain data.

    stage: the digest under which the change is kept instead of made. proof: of the change that state proven looks at again.
    """
    request = {
        "state": state,
        "host_root": policy["host_root"],
        "state_dir": policy["state_dir"],
        "unit": policy["unit"],
        "apply": policy["apply"],
        "rollback_to": policy["rollback_to"],
        "content": "",
        "layout": None,
        "target": "/nonexistent",
        "main": None,
        "expected": {},
        "watched": [],
        "load_order": [],
        "host_files": [],
        "directories": [],
        "sysctls": {},
        "stage": "",
        "proof": None,
        "auto_revert": policy["auto_revert"],
        "selected": None,
        "restart": False,
        "adopt": False,
        "dry_run": "--dry-run",
        "version": None,
        "attempt": None,
        "before": None,
        "watch": {
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
    if state in ("rolled_back", "proven") or plan["layout"] is None:
        return request  # what the host's own records say is enough
    config = facts["config"]
    release = releases.release_for(facts["falco"]["version"])
    after = dict(config["effective"], **plan["settings"])
    reloads = config["watch"] and release.reload_on_rename
    request.update(
        apply=policy["apply"] if reloads else "restart",
        content=content if plan["settings"] else "",
        layout=plan["layout"],
        target=plan["target"],
        main=config["order"][0],
        expected={item["path"]: item["sha256"] for item in config["files"]},
        watched=[item["path"] for item in config["folders"]] + _rules(after),
        load_order=_load_order(facts, plan),
        host_files=host_files,
        directories=plan["directories"],
        sysctls=plan["sysctls"],
        restart=plan["restart_required"],
        dry_run=release.dry_run,
        version=facts["falco"]["version"],
        selected=_selected(plan),
        adopt=_adopts(plan),
        **_measured(plan),
    )
    request["watch"].update(
        metrics_file=plan["metrics_file"] or "",
        scrape_url=scrape_url(after, release),
        driver=plan["driver"],
        buffers={"count": plan["buffers"]["count"], "bytes_each": plan["buffers"]["bytes_each"]},
        unit_settings={
            name: value
            for name, value in (plan["unit_dropin"] or {}).items()
            if name in ("Nice", "CPUWeight", "CPUQuota")
        },
        drops_at_most=None if _adopts(plan) else drops_at_most(plan["verdict"], policy),
    )
    return request


def _adopts(plan):
    """Whether what runs already is to be proven anew."""
    return changes.has(plan["changes"], "record")


def _selected(plan):
    """What the host's own dry run must select, where the plan changes that; else None."""
    differs = any(
        change["kind"] == "config" and change["key"].startswith("base_syscalls.")
        for change in plan["changes"]
    )
    return plan["syscalls"]["selected"] if differs else None


def drops_at_most(verdict, policy):
    """Percent of events that a host may lose after its change and not be worse than before; None where nothing was measured before."""
    before = (verdict or {}).get("drops_percent")
    if before is None:
        return None
    return round(before * (1 + policy["tolerance_percent"] / 100.0) + policy["accepted_drops_percent"], 3)


def weak_evidence(plan, policy):
    """Why this host can't prove a change as the policy wants it, or None."""
    if policy["evidence"] != "counters" or plan["layout"] is None or plan["metrics_file"]:
        return None
    return (
        "falco_tune_evidence is counters, and this host would have none: %s; set falco_tune_evidence to auto for it. "
        "Nothing was changed."
        % (
            "falco_tune_metrics is false"
            if not policy["metrics"]
            else "Falco %s writes no metrics to a file" % plan["release"]
        )
    )


def digest(request):
    """What tells one change that is kept from another: all that would be written, and what it would be written over."""
    part = {
        name: request[name]
        for name in ("content", "target", "layout", "expected", "host_files", "directories", "sysctls")
    }
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode("utf-8")).hexdigest()


def _measured(plan):
    """What the host is to remember: what was measured before this change, and which step it is."""
    verdict, step = plan["verdict"], plan["step"]
    before = {name: verdict[name] for name in ("state", "drops_percent", "rate_per_cpu", "bottleneck")}
    if verdict["drops_percent"] is None:
        before = None
    attempt = (
        {"step": step["name"], "to": step["to"], "release": plan["release"], "before": before}
        if step
        else None
    )
    return {"attempt": attempt, "before": before}


def _rules(effective):
    """Rules files are watched too: what touched them lately may have a reload under way."""
    value = effective.get("rules_files") or effective.get("rules_file") or []
    return [str(item) for item in (value if isinstance(value, list) else [value])]
