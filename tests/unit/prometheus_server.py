# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers on this machine that answer as a Prometheus, or as something else."""

import contextlib
import http.server
import json
import threading
import time
from urllib.parse import parse_qs

from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import queries


@contextlib.contextmanager
def servers():
    """Yields start: start(answer) → a URL. answer(handler, query) writes to the handler; asked holds (headers, form) of each request."""
    started = []

    def start(answer, context=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                start.asked.append((self.path, dict(self.headers), {key: value[0] for key, value in form.items()}))
                try:
                    answer(self, form["query"][0])
                except OSError:
                    pass  # the plugin has gone

            def log_message(self, *dummy):
                pass

        found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            found.socket = context.wrap_socket(found.socket, server_side=True)
            found.handle_error = lambda *dummy: None  # clients that hang up on a certificate
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        started.append(found)
        return "%s://127.0.0.1:%d/prom/" % ("https" if context else "http", found.server_port)

    start.asked = []
    yield start
    for found in started:
        found.shutdown()
        found.server_close()


def sent(handler, data, status=200, **headers):
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def fleet(hosts, at=None):
    """An answer() of a Prometheus with these hosts: {instance: percent of events lost}."""
    by_query = {text: name for name, text in queries.queries("", "15m", "1d").items()}

    def answer(handler, query):
        name = by_query[query]
        values = {"known": "1", "age": "2", "samples": "60", "events": "1000", "releases": "1"}
        result, now = [], at or time.time()
        for instance, lost in hosts.items():
            value = str(lost * 10) if name == "drops" else values.get(name)
            labels = {"instance": instance, "job": "falco", **({"version": "0.44.1"} if name == "releases" else {})}
            if value is not None:
                result.append({"metric": labels, "value": [now, value]})
        sent(handler, json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode())

    return answer
