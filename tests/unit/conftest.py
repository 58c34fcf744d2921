# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the checkout as ansible_collections.falcotune.fleet, as Ansible would."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import Phase, settings

# As on a controller whose PyYAML was built without libyaml.
if os.environ.get("FALCOTUNE_PURE_YAML"):
    for name in ("CSafeLoader", "CLoader", "CBaseLoader", "CFullLoader", "CUnsafeLoader", "CParser"):
        if hasattr(yaml, name):
            delattr(yaml, name)
    yaml.__with_libyaml__ = False

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = tempfile.TemporaryDirectory(prefix="falcotune-")
_PLACE = Path(_FOLDER.name) / "ansible_collections" / "falcotune"
_PLACE.mkdir(parents=True)
(_PLACE / "fleet").symlink_to(ROOT)
sys.path.insert(0, _FOLDER.name)

settings.register_profile("falcotune", derandomize=True, database=None, deadline=None, max_examples=150,
                          phases=[Phase.explicit, Phase.generate, Phase.shrink])
settings.load_profile("falcotune")


@pytest.fixture(scope="module")
def server():
    """A PostgreSQL that no other module uses."""
    from ansible_collections.falcotune.fleet.tests.fleet.postgresql import PostgreSQL

    if not PostgreSQL.there():
        pytest.skip("there is no PostgreSQL or no psycopg: install Debian's package postgresql, and psycopg[binary]")
    found = PostgreSQL(fsync="off")
    found.start()
    yield found
    found.stop()
