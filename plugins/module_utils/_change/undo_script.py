# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""STATE_DIR/undo.sh: undoes a change without Ansible and without Python, when nobody works on it any more.

It is on disk before Falco is stopped, and gone when the change is proven or undone. Two start it:

    undo.sh boot    falcotune-undo-TOKEN.service, at the next boot, before Falco's unit
    undo.sh timer   the dead man's switch (dead_man), in the same boot

Both leave a change alone whose worker or watchdog is alive. A change whose record is written is not undone.
The script only renames and removes files, so it needs no room. A file is put back only if it is the one that
this change wrote (SHA-256, compared directly before the rename). It can run any number of times.
"""

import base64
import errno
import os
import re
import shlex
import shutil

from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
from ansible_collections.falcotune.fleet.plugins.module_utils._change.failure import Failed
from ansible_collections.falcotune.fleet.plugins.module_utils._host import host, processes

UNITS = "/etc/systemd/system/"
WANTED_BY = "multi-user.target.wants"
NEEDS = ("sha256sum", "grep", "mv", "rm", "ln", "sync")

# Seconds for which a unit is down while a worker is alive, before the script starts it as it is. A worker
# needs less between a stop and a start.
DOWN_AT_MOST = 15
# Seconds for which a Falco with all the new files must stay up, so that the next run can prove it.
STAYS_UP = 60
# Seconds for which the script tries again to start a unit that does not start.
TRIES = 3600

_SCRIPT = r"""#!/bin/sh
# Written by falcotune.fleet before it stops Falco, removed when the change has ended.
# Puts the previous files back where nobody works on the change any more.
set -f
LC_ALL=C
export LC_ALL
%(variables)s
changed= left= foreign=

# alive PID START: whether it is still the process that started then (in clock ticks since boot)
alive() {
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    started=$2
    set -- ${line##*") "}
    [ "$1" != Z ] && [ "$1" != X ] && [ "${20}" = "$started" ]
}

# busy: whether somebody works on the change
busy() {
    read -r now </proc/sys/kernel/random/boot_id && [ "$now" = "$boot" ] || return 1
    %(alive)s
}

# never_stopped: whether the Falco from before this change still runs; its files are swapped after its stop
never_stopped() { %(falco)s; }

# is PATH SHA256
is() {
    [ -f "$1" ] || return 1
    sum=$(sha256sum <"$1") && [ "${sum%%%% *}" = "$2" ]
}

# back PATH SHA256 PREVIOUS OLD: the previous file (SHA256 OLD), or none; what somebody else wrote stays
back() {
    if ! is "$1" "$2"; then
        if [ -n "$4" ]; then is "$1" "$4"; else [ ! -e "$1" ]; fi || foreign=1
        return 0
    fi
    if [ -z "$3" ]; then
        rm -f -- "$1"
    elif [ -f "$3" ]; then
        mv -f -- "$3" "$1"
    else
        false
    fi && changed=1 || left="$left $1"
}

# again PATH PREVIOUS: a file that this change removed
again() {
    if [ -e "$1" ] || [ -L "$1" ]; then return 0; fi
    changed=1
    ln -- "$2" "$1" 2>/dev/null || [ -e "$1" ] || mv -f -- "$2" "$1" || left="$left $1"
}

pending() { grep -q -F "\"$token\"" "$journal" 2>/dev/null; }
committed() { grep -q -F "\"$token\"" "$record" 2>/dev/null; }
state() { systemctl is-active "$unit" 2>/dev/null; }
down() { case $(state) in inactive | failed | unknown) true ;; *) false ;; esac; }

all_new() {
%(all_new)s
}

put_back() {
%(put_back)s
    echo "falcotune: a change of $unit was broken off; its files are put back${left:+, except$left}"
}

start() {
    [ -n "$was_running" ] || return 0
    verb=start seconds=1 waited=0
    if [ -n "$changed" ] && [ "$apply" = restart ] && ! never_stopped; then verb=restart; fi
    # Whatever keeps it from starting may end: a module that is being built, a full disk.
    while [ "$waited" -lt %(tries)d ]; do
        systemctl reset-failed "$unit"
        systemctl "$verb" "$unit" && return 0
        sleep "$seconds"
        waited=$((waited + seconds)) seconds=$((seconds < 20 ? seconds + 5 : 20))
    done
}

# ended: nothing of the change is left
ended() {
    [ -z "$left" ] || return 0
    sync
    if committed; then
        rm -rf --%(committed)s
        rm -f --%(own)s
        if pending; then rm -f -- "$journal"; fi
    else
        rm -rf --%(undone)s
        rm -f --%(own)s
        mv -f -- "$journal" "$undone"
    fi
    rm -f -- "$0"
}

case $1 in
boot)
    busy && exit 0
    if committed; then
        ended
    elif pending; then
        put_back
        ended
    fi
    ;;
timer)
    seconds=0
    while busy; do
        pending || exit 0
        if down; then seconds=$((seconds + 1)); else seconds=0; fi
        if [ "$seconds" -ge %(down)d ]; then
            start
            seconds=0
        fi
        sleep 1
    done
    seconds=0
    # The next run proves a Falco that runs with all the new files.
    while pending && ! committed && all_new && [ "$(state)" = active ]; do
        seconds=$((seconds + 1))
        [ "$seconds" -lt %(up)d ] || exit 0
        sleep 1
    done
    if committed; then
        start
    elif pending; then
        tried=0
        put_back
        start
        # A file system that is read-only now may be mounted again.
        while [ -n "$left" ] && [ "$tried" -lt %(tries)d ]; do
            sleep 20
            tried=$((tried + 20)) changed= left= foreign=
            put_back
            start
        done
    else
        exit 0
    fi
    ended
    ;;
esac
"""

_UNIT = """\
# Written by falcotune.fleet before it stops %(unit)s, removed when the change has ended.
[Unit]
Description=Undo a change of %(unit)s that was broken off
DefaultDependencies=no
RequiresMountsFor=%(paths)s
After=systemd-remount-fs.service local-fs.target
Before=%(unit)s shutdown.target
Conflicts=shutdown.target
ConditionPathExists=%(journal)s

[Service]
Type=oneshot
TimeoutStartSec=120
ExecStart=/bin/sh %(script)s boot

[Install]
WantedBy=multi-user.target
"""


def path_of(entry):
    return os.path.join(entry["state_dir"], records.UNDO)


def paths(entry):
    """All that write() makes."""
    return list(_unit_paths(entry)) + [path_of(entry)]


def unit_name(token):
    return "falcotune-undo-%s.service" % token


def _unit_paths(entry):
    """(unit file, its link below multi-user.target)."""
    name, folder = unit_name(entry["token"]), entry["proof"]["host_root"].rstrip("/") + UNITS
    return os.path.join(folder, name), os.path.join(folder, WANTED_BY, name)


def _for_systemd(text):
    """One word of a unit file."""
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")


def _words(paths):
    return "".join(" " + shlex.quote(path) for path in paths)


def _target(item):
    return os.path.realpath(item["path"])


def _put_back(entry):
    """Lines that undo: files, sysctls, what systemd knows, directories."""
    lines = []
    for item in entry["files"]:
        # Only the journal of an earlier version has an old file without a second name.
        previous = "" if item["old"] is None else item.get("old_link") or "/nonexistent"
        if item["new_sha256"] is None:
            lines.append("again%s" % _words([_target(item), previous]))
        else:
            before = "" if item["old"] is None else host.digest(base64.b64decode(item["old"]))
            lines.append("back%s" % _words([_target(item), item["new_sha256"], previous, before]))
    root = entry["proof"]["host_root"].rstrip("/")
    for name, value in sorted(entry["old_sysctls"].items()):
        path = shlex.quote("%s/proc/sys/%s" % (root, name.replace(".", "/")))
        lines.append("[ ! -w %s ] || echo %s >%s" % (path, shlex.quote(value), path))
    if entry.get("runtime_dropin"):
        lines.append("rm -f --%s" % _words([entry["runtime_dropin"]]))
        lines.append("rmdir%s 2>/dev/null" % _words([os.path.dirname(entry["runtime_dropin"])]))
    if entry["daemon_reload"] or entry.get("runtime_dropin"):
        lines.append("systemctl daemon-reload")
    for folder in reversed(entry["made"]):
        # A file that is still the new one, or was made from it, may need them.
        lines.append('[ -n "$left$foreign" ] || rmdir%s 2>/dev/null' % _words([folder]))
    return "\n".join("    " + line for line in lines) or "    :"


def _all_new(entry):
    tests = []
    for item in entry["files"]:
        if item["new_sha256"] is None:
            tests.append("[ ! -e %s ]" % shlex.quote(_target(item)))
        else:
            tests.append("is%s" % _words([_target(item), item["new_sha256"]]))
    return "    " + (" &&\n        ".join(tests) or "true")


def _alive(pids):
    """For each process that runs, a test of the script whether it still does."""
    stats = [(pid, processes.Process("", pid).stat()) for pid in pids if pid]
    return ["alive %d %d" % (pid, stat[0]) for pid, stat in stats if stat]


def text(entry, pids):
    """The script. entry: of the journal. pids: of the processes that work on the change."""
    state_dir = entry["state_dir"]
    variables = {
        "token": entry["token"],
        "unit": entry["unit"],
        "apply": entry["apply"],
        "was_running": "1" if entry["was_running"] else "",
        "journal": os.path.join(state_dir, records.JOURNAL),
        "undone": os.path.join(state_dir, records.UNDONE),
        "record": os.path.join(state_dir, records.RECORD),
        "boot": host.boot_id(),
    }
    kept = [entry["kept"]] if entry.get("kept") else []
    listening = [entry["runtime_dropin"]] if entry.get("runtime_dropin") else []
    forgotten = [records.kept_folder(state_dir, number) for number in entry.get("forget") or ()]
    return _SCRIPT % {
        "variables": "\n".join("%s=%s" % (name, shlex.quote(value)) for name, value in variables.items()),
        "alive": " || ".join(_alive(pids)) or "false",
        "falco": " || ".join(_alive([entry["old_pid"]])) or "false",
        "all_new": _all_new(entry),
        "put_back": _put_back(entry),
        "committed": _words(entry["stages"] + (forgotten + kept if forgotten else [])),
        "undone": _words(entry["stages"] + kept),
        "own": _words(list(reversed(_unit_paths(entry))) + listening),
        "tries": TRIES,
        "down": DOWN_AT_MOST,
        "up": STAYS_UP,
    }


def _unit(entry):
    paths = (
        [entry["state_dir"]] + [os.path.dirname(_target(item)) for item in entry["files"]] + entry["stages"]
    )
    return _UNIT % {
        "unit": entry["unit"],
        "paths": " ".join(_for_systemd(path) for path in sorted(set(paths))),
        "journal": os.path.join(entry["state_dir"], records.JOURNAL).replace("%", "%%"),
        "script": _for_systemd(path_of(entry)),
    }


def write(entry, pids):
    """Put script and unit on disk. → notes on what this host can't have. Raises Failed."""
    missing = [name for name in NEEDS if not shutil.which(name, path=os.defpath + ":/usr/sbin:/sbin")]
    if missing:
        raise Failed(
            "the host has no %s, which would undo this change after a power cut; nothing was changed"
            % ", ".join(missing)
        )
    try:
        records.write_atomic(path_of(entry), text(entry, pids).encode("utf-8"), 0o700)
    except OSError as error:
        raise Failed("%s can't be written: %s; nothing was changed" % (path_of(entry), error.strerror))
    unit, link = _unit_paths(entry)
    try:
        records.write_atomic(unit, _unit(entry).encode("utf-8"), 0o644)
        if not os.path.isdir(os.path.dirname(link)):
            os.mkdir(os.path.dirname(link), 0o755)
            records.sync_folder(os.path.dirname(unit))
        if not os.path.islink(link):
            os.symlink("../" + os.path.basename(unit), link)
            records.sync_folder(os.path.dirname(link))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise Failed("%s can't be written: %s; nothing was changed" % (unit, error.strerror))
        return [
            "%s can't be written (%s): if this host loses power during the change, the next run undoes it, "
            "not the next boot" % (unit, error.strerror)
        ]
    return []


def remove(entry):
    """Take script and unit away. What can't be removed does nothing once the journal is gone."""
    for path in list(reversed(_unit_paths(entry))) + [path_of(entry)]:
        try:
            os.unlink(path)
        except OSError:
            continue
        records.sync_folder(os.path.dirname(path))
    folder = os.path.dirname(_unit_paths(entry)[0])
    try:
        # Of a writer that was killed (records.write_atomic).
        for name in os.listdir(folder):
            if re.match(r"^\.falcotune-\w{8}$", name):
                os.unlink(os.path.join(folder, name))
    except OSError:
        pass
