# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The web server, on a plain socket: http.server would triple the time to start."""

import socket


class Web:
    def __init__(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.sock.bind((address, port))
            self.sock.listen(64)
        except OSError:
            self.sock.close()
            raise
        self.sock.setblocking(False)

    def fileno(self):
        return self.sock.fileno()

    def close(self):
        self.sock.close()

    def serve(self, answer):
        """Answers one request; `answer(path)` gives (status, type, body) or None to leave without a word."""
        try:
            peer, _ = self.sock.accept()
        except OSError:
            return
        with peer:
            peer.settimeout(0.5)
            try:
                request = b""
                while b"\r\n\r\n" not in request and len(request) < 65536:
                    chunk = peer.recv(4096)
                    if not chunk:
                        return
                    request += chunk
                words = request.split(b"\r\n", 1)[0].decode("latin-1").split()
                if len(words) < 2:
                    return
                found = answer(words[1].partition("?")[0])
                if found is None:
                    return
                status, kind, body = found
                head = "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n" % (status, len(body))
                if kind:
                    head += "Content-Type: %s\r\n" % kind
                peer.sendall((head + "\r\n").encode("latin-1") + (b"" if words[0] == "HEAD" else body))
            except OSError:
                pass
