# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of systemctl: the options and verbs that modules and tests use; any other is refused."""

import os
import sys

from fleetd import units

FLAGS = {"--quiet": "quiet", "-q": "quiet", "--value": "value"}
IGNORED = ("--no-pager", "--system", "--no-ask-password", "--full", "-l")
JOBS = {"start": "start", "stop": "stop", "restart": "restart", "kill": "kill", "daemon-reload": "daemon_reload",
        "reset-failed": "reset_failed", "is-active": "is_active", "isolate": "isolate"}


def parse(arguments):
    """(words, options)"""
    options = dict.fromkeys(FLAGS.values(), False)
    options.update(properties=set(), timestamp="pretty", signal="SIGTERM")
    words = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        if word in FLAGS:
            options[FLAGS[word]] = True
        elif name in ("-p", "--property", "-P", "-s", "--signal", "--timestamp"):
            if not equals:
                value = queue.pop(0) if queue else ""
            if name in ("-s", "--signal"):
                options["signal"] = value
            elif name == "--timestamp":
                options["timestamp"] = value
            else:
                options["properties"].update(part for part in value.split(",") if part)
                options["value"] = options["value"] or name == "-P"
        elif word not in IGNORED:
            if word.startswith("-"):
                raise units.Failure("systemctl: unrecognized option '%s'" % word)
            words.append(word)
    return words, options


def command(arguments):
    words, options = parse(arguments)
    verb = words.pop(0) if words else "list-units"
    if verb == "show":
        from fleetd import properties

        properties.show(words, options)
    elif verb in JOBS:
        from fleetd import jobs

        getattr(jobs, JOBS[verb])(words, options)
    else:
        raise units.Failure("Unknown command verb %s." % verb)


def main():
    status = 0
    try:
        command(sys.argv[1:])
        sys.stdout.flush()
    except units.Failure as failure:
        print(failure, file=sys.stderr, flush=True)
        status = failure.status
    except BrokenPipeError:
        pass
    # Not by way of the interpreter's end, which takes longer than some answers.
    os._exit(status)
