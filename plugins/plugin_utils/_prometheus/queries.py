# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus is asked about Falco: a few instant queries for the whole fleet. Pure.

Names of metrics, as recorded from /metrics of Falco 0.38.2 and 0.44.1 (before 0.38 there is no /metrics):

    0.38             falcosecurity_falco_n_evts_total, falcosecurity_falco_n_drops_total; every sample has a
                     label raw_name
    0.39 and newer   falcosecurity_scap_n_evts_total, falcosecurity_scap_n_drops_total
    all              falcosecurity_falco_version_info{version}
"""

from __future__ import annotations

import re

EVENTS = ("falcosecurity_scap_n_evts_total", "falcosecurity_falco_n_evts_total")
DROPS = ("falcosecurity_scap_n_drops_total", "falcosecurity_falco_n_drops_total")
VERSION = "falcosecurity_falco_version_info"
# Which event sources Falco has: 0.38 in the first one, later releases in the second.
SOURCES = "falcosecurity_(falco_evt_source|scap_engine_name)_info"
# Labels of Falco's own. All others are the target's.
OF_FALCO = ("__name__", "raw_name", "version", "evt_source", "engine_name")
DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+", re.ASCII)


def queries(selector: str, window: str, remember: str) -> dict[str, str]:
    """{name: PromQL}. The result of each has one series for each target, but releases and sources.

    selector: label matchers between braces, or ''. window: what counters are compared over. remember: how
    long a target that has gone is known. Durations are Prometheus' own: 15m, 1d.

    known     targets that had a Falco in that time
    age       seconds since the last sample; missing where the last scrape failed
    releases  the label version tells Falco's release
    sources   event sources beside system calls
    down      targets whose last scrape failed
    samples   of the event counter in the window
    events, drops   increases in the window; of targets only whose counter is there now
    """
    return {
        "known": _whole("last_over_time(%s[%s])" % (_series(VERSION, selector), remember)),
        "age": _whole("time() - timestamp(%s)" % _series(VERSION, selector), "min"),
        "releases": _series(VERSION, selector),
        "sources": '{__name__=~"%s",evt_source!="",evt_source!="syscall"%s}'
        % (SOURCES, "," + selector if selector else ""),
        "down": "%s == 0" % _series("up", selector),
        "samples": _either("count_over_time", EVENTS, selector, window),
        "events": _either("increase", EVENTS, selector, window),
        "drops": _either("increase", DROPS, selector, window),
    }


def _series(name: str, selector: str) -> str:
    return "%s{%s}" % (name, selector) if selector else name


def _whole(expression: str, by: str = "max") -> str:
    """Without the labels of Falco's own: an upgrade within the time is one target."""
    return "%s without (raw_name, version) (%s)" % (by, expression)


def _either(function: str, names: tuple[str, ...], selector: str, window: str) -> str:
    """The function over the counter by its name now or in 0.38. A series that has ended is left out: its
    target may have another name now."""
    parts = (
        "max without (raw_name) (%s(%s[%s]) and %s)" % (function, series, window, series)
        for series in (_series(name, selector) for name in names)
    )
    return " or ".join(parts)
