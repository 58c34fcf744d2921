# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Widths, light and dark, paper, and what assistive technology gets to know."""

from __future__ import annotations

import pytest


def overflow(page, width):
    """What stands out to the right. innerWidth would not do: a phone's window grows with what is in it."""
    return page.js(f"""document.documentElement.scrollWidth <= {width} ? [] : [...document.querySelectorAll('body *')]
        .filter((node) => node.getBoundingClientRect().right > {width + 1} && !node.closest('.scroll, .off'))
        .map((node) => node.tagName + '.' + node.className).concat('page')""")


@pytest.mark.parametrize("width", [320, 390, 768, 1101, 1280, 1920])
def test_nothing_is_wider_than_the_window(page, fleet, trials, rollout, hostile_fleet, hostile_trials, hostile_rollout, width):
    page.size(width, 844, mobile=width < 500)
    for url in (fleet.url, f"{fleet.url}#host={fleet.model['full']}", hostile_fleet.url, f"{hostile_fleet.url}#number=3",
                f"{hostile_fleet.url}#number=30", trials.url, chosen(trials), rollout.url, f"{rollout.url}#number=3", hostile_trials.url,
                f"{hostile_trials.url}#number=28", hostile_rollout.url, f"{hostile_rollout.url}#number=29"):
        page.open(url)
        assert overflow(page, width) == [], url


def chosen(trials):
    """The page of a host with a trial and a choice of system calls."""
    return f"{trials.url}#host=" + next(host["name"] for host in trials.model["hosts"] if host["trial"] and host["syscalls"])


def test_the_check_of_widths_can_fail(page, fleet):
    page.size(390, 844, mobile=True)
    page.open(fleet.url)
    page.js("document.getElementById('headline').style.width = '900px'")
    assert "page" in overflow(page, 390)


def test_where_it_is_narrow_what_matters_stays(page, fleet):
    page.size(390, 844, mobile=True)
    page.open(fleet.url)
    shown = page.js("[...document.querySelectorAll('#head th')].filter((head) => head.offsetWidth).map((head) => head.dataset.key)")
    assert shown == ["name", "state", "drops", "rate"]
    page.choose("#order", "-cpus")
    assert page.js("document.querySelector('#head .c-cpus').getAttribute('aria-sort')") == "descending"


def test_dark_and_light_and_the_chart_with_them(page, fleet):
    def look():
        return page.pixels("#chart", """
            const at = ((canvas.height - 45) * canvas.width + 60) * 4;
            const style = getComputedStyle(document.body);
            return [style.backgroundColor, style.color, [...data.slice(at, at + 3)]];""")

    page.open(fleet.url)
    light = look()
    page.media(dark=True)
    page.js("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    dark = look()
    assert (light[0], dark[0]) == ("rgb(245, 246, 248)", "rgb(16, 19, 23)") and light[1] != dark[1]
    assert min(light[2]) > 200 and max(dark[2]) < 80, "the lane is drawn in the theme's colour"


def test_on_paper_it_is_light_and_has_more_of_the_table(page, fleet):
    page.size(1280, dark=True)
    page.open(fleet.url)
    page.js("""addEventListener('beforeprint', () => { window.seen = [document.querySelectorAll('#rows tr').length,
        getComputedStyle(document.documentElement).getPropertyValue('--card')]; })""")
    assert page.pdf().startswith(b"%PDF")
    assert page.js("window.seen") == [300, "#ffffff"]
    assert len(page.texts("#rows tr")) == 50, "and afterwards it is as before"
    page.media(kind="print")
    assert page.js("[...document.querySelectorAll('.filters, .pages')].map((part) => getComputedStyle(part).display)") == ["none", "none"]


def test_without_scripts_the_headline_is_there(page, fleet):
    page.send("Emulation.setScriptExecutionDisabled", value=True)
    page.open(fleet.url)
    tree = page.send("DOMSnapshot.captureSnapshot", computedStyles=[])
    assert any(fleet.model["fleet"]["headline"] in text for text in tree["strings"])


NAMED = {"button", "link", "searchbox", "textbox", "combobox", "image", "img", "table", "navigation", "region", "search", "checkbox"}


def unnamed(page):
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    found = [node for node in tree if not node.get("ignored") and node["role"]["value"].lower() in NAMED | {"graphics-document"}]
    assert len(found) > 4
    return [node["role"]["value"] for node in found if not node.get("name", {}).get("value") and node["role"]["value"] != "table"]


def pages_of(fleet, trials, rollout):
    return fleet.url, f"{fleet.url}#host={fleet.model['full']}", trials.url, chosen(trials), rollout.url, f"{rollout.url}#number=3"


def test_everything_that_can_be_used_has_a_name(page, fleet, trials, rollout):
    for url in pages_of(fleet, trials, rollout):
        page.open(url)
        assert unnamed(page) == []


def test_headings_are_in_order(page, fleet, trials, rollout):
    for url in pages_of(fleet, trials, rollout):
        page.open(url)
        levels = page.js("[...document.querySelectorAll('main:not([hidden]) :is(h1, h2, h3)')].map((head) => Number(head.tagName[1]))")
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


def test_the_first_tab_skips_to_the_hosts(page, fleet):
    page.open(fleet.url)
    page.key("Tab")
    assert page.js("document.activeElement.id") == "skip"
    page.key("Enter")
    assert page.js("document.activeElement.id") == "hosts-title" and page.js("location.hash") == ""


def test_what_has_the_focus_can_be_seen(page, fleet):
    page.open(fleet.url)
    page.js("document.querySelector('#head button').focus()")
    page.key("Tab")
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_a_state_is_never_told_by_colour_alone(page, fleet):
    page.open(fleet.url)
    shapes = page.js("[...document.querySelectorAll('.chip')].map((chip) =>"
                     " [chip.innerText.trim(), chip.querySelector('path').getAttribute('d')])")
    assert len({shape for _text, shape in shapes}) == len(shapes) > 4 and all(text for text, _shape in shapes)
