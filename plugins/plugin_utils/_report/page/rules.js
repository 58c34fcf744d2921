// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// What rules cost Falco's thread, and what is wrong with them: one host, and the fleet with each finding once.

const MOST_WEIGHTS = 25;
const MOST_FINDINGS = 100;
const SERIOUS = ["error", "warning"];

function costOf(weight) {
  if (isNumber(weight.percent)) return share(weight.percent) + " of a core";
  return isNumber(weight.ns) ? whole(weight.ns) + " ns an event" : DASH;
}

function weightRows(weights) {
  const most = Math.max(...weights.map((weight) => (isNumber(weight.share) ? weight.share : 0)), 0.01);
  return weights.map((weight) => {
    const length = make("span.length", { "aria-hidden": "true" });
    length.style.width = Math.max(100 * (isNumber(weight.share) ? weight.share : 0) / most, 1) + "%";
    const events = isList(weight.events);
    const kinds = isList(weight.findings).map(asText);
    return make("tr", {}, make("th", { scope: "row" }, foreign(weight.rule, "bdi", 100), make("span.track", {}, length)),
      make("td", {}, isNumber(weight.share) ? share(weight.share) : DASH), make("td", {}, costOf(weight)),
      make("td", {}, isNumber(weight.ns) ? whole(weight.ns) : DASH), make("td", {}, isNumber(weight.rate) ? whole(weight.rate) : DASH),
      make("td.words", {}, events.length ? foreign(events.slice(0, 6).map(asText).join(", ") + (events.length > 6 ? ", \u2026" : ""), "code", 120) : "every event"),
      make("td.words", {}, kinds.length ? foreign(kinds.join(", "), "span", 120) : DASH));
  });
}

function weightTable(label, weights) {
  return wide(label, make("table.numbers.weights", {}, make("thead", {}, make("tr", {}, headsOf(["Rule", "Share", "Removing it saves", "ns an event", "Events/s", "*Event types", "*Findings"]))),
    make("tbody", {}, weightRows(weights))));
}

function findingList(findings) {
  return make("ul.rules", {}, findings.slice(0, MOST_FINDINGS).map((item) => make("li.lines", {},
    make("strong", {}, foreign(item.kind, "span", 40)), " ", isThere(item.rule) ? foreign(item.rule, "bdi", 200) : null,
    make("span.soft", {}, ": ", foreign(item.text, "span", 600), " "), foreign(item.instead, "span", 400),
    isNumber(item.saves_percent) ? " Saves up to " + share(item.saves_percent) + " of a core." : isNumber(item.saves_ns) ? " Saves up to " + whole(item.saves_ns) + " ns an event." : null,
    item.hosts ? make("span.note", {}, several(item.hosts, "host", "hosts")) : null)));
}

function rulesCard(host) {
  const audit = host.rules;
  if (!isPacked(audit)) return null;
  const weights = isList(audit.weights).filter(isPacked);
  const findings = isList(audit.findings).filter(isPacked);
  const box = card("Rules by weight", pairs([
    ["Rules", isNumber(audit.rules_enabled) ? whole(audit.rules_enabled) + " of " + whole(audit.rules_total) + " enabled" : null],
    ["All rules together", isNumber(audit.percent) ? share(audit.percent) + " of a core" : null],
    ["Events a second", audit.basis === "profile" ? "counted on the host" : "not known: weights are for one event"],
    ["Cost of checks", isThere(audit.cost) ? foreign(audit.cost, "span", 200) : null],
    ["Version", isThere(audit.digest) ? foreign(asText(audit.digest).slice(0, 12), "code", 12) : null],
  ]));
  if (weights.length) box.append(weightTable("Rules by weight", weights));
  if (findings.length) box.append(make("h3", {}, "Findings ", make("span.many", {}, whole(findings.length))), findingList(findings));
  return box;
}

// On the fleet's page: the versions of the rules, each finding once, and the heaviest rules of any host.
function drawWeights() {
  const versions = new Map(), found = new Map(), heaviest = new Map();
  let hosts = 0;
  for (let index = 0; index < COUNT; index++) {
    const audit = pick(PACKED.hosts[index], "rules");
    if (!isPacked(audit)) continue;
    hosts++;
    const digest = asText(audit.digest);
    versions.set(digest, [...(versions.get(digest) || []), COLUMNS.name[index]]);
    for (const item of isList(audit.findings).filter(isPacked)) {
      if (!SERIOUS.includes(item.level)) continue;
      const key = JSON.stringify([item.kind, item.rule, item.text]);
      const known = found.get(key) || { ...item, hosts: 0 };
      known.hosts++;
      if (isNumber(item.saves_percent) && !(known.saves_percent >= item.saves_percent)) known.saves_percent = item.saves_percent;
      found.set(key, known);
    }
    for (const weight of isList(audit.weights).filter(isPacked)) {
      const known = heaviest.get(asText(weight.rule));
      if (!known || (weight.percent || 0) > (known.percent || 0) || (!weight.percent && (weight.share || 0) > (known.share || 0))) heaviest.set(asText(weight.rule), weight);
    }
  }
  if (!hosts) return;
  const place = document.getElementById("weights");
  place.hidden = false;
  const sorted = [...versions.values()].sort((one, other) => other.length - one.length);
  place.append(hint(several(hosts, "host", "hosts") + " with " + several(sorted.length, "version of the rules", "versions of the rules") + "."));
  if (sorted.length > 1) place.append(make("h3", {}, "Other rules than most hosts"), hostLinks(sorted.slice(1).flat()));
  const order = [...heaviest.values()].sort((one, other) => (other.percent || 0) - (one.percent || 0) || (other.share || 0) - (one.share || 0)).slice(0, MOST_WEIGHTS);
  if (order.length) place.append(make("h3", {}, "Rules by weight"), hint("Of each rule, the host where it is heaviest."), weightTable("Rules by weight on the fleet", order));
  const findings = [...found.values()].sort((one, other) => (other.saves_percent || 0) - (one.saves_percent || 0) || other.hosts - one.hosts);
  if (findings.length) place.append(make("h3", {}, "Findings ", make("span.many", {}, whole(findings.length))), findingList(findings));
}
