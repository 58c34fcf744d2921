# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, by release."""


class UsageError(Exception):
    pass


# name -> (takes a value, first minor release, last minor release)
_OPTIONS = {
    "h": (False, 0, 99), "help": (False, 0, 99), "c": (True, 0, 99), "o": (True, 0, 99), "option": (True, 0, 99),
    "r": (True, 0, 99), "M": (True, 0, 99), "U": (False, 0, 99), "unbuffered": (False, 0, 99), "dry-run": (False, 0, 99),
    "V": (True, 0, 99), "validate": (True, 0, 99), "i": (False, 0, 99), "L": (False, 0, 99), "l": (True, 0, 99),
    "list": (None, 0, 99), "N": (False, 0, 99), "v": (False, 0, 99), "verbose": (False, 0, 99), "version": (False, 0, 99),
    "support": (False, 0, 99), "page-size": (False, 0, 99), "markdown": (False, 0, 99), "list-plugins": (False, 0, 99),
    "plugin-info": (True, 0, 99), "P": (True, 0, 99), "pidfile": (True, 0, 99), "p": (True, 0, 99), "print": (True, 0, 99),
    "enable-source": (True, 0, 99), "disable-source": (True, 0, 99), "list-events": (False, 36, 99),
    "list-syscall-events": (False, 0, 35), "config-schema": (False, 39, 99), "rule-schema": (False, 39, 99),
    "format": (True, 44, 99), "A": (False, 0, 40), "b": (False, 0, 40), "print-base64": (False, 0, 40),
    "S": (True, 0, 40), "snaplen": (True, 0, 40), "D": (True, 0, 38), "T": (True, 0, 38), "t": (True, 0, 38),
    "cri": (True, 0, 40), "disable-cri-async": (False, 0, 40), "modern-bpf": (False, 34, 37), "nodriver": (False, 0, 37),
    "g": (True, 0, 37), "gvisor-config": (True, 0, 37), "gvisor-generate-config": (None, 0, 43), "gvisor-root": (True, 0, 37),
    "e": (True, 0, 37),
    "d": (False, 0, 35), "daemon": (False, 0, 35), "s": (True, 0, 35), "stats-interval": (True, 0, 35), "k": (True, 0, 36),
    "K": (True, 0, 36), "k8s-node": (True, 0, 36), "u": (False, 0, 36), "userspace": (False, 0, 36),
}
_SAME = {"help": "h", "option": "o", "validate": "V", "unbuffered": "U", "verbose": "v", "pidfile": "P", "print": "p",
         "snaplen": "S", "gvisor-config": "g", "list-syscall-events": "list-events"}


def help_text(release):
    """The options of a release, a line each, without Falco's words about them."""
    out = []
    for name, (value, first, last) in sorted(_OPTIONS.items(), key=lambda item: item[0].lower()):
        if first <= release.minor <= last and name not in _SAME:
            names = ["--" + long for long, short in _SAME.items() if short == name and len(long) > 1]
            names = ["-" + name if len(name) == 1 else "    --" + name] + names
            out.append("  " + ", ".join(names) + (" <value>" if value else "") + "\n")
    return "".join(out)


class Options:
    def __init__(self, argv, release):
        self.release = release
        self.flags = set()
        self.values = {}
        position = 0
        while position < len(argv):
            position = self._take(argv, position)

    def _take(self, argv, position):
        word = argv[position]
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            self._known(name, long=True)
            needs = _OPTIONS[name][0]
            if needs and not equals:
                position += 1
                value = self._value(argv, position, name)
            self._store(name, value if needs or equals else None)
        elif word.startswith("-") and len(word) > 1:
            rest = word[1:]
            while rest:
                name, rest = rest[0], rest[1:]
                self._known(name, long=False)
                if _OPTIONS[name][0]:
                    value = rest
                    if not rest:
                        position += 1
                        value = self._value(argv, position, name)
                    self._store(name, value)
                    break
                self._store(name, None)
        return position + 1

    def _known(self, name, long):
        found = _OPTIONS.get(name)
        if not found or not found[1] <= self.release.minor <= found[2] or (len(name) > 1) != long:
            raise UsageError("Option \u2018%s\u2019 does not exist" % name)

    @staticmethod
    def _value(argv, position, name):
        if position >= len(argv):
            raise UsageError("Option \u2018%s\u2019 is missing an argument" % name)
        return argv[position]

    def _store(self, name, value):
        name = _SAME.get(name, name)
        if value is None:
            self.flags.add(name)
        else:
            self.values.setdefault(name, []).append(value)

    def __contains__(self, name):
        return name in self.flags or name in self.values

    def all(self, name):
        return self.values.get(name, [])

    def last(self, name, default=None):
        return self.values.get(name, [default])[-1]
