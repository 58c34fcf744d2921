// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The page of one host: the verdict and its reasons first, then the numbers behind them.

const CATEGORY_WORDS = {
  open: "open, openat, creat", dir_file: "directories, links, modes", close: "close", execve: "execve", clone_fork: "clone, fork",
  connect: "connect", proc: "end of a process", other_interest: "ptrace, setns, bpf and such", uncategorised: "uncategorised: network and others",
  scratch_map: "larger than 64 KiB", page_faults: "page faults", bug: "bugs of the driver",
};

function card(title, ...children) {
  return make("section.card", {}, make("h2", {}, title), ...children);
}

// Pairs of a word and its value; those without a value are left out.
function pairs(entries) {
  const list = make("dl.pairs");
  for (const [word, value, title] of entries) {
    if (!isThere(value) || value === DASH) continue;
    list.append(make("div", {}, make("dt", { title }, word), make("dd", {}, value)));
  }
  return list.children.length ? list : null;
}

// A part that may be wider than its card scrolls inside it, by keyboard too.
function wide(label, table) {
  return make("div.scroll", { tabindex: "0", role: "region", "aria-label": label }, table);
}

function hint(...children) {
  return make("p.hint", {}, ...children);
}

function theHost(index) {
  const host = hostOf(index);
  const state = COLUMNS.state[index];
  const place = document.getElementById("host");
  place.replaceChildren(
    around(index),
    make("h1", { tabindex: "-1" }, foreign(COLUMNS.name[index] || "(no name)")),
    make("p.sub", {}, badge(state), ...identity(host)),
    ...[rolloutCard(COLUMNS.name[index]), verdictCard(host, state), trialCard(host), make("div.columns", {}, measuredCard(host), lossesCard(host), make("div", {}, costCard(host), settingsCard(host))),
      planCard(host), sightCard(host), syscallsCard(host), rulesCard(host), driftCard(host), make("div.columns", {}, changeCard(host), beforeCard(host)), historyCard(host), rawCard(host)].filter(Boolean),
  );
}

// Links to the table, and to the neighbours in it as it is filtered and sorted now.
function around(index) {
  const at = listed.indexOf(index);
  const step = (to, word, kind) => (to === undefined ? make("span.off-link", {}, word) : make("a", { href: linkOf(to), rel: kind }, word));
  return make("nav.around", { "aria-label": "Hosts" }, make("a.back", { href: fleetHash() }, "\u2190 All hosts"),
    at < 0 ? null : make("span.turn", {}, step(listed[at - 1], "Previous", "prev"),
      make("span", {}, grouped(at + 1) + " of " + grouped(listed.length) + (isFiltered() ? " filtered" : "")), step(listed[at + 1], "Next", "next")));
}

function identity(host) {
  const parts = [host.release && ["Falco ", foreign(host.release, "bdi", 60)], host.driver && [foreign(host.driver, "bdi", 60)],
    isNumber(host.cpus) && [several(host.cpus, "CPU", "CPUs")], isNumber(host.memory_bytes) && [bytes(host.memory_bytes)],
    host.kernel && ["kernel ", foreign(host.kernel, "bdi", 80)], host.unit && [foreign(host.unit, "bdi", 80)]].filter(Boolean);
  return parts.flatMap((part) => [make("span.fact", {}, ...part)]);
}

function verdictCard(host, state) {
  const verdict = host.verdict;
  const box = make("section.verdict.v-" + stateOf(state).key);
  if (!verdict) {
    box.append(make("h2", {}, shapeOf(state), state === "unreachable" ? "This host could not be reached" : state === "monitored" ? "This host was not visited" : "No verdict"),
      put(make("p.lines"), isThere(host.reason) ? host.reason : "No reason was given.", 4000, true));
    return box;
  }
  const title = isThere(verdict.next_step) && verdict.next_step !== "none" ? "Next step: " + wordOf(STEPS, verdict.next_step) : stateOf(state).says[0].toUpperCase() + stateOf(state).says.slice(1);
  box.append(make("h2", {}, shapeOf(state), title));
  if (isThere(verdict.advice)) box.append(put(make("p.lead.lines"), verdict.advice, 2000, true));
  if (isThere(host.reason)) box.append(put(make("p.lines"), host.reason, 4000, true));
  const answer = verdict.answer || {};
  if (isThere(answer.text)) box.append(put(make("p.lines"), "Answer: " + answer.text, 2000, true));
  const reasons = isList(verdict.reasons);
  if (reasons.length) box.append(make("h3", {}, "Why"), make("ul", {}, reasons.map((reason) => put(make("li.lines"), reason, 2000, true))));
  return box;
}

function measuredCard(host) {
  const verdict = host.verdict || {};
  const window = host.window;
  if (!window) return host.verdict ? card("Measurement", hint("Nothing was measured.")) : null;
  if (isThere(window.voided)) return card("Measurement", make("p.lines", {}, "Nothing was measured: ", foreign(window.voided, "span", 1000)), pairs([["Source", isThere(window.source) && foreign(window.source)]]));
  const guide = verdict.rate_per_cpu_guide;
  return card("Measurement", pairs([
    ["Events lost", percent(window.drops_percent) + " (" + whole(window.drops) + " of " + whole(window.events) + ")"],
    ["Events/s per CPU", whole(window.rate_per_cpu)],
    ["As the guide counts", isNumber(guide) ? whole(guide) + (isThere(verdict.tier) ? " (" + visible(verdict.tier, 20) + ")" : "") : null,
      "the guide's lines count enter events, which Falco 0.42 and newer do not; this is the rate with them"],
    ["Events/s", whole(window.rate)], ["Lost/s", isNumber(window.drop_rate) ? short(window.drop_rate) : null],
    ["Reached the rules", isNumber(window.engine_rate) ? whole(window.engine_rate) + "/s" : null],
    ["Alerts lost", window.outputs_queue_drops ? whole(window.outputs_queue_drops) : null, "in a full outputs queue"],
    ["Observed for", duration(window.seconds)], ["Ended", isNumber(window.age) ? duration(window.age) + " before it was read" : null],
    ["Source", isThere(window.source) ? [foreign(window.source), window.basis === "counters" || !isThere(window.basis) ? null : [" (", foreign(window.basis), ")"]] : null],
  ]), window.basis === "drop alerts" ? hint("Falco sends drop alerts only for seconds with drops: the number of drops is at least this one, and the share is at most this one.") : null);
}

function lossesCard(host) {
  const window = host.window || {};
  const found = Object.entries(window.drops_by_category || {}).filter(([, number]) => isNumber(number) && number > 0).sort((one, other) => other[1] - one[1]);
  if (!found.length) return null;
  const sum = found.reduce((total, [, number]) => total + number, 0);
  const list = make("ul.counts");
  for (const [key, number] of found) {
    const length = make("span.length", { "aria-hidden": "true" });
    length.style.width = Math.max(100 * number / found[0][1], 1) + "%";
    list.append(make("li", {}, make("div.row", {}, make("span.what", { title: wordOf(CATEGORY_WORDS, key) }, foreign(key, "bdi", 60)), make("span.track", {}, length),
      make("span.number", {}, whole(number)), make("span.share", {}, share(100 * number / sum)))));
  }
  return card("Drops by category", list, hint("Falco's categories of system calls. Uncategorised are all others, mostly on sockets."));
}

function costCard(host) {
  const window = host.window || {};
  const cost = (host.verdict || {}).cost || {};
  const kernel = window.kernel || {};
  const memory = window.memory || {};
  const found = pairs([
    ["Falco's CPU", isNumber(cost.falco_cpu_percent) ? percent(cost.falco_cpu_percent) + " of one CPU" + (isNumber(window.falco_cpu_error)
      ? ", \u00b1" + NARROW_SPACE + short(window.falco_cpu_error) : "") : null],
    ["Waited for a CPU", isNumber(cost.falco_wait_percent) ? percent(cost.falco_wait_percent) + " of the time" : null],
    ["In the kernel", isNumber(cost.kernel_percent) ? percent(cost.kernel_percent) + " of all CPUs" : null, "run time of Falco's programs"],
    ["An event", isNumber(kernel.ns_per_event) ? whole(kernel.ns_per_event) + NARROW_SPACE + "ns" : null],
    ["System calls", isNumber(kernel.syscalls) && isNumber(window.seconds) && window.seconds > 0 ? whole(kernel.syscalls / window.seconds) + "/s, watched or not" : null],
    ["Memory", isNumber(cost.memory_bytes) ? bytes(cost.memory_bytes) : null], ["Resident", isNumber(memory.rss) && memory.rss !== cost.memory_bytes ? bytes(memory.rss) : null],
    ["Of its container", isNumber(memory.container) ? bytes(memory.container) : null],
  ]);
  return found ? card("Cost of Falco", found) : null;
}

function settingsCard(host) {
  const buffers = host.buffers;
  if (!buffers) return null;
  const size = isNumber(buffers.count) && isNumber(buffers.bytes_each) ? grouped(buffers.count) + " \u00d7 " + bytes(buffers.bytes_each) + " = " + bytes(buffers.bytes_total) : null;
  return card("Ring buffers", pairs([["Buffers", size], ["Preset", isThere(buffers.buf_size_preset) ? foreign(buffers.buf_size_preset) : null],
    ["CPUs for each", isThere(buffers.cpus_for_each_buffer) ? foreign(buffers.cpus_for_each_buffer) : null],
    ["Share of memory", isNumber(buffers.bytes_total) && host.memory_bytes > 0 ? percent(100 * buffers.bytes_total / host.memory_bytes) : null]]));
}

function valueOf(value) {
  if (value === null || value === undefined) return make("span.soft", {}, "not set");
  return foreign(value === "" ? "\"\"" : value, "code", 200);
}

// The key of a change, with its kind where it is not a key of Falco's configuration.
function labelOf(change) {
  return change.kind === "config" ? change.key : "(" + change.kind + ") " + change.key;
}

function planCard(host) {
  const plan = host.plan;
  if (!plan) return null;
  const box = card("Plan", plan.restart_required ? make("p", {}, make("span.note.n-restart", {}, "restart"), "The change restarts Falco.") : null);
  const changes = isList(plan.changes);
  if (isThere(plan.reason)) box.append(put(make("p.lines"), plan.reason, 2000, true));
  if (changes.length) {
    box.append(make("table.plan", {}, make("thead", {}, make("tr", {}, ["Setting", "From", "To", "Why"].map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, changes.map((change) => make("tr", {}, make("th", { scope: "row" }, foreign(labelOf(change), "code", 200)), make("td", {}, make("span.tag", {}, "from "), valueOf(change.from)),
        make("td", {}, make("span.tag", {}, "to "), valueOf(change.to)), put(make("td.lines"), isThere(change.why) ? change.why : DASH, 1000, true))))));
  } else if (!isThere(plan.reason)) {
    box.append(hint("No changes are planned."));
  }
  const warnings = isList(plan.warnings);
  if (warnings.length) box.append(make("h3", {}, "Warnings"), make("ul", {}, warnings.map((warning) => put(make("li.lines"), warning, 1000, true))));
  return box;
}

function driftCard(host) {
  const drift = isList(host.drift);
  if (!drift.length) return null;
  return card("Drift", hint("The configuration on disk, the proven one and the running one differ."), make("ul.drift", {}, drift.map((item) => make("li", {},
    make("p", {}, make("span.note.n-drift", {}, foreign(item.kind, "span", 40)), " ", foreign(item.what, "code", 200), ": found ", valueOf(item.found), ", expected ", valueOf(item.expected)),
    isThere(item.advice) ? put(make("p.lines"), item.advice, 1000, true) : null))));
}

// Nested evidence as lines of "place: value".
function flat(value, path = "") {
  if (Array.isArray(value) ? value.some((item) => typeof item === "object") : isPacked(value)) {
    return Object.entries(value).flatMap(([key, inner]) => flat(inner, path ? path + " " + key : key));
  }
  return isThere(value) && !(Array.isArray(value) && !value.length) ? [[path.replaceAll("_", " "), Array.isArray(value) ? value.map(asText).join(", ") : value]] : [];
}

function evidenceValue(word, value) {
  if (isNumber(value)) return /bytes/.test(word) ? bytes(value) : /pid|ticks/.test(word) ? String(value) : Number.isInteger(value) ? whole(value) : short(value);
  return foreign(value, "bdi", 200);
}

function changeCard(host) {
  const change = host.change;
  if (!change) return null;
  const before = change.before;
  const verdict = host.verdict || {};
  const box = card("Last proven change", make("p", {}, when(change.at)));
  if (before) {
    box.append(wide("Before and after", make("table.numbers", {}, make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, "Before"), make("th", { scope: "col" }, "Now"))),
      make("tbody", {}, [["Drops", percent, "drops_percent"], ["Events/s/CPU, as counted", whole, "rate_per_cpu"]].map(([word, say, key]) => make("tr", {},
        make("th", { scope: "row" }, word), make("td", {}, say(before[key])), make("td", {}, say(verdict[key]))))))));
  } else {
    box.append(hint("The host was not measured before the change."));
  }
  const proof = pairs(flat(change.evidence).map(([word, value]) => [word, evidenceValue(word, value)]));
  if (proof) box.append(make("h3", {}, "Evidence"), proof);
  return box;
}

function beforeCard(host) {
  const before = host.previous;
  if (!before) return null;
  const verdict = host.verdict || {};
  return card("Since the last audit", hint("The last audit was at " + when(before.at) + "."), wide("Then and now", make("table.numbers", {}, make("thead", {}, make("tr", {}, make("td"), make("th", { scope: "col" }, "Then"), make("th", { scope: "col" }, "Now"))),
    make("tbody", {}, make("tr", {}, make("th", { scope: "row" }, "State"), make("td", {}, isThere(before.state) ? badge(before.state) : DASH), make("td", {}, badge(host.status === "ok" ? verdict.state || "unmeasured" : host.status))),
      make("tr", {}, make("th", { scope: "row" }, "Drops"), make("td", {}, percent(before.drops_percent)), make("td", {}, percent(verdict.drops_percent))),
      make("tr", {}, make("th", { scope: "row" }, "Events/s/CPU, guide's"), make("td", {}, whole(before.rate_per_cpu_guide)), make("td", {}, whole(verdict.rate_per_cpu_guide)))))));
}

function historyCard(host) {
  const rows = host.history.filter((row) => Array.isArray(row) && isNumber(row[0]));
  const cut = PACKED.history_cut && rows.length >= PACKED.history_cut ? rows.length : 0;
  const now = Date.parse(REPORT.made_at) / 1000;
  const verdict = host.verdict;
  if (rows.length && verdict && now > rows[rows.length - 1][0]) {
    rows.push([now, verdict.state, verdict.drops_percent, verdict.rate_per_cpu_guide, (host.window || {}).seconds]);
  }
  if (!rows.length) return card("History", hint("This is the first audit of this host in the history."));
  const measured = rows.some((row) => isNumber(row[2]) || isNumber(row[3]));
  const place = measured ? make("div.plot.past") : null;
  const box = card("History", place, hint(historyWords(rows)), make("details", {}, make("summary", {}, "The same as a table"), wide("History", historyTable(rows))));
  if (cut) box.append(hint("Only the latest " + cut + " earlier audits are in this page; the JSON report has them all."));
  if (place) box.redraw = () => drawHistory(place, rows);
  return box;
}

function rawCard(host) {
  const text = make("pre", { tabindex: "0" });
  const box = make("details", { toggle: () => { if (box.open && !text.firstChild) put(text, JSON.stringify(host, null, 2), 1e6, true); } }, make("summary", {}, "This host as JSON"), text);
  return make("section.card.raw", {}, box);
}
