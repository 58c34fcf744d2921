# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command lines and environments of units: quoting, escapes and variables, as systemd reads them (systemd.syntax, systemd.service)."""

ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "s": " ", "t": "\t", "v": "\v"}
NUMBERS = {"x": (2, 16), "u": (4, 16), "U": (8, 16)}
PREFIXES = "-@+!:|"


def quote(word):
    """A word for a unit file: in double quotes where systemd would split or change it. Specifiers (%) are left as they are."""
    if word and not any(char.isspace() or char in "\"'\\;" for char in word):
        return word
    return '"%s"' % word.replace("\\", "\\\\").replace('"', '\\"')


def escaped(text, at):
    """(what an escape stands for, where it ends); `at` is the place after the backslash."""
    char = text[at:at + 1]
    if char in NUMBERS:
        digits, base = NUMBERS[char]
        return chr(int(text[at + 1:at + 1 + digits], base)), at + 1 + digits
    if char in "01234567" and char:
        return chr(int(text[at:at + 3], 8)), at + 3
    return ESCAPES.get(char, char), at + 1


def split(text):
    """Words of a line. Quotes and escapes count wherever they are in a word, as in systemd's extract_first_word()."""
    words, word, mark = [], None, None
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "\\":
            char, at = escaped(text, at)
            word = (word or "") + char
        elif mark:
            if char == mark:
                mark = None
            else:
                word += char
        elif char in "\"'":
            mark, word = char, word or ""
        elif char.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + char
    return words if word is None else [*words, word]


def split_command(line):
    """Words of an Exec line, without the prefixes of its program; %% is one percent sign."""
    return [word.replace("%%", "%") for word in split(line.lstrip(PREFIXES))]


def environment_of(settings):
    """Variables that a unit's Environment= lines set."""
    found = {}
    for line in settings.get("Environment", []):
        for word in split(line):
            name, _equals, value = word.partition("=")
            found[name] = value
    return found


def expand(words, environment):
    """The words with the unit's variables: $NAME alone gives any number of words, ${NAME} none but its own."""
    out = []
    for word in words:
        if word.startswith("$") and word[1:].isidentifier():
            out.extend(environment.get(word[1:], "").split())
            continue
        for name, value in environment.items():
            word = word.replace("${%s}" % name, value)
        out.append(word.replace("$$", "$"))
    return out
