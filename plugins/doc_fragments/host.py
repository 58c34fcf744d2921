# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options by which a module finds Falco on its host."""

from __future__ import annotations


class ModuleDocFragment:
    """falcotune.fleet.host"""

    DOCUMENTATION = r"""
options:
  host_root:
    description:
      - Prefix for every path of the host that is read, such as C(/proc), C(/sys) and C(/etc), as Falco's own
        E(HOST_ROOT).
    type: str
    default: ""
  unit:
    description:
      - Falco's systemd unit. Empty looks at the packages' units and takes the running one, else the enabled
        one.
    type: str
    default: ""
"""
