# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes that several modules have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """falcotune.fleet.attributes: for what runs on a host; .reads beside it, or .controller instead of it.

    Of fragments the first wins.
    """

    DOCUMENTATION = r"""
attributes:
  platform:
    platforms: linux
    support: full
    description: Linux with systemd.
"""

    READS = r"""
attributes:
  check_mode:
    support: full
    description: Reads only.
  diff_mode:
    support: N/A
    description: Changes nothing.
"""

    CONTROLLER = r"""
attributes:
  action:
    support: full
  async:
    support: none
  become:
    support: none
  bypass_host_loop:
    support: none
  connection:
    support: none
  platform:
    platforms: all
    support: full
"""
