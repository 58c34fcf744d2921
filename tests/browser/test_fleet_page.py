# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's part of the page, used as somebody would. No error, request or dialog is the fixture's to see."""

from __future__ import annotations

import math
from urllib.parse import unquote

import pytest

ORDER = ("blind", "dropping", "overloaded", "failed", "unreachable", "unmeasured", "acceptable", "healthy")


def state(host):
    return host["verdict"]["state"] if host["status"] == "ok" else host["status"]


def drops(host):
    value = (host["verdict"] or {}).get("drops_percent")
    return -math.inf if value is None else value


def listed(page):
    """Names in the table, from top to bottom."""
    return page.texts("#rows .c-name")


def head(page, key):
    return page.js(f"document.querySelector('#head .c-{key}').getAttribute('aria-sort')")


def test_it_opens_from_a_file_and_asks_for_nothing_else(page, fleet):
    page.open(fleet.url)
    assert page.requests == [fleet.url, "about:blank"] or page.requests == [fleet.url]
    assert page.text("#headline") == fleet.model["fleet"]["headline"]
    assert page.js("document.title") == "Falco fleet audit, 2026-11-24T13:00:00Z"
    assert page.text("#count") == "300 hosts"
    assert page.text("#made") == "2026-11-24 13:00 UTC"


def test_states_breaches_and_percentiles_are_those_of_the_model(page, fleet):
    page.open(fleet.url)
    counts = page.js("Object.fromEntries([...document.querySelectorAll('.chip')].map((chip) =>"
                     " [chip.dataset.state, Number(chip.querySelector('b').innerText)]))")
    found = {}
    for host in fleet.model["hosts"]:
        found[state(host)] = found.get(state(host), 0) + 1
    assert counts == found and list(counts) == sorted(found, key=ORDER.index)
    breaches = page.text("#breaches")
    assert [breach["text"] in breaches for breach in fleet.model["fleet"]["breaches"]] == [True]
    cells = page.texts("#percentiles tbody td:nth-child(2)")
    percentiles = fleet.model["fleet"]["percentiles"]["drops_percent"]
    assert [float(cell) for cell in cells] == pytest.approx(list(percentiles.values()), abs=0.05)
    for list_of, title in (("unreachable", "Unreachable"), ("failed", "Failed"), ("drifting", "Drifting")):
        assert f"{title} {len(fleet.model['fleet'][list_of])}" in page.text("#since")


def test_worst_first_and_then_by_what_a_head_says(page, fleet):
    page.open(fleet.url)
    hosts = {host["name"]: host for host in fleet.model["hosts"]}
    assert head(page, "state") == "ascending"
    ranks = [ORDER.index(state(hosts[name])) for name in listed(page)]
    assert ranks == sorted(ranks) and len(ranks) == 50
    page.click("#head .c-drops button")
    assert (head(page, "drops"), head(page, "state")) == ("descending", None)
    assert [drops(hosts[name]) for name in listed(page)] == sorted(map(drops, hosts.values()), reverse=True)[:50]
    page.click("#head .c-drops button")
    assert head(page, "drops") == "ascending"
    assert all(drops(hosts[name]) == 0 for name in listed(page))
    page.click("#last")
    assert all(drops(hosts[name]) == -math.inf for name in listed(page)[-10:]), "unknown is last, whichever way"


@pytest.mark.parametrize("key", ["name", "rate", "bottleneck", "step", "driver", "release", "cpus", "cpu", "notes"])
def test_every_column_sorts_by_keyboard(page, fleet, key):
    page.open(fleet.url + "#size=250")
    page.js(f"document.querySelector('#head .c-{key} button').focus()")
    seen = set()
    for _turn in range(2):
        page.key("Enter")
        way = head(page, key)
        seen.add(way)
        texts = [text for text in page.texts(f"#rows .c-{key}") if text and text != "\u2013"]
        if key in ("rate", "cpus", "cpu"):
            values = [0.0 if "<" in text else float(text.replace("\u202f", "").rstrip("%")) for text in texts]
            assert values == sorted(values, reverse=way == "descending") and len(set(values)) > 5
        elif key == "notes":
            values = [len(text.split()) for text in texts]
            assert values == sorted(values, reverse=way == "descending")
        elif key != "release":
            assert texts == sorted(texts, key=order_of(page, key), reverse=way == "descending") and len(set(texts)) > 1
        else:
            values = [tuple(map(int, text.split("."))) for text in texts]
            assert values == sorted(values, reverse=way == "descending") and len(set(values)) > 3
    assert seen == {"ascending", "descending"}


def order_of(page, key):
    """Bottlenecks and steps sort by the word in the model, which the select of the filter knows."""
    if key not in ("bottleneck", "step"):
        return str
    words = page.js(f"Object.fromEntries([...document.getElementById('{key}').options].map((option) => [option.innerText, option.value]))")
    return words.get


def test_a_search_goes_through_names_kernels_units_and_reasons(page, fleet):
    page.open(fleet.url)
    page.click("#q")
    page.type("QUEUE el8_10")
    expected = {host["name"] for host in fleet.model["hosts"] if "queue" in host["name"] and "el8_10" in (host["kernel"] or "")}
    assert set(listed(page)) == expected and 0 < len(expected) < 50
    assert page.text("#count") == f"{len(expected)} of 300 hosts match"


def test_filters_work_together_and_can_be_cleared(page, fleet):
    page.open(fleet.url)
    page.choose("#state", "dropping")
    page.choose("#driver", "modern_ebpf")
    expected = {host["name"] for host in fleet.model["hosts"] if state(host) == "dropping" and host["driver"] == "modern_ebpf"}
    assert set(listed(page)) == expected and expected
    page.choose("#note", "worse")
    assert set(listed(page)) == expected & set(fleet.model["fleet"]["since_last"]["worse"])
    page.click("#clear")
    assert page.text("#count") == "300 hosts" and page.js("document.getElementById('clear').disabled")


@pytest.mark.parametrize("key, of", [
    ("bottleneck", lambda host: (host["verdict"] or {}).get("bottleneck")), ("step", lambda host: (host["verdict"] or {}).get("next_step")),
    ("release", lambda host: host["release"]), ("state", state)])
def test_every_filter_offers_what_there_is(page, fleet, key, of):
    page.open(fleet.url + "#size=250")
    offered = page.js(f"[...document.getElementById('{key}').options].map((option) => option.value)")
    assert set(offered) == {"", *filter(None, map(of, fleet.model["hosts"]))}
    page.choose(f"#{key}", offered[1])
    assert set(listed(page)) == {host["name"] for host in fleet.model["hosts"] if of(host) == offered[1]}


def test_where_nothing_matches_it_is_said(page, fleet):
    page.open(fleet.url)
    page.click("#q")
    page.type("no such host")
    assert page.text("#empty").startswith("No host matches these filters.") and listed(page) == []
    assert page.js("document.getElementById('table').hidden && document.getElementById('pages').hidden")
    page.click("#empty button")
    assert len(listed(page)) == 50


def test_a_legend_entry_is_a_switch(page, fleet):
    page.open(fleet.url)
    page.click(".chip[data-state=acceptable]")
    assert page.js("document.querySelector('.chip[data-state=acceptable]').getAttribute('aria-pressed')") == "true"
    assert page.js("document.getElementById('state').value") == "acceptable" and "state=acceptable" in page.js("location.hash")
    page.click(".chip[data-state=acceptable]")
    assert page.text("#count") == "300 hosts"


def test_pages_of_the_table(page, fleet):
    page.open(fleet.url)
    assert page.text("#where") == "1 to 50 of 300" and page.js("document.getElementById('back').disabled")
    first = listed(page)
    page.click("#next")
    assert page.text("#where") == "51 to 100 of 300" and not set(first) & set(listed(page))
    page.click("#last")
    assert page.text("#where") == "251 to 300 of 300" and page.js("document.getElementById('next').disabled")
    page.choose("#size", "250")
    assert page.text("#where") == "1 to 250 of 300" and len(listed(page)) == 250


def test_arrows_go_from_host_to_host(page, fleet):
    page.open(fleet.url)
    page.js("document.querySelector('#rows a').focus()")
    names = listed(page)
    page.key("ArrowDown")
    page.key("ArrowDown")
    page.key("ArrowUp")
    assert page.js("document.activeElement.innerText") == names[1]
    page.key("Enter")
    assert page.wait("document.querySelector('#host h1')?.innerText") == names[1]


def test_the_address_holds_the_view(page, fleet):
    page.open(fleet.url)
    page.choose("#state", "healthy")
    page.click("#head .c-cpus button")
    page.click("#next")
    shown, address = listed(page), page.js("location.href")
    assert unquote(address).endswith("#state=healthy&sort=-cpus&page=2")
    page.open(address)
    assert listed(page) == shown and page.js("document.getElementById('state').value") == "healthy"


@pytest.mark.parametrize("address", ["#", "#sort=nothing&size=7&page=-3&state=none%20such&x=y", "#page=1e9", "#%E0%A4%A", "#q=%"])
def test_addresses_that_say_nothing_sensible(page, fleet, address):
    page.open(fleet.url + address)
    assert page.text("#headline") and (listed(page) or page.text("#empty"))


def ink(page):
    """How many pixels of the chart have any of the colours that states have."""
    return page.pixels("#chart", """
        let found = 0;
        for (let at = 0; at < data.length; at += 4) {
            const [red, green, blue, seen] = [data[at], data[at + 1], data[at + 2], data[at + 3]];
            if (seen > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60) found++;
        }
        return found;""")


def test_the_chart_draws_what_the_filters_leave(page, fleet):
    page.open(fleet.url)
    everything = ink(page)
    page.choose("#state", "dropping")
    some = ink(page)
    assert everything > 5000 and 100 < some < everything / 5
    page.choose("#state", "unreachable")
    assert ink(page) == 0


def test_the_chart_has_words_and_a_table(page, fleet):
    page.open(fleet.url)
    measured = [host for host in fleet.model["hosts"] if drops(host) >= 0]
    assert page.text("#chart-words").startswith(f"{len(measured)} hosts are drawn; {300 - len(measured)} were not measured")
    page.click("main details summary")
    cells = page.texts("#chart-table tbody td")
    assert sum(map(int, cells)) == len(measured)
    above = [host for host in measured if host["verdict"]["rate_per_cpu_guide"] >= 3000]
    assert sum(map(int, page.texts("#chart-table tbody tr:last-child td"))) == len(above) > 0


def test_a_point_tells_its_host_and_opens_it(page, fleet):
    page.open(fleet.url)
    worst = max(fleet.model["hosts"], key=drops)
    page.js("document.getElementById('chart').scrollIntoView({block: 'center'})")
    # Where it is drawn: the highest of all.
    x, y = page.pixels("#chart", """
        for (let row = 45; row < canvas.height; row++) for (let column = 60; column < canvas.width; column++) {
            const at = (row * canvas.width + column) * 4;
            if (data[at + 3] > 150 && data[at] - data[at + 2] > 100) return [box.x + column, box.y + row + 4];
        }""")
    page.mouse(x, y, press=False)
    assert worst["name"] in page.wait("document.getElementById('tip').innerText")
    page.mouse(x, y)
    assert page.wait("document.querySelector('#host h1')?.innerText") == worst["name"]


def test_no_hosts_at_all(page, made):
    empty = made("empty", lambda: {"schema_version": 1, "made_at": "2026-11-24T13:00:00Z", "fleet": {"headline": "No hosts."}, "hosts": []})
    page.open(empty.url)
    assert page.text("#headline") == "No hosts." and "covered no hosts" in page.text("#empty")
    assert "No host was measured" in page.text("#percentiles")


def test_five_hosts_and_no_breach(page, made):
    from conftest import audits
    small = made("small", lambda: audits.audit_model(5, policy={"fail_on": ["blind"]}))
    page.open(small.url)
    assert page.text("#breaches") == "Passed: no host breaks blind." and len(listed(page)) == 5
    assert page.js("document.getElementById('pages').hidden")


@pytest.mark.slow
def test_ten_thousand_hosts(page, made):
    from conftest import audits
    large = made("large", lambda: audits.audit_model(10000, history=60))
    page.open(large.url)
    assert page.text("#count") == "10\u202f000 hosts" and len(listed(page)) == 50
    page.click("#q")
    page.type("web-00")
    expected = [host["name"] for host in large.model["hosts"] if "web-00" in host["name"]]
    assert page.text("#count") == f"{len(expected)} of 10\u202f000 hosts match"
    page.click("#head .c-name button")
    assert listed(page) == expected[:50]
    page.click("#rows a")
    assert page.wait("document.querySelector('#host h1')?.innerText") == expected[0]
    assert large.path.stat().st_size < 15e6


def test_the_way_of_the_fleet_is_a_picture_a_sentence_and_a_table(page, made, fleet):
    page.open(fleet.url)
    assert page.js("document.getElementById('way').hidden"), "there is one audit only"
    from conftest import audits
    way = [[1795000000 + 86400 * number, 300, 290, 290 - 29 * number, 40.0 / (number + 1)] for number in range(9)]
    way.append([1795900000, 300, 0, 0, None])

    def model():
        found = audits.audit_model(30)
        found["fleet"]["way"] = way
        return found

    page.open(made("way", model).url)
    assert page.js("document.querySelectorAll('#way .history path[fill-rule]').length") == len(way)
    assert page.js("document.querySelectorAll('#way .history circle').length") == len(way)
    words = page.text("#way-words")
    assert words.startswith("10 audits since ") and "Then 290 of 290 measured hosts lost 40" in words
    assert words.endswith("now 0 of 0 measured hosts lost events.")
    assert page.js("document.querySelectorAll('#way-table tbody tr').length") == len(way)
    # It comes back after a visit to a host, and keeps to the width of the page.
    page.click("#rows tr:nth-child(1) a")
    page.js("history.back()")
    page.wait("!document.getElementById('fleet').hidden")
    assert page.js("document.querySelector('#way svg').getBoundingClientRect().width <= document.documentElement.clientWidth")
