# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes in a row on one host, at random moments of Falco's life. FALCOTUNE_CHANGES says how many (the default is small)."""

from __future__ import annotations

import os
import random
import time

import pytest

import direct
from conftest import leftovers, log_of, ring_bytes, starts_of, wait_for
from hosts import free_ports

CHANGES = int(os.environ.get("FALCOTUNE_CHANGES", "6"))


def _web(port):
    return {"webserver": {"enabled": True, "listen_port": port, "listen_address": "127.0.0.1", "prometheus_metrics_enabled": True}}


@pytest.fixture(scope="module")
def fleet(fleet_of):
    new, old = free_ports(2)
    return fleet_of({
        "new": {"config": _web(new), "startup_seconds": 1.0, "reload_seconds": 1.5},
        # Trap 18: an early scrape would kill it.
        "old": {"release": "0.38.2", "config": _web(old), "startup_seconds": 1.0, "reload_seconds": 1.2},
    }, measures="200ms", hostvars={"falco_tune_min_healthy_time": 0, "falco_tune_healthy_deadline": 30})


@pytest.mark.parametrize("name", ["new", "old"])
def test_trap_13_and_18_no_change_loses_a_sigterm_or_interrupts_twice(name, fleet):
    host = next(host for host in fleet.hosts if host.name == name)
    chance = random.Random(name)
    main = host.root / "etc/falco/falco.yaml"
    for number in range(CHANGES):
        time.sleep(chance.uniform(0, 2.5))
        reloads = chance.random() < 0.4
        if reloads:
            # Somebody else's write: a hot reload begins, and we come right into it.
            main.write_text(main.read_text() + "\n")
            time.sleep(chance.uniform(0, 0.6))
        starts, before = starts_of(host), log_of(host).count("SIGINT received")
        answer = direct.finished(direct.change(host, buf_size_preset=5 + number % 2))
        assert answer.get("changed"), (number, answer)
        proof = answer["evidence"]
        assert proof["interruptions"] == 1 and proof["notes"] == [], (number, proof)
        assert ring_bytes(host) == (16 << 20) << (number % 2)
        # Ours, and the reload that was under way.
        assert 1 <= starts_of(host) - starts <= 1 + reloads, number
        assert log_of(host).count("SIGINT received") - before <= 1
        assert leftovers(host) == []
    journal = log_of(host)
    assert "status=9/KILL" not in journal and "signal" not in journal.lower().replace("signals", "")
    wait_for(lambda: ring_bytes(host))
