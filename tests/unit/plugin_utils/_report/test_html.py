# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page as text; what it does in a browser is tests/browser's."""

import base64
import copy
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._report import html, models, shape
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rollout import batching
from ansible_collections.falcotune.fleet.tests.benchmarks import synthetic_audit, synthetic_rollout, synthetic_trial
from ansible_collections.falcotune.fleet.tests.unit import hostile_page as hostile
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT

SOURCES = ROOT / "plugins" / "plugin_utils" / "_report" / "page"


class Page(HTMLParser):
    """What a browser's parser would see: tags with attributes, and the text of the elements that matter."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.open = [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open = tag if tag in ("script", "style", "title", "h1") else None
        if self.open:
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open:
            self.texts[self.open][-1] += data

    @property
    def report(self):
        return json.loads(self.texts["script"][0])

    @property
    def policy(self):
        return next(item["content"] for tag, item in self.tags if item.get("http-equiv") == "Content-Security-Policy")


def unpack(packed, value):
    """model.js in a few lines."""
    if isinstance(value, str):
        return packed["strings"][int(value[1:], 36)] if value[:1] == "$" else value.removeprefix("=")
    if isinstance(value, list):
        return [unpack(packed, item) for item in value]
    if isinstance(value, dict) and "@" in value:
        return unpack(packed, packed["lists"][value["@"]])
    if isinstance(value, dict):
        (number, values), = value.items()
        return dict(zip(packed["shapes"][int(number)], [unpack(packed, item) for item in values]))
    return value


def rows(history):
    at, found = history["first"], []
    for step, *rest in zip(history["steps"], history["states"], history["drops"], history["rates"], history["seconds"]):
        at += step
        found.append([at, *rest])
    return found


@pytest.fixture(scope="module")
def model():
    return synthetic_audit.audit_model(60)


@pytest.fixture(scope="module")
def page(model):
    return html.render(model)


def hash_of(text):
    return "'sha256-%s'" % base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(page):
    found = Page(page)
    assert len(found.texts["style"]) == 1
    assert [item.get("type") for tag, item in found.tags if tag == "script"] == ["application/json", None]
    rules = dict(rule.split(" ", 1) for rule in found.policy.split("; "))
    assert rules == {
        "default-src": "'none'", "script-src": hash_of(found.texts["script"][1]), "style-src": hash_of(found.texts["style"][0]),
        "base-uri": "'none'", "form-action": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "'none'"}


def test_nothing_is_asked_of_a_network(page):
    found = Page(page)
    addresses = [value for tag, item in found.tags for name, value in item.items() if name in ("src", "href", "srcset", "action", "data")]
    assert addresses == ["#all"]
    assert not re.search(r"@import|url\(", found.texts["style"][0])
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|import)\b\s*\(", found.texts["script"][1])
    # A name of XML, not an address.
    assert re.findall(r"https?://[^\s\"')]+", found.texts["script"][1].replace("https://www.gnu.org/licenses/gpl-3.0.txt", "")) == [
        "http://www.w3.org/2000/svg"]


def test_the_script_has_no_way_to_make_markup_or_code_of_text():
    sinks = (r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\bFunction\(|srcdoc|DOMParser|createContextualFragment"
             r"|setTimeout|\.src\b")
    for name in html.SCRIPTS:
        assert not re.search(sinks, (SOURCES / name).read_text()), name
    assert re.search(sinks, "node.innerHTML = text")


def test_every_file_of_the_page_is_in_it(page):
    assert {path.name for path in SOURCES.iterdir()} == {"page.html", *html.STYLES, *html.SCRIPTS}
    for name in (*html.STYLES, *html.SCRIPTS):
        assert (SOURCES / name).read_text() in page
    assert not re.search("@@[a-z]+@@", page)


def test_the_same_model_gives_the_same_page(model, page):
    assert html.render(copy.deepcopy(model)) == page


def test_the_model_is_left_as_it_was():
    made = synthetic_audit.audit_model(5)
    before = copy.deepcopy(made)
    html.render(made)
    assert made == before


def test_the_headline_is_there_without_scripts(model, page):
    assert Page(page).texts["h1"][0] == model["fleet"]["headline"]
    assert Page(page).texts["title"] == ["Falco fleet audit, 2026-11-24T13:00:00Z"]


@pytest.mark.parametrize("wrong", [None, [], {}, {"schema_version": 2, "hosts": []}, {"schema_version": "1"}])
def test_other_models_are_refused(wrong):
    with pytest.raises(ValueError, match="schema_version 1"):
        html.render(wrong)


def test_a_report_without_anything_is_a_page():
    assert Page(html.render({"schema_version": 1})).report["hosts"] == []


def test_every_host_comes_out_as_it_went_in(model):
    packed = html.pack(model)
    assert len(packed["hosts"]) == len(model["hosts"]) and packed["history_cut"] is None
    for packed_host, host in zip(packed["hosts"], model["hosts"]):
        found = unpack(packed, packed_host)
        history = rows(found.pop("history"))
        assert found == {key: value for key, value in host.items() if key not in (*shape.OF_HISTORY, "history")}
        assert [row[:2] for row in history] == [row[:2] for row in host["history"]]
        for row, given in zip(history, host["history"]):
            assert row[2:] == [None if value is None else pytest.approx(value, rel=1e-3) for value in given[2:]]
    assert unpack(packed, packed["report"]) == {key: value for key, value in model.items() if key != "hosts"}


def test_no_host_can_change_the_structure_of_the_page(page):
    found = Page(html.render(hostile.report()))
    plain = Page(page)
    assert [tag for tag, dummy in found.tags] == [tag for tag, dummy in plain.tags]
    assert found.texts["script"][1] == plain.texts["script"][1] and found.policy == plain.policy
    names = [unpack(found.report, item)["name"] for item in found.report["hosts"]]
    assert names[:4] == list(hostile.TEXTS[:4])


def test_the_report_is_ascii_without_signs_of_markup_or_templates():
    for text in (html.render(hostile.report()), html.render(hostile.report(hostile.TEXTS[::-1]))):
        inside = re.search(r'<script type="application/json" id="report">(.*?)</script>', text, re.DOTALL).group(1)
        assert inside.isascii() and not re.search("[<>&]", inside) and inside.isprintable()
        assert not re.search(r"\{[{%#]", text)
        text.encode("utf-8")


def test_what_cannot_be_seen_is_named_in_the_static_part():
    made = {"schema_version": 1, "made_at": "x\x1b[31m\u202e", "fleet": {"headline": "a\u200b<b>\ud800\n{{c}}"}}
    found = Page(html.render(made))
    assert found.texts["title"] == ["Falco fleet audit, x[U+001B][31m[U+202E]"]
    assert found.texts["h1"][0] == "a[U+200B]<b>[U+D800][U+000A]{{c}}"


@pytest.mark.parametrize("value", hostile.NUMBERS)
def test_numbers_that_json_or_javascript_has_not(value):
    def no_constant(name):
        raise AssertionError(name)

    text = re.search(r'id="report">(.*?)</script>', html.render(
        {"schema_version": 1, "hosts": [hostile.host("a", "b", value)], "fleet": {"events": value}}), re.DOTALL).group(1)
    for number in re.findall(r"(?<=[\[,:])-?\d[\d.e+-]*", text):
        assert math.isfinite(float(number)) and (not number.isdigit() or int(number) < 1 << 53)
    json.loads(text, parse_constant=no_constant)


def test_depth_and_length_have_an_end():
    deep = value = []
    for _number in range(5000):
        value.append([])
        value = value[0]
    made = {"schema_version": 1, "hosts": [{"name": "a" * 100000, "status": "ok", "drift": deep}]}
    packed = html.pack(made)
    host = unpack(packed, packed["hosts"][0])
    assert host["name"] == "a" * 2000 + "\u2026 (100000 characters)"
    assert "nested deeper" in json.dumps(host["drift"])


def test_texts_that_look_like_our_own_signs_come_back():
    made = [{"name": text, "status": text} for text in ("$", "$0", "=", "==", "=$1", "$0", "x$")]
    packed = html.pack({"hosts": made})
    assert [unpack(packed, item)["name"] for item in packed["hosts"]] == [item["name"] for item in made]


def kinds():
    """A model of each kind."""
    hosts = synthetic_trial.tried(synthetic_audit.audit_results(40, history=0))
    record = synthetic_rollout.rollout([host["name"] for host in hosts], wrong=0.1)
    return {kind: models.assemble(hosts, synthetic_audit.POLICY, dict(synthetic_audit.META, kind=kind), None, rollout)
            for kind, rollout in (("trial", None), ("rollout", record))}


@pytest.mark.parametrize("kind, brand", html.BRANDS.items())
def test_trials_and_rollouts_come_out_as_they_went_in(kind, brand):
    made = kinds()[kind]
    found = Page(html.render(made))
    assert found.texts["title"] == ["%s, 2026-11-24T13:00:00Z" % brand] and found.texts["h1"][0] == made["fleet"]["headline"]
    packed = html.pack(made)
    assert packed["lists"], "sets of system calls are shared"
    for item, host in zip(packed["hosts"], made["hosts"], strict=True):
        back = unpack(packed, item)
        assert (back["trial"], back["syscalls"]) == (host["trial"], host["syscalls"])
    assert unpack(packed, packed["report"])["rollout"] == made["rollout"]


@pytest.mark.parametrize("kind", html.BRANDS)
def test_a_hostile_trial_or_rollout_cannot_change_the_structure_of_the_page(page, kind):
    text = html.render(hostile.report(kind=kind))
    found, plain = Page(text), Page(page)
    assert [tag for tag, dummy in found.tags] == [tag for tag, dummy in plain.tags]
    assert found.texts["script"][1] == plain.texts["script"][1] and found.policy == plain.policy
    inside = re.search(r'<script type="application/json" id="report">(.*?)</script>', text, re.DOTALL).group(1)
    assert inside.isascii() and not re.search("[<>&]", inside) and not re.search(r"\{[{%#]", text)


def test_lists_are_shared_where_that_is_shorter():
    names = ["open", "openat", "close"]
    packed = html.pack({"hosts": [{"name": "a", "x": names, "y": ["open"], "z": [1, "open", "close"]},
                                         {"name": "b", "x": list(names), "y": ["open"], "z": [1, "open", "close"]}]})
    assert len(packed["lists"]) == 1
    assert [unpack(packed, item)["x"] for item in packed["hosts"]] == [names, names]
    assert unpack(packed, packed["hosts"][0])["z"] == [1, "open", "close"]


def test_in_a_large_fleet_the_worst_keep_the_names_of_their_system_calls(monkeypatch):
    monkeypatch.setattr(html, "WHOLE_HISTORIES", 10)
    made = synthetic_audit.audit_model(200, history=0)
    packed = html.pack(made)
    found = [unpack(packed, item)["syscalls"] for item in packed["hosts"]]
    assert sum(item["frontier"] is not None for item in found if item) == 10 < sum(map(bool, found))
    for item, host in zip(found, made["hosts"], strict=True):
        if item:
            assert (item["selected"] is None) == (item["frontier"] is None)
            assert {key: value for key, value in item.items() if key not in ("selected", "frontier")} == {
                key: value for key, value in host["syscalls"].items() if key not in ("selected", "frontier")}


def test_a_rollout_adds_less_than_a_hundred_and_fifty_bytes_a_host():
    names = ["web-%05d" % number for number in range(5000)]
    record = synthetic_rollout.rollout(names)
    made = models.assemble([], synthetic_audit.POLICY, dict(synthetic_audit.META, kind="rollout"), None, record)
    assert len(html.in_script(html.pack(made))) < 150 * 5000


def test_base_36_counts_on():
    assert [html._base36(number) for number in (0, 35, 36, 1295, 1296)] == ["0", "z", "10", "zz", "100"]
    assert all(int(html._base36(number), 36) == number for number in range(5000))


def test_in_a_large_fleet_the_worst_keep_their_history(monkeypatch):
    monkeypatch.setattr(html, "WHOLE_HISTORIES", 10)
    made = synthetic_audit.audit_model(200, history=40)
    packed = html.pack(made)
    kept = {unpack(packed, item)["name"]: rows(unpack(packed, item)["history"]) for item in packed["hosts"]}
    given = {host["name"]: host for host in made["hosts"]}
    whole = [name for name, history in kept.items() if len(history) == 40]
    assert packed["history_cut"] == html.RECENT and len(whole) == 10
    rank = {name: shape.CONDITIONS.index(given[name]["verdict"]["state"]) for name, history in kept.items() if history}
    assert len(set(rank.values())) > 2 and max(rank[name] for name in whole) <= min(rank[name] for name in rank if name not in whole)
    for name, history in kept.items():
        assert [row[0] for row in history] == [row[0] for row in given[name]["history"]][-len(history):]
        assert name in whole or len(history) in (0, html.RECENT)


def test_a_host_of_a_large_fleet_takes_less_than_a_kilobyte_and_a_half():
    made = synthetic_audit.audit_model(1500, history=60)
    sizes = [len(html.in_script(html.pack(dict(made, hosts=made["hosts"][:number])))) for number in (1200, 1500)]
    assert len(json.dumps(made)) > 4000 * 1500 and sizes[1] - sizes[0] < 1500 * 300


def variables(block):
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def luminance(colour):
    parts = [int(colour[place:place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_wcag_does():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_read(theme):
    colours = variables(re.findall(r":root[^{]*\{(.*?)\}", (SOURCES / "page.css").read_text(), re.DOTALL)[theme])
    states = [name for name in colours if name.startswith("s-")]
    assert len(states) == 9
    for name in ("text", "soft", "link", *states):
        for ground in ("page", "card", "lane"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    assert contrast(colours["mark-text"], colours["mark"]) >= 4.5
    assert contrast(colours["fill"], colours["card"]) >= 3 and contrast(colours["line"], colours["card"]) >= 3


def test_every_state_has_a_shape_and_a_colour_of_its_own():
    script, style = (SOURCES / "states.js").read_text(), (SOURCES / "page.css").read_text()
    table = re.search(r"const STATES = \[\n(.*?)\n\];", script, re.DOTALL).group(1)
    states = re.findall(r'\["(\w+)", "[^"]*", ("[^"]*"|[A-Z]+)\]', table)
    assert [state for state, dummy in states] == list(shape.CONDITIONS)
    assert len({shape for dummy, shape in states}) == len(states)
    assert {state for state, dummy in states} == set(re.findall(r"\.part\.s-(\w+)", style))


def keys_of(name, script):
    """The keys of one of the page's tables of words."""
    table = re.search(r"const %s = \{\n(.*?)\n\};" % name, script, re.DOTALL).group(1)
    return set(re.findall(r"(\w+): (?=[\"\[])", table))


@pytest.mark.parametrize("name, words", [
    ("BOTTLENECKS", shape.BOTTLENECKS), ("STEPS", shape.NEXT_STEPS), ("TESTS", shape.TESTS), ("VERDICTS", shape.TRIALS),
    ("OUTCOMES", shape.OUTCOMES),
])
def test_the_page_has_words_for_what_the_report_says_and_no_other(name, words):
    assert keys_of(name, (SOURCES / "states.js").read_text()) == set(words)


def test_the_pages_lists_are_those_of_the_report():
    script = (SOURCES / "states.js").read_text()
    for name, words in (("TIERS", shape.TIERS), ("WRONG", batching.BAD)):
        assert set(json.loads(re.search(r"const %s = (\[.*?\]);" % name, script).group(1))) == set(words)
