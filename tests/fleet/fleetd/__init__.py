# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in of systemd for hosts that are directories.

FLEET_HOST_ROOT names the host's directory. Units are read from its etc/systemd/system, run/systemd/system and
usr/lib/systemd/system with their drop-ins and aliases; what runs is kept in run/systemd/units/UNIT/.

A module asks several times a run, so the package imports little, and only what a verb needs.
"""
