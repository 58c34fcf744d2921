# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML as Falco's parser sees it: every scalar is text, and the first of two equal keys counts."""

import os

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = ("", "~", "null", "Null", "NULL")
_TRUE = frozenset(form for word in ("y", "yes", "true", "on") for form in (word, word.upper(), word.capitalize()))
_FALSE = frozenset(form for word in ("n", "no", "false", "off") for form in (word, word.upper(), word.capitalize()))


class YamlError(Exception):
    pass


class Scalar(str):
    """Text that remembers where it stood."""

    mark = (0, 0)


class Map(dict):
    mark = (0, 0)
    duplicates = False


class Seq(list):
    mark = (0, 0)


def _open_bracket(text, index):
    """The innermost bracket still open at a place."""
    open_ones = []
    for char in text[:index]:
        if char in "[{":
            open_ones.append(char)
        elif char in "]}" and open_ones:
            open_ones.pop()
    return open_ones[-1] if open_ones else ""


def _message(error, source):
    context = getattr(error, "context", None) or ""
    problem = getattr(error, "problem", None) or ""
    mark = getattr(error, "problem_mark", None)
    bracket = _open_bracket(source, mark.index) if mark and "flow" in context else ""
    if bracket == "[":
        text = "end of sequence flow not found"
    elif bracket == "{":
        text = "end of map flow not found"
    elif "mapping values" in problem:
        text = "illegal map value"
    elif "block collection" in context:
        text = "end of sequence not found"
    elif "block mapping" in context:
        text = "end of map not found"
    elif "quoted scalar" in context:
        text = "illegal EOF in scalar"
    else:
        text = problem or "bad file"
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return "yaml-cpp: error at line %d, column %d: %s" % (line, column, text)


def expand(text, whole_only=False):
    """${NAME} is replaced by the variable (unset: nothing); $${NAME} stays, less one dollar."""
    if "${" not in text:
        return text
    if whole_only:
        if text.startswith("${") and text.endswith("}"):
            return os.environ.get(text[2:-1], "")
        return text
    out, position = [], 0
    while True:
        start = text.find("${", position)
        end = text.find("}", start)
        if start < 0 or end < 0:
            out.append(text[position:])
            return "".join(out)
        if start > position and text[start - 1] == "$":
            out.append(text[position:start - 1] + text[start:end + 1])
        else:
            out.append(text[position:start] + os.environ.get(text[start + 2:end], ""))
        position = end + 1


def _convert(node, last, whole_only):
    mark = (node.start_mark.line + 1, node.start_mark.column + 1)
    if isinstance(node, yaml.ScalarNode):
        if not node.style and node.value in _NULLS:
            return None
        value = Scalar(expand(node.value, whole_only))
    elif isinstance(node, yaml.SequenceNode):
        value = Seq(_convert(item, last, whole_only) for item in node.value)
    else:
        value = Map()
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else str(key_node.start_mark)
            if key in value:
                value.duplicates = True
                if not last:
                    continue
            value[key] = _convert(value_node, last, whole_only)
    value.mark = mark
    return value


def parse(text, last=False, whole_only=False):
    """One document. `last` keeps the last of two equal keys, as Falco's dump does."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise YamlError(_message(error, text))
    return None if node is None else _convert(node, last, whole_only)


def compose(text):
    try:
        return yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise YamlError(_message(error, text))


def as_bool(value, default):
    if isinstance(value, str):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
    return default


def as_int(value, default, low, high):
    if not isinstance(value, str):
        return default
    try:
        number = int(value, 16) if value.lower().startswith("0x") else int(value)
    except ValueError:
        return default
    return number if low <= number <= high else default


def as_float(value, default):
    try:
        return float(value) if isinstance(value, str) else default
    except ValueError:
        return default


def as_str(value, default):
    return str(value) if isinstance(value, str) else default


def as_list(value):
    """A lone scalar counts as a list of one."""
    if isinstance(value, list):
        return [str(item) for item in value if isinstance(item, str)]
    return [str(value)] if isinstance(value, str) else []
