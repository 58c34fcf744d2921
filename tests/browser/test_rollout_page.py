# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A rollout on the page: where it stands, its timeline by mouse and keyboard, and what a host did in it."""

from __future__ import annotations

import pytest

WRONG = ("lost", "failed", "reverted")


def work(record):
    return [host for batch in record["batches"] for host in batch["hosts"]]


def tiles(page):
    return page.js("Object.fromEntries([...document.querySelectorAll('.tiles > div')].map((tile) =>"
                   " [tile.querySelector('dt').innerText, tile.querySelector('dd').innerText.trim()]))")


def bars(page):
    return page.js("[...document.querySelectorAll('.timeline .host')].map((bar) => ({words: bar.getAttribute('aria-label'),"
                   " kind: bar.getAttribute('class'), box: (({x, y, width, height}) => [x, y, width, height])"
                   "(bar.querySelector('.whole').getBoundingClientRect()), sign: Boolean(bar.querySelector('.sign')),"
                   " dark: bar.querySelector('.dark')?.getBoundingClientRect().width ?? 0}))")


def test_it_says_where_the_rollout_stands(page, rollout):
    page.open(rollout.url)
    record = rollout.model["rollout"]
    hosts = work(record)
    assert page.text("#headline") == rollout.model["fleet"]["headline"] and "The rollout stopped" in page.text("#headline")
    assert page.js("document.title") == "Falco rollout, 2026-11-24T13:00:00Z" and page.text(".brand") == "Falco rollout"
    found = tiles(page)
    done = sum(host["outcome"] == "done" for host in hosts)
    assert found["Rollout"] == "stopped" and found["Changed"] == f"{done} of 300" and found["Left"] == str(len(record["left"]))
    assert found["Failures"] == f"{record['budget']['used']} of {record['budget']['allowed']} allowed"
    assert found["Failed hosts"] == ", ".join(f"{number} {name}" for name in WRONG
                                                if (number := sum(host["outcome"] == name for host in hosts)))
    assert found["Most blind at once"] == "3 of 3 allowed in rack-c"
    assert record["reason"] in page.text(".standing")
    assert record["down"][0]["reason"] in page.text("#rollout") and record["left"][0] in page.text("#rollout")


def test_a_bar_a_host_with_its_blind_part_and_a_sign_where_it_went_wrong(page, rollout):
    page.open(rollout.url)
    hosts = {host["name"]: host for host in work(rollout.model["rollout"])}
    found = bars(page)
    assert len(found) == len(hosts), "each host of this one is drawn"
    rows = {}
    for bar in found:
        name = bar["words"].split(", ")[0]
        host = hosts[name]
        assert bar["sign"] == (host["outcome"] != "done"), "not by colour alone"
        assert 2 <= bar["dark"] <= bar["box"][2] and bar["box"][2] >= 4
        assert (host["reason"] or "blind for") in bar["words"]
        rows.setdefault(round(bar["box"][1]), []).append(bar["box"])
    for boxes in rows.values():
        boxes.sort()
        assert all(one[0] + one[2] <= other[0] for one, other in zip(boxes, boxes[1:])), "no bar covers another"


def test_bars_can_be_walked_by_keyboard_and_tell_what_they_are(page, rollout):
    page.open(rollout.url)
    assert page.js("document.querySelectorAll('.timeline .host[tabindex=\"0\"]').length") == 1, "one stop for Tab"
    page.js("document.querySelector('.timeline .host').focus()")
    words = [bar["words"] for bar in bars(page)]
    assert page.text("#rollout .tip").split("\n")[0] == words[0].split(", ")[0]
    page.key("ArrowDown")
    assert page.js("document.activeElement.getAttribute('aria-label')") == words[1]
    assert page.text("#rollout .tip").split("\n")[0] == words[1].split(", ")[0]
    page.key("ArrowUp")
    assert page.js("document.activeElement.getAttribute('aria-label')") == words[0]
    page.js("document.activeElement.blur()")
    assert page.js("document.querySelector('#rollout .tip').hidden")
    page.click(".timeline .host.s-healthy")
    assert page.wait("document.querySelector('#host h1')?.innerText")


def test_the_mouse_gets_the_same_words(page, rollout):
    page.open(rollout.url)
    page.js("document.querySelector('.timeline .host').scrollIntoView({block: 'center'})")
    x, y, width, height = bars(page)[0]["box"]
    page.mouse(x + width / 2, y + height / 2, press=False)
    assert page.wait("!document.querySelector('#rollout .tip').hidden && document.querySelector('#rollout .tip').innerText").startswith(
        bars(page)[0]["words"].split(", ")[0])


def test_a_host_s_page_tells_what_it_did(page, rollout):
    host = next(host for host in work(rollout.model["rollout"]) if host["outcome"] == "reverted")
    page.open(f"{rollout.url}#host={host['name']}")
    card = page.wait("document.querySelector('#host .card')?.innerText")
    assert "In this rollout" in card and host["reason"] in card and host["domain"] in card and host["class"] in card
    page.click("#host .back")
    assert page.wait("!document.getElementById('fleet').hidden") and len(bars(page)) == len(work(rollout.model["rollout"]))


def test_tables_say_what_the_timeline_shows(page, rollout):
    page.open(rollout.url)
    record = rollout.model["rollout"]
    rows = page.texts("#rollout [aria-label=Batches] tbody tr")
    assert len(rows) == len(record["batches"]) and rows[0].startswith("canary 1")
    for row, batch in zip(rows, record["batches"], strict=True):
        assert row.split("\t")[3] == str(len(batch["hosts"]))
    assert [row.split("\t")[0] for row in page.texts("#rollout [aria-label='Failure domains'] tbody tr")] == [
        item["name"] for item in sorted(record["domains"], key=lambda item: (-item["most_blind"], item["name"]))]
    assert page.js("document.querySelectorAll('#rollout .raw tbody tr').length") == 0
    page.click("#rollout .raw summary")
    assert page.wait("document.querySelectorAll('#rollout .raw tbody tr').length") == len(work(record))


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_of_five_thousand_hosts_it_draws_what_matters(page, large_rollout, width):
    page.size(width, 844, mobile=width < 500)
    page.open(large_rollout.url)
    hosts = work(large_rollout.model["rollout"])
    found = bars(page)
    assert len(hosts) == 5000 and 150 < len(found) <= 400
    named = {bar["words"].split(", ")[0] for bar in found}
    wrong = [host["name"] for host in hosts if host["outcome"] in WRONG]
    assert len(set(wrong) & named) > 0.9 * len(wrong)
    told = page.text("#rollout .plot .hint")
    assert f"{len(found)} of 5\u202f000 hosts are drawn" in told and "CSV" in told
    assert page.js("document.querySelectorAll('#rollout *').length") < 12000
    assert page.js("document.documentElement.scrollWidth") <= width


def test_a_rollout_that_nobody_measured_shows_itself_alone(page, made):
    from conftest import bare_rollout
    bare = made("bare", bare_rollout)
    page.open(bare.url)
    assert page.js("document.getElementById('measured').hidden") and tiles(page)["Changed"] == "0 of 12"
    assert "No batch has begun." in page.text("#rollout")
