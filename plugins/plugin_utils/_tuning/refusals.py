# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a host gets no plan."""

from __future__ import annotations


class PlanError(ValueError):
    """No plan can be made for this host. The text says what was found, what was expected and what to do."""
