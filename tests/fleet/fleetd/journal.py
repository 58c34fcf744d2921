# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of journalctl: prints lines of the host's var/log/syslog.

Knows -u, -t, _PID=, _SYSTEMD_UNIT= (any unit is Falco's), -n, --since, -r, -o short|short-iso|cat|json. A unit's lines
are those of its processes (tag falco) and those of systemd that begin with its name. Other options are taken and
ignored.
"""

import json
import re
import sys
import time

from fleetd import files

LINE = re.compile(r"(?P<when>\S+T\S+|[A-Z][a-z]{2} +\d+ [\d:]+) (?:(?P<host>\S+) )?(?P<tag>[^\s:\[]+)(?:\[(?P<pid>\d+)\])?: (?P<text>.*)")
WITH_VALUE = {"-u": "unit", "--unit": "unit", "-t": "tag", "--identifier": "tag", "-n": "lines", "--lines": "lines",
              "-S": "since", "--since": "since", "-o": "output", "--output": "output", "-U": "until", "--until": "until",
              "-p": "priority", "--priority": "priority", "-b": "boot", "-g": "grep", "--grep": "grep"}
AGO = re.compile(r"-?(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)(?: ago)?$")


def moment(text):
    """Seconds since the epoch of a line's or an option's time; None if it can't be read."""
    text = text.strip()
    if text.startswith("@"):
        return float(text[1:])
    if text == "now":
        return time.time()
    if text == "today":
        return time.mktime(time.strptime(time.strftime("%Y-%m-%d"), "%Y-%m-%d"))
    ago = AGO.match(text)
    if ago:
        return time.time() - float(ago.group(1)) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[ago.group(2)[0]]
    for shape in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"):
        try:
            return time.mktime(time.strptime(re.sub(r"(\.\d+)?(Z|[+-]\d\d:?\d\d| UTC)?$", "", text), shape))
        except ValueError:
            continue
    try:
        return time.mktime(time.strptime("%d %s" % (time.localtime().tm_year, text), "%Y %b %d %H:%M:%S"))
    except ValueError:
        return None


def options_of(arguments):
    options = {"pids": set(), "reverse": False}
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if name == "_PID":
            options["pids"].add(value)
        elif name == "_SYSTEMD_UNIT":
            options["tag"] = "falco"
        elif name in WITH_VALUE:
            if name == "-b":
                continue
            options[WITH_VALUE[name]] = value if equals else (queue.pop(0) if queue else "")
        elif word in ("-r", "--reverse"):
            options["reverse"] = True
        elif re.match(r"-[untoS].", word):
            options[WITH_VALUE[word[:2]]] = word[2:]
    return options


def main():
    options = options_of(sys.argv[1:])
    found = selected(options)
    show(found, options)
    if not found and options.get("output") not in ("cat", "json"):
        print("-- No entries --")


def selected(options):
    """[(parts of a line or None where it continues the one before, the line)] of what the options ask for."""
    since = moment(options["since"]) if options.get("since") else None
    until = moment(options["until"]) if options.get("until") else None
    unit = options.get("unit", "")
    unit = unit if not unit or "." in unit else unit + ".service"
    try:
        with open(files.ROOT + "/var/log/syslog", errors="replace") as stream:
            lines = stream.read().splitlines()
    except OSError:
        lines = []

    found = []
    for line in lines:
        match = LINE.match(line)
        if not match:
            if found and not (options["pids"] or options.get("tag")):
                found.append((None, line))
            continue
        part = match.groupdict()
        when = moment(part["when"])
        falco = part["tag"] == "falco"
        if (options["pids"] and part["pid"] not in options["pids"]) \
                or (options.get("tag") and part["tag"] != options["tag"]) \
                or (unit and not falco and not (part["tag"] == "systemd" and "falco" in part["text"])) \
                or (since is not None and when is not None and when < int(since)) \
                or (until is not None and when is not None and when > until) \
                or (options.get("grep") and not re.search(options["grep"], part["text"])):
            continue
        found.append((part, line))

    if options.get("lines") not in (None, "all"):
        found = found[-int(options["lines"]):] if int(options["lines"]) else []
    return found


def show(found, options):
    for part, line in reversed(found) if options["reverse"] else found:
        style = options.get("output", "short")
        if part is None:
            print(line)
        elif style == "cat":
            print(part["text"])
        elif style == "json":
            print(json.dumps({"MESSAGE": part["text"], "SYSLOG_IDENTIFIER": part["tag"], "_PID": part["pid"] or "0",
                              "__REALTIME_TIMESTAMP": str(int((moment(part["when"]) or 0) * 1000000))}))
        elif style.startswith("short-iso"):
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(moment(part["when"]) or 0))
            print("%s %s %s[%s]: %s" % (stamp, part["host"] or "localhost", part["tag"], part["pid"] or "0", part["text"]))
        else:
            print(line)
