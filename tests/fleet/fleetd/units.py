# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unit files: where they are, aliases, drop-ins, and what they set."""

import os

from fleetd import files

UNIT_DIRS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
LISTS = {"ExecStart", "ExecStartPre", "ExecReload", "ExecStop", "Environment", "ReadWritePaths", "WantedBy",
         "RequiredBy", "Alias", "Wants", "Requires", "Before", "After", "Documentation", "ConditionPathExists"}

RENAMED = {"ReadWriteDirectories": "ReadWritePaths"}


class Failure(Exception):
    """A message for standard error, and an exit status."""

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


def full_name(name):
    return name if "." in name else name + ".service"


def find_file(name):
    for folder in UNIT_DIRS:
        path = folder + "/" + name
        if os.path.lexists(files.ROOT + path):
            return path
    return None


def resolve(name):
    """(Id, path of the fragment as the host says it or None, masked) of a unit's name or alias."""
    for _hop in range(8):
        path = find_file(name)
        if path is None:
            return name, None, False
        if not os.path.islink(files.ROOT + path):
            return name, path, False
        target = os.readlink(files.ROOT + path)
        if target == "/dev/null":
            return name, path, True
        name = os.path.basename(target)
    return name, None, False


def all_names():
    names = set()
    for folder in UNIT_DIRS:
        try:
            names.update(entry for entry in os.listdir(files.ROOT + folder) if entry.endswith(".service"))
        except OSError:
            pass
    return sorted(names)


def names_of(unit_id):
    return [unit_id] + [name for name in all_names() if name != unit_id and resolve(name)[0] == unit_id]


def dropins_of(names):
    found = {}
    for folder in reversed(UNIT_DIRS):
        for name in reversed(names):
            try:
                entries = os.listdir(files.ROOT + folder + "/" + name + ".d")
            except OSError:
                continue
            found.update({entry: folder + "/" + name + ".d/" + entry for entry in entries if entry.endswith(".conf")})
    return [found[entry] for entry in sorted(found)]


def read_unit_file(path, values):
    with open(files.ROOT + path) as stream:
        text = stream.read().replace("\\\n", " ")
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#;[" or "=" not in line:
            continue
        key, value = (part.strip() for part in line.split("=", 1))
        key = RENAMED.get(key, key)
        if key == "TimeoutSec":
            values["TimeoutStartSec"] = values["TimeoutStopSec"] = value
        elif key not in LISTS:
            values[key] = value
        elif not value:
            values[key] = []
        else:
            values.setdefault(key, []).append(value)


def stamp_of(unit_id):
    """What tells whether files changed since they were loaded."""
    _id, fragment, _masked = resolve(unit_id)
    stamp = {}
    for path in [fragment] + dropins_of(names_of(unit_id)):
        if path:
            info = os.stat(files.ROOT + path)
            stamp[path] = [info.st_mtime_ns, info.st_size]
    return stamp


def load_unit(unit_id):
    _id, fragment, masked = resolve(unit_id)
    if fragment is None or masked:
        return {"id": unit_id, "names": [unit_id], "load": "masked" if masked else "not-found", "fragment": fragment or "",
                "dropins": [], "values": {}, "stamp": {}}
    names = names_of(unit_id)
    dropins = dropins_of(names)
    values = {}
    for path in [fragment] + dropins:
        read_unit_file(path, values)
    return {"id": unit_id, "names": names, "load": "loaded", "fragment": fragment, "dropins": dropins, "values": values,
            "stamp": stamp_of(unit_id)}


def install_links(unit_id, values):
    for target in " ".join(values.get("WantedBy", [])).split():
        yield "/etc/systemd/system/%s.wants/%s" % (target, unit_id)
    for alias in " ".join(values.get("Alias", [])).split():
        yield "/etc/systemd/system/" + alias


def file_state(name):
    unit_id, fragment, masked = resolve(name)
    if masked:
        return "masked"
    if fragment is None:
        return "not-found"
    if unit_id != name:
        return "alias"
    links = list(install_links(unit_id, load_unit(unit_id)["values"]))
    if not links:
        return "static"
    for link in links:
        if os.path.islink(files.ROOT + link) and os.path.basename(os.readlink(files.ROOT + link)) == unit_id:
            return "enabled"
    return "disabled"


def known(name):
    unit_id, fragment, masked = resolve(full_name(name))
    if masked:
        raise Failure("Unit %s is masked." % unit_id, 1)
    if fragment is None:
        raise Failure("Unit %s not found." % unit_id, 5)
    return unit_id
