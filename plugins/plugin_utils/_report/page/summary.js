// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The head of the page: the state of the whole fleet.

const MOST_NAMES = 12;

function counted(values) {
  const found = new Map();
  for (const value of values) found.set(value, (found.get(value) || 0) + 1);
  return found;
}

function byCount(found) {
  return [...found].sort((one, other) => other[1] - one[1] || (one[0] < other[0] ? -1 : 1));
}

function hostLinks(names, most = MOST_NAMES) {
  const list = make("ul.names");
  for (const name of isList(names).slice(0, most)) {
    const number = NUMBER_OF.get(name);
    list.append(make("li", {}, number === undefined ? foreign(name, "bdi", 60)
      : make("a", { href: linkOf(number) }, foreign(name, "bdi", 60))));
  }
  if (isList(names).length > most) list.append(make("li.more", {}, "and " + grouped(names.length - most) + " more"));
  return list;
}

function drawHead() {
  put(document.getElementById("headline"), isThere(FLEET.headline) ? FLEET.headline : several(COUNT, "host", "hosts"), 600);
  document.getElementById("made").append(make("time", { datetime: visible(REPORT.made_at) }, when(REPORT.made_at)));
  const parts = [several(COUNT, "host", "hosts") + (isNumber(REPORT.seconds) ? " audited in " + duration(REPORT.seconds) : "")];
  if (isNumber(FLEET.events)) {
    parts.push(whole(FLEET.events) + " events seen, " + whole(FLEET.drops) + " of them lost (" + percent(FLEET.drops_percent) + " of all)");
  }
  put(document.getElementById("subline"), parts.join(" \u00b7 "), 600);
  const about = ["Made by", foreign(REPORT.collection, "span"), "at", when(REPORT.made_at) + "."];
  if (isNumber(POLICY.accepted_drops_percent)) {
    about.push("Policy: up to " + share(POLICY.accepted_drops_percent) + " drops are accepted on up to "
      + share(POLICY.accepted_hosts_percent) + " of the hosts; no verdict on less than " + duration(POLICY.min_observation_seconds) + ".");
  }
  about.push("This file is complete and makes no network requests.");
  const foot = document.getElementById("foot");
  for (const part of about) add(foot, [part, " "]);
}

function drawBreaches() {
  const place = document.getElementById("breaches");
  const rules = isList(POLICY.fail_on).map((rule) => visible(rule, 40));
  const breaches = isList(FLEET.breaches);
  if (!breaches.length) {
    if (rules.length) place.append(make("p.verdict.fine", {}, shapeOf("healthy"), make("span", {}, "Passed: no host breaks " + rules.join(", ") + ".")));
    return;
  }
  const list = make("ul");
  for (const breach of breaches) {
    const names = isList(breach.hosts);
    const line = make("p", {}, make("strong", {}, foreign(breach.rule, "span", 60)), " ", foreign(breach.text, "span", 600));
    list.append(make("li", {}, line, names.length ? hostLinks(names, 8) : null));
  }
  place.append(make("section.verdict.broken", { "aria-labelledby": "breaches-title" },
    make("h2", { id: "breaches-title" }, shapeOf("blind"), several(breaches.length, "rule of the policy is broken", "rules of the policy are broken")),
    list));
}

// The bar and its legend; an entry of the legend switches the table's filter.
function drawStates() {
  const bar = document.getElementById("bar");
  const chips = document.getElementById("chips");
  const found = counted(COLUMNS.state);
  const known = [...found.keys()].sort((one, other) => severityOf(one) - severityOf(other) || (one < other ? -1 : 1));
  for (const key of known) {
    const number = found.get(key);
    const part = make("span.part.s-" + stateOf(key).key, {});
    part.style.flexGrow = number;
    bar.append(part);
    chips.append(make("button.chip.s-" + stateOf(key).key, { type: "button", title: stateOf(key).says, "aria-pressed": "false", click: () => toggle("state", key) },
      shapeOf(key), make("b", {}, whole(number)), " ", foreign(key, "span", 40),
      make("span.share", {}, share(100 * number / COUNT))));
    chips.lastChild.dataset.state = key;
  }
  if (!COUNT) chips.append(make("p.hint", {}, "The audit covered no hosts."));
}

const MARKS = ["p50", "p90", "p99", "p99.9", "max"];

function drawPercentiles() {
  const place = document.getElementById("percentiles");
  const found = FLEET.percentiles || {};
  const rows = [["Drops, %", found.drops_percent, short], ["Events/s/CPU", found.rate_per_cpu_guide, (value) => isNumber(value) && value >= 100 ? whole(value) : short(value)]];
  if (!found.measured) {
    place.append(make("p.hint", {}, "No host was measured."));
    return;
  }
  // One percentile a row: five rates of six digits do not fit into the width of a phone.
  const table = make("table.numbers", {}, make("thead", {}, make("tr", {}, make("td"), rows.map(([label]) => make("th", { scope: "col" }, label)))));
  const body = make("tbody");
  for (const mark of MARKS) {
    body.append(make("tr", {}, make("th", { scope: "row" }, mark), rows.map(([, values, say]) => make("td", {}, say((values || {})[mark])))));
  }
  table.append(body);
  place.append(make("div.scroll", { tabindex: "0", role: "region", "aria-label": "Percentiles" }, table),
    make("p.hint", {}, "Of " + several(found.measured, "measured host", "measured hosts")
      + ": at most one in a hundred exceeds p99. Events/s/CPU as Falco's guide counts them."));
}

function drawCounts(id, column, words, empty) {
  const place = document.getElementById(id);
  const found = byCount(counted(COLUMNS[column].filter((key) => key && key !== "none")));
  if (!found.length) {
    place.append(make("p.hint", {}, empty));
    return;
  }
  const most = found[0][1];
  const list = make("ul.counts");
  for (const [key, number] of found.slice(0, MOST_NAMES)) {
    const length = make("span.length", { "aria-hidden": "true" });
    length.style.width = Math.max(100 * number / most, 1) + "%";
    list.append(make("li", {}, make("button", { type: "button", click: () => toggle(column, key) }, make("span.what", {}, wordOf(words, key)),
      make("span.track", {}, length), make("span.number", {}, whole(number)))));
  }
  place.append(list);
  if (found.length > MOST_NAMES) place.append(make("p.hint", {}, "and " + grouped(found.length - MOST_NAMES) + " more"));
}

function drawSince() {
  const place = document.getElementById("since");
  const since = FLEET.since_last || {};
  const groups = [];
  if (isThere(since.at)) {
    groups.push(["Worse", since.worse, "worse"], ["Better", since.better, "better"], ["New", since.new, "new"], ["Gone", since.gone, null]);
  }
  groups.push(["Unreachable", FLEET.unreachable, null], ["Failed", FLEET.failed, null], ["Drifting", FLEET.drifting, "drift"],
    ["Restart due", FLEET.restart_required, "restart"]);
  for (const [title, names, note] of groups) {
    const many = isList(names).length;
    const block = make("div.group", {}, make("h3", {}, title, " ", make("span.many", {}, whole(many))));
    if (many) block.append(hostLinks(names, 5));
    if (many > 5 && note) block.append(make("button.link", { type: "button", click: () => toggle("note", note) }, "Show all"));
    else if (many > 5 && title !== "Gone") block.append(make("button.link", { type: "button", click: () => toggle("state", title.toLowerCase()) }, "Show all"));
    place.append(block);
  }
  place.before(make("p.hint", {}, isThere(since.at) ? "Compared with the audit of " + when(since.at) + "." : "There was no earlier audit to compare with."));
}
