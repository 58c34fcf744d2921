# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the host's own Falco about a candidate configuration before anything is touched."""

import functools
import os
import re
import shutil
import tempfile

from ansible_collections.falcotune.fleet.plugins.module_utils._change import access, yaml_text
from ansible_collections.falcotune.fleet.plugins.module_utils._host import command_line, host, systemd


class Refused(Exception):
    """This candidate must not be written: Falco refuses it, or would not run as planned.

    The text says why.
    """


def cause(stdout, stderr, status):
    """The line in which Falco says what is wrong, or its last ones."""
    lines = [line for line in (stderr + "\n" + stdout).splitlines() if line.strip()]
    for line in lines:
        if "Error:" in line:
            return line[line.index("Error:") :].strip()
    return " | ".join(lines[-3:]) or "exit status %s and no output" % status


def dry_run(
    arguments, environment, flag, main, load_order, replaced, expected, metrics_file, where, user=None
):
    """Let Falco read the candidate from a private copy. Raises Refused; leaves nothing behind.

    load_order: [{'path', 'strategy'}] after the main file. replaced: {path: bytes} that differ from the disk.
    expected: {'bytes_each': of a ring buffer or None, 'selected': names of system calls or None}.
    where: the directory in which the private copy is made. user: the access.Account of Falco's user, None for
    this process's. Returns the buffer size in bytes that Falco printed, or None.
    """
    folder = tempfile.mkdtemp(dir=where, prefix="candidate-")
    copies = _Copies(folder, replaced, metrics_file)
    try:
        listed = []
        for number, item in enumerate(load_order):
            copy = copies.put(item["path"], "%04d-%s" % (number, os.path.basename(item["path"])))
            if item.get("strategy"):
                listed.append("  - path: %s\n    strategy: %s\n" % (copy, item["strategy"]))
            else:
                listed.append("  - %s\n" % copy)
        main_copy = copies.put(main, "falco.yaml")
        if listed:
            _list_files(main, main_copy, listed)
        level = "info" if expected["selected"] is None else "debug"
        asking = command_line.quiet(arguments, level, replace_config=True) + ["-c", main_copy, flag]
        if user:
            _give(folder, user)
        return _ask(asking, environment, copies, expected, user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Copies:
    """Private copies of configuration files. names: {copy: path}."""

    def __init__(self, folder, replaced, metrics_file):
        self.folder, self.replaced, self.metrics_file = folder, replaced, metrics_file
        self.names = {}

    def put(self, path, name):
        """The path of the copy that Falco reads in place of this file."""
        if path in self.replaced:
            data = self.replaced[path]
            if self.metrics_file:
                # Falco opens (and makes) this file in a dry run too.
                private = os.path.join(self.folder, "metrics")
                data = data.replace(self.metrics_file.encode("utf-8"), private.encode("utf-8"))
        else:
            with host.regular(path) as stream:
                data = stream.read()
        copy = os.path.join(self.folder, name)
        with open(copy, "wb") as stream:
            stream.write(data)
        self.names[copy] = path
        return copy

    def told(self, text):
        """What Falco says, with the host's own paths."""
        for copy, path in self.names.items():
            text = text.replace(copy, path)
        return text.replace(self.folder, "(candidate)")


def _list_files(main, copy, listed):
    """Replace config_files in the copy of the main file."""
    with open(copy, "rb") as stream:
        text = stream.read().decode("utf-8")
    try:
        text = yaml_text.replace(text, {"config_files": "config_files:\n" + "".join(listed)})
    except ValueError as error:
        raise Refused("%s %s" % (main, error))
    with open(copy, "wb") as stream:
        stream.write(text.encode("utf-8"))


def _give(folder, user):
    """Make the copies the user's own."""
    for name in os.listdir(folder):
        os.chown(os.path.join(folder, name), user.uid, user.gid)
    os.chown(folder, user.uid, user.gid)


def _ask(arguments, environment, copies, expected, user):
    prepare = functools.partial(access.become, user) if user else None
    status, out, err = systemd.run(arguments, timeout=120, environment=environment, prepare=prepare)
    if status != 0:
        raise Refused("Falco refuses the candidate configuration: %s" % copies.told(cause(out, err, status)))
    for copy, complaint in re.findall(r"(\S+) \| schema validation: failed for (.*)", out + err):
        # Only our own fragment: what others wrote before us is theirs, and no reason to stop.
        if copies.names.get(copy) in copies.replaced and not copy.endswith("/falco.yaml"):
            raise Refused(
                "Falco's schema does not know what would be written to %s: %s"
                % (copies.names[copy], complaint)
            )
    if expected["selected"] is not None:
        _same_selection(out + err, expected["selected"])
    match = re.search(r"The chosen syscall buffer dimension is: (\d+) bytes", out + err)
    if match and expected["bytes_each"] and int(match.group(1)) != expected["bytes_each"]:
        raise Refused(
            "with the candidate Falco would take buffers of %s bytes instead of %d: something overrides the "
            "setting (a later fragment, or -o in the unit)" % (match.group(1), expected["bytes_each"])
        )
    return int(match.group(1)) if match else None


def _same_selection(text, selected):
    """Raises Refused where Falco would select other system calls: what the plan says of blind rules would not
    hold.
    """
    match = re.search(r"\(\d+\) syscalls selected in total \(final set\): (.*)$", text, re.M)
    if not match:
        raise Refused("with the candidate Falco does not say which system calls it selects")
    found = {name.strip() for name in match.group(1).split(", ")}
    more, fewer = sorted(found - set(selected)), sorted(set(selected) - found)
    if more or fewer:
        raise Refused(
            "with the candidate Falco would not select the planned system calls: it adds %s and leaves out "
            "%s; did the rules change, or does something override base_syscalls?"
            % (", ".join(more) or "none", ", ".join(fewer) or "none")
        )
