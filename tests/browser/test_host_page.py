# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's part of the page: how to get there and back, and what it says."""

from __future__ import annotations

import json

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import shape
from conftest import named


def host_shown(page):
    return page.wait("!document.getElementById('host').hidden && document.querySelector('#host h1').innerText")


def cards(page):
    return page.js("Object.fromEntries([...document.querySelectorAll('#host .card')].map((card) =>"
                   " [card.querySelector('h2')?.innerText ?? 'raw', card.innerText]))")


def test_there_and_back(page, fleet):
    page.open(fleet.url)
    page.choose("#state", "acceptable")
    page.js("window.scrollTo(0, 400)")
    names = page.texts("#rows .c-name")
    page.click("#rows tr:nth-child(3) a")
    assert host_shown(page) == names[2]
    assert page.js("document.title").startswith(names[2]) and page.js("document.activeElement.tagName") == "H1"
    assert page.js("document.getElementById('fleet').hidden")
    page.back()
    assert page.wait("!document.getElementById('fleet').hidden")
    assert page.texts("#rows .c-name") == names and page.js("document.getElementById('state').value") == "acceptable"
    assert page.js("document.activeElement.innerText") == names[2] and page.js("document.title").startswith("Falco fleet audit")
    assert page.js("window.scrollY") > 0


def test_a_row_opens_its_host_too(page, fleet):
    page.open(fleet.url)
    names = page.texts("#rows .c-name")
    page.click("#rows tr:nth-child(2) .c-drops")
    assert host_shown(page) == names[1]


def test_a_link_to_a_host(page, fleet):
    name = fleet.model["hosts"][17]["name"]
    page.open(f"{fleet.url}#host={name}")
    assert host_shown(page) == name
    page.click("#host .back")
    assert page.wait("!document.getElementById('fleet').hidden") and page.text("#count") == "300 hosts"


def test_neighbours_are_those_of_the_filtered_table(page, fleet):
    page.open(fleet.url + "#state=acceptable&sort=name")
    names = page.texts("#rows .c-name")
    page.click("#rows a")
    assert host_shown(page) == names[0] and page.text("#host .turn").replace("\n", " ").startswith("Previous 1 of")
    page.click("#host .turn [rel=next]")
    assert page.wait(f"document.querySelector('#host h1').innerText === {json.dumps(names[1])}")
    page.click("#host .back")
    assert page.wait("!document.getElementById('fleet').hidden") and page.texts("#rows .c-name") == names


@pytest.mark.parametrize("address", ["#host=nobody", "#number=300", "#number=-1", "#number=x", "#host=%E0%A4%A"])
def test_a_host_that_is_not_there(page, fleet, address):
    page.open(fleet.url + address)
    assert "This report has no host" in page.text("#problem") and len(page.texts("#rows tr")) == 50


def test_a_host_tells_everything(page, fleet):
    host = named(fleet.model, fleet.model["full"])
    page.open(f"{fleet.url}#host={host['name']}")
    host_shown(page)
    verdict = page.text("#host .verdict")
    assert host["verdict"]["advice"] in verdict
    assert page.texts("#host .verdict li") == host["verdict"]["reasons"]
    found = cards(page)
    assert list(found) == ["Measurement", "Drops by category", "Cost of Falco", "Ring buffers", "Plan",
                           *(["System calls"] if host["syscalls"] else []), "Drift", "Last proven change",
                           "Since the last audit", "History", "raw"]
    lost = {row.split("\n")[0]: int(row.split("\n")[1].replace("\u202f", "")) for row in page.texts("#host .counts .row")}
    assert lost == host["window"]["drops_by_category"]
    change = host["plan"]["changes"][0]
    row = page.texts("#host .plan tbody tr > *")
    assert row[:4] == [change["key"], str(change["from"]), str(change["to"]), change["why"]]
    assert host["plan"]["warnings"][0] in found["Plan"] and "The change restarts Falco." in found["Plan"]
    assert host["drift"][0]["what"] in found["Drift"] and host["drift"][0]["advice"] in found["Drift"]
    assert "41.5" in found["Last proven change"] and "32\u202fMiB" in found["Last proven change"]
    # The earlier audits and this one.
    assert page.js("document.querySelectorAll('.history path[fill-rule]').length") == len(host["history"]) + 1
    assert "Drops between" in page.js("document.querySelector('.history desc').textContent")


def test_the_json_of_a_host_is_the_model_s(page, fleet):
    host = named(fleet.model, fleet.model["full"])
    page.open(f"{fleet.url}#host={host['name']}")
    host_shown(page)
    assert page.js("document.querySelector('#host pre').textContent") == "", "on demand only"
    page.click("#host .raw summary")
    found = json.loads(page.wait("document.querySelector('#host pre').textContent"))
    history = found.pop("history")
    assert found == {key: value for key, value in host.items() if key not in ("history", *shape.OF_HISTORY)}
    for row, given in zip(history, host["history"], strict=True):
        assert row[:2] == given[:2] and row[2:] == [value if value is None else pytest.approx(value, rel=1e-3) for value in given[2:]]


@pytest.mark.parametrize("status", ["unreachable", "failed"])
def test_a_host_without_a_verdict_says_why(page, fleet, status):
    host = next(item for item in fleet.model["hosts"] if item["status"] == status)
    page.open(f"{fleet.url}#host={host['name']}")
    host_shown(page)
    assert host["reason"] in page.text("#host .verdict")


def test_an_unmeasured_host_and_its_history(page, fleet):
    host = next(item for item in fleet.model["hosts"] if item["window"] and item["window"]["voided"])
    page.open(f"{fleet.url}#host={host['name']}")
    host_shown(page)
    assert host["window"]["voided"] in cards(page)["Measurement"]
    assert "None of these audits has a measurement." in cards(page)["History"]


def test_the_history_as_a_table(page, fleet):
    host = named(fleet.model, fleet.model["full"])
    page.open(f"{fleet.url}#host={host['name']}")
    host_shown(page)
    page.js("document.querySelector('#host .card details').open = true")
    states = page.texts("#host .card details tbody tr td:nth-child(2)")
    assert states == [host["verdict"]["state"], *[row[1] for row in host["history"]][::-1]]
