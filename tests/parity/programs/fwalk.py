# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens each file below FOLDER/d by name, relative to its folder's handle."""

import os
import sys

for _root, _folders, files, handle in os.fwalk(sys.argv[1] + "/d"):
    for name in files:
        os.close(os.open(name, os.O_RDONLY, dir_fd=handle))
