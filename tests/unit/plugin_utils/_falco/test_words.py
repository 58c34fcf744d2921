# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import releases, words


def test_hosts_look_for_the_units_that_the_controller_knows():
    assert set(words.UNIT_DRIVERS) == set(systemd.UNITS)


def test_each_driver_is_one_of_some_release():
    known = {driver for text in ("0.33.0", "0.43.0", "0.44.1") for driver in releases.release_for(text).drivers}
    assert known == set(words.DRIVERS) and {driver for driver in words.UNIT_DRIVERS.values() if driver} == known
