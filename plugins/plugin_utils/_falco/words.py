# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's own words that more than one part of the collection uses. Pure data."""

from __future__ import annotations

# Priorities of rules, most important first (userspace/engine/falco_common.h).
PRIORITIES = ("emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug")

# The event source of rules about system calls.
SYSCALL = "syscall"

# Drivers that capture system calls, and all engines that engine.kind can name
# (userspace/falco/configuration.h).
DRIVERS = ("kmod", "ebpf", "modern_ebpf")
ENGINES = (*DRIVERS, "gvisor", "nodriver")

# systemd units of Falco's packages (scripts/systemd), with the driver that each of them runs; None: as
# configured.
UNIT_DRIVERS = {
    "falco-modern-bpf.service": "modern_ebpf",
    "falco-kmod.service": "kmod",
    "falco-bpf.service": "ebpf",
    "falco-custom.service": None,
    "falco.service": None,
}
