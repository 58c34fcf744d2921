# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco has counted since a moment, for the proof of a change: cheap to ask for four times a second.

Stdlib only, Python 3.6+.
"""

import json
import os

from ansible_collections.falcotune.fleet.plugins.module_utils._metrics import tail

# Bytes read behind the mark: a minute of snapshots, one a second, of 2 kB each, and room to spare.
MAX_READ = 1 << 22

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


def new_snapshots(path, mark):
    """The syscall snapshots written since the mark; partial and foreign lines are passed over.

    → [(scap.n_evts, scap.n_drops, seconds since Falco's start or reload; 0 where it does not say)]
    """
    try:
        handle, found = tail.open_regular(path)
    except tail.Refused:
        return []
    try:
        with os.fdopen(handle, "rb") as stream:
            if found.st_ino == mark[0] and found.st_size >= mark[1]:
                stream.seek(mark[1])
            data = stream.read(MAX_READ)
    except OSError:
        return []
    lines = data.decode("utf-8", "replace").splitlines()
    return [item for item in map(_counts, lines) if item]


def _counts(line):
    """One item of new_snapshots(), or None."""
    try:
        fields = json.loads(line).get("output_fields")
    except (ValueError, AttributeError):
        return None
    if not isinstance(fields, dict) or not isinstance(fields.get("scap.n_evts"), int):
        return None
    times = [fields.get(name) for name in ("evt.time", "falco.start_ts", "falco.reload_ts")]
    at, started, reloaded = [value if isinstance(value, int) else 0 for value in times]
    drops = fields.get("scap.n_drops")  # left out while it is 0, where Falco is told so
    return (
        fields["scap.n_evts"],
        drops if isinstance(drops, int) else 0,
        max(0, at - max(started, reloaded)) / 1e9 if at and started else 0,
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
