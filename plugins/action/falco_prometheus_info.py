# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""falco_prometheus_info: asks a Prometheus about the hosts of a play, and says which of them to visit.

Or finds the one host that an alert is about. Whoever can send an alert writes its labels, so they are read
without templating them, and must name one host and nothing else.
"""

from __future__ import annotations

import ipaddress
import os
import re
import time

from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import prometheus_api
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.arguments import (
    ArgumentError,
    Arguments,
    options_of,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action.prometheus_api import OptionError
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import monitored, queries, visits
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import fitted, some, visible

ARGUMENTS = Arguments("falco_prometheus_info")
# Of the inventory plugin. Which hosts are asked about is the play's business here.
OPTIONS = Arguments("prometheus", ("plugin", "hosts"), "inventory")
ENVIRONMENT = {
    name: [item["name"] for item in option.get("env", [])]
    for name, option in options_of("prometheus", "inventory").items()
}
FACT, ALERTED = "falco_prometheus", "falco_alerted"
# What is passed on of a host: no labels, which are large and others' text.
PASSED = ("state", "reason", "release", "age", "events", "drops", "drops_percent")
# Names that are patterns of themselves, as a play's hosts have to be.
PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)


class ActionModule(ActionBase):
    """Asks from the controller. Runs on no host."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = False

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        result["changed"] = False
        try:
            given = ARGUMENTS.check(self._task.args)
            names = given["hosts"]
            if names is None:
                names = task_vars.get("ansible_play_hosts_all") or []
            names = [str(name) for name in names]
            if given["alert"]:
                found = _alerted(given["alert"], names, given["options"], task_vars)
                return dict(result, ansible_facts={ALERTED: found})
            found = _everything()
            if given["url"]:
                options = _options(given["url"], given["options"])
                found = _asked(options, names, given, task_vars["hostvars"])
        except (ArgumentError, OptionError) as error:
            return dict(result, failed=True, msg=str(error))
        warnings = found.pop("warnings")
        if warnings:
            result["warnings"] = warnings
        return dict(result, ansible_facts={FACT: found})


def _everything(where=None, problem=None):
    """The answer where Prometheus is not asked or cannot be: every host is visited."""
    warnings = ["%s; every host is visited" % problem] if problem else []
    return {
        "server": where,
        "problem": problem,
        "hosts": None,
        "sample": [],
        "left": {},
        "warnings": warnings,
    }


def _options(url, given):
    """The options of the inventory plugin, complete and checked. Raises ArgumentError or OptionError."""
    for name, variables in ENVIRONMENT.items():
        values = [os.environ[variable] for variable in variables if os.environ.get(variable)]
        if values and name not in given:
            given = {**given, name: values[0]}
    return OPTIONS.check({**given, "url": url})


def _asked(options, names, given, hostvars):
    """The answer of Prometheus."""
    naming, limits = prometheus_api.naming(options, {}), prometheus_api.limits(options)
    server = prometheus_api.Server(options)
    try:
        answers = server.answers(queries.queries(options["selector"], limits.window, limits.remember))
    except prometheus_api.ServerError as error:
        return _everything(server.where, str(error))
    found = monitored.judge(answers, naming, limits)
    strangers = set(found.hosts) - set(names)
    if strangers:
        naming = prometheus_api.naming(options, _aliases(names, hostvars))
        found = monitored.judge(answers, naming, limits)
        strangers = set(found.hosts) - set(names)
    hour = int(time.time() // 3600)
    chosen = visits.choose(names, found.hosts, given["visit"], options["sample_percent"], hour)
    warnings = [
        "%s: %s: %s" % (server.where, what, some(who))
        for what, who in (
            ("targets whose name_labels give no name of a host are left out", found.nameless),
            ("hosts that are not in this play are left out", sorted(strangers)),
        )
        if who
    ]
    all_of_them = not chosen.left or not all(map(_is_plain, chosen.hosts))
    return {
        "server": server.where,
        "problem": None,
        "hosts": None if all_of_them else chosen.hosts,
        "sample": chosen.sample,
        "left": {}
        if all_of_them
        else {name: {key: host[key] for key in PASSED} for name, host in chosen.left.items()},
        "warnings": warnings,
    }


def _alerted(variable, names, given, task_vars):
    """{'hosts': [the host that an alert is about]}. Raises ArgumentError or OptionError.

    variable: the name of what ansible-rulebook passes for one event. names: of the inventory's hosts.
    """
    labels = task_vars.get(variable)
    for key in ("event", "alert", "labels"):
        labels = _untrusted.dictionary(labels).get(key)
    labels = {key: str(text) for key, text in _untrusted.dictionary(labels).items() if isinstance(text, str)}
    if not labels:
        raise ArgumentError(
            "the variable %s has no event.alert.labels: expected what ansible-rulebook passes for an alert "
            "of ansible.eda.alertmanager" % variable
        )
    options = OPTIONS.check({**given, "url": ""})
    name = prometheus_api.naming(options, {}).name(labels)
    if name is not None and name not in names:
        name = prometheus_api.naming(options, _aliases(names, task_vars["hostvars"])).name(labels)
    told = ", ".join(
        "%s=%s" % (key, visible(fitted(labels.get(key, ""), 100))) for key in options["name_labels"]
    )
    if name is None or name not in names:
        raise ArgumentError("no host of the inventory has the name that the alert's labels give (%s)" % told)
    if name in task_vars["groups"] or not _is_plain(name):
        raise ArgumentError(
            "the alert is about the host %s (%s). As a pattern, this name may mean other hosts too, because "
            "a group has it or because it has special characters. Rename the host" % (name, told)
        )
    return {"hosts": [name]}


def _is_plain(name):
    """Whether a name means this one host where it is a pattern."""
    if PLAIN.fullmatch(name):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _aliases(names, hostvars):
    """{ansible_host: name}, where no other host has the same one."""
    found, known = {}, set(names)
    for name in names:
        address = hostvars.raw_get(name).get("ansible_host")
        if isinstance(address, str) and address not in known:
            found.setdefault(str(address), []).append(name)
    return {address: owners[0] for address, owners in found.items() if len(owners) == 1}
