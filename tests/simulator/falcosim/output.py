# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log lines and alerts."""

import json
import os
import socket
import stat
import sys
import time

from .config import LEVELS


def iso(now, utc=True):
    """2026-01-31T12:00:00.000000000Z"""
    nanos = int(now * 1e9)
    return "%s.%09dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(nanos // 10**9)), nanos % 10**9)


def _is_socket(path):
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _send(path, text, level):
    """As syslog(3) sends it, to facility user."""
    severity = LEVELS.index(level.lower()) if level.lower() in LEVELS else LEVELS.index("info")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        try:
            log.connect(path)
            for line in text.splitlines():
                log.send(b"<%d>%s falco: %s" % (8 + severity, time.strftime("%b %e %H:%M:%S").encode(), line.encode()))
        except OSError:
            pass


class Log:
    """Silent until the configuration says where to write."""

    def __init__(self, syslog_path=None):
        self.level = LEVELS.index("info")
        self.stderr = False
        self.syslog = False
        self.iso_time = False
        self.syslog_path = syslog_path

    def configure(self, settings):
        self.level = LEVELS.index(settings.log_level)
        self.stderr = settings.log_stderr
        self.syslog = settings.log_syslog
        self.iso_time = settings.iso_time

    def write(self, level, text):
        if LEVELS.index(level) > self.level:
            return
        text = text.rstrip("\n") + ("\n" if text.endswith("\n\n") else "")
        if self.stderr:
            form = "%Y-%m-%dT%H:%M:%S+0000" if self.iso_time else "%a %b %e %H:%M:%S %Y"
            clock = time.gmtime() if self.iso_time else time.localtime()
            sys.stderr.write("%s: %s\n" % (time.strftime(form, clock), text))
            sys.stderr.flush()
        if self.syslog:
            self.to_syslog(text, level)

    def to_syslog(self, text, level="info"):
        if not self.syslog_path:
            return
        if _is_socket(self.syslog_path):
            _send(self.syslog_path, text, level)
            return
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        head = "%s %s falco[%d]: " % (stamp, socket.gethostname(), os.getpid())
        try:
            with open(self.syslog_path, "a", encoding="utf-8") as stream:
                stream.write("".join(head + line + "\n" for line in text.splitlines()))
        except OSError:
            pass

    def debug(self, text):
        self.write("debug", text)

    def info(self, text):
        self.write("info", text)

    def warning(self, text):
        self.write("warning", text)

    def critical(self, text):
        self.write("critical", text)


class Outputs:
    """Where alerts go."""

    def __init__(self, settings, log):
        self.settings = settings
        self.log = log
        self.stream = None
        self.reopen()

    def reopen(self):
        if self.stream:
            self.stream.close()
        path = self.settings.file_output
        self.stream = open(path, "a", encoding="utf-8") if path else None

    def close(self):
        if self.stream:
            self.stream.close()
            self.stream = None

    def emit(self, rule, output, fields, priority, source="internal"):
        now = time.time()
        if self.settings.json_output:
            body = {"hostname": socket.gethostname(), "output": output, "output_fields": fields, "priority": priority, "rule": rule,
                    "source": source, "time": iso(now)}
            line = json.dumps(body, separators=(",", ":"))
        else:
            line = "%s: %s %s" % (iso(now)[11:29], priority, output)
            if fields:
                line += " (%s)" % " ".join("%s=%s" % (key, json.dumps(fields[key])) for key in sorted(fields))
        if self.settings.stdout:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        if self.stream:
            self.stream.write(line + "\n")
            self.stream.flush()
        if self.settings.syslog_output:
            self.log.to_syslog(line, priority)
