# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's half of a trial: limits, what is taken away afterwards, who notices that somebody is gone."""

import os
import subprocess
import sys
import threading

import pytest
from ansible_collections.falcotune.fleet.plugins.module_utils._change import records
from ansible_collections.falcotune.fleet.plugins.module_utils._host import processes
from ansible_collections.falcotune.fleet.plugins.module_utils._measure import trial

WANTED = {"max_load_per_cpu": 2.0, "min_available_percent": 5.0, "max_more_drops_percent": 5.0}
START = 1795000000 * 10 ** 9


def snapshot(second, events, drops):
    return {"evt.time": START + second * 10 ** 9, "falco.start_ts": START, "falco.reload_ts": START, "falco.version": "0.44.1",
            "sample": second, "scap.n_evts": events, "scap.n_drops": drops}


@pytest.fixture
def root(tmp_path):
    for name, text in (("sys/devices/system/cpu/online", "0-3\n"), ("proc/loadavg", "1.00 1.00 1.00 1/100 1\n"),
                       ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 500 kB\n")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


class Alive:
    pid, there = 812, True

    def alive(self, start):
        return self.there


def limits(root, monkeypatch, *found):
    """Limits beside a Falco whose metrics answer these in turn."""
    answers = list(found)
    monkeypatch.setattr(trial.Limits, "_snapshot", lambda self, seconds: answers.pop(0))
    made = trial.Limits(WANTED, str(root), {"Id": "falco.service"}, Alive(), 4711)
    made.process = Alive()
    return made


def look(made):
    made.next = 0
    made.check()


NONE = {"reason": "no source of metrics"}


@pytest.mark.parametrize("name,text,said", [
    ("proc/loadavg", "8.01 1 1 1/1 1", "the load is 8.01 on 4 CPUs, 2.00 each: the limit is max_load_per_cpu 2 ({root}/proc/loadavg)"),
    ("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 49 kB\n", "4.9 % of the memory is available: the limit is min_available_percent 5"),
])
def test_load_and_memory(root, monkeypatch, name, text, said):
    made = limits(root, monkeypatch, NONE)
    look(made)
    (root / name).write_text(text)
    with pytest.raises(trial.Aborted) as error:
        look(made)
    assert said.replace("{root}", str(root)) in str(error.value)


def test_losses_of_the_hosts_own_falco_count_beyond_those_before(root, monkeypatch):
    before = {"first": snapshot(0, 0, 0), "last": snapshot(60, 1000, 500)}
    made = limits(root, monkeypatch, before, {"last": snapshot(60, 1000, 500)}, {"last": snapshot(69, 1900, 1400)},
                  {"last": snapshot(70, 2000, 1049)}, {"last": snapshot(80, 3000, 1620)})
    look(made)
    look(made)  # too soon: a burst
    assert made.told == {"watched": True, "reason": None, "more_drops_percent": None}
    look(made)
    assert made.told["more_drops_percent"] == 4.9
    with pytest.raises(trial.Aborted, match="lost 56 % of its events since the trial began, 50 % before: the limit is max_more"):
        look(made)


def test_a_hot_reload_of_the_hosts_own_falco_begins_the_count_anew(root, monkeypatch):
    again = dict(snapshot(71, 100, 90), **{"falco.reload_ts": START + 70 * 10 ** 9})
    later = dict(snapshot(81, 1100, 90), **{"falco.reload_ts": START + 70 * 10 ** 9})
    made = limits(root, monkeypatch, {"last": snapshot(60, 1000, 0)}, {"last": again}, {"last": later})
    look(made)
    look(made)
    assert made.told["more_drops_percent"] == 0.0


def test_without_metrics_it_is_said_and_an_end_of_the_process_is_seen(root, monkeypatch):
    made = limits(root, monkeypatch, NONE)
    look(made)
    assert made.told["watched"] is False and "no source of metrics" in made.told["reason"]
    made.process.there = False
    with pytest.raises(trial.Aborted, match="process 812. has ended"):
        look(made)
    made.expected_gone = True
    look(made)


def test_what_is_taken_away_and_what_is_not(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        start = processes.Process("", child.pid).stat()[0]
        for name in ("trial-0123456789abcdef", "trial-fedcba9876543210", ".falcotune-token", "history"):
            (tmp_path / name).mkdir()
        for name in ("trial-0123456789abcdef/falco.yaml", ".falcotune-abc", "record.json", "lock"):
            (tmp_path / name).write_text("{}")
        records.write_trial(str(tmp_path), {"pid": child.pid, "start": start + 1, "folder": "trial-0123456789abcdef", "stopped": False})
        trial.clean(str(tmp_path))
        assert child.poll() is None  # another process of the same number
        assert sorted(os.listdir(tmp_path)) == ["history", "lock", "record.json"]
        records.write_trial(str(tmp_path), {"pid": child.pid, "start": start, "folder": "trial-0123456789abcdef", "stopped": False})
        assert "what it left was removed" in trial.recover(str(tmp_path))
        assert child.wait(5) == -9
        assert trial.recover(str(tmp_path)) is None and trial.clean(str(tmp_path / "nothing")) is None
    finally:
        child.kill()
        child.wait()


def test_a_journal_stays_where_the_hosts_own_falco_does_not_start(tmp_path, monkeypatch):
    def refuse(left):
        raise trial.Failed("it does not start")

    monkeypatch.setattr(trial, "bring_back", refuse)
    records.write_trial(str(tmp_path), {"pid": None, "start": None, "stopped": True, "unit": "falco.service"})
    with pytest.raises(trial.Failed):
        trial.recover(str(tmp_path))
    assert os.listdir(tmp_path) == ["trial.json"]
    monkeypatch.setattr(trial, "bring_back", lambda left: None)
    assert "(unit falco.service) was started again" in trial.recover(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_pipe_whose_reader_is_gone(tmp_path):
    reader, writer = os.pipe()
    assert not trial.broken_pipe(writer)
    os.close(reader)
    assert trial.broken_pipe(writer)
    os.close(writer)
    with open(tmp_path / "file", "w") as stream:
        assert not trial.broken_pipe(stream.fileno())
    with open(os.devnull, "w") as stream:
        assert not trial.broken_pipe(stream.fileno())


def watchdog():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


@pytest.mark.parametrize("sent,answer", [(b'{"state": "ran"}', {"state": "ran"}), (b'{"state": ', None), (b"", None), (b"[1]", None)])
def test_the_answer(sent, answer):
    reader, writer = os.pipe()
    os.write(writer, sent)
    os.close(writer)
    assert trial.answer_of(watchdog(), reader, None) == answer


def test_a_large_answer_does_not_wait_for_its_end():
    reader, writer = os.pipe()
    value = {"rules": "x" * (1 << 20)}
    thread = threading.Thread(target=lambda: (trial.send(writer, value), os.close(writer)))
    thread.start()
    assert trial.answer_of(watchdog(), reader, None) == value
    thread.join()


def test_a_broken_connection_is_noticed(monkeypatch):
    reader, writer = os.pipe()
    there, connection = os.pipe()
    os.close(there)
    with pytest.raises(trial.Gone):
        trial.answer_of(0, reader, connection)
    for handle in (reader, writer, connection):
        os.close(handle)


def test_signs_of_life_are_empty_lines(monkeypatch):
    monkeypatch.setattr(trial, "BEAT", 0)
    reader, writer = os.pipe()
    there, connection = os.pipe()
    threading.Timer(0.6, lambda: (os.write(writer, b"{}"), os.close(writer))).start()
    assert trial.answer_of(watchdog(), reader, connection) == {}
    os.close(connection)
    with os.fdopen(there, "rb") as stream:
        assert set(stream.read()) == {10}
