# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module of the collection answered from its host: bounded while it is read, and reduced to what is
expected.

Ansible reads whatever a host sends, parses it, and takes every key of it for a result. So a host could fill
the memory of the controller, set facts and show control characters on its terminal. Here, one host may cost
MEMORY and CPU_SECONDS, its answer may have MAX_ANSWER characters, and only known keys are kept.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import bytes_text, visible
from ansible_collections.falcotune.fleet.plugins.plugin_utils._untrusted import (
    Check,
    anything,
    count,
    dictionary,
    flag,
    text,
    whole,
)

# Characters of an answer. With all of Falco's rules and a configuration of 64 kB it has 0.5 MB.
MAX_ANSWER = 1 << 22
# Values in an answer, roughly: 200 bytes of memory and some microseconds each. Falco's own texts have commas
# too.
MAX_VALUES = 1 << 18
# What reading and understanding the answers of one host may take of the controller, beside what the process
# has.
MEMORY = 1 << 28
CPU_SECONDS = 5.0
# Seconds of CPU time between two looks at that. Whoever fills memory uses CPU time for it.
TICK = 0.02
# Characters of a message, of what a module printed, and of one file of a diff.
MAX_MESSAGE = 4096
MAX_PRINTED = 20000
MAX_DIFF = 1 << 20

_BREAKS = re.compile(r"([\n\t])")


class TooMuch(BaseException):
    """A host costs more than one host may, or its answer can't be read. The text says what.

    No Exception: connection plugins try again after those.
    """


class HostAction(ActionBase):  # type: ignore[misc]
    """An action plugin whose module runs on a host."""

    def ask(self, module: str, arguments: dict[str, Any], keep: Mapping[str, Check]) -> dict[str, Any]:
        """The module's answer: what every answer has (COMMON), and the keys of keep that pass their
        checks."""
        try:
            with bounded():
                answer = self._execute_module(
                    module_name="falcotune.fleet." + module, module_args=arguments, task_vars=self._task_vars
                )
                return kept(answer, keep)
        except TooMuch as error:
            return {"failed": True, "msg": str(error)}

    def _parse_returned_data(self, res: dict[str, Any], *more: Any) -> Any:
        """Refuse an answer before it is parsed: a megabyte of brackets takes 60 MB.

        What is returned differs between releases of ansible-core.
        """
        refuse_large(res)
        try:
            found = super()._parse_returned_data(res, *more)
        except RecursionError:
            raise TooMuch("the host's answer can't be read: it is nested too deep") from None
        except AnsibleError as error:
            raise TooMuch("the host's answer can't be read: %s" % line(str(error))) from None
        return found


def refuse_large(printed: Mapping[str, Any]) -> None:
    """Raises TooMuch for what is not parsed. printed: 'stdout' and 'stderr' of a module."""
    said = [str(printed.get(name) or "") for name in ("stdout", "stderr")]
    size = sum(map(len, said))
    if size > MAX_ANSWER:
        raise TooMuch(
            "the host answered with %s: expected at most %s" % (bytes_text(size), bytes_text(MAX_ANSWER))
        )
    values = sum(said[0].count(mark) for mark in ",[{")
    if values > MAX_VALUES:
        raise TooMuch("the host's answer holds about %d values: expected at most %d" % (values, MAX_VALUES))


@contextlib.contextmanager
def bounded(memory: int = MEMORY, cpu: float = CPU_SECONDS) -> Iterator[None]:
    """Raises TooMuch where the body takes more memory (bytes) or CPU time (seconds) than this.

    A task has a process of its own. Where it does not run in that one's main thread nothing is watched.
    """
    began, held = time.process_time(), _resident()

    def look(_number: int, _frame: FrameType | None) -> None:
        if _resident() - held > memory:
            raise TooMuch(
                "what the host sent takes more than %s of the controller's memory" % bytes_text(memory)
            )
        if time.process_time() - began > cpu:
            raise TooMuch("what the host sent takes more than %g s of the controller's CPU time" % cpu)

    try:
        before = signal.signal(signal.SIGPROF, look)
    except ValueError:
        yield
        return
    timer = signal.setitimer(signal.ITIMER_PROF, TICK, TICK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, *timer)
        signal.signal(signal.SIGPROF, before)


def _resident() -> int:
    """Bytes of memory that this process has; 0 where that cannot be read."""
    try:
        with open("/proc/self/statm", "rb") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


# -- what is kept


def line(value: object) -> str | None:
    """A text for people: it goes to terminals."""
    found = text(value, MAX_MESSAGE)
    return None if found is None else visible(found)


def lines(value: object, most: int = MAX_PRINTED) -> str | None:
    """As line(), with its line breaks and tabs."""
    found = text(value, most)
    if found is None:
        return None
    return "".join(part if part in ("\n", "\t") else visible(part) for part in _BREAKS.split(found))


def _warnings(value: object) -> list[str]:
    """Texts. Since ansible-core 2.19 a warning is an object whose event has the text."""
    given = value if isinstance(value, (list, tuple)) else []
    told = [
        item if isinstance(item, str) else getattr(getattr(item, "event", None), "msg", None)
        for item in given[:20]
    ]
    return [shown for shown in map(line, told) if shown]


def _diff(value: object) -> list[dict[str, Any]] | None:
    """What Ansible shows as a diff: a list of files before and after."""
    if not isinstance(value, list):
        return None
    found = []
    for item in value[:500]:
        given = dictionary(item)
        shown = {name: lines(given.get(name), MAX_DIFF) for name in ("before", "after")}
        headers = {name: line(given.get(name)) for name in ("before_header", "after_header")}
        found.append({name: item for name, item in {**headers, **shown}.items() if item is not None})
    return found


COMMON: dict[str, Check] = {
    "failed": flag,
    "changed": flag,
    "unreachable": flag,
    "skipped": flag,
    "msg": line,
    "warnings": _warnings,
    "rc": whole,
    "diff": _diff,
    "invocation": anything,
    # What a module printed that was no answer.
    "module_stdout": lines,
    "module_stderr": lines,
    "_ansible_parsed": flag,
    "_ansible_no_log": flag,
}


def kept(answer: object, keep: Mapping[str, Check]) -> dict[str, Any]:
    """The known keys of an answer. What does not pass its check is left out."""
    given = dictionary(answer)
    if not isinstance(answer, dict):
        return {"failed": True, "msg": "the host's answer is not a mapping"}
    found = {name: check(given[name]) for name, check in {**COMMON, **keep}.items() if name in given}
    found["exception"] = lines(given.get("exception"))
    if given.get("_ansible_parsed") is False and found["exception"] is None:
        # Ansible's own, of an answer that was no JSON.
        found["exception"] = given.get("exception")
    return {name: value for name, value in found.items() if value is not None}


def mapping(value: object) -> dict[str, Any] | None:
    """Any small mapping, as far as JSON can hold it."""
    return anything(value) if isinstance(value, dict) else None


def seconds(value: object) -> float | None:
    """A number of seconds."""
    found = count(value) if isinstance(value, int) else value
    return float(found) if isinstance(found, (int, float)) and 0 <= found < 1e9 else None
