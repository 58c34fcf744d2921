# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The garbage collector while an action makes its report."""

from __future__ import annotations

import gc

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._action import collector


def test_it_is_off_in_the_block_and_on_again_after_an_error():
    assert gc.isenabled()
    with pytest.raises(ValueError, match="wrong"), collector.paused():
        assert not gc.isenabled()
        raise ValueError("wrong")
    assert gc.isenabled()


def test_one_that_was_off_stays_off():
    gc.disable()
    try:
        with collector.paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
