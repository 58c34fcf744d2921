# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Top-level blocks of a YAML file as text, for hosts without PyYAML.

Only what needs no YAML parser: where a top-level key's block begins and ends, and which words in config_files
may be paths. Everything that must be understood is parsed on the controller.
"""

import re

# YAML 1.2, and so Falco, breaks lines nowhere else; str.splitlines() does, at U+2028 for one.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")

_KEY = re.compile(
    r"""^(?:"([^"\\]+)"|'([^']+)'|([^\s#'"\[\]{},&*!|>%@`:-][^#:]*?|[^\s#'"\[\]{},&*!|>%@`:-]))\s*:(?:\s|$)"""
)


# A document's beginning or end, where nothing but a comment follows it.
_MARK = re.compile(r"^(---|\.\.\.)\s*(?:$|(?<=\s)#)")


def _lines(text):
    """The lines of the first document, the one that Falco reads, and those after it.

    The byte order mark before the first line belongs to neither; ValueError where a second document holds
    something.
    """
    lines, begun = _LINE.findall(text), False
    for number, line in enumerate(lines):
        if _MARK.match(line) and begun:
            if any(other.strip() and other[0] != "#" and not _MARK.match(other) for other in lines[number:]):
                raise ValueError("line %d: more than one document" % (number + 1))
            return lines[:number], lines[number:]
        bare = line.lstrip(BOM).strip()
        begun = begun or bool(bare) and not bare.startswith(("#", "%", "..."))
    return lines, []


BOM = "\ufeff"


def spans(text):
    """[(key, first line, line after the last)] of the top-level blocks of the first document; comments before
    a key are not part of it.

    ValueError where the root is no block mapping that can be cut by lines.
    """
    found, key, start, content_end = [], None, 0, 0
    for number, line in enumerate(_lines(text)[0]):
        line = line.lstrip(BOM) if number == 0 else line
        if not line.strip():
            continue
        if line[0] in " \t":
            content_end = number + 1
            continue
        if line.startswith(("#", "%")):
            continue
        if _MARK.match(line):
            continue
        if line.startswith(("- ", "-\n")) and key is not None:
            content_end = number + 1  # a list that is not indented below its key
            continue
        match = _KEY.match(line)
        if not match:
            if key is not None and line[0] in "]}":
                content_end = number + 1
                continue
            raise ValueError("line %d: expected a top-level key" % (number + 1))
        if key is not None:
            found.append((key, start, content_end))
        key = next(group for group in match.groups() if group)
        start, content_end = number, number + 1
    if key is not None:
        found.append((key, start, content_end))
    return found


def replace(text, blocks):
    """The text with whole top-level blocks replaced; new ones go to the end of the first document. Everything
    else stays byte for byte.

    blocks: {key: text of the block, with its key}. ValueError as spans(), or where a key is there twice.
    """
    lines, after = _lines(text)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    where = {}
    for key, start, end in spans(text):
        if key in where and key in blocks:
            raise ValueError("line %d: the key %s is given twice" % (start + 1, key))
        where[key] = (start, end)
    for key in sorted((key for key in blocks if key in where), key=lambda name: -where[name][0]):
        start, end = where[key]
        mark = BOM if start == 0 and lines[0].startswith(BOM) else ""
        lines[start:end] = [mark + blocks[key].rstrip("\n") + "\n"]
    for key in sorted(key for key in blocks if key not in where):
        lines.append("\n" + blocks[key].rstrip("\n") + "\n")
    return "".join(lines + after)


def block(text, key):
    """The text of one top-level block, or None."""
    lines = _LINE.findall(text)
    try:
        for name, start, end in spans(text):
            if name == key:
                return "".join(lines[start:end])
    except ValueError:
        return None
    return None


def path_words(text):
    """Every word of a config_files block that may be a path: more than needed, never fewer.

    A file that can't be cut into blocks is searched whole.
    """
    part = block(text, "config_files")
    if part is None:
        part = text if re.search(r"^\s*\{|config_files", text) else ""
    words = []
    for line in part.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line)
        line = re.sub(r"\S*\$\{[^}]*\}\S*", " ", line)  # the controller expands variables, and asks again
        words.extend(
            word.rstrip("/") or "/" for word in re.findall(r"""[^\s,\[\]{}"']*/[^\s,\[\]{}"']*""", line)
        )
    return [word for word in words if not word.endswith(":")]
