# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program on a connection, as sshd and inetd start it: PORT PROGRAM ARGUMENT"""

import os
import socket
import sys

s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(1)
s.settimeout(8)
c, _ = s.accept()
p = os.fork()
if p == 0:
    os.setsid()
    for n in (0, 1, 2):
        os.dup2(c.fileno(), n)
    os.execv(sys.argv[2], [sys.argv[2], "noop", sys.argv[3]])
os.waitpid(p, 0)
