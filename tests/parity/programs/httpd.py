# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server that answers one request of curl, or two of Python: PORT FOLDER curl|raw"""

import functools
import http.client
import http.server
import os
import subprocess
import sys

port, folder, how = int(sys.argv[1]), sys.argv[2], sys.argv[3]
name = "t_" + os.path.basename(folder)
with open(os.path.join(folder, "d", "body"), "wb") as f:
    f.write(b"b" * (port - 30000))


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a):
        pass


http.server.HTTPServer.allow_reuse_address = True
server = http.server.HTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=os.path.join(folder, "d")))
pid = os.fork()
if pid == 0:
    server.handle_request()
    if how == "raw":
        server.handle_request()
    server.server_close()
    os._exit(0)
if how == "curl":
    subprocess.run(["curl", "-s", "-m", "3", "-o", "/dev/null", "http://127.0.0.1:%d/%s" % (port, name)])
else:
    for n in (name, "body"):
        c = http.client.HTTPConnection("127.0.0.1", port)
        c.request("GET", "/" + n)
        c.getresponse().read()
        c.close()
os.waitpid(pid, 0)
