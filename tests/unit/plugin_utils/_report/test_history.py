# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The history of audits: what it remembers, forgets and refuses, and two audits at once.

The same tests for SQLite and for PostgreSQL, where the latter is installed. What a file alone can do has tests of its own below,
and so has a server.
"""

import contextlib
import multiprocessing
import os
import sqlite3
import stat
import sys
import time

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import history, models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.history import (
    DAY, History, HistoryError,
)
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report.postgresql import Postgres
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit
from ansible_collections.falcotune.fleet.tests.unit import hostile

NOW = synthetic_audit.NOW


def result(name, state="healthy", drops=0.0, **more):
    return dict({"name": name, "status": "ok", "release": "0.44.1", "driver": "modern_ebpf", "cpus": 8,
                 "buffers": {"buf_size_preset": 6}, "window": {"seconds": 61.5}, "verdict": {
                     "state": state, "tier": "low", "drops_percent": drops, "rate_per_cpu": 263.2, "rate_per_cpu_guide": 500.1,
                     "bottleneck": "none", "next_step": "none", "cost": {"falco_cpu_percent": 3.5}}}, **more)


def audit(*results, at=NOW):
    return models.assemble(results, synthetic_audit.POLICY, dict(synthetic_audit.META, made_at=shape.iso(at)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.sqlite"


@pytest.fixture
def dsn(server):
    """An empty database."""
    server.empty()
    return server.dsn


@pytest.fixture(params=[History, Postgres], ids=["sqlite", "postgresql"])
def opened(request):
    """opened(…) opens the history, which is empty at first."""
    place = request.getfixturevalue("path" if request.param is History else "dsn")

    def function(**more):
        return request.param(place, **more)

    function.kind, function.place = request.param, place
    return function


@pytest.fixture
def kept(opened):
    with opened() as found:
        yield found


@pytest.fixture
def file(path):
    with History(path) as found:
        yield found


def count(found, table="results"):
    return found.connection.execute("SELECT count(*) FROM %s" % table).fetchone()[0]


def rows(path, statement):
    with sqlite3.connect(path) as connection:
        return connection.execute(statement).fetchall()


# Remembering

def test_nothing_is_known_at_first(kept):
    assert (kept.last(), kept.series(), kept.series(["a"]), kept.snapshots(), kept.snapshots(["a"])) == ({}, {}, {"a": []}, {}, {})


def test_what_was_added_is_found_by_another_process_later(opened):
    with opened() as first:
        first.add(audit(result("a", "dropping", 12.5, snapshot={"scap.n_evts": 5, "cpu": {"on": 1.5}}),
                        {"name": "b", "status": "unreachable"}))
    with opened() as then:
        at = shape.iso(NOW)
        assert then.last() == {
            "a": {"at": at, "seen": at, "state": "dropping", "drops_percent": 12.5, "rate_per_cpu_guide": 500.1},
            "b": {"at": None, "seen": at, "state": None, "drops_percent": None, "rate_per_cpu_guide": None}}
        assert then.series() == {"a": [[NOW, "dropping", 12.5, 500.1, 61.5]], "b": []}
        assert then.snapshots() == {"a": ("0.44.1", 8, {"scap.n_evts": 5, "cpu": {"on": 1.5}})}


def test_one_row_an_audit_and_one_a_host(kept):
    plan = {"changes": [{"kind": "config", "key": "metrics.enabled", "from": False, "to": True, "why": "x"}], "restart_required": True}
    kept.add(audit(result("a", plan=plan), result("b")))
    assert kept.connection.execute("SELECT id, at, kind, collection, seconds, hosts FROM audits").fetchall() == [
        (1, NOW, "audit", "falcotune.fleet 0.1.0", 41.7, 2)]
    assert kept.connection.execute("SELECT name, results.* FROM results JOIN hosts ON host = id ORDER BY name").fetchall()[0][3:] == (
        1, "ok", "healthy", "low", 0.0, 263.2, 500.1, 61.5, 3.5, "modern_ebpf", "0.44.1", 6,
        history.digest(audit(result("a", plan=plan))["hosts"][0]["plan"]))


def test_a_plan_has_the_same_digest_while_it_asks_for_the_same():
    def plan(to, why="x", now=1):
        return {"changes": [{"kind": "config", "key": "k", "from": now, "to": to, "why": why}]}

    assert history.digest(plan(2)) == history.digest(plan(2, "other words", 3)) != history.digest(plan(4))
    assert history.digest(None) is history.digest({"changes": []}) is None


def test_the_last_result_before_a_time(kept):
    for day, state in ((3, "healthy"), (2, "dropping"), (1, "blind")):
        kept.add(audit(result("a", state), at=NOW - day * DAY))
    assert kept.last()["a"]["state"] == "blind"
    assert kept.last(NOW - DAY)["a"]["state"] == "dropping"
    assert kept.last(shape.iso(NOW - DAY))["a"]["state"] == "dropping"
    assert kept.last(NOW - 3 * DAY) == {}


def test_an_audit_of_some_hosts_hides_nothing_of_the_others(kept):
    kept.add(audit(result("web", "dropping", 5.0), result("db", "dropping", 9.0), at=NOW - 2 * DAY))
    kept.add(audit(result("web", "healthy"), at=NOW - DAY))
    found = kept.last()
    assert (found["web"]["state"], found["db"]["state"]) == ("healthy", "dropping")
    assert found["db"]["seen"] < found["web"]["seen"]


def test_a_host_that_was_unreachable_last_time_is_compared_with_the_time_before(kept):
    kept.add(audit(result("a", "dropping", 5.0), at=NOW - 2 * DAY))
    kept.add(audit({"name": "a", "status": "unreachable"}, at=NOW - DAY))
    assert kept.last()["a"] == {"at": shape.iso(NOW - 2 * DAY), "seen": shape.iso(NOW - DAY), "state": "dropping",
                                "drops_percent": 5.0, "rate_per_cpu_guide": 500.1}
    assert models.assemble([result("a", "healthy")], synthetic_audit.POLICY, synthetic_audit.META, kept.last())["fleet"]["since_last"] == {
        "at": shape.iso(NOW - DAY), "better": ["a"], "worse": [], "new": [], "gone": []}


def test_of_two_audits_in_one_second_the_later_one_counts(kept):
    kept.add(audit(result("a", "dropping", 5.0, snapshot={"n": 1})))
    kept.add(audit(result("a", "healthy", snapshot={"n": 2})))
    assert kept.last()["a"]["state"] == "healthy"
    assert [row[1] for row in kept.series()["a"]] == ["dropping", "healthy"]
    assert kept.snapshots()["a"][2] == {"n": 2}


def test_a_second_look_in_the_same_second_that_fails_takes_nothing_away(kept):
    kept.add(audit(result("a", "dropping", 5.0)))
    kept.add(audit({"name": "a", "status": "unreachable"}))
    assert kept.last()["a"]["state"] == "dropping"


def test_a_series_is_the_newest_points_oldest_first(kept):
    for day in range(100, 0, -1):
        kept.add(audit(result("a", drops=float(day)), at=NOW - day * DAY))
    assert [row[2] for row in kept.series()["a"]] == [float(day) for day in range(60, 0, -1)]
    assert [row[2] for row in kept.series(["a"], 2)["a"]] == [2.0, 1.0]


def test_only_the_newest_snapshot_is_kept_whatever_comes_last(kept):
    kept.add(audit(result("a", snapshot={"n": 1}), at=NOW))
    kept.add(audit(result("a", snapshot={"n": 2}), at=NOW - DAY))
    kept.add(audit(result("a"), at=NOW + DAY))
    assert kept.snapshots(["a"]) == {"a": ("0.44.1", 8, {"n": 1})}


def outcome(**more):
    return dict({"at": 1.0, "step": "priority", "against": "starved", "to": "f00", "preset": None, "demand": 5.0, "rate_per_cpu": None,
                 "worked": True, "error": 1.5}, **more)


def test_what_steps_came_to_is_found_for_hosts_like_it(kept):
    def twin(*outcomes, twins="modern_ebpf/8/0.44.1/1c15"):
        return {"twin": {"twins": twins, "outcomes": list(outcomes)}}

    for when, worked in ((NOW - DAY, True), (NOW, False), (NOW - 2 * DAY, True)):
        kept.add(audit(result("a", **twin(outcome(worked=worked))), result("other", **twin(outcome(), twins="kmod/8/0.44.1/1c15")),
                       at=when))
    kept.add(audit(result("b", **twin(outcome(), outcome(step="buffers", preset=6))), result("a"), at=NOW - 5 * DAY))
    alike = "modern_ebpf/8/0.44.1/1c15"
    assert kept.outcomes(alike, "c", 0, 9) == [[outcome(worked=False)], [outcome(), outcome(step="buffers", preset=6)]], "the newest first"
    assert kept.outcomes(alike, "a", 0, 9) == [[outcome(), outcome(step="buffers", preset=6)]], "a host is not its own twin"
    assert len(kept.outcomes(alike, "c", 0, 1)) == 1 and len(kept.outcomes(alike, "c", NOW - DAY, 9)) == 1
    assert kept.outcomes("unknown", "c", 0, 9) == []
    # It is forgotten with the host.
    kept.add(audit(result("x"), at=NOW + 500 * DAY))
    assert kept.outcomes(alike, "c", 0, 9) == []


def test_the_way_of_the_fleet_is_one_row_an_audit_oldest_first(kept):
    assert kept.way() == []
    window = {"seconds": 61.5, "basis": "counters", "events": 1000}
    for number, (drops, state) in enumerate(((500, "overloaded"), (100, "dropping"), (0, "healthy"))):
        kept.add(audit(result("a", state, drops / 10.0, window={**window, "drops": drops}), result("b", window={**window, "drops": 0}),
                       {"name": "c", "status": "unreachable"}, at=NOW + number * DAY))
    kept.add(audit({"name": "a", "status": "unreachable"}, at=NOW - DAY))
    assert kept.way() == [[NOW - DAY, 1, 0, 0, None], [NOW, 3, 2, 1, 25.0], [NOW + DAY, 3, 2, 1, 5.0], [NOW + 2 * DAY, 3, 2, 0, 0.0]]
    assert kept.way(2) == kept.way()[-2:]


def test_series_and_snapshots_of_chosen_hosts(kept):
    kept.add(audit(*(result(name, snapshot={"n": 1}) for name in "abc")))
    assert list(kept.series(["c", "a", "x"])) == ["c", "a", "x"]
    assert list(kept.snapshots(["c", "x"])) == ["c"]


def test_a_fleet_goes_in_and_comes_out_as_the_report_wants_it(kept):
    model = synthetic_audit.audit_model(200)
    kept.add(model)
    series, last = kept.series(), kept.last()
    for host in model["hosts"]:
        again = shape.host(dict(host, history=series[host["name"]], previous=last[host["name"]]))
        assert len(again["history"]) == (models.state_of(host) is not None)
        assert again["previous"]["state"] == models.state_of(host)


def test_hostile_hosts_are_only_data(kept):
    model = hostile.model()
    kept.add(model)
    # PostgreSQL has no texts with a NUL.
    names = [kept._name(host["name"]) for host in model["hosts"]]
    assert all(name.replace("\0", "\ufffd") == kept._name(name).replace("\0", "\ufffd") for name in names)
    assert set(kept.last()) == set(names) == set(kept.series())
    assert kept.series(["\ud800"]) == {"\ud800": kept.series(["\ufffd"])["\ufffd"]}
    assert count(kept) > 0


def test_numbers_that_a_database_can_not_hold(kept):
    huge = (1 << 64) - 1
    kept.add(audit(dict(result("a", drops=huge, snapshot={"n": huge}), cpus=huge, buffers={"buf_size_preset": huge})))
    assert kept.snapshots()["a"] == ("0.44.1", None, {"n": huge})


# Forgetting

def test_what_is_older_than_the_retention_is_forgotten(opened):
    with opened(retention_days=10) as kept:
        kept.add(audit(result("gone", snapshot={"n": 1}), result("a"), at=NOW - 11 * DAY))
        kept.add(audit(result("a"), at=NOW - 10 * DAY))
        assert count(kept) == 3
        kept.add(audit(result("a"), at=NOW))
        assert [row[0] for row in kept.series()["a"]] == [NOW - 10 * DAY, NOW]
        assert set(kept.last()) == {"a"} and kept.snapshots() == {}
        assert (count(kept), count(kept, "audits"), count(kept, "hosts"), count(kept, "snapshots")) == (2, 2, 1, 0)


def test_only_so_many_results_of_a_host_are_kept(opened):
    with opened(per_host=3) as kept:
        for day in range(9, 0, -1):
            kept.add(audit(*(result(name) for name in ("a", "b")[:1 + (day > 7)]), at=NOW - day * DAY))
        assert [row[0] for row in kept.series()["a"]] == [NOW - day * DAY for day in (3, 2, 1)]
        assert [row[0] for row in kept.series()["b"]] == [NOW - day * DAY for day in (9, 8)]


def test_prune_by_hand(opened):
    with opened() as kept:
        for day in range(9, 0, -1):
            kept.add(audit(result("a"), at=NOW - day * DAY))
    with opened(retention_days=6, per_host=5) as kept:
        kept.prune()
        assert [row[0] for row in kept.series()["a"]] == [NOW - day * DAY for day in (5, 4, 3, 2, 1)]


# Speed: by the way it is looked up, not by a clock

@pytest.mark.parametrize("ask", [History.last, History.series, History.snapshots, History.prune],
                         ids=["last", "series", "snapshots", "prune"])
def test_no_question_reads_all_results(file, ask):
    file.add(audit(result("a"), result("b")))
    file.retention, asked = -1, []
    file.connection.set_trace_callback(asked.append)
    ask(file)
    file.connection.set_trace_callback(None)
    steps = [row[3] for statement in asked if statement.startswith(("SELECT", "DELETE"))
             for row in file.connection.execute("EXPLAIN QUERY PLAN " + statement)]
    assert any("results" in step or "snapshots" in step for step in steps)
    assert not [step for step in steps if step.startswith("SCAN results")], steps


# The file

def test_the_file_and_what_lies_beside_it_are_its_owners(path):
    before = os.umask(0)
    try:
        with History(path) as kept:
            kept.add(audit(result("a")))
            found = {item.name: stat.S_IMODE(item.stat().st_mode) for item in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert path.name in found and set(found.values()) == {0o600}


def test_a_mode_that_somebody_chose_stays(path):
    History(path).close()
    path.chmod(0o640)
    History(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def at_version(path, version):
    """A file as an older collection left it, with one audit in it."""
    with sqlite3.connect(path) as connection:
        for step in history.STEPS[:version]:
            for statement in step:
                connection.execute(statement)
        if version:
            connection.execute("INSERT INTO audits (id, at, kind, collection, seconds, hosts, headline)"
                               " VALUES (1, ?, 'audit', 'falcotune.fleet 0.0.1', 1.5, 1, 'x')", (NOW - DAY,))
            connection.execute("INSERT INTO hosts VALUES (1, 'a')")
            connection.execute("INSERT INTO results (host, at, audit, status, state, drops_percent, rate_per_cpu_guide, seconds)"
                               " VALUES (1, ?, 1, 'ok', 'dropping', 7.5, 900.5, 60.0)", (NOW - DAY,))
            connection.execute("PRAGMA application_id = %d" % history.APPLICATION)
        connection.execute("PRAGMA user_version = %d" % version)
    connection.close()


@pytest.mark.parametrize("version", range(len(history.STEPS) + 1))
def test_an_older_file_is_brought_up_to_date_with_what_is_in_it(path, version):
    at_version(path, version)
    with History(path) as kept:
        assert kept.connection.execute("PRAGMA user_version").fetchone()[0] == history.VERSION
        assert kept.series(["a"])["a"] == ([[NOW - DAY, "dropping", 7.5, 900.5, 60.0]] if version else [])
        kept.add(audit(result("a", snapshot={"n": 1})))
        assert kept.snapshots()["a"][2] == {"n": 1}
        assert len(kept.series()["a"]) == 1 + bool(version)


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, monkeypatch):
    at_version(path, 1)
    monkeypatch.setattr(history, "STEPS", (*history.STEPS, ("CREATE TABLE more (x)", "CREATE NONSENSE")))
    monkeypatch.setattr(history, "VERSION", len(history.STEPS))
    with pytest.raises(HistoryError):
        History(path)
    assert rows(path, "PRAGMA user_version") == [(1,)]
    assert not rows(path, "SELECT 1 FROM sqlite_master WHERE name IN ('more', 'snapshots')")


def test_nobody_else_can_migrate_while_one_looks_whether_to(path, monkeypatch):
    at_version(path, 1)
    look, locked = History._version, []

    def version(self):
        if self.connection.in_transaction:
            with contextlib.closing(sqlite3.connect(path, timeout=0)) as other:
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("BEGIN IMMEDIATE")
            locked.append(True)
        return look(self)

    monkeypatch.setattr(History, "_version", version)
    History(path).close()
    assert locked


def refused(path, *words):
    with pytest.raises(HistoryError) as caught:
        History(path)
    assert str(path) in str(caught.value)
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_newer_file_is_refused_and_not_touched(path):
    at_version(path, history.VERSION)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    refused(path, "newer falcotune.fleet", "99", "upgrade the collection")
    assert rows(path, "PRAGMA user_version") == [(99,)]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to have a header" * 20, b"{}", b"\x00" * 4096])
def test_a_file_that_is_no_database(path, content):
    path.write_bytes(content)
    refused(path, "not an SQLite database", "another file")
    assert path.read_bytes() == content


def test_a_damaged_file(path):
    with History(path) as kept:
        kept.add(synthetic_audit.audit_model(300))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(HistoryError, match="damaged"), History(path) as kept:
        kept.last()


def test_a_database_of_somebody_else(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (x)")
    connection.close()
    refused(path, "another program")
    assert rows(path, "SELECT name FROM sqlite_master") == [("cookies",)]


def test_no_directory(path):
    refused(path.parent / "missing" / "history.sqlite", "its directory does not exist")


def test_a_directory(path):
    path.mkdir()
    refused(path, "check that it is a file")


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
@pytest.mark.parametrize("existing", [True, False])
def test_a_file_that_may_not_be_written(path, existing):
    if existing:
        History(path).close()
        path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert "owner and mode" in _as_nobody(path)
    finally:
        path.parent.chmod(0o755)


def _as_nobody(path):
    """What an unprivileged user is told; root may write anything."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        told = "nothing"
        try:
            # The way there belongs to root alone, but what it leads to is reached by a relative name.
            os.chdir(path.parent)
            if os.geteuid() == 0:
                os.setuid(65534)
            History(path.name).add(audit(result("a")))
        except HistoryError as error:
            told = str(error)
        finally:
            os.write(writer, told.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read().decode()
    os.waitpid(child, 0)
    return told


def test_a_full_disk_keeps_nothing_of_the_audit_and_all_of_the_others(path):
    with History(path) as kept:
        kept.add(audit(result("a")))
        pages, = kept.connection.execute("PRAGMA page_count").fetchone()
        kept.connection.execute("PRAGMA max_page_count = %d" % (pages + 3))
        with pytest.raises(HistoryError, match="the disk is full"):
            kept.add(synthetic_audit.audit_model(3000, history=0))
        assert (count(kept), count(kept, "audits"), count(kept, "hosts")) == (1, 1, 1)
        kept.connection.execute("PRAGMA max_page_count = %d" % (1 << 20))
        kept.add(audit(result("a", "dropping"), at=NOW + 1))
        assert kept.last()["a"]["state"] == "dropping"


def test_a_lock_that_nobody_gives_back(path, monkeypatch):
    monkeypatch.setattr(history, "PATIENCE", 0.1)
    with History(path) as one, History(path) as other:
        one.connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryError, match="another process has kept it locked"):
            other.add(audit(result("a")))
        one.connection.execute("ROLLBACK")
        other.add(audit(result("a")))


def test_reading_goes_on_while_somebody_writes(path):
    with History(path) as one, History(path) as other:
        one.add(audit(result("a")))
        one.connection.execute("BEGIN IMMEDIATE")
        one.connection.execute("DELETE FROM results")
        assert other.last()["a"]["state"] == "healthy"
        one.connection.execute("ROLLBACK")


def test_an_audit_that_fails_half_way_leaves_nothing(kept):
    model = audit(result("a"), result("b"))
    model["hosts"][1]["status"] = None
    with pytest.raises(HistoryError):
        kept.add(model)
    assert (count(kept), count(kept, "audits"), count(kept, "hosts")) == (0, 0, 0)


def _auditor(opened, number, ready, go):
    model = synthetic_audit.audit_model(60, seed=1, history=0)
    ready.release()
    go.wait()
    for turn in range(10):
        # Opened anew each time, the first time where nobody has made anything yet.
        with opened() as kept:
            model["made_at"] = shape.iso(NOW + 8 * turn + number)
            kept.add(model)
            kept.last()


def _started(number, target, *arguments):
    """So many processes that begin at once."""
    context = multiprocessing.get_context("fork")
    ready, go = context.Semaphore(0), context.Event()
    found = [context.Process(target=target, args=(*arguments, index, ready, go)) for index in range(number)]
    for process in found:
        process.start()
    for _dummy in found:
        ready.acquire()
    go.set()
    return found


@pytest.mark.parametrize("number", [2, 8])
def test_audits_at_once(opened, number):
    auditors = _started(number, _auditor, opened)
    for auditor in auditors:
        auditor.join()
    assert [auditor.exitcode for auditor in auditors] == [0] * number
    with opened() as kept:
        assert (count(kept), count(kept, "audits"), count(kept, "hosts")) == (600 * number, 10 * number, 60)
        assert all(len(series) == min(10 * number, 60) or not series for series in kept.series().values())
        if opened.kind is History:
            assert rows(opened.place, "PRAGMA integrity_check") == [("ok",)]


def _doomed(opened, number, ready, go):
    model = synthetic_audit.audit_model(300, seed=1, history=0)
    with opened() as kept:
        kept.add(model)
        ready.release()
        go.wait()
        while True:
            kept.add(model)


def test_a_writer_that_is_killed_leaves_whole_audits_only(opened):
    for pause in (0.02, 0.05, 0.11, 0.23):
        (writer,) = _started(1, _doomed, opened)
        time.sleep(pause)
        writer.kill()
        writer.join()
    with opened() as kept:
        kept.add(audit(result("a")))
        sizes = kept.connection.execute(
            "SELECT audits.hosts, (SELECT count(*) FROM results WHERE audit = audits.id) FROM audits ORDER BY id").fetchall()
    assert len(sizes) > 4 and {tuple(size) for size in sizes} == {(300, 300), (1, 1)}


# The server

def test_a_server_that_is_not_there_is_told_without_the_password():
    pytest.importorskip("psycopg")
    with pytest.raises(HistoryError) as caught:
        Postgres("postgresql://falco:s3cret@127.0.0.1:1/audits?connect_timeout=2")
    text = str(caught.value)
    assert "host 127.0.0.1, port 1, dbname audits" in text and "s3cret" not in text


@pytest.mark.parametrize("given", ["postgres//falco:s3cret@h/d", "host=h password", "password='s3cret", "s3cret=1"])
def test_a_dsn_that_is_none_is_told_without_the_password(given):
    pytest.importorskip("psycopg")
    with pytest.raises(HistoryError, match="is not a connection string") as caught:
        Postgres(given)
    assert "s3cret" not in str(caught.value)


def test_without_the_driver_it_is_told_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(HistoryError, match="needs the Python library psycopg 3"):
        Postgres("postgresql://h/d")


@pytest.mark.parametrize("version", range(len(history.STEPS) + 1))
def test_an_older_schema_is_brought_up_to_date_with_what_is_in_it(dsn, version, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(history, "STEPS", history.STEPS[:version])
        older.setattr(history, "VERSION", version)
        with Postgres(dsn) as kept:
            if version:
                kept.connection.execute("INSERT INTO audits (at, hosts) VALUES (%s, 1)", (NOW - DAY,))
                kept.connection.execute("INSERT INTO hosts (name) VALUES ('a')")
                kept.connection.execute("INSERT INTO results (host, at, audit, status, state, drops_percent, rate_per_cpu_guide, seconds)"
                                        " VALUES (1, %s, 1, 'ok', 'dropping', 7.5, 900.5, 60.0)", (NOW - DAY,))
    with Postgres(dsn) as kept:
        assert kept.version == history.VERSION
        assert kept.series(["a"])["a"] == ([[NOW - DAY, "dropping", 7.5, 900.5, 60.0]] if version else [])
        kept.add(audit(result("a", snapshot={"n": 1})))
        assert kept.snapshots()["a"][2] == {"n": 1} and len(kept.series()["a"]) == 1 + bool(version)


def test_a_newer_schema_is_refused_and_not_touched(dsn):
    with Postgres(dsn) as kept:
        kept.connection.execute("UPDATE version SET version = 99")
    for writes in (True, False):
        with pytest.raises(HistoryError, match="newer falcotune.fleet .version 99"):
            Postgres(dsn, writes=writes)


def test_a_schema_of_another_program_is_refused(dsn):
    with Postgres(dsn) as kept:
        kept.connection.execute("DROP SCHEMA falcotune CASCADE")
        kept.connection.execute("CREATE SCHEMA falcotune CREATE TABLE audits (x int)")
    with pytest.raises(HistoryError, match="of another program"):
        Postgres(dsn)


def test_a_reader_makes_nothing(dsn):
    with Postgres(dsn, writes=False) as kept:
        assert kept.version == 0
        assert kept.connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'falcotune'").fetchone() is None


def test_a_lock_on_the_schema_that_nobody_gives_back(dsn, monkeypatch):
    with Postgres(dsn) as one, Postgres(dsn) as other:
        other.connection.execute("SET lock_timeout TO 100")
        one.connection.execute("BEGIN")
        one.connection.execute("SELECT pg_advisory_xact_lock(%d)" % history.APPLICATION)
        with pytest.raises(HistoryError, match="another job has kept it locked"):
            other.add(audit(result("a")))
        one.connection.execute("ROLLBACK")
        other.add(audit(result("a")))


def test_a_server_that_goes_away_is_told(dsn):
    with Postgres(dsn) as kept, Postgres(dsn) as other:
        kept.add(audit(result("a")))
        other.connection.execute("SELECT pg_terminate_backend(%s)", (kept.connection.info.backend_pid,))
        with pytest.raises(HistoryError, match="the history in PostgreSQL .host 127.0.0.1"):
            kept.add(audit(result("a")))
        assert other.series() == {"a": [[NOW, "healthy", 0.0, 500.1, 61.5]]}
