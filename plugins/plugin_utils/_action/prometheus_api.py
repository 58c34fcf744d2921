# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP API of a Prometheus, by the options of the inventory plugin of that name.

The inventory plugin and falco_prometheus_info ask with it. What is asked and what may be concluded is
decided in _prometheus.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit

from ansible.module_utils.urls import ConnectionError, open_url
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import monitored, queries, responses
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus.responses import Sample
from ansible_collections.falcotune.fleet.plugins.plugin_utils._text import fitted, visible

# Bytes of one answer: 50 000 targets have about 20 MB.
MOST_BYTES = 1 << 26
BLOCK = 1 << 16
# Options of the inventory plugin that are read here or in _prometheus.
OPTIONS = (
    *("url", "url_username", "url_password", "bearer_token", "headers", "ca_path", "client_cert"),
    *("client_key", "validate_certs", "timeout", "limit", "selector", "name_labels", "name_regex"),
    *("name_replacement", "window", "remember", "stale_seconds", "drops_percent", "sample_percent"),
)
# The server's clock against this one's. More is an answer from a cache, or a clock that is wrong.
MOST_SKEW = 300


class OptionError(ValueError):
    """A wrong option: names it, what was found and what was expected."""


class ServerError(ValueError):
    """A server that cannot be asked, or an answer that must not be used: names the server and the query."""


def naming(options: Mapping[str, Any], aliases: Mapping[str, str]) -> monitored.Naming:
    """How targets name hosts. Raises OptionError."""
    try:
        pattern = re.compile(options["name_regex"])
        # A replacement that names a group which is not there fails with the first match.
        matched = re.compile(pattern.pattern + "|").fullmatch("")
        if matched is not None:
            matched.expand(options["name_replacement"])
    except (re.error, IndexError) as error:
        raise OptionError("name_regex or name_replacement: %s" % error) from None
    return monitored.Naming(tuple(options["name_labels"]), pattern, options["name_replacement"], aliases)


def limits(options: Mapping[str, Any]) -> monitored.Limits:
    """What is judged by. Raises OptionError."""
    for name in ("window", "remember"):
        if not queries.DURATION.fullmatch(options[name]):
            raise OptionError("%s is %r: expected a duration such as 15m or 1d" % (name, options[name]))
    for name in ("timeout", "limit", "stale_seconds"):
        if options[name] <= 0:
            raise OptionError("%s is %s: expected more than 0" % (name, options[name]))
    if urlsplit(options["url"]).scheme not in ("http", "https"):
        raise OptionError("url is %r: expected http://… or https://…" % options["url"])
    return monitored.Limits(
        options["drops_percent"], options["stale_seconds"], options["window"], options["remember"]
    )


class Server:
    """One Prometheus, or another server with its HTTP API. options: checked by limits()."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        parts = urlsplit(options["url"])
        # Without a password that may be in it.
        self.where = "%s://%s%s" % (parts.scheme, parts.netloc.rpartition("@")[2], parts.path)

    def answers(self, asked: Mapping[str, str]) -> dict[str, list[Sample]]:
        """The samples of every query, all evaluated for the time that the server took for the first one.

        Raises ServerError.
        """
        found: dict[str, list[Sample]] = {}
        at: float | None = None
        for name, query in asked.items():
            try:
                answer = responses.read(self._fetch(query, at), self.options["limit"])
            except responses.AnswerError as error:
                raise ServerError("%s, query %s: %s" % (self.where, name, visible(str(error)))) from None
            if at is None and answer.at is not None:
                at = answer.at
                if abs(at - time.time()) > MOST_SKEW:
                    raise ServerError(
                        "%s answers for a time that is %.0f s from this clock: a clock is wrong, or a cache "
                        "answers" % (self.where, abs(at - time.time()))
                    )
            found[name] = answer.samples
        return found

    def _fetch(self, query: str, at: float | None) -> bytes:
        """The body of the answer to one query."""
        form = {"query": query, "limit": self.options["limit"], "timeout": "%ds" % self.options["timeout"]}
        if at is not None:
            form["time"] = "%.3f" % at
        deadline = time.monotonic() + self.options["timeout"]
        try:
            with self._response(urlencode(form).encode()) as response:
                body = self._body(response, deadline)
        except (OSError, HTTPException, ConnectionError) as error:  # the last one is Ansible's
            raise responses.AnswerError(fitted(str(error), 300)) from None
        if response.status >= 300:
            raise responses.AnswerError("HTTP status %d. %s" % (response.status, responses.refusal(body)))
        return body

    def _response(self, form: bytes) -> Any:
        """The answer, whatever its status. Raises AnswerError where the options make no request."""
        try:
            return self._open(form)
        except HTTPError as error:
            return error
        except ValueError as error:
            raise responses.AnswerError("the request cannot be made: %s" % fitted(str(error), 300)) from None

    def _open(self, form: bytes) -> Any:
        options = self.options
        headers = {str(name): str(value) for name, value in options["headers"].items()}
        if options["bearer_token"]:
            headers["Authorization"] = "Bearer %s" % options["bearer_token"]
        return open_url(
            options["url"].rstrip("/") + "/api/v1/query",
            data=form,
            method="POST",
            headers=headers,
            timeout=options["timeout"],
            validate_certs=options["validate_certs"],
            url_username=options["url_username"],
            url_password=options["url_password"],
            force_basic_auth=bool(options["url_username"]),
            follow_redirects="none",
            client_cert=options["client_cert"],
            client_key=options["client_key"],
            ca_path=options["ca_path"],
            decompress=False,
            use_netrc=False,
        )

    def _body(self, response: Any, deadline: float) -> bytes:
        """All bytes of an answer, within its bounds of size and time."""
        data = bytearray()
        while len(data) <= MOST_BYTES:
            block = response.read1(BLOCK)
            if not block:
                return bytes(data)
            data += block
            if time.monotonic() > deadline:
                raise responses.AnswerError(
                    "the answer took longer than timeout (%d s)" % self.options["timeout"]
                )
        raise responses.AnswerError("the answer has more than %d bytes: narrow selector" % MOST_BYTES)
