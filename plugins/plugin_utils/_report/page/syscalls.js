// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The system calls that a host watches, and why: possible exclusions in order, what each saves and which rules it costs.

const FRONTIER = { left: 40, right: 14, top: 24, tall: 130, bottom: 36 };
const BASES = {
  profile: "calls that were counted on the host", drops: "what Falco lost, by category", none: "no measurement: savings are unknown",
};

function nameList(names, most = 400) {
  const list = isList(names);
  return make("p.calls", {}, list.slice(0, most).flatMap((name) => [foreign(name, "code", 60), " "]), list.length > most ? "and " + grouped(list.length - most) + " more" : null);
}

function folded(title, ...children) {
  return make("details", {}, make("summary", {}, title), ...children);
}

function howChosen(set) {
  const parts = [];
  if (set.all) parts.push("every system call (-A)");
  if (set.repair) parts.push("repair");
  const custom = isList(set.custom_set);
  if (custom.length) parts.push(["custom set ", foreign(custom.map(asText).join(" "), "code", 120)]);
  return parts.length ? parts.flatMap((part, index) => [index ? ", " : "", part]) : "what the rules and Falco's state need";
}

function volume(part) {
  const found = isPacked(part) ? part : {};
  return (isNumber(found.events_per_second) ? whole(found.events_per_second) + " events/s" : "unknown") + (isNumber(found.syscalls) ? " by " + several(found.syscalls, "system call", "system calls") : "");
}

// The share of the events that is saved; null where either rate is unknown.
function savedBy(before, rate) {
  return isNumber(before) && before > 0 && isNumber(rate) ? Math.max(0, 100 * (1 - rate / before)) : null;
}

function syscallsCard(host) {
  const chosen = host.syscalls;
  if (!isPacked(chosen)) return null;
  const [before, after, coverage] = [chosen.before, chosen.after, chosen.coverage].map((part) => (isPacked(part) ? part : {}));
  const saved = savedBy(before.events_per_second, after.events_per_second);
  const box = card("System calls", pairs([
    ["Selected by", howChosen(chosen)], ["Based on", wordOf(BASES, chosen.basis)], ["Before", volume(before)],
    ["With the selection", volume(after) + (isNumber(saved) ? ", " + share(saved) + " saved" : "")],
    ["Target", isNumber(chosen.target_events_per_second) ? whole(chosen.target_events_per_second) + " events/s" + (chosen.reached === true ? ", reached"
      : chosen.reached === false ? ", not reached: the policy allows no further exclusions" : "") : null],
    ["Excluded", isList(chosen.removed).length ? nameList(chosen.removed) : null], ["Added", isList(chosen.added).length ? nameList(chosen.added) : null],
    ["Rules that lose nothing", rulesLeft(coverage)],
  ]));
  box.append(...dimmedRules("Blind rules", "They see none of their system calls, or nothing that makes the descriptors they look for.", coverage.blind),
    ...dimmedRules("Half blind rules", "They see some of their system calls, or not all ways to the values that they read.", coverage.half_blind),
    ...dimmedRules("Wrong output", "They fire as they should, but fields of their output can be missing or wrong.", coverage.wrong_output), ...unseenWays(coverage.unseen));
  addFrontier(box, chosen, before.events_per_second);
  const selected = isList(chosen.selected);
  if (selected.length) box.append(folded("The " + several(selected.length, "selected system call", "selected system calls"), nameList(selected)));
  const warnings = isList(chosen.warnings);
  if (warnings.length) box.append(make("h3", {}, "Warnings"), make("ul", {}, warnings.map((warning) => put(make("li.lines"), warning, 1000, true))));
  return box;
}

// What rules see with the selection in force, whoever configured it.
function sightCard(host) {
  const sight = host.sight;
  if (!isPacked(sight) || sight.basis === "default") return null;
  if (sight.basis === "unknown") return card("What rules see now", put(make("p.lines"), "Not known: " + asText(sight.reason), 1000, true));
  const lists = [["Blind", sight.blind], ["Half blind", sight.half_blind], ["Wrong output", sight.wrong_output]];
  const box = card("What rules see now", hint(sight.basis === "record" ? "As the last tune worked out for this selection." : "By the host's rules and what its Falco selects."));
  const some = lists.some(([, names]) => isList(names).length);
  box.append(...(some ? [] : [make("p", {}, "No rule sees less than by default.")]), pairs(lists.map(([title, names]) => [title, isList(names).length ? make("ul.rules", {}, isList(names).map((name) => make("li", {}, foreign(name, "bdi", 200)))) : null])),
    ...unseenWays(sight.unseen));
  return box;
}

// Each way once, in the words of whoever looks into an alert, with the rules that do not see it.
function unseenWays(ways) {
  const list = isList(ways).filter(isPacked);
  if (!list.length) return [];
  return [make("h3", {}, "What is not seen ", make("span.many", {}, whole(list.length))), make("ul.rules.unseen", {}, list.map((one) => make("li", {}, foreign(one.way, "bdi", 300),
    make("span.soft", {}, " ", foreign(isList(one.calls).map(asText).join(" or "), "code", 100)),
    one.false_alarms === true ? [" ", make("span.note.n-worse", {}, "false alarms possible")] : null,
    folded([several(isList(one.rules).length, "rule", "rules"), one.false_alarms === true && isList(one.fields).length ? [", wrong values in ", foreign(isList(one.fields).map(asText).join(", "), "code", 200)] : null],
      make("ul.rules", {}, isList(one.rules).map((name) => make("li", {}, foreign(name, "bdi", 200))))))))];
}

function rulesLeft(coverage) {
  if (!isNumber(coverage.rules_total)) return null;
  return whole(Math.max(0, coverage.rules_total - isList(coverage.blind).length - isList(coverage.half_blind).length - isList(coverage.wrong_output).length)) + " of " + whole(coverage.rules_total);
}

function dimmedRules(title, says, items) {
  const rules = isList(items).filter(isPacked);
  if (!rules.length) return [];
  return [make("h3", {}, title, " ", make("span.many", {}, whole(rules.length))), hint(says), make("ul.rules", {}, rules.map((item) => make("li", {}, foreign(item.rule, "bdi", 200),
    !isList(item.lost).length ? null : make("span.soft", {}, " lost ", foreign(isList(item.lost).map(asText).join(", "), "code", 200),
      isList(item.left).length ? [", keeps ", foreign(isList(item.left).map(asText).join(", "), "code", 200)] : null))))];
}

function addFrontier(box, chosen, rate) {
  if (chosen.frontier === null) box.append(hint("Further exclusions are in the JSON report; this page has them for the " + grouped(1000) + " worst hosts."));
  const steps = isList(chosen.frontier).filter(isPacked);
  if (!steps.length) return;
  const excluded = isList(chosen.custom_set).map(asText).filter((name) => name.startsWith("!")).map((name) => name.slice(1));
  const rows = steps.map((step, index) => ({ ...step, blind: isNumber(step.rules_blind) ? step.rules_blind : 0, half: isNumber(step.rules_half_blind) ? step.rules_half_blind : 0,
    saved: savedBy(rate, step.events_per_second), fresh: isList(step.exclude).filter((name) => index === 0 || !isList(steps[index - 1].exclude).includes(name)),
    taken: sameSet(step.exclude, excluded) }));
  box.append(make("h3", {}, "Possible exclusions"), hint("Each step excludes one more system call: what it saves, and the rules that lose events."));
  if (rows.filter((row) => isNumber(row.saved)).length > 1) {
    const place = make("div.plot.past");
    box.append(place);
    box.redraw = () => drawFrontier(place, rows, savedBy(rate, chosen.target_events_per_second));
  }
  box.append(wide("Possible exclusions", make("table.numbers.frontier", {}, make("thead", {}, make("tr", {}, headsOf(["Also excluded", "Events/s", "Saved", "Blind", "Half blind", "*Rules that lose events"]))),
    make("tbody", {}, rows.map((row) => make("tr", {}, make("th", { scope: "row" }, nameList(row.fresh, 12), row.taken ? make("span.note.n-better", {}, "chosen") : null),
      make("td", {}, whole(row.events_per_second)), make("td", {}, share(row.saved)), make("td", {}, whole(row.rules_blind)), make("td", {}, whole(row.rules_half_blind)),
      make("td.words", {}, isList(row.lost).length ? foreign(isList(row.lost).map(asText).join(", "), "bdi", 400) : DASH)))))));
}

function sameSet(one, other) {
  const [first, second] = [new Set(isList(one)), new Set(isList(other))];
  return first.size > 0 && first.size === second.size && [...first].every((name) => second.has(name));
}

// To the right the share of events saved, upwards the rules that it costs: blind ones as a line, half blind ones above it.
function drawFrontier(place, rows, target) {
  const width = Math.max(260, Math.min(640, Math.floor(place.clientWidth)));
  const height = FRONTIER.top + FRONTIER.tall + FRONTIER.bottom;
  const floor = FRONTIER.top + FRONTIER.tall;
  const shown = rows.filter((row) => isNumber(row.saved));
  const most = Math.max(1, ...shown.map((row) => row.blind + row.half));
  const across = (saved) => FRONTIER.left + saved / 100 * (width - FRONTIER.left - FRONTIER.right);
  const up = (rules) => floor - rules / most * (FRONTIER.tall - 6);
  const picture = drawn("svg", { class: "history", width, height, viewBox: "0 0 " + width + " " + height, role: "img" });
  const last = shown[shown.length - 1];
  picture.append(drawn("title", {}, "Events saved against rules lost"), drawn("desc", {}, several(shown.length, "step", "steps") + ", which save up to " + share(last.saved)
    + " and leave up to " + several(last.blind, "rule", "rules") + " blind and " + whole(last.half) + " half blind."), drawn("text", { class: "name", x: 0, y: 12 }, "Rules lost"));
  const step = Math.max(1, Math.ceil(most / 4));
  for (let mark = 0; mark <= most; mark += step) {
    picture.append(drawn("line", { class: "grid", x1: FRONTIER.left, x2: width - FRONTIER.right, y1: up(mark), y2: up(mark) }), drawn("text", { x: FRONTIER.left - 7, y: up(mark) + 4, "text-anchor": "end" }, whole(mark)));
  }
  for (const mark of [0, 25, 50, 75, 100]) picture.append(drawn("text", { x: across(mark), y: floor + 17, "text-anchor": mark === 100 ? "end" : "middle" }, mark + "%"));
  picture.append(drawn("text", { x: width - FRONTIER.right, y: floor + 32, "text-anchor": "end" }, "of the events saved"));
  if (isNumber(target) && target > 0) {
    picture.append(drawn("line", { class: "mark", x1: across(target), x2: across(target), y1: FRONTIER.top - 6, y2: floor }),
      drawn("text", { x: across(target), y: FRONTIER.top - 10, "text-anchor": target > 85 ? "end" : "middle" }, "target"));
  }
  let both = "M" + across(0) + " " + floor, blind = both;
  for (const row of shown) {
    both += "H" + across(row.saved).toFixed(1) + "V" + up(row.blind + row.half).toFixed(1);
    blind += "H" + across(row.saved).toFixed(1) + "V" + up(row.blind).toFixed(1);
  }
  picture.append(drawn("path", { class: "half", d: both }), drawn("path", { class: "rate", d: blind }));
  for (const row of shown) {
    const dot = drawn("circle", { class: row.taken ? "taken" : "dot", cx: across(row.saved).toFixed(1), cy: up(row.blind).toFixed(1), r: row.taken ? 6 : 3 });
    dot.append(drawn("title", {}, "without " + visible(row.fresh.map(asText).join(", "), 80) + ": " + share(row.saved) + " saved, " + whole(row.blind) + " blind, " + whole(row.half) + " half blind"));
    picture.append(dot);
  }
  place.replaceChildren(picture, make("p.legend", {}, make("span.l-rate", {}, "blind"), make("span.l-half", {}, "blind or half blind"),
    rows.some((row) => row.taken) ? make("span.l-taken", {}, "chosen") : null));
}

// On the fleet's page: the rules, and on how many hosts.
function drawRules() {
  const found = new Map();
  let hosts = 0;
  for (const host of PACKED.hosts) {
    const rules = pick(host, "syscalls", "coverage", "blind");
    if (isList(rules).length) hosts++;
    for (const item of isList(rules)) found.set(asText(item.rule), (found.get(asText(item.rule)) || 0) + 1);
  }
  if (!found.size) return;
  const place = document.getElementById("rules");
  place.hidden = false;
  const order = byCount(found);
  const list = make("ul.counts");
  for (const [rule, number] of order.slice(0, MOST_NAMES)) {
    const length = make("span.length", { "aria-hidden": "true" });
    length.style.width = Math.max(100 * number / order[0][1], 1) + "%";
    list.append(make("li", {}, make("div.row", {}, foreign(rule, "bdi", 100), make("span.track", {}, length), make("span.number", {}, whole(number)))));
  }
  place.append(hint("On " + several(hosts, "host", "hosts") + " the plan excludes all system calls that these rules need."), list);
  if (order.length > MOST_NAMES) place.append(hint("and " + grouped(order.length - MOST_NAMES) + " more"));
}
