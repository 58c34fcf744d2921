# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions whose `and` is put in a better order, as overrides of rules. Pure.

The parts of the rule's own `and` are moved as they are written, so names of lists and macros stay names. A
rewrite is only returned with a proof: its text is parsed again, and has the same parts as the original one.
Checks have no effects, so the order of such parts cannot change whether the rule matches.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import condition, writing
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules_audit import estimates, forms

BLANKS = " \t\b\r\n"
# A text in quotes, or blanks.
_BLANKS = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|[ \t\b\r\n]+""", re.S)
# Moves of one part each; a rule of a hundred parts has no more to gain.
MOST_MOVES = 20


class Rewrite(NamedTuple):
    """condition: the new text. ns: nanoseconds an event that it saves."""

    condition: str
    ns: float


def parts(text: str) -> list[str] | None:
    """The texts that a condition joins with `and`, or None where it is not such a condition.

    Brackets and quotes are looked at, nothing else: whoever calls this parses the parts.
    """
    found, start, at, depth = [], 0, 0, 0
    while at < len(text):
        character = text[at]
        if character in "'\"":
            at = _end_of_quote(text, at)
            if at < 0:
                return None
            continue
        depth += (character == "(") - (character == ")")
        word = next((word for word in ("and", "or") if _is_word(text, at, word)), None) if not depth else None
        if word == "or":
            return None
        if word:
            found.append(text[start:at])
            start = at + len(word)
            at = start
            continue
        at += 1
    found.append(text[start:])
    return [part.strip(BLANKS) for part in found] if len(found) > 1 and not depth else None


def _end_of_quote(text: str, at: int) -> int:
    """Where a text in quotes ends, or -1. A quote after a backslash is part of it."""
    end = at
    while True:
        end = text.find(text[at], end + 1)
        if end < 0 or text[end - 1] != "\\":
            return end + 1 if end >= 0 else -1


def _is_word(text: str, at: int, word: str) -> bool:
    before, after = text[at - 1 : at], text[at + len(word) : at + len(word) + 1]
    return text.startswith(word, at) and before in tuple(BLANKS + ")") and after in tuple(BLANKS + "(")


def rewritten(
    text: str, expand: Callable[[str], str], estimator: estimates.Estimator, event: str
) -> Rewrite | None:
    """A better order of a condition, or None.

    text: of the rule, without its exceptions. expand: replaces the names of lists. event: one at which the
    rule is evaluated (kernel name). Raises TooLarge.
    """
    texts = parts(text)
    if texts is None:
        return None
    try:
        trees = [condition.parse(expand(part)) for part in texts]
        whole = condition.parse(expand(text))
    except condition.ConditionError:
        return None
    order = list(range(len(trees)))
    before = estimator.whole(condition.All(tuple(trees)), event).ns
    for _move in range(MOST_MOVES):
        better = forms.better([trees[place] for place in order], estimator, event)
        if better is None:
            break
        order = [order[place] for place in better.places]
    ns = before - estimator.whole(condition.All(tuple(trees[place] for place in order)), event).ns
    if order == sorted(order) or ns < forms.LEAST_GAIN_NS:
        return None
    made = one_line(" and ".join(texts[place] for place in order))
    return Rewrite(made, ns) if proven(whole, made, expand) else None


def proven(whole: condition.Tree, made: str, expand: Callable[[str], str]) -> bool:
    """Whether a text is an `and` of the same parts as a tree, each as often, in any order."""
    try:
        again = condition.parse(expand(made))
    except condition.ConditionError:
        return False
    if not isinstance(whole, condition.All) or not isinstance(again, condition.All):
        return False
    return sorted(map(_shown, whole.items)) == sorted(map(_shown, again.items))


def _shown(tree: condition.Tree) -> str:
    """A tree as text that tells it from any other one, without the places in its condition."""
    return repr(bare(tree))


def bare(tree: condition.Tree) -> condition.Tree:
    """A tree without places."""
    if isinstance(tree, (condition.All, condition.Any)):
        return type(tree)(tuple(bare(item) for item in tree.items))
    if isinstance(tree, condition.Not):
        return condition.Not(bare(tree.item))
    return tree._replace(at=0)


def one_line(text: str) -> str:
    """A condition without line breaks; what stands in quotes stays as it is."""
    return _BLANKS.sub(lambda match: match[1] or " ", text).strip()


def overrides(found: Iterable[tuple[str, Rewrite]]) -> str:
    """A rules file with the rewrites of rules, [(name, rewrite)]; '' without any."""
    return "".join(
        "- rule: %s\n  condition: %s\n  override: {condition: replace}\n"
        % (writing.quoted(name), writing.quoted(rewrite.condition))
        for name, rewrite in found
    )
