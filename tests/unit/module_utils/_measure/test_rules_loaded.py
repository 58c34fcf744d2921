# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's Falco is asked about its rules, and what is sent of its answer."""

import base64
import sys
import zlib

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import rules_loaded

FALCO = """#!%s
import os, sys
if "-L" in sys.argv:
    print('{"rules": []}' if os.environ.get("MODE") != "no list" else "Error: rules are broken")
    sys.exit(os.environ.get("MODE") == "no list")
print("arguments " + " ".join(sys.argv[1:]), file=sys.stderr)
print("Error: no dry run" if os.environ.get("MODE") == "no dry run" else "", file=sys.stderr)
sys.exit(os.environ.get("MODE") == "no dry run")
"""


def unpacked(data):
    return zlib.decompress(base64.b64decode(data)).decode()


@pytest.fixture
def falco(tmp_path):
    path = tmp_path / "falco"
    path.write_text(FALCO % sys.executable)
    path.chmod(0o755)
    return str(path)


def test_both_are_asked_with_the_arguments_of_the_process(falco):
    found = rules_loaded.ask([falco, "-c", "/x.yaml", "--pidfile", "/run/x", "-o", "engine.kind=kmod"], {}, "--dry-run")
    assert found["reason"] is None and unpacked(found["list"]).strip() == '{"rules": []}'
    assert unpacked(found["dry_run"]).strip() == (
        "arguments -c /x.yaml -o engine.kind=kmod -o log_stderr=true -o log_syslog=false -o log_level=debug --dry-run")


@pytest.mark.parametrize("mode, reason", [("no list", "falco -L failed: Error: rules are broken"),
                                          ("no dry run", "falco --dry-run failed: Error: no dry run")])
def test_what_fails_is_told(falco, mode, reason):
    assert rules_loaded.ask([falco], {"MODE": mode}, "--dry-run")["reason"] == reason


def test_a_falco_that_is_not_there():
    assert "No such file" in rules_loaded.ask(["/nonexistent/falco"], {}, "--dry-run")["reason"]
