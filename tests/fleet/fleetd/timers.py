# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-run, as far as a transient timer: `systemd-run --unit=NAME --on-active=SECONDSs COMMAND…`, taken away by
`systemctl stop NAME.timer`, and its command ended by `systemctl stop NAME.service`. It outlives whoever set it."""

import os
import signal
import subprocess
import sys
import time

from fleetd import files, states, units

FOLDER = states.STATE_DIR + "/.timers"


def _path(name):
    return "%s/%s" % (FOLDER, name)


def parse(arguments):
    """(name of the timer, seconds, command)"""
    name, seconds, queue = None, None, list(arguments)
    while queue and queue[0].startswith("--"):
        option, _equals, value = queue.pop(0).partition("=")
        if option == "--unit":
            name = value + ".timer"
        elif option == "--on-active" and value.endswith("s") and value[:-1].isdigit():
            seconds = int(value[:-1])
        elif option != "--timer-property":
            raise units.Failure("systemd-run: unrecognized option '%s'" % option)
    if not name or seconds is None or not queue:
        raise units.Failure("systemd-run: the stand-in sets timers only")
    return name, seconds, queue


def run(arguments):
    name, seconds, command = parse(arguments)
    os.makedirs(FOLDER, exist_ok=True)
    if os.path.exists(_path(name)):
        raise units.Failure("Failed to start transient timer unit: Unit %s was already loaded." % name)
    files.write_json(_path(name), {"command": command})
    if os.fork():
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    until = time.monotonic() + seconds
    while os.path.exists(_path(name)):
        if time.monotonic() >= until:
            service = _path(name[:-len("timer")] + "service")
            child = subprocess.Popen(command, start_new_session=True)
            files.write_json(service, {"pid": child.pid})
            files.remove(_path(name))
            child.wait()
            files.remove(service)
            break
        time.sleep(0.2)
    os._exit(0)


def stop(name):
    """Whether there was such a timer, or what it had started."""
    found = files.read_json(_path(name))
    if found is None:
        return False
    if "pid" in found:
        try:
            os.killpg(found["pid"], signal.SIGTERM)
        except OSError:
            pass
        while os.path.exists(_path(name)):
            time.sleep(0.01)
        return True
    files.remove(_path(name))
    return True


def main():
    status = 0
    try:
        run(sys.argv[1:])
    except units.Failure as failure:
        print(failure, file=sys.stderr, flush=True)
        status = failure.status
    os._exit(status)
