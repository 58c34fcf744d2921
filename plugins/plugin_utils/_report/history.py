# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Earlier audits, in one SQLite file beside the reports, and what any other database has to do for them
(postgresql.py). The only modules of the core with input and output.

Rows lie by host and time, because that is how they are read: the last result of each host, its latest
points, and what is older than the retention. With 10 000 hosts and 400 audits each question is still one
short walk down one index a host. Snapshots are large and only the newest is of use, so there is one a host.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any

from ansible_collections.falcotune.fleet.plugins.plugin_utils import _untrusted
from ansible_collections.falcotune.fleet.plugins.plugin_utils._contracts import Fleet
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import models, shape

# "falc" in the file's header. A database of another program is never written to.
APPLICATION = 0x66616C63
# The statements that lead from each version of the file to the next one. Released steps are never edited.
STEPS = (
    (
        "CREATE TABLE audits (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT,"
        " collection TEXT, seconds REAL, hosts INTEGER NOT NULL, headline TEXT)",
        "CREATE INDEX audits_at ON audits (at)",
        "CREATE TABLE hosts (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE results (host INTEGER NOT NULL, at INTEGER NOT NULL, audit INTEGER NOT NULL,"
        " status TEXT NOT NULL, state TEXT, tier TEXT, drops_percent REAL, rate_per_cpu REAL,"
        " rate_per_cpu_guide REAL, seconds REAL, falco_cpu_percent REAL, driver TEXT, release TEXT,"
        " preset INTEGER, plan TEXT, PRIMARY KEY (host, at, audit)) WITHOUT ROWID",
    ),
    # Counters of the newest audit, for a window between two audits.
    (
        "CREATE TABLE snapshots (host INTEGER PRIMARY KEY, at INTEGER NOT NULL, release TEXT, cpus INTEGER,"
        " snapshot TEXT NOT NULL)",
    ),
    # What steps came to on a host, for the plans of hosts like it.
    (
        "CREATE TABLE outcomes (host INTEGER PRIMARY KEY, at INTEGER NOT NULL, twins TEXT NOT NULL,"
        " outcomes TEXT NOT NULL)",
        "CREATE INDEX outcomes_twins ON outcomes (twins)",
    ),
    # The fleet's numbers of each audit, for its way over many.
    (
        "ALTER TABLE audits ADD COLUMN measured INTEGER",
        "ALTER TABLE audits ADD COLUMN losing INTEGER",
        "ALTER TABLE audits ADD COLUMN drops_percent REAL",
    ),
)
VERSION = len(STEPS)
# Columns of results after host, at and audit.
_RESULT = (
    *("status", "state", "tier", "drops_percent", "rate_per_cpu", "rate_per_cpu_guide", "seconds"),
    *("falco_cpu_percent", "driver", "release", "preset", "plan"),
)
# Tables, how many values a row has, and what is done about a row that is there.
HOSTS = ("hosts (name)", 1, "DO NOTHING")
RESULTS = (
    "results",
    3 + len(_RESULT),
    "(host, at, audit) DO UPDATE SET " + ", ".join("%s = excluded.%s" % (name, name) for name in _RESULT),
)
# Of two audits that end at once, the one that was made later has the newest counters.
SNAPSHOTS = (
    "snapshots",
    5,
    "(host) DO UPDATE SET (at, release, cpus, snapshot) ="
    " (excluded.at, excluded.release, excluded.cpus, excluded.snapshot) WHERE excluded.at >= snapshots.at",
)
OUTCOMES = (
    "outcomes",
    4,
    "(host) DO UPDATE SET (at, twins, outcomes) = (excluded.at, excluded.twins, excluded.outcomes)"
    " WHERE excluded.at >= outcomes.at",
)
DAY = 86400
# execute() of a transaction.
Run = Callable[..., Any]
# Seconds to wait for another audit that writes. 10 000 hosts take about one.
PATIENCE = 30.0
CACHE_KIB = 64 << 10


class HistoryError(ValueError):
    """The history cannot be read or written: says which file, why and what to do."""


class Audits:
    """The audits in a database. A context manager.

    retention_days:  audits that are so much older than the newest one are removed
    per_host:        at most so many results of one host are kept, the newest
    """

    connection: Any
    # What the database raises.
    error: type[Exception] = sqlite3.Error

    def __init__(self, retention_days: int, per_host: int) -> None:
        self.retention, self.per_host = retention_days * DAY, per_host

    # What a database does its own way.

    def _told(self) -> contextlib.AbstractContextManager[None]:
        """Makes its errors HistoryErrors that say what to do."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Begins a transaction; waits until no other one writes."""
        raise NotImplementedError

    def _execute(self, statement: str, values: Any = ()) -> Any:
        """A cursor. The statement is SQLite's; values are for its ? or :name."""
        raise NotImplementedError

    def _put(self, table: tuple[str, int, str], rows: Iterable[Sequence[Any]]) -> None:
        """Inserts the rows. table: one of HOSTS, RESULTS, SNAPSHOTS, OUTCOMES.

        Of rows with the same first value the last one counts.
        """
        raise NotImplementedError

    def _insert(self, statement: str, values: Sequence[Any]) -> int:
        """The id of the inserted row."""
        raise NotImplementedError

    def _points(self, numbers: Sequence[int], limit: int) -> dict[int, list[list[Any]]]:
        """{number of a host: [[at, state, drops_percent, rate_per_cpu_guide, seconds], …]}, newest first."""
        raise NotImplementedError

    def _counters(self, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        """{number of a host: (release, cpus, snapshot as JSON)}."""
        raise NotImplementedError

    def _name(self, name: object) -> str | None:
        """The name of a host as the database can hold it."""
        return _untrusted.text(name)

    # What is kept, and what is asked.

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    @contextlib.contextmanager
    def _written(self) -> Iterator[Run]:
        """One transaction; yields execute(). Waits for the lock first, so that it cannot fail half-way."""
        with self._told():
            try:
                self._begin()
                yield self._execute
                self.connection.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has undone it already, and a server may be gone.
                with contextlib.suppress(self.error):
                    self.connection.execute("ROLLBACK")
                raise

    def add(self, model: models.Model) -> int | None:
        """Keeps an audit, all of it or nothing, and removes what is too old. → the audit's number."""
        at, hosts = shape.unix(model["made_at"]), model["hosts"]
        with self._written() as run:
            audit = self._insert(
                "INSERT INTO audits (at, kind, collection, seconds, hosts, headline, measured, losing,"
                " drops_percent) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    at,
                    model["kind"],
                    model["collection"],
                    model["seconds"],
                    len(hosts),
                    model["fleet"]["headline"],
                    *_fleet(model["fleet"]),
                ),
            )
            names = [self._name(host["name"]) for host in hosts]
            known = self._added(run, names)
            numbers = [known[name] for name in names]
            # Two names can become one, where they differ only in what the database cannot hold.
            self._put(RESULTS, ((n, at, audit, *_result(host)) for n, host in zip(numbers, hosts)))
            self._put(
                SNAPSHOTS,
                ((n, at, *_snapshot(host)) for n, host in zip(numbers, hosts) if host.get("snapshot")),
            )
            self._put(
                OUTCOMES, ((n, at, *_outcomes(host)) for n, host in zip(numbers, hosts) if host.get("twin"))
            )
            self._prune(run, numbers)
        return audit

    def _added(self, run: Run, names: Sequence[str | None]) -> dict[str | None, int]:
        """{name: number} of all hosts, once these are among them."""
        known: dict[str | None, int] = dict(run("SELECT name, id FROM hosts").fetchall())
        new = [(name,) for name in dict.fromkeys(names) if name not in known]
        if new:
            self._put(HOSTS, new)
            known = dict(run("SELECT name, id FROM hosts").fetchall())
        return known

    def prune(self) -> None:
        """Removes what is older than the retention, or more than per_host. add() does so too."""
        with self._written() as run:
            self._prune(run, [host for (host,) in run("SELECT id FROM hosts")])

    def last(self, before: int | float | str | None = None) -> dict[str, dict[str, Any]]:
        """Of each host its last result with a state.

        {host: {'at', 'seen', 'state', 'drops_percent', 'rate_per_cpu_guide'}}. at is the time of that
        result, seen that of the last audit which knew the host, reachable or not; so an audit of one group
        does not hide what the whole fleet's said before. A host that never had a state has None everywhere
        but in seen.

        before: Unix time or ISO 8601; only audits before it.
        """
        limit = shape.unix(before) if isinstance(before, str) else before
        limit = (1 << 62) if limit is None else int(limit)
        newest = (
            "SELECT at FROM results WHERE host = hosts.id AND at < :limit %s"
            " ORDER BY at DESC, audit DESC LIMIT 1"
        )
        with self._told():
            rows = self._execute(
                "SELECT name, seen, results.at, state, drops_percent, rate_per_cpu_guide FROM"
                " (SELECT id, name, (%s) AS seen, (%s) AS judged FROM hosts) AS hosts"
                " LEFT JOIN results ON host = hosts.id AND results.at = judged AND state IS NOT NULL"
                " WHERE seen IS NOT NULL ORDER BY name, audit"
                % (newest % "", newest % "AND state IS NOT NULL"),
                {"limit": limit},
            )
            return {
                name: {
                    "at": None if at is None else shape.iso(at),
                    "seen": shape.iso(seen),
                    "state": state,
                    "drops_percent": drops,
                    "rate_per_cpu_guide": rate,
                }
                for name, seen, at, state, drops, rate in rows
            }

    def series(
        self, hosts: Iterable[str] | None = None, limit: int = shape.MAX_HISTORY
    ) -> dict[str, list[list[Any]]]:
        """{host: [[unix, state, drops_percent, rate_per_cpu_guide, seconds], …]}, oldest first.

        The newest so many results with a state. hosts: names; None for all. A host without results has [].
        """
        with self._told():
            known = self._numbers(hosts)
            found = self._points([number for _name, number in known if number is not None], limit)
            return {name: found.get(number or 0, [])[::-1] for name, number in known}

    def snapshots(
        self, hosts: Iterable[str] | None = None
    ) -> dict[str, tuple[str | None, int | None, dict[str, Any]]]:
        """{host: (release, cpus, snapshot)}: the newest counters, where there are any."""
        with self._told():
            known = self._numbers(hosts)
            rows = self._counters([number for _name, number in known if number is not None])
        found = ((name, rows[number]) for name, number in known if number in rows)
        return {name: (row[0], row[1], json.loads(row[2])) for name, row in found}

    def way(self, limit: int = shape.MAX_HISTORY) -> list[list[Any]]:
        """[[unix, hosts, measured, losing, drops_percent], …] of the newest so many audits, oldest first."""
        with self._told():
            rows = self._execute(
                "SELECT at, hosts, measured, losing, drops_percent FROM audits WHERE measured IS NOT NULL"
                " ORDER BY at DESC, id DESC LIMIT ?",
                (limit,),
            ).fetchall()
        return [list(row) for row in rows][::-1]

    def outcomes(self, twins: str, name: str, since: float, most: int) -> list[Any]:
        """What steps came to on other hosts than this one: the newest so many lists of outcomes.

        twins: of _tuning/twins.key(). since: Unix time of the oldest audit that counts.
        """
        with self._told():
            rows = self._execute(
                "SELECT outcomes FROM outcomes JOIN hosts ON hosts.id = outcomes.host"
                " WHERE twins = ? AND name <> ? AND outcomes.at >= ? ORDER BY outcomes.at DESC, name LIMIT ?",
                (twins, self._name(name), int(since), most),
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def _numbers(self, hosts: Iterable[str] | None) -> list[tuple[str, int | None]]:
        """[(name, number or None)] of these hosts, or of all."""
        known = dict(self._execute("SELECT name, id FROM hosts ORDER BY name").fetchall())
        if hosts is None:
            return list(known.items())
        return [(name, known.get(self._name(name))) for name in hosts]

    def _prune(self, run: Run, hosts: Sequence[int]) -> None:
        (newest,) = run("SELECT max(at) FROM audits").fetchone()
        oldest = (newest or 0) - self.retention
        if run("SELECT 1 FROM audits WHERE at < ? LIMIT 1", (oldest,)).fetchone():
            run("DELETE FROM results WHERE host IN (SELECT id FROM hosts) AND at < ?", (oldest,))
            run("DELETE FROM audits WHERE at < ?", (oldest,))
            run("DELETE FROM hosts WHERE NOT EXISTS (SELECT 1 FROM results WHERE host = hosts.id)")
            for table in ("snapshots", "outcomes"):
                run("DELETE FROM %s WHERE host NOT IN (SELECT id FROM hosts)" % table)
        # No host can have more results than there are audits, so this is rarely needed.
        if run("SELECT count(*) FROM audits").fetchone()[0] > self.per_host:
            for host in hosts:
                row = run(
                    "SELECT at, audit FROM results WHERE host = ?"
                    " ORDER BY at DESC, audit DESC LIMIT 1 OFFSET ?",
                    (host, self.per_host),
                ).fetchone()
                if row:
                    run("DELETE FROM results WHERE host = ? AND (at, audit) <= (?, ?)", (host, *row))

    def _upgrade(self, run: Run, version: int, place: str) -> None:
        """The steps that are missing. place: what the database is called."""
        if version > VERSION:
            raise HistoryError(
                "%s was written by a newer falcotune.fleet (version %d, known up to %d): upgrade the "
                "collection here, or name another history" % (place, version, VERSION)
            )
        for step in STEPS[version:]:
            for statement in step:
                run(statement)


class History(Audits):
    """The audits in one file. A missing file is made, for its owner only."""

    connection: sqlite3.Connection

    def __init__(self, path: object, retention_days: int = 400, per_host: int = 2000) -> None:
        super().__init__(retention_days, per_host)
        self.path = str(path)
        with self._told():
            self._make()
            # Transactions are ours: Python's own would begin them late, and without a lock.
            self.connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            try:
                self._own()
                self._faster()
                self._migrate()
            except BaseException:
                self.close()
                raise

    def _execute(self, statement: str, values: Any = ()) -> sqlite3.Cursor:
        return self.connection.execute(statement, values)

    def _put(self, table: tuple[str, int, str], rows: Iterable[Sequence[Any]]) -> None:
        name, width, conflict = table
        marks = ", ".join("?" * width)
        self.connection.executemany(
            "INSERT INTO %s VALUES (%s) ON CONFLICT %s" % (name, marks, conflict), rows
        )

    def _insert(self, statement: str, values: Sequence[Any]) -> int:
        return self.connection.execute(statement, values).lastrowid or 0

    def _points(self, numbers: Sequence[int], limit: int) -> dict[int, list[list[Any]]]:
        statement = (
            "SELECT at, state, drops_percent, rate_per_cpu_guide, seconds FROM results"
            " WHERE host = ? AND state IS NOT NULL ORDER BY at DESC, audit DESC LIMIT ?"
        )
        return {number: list(map(list, self._execute(statement, (number, limit)))) for number in numbers}

    def _counters(self, numbers: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        statement = "SELECT release, cpus, snapshot FROM snapshots WHERE host = ?"
        rows = ((number, self._execute(statement, (number,)).fetchone()) for number in numbers)
        return {number: row for number, row in rows if row}

    def _make(self) -> None:
        """An empty file for its owner only; SQLite gives its log and lock beside it the same mode."""
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))

    def _own(self) -> None:
        """Raises HistoryError for a database of another program."""
        # In this order: another process may be making the tables, and it gives them and the number in one
        # transaction.
        (tables,) = self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = self.connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION and (application or tables):
            raise HistoryError(
                "%s is a database of another program, not a history of audits: name another file" % self.path
            )

    def _faster(self) -> None:
        """Readers and a writer at once, where the file system allows it. On NFS they wait for each other."""
        # An audit of 10 000 hosts touches as many pages.
        self.connection.execute("PRAGMA cache_size = -%d" % CACHE_KIB)
        with contextlib.suppress(sqlite3.OperationalError):
            if self.connection.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",):
                self.connection.execute("PRAGMA synchronous = NORMAL")

    def _migrate(self) -> None:
        if self._version() == VERSION:
            return
        with self._written() as run:
            # Another process may have done it while this one waited for the lock.
            self._upgrade(run, self._version(), self.path)
            run("PRAGMA application_id = %d" % APPLICATION)
            run("PRAGMA user_version = %d" % VERSION)

    def _version(self) -> int:
        return int(self.connection.execute("PRAGMA user_version").fetchone()[0])

    def _begin(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Makes errors of SQLite errors that say what to do."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise HistoryError("%s: %s" % (self.path, _said(error))) from None


def _result(host: models.Host) -> tuple[Any, ...]:
    """What is kept of a host, after host, time and audit."""
    verdict = _untrusted.dictionary(host["verdict"])
    reals = (
        verdict.get("drops_percent"),
        verdict.get("rate_per_cpu"),
        verdict.get("rate_per_cpu_guide"),
        _untrusted.dictionary(host["window"]).get("seconds"),
        verdict.get("cost", {}).get("falco_cpu_percent"),
    )
    return (
        host["status"],
        models.state_of(host),
        verdict.get("tier"),
        *(None if item is None else float(item) for item in reals),
        host["driver"],
        host["release"],
        _whole(_untrusted.dictionary(host["buffers"]).get("buf_size_preset")),
        digest(host["plan"]),
    )


def _fleet(fleet: Fleet) -> tuple[int, int, float | None]:
    """(hosts measured, hosts that lose events, percent of all events lost)."""
    losing = fleet["states"]["dropping"] + fleet["states"]["overloaded"]
    return fleet["percentiles"]["measured"], losing, fleet["drops_percent"]


def _snapshot(host: models.Host) -> tuple[Any, ...]:
    """What is kept of a host for the next audit, after host and time."""
    return host["release"], _whole(host["cpus"]), json.dumps(host["snapshot"], separators=(",", ":"))


def _outcomes(host: models.Host) -> tuple[str, str]:
    """What is kept of a host for hosts like it, after host and time."""
    twin = host["twin"]
    return twin["twins"], json.dumps(twin["outcomes"], separators=(",", ":"))


def _whole(value: int | None) -> int | None:
    """A whole number that SQLite can hold, or None."""
    return value if value is None or value < 1 << 63 else None


def digest(plan: dict[str, Any] | None) -> str | None:
    """16 hexadecimal digits, the same for plans with the same changes; None for a plan without changes."""
    if not plan or not plan["changes"]:
        return None
    asked = [[change["kind"], change["key"], change["to"]] for change in plan["changes"]]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode("ascii")).hexdigest()[:16]


# A part of SQLite's or the system's message, and what to do.
_HELP = (
    ("not a database", "this is not an SQLite database: name another file, or move this one away"),
    ("malformed", "the database is damaged: restore it, or move it away and start with an empty one"),
    ("disk is full", "the disk is full: nothing of this audit was kept"),
    ("No space left", "the disk is full: nothing of this audit was kept"),
    ("readonly", "it cannot be written: check its owner and mode, and those of its directory"),
    ("locked", "another process has kept it locked for %d s: run the audit again later" % PATIENCE),
    ("Permission denied", "it may not be written: check its owner and mode, and those of its directory"),
    ("No such file", "its directory does not exist: make it, or name another file"),
    (
        "unable to open",
        "it cannot be opened: check that it is a file, its owner and mode, and those of its directory",
    ),
    ("Is a directory", "this is a directory: name a file in it"),
)


def _said(error: Exception) -> str:
    text = str(error)
    for part, words in _HELP:
        if part in text:
            return "%s (%s)" % (words, text.partition(":")[0] if isinstance(error, OSError) else text)
    return text
