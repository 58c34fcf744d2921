# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The grammar of Falco's conditions: text → tree. Pure.

Anything that is not a condition raises ConditionError. The parser reads what the newest release reads
(transformers came with 0.38, oneof/anyof/allof with 0.44). Macros stay names in the tree. Lists must already
be replaced in the text, as Falco does it (lists.py). Fields are not looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

# Deeper than any rule written by hand, and well within Python's own stack.
DEEPEST = 64

BLANK = re.compile(r"[ \t\b\r\n]+")
NOT = re.compile(r"not[ \t\n\v\f\r]+")
IDENTIFIER = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")
FIELD = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*(?:\.[a-zA-Z][a-zA-Z0-9_]*)+")
ARGUMENT = re.compile(r"""[^\[\]"' \t\n\v\f\r]+""")
NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|[+-]?[0-9]+\.?[0-9]*(?:[eE][+-][0-9]+)?")
BARE = re.compile(r"""[^()"' \t\n\v\f\r=,]+""")
TRANSFORMER = re.compile(r"(tolower|toupper|b64|basename|len|join|concat|getopt)\(")
VALUE_OF = re.compile(r"val\(")
# Operators in words need a blank after them, the others do not.
COMPARES_NUMBERS = re.compile(r"<=|<|>=|>")
COMPARES_TEXT = re.compile(
    r"==|=|!=|(?:glob|iglob|contains|icontains|bcontains|startswith|bstartswith|endswith"
    r"|regex)(?=[ \t\b\r\n])"
)
ONE_OF_MANY = re.compile(r"(oneof|anyof|allof)[ \t\b\r\n]+(?=\(|(?!(?:and|or|not)(?![a-zA-Z0-9]))[a-zA-Z])")
COMPARES_LISTS = re.compile(r"intersects|in|pmatch")
ESCAPED = re.compile(r"\\(.)", re.S)
ESCAPES = {
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "/": "/",
    " ": " ",
}


class ConditionError(ValueError):
    """What is wrong with a condition. ``at`` is the offset in characters from its start."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.at = at


class All(NamedTuple):
    """Every one of the items holds (and)."""

    items: tuple[Tree, ...]


class Any(NamedTuple):
    """At least one of the items holds (or)."""

    items: tuple[Tree, ...]


class Not(NamedTuple):
    """The negation of an item."""

    item: Tree


class Macro(NamedTuple):
    """A reference to a macro by its name."""

    name: str
    at: int


class Check(NamedTuple):
    """One comparison of a field.

    field: its name, or None where the left side is a transformer. argument: the text in its brackets, or
    None. values: the texts on the right side, or None where that is a field or a transformer. fields: every
    field that the check names. left, right: the text of a side that is a transformer or val(…), or ''.
    """

    field: str | None
    argument: str | None
    operator: str
    values: tuple[str, ...] | None
    fields: tuple[str, ...]
    at: int
    left: str = ""
    right: str = ""


Tree: TypeAlias = "All | Any | Not | Macro | Check"


def parse(text: str) -> Tree:
    """The tree of a condition. Raises ConditionError."""
    return _Parser(text).whole()


def walk(tree: Tree) -> Iterator[Check | Macro]:
    """Every Check and Macro of a tree."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (All, Any)):
            waiting.extend(reversed(node.items))
        elif isinstance(node, Not):
            waiting.append(node.item)
        else:
            yield node


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.fields: list[str] = []
        self.left_end = 0
        self.right_text = ""

    def whole(self) -> Tree:
        if not self.text.strip(" \t\b\r\n"):
            raise ConditionError("the condition is empty", 0)
        tree = self.alternatives()
        if self.at != len(self.text):
            raise ConditionError("expected 'and', 'or' or the end, found %s" % self.found(), self.at)
        return tree

    # Lexing: each method takes its token and the blanks that the grammar allows, or nothing.

    def blank(self) -> re.Match[str] | None:
        match = BLANK.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def word(self, text: str) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def found(self) -> str:
        rest = self.text[self.at : self.at + 20].split("\n")[0]
        return repr(rest) if rest else "the end" if self.at >= len(self.text) else "a line end"

    def expect(self, text: str) -> None:
        if not self.word(text):
            raise ConditionError("expected '%s', found %s" % (text, self.found()), self.at)

    def quoted(self) -> str | None:
        """A string in quotes, or None. A quote after a backslash is part of the string."""
        quote = self.text[self.at : self.at + 1]
        if quote not in ("'", '"'):
            return None
        end = self.at
        while True:
            end = self.text.find(quote, end + 1)
            if end < 0:
                return None
            if self.text[end - 1] != "\\":
                break
        raw = self.text[self.at + 1 : end]
        self.at = end + 1
        return ESCAPED.sub(lambda match: ESCAPES.get(match[1], match[0]), raw)

    # The grammar, from 'or' down.

    def alternatives(self) -> Tree:
        return self.chain("or", lambda: self.chain("and", self.negation, All), Any)

    def chain(self, word: str, part: Callable[[], Tree], make: type[All] | type[Any]) -> Tree:
        self.blank()
        items = [part()]
        self.blank()
        while self.word(word):
            if self.blank():
                items.append(part())
            elif self.word("("):
                items.append(self.embedded())
            else:
                raise ConditionError(
                    "expected a blank or '(' after '%s', found %s" % (word, self.found()), self.at
                )
            self.blank()
        return items[0] if len(items) == 1 else make(tuple(items))

    def negation(self) -> Tree:
        self.blank()
        negative = False
        while self.take(NOT):
            negative = not negative
        if self.word("not("):
            negative = not negative
            item = self.embedded()
        else:
            item = self.check()
        return Not(item) if negative else item

    def embedded(self) -> Tree:
        """The condition after an opening bracket, up to and including the closing bracket."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ConditionError("brackets are nested deeper than %d" % DEEPEST, self.at)
        tree = self.alternatives()
        self.blank()
        self.expect(")")
        self.depth -= 1
        return tree

    def check(self) -> Tree:
        self.blank()
        if self.word("("):
            return self.embedded()
        start, self.fields = self.at, []
        match = self.take(FIELD)
        if match:
            name, argument = match[0], self.argument()
            self.fields.append(name)
            return self.comparison(name, argument, start)
        match = self.take(TRANSFORMER)
        if match:
            self.transformed()
            return self.comparison(None, None, start)._replace(left=self.text[start : self.left_end])
        match = self.take(IDENTIFIER)
        if match:
            return Macro(match[0], start)
        raise ConditionError("expected a check, a macro or '(', found %s" % self.found(), self.at)

    def argument(self) -> str | None:
        if not self.word("["):
            return None
        value = self.quoted()
        if value is None:
            match = self.take(ARGUMENT)
            if not match:
                raise ConditionError("expected an argument in brackets, found %s" % self.found(), self.at)
            value = match[0]
        self.expect("]")
        return value

    def comparison(self, field: str | None, argument: str | None, start: int) -> Check:
        self.left_end, self.right_text = self.at, ""
        self.blank()
        if self.word("exists"):
            return Check(field, argument, "exists", (), tuple(self.fields), start)
        match = self.take(COMPARES_NUMBERS)
        if match:
            operator, values = match[0], self.right_side(self.number)
        else:
            match = self.take(COMPARES_TEXT)
            if match:
                operator = match[0]
                many = self.blank() and self.take(ONE_OF_MANY)
                if many:
                    operator, values = "%s %s" % (operator, many[1]), self.list_or_name()
                else:
                    values = self.right_side(self.string)
            else:
                match = self.take(COMPARES_LISTS)
                if not match:
                    raise ConditionError("expected an operator, found %s" % self.found(), self.at)
                operator, values = match[0], self.right_side(self.list_or_name)
        return Check(field, argument, operator, values, tuple(self.fields), start, right=self.right_text)

    def right_side(self, literal: Callable[[], tuple[str, ...]]) -> tuple[str, ...] | None:
        """The texts on the right side, or None for a field or a transformer."""
        self.blank()
        start = self.at
        if self.take(VALUE_OF):
            self.blank()
            match = self.take(FIELD)
            if not match:
                raise ConditionError("expected a field in 'val(', found %s" % self.found(), self.at)
            self.fields.append(match[0])
            self.argument()
            self.blank()
            self.expect(")")
            self.argument()
            self.right_text = self.text[start : self.at]
            return None
        if self.take(TRANSFORMER):
            self.transformed()
            self.right_text = self.text[start : self.at]
            return None
        return literal()

    def number(self) -> tuple[str, ...]:
        match = self.take(NUMBER)
        if not match:
            raise ConditionError("expected a number, found %s" % self.found(), self.at)
        return (match[0],)

    def string(self) -> tuple[str, ...]:
        value = self.quoted()
        if value is None:
            match = self.take(BARE)
            if not match:
                raise ConditionError("expected a value, found %s" % self.found(), self.at)
            value = match[0]
        return (value,)

    def list_or_name(self) -> tuple[str, ...]:
        self.blank()
        if not self.word("("):
            match = self.take(IDENTIFIER)
            if not match:
                raise ConditionError("expected a list, found %s" % self.found(), self.at)
            return (match[0],)
        self.blank()
        if self.word(")"):
            return ()
        values = [*self.string()]
        self.blank()
        while self.word(","):
            self.blank()
            values.extend(self.string())
            self.blank()
        self.expect(")")
        return tuple(values)

    def transformed(self) -> None:
        """Skip the arguments of a transformer, after its opening bracket, and collect the fields in them."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise ConditionError("brackets are nested deeper than %d" % DEEPEST, self.at)
        while True:
            self.blank()
            if self.word("("):
                self.blank()
                while not self.word(")"):
                    self.transformer_argument()
                    self.blank()
                    if self.word(","):
                        self.blank()
                    elif not self.text.startswith(")", self.at):
                        raise ConditionError("expected ',' or ')', found %s" % self.found(), self.at)
            else:
                self.transformer_argument()
            self.blank()
            if not self.word(","):
                break
        self.expect(")")
        self.argument()
        self.depth -= 1

    def transformer_argument(self) -> None:
        if self.take(TRANSFORMER):
            self.transformed()
            return
        match = self.take(FIELD)
        if match:
            self.fields.append(match[0])
            self.argument()
        elif self.quoted() is None and not self.take(NUMBER):
            raise ConditionError(
                "expected a field, a transformer, a number or a string in quotes, found %s" % self.found(),
                self.at,
            )
