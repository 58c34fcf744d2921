# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
use Socket; use POSIX ();
my ($port, $n) = @ARGV; alarm 5;
socket(S, PF_INET, SOCK_STREAM, 6); setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1); bind(S, sockaddr_in($port, INADDR_LOOPBACK)) or die; listen(S, 1);
accept(C, S) or die; POSIX::dup2(fileno(C), $n);
