// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A rollout: where it stands in one line, the timeline, and the same as tables.

const MOST_LISTED = 300;
const ENDS = { finished: ["healthy", "finished"], stopped: ["blind", "stopped"], awaiting_promotion: ["overloaded", "waits for promotion"] };
const rolled = { timeline: null, hosts: new Map() };

function batchesOf(rollout) {
  return isList(rollout.batches).filter(isPacked);
}

function sum(values) {
  return values.filter(isNumber).reduce((total, value) => total + value, 0);
}

function drawRollout() {
  const rollout = REPORT.rollout;
  if (!isPacked(rollout)) return;
  const place = document.getElementById("rollout");
  place.hidden = false;
  const hosts = [];
  for (const batch of batchesOf(rollout)) for (const host of isList(batch.hosts).filter(isPacked)) hosts.push([host, batch]);
  for (const [host, batch] of hosts) rolled.hosts.set(host.name, [host, batch]);
  rolled.timeline = make("div.plot");
  place.append(standing(rollout, hosts),
    card("Timeline", legend(OUTCOMES, hosts.filter(([host]) => isMoment(host.began)).map(([host]) => host.outcome), make("span.l-dark", {}, "blind")), rolled.timeline),
    make("div.columns", {}, wrongCard(hosts), plannedCard(rollout, hosts)), batchCard(rollout), domainCard(rollout), restCard(rollout), everyHost(hosts));
}

function redrawRollout() {
  if (rolled.timeline) drawTimeline(rolled.timeline, REPORT.rollout);
}

function tile(word, value, kind) {
  return make("div" + (kind ? "." + kind : ""), {}, make("dt", {}, word), make("dd", {}, value));
}

function standing(rollout, hosts) {
  const [planned, budget] = [rollout.planned, rollout.budget].map((part) => (isPacked(part) ? part : {}));
  const found = counted(hosts.map(([host]) => host.outcome));
  const wrong = WRONG.filter((key) => found.get(key)).map((key) => whole(found.get(key)) + " " + key);
  const blind = isList(rollout.domains).filter(isPacked).filter((domain) => isNumber(domain.most_blind)).sort((one, other) => other.most_blind - one.most_blind)[0];
  const took = isNumber(rollout.began) && isNumber(rollout.ended) ? duration(Math.max(0, rollout.ended - rollout.began)) : null;
  const box = make("section.card.standing", { "aria-label": "Where the rollout stands" }, make("dl.tiles", {},
    tile("Rollout", signOf(ENDS, rollout.state, saysOf(ENDS, rollout.state))),
    tile("Changed", whole(found.get("done") || 0) + " of " + whole(isNumber(planned.changing) ? planned.changing : hosts.length)),
    tile("Failed hosts", wrong.length ? wrong.join(", ") : "none"), tile("Left", whole(isList(rollout.left).length)),
    tile("Failures", whole(budget.used) + " of " + whole(budget.allowed) + " allowed"), tile("Blind in all", duration(sum(hosts.map(([host]) => host.blind_seconds)))),
    tile("Most blind at once", blind ? [whole(blind.most_blind) + " of " + whole(blind.allowed) + " allowed in ", foreign(blind.name, "bdi", 40)] : DASH)));
  if (isThere(rollout.reason)) box.append(put(make("p.lines"), rollout.reason, 2000, true));
  box.append(hint(foreign(rollout.id, "bdi", 80), ": " + when(rollout.began) + " to " + when(rollout.ended) + (took ? ", " + took : "") + "."));
  return box;
}

function plannedCard(rollout, hosts) {
  const planned = isPacked(rollout.planned) ? rollout.planned : {};
  const found = pairs([
    ["Hosts", whole(planned.hosts)], ["Need a change", whole(planned.changing)], ["Already as planned", whole(planned.converged)], ["Refused", whole(planned.refused)],
    ["Not reached", whole(planned.unreachable)], ["Restarts", whole(planned.restarts)],
    ["Blind, expected", isNumber(planned.blind_seconds) ? duration(planned.blind_seconds) + "; measured " + duration(sum(hosts.map(([host]) => host.blind_seconds))) : null],
    ["Memory", isNumber(planned.bytes) ? (planned.bytes > 0 ? "+" : "") + bytes(planned.bytes) : null], ["Rules lost", whole(planned.rules_lost)],
  ]);
  return found && card("Plan", found);
}

function wrongCard(hosts) {
  const wrong = hosts.filter(([host]) => WRONG.includes(host.outcome));
  if (!wrong.length) return card("Failed hosts", hint("No host failed."));
  const box = card("Failed hosts", make("ul.drift", {}, wrong.slice(0, 50).map(([host, batch]) => make("li", {}, make("p", {}, hostLink(host.name), " ",
    signOf(OUTCOMES, host.outcome), make("span.soft", {}, " in batch ", foreign(batch.number, "span", 20))), put(make("p.lines"), isThere(host.reason) ? host.reason : "No reason was given.", 1000, true)))));
  if (wrong.length > 50) box.append(hint("and " + grouped(wrong.length - 50) + " more; the CSV file has all."));
  return box;
}

function hostLink(name) {
  const number = NUMBER_OF.get(name);
  return number === undefined ? foreign(name, "bdi", 60) : make("a", { href: linkOf(number) }, foreign(name, "bdi", 60));
}

function batchCard(rollout) {
  const batches = batchesOf(rollout);
  if (!batches.length) return card("Batches", hint("None has begun."));
  const present = Object.keys(OUTCOMES).filter((key) => batches.some((batch) => isList(batch.hosts).some((host) => host?.outcome === key)));
  const heads = ["Batch", "Began", "Took", "Hosts", ...present, "Blind in all", "Blind at most"];
  const box = card("Batches", wide("Batches", make("table.numbers.sets", {}, make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, batches.slice(-MOST_LISTED).map((batch) => {
      const hosts = isList(batch.hosts).filter(isPacked);
      const found = counted(hosts.map((host) => host.outcome));
      return make("tr", {}, make("th", { scope: "row" }, batch.stage === "canary" ? "canary " : null, foreign(batch.number, "span", 20)), make("td", {}, when(batch.began)),
        make("td", {}, isNumber(batch.began) && isNumber(batch.ended) ? duration(Math.max(0, batch.ended - batch.began)) : DASH), make("td", {}, whole(hosts.length)),
        present.map((key) => make("td", {}, found.get(key) ? whole(found.get(key)) : DASH)), make("td", {}, duration(sum(hosts.map((host) => host.blind_seconds)))),
        make("td", {}, duration(greatest(hosts.map((host) => host.blind_seconds)))));
    })))));
  if (batches.length > MOST_LISTED) box.append(hint("The last " + MOST_LISTED + " of " + several(batches.length, "batch", "batches") + "."));
  return box;
}

function domainCard(rollout) {
  const domains = isList(rollout.domains).filter(isPacked).sort((one, other) => (other.most_blind || 0) - (one.most_blind || 0) || collator.compare(asText(one.name), asText(other.name)));
  if (!domains.length) return make("div", { hidden: true });
  const box = card("Failure domains", wide("Failure domains", make("table.numbers", {}, make("thead", {}, make("tr", {}, ["Domain", "Hosts", "May be blind at once", "Were, at most"].map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, domains.slice(0, MOST_LISTED).map((domain) => make("tr", {}, make("th", { scope: "row" }, foreign(domain.name, "bdi", 60)), make("td", {}, whole(domain.hosts)), make("td", {}, whole(domain.allowed)),
      make("td", {}, whole(domain.most_blind), domain.most_blind > domain.allowed ? [" ", make("span.note.n-worse", {}, "too many")] : null)))))));
  if (domains.length > MOST_LISTED) box.append(hint("The first " + MOST_LISTED + " of " + several(domains.length, "domain", "domains") + "."));
  return box;
}

function restCard(rollout) {
  const down = isList(rollout.down).filter(isPacked);
  const left = isList(rollout.left);
  if (!down.length && !left.length) return make("div", { hidden: true });
  return make("div.columns", {}, left.length ? card("Left", hint("They still need the change; the next run goes on with them."), hostLinks(left, 20)) : null,
    down.length ? card("Down before it began", make("ul.drift", {}, down.slice(0, 20).map((item) => make("li", {}, hostLink(item.name), isThere(item.reason) ? [": ", foreign(item.reason, "span", 300)] : null))),
      down.length > 20 ? hint("and " + grouped(down.length - 20) + " more") : null) : null);
}

// Made when it is opened: nobody reads all of 5 000 hosts.
function everyHost(hosts) {
  const place = make("div");
  const box = make("details", { toggle: () => { if (box.open && !place.firstChild) place.append(hostTable(hosts)); } }, make("summary", {}, "Every host of the rollout"), place);
  return make("section.card.raw", {}, box);
}

function hostTable(hosts) {
  const heads = ["Host", "Batch", "*Outcome", "Blind", "Began", "Took", "*Domain", "*Class", "*Evidence"];
  const found = wide("Every host of the rollout", make("table.numbers.sets", {}, make("thead", {}, make("tr", {}, headsOf(heads))),
    make("tbody", {}, hosts.slice(0, MOST_LISTED).map(([host, batch]) => make("tr", {}, make("th", { scope: "row" }, hostLink(host.name)), make("td", {}, foreign(batch.number, "span", 20)),
      make("td.words", {}, signOf(OUTCOMES, host.outcome)), make("td", {}, duration(host.blind_seconds)), make("td", {}, when(host.began, 19)), make("td", {}, tookOf(host)),
      make("td.words", {}, isThere(host.domain) ? foreign(host.domain, "bdi", 60) : DASH), make("td.words", {}, foreign(host.class, "bdi", 60)), make("td.words", {}, isThere(host.evidence) ? foreign(host.evidence, "bdi", 200) : DASH))))));
  return make("div", {}, found, hosts.length > MOST_LISTED ? hint("The first " + MOST_LISTED + " of " + several(hosts.length, "host", "hosts") + "; the CSV file has them all.") : null);
}

function tookOf(host) {
  return isNumber(host.began) && isNumber(host.ended) ? duration(Math.max(0, host.ended - host.began)) : DASH;
}

// On the page of a host of the rollout.
function rolloutCard(name) {
  const found = rolled.hosts.get(name);
  if (!found) return null;
  const [host, batch] = found;
  return card("In this rollout", make("p", {}, signOf(OUTCOMES, host.outcome, saysOf(OUTCOMES, host.outcome))), isThere(host.reason) ? put(make("p.lines"), host.reason, 2000, true) : null,
    pairs([["Batch", foreign(batch.number, "span", 20)], ["Began", when(host.began, 19)], ["Took", tookOf(host)], ["Blind for", duration(host.blind_seconds)],
      ["Domain", isThere(host.domain) ? foreign(host.domain, "bdi", 60) : null], ["Class", isThere(host.class) ? foreign(host.class, "bdi", 60) : null],
      ["Evidence", isThere(host.evidence) ? foreign(host.evidence, "bdi", 300) : null]]));
}
