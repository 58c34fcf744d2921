# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML report in a browser: its size, the time until it can be used, and what a click or a letter costs there."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import synthetic_audit
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import html

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))
from chromium import Chromium, find  # noqa: E402

SMALL = 100
ACTIONS = {
    "a letter in the search": "q.value = q.value ? '' : 'w'; q.dispatchEvent(new Event('input'))",
    "sorting by host": "document.querySelector('#head .c-name button').click()",
    "opening a host": "document.querySelector('#rows a').click();"
                      " await new Promise((done) => addEventListener('hashchange', done, {once: true}))",
}


def _opened(page, url: str, times: int) -> float:
    """Median of milliseconds from the navigation to the end of the page's own start: drawn, and listening."""
    found = []
    for _time in range(times):
        page.open(url)
        found.append(page.js("performance.getEntriesByName('falcotune-interactive')[0].startTime"))
    return statistics.median(found)


def measure(folder: Path, hosts: int, times: int = 7) -> list[str]:
    if not find():
        return ["the page: not measured, there is no Chromium here"]
    browser, opened, lines = Chromium(), {}, []
    try:
        page = browser.page()
        page.size(1280)
        for number in (SMALL, hosts):
            path = folder / f"{number}.html"
            path.write_text(html.render(synthetic_audit.audit_model(number, history=60)), "utf-8")
            opened[number] = _opened(page, path.as_uri(), times)
            lines.append(f"page of {number} hosts: {path.stat().st_size / 1e6:.2f} MB, can be used after {opened[number]:.0f} ms "
                         f"(median of {times})")
        lines.append(f"time until it can be used, {hosts} hosts / {SMALL}: {opened[hosts] / opened[SMALL]:.1f}")
        for what, action in ACTIONS.items():
            took = page.js(f"""(async () => {{
                const q = document.getElementById('q'), took = [];
                for (let time = 0; time < {times}; time++) {{
                    if (location.hash.startsWith('#host')) {{
                        history.back(); await new Promise((done) => addEventListener('hashchange', done, {{once: true}})); }}
                    const before = performance.now();
                    {action};
                    document.body.offsetHeight;
                    took.push(performance.now() - before);
                }}
                return took; }})()""")
            lines.append(f"{what}, with {hosts} hosts: {statistics.median(took):.0f} ms (median of {times})")
    finally:
        browser.close()
    return lines
