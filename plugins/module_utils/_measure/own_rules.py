# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules and plugins of the host's own Falco, for a private one. Stdlib only, Python 3.6+.

The configuration of plugins may hold secrets: it is copied from file to file as text, and never leaves the
host.
"""

import os

from ansible_collections.falcotune.fleet.plugins.module_utils._change import yaml_text
from ansible_collections.falcotune.fleet.plugins.module_utils._host import command_line, host

# Bytes of one rules file, of all of them, and their number: Falco's own are three with 0.2 MB.
MAX_RULES, MAX_FILES = 2 << 20, 200
# Falco's options about rules, before 0.41: -D, -T and -t choose rules, -A and -S what is captured.
_WITH_VALUE, _ALONE = ("-D", "-T", "-t", "-S", "--snaplen"), ("-A",)
_RULES = ("-r",)


class Unusable(Exception):
    """The host's own rules or plugins can't be taken over; the text says why."""


class Fragments:
    """Private copies of parts of configuration files. texts: {name: text}. entries: [(name, strategy)]."""

    def __init__(self):
        self.texts, self.entries = {}, []

    def put(self, text, strategy):
        name = "config-%02d.yaml" % len(self.entries)
        self.texts[name] = text
        self.entries.append((name, strategy))

    def listed(self, place):
        """The setting config_files, or nothing. place: stands for the private directory."""
        if not self.entries:
            return {}
        return {
            "config_files": [
                {"path": "%s/%s" % (place, name), "strategy": strategy}
                if strategy
                else "%s/%s" % (place, name)
                for name, strategy in self.entries
            ]
        }


class Own:
    """What the host's own Falco loads.

    wanted: the request's 'own_rules' (_trial/requests.py). arguments: of the host's own Falco, its path
    first.
    """

    def __init__(self, wanted, arguments):
        self.wanted = wanted
        self.paths = _values(arguments, _RULES) or wanted["paths"]

    def blocks(self):
        """(text for the private main file, Fragments): the configuration of plugins as the host has it."""
        after, fragments = "", Fragments()
        for number, source in enumerate(self.wanted["sources"]):
            text = host.read(source["path"])
            if text is None:
                raise Unusable("%s can't be read" % source["path"])
            try:
                yaml_text.spans(text)
            except ValueError as error:
                raise Unusable("%s: %s. A trial of rules can't copy its plugins" % (source["path"], error))
            parts = [yaml_text.block(text, key) for key in self.wanted["blocks"]]
            found = "".join(part.rstrip("\n") + "\n" for part in parts if part)
            if not found:
                continue
            if number == 0:
                after = found.lstrip(yaml_text.BOM)
            else:
                fragments.put(found, source["strategy"])
        return after, fragments

    def named(self):
        """The setting that names the rules files."""
        return {self.wanted["key"]: self.paths}

    def files(self):
        """The rules files in the order in which Falco reads them; what does not exist is skipped."""
        found = []
        for path in self.paths:
            if not os.path.isdir(path):
                found.append(path)
                continue
            members = [os.path.join(path, name) for name in sorted(os.listdir(path))]
            if self.wanted["only_yaml"]:
                members = [member for member in members if member.endswith((".yaml", ".yml"))]
            found.extend(members)
        return [path for path in found if os.path.isfile(path)]

    def texts(self):
        """[[path, text]] of the rules files. Raises Unusable."""
        found, left = [], MAX_RULES
        for path in self.files():
            text = host.read(path, left + 1)
            if text is None:
                raise Unusable("the rules file %s can't be read" % path)
            left -= len(text)
            if left < 0 or len(found) >= MAX_FILES:
                raise Unusable(
                    "the rules files hold more than %d bytes, or are more than %d: a trial can't take rules "
                    "out of them" % (MAX_RULES, MAX_FILES)
                )
            found.append([path, text])
        return found


def _values(arguments, names):
    """The values of some short options: -r FILE, -rFILE."""
    found, position = [], 1
    while position < len(arguments):
        word = arguments[position]
        position += 1
        for name in names:
            if word == name:
                found.extend(arguments[position : position + 1])
                position += 1
            elif word.startswith(name) and not word.startswith("--"):
                found.append(word[len(name) :])
    return found


def options(arguments):
    """The options of a Falco that decide which rules and plugins it loads, for another one."""
    found = []
    for name, value, words in command_line.parse(arguments):
        if name == "option" and value.split(".")[0].split("[")[0].split("=")[0] in (
            "plugins",
            "plugins_hostinfo",
            "container_engines",
        ):
            found += ["-o", value]
        elif name is None and words[0] in _ALONE:
            found += words
    for name in _WITH_VALUE:
        for value in _values(arguments, (name,)):
            found += [name, value]
    return found
