#!/bin/bash
# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# connects as soon as somebody listens
for i in $(seq 60); do (exec 3<>/dev/tcp/127.0.0.1/$1 && sleep 0.1) 2>/dev/null && exit 0; sleep 0.1; done
exit 1
