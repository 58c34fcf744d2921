# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the host's own Falco about a candidate configuration before anything is touched."""

import os
import re
import shutil
import tempfile

from ansible_collections.falcotune.fleet.plugins.module_utils._change import yaml_text
from ansible_collections.falcotune.fleet.plugins.module_utils._host import systemd


class Refused(Exception):
    """Falco, or we, will not have this candidate. The text says why."""


def _option_value(arguments, position):
    argument = arguments[position]
    if argument in ("-o", "--option"):
        return arguments[position + 1] if position + 1 < len(arguments) else ""
    if argument.startswith("--option="):
        return argument[len("--option=") :]
    if argument.startswith("-o") and not argument.startswith("--"):
        return argument[2:]
    return None


def quiet(arguments, level="info", replace_config=False):
    """The process's own arguments for a Falco that only says something: no pid file, no daemon, its log on stderr.

    level: of that log; which system calls are selected is said at debug only. replace_config: without its main file and
    -o config_files, which the caller gives anew.
    """
    built, skip = [arguments[0]], 0
    for position in range(1, len(arguments)):
        if skip:
            skip -= 1
            continue
        argument = arguments[position]
        if argument in ("--pidfile", "-P") or replace_config and argument in ("-c", "--config"):
            skip = 1
            continue
        if argument.startswith("--pidfile=") or argument in ("-d", "--daemon"):
            continue
        if replace_config and (argument.startswith("--config=") or re.match(r"^-c[^-]", argument)):
            continue
        value = _option_value(arguments, position)
        if value is not None:
            two = argument in ("-o", "--option")
            if not (replace_config and value.startswith("config_files")):
                built.extend([argument] + ([value] if two else []))
            skip = 1 if two else 0
            continue
        built.append(argument)
    return built + ["-o", "log_stderr=true", "-o", "log_syslog=false", "-o", "log_level=" + level]


def cause(stdout, stderr, status):
    """The line of Falco's that says what is wrong, or its last ones."""
    lines = [line for line in (stderr + "\n" + stdout).splitlines() if line.strip()]
    for line in lines:
        if "Error:" in line:
            return line[line.index("Error:") :].strip()
    return " | ".join(lines[-3:]) or "exit status %s and no output" % status


def dry_run(arguments, environment, flag, main, load_order, replaced, expected, metrics_file, where):
    """Let Falco read the candidate from a private copy. Raises Refused; leaves nothing behind.

    load_order: [{'path', 'strategy'}] after the main file. replaced: {path: bytes} that differ from the disk.
    expected: {'bytes_each': of a ring buffer or None, 'selected': names of the system calls to be selected or None}.
    where: the directory in which the private copy is made. Returns Falco's buffer size in bytes as it said it, or None.
    """
    folder = tempfile.mkdtemp(dir=where, prefix="candidate-")
    try:
        names = {}

        def put(path, name):
            if path in replaced:
                data = replaced[path]
                if metrics_file:
                    # Falco opens (and makes) this file in a dry run too.
                    data = data.replace(
                        metrics_file.encode("utf-8"), os.path.join(folder, "metrics").encode("utf-8")
                    )
            else:
                with open(path, "rb") as stream:
                    data = stream.read()
            copy = os.path.join(folder, name)
            with open(copy, "wb") as stream:
                stream.write(data)
            names[copy] = path
            return copy

        listed = []
        for number, item in enumerate(load_order):
            copy = put(item["path"], "%04d-%s" % (number, os.path.basename(item["path"])))
            if item.get("strategy"):
                listed.append("  - path: %s\n    strategy: %s\n" % (copy, item["strategy"]))
            else:
                listed.append("  - %s\n" % copy)
        main_copy = put(main, "falco.yaml")
        if listed or load_order:
            with open(main_copy, "rb") as stream:
                text = stream.read().decode("utf-8")
            try:
                text = yaml_text.replace(text, {"config_files": "config_files:\n" + "".join(listed)})
            except ValueError as error:
                raise Refused("%s %s" % (main, error))
            with open(main_copy, "wb") as stream:
                stream.write(text.encode("utf-8"))
        asking = quiet(arguments, "info" if expected["selected"] is None else "debug", replace_config=True)
        return _ask(asking + ["-c", main_copy, flag], environment, names, replaced, expected, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ask(arguments, environment, names, replaced, expected, folder):
    status, out, err = systemd.run(arguments, timeout=120, environment=environment)

    def told(text):
        for copy, path in names.items():
            text = text.replace(copy, path)
        return text.replace(folder, "(candidate)")

    if status != 0:
        raise Refused("Falco refuses the candidate configuration: %s" % told(cause(out, err, status)))
    for line in (out + err).splitlines():
        match = re.search(r"(\S+) \| schema validation: failed for (.*)", line)
        # Only our own fragment: what others wrote before us is theirs, and no reason to stop.
        if match and names.get(match.group(1)) in replaced and not match.group(1).endswith("/falco.yaml"):
            raise Refused(
                "Falco's schema does not know what would be written to %s: %s"
                % (names[match.group(1)], match.group(2))
            )
    if expected["selected"] is not None:
        _same_selection(out + err, expected["selected"])
    match = re.search(r"The chosen syscall buffer dimension is: (\d+) bytes", out + err)
    if match and expected["bytes_each"] and int(match.group(1)) != expected["bytes_each"]:
        raise Refused(
            "with the candidate Falco would take buffers of %s bytes instead of %d: something overrides the setting "
            "(a later fragment, or -o in the unit)" % (match.group(1), expected["bytes_each"])
        )
    return int(match.group(1)) if match else None


def _same_selection(text, selected):
    """Raises Refused where Falco would not select what was planned, and what the plan says of blind rules would not hold."""
    match = re.search(r"\(\d+\) syscalls selected in total \(final set\): (.*)$", text, re.M)
    if not match:
        raise Refused("with the candidate Falco does not say which system calls it selects")
    found = {name.strip() for name in match.group(1).split(", ")}
    more, fewer = sorted(found - set(selected)), sorted(set(selected) - found)
    if more or fewer:
        raise Refused(
            "with the candidate Falco would not select the planned system calls: it adds %s and leaves out %s; did the rules "
            "change, or does something override base_syscalls?"
            % (", ".join(more) or "none", ", ".join(fewer) or "none")
        )
