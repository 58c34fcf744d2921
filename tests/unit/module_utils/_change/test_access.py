# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Falco may write as its unit runs it: judged by the kernel, so as root only, and by the unit's sandbox."""

import grp
import os

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import access

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
OVERRIDE = "cap_chown cap_dac_override cap_sys_admin"


@pytest.fixture
def folder(tmp_path):
    """A directory of somebody else's, which every user reaches."""
    path = tmp_path
    while path != path.parent:
        path.chmod(path.stat().st_mode | 0o011)
        path = path.parent
    made = tmp_path / "log"
    made.mkdir(mode=0o755)
    os.chown(made, 104, 0)
    return made


@as_root
@pytest.mark.parametrize("unit, mode, refused", [
    ({"User": ""}, 0o755, False),
    ({"User": "root", "CapabilityBoundingSet": OVERRIDE}, 0o755, False),
    ({"User": "root", "CapabilityBoundingSet": "cap_sys_admin"}, 0o755, True),  # F08
    ({"User": "root", "CapabilityBoundingSet": "cap_sys_admin"}, 0o775, False),  # its group may
    ({"User": "root", "CapabilityBoundingSet": ""}, 0o755, True),
    ({"User": "nobody", "CapabilityBoundingSet": OVERRIDE}, 0o755, True),
    ({"User": "nobody"}, 0o757, False),
    ({"User": "104"}, 0o755, False),
    ({"User": "no-such-user-here"}, 0o755, False),  # not known here: nothing is claimed
    ({"User": "nobody", "Group": "root"}, 0o775, False),
    ({"User": "nobody", "SupplementaryGroups": "daemon root"}, 0o775, False),
    ({"User": "nobody", "SupplementaryGroups": "daemon"}, 0o775, True),
    ({"User": "nobody", "Group": "no-such-group-here"}, 0o755, False),
    ({"User": "root", "Group": "daemon", "CapabilityBoundingSet": ""}, 0o775, True),
    ({"User": "nobody", "AmbientCapabilities": "cap_sys_ptrace cap_dac_override"}, 0o755, False),
    ({"User": "nobody", "AmbientCapabilities": "cap_dac_read_search"}, 0o755, True),
])
def test_the_directory_of_a_log_daemon(folder, unit, mode, refused):
    folder.chmod(mode)
    wanted = [(str(folder / "metrics.jsonl"), os.W_OK)]
    if unit.get("User") == "104" and access.account(unit) is None:
        pytest.skip("uid 104 has no name here")
    assert access.denied(unit, wanted) == (wanted if refused else [])


@pytest.mark.parametrize("unit, uid, group, more", [
    ({}, 0, "root", ()),
    ({"User": "nobody"}, 65534, "nogroup", ()),
    ({"User": "65534"}, 65534, "nogroup", ()),
    ({"User": "nobody", "Group": "adm"}, 65534, "adm", ()),
    ({"User": "nobody", "Group": "4", "SupplementaryGroups": "tty 6"}, 65534, "adm", ("tty", "disk")),
    ({"Group": "adm"}, 0, "adm", ()),
])
def test_whom_the_processes_of_a_unit_belong_to(unit, uid, group, more):
    try:
        wanted, others = grp.getgrnam(group).gr_gid, [grp.getgrnam(name).gr_gid for name in more]
    except KeyError:
        pytest.skip("this host has other groups")
    found = access.account(unit)
    assert (found.uid, found.gid) == (uid, wanted) and set(found.groups) >= {wanted, *others}


@as_root
def test_a_file_that_is_there_is_judged_itself(folder):
    path = folder / "metrics.jsonl"
    path.write_text("")
    path.chmod(0o644)
    unit = {"User": "nobody"}
    assert access.denied(unit, [(str(path), os.W_OK), (str(path), os.R_OK)]) == [(str(path), os.W_OK)]
    assert access.denied(unit, [(str(folder / "none" / "x"), os.W_OK)])
    assert os.geteuid() == 0 and access.denied({}, [(str(path), os.W_OK)]) == []  # this process is what it was


@pytest.mark.parametrize("unit, path, why", [
    ({}, "/var/log/falco", None),
    ({"ProtectSystem": "full"}, "/var/log/falco", None),
    ({"ProtectSystem": "full"}, "/etc/falco", "ProtectSystem=full"),
    ({"ProtectSystem": "strict"}, "/var/log/falco", "ProtectSystem=strict"),
    ({"ProtectSystem": "strict", "ReadWritePaths": "-/var/log"}, "/var/log/falco", None),
    ({"ProtectSystem": "strict", "ReadWritePaths": "/var/lo"}, "/var/log/falco", "ProtectSystem=strict"),
    ({"ReadOnlyPaths": "/var/log"}, "/var/log/falco", "ReadOnlyPaths=/var/log"),
    ({"ReadOnlyPaths": "/var", "ReadWritePaths": "/var/log/falco"}, "/var/log/falco", None),
    ({"InaccessiblePaths": "-/srv"}, "/srv/falco", "InaccessiblePaths=-/srv"),
    ({"ProtectHome": "read-only"}, "/root/falco", "ProtectHome=read-only"),
    ({"ProtectHome": "no"}, "/root/falco", None),
    ({"ReadOnlyPaths": "/var/log"}, "/host/var/log/falco", "ReadOnlyPaths=/var/log"),
])
def test_what_the_sandbox_of_the_unit_hides(unit, path, why):
    assert access.hidden(unit, path, "/host") == why
