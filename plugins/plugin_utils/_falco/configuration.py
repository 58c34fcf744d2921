# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's configuration as a given release reads it: files, merge rules, -o options and environment.

Pure functions over texts; the facts module brings the texts. Verified against recorded merges of Falco 0.38.2
and 0.44.1. Sources: userspace/falco/configuration.cpp, userspace/engine/yaml_helper.h.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import Any, NamedTuple, TypedDict

import yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted, _yaml
from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco.releases import Key, Release


class InForce(NamedTuple):
    """value: as Falco takes it; set: whether a file or an option sets it; legal: whether Falco can use what
    is set."""

    value: Any
    set: bool
    legal: bool


class Merged(TypedDict):
    """The configuration as merge() puts it together from its files.

    effective has variables expanded, raw has not. Nobody may change either: values are shared with other
    hosts. order: the loaded files. entry: the entry of config_files
    that brought each file (-1: the main file); strategy: its strategy. listed: all entries. keys: what each
    file holds. origin: which file, or '-o', decided each top-level key. duplicates: (path, key, line).
    """

    effective: dict[str, Any]
    raw: dict[str, Any]
    order: list[str]
    origin: dict[str, str]
    entry: dict[str, int]
    strategy: dict[str, str | None]
    listed: list[tuple[str, str | None]]
    keys: dict[str, list[str]]
    duplicates: list[tuple[str, str, int]]


class ConfigError(ValueError):
    """A file that Falco would refuse, or that can't be read for sure. The text names file and line."""


# A configuration has a few hundred values in five levels; aliases of aliases can make billions of a few
# lines.
MAX_NODES = 100000
# Values in all files of a host together: about a second of CPU.
MAX_HOST_NODES = 400000
DEEPEST = 64
# Values, list places and steps of one -o. Falco's own keys have three steps.
MAX_OPTION_NODES = 1000
MAX_PLACES = 100
MAX_STEPS = 16
# Entries of config_files.
MAX_ENTRIES = 500
# Of a file whose blocks are read one by one: blocks, and characters and values of each. Falco's own have 40
# blocks with their comments of at most 9000 characters.
MOST_BLOCKS = 200
MOST_OF_A_BLOCK = 1 << 14
MOST_IN_A_BLOCK = 200
# Characters of a key. The longest one of Falco has 40.
LONGEST_KEY = 1000
# Characters that variables may put into the configuration of a host.
MAX_EXPANDED = 1 << 24
# Falco's numbers have at most 20 digits. Longer ones stay text: to convert a text of n digits costs n² steps.
LONGEST_NUMBER = 40
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_TYPES = {
    "tag:yaml.org,2002:bool": _CONSTRUCTOR.construct_yaml_bool,
    "tag:yaml.org,2002:int": _CONSTRUCTOR.construct_yaml_int,
    "tag:yaml.org,2002:float": _CONSTRUCTOR.construct_yaml_float,
}
# {first character: [(tag, pattern)]} of the types above.
_RESOLVERS = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in _TYPES]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _scalar(text: str) -> Any:
    """The typed value of a plain scalar, as PyYAML's safe loader makes it.

    Dates and numbers to the base 60 stay text, as in Falco.
    """
    first = text[:1]
    if first not in _RESOLVERS or len(text) > LONGEST_NUMBER or ":" in text:
        return text
    return _resolved(text)


# The words of a configuration are the same on all hosts, and their values never change.
@lru_cache(maxsize=1024)
def _resolved(text: str) -> Any:
    for tag, pattern in _RESOLVERS[text[:1]]:
        if pattern.match(text):
            return _TYPES[tag](yaml.ScalarNode(tag, text))
    return text


def _typed(value: _yaml.Value) -> Any:
    """Python values of an _yaml.Value. Raises _yaml.Unreadable.

    What an alias names is made once more wherever it is named: nothing is shared.
    """
    data = value.data
    if isinstance(data, str):
        return _scalar(data) if value.plain else data
    if isinstance(data, dict):
        for key, item in data.items():
            if len(key) > LONGEST_KEY:
                raise _yaml.Unreadable("a key has more than %d characters" % LONGEST_KEY, item.line)
        return {key: _typed(item) for key, item in data.items()}
    return [_typed(item) for item in data] if isinstance(data, list) else None


def _document(text: str, most: int = MAX_NODES) -> _yaml.Document | None:
    """The first document of a text, which is the one that Falco reads, or None. Raises _yaml.Unreadable.

    most: values in it.

    A second document that holds something is an error: whoever wrote it takes it to be in force.
    """
    # As bytes: libyaml refuses the text types that ansible-core before 2.19 wraps around what hosts send.
    found = None
    for document in _yaml.documents(str.encode(text, "utf-8", "surrogatepass"), DEEPEST, most):
        if found and document.root.data is not None:
            raise _yaml.Unreadable(
                "not YAML that Falco reads whole: a second document begins here", document.root.line - 1
            )
        found = found or document
    return found


# A line with a top-level key, of which no other line of its file decides what it is.
_BLOCK = re.compile(r"^(?=[A-Za-z_][A-Za-z0-9_.-]*:[ \n])", re.MULTILINE)
# Comments of characters that YAML permits.
_COMMENTS = re.compile("(?: *(?:#[ -~\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]*)?\n)*")
# Borders of documents, and what else than a line feed ends a line.
_MARKER = re.compile("^(?:---|\\.\\.\\.)|[\r\x85\u2028\u2029\ufeff\ud800-\udfff]", re.MULTILINE)


def _is_plain(text: str) -> bool:
    """Whether _MARKER is for sure not in a text. It looks at each character, and this is quick."""
    return text.isascii() and not (
        text.startswith(("---", "...")) or "\n---" in text or "\n..." in text or "\r" in text
    )


# A text is split to be read and once more for its comments.
@lru_cache(maxsize=4)
def _split(text: str) -> tuple[str, ...]:
    """What stands before the first line with a top-level key, and what begins with each of them."""
    return tuple(_BLOCK.split(text))


def _by_blocks(text: str) -> tuple[dict[str, Any], int] | None:
    """(mapping, number of values) of a file, or None where it has to be read as a whole.

    Hosts of a fleet have the same blocks in files that differ, so a block that was read is not read again. A
    line in column 0 that begins with a key ends whatever stands before it, unless brackets, quotes, anchors
    or documents go on across it, and then one of the blocks cannot be read by itself. Whatever is wrong with
    a file or only unusual is left to the reader of whole files, which knows the lines.
    """
    if not _is_plain(text) and _MARKER.search(text):
        return None
    head, *blocks = _split(text)
    if not _COMMENTS.fullmatch(head) or not 0 < len(blocks) <= MOST_BLOCKS:
        return None
    found: dict[str, Any] = {}
    keys = values = 0
    for block in blocks:
        part = _block(block) if len(block) <= MOST_OF_A_BLOCK else None
        if part is None:
            return None
        found.update(part[0])
        keys, values = keys + len(part[0]), values + part[1]
    return (found, values) if keys == len(found) else None


@lru_cache(maxsize=512)
def _block(text: str) -> tuple[dict[str, Any], int] | None:
    """(mapping, number of values) of some lines, or None where they are no mapping by themselves.

    Nobody may change what is returned.
    """
    try:
        document = _document(text, MOST_IN_A_BLOCK)
        if document is None or document.duplicates or document.odd_keys:
            return None
        data = _typed(document.root)
    except _yaml.Unreadable:
        return None
    return (data, document.values) if isinstance(data, dict) else None


class _Files:
    """Loads the files of one host, which may hold MAX_HOST_NODES values together."""

    def __init__(self, files: dict[str, str]) -> None:
        self.files, self.left = files, MAX_HOST_NODES

    def load(self, path: str) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        """As load(). Raises ConfigError."""
        found, duplicates, values = _load(self.files[path], path)
        self.left -= values
        if self.left < 0:
            raise ConfigError(
                "%s: with this file the host's configuration holds more than %d values"
                % (path, MAX_HOST_NODES)
            )
        return found, duplicates


def load(text: str, name: str) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """(mapping, duplicates) of one file; duplicates are (key, line). Raises ConfigError.

    The values in the mapping are shared with other hosts: set_option() makes new ones, and so must others.
    """
    found, duplicates, _values = _load(text, name)
    return found, duplicates


def _load(text: str, name: str) -> tuple[dict[str, Any], list[tuple[str, int]], int]:
    """As load(), and the number of values that were read."""
    known = _by_blocks(text)
    return _whole(text, name) if known is None else (known[0], [], known[1])


def _whole(text: str, name: str) -> tuple[dict[str, Any], list[tuple[str, int]], int]:
    """_load() by a file as a whole."""
    try:
        document = _document(text)
    except _yaml.Unreadable as error:
        raise ConfigError("%s line %d: %s" % (name, error.line, error)) from error
    if document is None:
        return {}, [], 0
    if document.odd_keys:
        raise ConfigError(
            "%s line %d: not YAML that Falco reads: a key is a mapping, a list or null"
            % (name, document.odd_keys[0])
        )
    try:
        data = _typed(document.root)
    except _yaml.Unreadable as error:
        raise ConfigError("%s line %d: %s" % (name, error.line, error)) from error
    if isinstance(data, list):
        raise ConfigError("%s: a list at the root; Falco expects a mapping of keys" % name)
    # Empty, comments only or plain text: Falco goes on without it.
    return (data if isinstance(data, dict) else {}), document.duplicates, document.values


_KEY_LINE = re.compile(r"""["']?([A-Za-z_][\w.-]*)["']?\s*:(?:\s|$)""")
_COMMENT = re.compile(r"(?:^|\s)#")


def commented(text: str) -> list[str]:
    """The top-level keys of a file whose blocks hold comments, by the lines of a file in block style."""
    found: list[str] = []
    for block in _split(text):
        found += _commented(block) if len(block) <= MOST_OF_A_BLOCK else _commented.__wrapped__(block)
    return found


@lru_cache(maxsize=512)
def _commented(text: str) -> tuple[str, ...]:
    """commented() of some lines, of which the first one begins with a key."""
    found: list[str] = []
    key, waiting = None, False
    for line in text.split("\n"):
        if line.startswith("#"):
            waiting = True  # in the block if the block goes on after it
            continue
        if not line.strip():
            continue
        inside = line[0] in " \t-"
        begins = None if inside else _KEY_LINE.match(line)
        if begins:
            key, waiting = begins.group(1), False
        if key and (waiting and inside or (begins or inside) and "#" in line and _COMMENT.search(line)):
            found.append(key)
            key = None
    return tuple(found)


def expand(value: Any, environment: dict[str, str]) -> Any:
    """${NAME} in every scalar → its value, unset → empty; $${NAME} → ${NAME}. Raises ConfigError."""
    return _Expansion(environment).of(value)


class _Expansion:
    """Replaces variables. left: characters that their values may still take: a variable of 4 kB, named often,
    makes gigabytes of one file."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment, self.left = environment, MAX_EXPANDED

    def of(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.of(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.of(item) for item in value]
        if not isinstance(value, str) or "$" not in value:
            return value
        text = self._substituted(value)
        if text == value or text != text.strip() or len(text) > LONGEST_NUMBER:
            return text
        # What a variable holds is typed when it is read: "7" is as good as 7.
        if re.match(r"^(?:-?\d+(?:\.\d+)?|true|false)$", text):
            return _scalar(text)
        return text

    def _substituted(self, text: str) -> str:
        """A text with its variables replaced. One pass: each character is looked at a bounded number of
        times."""
        parts: list[str] = []
        position = 0
        end = max(text.rfind("}"), 0)
        while True:
            start = text.find("${", position, end)
            if start < 0:
                return "".join(parts) + text[position:]
            close = text.index("}", start)
            name = text[start + 2 : close]
            if start > position and text[start - 1] == "$":
                parts.append(text[position : start - 1] + "${%s}" % name)
            else:
                parts.append(text[position:start] + self._value(name))
            position = close + 1

    def _value(self, name: str) -> str:
        value = self.environment.get(name, "")
        self.left -= len(value)
        if self.left < 0:
            raise ConfigError(
                "the values of the variables in the configuration, ${%s} for one, take more than %d bytes"
                % (name, MAX_EXPANDED)
            )
        return value


def set_option(config: dict[str, Any], option: str) -> str:
    """Apply one -o KEY=VALUE: a.b.c=1, list[0]=x, list[]=x, key={a: b}. Returns the top-level key.

    Values inside config are not changed, but replaced. Raises ConfigError.
    """
    path, dummy, text = option.partition("=")
    steps = re.findall(r"[^.\[\]]+|\[\d*\]", path.strip())
    if not steps or steps[0].startswith("["):
        raise ConfigError("-o %s: expected KEY=VALUE" % option)
    if len(steps) > MAX_STEPS:
        raise ConfigError("-o %s: expected a key of at most %d steps" % (option, MAX_STEPS))
    value = _option_value(text)
    if isinstance(value, list):
        value = text.strip()  # Falco takes a list in brackets as one text
    node: Any = config
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        slot: str | int = step
        index = step.startswith("[")
        if index:
            # A longer number than any list has places is too large, and Python refuses to read it.
            position = len(node) if step == "[]" else int(step[1:-1][:LONGEST_NUMBER])
            if position > len(node) + MAX_PLACES:
                raise ConfigError("-o %s: index %d of a list of %d" % (option, position, len(node)))
            while len(node) <= position:
                node.append(None)
            slot = position
        if following is None:
            node[slot] = value
            break
        wanted = list if following.startswith("[") else dict
        inner = node[slot] if index else node.get(slot)
        # A copy: other hosts may have the same one.
        node[slot] = inner = inner.copy() if isinstance(inner, wanted) else wanted()
        node = inner
    return str(steps[0])


# A text that is one plain scalar of YAML whatever else it is. Nearly every option has one.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./]*")


def _option_value(text: str) -> Any:
    """The value part of -o: YAML, or the text itself where it is none. !NAME is an exclusion, not a tag."""
    if _WORD.fullmatch(text):
        return None if text in _yaml.NULLS else _scalar(text)
    if text.lstrip().startswith("!"):
        return text.strip()
    try:
        document = _document(text, MAX_OPTION_NODES) if text.strip() else None
        return _typed(document.root) if document else text.strip()
    except _yaml.Unreadable:
        return text


def entries(config: dict[str, Any]) -> list[tuple[str, str | None]]:
    """config_files of the main file: [(path, strategy)]; strategy is None where the entry is a plain path."""
    value = config.get("config_files")
    if not isinstance(value, list):
        return []
    found: list[tuple[str, str | None]] = []
    for item in value:
        if isinstance(item, dict):
            found.append((str(item.get("path", "")), str(item.get("strategy", "append"))))
        else:
            found.append((str(item), None))
    return found


def listing(
    raw: dict[str, Any], options: list[str], environment: dict[str, str]
) -> list[tuple[str, str | None]]:
    """entries() of the main file as the release and the -o options have it; raw is changed as by those
    options."""
    for option in options:
        if top_level(option) == "config_files":
            set_option(raw, option)
    if isinstance(raw.get("config_files"), str):
        raw["config_files"] = [raw["config_files"]]  # a single path counts as a list of one
    return entries(expand({"config_files": raw.get("config_files")}, environment))


def top_level(option: str) -> str:
    """The top-level key of one -o text."""
    return re.split(r"[.=\[]", option, maxsplit=1)[0].strip()


def loaded_files(
    main: str, listed: list[tuple[str, str | None]], present: set[str], release: Release
) -> list[tuple[str, str | None, int]]:
    """The files that Falco loads after the main one, in order: [(path, strategy, number of its entry)].

    listed: what listing() returned. present: paths of the regular files that exist on the host. Raises
    ConfigError where Falco would exit.
    """
    if release.fragments is None:
        return []
    if len(listed) > MAX_ENTRIES:
        raise ConfigError(
            "%s: config_files has %d entries, and at most %d are read" % (main, len(listed), MAX_ENTRIES)
        )
    members: dict[str, list[str]] = {}
    for name in sorted(present):
        members.setdefault(posixpath.dirname(name), []).append(name)
    found: list[tuple[str, str | None, int]] = []
    for number, (path, strategy) in enumerate(listed):
        if strategy is not None and release.fragments == "replace":
            raise ConfigError(
                "%s: config_files has an entry with path and strategy; Falco %s reads plain paths only and "
                "exits" % (main, release)
            )
        folder = path.rstrip("/") or "/"
        names = [folder] if folder in present else members.get(folder, [])
        found.extend((name, strategy, number) for name in names)
    if main in [item[0] for item in found]:
        raise ConfigError("%s: config_files names the main file itself; Falco exits" % main)
    return found


def merge(
    main: str, files: dict[str, str], options: list[str], environment: dict[str, str], release: Release
) -> Merged:
    """The effective configuration. Raises ConfigError.

    files: {path: text} of the main file and of every regular file that config_files may name. options: the -o
    texts of the process in order.
    """
    read = _Files(files)
    raw, repeated = read.load(main)
    duplicates = [(main, *item) for item in repeated]
    origin = dict.fromkeys(raw, main)
    listed = listing(raw, options, environment)
    later = [option for option in options if top_level(option) != "config_files"]
    if not release.options_beat_fragments:
        for option in later:
            origin[set_option(raw, option)] = "-o"
    order, place = [main], {main: -1}
    held = {main: sorted(str(key) for key in raw)}
    strategies: dict[str, str | None] = {main: None}
    for path, strategy, number in loaded_files(main, listed, set(files), release):
        fragment, repeated = read.load(path)
        duplicates += [(path, *item) for item in repeated]
        if "config_files" in fragment:
            raise ConfigError("%s: holds config_files, which only the main file may; Falco exits" % path)
        order.append(path)
        place[path], strategies[path], held[path] = number, strategy, sorted(str(key) for key in fragment)
        append = release.fragments == "strategy" and strategy != "override"
        for key, value in fragment.items():
            if strategy == "add-only" and key in raw:
                continue
            both = append and isinstance(value, list) and isinstance(raw.get(key), list)
            raw[key], origin[key] = raw[key] + value if both else value, path
    if release.options_beat_fragments:
        for option in later:
            origin[set_option(raw, option)] = "-o"
    return {
        # Without a variable there is nothing to expand, and most hosts have none.
        "effective": expand(raw, environment) if _untrusted.may_hold(raw, "${") else raw,
        "raw": raw,
        "order": order,
        "origin": origin,
        "entry": place,
        "strategy": strategies,
        "listed": listed,
        "keys": held,
        "duplicates": duplicates,
    }


def plugins(effective: dict[str, Any]) -> list[str]:
    """The names of the plugins that Falco loads, in order: `load_plugins`, or without it all of `plugins`."""
    listed = effective.get("load_plugins", effective.get("plugins"))
    names = [item.get("name") if isinstance(item, dict) else item for item in _items(listed)]
    return list(dict.fromkeys(str(name) for name in names if name is not None))


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def copied(value: Any) -> Any:
    """A value of a configuration whose dicts and lists are its own."""
    if isinstance(value, dict):
        return {key: copied(item) if isinstance(item, (dict, list)) else item for key, item in value.items()}
    if isinstance(value, list):
        return [copied(item) if isinstance(item, (dict, list)) else item for item in value]
    return value


# The paths are those of Falco's keys.
@lru_cache(maxsize=512)
def _steps(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def lookup(config: Any, path: str) -> tuple[bool, Any]:
    """(found, value) of a dotted key."""
    node: Any = config
    for step in _steps(path):
        if not isinstance(node, dict) or step not in node:
            return False, None
        node = node[step]
    return True, node


_WHOLE = re.compile(r"^-?\d+$")


def coerce(value: Any, key: Key) -> tuple[bool, Any]:
    """(legal, value as Falco takes it). What can't be converted takes the code default, silently (yaml-cpp
    as<T>)."""
    if value is None or isinstance(value, (list, dict)) and key.kind != "list":
        return False, key.default
    if isinstance(value, bool) and key.kind == "bool":
        return True, value
    text = str(value).strip() if not isinstance(value, bool) else ("true" if value else "false")
    if key.kind == "bool":
        if text.lower() in ("true", "yes", "on", "y"):
            return True, True
        if text.lower() in ("false", "no", "off", "n"):
            return True, False
        return False, key.default
    if key.kind == "int":
        if len(text) > LONGEST_NUMBER or not _WHOLE.match(text):
            return False, key.default
        number = int(text)
        if key.low is not None and key.high is not None and not key.low <= number <= key.high:
            return False, key.default
        return True, number
    if key.kind == "list":
        return isinstance(value, list), value if isinstance(value, list) else [value]
    return True, text


class Settings:
    """Falco's merged configuration as one release reads it."""

    def __init__(self, effective: dict[str, Any], release: Release) -> None:
        """effective: top-level blocks, as merge() and the facts' config part have them."""
        self.effective = effective
        self.release = release

    def but(self, blocks: dict[str, Any]) -> Settings:
        """These settings with some top-level blocks replaced."""
        return Settings({**self.effective, **blocks}, self.release)

    def has(self, path: str) -> bool:
        """Whether the release knows the key."""
        return self.release.has(path)

    def lookup(self, path: str) -> tuple[bool, Any]:
        """(found, value) as the files have it, whatever the release makes of it."""
        return lookup(self.effective, path)

    def in_force(self, path: str) -> InForce:
        """What the release makes of a key; its value is None where the release does not know the key."""
        key = self.release.key(path)
        if key is None:
            return InForce(None, False, True)
        found, value = self.lookup(path)
        if not found:
            return InForce(key.default, False, True)
        legal, value = coerce(value, key)
        return InForce(value, True, legal)

    def value(self, path: str) -> Any:
        """The value in force, or None where the release does not know the key."""
        return self.in_force(path).value
