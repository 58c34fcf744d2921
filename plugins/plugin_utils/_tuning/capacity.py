# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU time and counters → what the thread that reads events can do, what it had to do, and what would help.

Falco reads all events in one thread. Over a time in which events are lost:

    capacity    events taken in for each second on a CPU
    demand      events produced a second, lost ones included
    factor      demand / capacity: the CPUs that the load needs. One thread can use one

The thread is on a CPU, waits for one (a quota's throttling is a part of that), or idles. With a share s of
a CPU it takes in s / factor of the events, so the loss has parts, each with its own cure:

    overload    1 - 1 / factor: lost on a whole CPU, too
    waiting     what the time on a CPU would save that its neighbours have
    quota       what the time would save for which a quota keeps it off
    bursts      the rest: it has idle time, so the events came faster than the rings could hold them

Measured on Falco 0.44.1, two CPUs: beside ten busy processes it was on a CPU for 14 % of the time, waited for
87 % and lost 84 % of 568,000 events/s: capacity 650,000, factor 0.87, all of it lost to waiting. At nice -10
it lost nothing, and took in 730,000 events for each second on a CPU. With sixty needless rules it was on for
82 % and waited for 18 %, lost 94 %: factor 14; neither buffers nor a smaller selection changed that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import (
    Capacity,
    Facts,
    Losing,
    Lost,
    Window,
)

NUMBERS = ("demand", "capacity", "factor", "factor_alone", "on", "waiting", "throttled", "idle", "seconds")
CURES = ("bursts", "quota", "waiting", "overload")

# A look at the whole life of a process says little about now when that life is long, seconds.
LONG_LIFE = 86400.0
# CPU seconds from the start of the process to the first event, and how far a real one was from that: 1.3 with
# few rules to 2.2 with many (0.44.1).
START = 1.5
START_ERROR = 0.7
# CPU time with a larger error than this share of it is not taken where a look is there.
MOST_ERROR = 0.5
# Counters since the start and CPU time since the start are of one time if they differ by this share at most.
SAME_LIFE = 0.1
# The most that events in the rings count as an error: with no other estimate, this one is still taken.
MOST_HELD = 0.4
# How much more than on the whole the thread may have waited while events were lost.
MOST_SCALE = 3.0


class Use(NamedTuple):
    """Use of the CPU in percent of the time; None where it is unknown. on, waiting: of the thread that reads
    events, where the host tells it apart. throttled is a part of waiting. process: on, of all threads.

    seconds, look: what it was observed over, or why it is unknown.
    """

    on: float | None
    waiting: float | None
    throttled: float | None
    process: float | None
    seconds: float | None
    look: str


def use(facts: Facts) -> Use:
    """Between two audits where there were two; since its start where that was within a day; else as two looks
    saw it. Of a life that began before the window, the time that the thread waited in the window."""
    seen, age, reader = facts["falco"]["cpu"], facts["falco"]["age"], facts["falco"]["cpu"]["reader"]
    looked = Use(
        seen["on"] if reader["on"] is None else reader["on"],
        seen["waiting"] if reader["waiting"] is None else reader["waiting"],
        seen["throttled"],
        seen["on"],
        seen["seconds"],
        seen["look"] or "in a look of %.3g s" % (seen["seconds"] or 0),
    )
    if seen["look"] and seen["on"] is not None:
        return looked
    # A short window in a long life: what Falco does now counts.
    window = facts["metrics"]["seconds"]
    recent = seen["on"] is not None and window and age and age > 2 * window + 60
    whole = life(facts)
    if whole and age and age <= LONG_LIFE and not recent:
        return _in_window(whole, looked, age, window or age)
    if seen["on"] is not None:
        return looked
    return Use(None, None, None, None, None, seen["reason"] or "not observed")


def _in_window(whole: Use, looked: Use, age: float, window: float) -> Use:
    """A life with the share of the window for which the thread waited: that of the look, as far as the life
    allows it.

    A load may have begun after Falco did. Seen on a real one beside ten busy neighbours: 78 % since its
    start, 84 % under the load, and the idle time before it looked like bursts that larger rings would hold.
    """
    if whole.waiting is None or looked.waiting is None or window >= age:
        return whole
    waited, before = whole.waiting / 100.0 * age, age - window
    least, most = max(0.0, waited - before), min(window, waited)
    waiting = 100.0 * min(max(looked.waiting / 100.0 * window, least), most) / window
    return whole._replace(waiting=round(waiting, 2), look="since its start (waiting: in the window)")


def life(facts: Facts) -> Use | None:
    """Since its start, however long that was ago; None where it is unknown."""
    total, age, reader = (
        facts["falco"]["cpu"]["total"],
        facts["falco"]["age"],
        facts["falco"]["cpu"]["reader"],
    )
    if not total or total["on"] is None or not age:
        return None
    apart = reader["total_on"] is not None
    return Use(
        _share(reader["total_on"] if apart else total["on"], age),
        _share(reader["total_waiting"] if apart else total["waiting"], age),
        _share(total["throttled"], age),
        _share(total["on"], age),
        round(age, 1),
        "since its start",
    )


def _share(seconds: float | None, age: float) -> float | None:
    return None if seconds is None else round(100.0 * seconds / age, 2)


def of(facts: Facts, seen: Use, room: float | None = None, held: float = 0.0) -> Capacity | None:
    """The capacity of a measured host that loses events. None where its use of the CPU is unknown.

    seen: as use(). room: events that the largest ring buffers hold beyond the present ones, where that is
    known. held: events that the present ones may hold.
    """
    window = facts["metrics"]
    if not window["events"] or not window["drops"] or not window["seconds"]:
        return None
    capacity = _capacity(facts, window, seen, held)
    if not capacity:
        return None
    losing = window["losing"]
    seconds = losing["seconds"] if losing else window["seconds"]
    events = losing["events"] if losing else window["events"]
    drops = losing["drops"] if losing else window["drops"]
    on = (events - drops) / seconds / capacity
    if on > 1:
        # It did more than it can: the capacity was understated.
        capacity, on = capacity * on, 1.0
    quota = facts["service"]["limits"]["cpu_quota"]
    waiting, throttled = _waiting(seen, on, quota)
    factor = events / seconds / capacity
    alone = _alone(factor, on, waiting - throttled, facts["cpus"]["online"])
    lost = _parts(factor, alone, on, waiting, throttled)
    if losing and room is not None and _mean_factor(window, capacity) < 1:
        lost = _in_rings(lost, losing, room)
    scale = (window["drops_percent"] or 0.0) / max(sum(lost), 1e-9)
    return {
        "demand": round(events / seconds, 1),
        "capacity": round(capacity, 1),
        "factor": round(factor, 3),
        "factor_alone": round(alone, 3),
        "on": round(100 * on, 1),
        "waiting": round(100 * waiting, 1),
        "throttled": round(100 * throttled, 1),
        "idle": round(100 * max(0.0, 1 - on - waiting), 1),
        "seconds": round(seconds, 1),
        "lost": _lost(*(round(part * scale, 3) for part in lost)),
    }


def _lost(bursts: float, quota: float, waiting: float, overload: float) -> Lost:
    return {"bursts": bursts, "quota": quota, "waiting": waiting, "overload": overload}


def _capacity(facts: Facts, window: Window, seen: Use, held: float) -> float | None:
    """Events taken in for each second on a CPU, from counters and CPU time of the same time.

    Falco's own figure is of exactly the window. Where it is too coarse (a long life), the counters and the
    CPU time since the start are of one time. Else the look stands for the window.
    """
    events, drops, seconds = window["events"] or 0, window["drops"] or 0, window["seconds"] or 0.0
    taken = (events - drops) / seconds
    if taken <= 0:
        return None
    own, error = window["falco_cpu_percent"], window["falco_cpu_error"]
    between = facts["falco"]["cpu"]["look"]
    known: list[tuple[float, float]] = []  # (share that may be wrong, capacity)
    if not between:
        if own and error is not None:
            known.append((error / own, 100.0 * taken / (own * _of_the_reader(facts))))
        known += _since_start(facts, window, held)
    wrong, best = min(known, default=(1.0, 0.0))
    if best and wrong <= MOST_ERROR:
        return best
    if not seen.on:
        return 100.0 * taken / own if own else None
    return 100.0 * taken / seen.on


def _of_the_reader(facts: Facts) -> float:
    """The share of the process's CPU time that the thread takes that reads events."""
    total, reader = facts["falco"]["cpu"]["total"], facts["falco"]["cpu"]["reader"]
    if not total or not total["on"] or not reader["total_on"]:
        return 1.0
    return min(1.0, reader["total_on"] / total["on"])


def _since_start(facts: Facts, window: Window, held: float) -> list[tuple[float, float]]:
    """[(share that may be wrong, capacity)] by all that it did since its start, or [].

    What the rings hold was not lost, and not taken in either: of few events that is a large share.
    """
    since, total, age = window["since_start"], facts["falco"]["cpu"]["total"], facts["falco"]["age"]
    reader = facts["falco"]["cpu"]["reader"]["total_on"]
    if not since or not total or not total["on"] or not age or age > LONG_LIFE:
        return []
    lag = (window["age"] or 0.0) + since["seconds"] - age
    if abs(lag) > max(5.0, SAME_LIFE * age):
        return []  # it was reloaded since
    on = (total["on"] if reader is None else reader) - START
    kept = since["events"] - since["drops"]
    if on <= 0 or kept <= 0:
        return []
    return [(START_ERROR / on + min(MOST_HELD, held / kept), kept / since["seconds"] * age / on)]


def _waiting(seen: Use, on: float, quota: float | None) -> tuple[float, float]:
    """(waiting, throttled) as shares of the time in which events were lost; throttled is a part of waiting.

    on: the share in that time. How long the thread waits for each second on a CPU was seen over a longer
    time.
    """
    waiting, throttled = seen.waiting or 0.0, 0.0
    if quota:
        if seen.throttled is not None:
            throttled = seen.throttled
        elif 100 * on >= 0.85 * min(quota, 100.0):
            throttled = 100.0 - min(quota, 100.0)
    # Linux 6.18 counts throttled time as waiting; older kernels may not.
    waiting = max(waiting, throttled)
    # It does not wait less while it loses events than on the whole.
    scale = min(MOST_SCALE, max(1.0, 100.0 * on / seen.on)) if seen.on else 1.0
    room = max(0.0, 1.0 - on)
    waiting, throttled = (min(room, scale * share / 100.0) for share in (waiting, throttled))
    return waiting, throttled


def _alone(factor: float, on: float, waiting: float, cpus: int | None) -> float:
    """The factor once Falco's thread need not wait: what it gets more, its neighbours get less, and they make
    the events. Seen on two CPUs: 568,000 events/s beside a starved Falco, 440,000 beside one that keeps up.
    """
    if not cpus or cpus <= on or waiting <= 0:
        return factor
    wanted = factor * cpus / (cpus - on + factor)
    return wanted if wanted <= 1 else factor * max(0.0, cpus - 1) / (cpus - on)


def _parts(
    factor: float, alone: float, on: float, waiting: float, throttled: float
) -> tuple[float, float, float, float]:
    """Shares of the events that are lost: bursts, quota, waiting, overload."""

    def lost(share: float) -> float:
        return max(0.0, 1.0 - share / factor)

    all_lost = max(0.0, 1.0 - on / factor)
    overload = min(all_lost, max(0.0, 1.0 - 1.0 / alone)) if alone else 0.0
    without_quota = 1.0 - (waiting - throttled)
    by_waiting = min(all_lost - overload, max(0.0, lost(without_quota) - overload))
    by_quota = min(all_lost - overload - by_waiting, lost(1.0 - waiting) - lost(without_quota))
    return all_lost - overload - by_waiting - by_quota, by_quota, by_waiting, overload


def _mean_factor(window: Window, capacity: float) -> float:
    return (window["events"] or 0) / (window["seconds"] or 1.0) / capacity


def _in_rings(
    lost: tuple[float, float, float, float], losing: Losing, room: float
) -> tuple[float, float, float, float]:
    """Bursts are what rings can hold, however long they last; what they can't hold is overload.

    On the whole the thread has the time. A burst lost at most what an interval lost; where only some
    intervals lose events, few have more than one burst. Where all do, the length of a burst is unknown.
    """
    bursts, quota, waiting, overload = lost
    burst = overflow(losing)
    if burst is None:
        return lost
    held = min(1.0, room / burst)
    both = bursts + overload
    return both * held, quota, waiting, both * (1 - held)


def overflow(losing: Losing) -> float | None:
    """Events that one burst loses at most, or None: where all intervals lose events, the length of a burst is
    unknown. Where some do, few of them have more than one burst."""
    share = losing["intervals"][0] / losing["intervals"][1]
    if share >= 1 or not losing["most"]:
        return None
    return losing["most"] * share / -math.log(1 - share)


def lost_after(found: Capacity, ratio: float = 1.0, alone: bool = False) -> float:
    """Percent of the events that are lost for want of CPU time once the demand is `ratio` of what it is.

    alone: with a CPU of its own as well. Losses in bursts are not in it.
    """
    factor = ratio * (found["factor_alone"] if alone else found["factor"])
    share = 1.0 if alone else 1.0 - found["waiting"] / 100.0
    return 100.0 * max(0.0, 1.0 - share / factor) if factor > 0 else 0.0
