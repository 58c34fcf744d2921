# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's command line: the options that this collection must understand. Stdlib only, Python 3.6+."""

# Falco's options that take a value: {name: (short form, long form)}.
_WITH_VALUE = {"config": ("-c", "--config"), "option": ("-o", "--option"), "pidfile": ("-P", "--pidfile")}
# Only these may be written together with their value, as in -oengine.kind=kmod.
_JOINED = ("config", "option")
_DAEMON = ("-d", "--daemon")


def parse(arguments):
    """[(name, value, words)] of the arguments after the program's name.

    name:  'config', 'option', 'pidfile', 'daemon', or None for an argument of any other kind
    value: of the option; '' where it takes one and none follows, None where it takes none
    words: the arguments as they were given
    """
    found, position = [], 1
    while position < len(arguments):
        name, value, length = _option(arguments, position)
        found.append((name, value, list(arguments[position : position + length])))
        position += length
    return found


def _option(arguments, position):
    """(name, value, number of words) of the option at this position."""
    argument = arguments[position]
    if argument in _DAEMON:
        return "daemon", None, 1
    for name, (short, long) in _WITH_VALUE.items():
        if argument in (short, long):
            return name, "".join(arguments[position + 1 : position + 2]), 2
        if argument.startswith(long + "="):
            return name, argument[len(long) + 1 :], 1
        if name in _JOINED and argument.startswith(short) and not argument.startswith("--"):
            return name, argument[len(short) :], 1
    return None, None, 1


def main_file(arguments):
    """The configuration file that -c names, or None."""
    return next((value for name, value, dummy in parse(arguments) if name == "config" and value), None)


def options(arguments):
    """The values of all -o: ['engine.kind=kmod', …]."""
    return [value for name, value, dummy in parse(arguments) if name == "option"]


def quiet(arguments, level="info", replace_config=False):
    """The process's own arguments for a Falco that only prints: no pid file, no daemon, its log on stderr.

    level: of that log; Falco prints the selected system calls at debug only. replace_config: without the main
    file and -o config_files, which the caller adds.
    """
    built = [arguments[0]]
    for name, value, words in parse(arguments):
        if name in ("pidfile", "daemon"):
            continue
        if replace_config and (name == "config" or name == "option" and value.startswith("config_files")):
            continue
        built.extend(words)
    return built + ["-o", "log_stderr=true", "-o", "log_syslog=false", "-o", "log_level=" + level]
