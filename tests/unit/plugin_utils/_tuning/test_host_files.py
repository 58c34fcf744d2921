# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import host_files, planner
from ansible_collections.falcotune.fleet.tests.unit.hosts import Host

UNIT = "falco-modern-bpf.service"


def test_rotation():
    found = host_files.wanted({"path": "/var/log/falco/metrics.jsonl", "size": "20M", "count": 3, "owner": None}, {}, UNIT, None)
    assert [(item["path"], item["mode"]) for item in found] == [("/etc/logrotate.d/falcotune", "0644")]
    assert found[0]["content"] == (
        "# Written by falcotune.fleet. Falco keeps its metrics file open and does not rotate it, hence copytruncate.\n"
        "/var/log/falco/metrics.jsonl {\n    size 20M\n    rotate 3\n    copytruncate\n    compress\n    missingok\n"
        "    notifempty\n}\n")


@pytest.mark.parametrize("lines, content", [
    ({}, "# Written by falcotune.fleet.\n[Service]\n\n"),
    ({"Nice": -10}, "# Written by falcotune.fleet.\n[Service]\nNice=-10\n"),
    ({"ReadWritePaths": "/var/log/falco", "Nice": "-5", "CPUWeight": 931, "CPUQuota": ""},
     "# Written by falcotune.fleet.\n[Service]\nCPUQuota=\nCPUWeight=931\nNice=-5\nReadWritePaths=/var/log/falco\n"),
])
def test_the_drop_in_of_the_unit(lines, content):
    found = host_files.wanted(None, {}, UNIT, lines)
    assert [item["path"] for item in found] == ["/etc/systemd/system/falco-modern-bpf.service.d/zz-falcotune.conf"]
    assert found[0]["content"] == content


def test_sysctls():
    found = host_files.wanted(None, {"kernel.bpf_stats_enabled": "1"}, UNIT, None)
    assert [item["path"] for item in found] == ["/etc/sysctl.d/zz-falcotune.conf"]
    assert found[0]["content"] == "# Written by falcotune.fleet.\nkernel.bpf_stats_enabled = 1\n"


def test_nothing_is_needed():
    assert host_files.wanted(None, {}, UNIT, None) == []


@pytest.mark.parametrize("given, paths", [
    ({}, ["/etc/logrotate.d/falcotune"]), ({"metrics": False}, []),
    ({"bpf_stats": True}, ["/etc/logrotate.d/falcotune", "/etc/sysctl.d/zz-falcotune.conf"]),
])
def test_a_plan_carries_its_files(given, paths):
    found = planner.make(Host().facts(), given)["host_files"]
    assert [item["path"] for item in found] == paths
    assert all(item["why"] for item in found)


@pytest.mark.parametrize("user, line", [("root", ""), ("falco", "    su falco falco\n")])
def test_logrotate_becomes_the_user_whose_directory_it_is(user, line):
    made = planner.make(Host(user=user).facts(), {})
    content = next(item["content"] for item in made["host_files"] if item["path"] == host_files.ROTATION_PATH)
    assert content.split("{\n")[1].startswith(line + "    size ")
