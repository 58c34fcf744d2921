# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rule conditions: parsed, printed, and reduced to the system calls that they need."""

import re

from . import syscalls

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_.]*(?:\[[^\]]*\])?")
_OPERATOR = re.compile(
    r"(?:<=|>=|!=|==|=|<|>)|(?:in|intersects|pmatch|contains|icontains|bcontains|startswith|bstartswith|endswith|"
    r"glob|iglob|regex|exists)(?![A-Za-z0-9_.])")
_BARE = re.compile(r"[^\s()\"',]+")
_TRANSFORMERS = frozenset("tolower toupper b64 basename len join concat getopt val".split())
_CLASSES = frozenset(
    "evt proc fd user group container k8s thread fs syslog span fdlist ka jevt json ct gcp okta github falco syscall "
    "process util system fdinfo tracer memory".split())
_TYPE_FIELDS = ("evt.type", "syscall.type")


class ConditionError(Exception):
    def __init__(self, text, position=0, code="LOAD_ERR_COMPILE_CONDITION (Error compiling condition)"):
        Exception.__init__(self, text)
        self.position = position
        self.code = code


class Parser:
    """Text to a tree of ("and", [..]), ("or", [..]), ("not", x), ("macro", name), ("check", field, op, values)."""

    def __init__(self, text):
        self.text = text
        self.at = 0

    def parse(self):
        tree = self._or()
        self._space()
        if self.at < len(self.text):
            raise ConditionError("unexpected token after condition", self.at)
        return tree

    def _space(self):
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def _word(self, word):
        self._space()
        end = self.at + len(word)
        if self.text[self.at:end] == word and not re.match(r"[A-Za-z0-9_.]", self.text[end:end + 1] or " "):
            self.at = end
            return True
        return False

    def _char(self, char):
        self._space()
        if self.text[self.at:self.at + 1] == char:
            self.at += 1
            return True
        return False

    def _joined(self, word, item):
        parts = [item()]
        while self._word(word):
            parts.append(item())
        return parts[0] if len(parts) == 1 else (word, parts)

    def _or(self):
        return self._joined("or", self._and)

    def _and(self):
        return self._joined("and", self._unary)

    def _unary(self):
        if self._word("not"):
            return ("not", self._unary())
        if self._char("("):
            tree = self._or()
            if not self._char(")"):
                raise ConditionError("expected a ')' token", self.at)
            return tree
        return self._check()

    def _field(self):
        match = _FIELD.match(self.text, self.at)
        if not match:
            raise ConditionError("expected a check", self.at)
        self.at = match.end()
        name = match.group()
        if name in _TRANSFORMERS and self._char("("):
            inner = [self._or_field()]
            while self._char(","):
                inner.append(self._or_field())
            if not self._char(")"):
                raise ConditionError("expected a ')' token closing the transformer", self.at)
            return "%s(%s)" % (name, ", ".join(inner)), True
        return name, False

    def _or_field(self):
        self._space()
        if self.text[self.at:self.at + 1] in "\"'":
            return self._value()
        return self._field()[0]

    def _check(self):
        self._space()
        start = self.at
        field, transformed = self._field()
        self._space()
        match = _OPERATOR.match(self.text, self.at)
        if not match:
            if transformed:
                raise ConditionError("expected an operator", self.at)
            return ("macro", field, start)
        operator = match.group()
        self.at = match.end()
        if operator == "exists":
            return ("check", field, operator, [], start)
        if operator in ("in", "intersects", "pmatch"):
            return ("check", field, operator, self._list(), start)
        self._space()
        return ("check", field, operator, [self._value()], start)

    def _list(self):
        if not self._char("("):
            return [self._value()]
        values = []
        while not self._char(")"):
            values.append(self._value())
            if not self._char(",") and self.text[self.at:self.at + 1] != ")":
                raise ConditionError("expected a ')' token closing the list", self.at)
        return values

    def _value(self):
        self._space()
        quote = self.text[self.at:self.at + 1]
        if quote and quote in "\"'":
            end = self.at + 1
            while end < len(self.text) and self.text[end] != quote:
                end += 2 if self.text[end] == "\\" else 1
            if end >= len(self.text):
                raise ConditionError("string has no closing quote", self.at)
            value, self.at = self.text[self.at + 1:end], end + 1
            return value.replace("\\" + quote, quote)
        match = _BARE.match(self.text, self.at)
        if not match:
            raise ConditionError("expected a value", self.at)
        self.at = match.end()
        value = match.group()
        if self.text[self.at:self.at + 1] == "(":  # val(field) on the right-hand side
            end = self.text.find(")", self.at)
            value, self.at = value + self.text[self.at:end + 1], end + 1
        return value


class Expander:
    """Knows macros (name -> tree) and lists (name -> items)."""

    def __init__(self, macros, lists):
        self.macros = macros
        self.lists = lists
        self.used_macros = set()
        self.used_lists = set()
        self._codes = {}

    def _macro(self, node):
        if node[1] not in self.macros:
            raise ConditionError("Undefined macro '%s' used in filter." % node[1], node[2],
                                 "LOAD_ERR_VALIDATE (Error validating rule/macro/list/exception objects)")
        self.used_macros.add(node[1])
        return self.macros[node[1]]

    def values(self, items):
        out = []
        for item in items:
            if item in self.lists:
                self.used_lists.add(item)
                out.extend(self.values(self.lists[item]))
            else:
                out.append(item)
        return out

    def codes(self, tree, negated=False):
        """System calls on which the condition can hold; a check of another field restricts nothing."""
        kind = tree[0]
        if kind == "not":
            return self.codes(tree[1], not negated)
        if kind in ("and", "or"):
            sets = [self.codes(part, negated) for part in tree[1]]
            meet = (kind == "and") != negated
            return frozenset.intersection(*sets) if meet else frozenset.union(*sets)
        if kind == "macro":
            key = (tree[1], negated)
            if key not in self._codes:
                self._codes[key] = self.codes(self._macro(tree), negated)
            else:
                self.used_macros.add(tree[1])
            return self._codes[key]
        _, field, operator, items, start = tree
        values = self.values(items)
        if field not in _TYPE_FIELDS or operator not in ("=", "==", "!=", "in"):
            return syscalls.ALL_CODES
        for name in values:
            if name not in syscalls.LEGAL_NAMES and name not in syscalls.ALL_CODES and name not in syscalls.META_EVENTS:
                raise ConditionError("unknown event type " + name, start)
        named = frozenset(syscalls.to_codes(values))
        return named if (operator != "!=") != negated else syscalls.ALL_CODES - named

    def fields(self, tree, into):
        """Collects fields, operators and whether a meta event is named."""
        kind = tree[0]
        if kind in ("and", "or"):
            for part in tree[1]:
                self.fields(part, into)
        elif kind == "not":
            self.fields(tree[1], into)
        elif kind == "macro":
            self.fields(self._macro(tree), into)
        else:
            if "(" not in tree[1] and tree[1].partition(".")[0] not in _CLASSES:
                raise ConditionError("filter_check called with nonexistent field " + tree[1].partition("[")[0], tree[4])
            into.setdefault("fields", {})[tree[1]] = True
            into.setdefault("operators", {})[tree[2]] = True
            if tree[1] in _TYPE_FIELDS and any(value in syscalls.META_EVENTS for value in self.values(tree[3])):
                into["meta"] = True

    def show(self, tree):
        kind = tree[0]
        if kind in ("and", "or"):
            return "(%s)" % (" %s " % kind).join(self.show(part) for part in tree[1])
        if kind == "not":
            return "not " + self.show(tree[1])
        if kind == "macro":
            return self.show(self._macro(tree))
        _, field, operator, items, _ = tree
        if operator == "exists":
            return field + " exists"
        if operator in ("in", "intersects", "pmatch"):
            return "%s %s (%s)" % (field, operator, ", ".join(self.values(items)))
        return "%s %s %s" % (field, operator, items[0])
