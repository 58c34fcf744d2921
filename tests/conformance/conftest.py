# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each test runs once for each release and recorded case that it asks for."""

import os
import socket
import sys

import pytest

# Pytest's importlib mode leaves it to us to make the helpers beside this file importable.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import subject  # noqa: E402


def pytest_generate_tests(metafunc):
    if "falco" not in metafunc.fixturenames:
        return
    kind = getattr(metafunc.function, "recorded", None)
    if not kind:
        derived = getattr(metafunc.function, "derived", subject.DERIVED)
        metafunc.parametrize("falco", subject.releases(derived), indirect=True)
        return
    # A release that wasn't recorded has no such cases; pytest reports that as a skip.
    known = {release: subject.load(release, kind) for release in subject.releases() if subject.load(release, kind)}
    if "recorded" not in metafunc.fixturenames:
        metafunc.parametrize("falco", known, indirect=True)
        return
    cases = [pytest.param(release, body, id="%s-%s" % (release, name)) for release, bodies in known.items()
             for name, body in bodies.items()]
    metafunc.parametrize("falco,recorded", cases, indirect=["falco"])


@pytest.fixture
def falco(request, tmp_path):
    return subject.Falco(request.param, tmp_path)


@pytest.fixture
def simulator():
    if not subject.SIMULATED:
        pytest.skip("only the simulator fails on request")


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def web(port):
    """Configuration of a web server with metrics."""
    return ("webserver:\n  enabled: true\n  listen_port: %d\n  listen_address: 127.0.0.1\n  prometheus_metrics_enabled: true\n"
            % port)
