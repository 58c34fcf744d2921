# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of hosts that want to be more than text. The fixture fails a test in which a dialog opened or anything was asked for."""

from __future__ import annotations

import json

import pytest
from conftest import hostile


def elements(page):
    """Elements that nothing of ours makes, and attributes that would run something."""
    return page.js("""[...document.querySelectorAll('img, iframe, object, embed, link, base, form[action], b[onmouseover]')]
        .map((node) => node.outerHTML)
        .concat([...document.querySelectorAll('*')].flatMap((node) => [...node.attributes])
            .filter(({name, value}) => /^on/i.test(name) || (/href|src|action|data/i.test(name) && /^\\s*javascript:/i.test(value)))
            .map(({name}) => name))""")


def scripts(page):
    return page.js("document.scripts.length")


def test_in_the_table_they_are_text(page, hostile_fleet):
    page.open(hostile_fleet.url + "#size=250")
    names = page.js("[...document.querySelectorAll('#rows .c-name a')].map((link) => link.textContent)")
    assert len(names) == len(hostile_fleet.model["hosts"])
    for text in hostile.TEXTS[:12]:
        assert text in names
    assert elements(page) == [] and scripts(page) == 2


@pytest.mark.parametrize("number", range(len(hostile.TEXTS)), ids=lambda number: ascii(hostile.TEXTS[number])[:30])
def test_on_a_host_s_page_they_are_text(page, hostile_fleet, number):
    page.open(f"{hostile_fleet.url}#number={number}")
    shown = page.wait("!document.getElementById('host').hidden && document.querySelector('#host h1').textContent")
    text = hostile.TEXTS[number]
    if text.isascii() and text.isprintable() and text and len(text) < 300:
        assert shown == text
    page.js("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.wait("document.querySelector('#host pre').textContent")
    assert elements(page) == [] and scripts(page) == 2
    assert page.js("document.documentElement.scrollWidth") <= 1280


@pytest.mark.parametrize("number", range(len(hostile.NUMBERS)), ids=lambda number: repr(hostile.NUMBERS[number])[:20])
def test_impossible_numbers_break_nothing(page, hostile_fleet, number):
    page.open(f"{hostile_fleet.url}#host=number-{number}")
    assert page.wait("document.querySelector('#host h1')?.innerText") == f"number-{number}"
    assert not page.js("/NaN|undefined|Infinity|\\[object/.test(document.getElementById('host').innerText)")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", ["trials", "rollout"])
def test_in_a_trial_or_a_rollout_they_are_text(page, request, kind, width):
    found = request.getfixturevalue(f"hostile_{kind}")
    page.size(width, 844, mobile=width < 500)
    page.open(found.url)
    page.js("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    shown = page.wait(f"!document.getElementById('{kind}').hidden && document.getElementById('{kind}').textContent")
    for text in hostile.TEXTS[:6]:
        assert text in shown
    assert elements(page) == [] and scripts(page) == 2
    assert not page.js(f"/NaN|undefined|Infinity|\\[object/.test(document.getElementById('{kind}').innerText)")


@pytest.mark.parametrize("kind", ["trials", "rollout"])
def test_on_a_host_s_page_of_a_trial_or_a_rollout_they_are_text(page, request, kind):
    found = request.getfixturevalue(f"hostile_{kind}")
    for number in (*range(0, len(hostile.TEXTS), 4), *range(len(hostile.TEXTS), len(hostile.TEXTS) + len(hostile.NUMBERS))):
        page.open(f"{found.url}#number={number}")
        page.wait("!document.getElementById('host').hidden && Boolean(document.querySelector('#host h1'))")
        page.js("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert page.wait("document.querySelector('#host pre').textContent")
        assert elements(page) == [] and scripts(page) == 2
        if number >= len(hostile.TEXTS):
            assert not page.js("/NaN|undefined|Infinity|\\[object/.test(document.getElementById('host').innerText)")


def test_links_lead_to_their_hosts(page, hostile_fleet):
    """Names that look like addresses, encodings or other parameters come back as they are."""
    page.open(hostile_fleet.url + "#size=250")
    links = page.js("[...document.querySelectorAll('#rows tr')].map((row) => [Number(row.dataset.number), row.querySelector('a').href])")
    assert len(links) == len(hostile_fleet.model["hosts"])
    for number, link in links:
        # A part of a surrogate pair can't be sent here, and a long name comes back cut.
        name = hostile_fleet.model["hosts"][number]["name"]
        if len(name) > 2000 or not name.isprintable():
            continue
        page.js(f"new Promise((done) => {{ addEventListener('hashchange', done, {{once: true}}); location.href = {json.dumps(link)}; }})")
        page.js("document.querySelector('#host .raw details').open = true")
        assert json.loads(page.wait("document.querySelector('#host pre').textContent"))["name"] == name


def test_what_cannot_be_seen_is_shown(page, hostile_fleet):
    number = next(index for index, text in enumerate(hostile.TEXTS) if "\u202e" in text)
    page.open(f"{hostile_fleet.url}#number={number}")
    page.wait("!document.getElementById('host').hidden")
    assert page.texts("#host h1 .mark") == ["U+202E", "U+2066", "U+2069", "U+200B", "U+FEFF"]
    assert page.text("#host h1").startswith("webU+202Egnp.exe")
    assert "[U+202E]" in page.js("document.title") and "\u202e" not in page.js("document.title")
    number = next(index for index, text in enumerate(hostile.TEXTS) if "\x1b" in text)
    page.open(f"{hostile_fleet.url}#number={number}")
    page.wait("!document.getElementById('host').hidden")
    assert page.texts("#host h1 .mark") == ["U+0000", "U+0007", "U+001B", "U+009B", "U+007F"]


def test_filters_of_hostile_values_find_their_hosts(page, hostile_fleet):
    page.open(hostile_fleet.url)
    for text in ("__proto__", "constructor", "</script><script>alert(1)</script>"):
        page.choose("#release", text)
        assert page.text("#count").startswith("1 of ")


def test_the_policy_is_in_force(page, hostile_fleet):
    """Were there a hole in the script, text still could not become markup, nor a script run, nor a request leave."""
    page.may_complain = True
    page.open(hostile_fleet.url)
    with pytest.raises(RuntimeError, match="TrustedHTML"):
        page.js("document.body.innerHTML = '<b>x</b>'")
    with pytest.raises(RuntimeError, match="TrustedScript"):
        page.js("document.createElement('div').setAttribute('onclick', 'x')")
    page.js("new Promise((done) => { const picture = new Image(); picture.onerror = picture.onload = done; picture.src = 'http://127.0.0.1:9/x.png';"
            " document.body.append(picture); })")
    with pytest.raises(RuntimeError, match="fetch"):
        page.js("fetch('http://127.0.0.1:9/')")
    assert not [url for url in page.requests if url.startswith("http") and "127.0.0.1" not in url]
    assert any("violates" in problem for problem in page.problems)
