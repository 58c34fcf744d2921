# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults that only the simulator can have: each fails where it says, and nowhere else."""

import time

import pytest

from subject import few, get

pytestmark = pytest.mark.usefixtures("simulator")


@pytest.fixture
def broken(falco):
    """Gives the Falco a fault and a configuration that would be good."""
    def make(more="webserver:\n  enabled: false\n", **fault):
        falco.profile["fault"] = fault
        falco.config(more)
    return make


@few()
def test_refuses_to_start(falco, broken):
    broken(refuse="Error: out of luck")
    assert falco.run("--version", "-c", "{dir}/falco.yaml")[0] == 0
    assert falco.dry_run()[0] == 0
    with falco.live() as live:
        assert live.wait_end() == 1
        assert "\nError: out of luck\n" in live.err
        assert live.openings() == 1


@few()
def test_refuses_the_configuration(falco, broken):
    broken(refuse_config="out of luck")
    assert falco.run("--version", "-c", "{dir}/falco.yaml")[0] == 0
    code, lines = falco.dry_run()
    assert (code, "Error: out of luck" in lines) == (1, True)
    with falco.live() as live:
        assert live.wait_end() == 1
        assert not live.openings()


@few()
def test_faults_come_with_a_configuration(falco, broken):
    broken(refuse_config="out of luck", when={"base_syscalls.repair": True})
    assert falco.dry_run()[0] == 0
    assert falco.dry_run("-o", "base_syscalls.repair=true")[0] == 1


@few()
def test_never_opens(falco, broken, web, port):
    broken(web, never_opens=True)
    with falco.live() as live:
        live.wait_for(lambda: get(port, "/healthz")[0] == 200, "/healthz")
        time.sleep(1)
        assert not live.ended
        assert not falco.samples()
        live.term()
        assert live.wait_end() == 0


@few()
def test_dies_after_a_while(falco, broken):
    broken(die_after=0.5)
    with falco.live() as live:
        live.wait_opening()
        assert live.wait_end() == 1
        assert "Runtime error" in live.err


@few()
def test_alive_and_blind(falco, broken, web, port):
    broken(web, blind=0.1)
    falco.profile["startup_seconds"] = 0.1
    with falco.live() as live:
        live.wait_opening()
        time.sleep(1)  # an early scrape would kill old releases
        page = get(port, "/metrics")[2].splitlines()
        time.sleep(0.5)
        later = get(port, "/metrics")[2].splitlines()
    assert page
    assert [line for line in page if "n_evts_total" in line] == [line for line in later if "n_evts_total" in line]


@pytest.mark.parametrize("hang", [1.5, True])
@few()
def test_hangs_when_told_to_end(falco, broken, hang):
    broken(hang_on_term=hang)
    with falco.live() as live:
        live.wait_open()
        live.term()
        time.sleep(1)
        assert not live.ended
        if hang is not True:
            assert live.wait_end() == 0


@few()
def test_unknown_faults_are_refused(falco, broken):
    broken(refuses="out of luck")
    assert falco.run("--version")[0] != 0
