# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What truly limits a simulated Falco: the ring model is run again with one thing changed at a time, in no real time.

Nothing here divides a demand by a capacity: the truth is what the same load loses then.
"""

from . import cputime, syscalls
from .profile import Profile
from .rings import Rings

# The upper end of the guide's range for modern_ebpf.
GUIDE = 7
# The largest preset there is.
LARGEST = 10
# Seconds in which a load that lasts fills rings of that size on any host.
SETTLED = 120.0
KIND = "modern_ebpf"


class Model:
    """One Falco in virtual time: `advance()` to a moment in seconds, and read `rings` and `cpu`."""

    def __init__(self, data, preset=4, per_ring=2, starved=None, quota=True, nice=0, startup=1.6, kind=KIND,
                 selected=syscalls.ALL_CODES):
        self.profile = Profile(data)
        share = self.profile.starved
        now = cputime.waiting_share(share, nice) if share and starved is None else share if starved is None else starved
        self.cpu = cputime.Cpu(0.0, now, self.profile.quota if quota else None)
        self.cpu.neighbours = share
        # The start takes its CPU time, however long it must wait for it: 29 s were seen beside busy neighbours.
        self.startup = startup / min(1.0 - now, (self.cpu.quota or 1.0) / cputime.STARTING, 1.0)
        self.cpu.spend(self.startup, self.startup)
        self.rings = Rings(self.profile, kind, 1 << (19 + preset), per_ring, selected, self.startup, cpu=self.cpu)

    def advance(self, seconds):
        self.rings.advance(self.startup + seconds)


def lost(data, seconds, **changed):
    """Percent of the events that are lost in so many seconds, once the rings were filled as far as they will be."""
    model = Model(data, **changed)
    model.advance(SETTLED)
    events, drops = model.rings.events, model.rings.drops
    model.advance(SETTLED + seconds)
    events, drops = model.rings.events - events, model.rings.drops - drops
    return 100.0 * drops / events if events else 0.0


def truth(data, seconds, preset=4, per_ring=2):
    """{'lost', 'saves', 'left', 'least'}: percent lost, what each cure alone would save, and what is left with all of them.

    saves: {'buffer', 'starved', 'cpu_quota'}. left: only fewer or cheaper events save that, or rings beyond the guide's range;
    least: the same with the largest rings there are.
    """
    now = lost(data, seconds, preset=preset, per_ring=per_ring)
    left = lost(data, seconds, preset=max(preset, GUIDE), per_ring=per_ring, starved=0.0, quota=False)
    saves = {
        "buffer": now - lost(data, seconds, preset=max(preset, GUIDE), per_ring=per_ring),
        "starved": now - lost(data, seconds, preset=preset, per_ring=per_ring, starved=0.0),
        "cpu_quota": now - lost(data, seconds, preset=preset, per_ring=per_ring, quota=False),
    }
    least = lost(data, seconds, preset=LARGEST, per_ring=per_ring, starved=0.0, quota=False)
    return {"lost": now, "saves": saves, "left": left, "least": least}
