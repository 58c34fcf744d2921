# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import sys

# Pytest's importlib mode leaves it to us to make the helpers beside this file importable.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
