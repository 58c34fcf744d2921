# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco has counted since a moment, for the proof of a change: cheap to ask for four times a second.

Stdlib only, Python 3.6+.
"""

import collections
import json
import os

from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import tail

# Bytes read behind the mark: a minute of snapshots, one a second, of 2 kB each, and room to spare.
MAX_READ = 1 << 22

# ... and before it, for the last snapshot of the run before.
LAST_READ = 1 << 16

# reload_ts: in ns, 0 before 0.41. sample: the number of the snapshot in its run, or None.
Snapshot = collections.namedtuple("Snapshot", "events drops seconds reload_ts sample")

# Events, and seconds, from which the share that was lost says something: one burst is no measurement.
ENOUGH_EVENTS = 1000
ENOUGH_SECONDS = 5


def file_mark(path):
    """Where the metrics file ends now: [inode, size]; [0, 0] where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return [0, 0]
    return [found.st_ino, found.st_size]


def new_snapshots(path, mark, reloaded=False):
    """The syscall snapshots written since the mark; partial and foreign lines are passed over.

    reloaded: only those of a run that a hot reload has begun since; until then Falco writes on with the
    configuration from before.
    → [(scap.n_evts, scap.n_drops, seconds since Falco's start or reload; 0 where it does not say)]
    """
    last = None
    try:
        handle, found = tail.open_regular(path)
    except tail.Refused:
        return []
    try:
        with os.fdopen(handle, "rb") as stream:
            if found.st_ino == mark[0] and found.st_size >= mark[1]:
                stream.seek(max(0, mark[1] - LAST_READ))
                last = (_snapshots(stream.read(min(mark[1], LAST_READ))) or [None])[-1]
            data = stream.read(MAX_READ)
    except OSError:
        return []
    snapshots = _snapshots(data)
    if reloaded and found.st_ino == mark[0]:
        # A file that was not there at the mark is not the one that Falco wrote to before.
        snapshots = _of_a_new_run(snapshots, last)
    return [(item.events, item.drops, item.seconds) for item in snapshots]


def _of_a_new_run(snapshots, last):
    """The snapshots from the first one on that is not of the run before it. last: the one before them, or
    None.

    A hot reload keeps falco.start_ts. It sets falco.reload_ts (since 0.41), and counters and samples begin
    anew.
    """
    for number, item in enumerate(snapshots):
        if last is None:
            new = item.sample is not None and item.sample <= 1
        elif item.reload_ts and last.reload_ts:
            new = item.reload_ts != last.reload_ts
        else:
            new = item.events < last.events or (item.sample or 0) < (last.sample or 0)
        if new:
            return snapshots[number:]
        last = item
    return []


def _snapshots(data):
    lines = data.decode("utf-8", "replace").splitlines()
    return [item for item in map(_snapshot, lines) if item]


def _snapshot(line):
    """A Snapshot, or None."""
    try:
        whole = json.loads(line)
        fields = whole.get("output_fields")
    except (ValueError, AttributeError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("scap.n_evts"), int):
        return None
    times = [fields.get(name) for name in ("evt.time", "falco.start_ts", "falco.reload_ts")]
    at, started, reloaded = [value if isinstance(value, int) else 0 for value in times]
    drops = fields.get("scap.n_drops")  # left out while it is 0, where Falco is told so
    sample = whole.get("sample")
    return Snapshot(
        fields["scap.n_evts"],
        drops if isinstance(drops, int) else 0,
        max(0, at - max(started, reloaded)) / 1e9 if at and started else 0,
        reloaded,
        sample if isinstance(sample, int) else None,
    )


def drops_percent(snapshots):
    """Percent of the events lost in the last run that these snapshots show, or None where they are too few to
    say.

    From the first one that counted anything, so that a burst during the start is left out where a later one
    is there.
    """
    run = []
    for snapshot in snapshots:
        if run and (snapshot[0] < run[-1][0] or snapshot[1] < run[-1][1]):
            run = []  # a hot reload
        if snapshot[0] > 0:
            run.append(snapshot)
    for first in (run[0], (0, 0, 0)) if run else ():
        events, drops, seconds = [last - one for last, one in zip(run[-1], first)]
        if events >= ENOUGH_EVENTS and seconds >= ENOUGH_SECONDS:
            return round(100.0 * drops / events, 2)
    return None
