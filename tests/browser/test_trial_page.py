# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of sets of system calls, and the choice that a plan makes of them."""

from __future__ import annotations

from conftest import named

ORDER = ("failed", "aborted", "too_busy", "none", "largest")


def cards(page, place):
    return page.js("Object.fromEntries([...document.querySelectorAll('%s .card')].map((card) =>"
                   " [card.querySelector('h2')?.innerText ?? 'raw', card.innerText]))" % place)


def rows_of(page, table):
    """The texts of a table's cells."""
    return page.js(f"[...document.querySelectorAll('{table} tbody tr')].map((row) =>"
                   " [...row.children].map((cell) => cell.innerText.trim()))")


def percent_text(value):
    return float(value.split("\n")[0].rstrip("%").strip("\u202f <"))


def test_hosts_against_sets(page, trials):
    page.open(trials.url)
    tried = {host["name"]: host["trial"] for host in trials.model["hosts"] if host["trial"]}
    assert page.text("#headline") == trials.model["fleet"]["headline"] and page.text(".brand") == "Falco trials"
    heads = page.texts("#trials .matrix thead th")
    assert heads == ["Host", "Verdict", "T1", "T2", "T3", "T4", "T5", "no files"]
    rows = rows_of(page, "#trials .matrix")
    assert {row[0] for row in rows} == set(tried)
    ranks = [ORDER.index(tried[row[0]]["verdict"]) for row in rows]
    assert ranks == sorted(ranks) and len(set(ranks)) > 2, "worst first"
    for name, verdict, *cells in rows:
        tests = {test["name"]: test for test in tried[name]["tests"]}
        trial = tried[name]
        assert verdict == (f"largest {trial['largest']}" if trial["largest"] else trial["verdict"].replace("_", " "))
        for head, cell in zip(heads[2:], cells, strict=True):
            test = tests.get(head)
            if test and test["state"] in ("clean", "accepted", "dropping"):
                assert abs(percent_text(cell) - test["drops_percent"]) < 0.06 and cell.endswith("/s")
            else:
                assert cell.strip() == (test["state"] if test else "\u2013")
    shapes = page.js("[...document.querySelectorAll('#trials .legend path')].map((path) => path.getAttribute('d'))")
    assert len(set(shapes)) == len(shapes) > 3, "not by colour alone"


def test_what_each_set_costs(page, trials):
    page.open(trials.url)
    for name, how, kept, *costs in rows_of(page, "#trials .sets"):
        tests = [test for host in trials.model["hosts"] if host["trial"] for test in host["trial"]["tests"] if test["name"] == name]
        ran = [test for test in tests if test["state"] in ("clean", "accepted", "dropping")]
        assert kept == f"{sum(test['state'] != 'dropping' for test in ran)} of {len(ran)}"
        assert costs[3:] == [str(max(len(test[key]) for test in ran)) for key in ("selected", "rules_blind", "rules_half_blind")]
        assert how == {"T1": "repair", "T5": "every system call (-A)"}.get(name, how) and how


def test_a_host_s_tests(page, trials):
    host = next(host for host in trials.model["hosts"] if host["trial"] and host["trial"]["verdict"] == "largest")
    page.open(f"{trials.url}#host={host['name']}")
    page.wait("!document.getElementById('host').hidden")
    card = cards(page, "#host")["Trial"]
    assert host["trial"]["largest"] in card and "beside the production Falco" in card
    rows = rows_of(page, "#host .sets")
    assert [(row[0], row[1]) for row in rows] == [(test["name"], test["state"]) for test in host["trial"]["tests"]]
    page.js("document.querySelectorAll('#host .card details').forEach((part) => { part.open = true; })")
    test = next(test for test in host["trial"]["tests"] if test["rules_blind"])
    details = cards(page, "#host")["Trial"]
    assert test["rules_blind"][0] in details and test["selected"][0] in details
    half = next(test for test in host["trial"]["tests"] if test["unseen"])
    assert half["unseen"][0]["way"] in details and half["rules_wrong_output"][0] in details and "false alarms possible" in details


def test_the_choice_of_system_calls(page, fleet):
    host = next(host for host in fleet.model["hosts"] if host["syscalls"] and host["syscalls"]["coverage"]["half_blind"]
                and host["syscalls"]["coverage"]["blind"])
    chosen = host["syscalls"]
    page.open(f"{fleet.url}#host={host['name']}")
    page.wait("!document.getElementById('host').hidden")
    card = cards(page, "#host")["System calls"]
    for item in chosen["coverage"]["blind"] + chosen["coverage"]["half_blind"] + chosen["coverage"]["wrong_output"]:
        assert item["rule"] in card
    seen = cards(page, "#host")["What rules see now"]
    for way in chosen["coverage"]["unseen"]:
        assert way["way"] in card and way["way"] in seen
    assert "false alarms possible" in card and "false alarms possible" in seen
    assert "calls that were counted on the host" in card and " ".join(chosen["custom_set"]) in card
    rows = rows_of(page, "#host .frontier")
    assert len(rows) == len(chosen["frontier"])
    for row, step in zip(rows, chosen["frontier"], strict=True):
        assert row[0].split()[0] == step["exclude"][-1] and row[3:5] == [str(step["rules_blind"]), str(step["rules_half_blind"])]
        assert ("chosen" in row[0]) == (step["exclude"] == chosen["removed"])
    assert page.js("document.querySelectorAll('#host .history circle').length") >= len(rows)
    assert "save up to" in page.js("document.querySelector('#host .history desc').textContent")
    assert named(fleet.model, host["name"])["syscalls"] is chosen


def test_the_fleet_s_blind_rules(page, fleet):
    page.open(fleet.url)
    found = {}
    for host in fleet.model["hosts"]:
        for item in host["syscalls"]["coverage"]["blind"] if host["syscalls"] else ():
            found[item["rule"]] = found.get(item["rule"], 0) + 1
    rows = page.js("[...document.querySelectorAll('#rules .row')].map((row) =>"
                   " [row.querySelector('bdi').innerText, Number(row.querySelector('.number').innerText)])")
    assert dict(rows) == found and [number for _rule, number in rows] == sorted(found.values(), reverse=True)
