# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Prometheus answered → samples. Nothing in it is trusted. Pure."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import fitted, several

MOST_LABELS = 100
# Values of a series: its labels, its time and its value. A few targets may have more labels.
VALUES = 40
# Characters of a label's value: those of a label that names a host, and no cost for a regular expression.
MOST_TEXT = 500
WIDTH = 300


class AnswerError(ValueError):
    """An answer from which no verdict may be made. The text says why."""


class Sample(NamedTuple):
    """One series of an answer."""

    labels: dict[str, str]
    value: float


class Answer(NamedTuple):
    """at: the time that the query was evaluated for, in seconds; None of an empty answer."""

    samples: list[Sample]
    at: float | None


def read(body: bytes, most: int) -> Answer:
    """The samples of an instant query's answer. most: as many results are too many, some may be missing.

    Raises AnswerError where the answer is an error, is not what the HTTP API of Prometheus describes, or is
    not whole.
    """
    values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if values > VALUES * (most + 1):
        # Each takes some hundred bytes of memory once it is parsed: two gigabytes for 64 MiB of {}.
        raise AnswerError(
            "the answer holds about %d values, and at most %d are read: raise limit, or narrow selector"
            % (values, VALUES * (most + 1))
        )
    data = _data(body)
    found = data.get("result")
    if data.get("resultType") != "vector" or not isinstance(found, list):
        raise AnswerError("the answer is not an instant vector, as /api/v1/query returns it")
    if len(found) >= most:
        raise AnswerError(
            "the answer has %s or more, so hosts may be missing: raise limit, or narrow selector"
            % several(most, "series", "series")
        )
    samples, times = [], set()
    for item in found:
        sample, at = _sample(item)
        samples.append(sample)
        times.add(at)
    if len(times) > 1:
        raise AnswerError("the answer has samples of different times, which is not an instant vector")
    return Answer(samples, times.pop() if times else None)


def refusal(body: bytes) -> str:
    """What the body of an HTTP error says; '' where it says nothing that can be read."""
    try:
        _data(body)
    except AnswerError as error:
        return str(error)
    return ""


def _data(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise AnswerError("the answer is not JSON: is this the URL of a Prometheus?") from None
    if not isinstance(answer, dict) or answer.get("status") not in ("success", "error"):
        raise AnswerError("the answer has no status: is this the URL of a Prometheus?")
    if answer["status"] == "error":
        raise AnswerError("%s: %s" % (_short(answer.get("errorType")), _short(answer.get("error"))))
    # Prometheus before 2.54 has what it calls infos among the warnings.
    warnings = [_short(item) for item in _untrusted.sequence(answer.get("warnings"))]
    warnings = [item for item in warnings if not item.startswith("PromQL info:")]
    if answer.get("isPartial") is True:
        warnings.append("isPartial")
    if warnings:
        raise AnswerError("the answer is not whole: %s" % "; ".join(warnings[:3]))
    return _untrusted.dictionary(answer.get("data"))


def _short(value: object) -> str:
    return fitted(_untrusted.text(value) or "unknown", WIDTH)


def _sample(item: object) -> tuple[Sample, float]:
    part = _untrusted.dictionary(item)
    labels, pair = part.get("metric"), part.get("value")
    if (
        not isinstance(labels, dict)
        or len(labels) > MOST_LABELS
        or not isinstance(pair, list)
        or len(pair) != 2
    ):
        raise AnswerError("a series in the answer has no labels or no value")
    if not all(isinstance(value, str) and len(value) <= MOST_TEXT for value in labels.values()):
        raise AnswerError("a label in the answer is not a text of at most %d characters" % MOST_TEXT)
    at, value = _untrusted.number(pair[0]), _float(pair[1])
    if at is None or value is None:
        raise AnswerError("a value in the answer is not a time and a number")
    return Sample(labels, value), float(at)


def _float(text: object) -> float | None:
    """The number of a value, which Prometheus writes as text. NaN and infinities are numbers there."""
    if not isinstance(text, str) or len(text) > 40:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def usable(value: float | None) -> bool:
    """Whether a counter's increase or an age can be true."""
    return value is not None and math.isfinite(value) and value >= 0
