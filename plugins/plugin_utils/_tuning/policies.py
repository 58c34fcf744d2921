# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy: every choice a user can make, its default, its range, and what is said about a wrong one.

Role variables are these names behind ``falco_tune_``. Defaults live here and in the role's defaults/main.yml;
a test holds the two together.
"""

from __future__ import annotations

import re
from functools import lru_cache
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Policy
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import configuration
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.words import DRIVERS, PRIORITIES
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import auditor
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import hint
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import buffers


class PolicyError(ValueError):
    """A wrong policy: names the key, what was found, what was expected and what to do."""


class Option:
    """One policy key: its default and a check that returns the value to use or raises ValueError with what it
    wants. secret: the value may hold a password by mistake, so no message shows it."""

    def __init__(self, default: Any, check: Callable[[Any], Any], secret: bool = False) -> None:
        self.default = default
        self.check = check
        self.secret = secret


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "yes", "on", "1"):
        return True
    if str(value).lower() in ("false", "no", "off", "0"):
        return False
    raise ValueError("true or false")


def _number(low: float, high: float, kind: type = float) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        wanted = "a number from %s to %s" % (low, high)
        if isinstance(value, bool):
            raise ValueError(wanted)
        try:
            number = kind(str(value))
        except ValueError:
            raise ValueError(wanted) from None
        if not low <= number <= high:
            raise ValueError(wanted)
        return number

    return check


def _integer(low: int, high: int) -> Callable[[Any], Any]:
    return _number(low, high, int)


def _auto_or(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def inner(value: Any) -> Any:
        if value == "auto":
            return value
        try:
            return check(value)
        except ValueError as error:
            raise ValueError("auto, or %s" % error) from None

    return inner


def _choice(*values: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in values:
            raise ValueError("one of %s" % ", ".join(values))
        return value

    return check


def _path(value: Any) -> str:
    if not isinstance(value, str) or (value and not value.startswith("/")) or "\n" in value or "\0" in value:
        raise ValueError("an absolute path")
    return value.rstrip("/") if value != "/" else ""


def _place(value: Any) -> str:
    path = _path(value)
    if not path:
        raise ValueError("an absolute path below /")
    return path


def _fragment_name(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"^[A-Za-z0-9][A-Za-z0-9._-]*\.ya?ml\Z", value):
        raise ValueError("a file name such as zz-falcotune.yaml")
    if value <= "engine-kind-falcoctl.yaml":
        raise ValueError(
            "a file name that sorts after engine-kind-falcoctl.yaml, or the package's own file overrides it "
            "(digits sort before letters)"
        )
    return value


def _unit(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"^[A-Za-z0-9:_.@-]*\Z", value):
        raise ValueError("the name of a systemd unit, such as falco-modern-bpf.service")
    return value


_UNITS = (
    ("y", 31536000000),
    ("w", 604800000),
    ("d", 86400000),
    ("h", 3600000),
    ("m", 60000),
    ("s", 1000),
    ("ms", 1),
)
_INTERVAL = re.compile("^%s$" % "".join(r"(?:(\d+)%s)?" % unit for unit, dummy in _UNITS))


# Characters of a duration. Python refuses to read numbers of thousands of digits.
LONGEST_DURATION = 100


def duration_ms(text: object) -> int:
    """Falco's interval grammar, '1h30m' → milliseconds; 0 where Falco would not read it
    (userspace/falco/app/actions)."""
    return _duration_ms(str(text)[:LONGEST_DURATION])


# A fleet has a few durations.
@lru_cache(maxsize=256)
def _duration_ms(text: str) -> int:
    match = _INTERVAL.match(re.sub(r"\s", "", text))
    if not match:
        return 0
    return sum(int(part) * width for part, (dummy, width) in zip(match.groups(), _UNITS, strict=True) if part)


def _interval(value: Any) -> str:
    # 200 ms: at 100 ms the timer interrupts program loading on 0.38 and Falco does not start (recorded).
    if duration_ms(value) < 200:
        raise ValueError("a Falco duration of at least 200ms with its unit, such as 30s or 5m")
    return str(value)


def _classes(value: Any) -> list[dict[str, int]]:
    checks = {
        "min_cpus": _integer(1, 65536),
        **{driver: _integer(1, 10) for driver in DRIVERS},
        "cpus_for_each_buffer": _integer(0, 65535),
    }
    wanted = "a list of {%s}" % ", ".join(checks)
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(wanted)
    found = []
    for item in value:
        if not isinstance(item, dict) or set(item) != set(checks):
            raise ValueError(wanted)
        try:
            found.append({name: check(item[name]) for name, check in checks.items()})
        except ValueError as error:
            raise ValueError("%s, with presets from 1 to 10 (%s)" % (wanted, error)) from None
    if min(item["min_cpus"] for item in found) != 1:
        raise ValueError("%s whose first class starts at min_cpus: 1" % wanted)
    return found


def _serial(value: Any) -> list[Any]:
    items = value if isinstance(value, list) else [value]
    for item in items or [None]:
        match = re.match(r"^([0-9]+)(%?)\Z", str(item))
        if not match or int(match.group(1)) < 1 or (match.group(2) and int(match.group(1)) > 100):
            raise ValueError("a number of hosts from 1, a percentage from 1% to 100%, or a list of those")
    return items


def _budget(value: Any) -> Any:
    if isinstance(value, bool) or not re.match(r"^([0-9]+|(100|[0-9]{1,2})%)\Z", str(value)):
        raise ValueError("a number of hosts from 0, or a percentage of the changing hosts from 0% to 100%")
    return value


def _variable(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"^([A-Za-z_][A-Za-z0-9_]*)?\Z", value):
        raise ValueError(
            "the name of a variable of the hosts whose value is the host's failure domain, such as rack, "
            "without braces"
        )
    return value


SOURCES = ("metrics_file", "alerts_file", "journal", "syslog", "prometheus")


def _sources(value: Any) -> list[str]:
    value = [value] if isinstance(value, str) else value
    if (
        not isinstance(value, (list, tuple))
        or not value
        or not set(value) <= set(SOURCES)
        or len(set(value)) != len(value)
    ):
        raise ValueError("a list of %s, each at most once" % ", ".join(SOURCES))
    return list(value)


def _names(value: Any) -> list[str]:
    value = [value] if isinstance(value, str) and value else value
    if value in ("", None):
        return []
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(item, str) and item.strip() for item in value
    ):
        raise ValueError("a list of names")
    return [item.strip() for item in value]


# Kinds of findings that keep Falco from starting, or that are not about a rule.
NOT_OF_A_RULE = ("syntax", "unknown_event", "unneeded_plugin")


def _findings(value: Any) -> list[str]:
    names = _names(value)
    known = [kind for kind in auditor.KINDS if kind not in NOT_OF_A_RULE]
    if not set(names) <= set(known):
        raise ValueError("a list of kinds of findings: %s" % ", ".join(known))
    return names


def _base_syscalls(value: Any) -> dict[str, Any]:
    wanted = (
        "a mapping with any of custom_set (a list of system calls, !name excludes one), repair and all "
        "(true or false)"
    )
    if not isinstance(value, dict) or not set(value) <= {"custom_set", "repair", "all"}:
        raise ValueError(wanted)
    try:
        checks = {"custom_set": _names, "repair": _bool, "all": _bool}
        return {name: checks[name](item) for name, item in value.items()}
    except ValueError:
        raise ValueError(wanted) from None


def _profile_seconds(value: Any) -> Any:
    wanted = "0, or a number from 0.5 to 60"
    try:
        seconds = _number(0, 60)(value)
    except ValueError:
        raise ValueError(wanted) from None
    if 0 < seconds < 0.5:
        raise ValueError(wanted)
    return seconds


def _size(value: Any) -> str:
    if not re.match(r"^[1-9][0-9]*[kMG]?\Z", str(value)):
        raise ValueError("a size as logrotate reads it, such as 20M")
    return str(value)


def _history(value: Any) -> str:
    """Where the history is. It becomes a fact that is logged, so it holds no password."""
    if not isinstance(value, str) or "\n" in value or "\0" in value:
        raise ValueError("the path of an SQLite file, or a connection string of libpq")
    if re.search(r"password\s*=|://[^/@]*:[^/@]*@", value):
        raise ValueError("a connection string without its password, which belongs in ~/.pgpass or PGPASSWORD")
    return value


OPTIONS = {
    # Where things are.
    "host_root": Option("", _path),
    "unit": Option("", _unit),
    "config_file": Option("", _path),
    "state_dir": Option("/var/lib/falcotune", _place),
    "layout": Option("auto", _choice("auto", "dropin", "full")),
    "fragment_name": Option("zz-falcotune.yaml", _fragment_name),
    # Driver and buffers.
    "driver": Option("auto", _choice("auto", *DRIVERS)),
    "buf_size_preset": Option("auto", _auto_or(_integer(1, 10))),
    "cpus_for_each_buffer": Option("auto", _auto_or(_integer(0, 65535))),
    "buffer_classes": Option([dict(item) for item in buffers.DEFAULT_CLASSES], _classes),
    "keep_larger_buffers": Option(True, _bool),
    "memory_share_percent": Option(2, _number(0.01, 100)),
    "available_share_percent": Option(10, _number(0.01, 100)),
    "buffer_max_bytes": Option(0, _integer(0, 1 << 50)),
    # What measuring needs.
    "metrics": Option(True, _bool),
    "metrics_interval": Option("30s", _interval),
    "metrics_dir": Option("/var/log/falco", _place),
    "metrics_rotate_size": Option("20M", _size),
    "metrics_rotate_count": Option(3, _integer(1, 100)),
    "bpf_stats": Option(False, _bool),
    "observe_seconds": Option(1.0, _number(0, 60)),
    "metrics_sources": Option(list(SOURCES), _sources),
    "metrics_max_bytes": Option(2 << 20, _integer(1 << 16, 1 << 30)),
    "window": Option("1h", _interval),
    "prometheus_seconds": Option(60, _number(1, 600)),
    # Read by the roles: Ansible's own time-out of a task.
    "round_trip_seconds": Option(300, _integer(10, 86400)),
    # When a host is judged, and what may be done about it.
    "min_observation": Option(60, _number(1, 30 * 86400)),
    "accepted_drops_percent": Option(1.0, _number(0, 100)),
    "tolerance_percent": Option(20.0, _number(1, 100)),
    "quiet_days": Option(7.0, _number(0, 3650)),
    "rounds": Option(1, _integer(1, 10)),
    "history": Option("", _history, secret=True),
    "priority": Option(True, _bool),
    "nice_ceiling": Option(-10, _integer(-20, 0)),
    "cpu_weight_ceiling": Option(1000, _integer(1, 10000)),
    "unthrottle": Option(False, _bool),
    # Which system calls are watched.
    "syscalls": Option("lossless", _choice("keep", "lossless", "exclude")),
    "exclude_hours": Option(24.0, _number(0, 8760)),
    "excludable_syscalls": Option([], _names),
    "restore_rules": Option(False, _bool),
    "base_syscalls": Option({}, _base_syscalls),
    "required_syscalls": Option([], _names),
    "protected_rules": Option([], _names),
    "protected_tags": Option([], _names),
    "protected_priority": Option("critical", _choice("none", *PRIORITIES)),
    "profile_seconds": Option(5.0, _profile_seconds),
    # Which rules and plugins are disabled.
    "disabled_rules": Option([], _names),
    "disabled_tags": Option([], _names),
    "disabled_findings": Option([], _findings),
    "disabled_plugins": Option([], _names),
    # How a change is applied.
    "restart_ok": Option(True, _bool),
    "apply": Option("restart", _choice("restart", "reload")),
    "healthy_deadline": Option(120, _integer(5, 3600)),
    "min_healthy_time": Option(5, _integer(0, 3000)),
    "rollback_to": Option("previous", _choice("previous", "original")),
    "kept_changes": Option(20, _integer(1, 1000)),
    "evidence": Option("auto", _choice("auto", "counters", "process")),
    "auto_revert": Option(True, _bool),
    # How a fleet is rolled. One rollout has one value of each.
    "canaries": Option(1, _integer(0, 1000)),
    "serial": Option(["10%", "30%"], _serial),
    "max_parallel": Option(0, _integer(0, 100000)),
    "failure_domain": Option("", _variable),
    "domain_share_percent": Option(34, _number(0, 100)),
    "slices": Option("refuse", _choice("refuse", "separate")),
    "failure_budget": Option("10%", _budget),
    "promote": Option("auto", _choice("auto", "manual")),
    "confirm": Option(False, _bool),
    "report_dir": Option("", str),
    # Read by the playbook.
    "hosts": Option("all", str),
}


# What one rollout has one value of, whatever the hosts.
FLEET = (
    "canaries",
    "serial",
    "max_parallel",
    "failure_domain",
    "domain_share_percent",
    "slices",
    "failure_budget",
    "promote",
    "confirm",
    "rounds",
)


_DEFAULTS = {name: option.default for name, option in OPTIONS.items()}
_MUTABLE = tuple(name for name, value in _DEFAULTS.items() if isinstance(value, (dict, list)))

# Variables with the role's prefix that are its results. Roles hand over every falco_tune_ variable of a host.
RESULTS = ("falco_tune_restart_required", "falco_tune_rollout")


def complete(given: Mapping[str, Any] | None, prefix: str = "falco_tune_") -> Policy:
    """The whole policy from what a user gave, checked. Keys may carry the role's prefix. Raises PolicyError.

    The role's own results are no part of it and are left out.
    """
    policy = {**_DEFAULTS, **{name: configuration.copied(_DEFAULTS[name]) for name in _MUTABLE}}
    for key, value in (given or {}).items():
        if key in RESULTS:
            continue
        name = key[len(prefix) :] if key.startswith(prefix) else key
        if name not in OPTIONS:
            raise PolicyError(
                "%s is not a known policy key%s"
                % (key, hint(name, OPTIONS, prefix if key.startswith(prefix) else ""))
            )
        try:
            policy[name] = OPTIONS[name].check(value)
        except ValueError as error:
            found = "of no use" if OPTIONS[name].secret else repr(value)
            raise PolicyError("%s%s is %s: expected %s" % (prefix, name, found, error)) from None
    _check_together(policy, prefix)
    return policy


def _check_together(policy: Policy, prefix: str) -> None:
    """Raise PolicyError where values contradict each other."""
    if policy["min_healthy_time"] >= policy["healthy_deadline"]:
        raise PolicyError(
            "%smin_healthy_time (%d s) must be shorter than %shealthy_deadline (%d s)"
            % (prefix, policy["min_healthy_time"], prefix, policy["healthy_deadline"])
        )
    needed = policy["min_healthy_time"] + 2 * duration_ms(policy["metrics_interval"]) / 1000.0
    if policy["metrics"] and policy["healthy_deadline"] <= needed:
        raise PolicyError(
            "%shealthy_deadline is %d s, but evidence takes two metrics intervals of %s and "
            "%smin_healthy_time of %d s: raise the deadline or shorten the interval"
            % (
                prefix,
                policy["healthy_deadline"],
                policy["metrics_interval"],
                prefix,
                policy["min_healthy_time"],
            )
        )
    measured = policy["prometheus_seconds"] + policy["observe_seconds"] + policy["profile_seconds"]
    if policy["round_trip_seconds"] <= measured:
        raise PolicyError(
            "%sround_trip_seconds is %d s, but measuring alone can take %g s (prometheus_seconds, "
            "observe_seconds and profile_seconds together): raise it or shorten those"
            % (prefix, policy["round_trip_seconds"], measured)
        )
    if duration_ms(policy["window"]) < policy["min_observation"] * 1000:
        raise PolicyError(
            "%swindow (%s) must not be shorter than %smin_observation (%g s): no host would ever be judged"
            % (prefix, policy["window"], prefix, policy["min_observation"])
        )


def buffer_policy(policy: Policy) -> Policy:
    """The part of a policy that buffers.choose() reads."""
    return {
        "classes": policy["buffer_classes"],
        "max_bytes": policy["buffer_max_bytes"],
        **{
            name: policy[name]
            for name in (
                "buf_size_preset",
                "cpus_for_each_buffer",
                "keep_larger_buffers",
                "memory_share_percent",
                "available_share_percent",
            )
        },
    }
