// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Trials of sets of system calls, and of rules and plugins: hosts against tests, what each costs, and a host's own tests.

const MOST_TRIED = 200;
const MOST_TESTS = 12;

// The numbers of a comparison: key, heading, and how a value is shown.
const COMPARED = [
  ["cpu_per_million", "CPU for 1M events", (value) => short(value) + " s"], ["falco_cpu_percent", "Falco's CPU", (value) => percent(value)],
  ["drops_percent", "Lost", (value) => percent(value)], ["memory_bytes", "Memory", (value) => bytes(value)],
];
const PARTS = [["rules", "rules:"], ["tags", "tags:"], ["files", "files:"], ["plugins", "plugins:"], ["rules_of_plugins", "rules that need plugins:"]];

function withoutWhat(test) {
  const found = PARTS.filter(([key]) => isList(test.without[key]).length);
  if (!found.length) return "the host's own rules and plugins";
  return ["without ", ...found.flatMap(([key, word], index) => [index ? "; " : "", word + " ", isList(test.without[key])[0] === "*" ? "all" : foreign(isList(test.without[key]).map(asText).join(", "), "bdi", 120)])];
}

function chosenBy(test) {
  return isPacked(test) && isPacked(test.without) ? withoutWhat(test) : howChosen(test);
}

// A difference with its sign, and the interval that holds it with 95 %.
function differenceCell(item, shown) {
  if (!isPacked(item) || !isNumber(item.mean)) return make("td", {}, DASH);
  const signed = (value) => (value < 0 ? "\u2212" : value > 0 ? "+" : "") + shown(Math.abs(value));
  return make("td", {}, make("span", {}, signed(item.mean) + (isNumber(item.percent) ? " (" + (item.percent < 0 ? "\u2212" : "") + share(Math.abs(item.percent)) + ")" : "")),
    isNumber(item.low) && isNumber(item.high) ? make("span.under", {}, signed(item.low) + " to " + signed(item.high) + (item.certain === true ? "" : ", not certain")) : null);
}

function comparison(tests) {
  const compared = tests.filter((test) => isPacked(test.difference));
  if (!compared.length) return [];
  return [make("h3", {}, "Differences"), hint("Between runs next to each other in time; below each difference, the interval that holds it with 95 %."),
    wide("Differences", make("table.numbers.sets", {}, make("thead", {}, make("tr", {}, headsOf(["Test", "*Compared with", "Pairs", ...COMPARED.map(([, head]) => head)]))),
      make("tbody", {}, compared.map((test) => make("tr", {}, make("th", { scope: "row" }, foreign(test.name, "bdi", 60)), make("td.words", {}, foreign(test.difference.against, "bdi", 60)),
        make("td", {}, whole(test.difference.pairs)), COMPARED.map(([key, , shown]) => differenceCell(test.difference[key], shown)))))))];
}

function cellOf(test) {
  if (!isPacked(test)) return make("td", {}, DASH);
  const ran = ["clean", "accepted", "dropping"].includes(test.state);
  return make("td", {}, make("span.test", { title: saysOf(TESTS, test.state) }, shapeOf(lookOf(TESTS, test.state)), make("span", {}, ran ? percent(test.drops_percent) : foreign(test.state, "span", 20))),
    ran ? make("span.under", {}, isNumber(test.rate_per_cpu) ? whole(test.rate_per_cpu) + "/s" : DASH) : null);
}

// A heading over words begins with a star.
function headsOf(heads) {
  return heads.map((head) => make(head[0] === "*" ? "th.words" : "th", { scope: "col" }, head.replace("*", "")));
}

function testsOf(trial) {
  return isList(trial.tests).filter(isPacked);
}

function drawTrials() {
  if (REPORT.kind !== "trial") return;
  const tried = [];
  for (let index = 0; index < COUNT; index++) {
    const trial = pick(PACKED.hosts[index], "trial");
    if (isPacked(trial)) tried.push([index, trial]);
  }
  const place = document.getElementById("trials");
  place.hidden = false;
  if (!tried.length) {
    place.append(card("Trials", hint("No host has a trial.")));
    return;
  }
  const order = Object.keys(VERDICTS);
  tried.sort((one, other) => order.indexOf(one[1].verdict) - order.indexOf(other[1].verdict) || collator.compare(COLUMNS.name[one[0]], COLUMNS.name[other[0]]) || one[0] - other[0]);
  const names = [...new Set(tried.flatMap(([, trial]) => testsOf(trial).map((test) => asText(test.name))))];
  place.append(matrixCard(tried, names), setsCard(tried, names));
}

function matrixCard(tried, names) {
  const shown = names.slice(0, MOST_TESTS);
  const first = tried[0][1];
  const box = card("Hosts and sets", hint("The share of events that each set lost, and events/s per CPU as counted. "
    + (isNumber(first.accepted_drops_percent) ? "Up to " + share(first.accepted_drops_percent) + " is accepted." : "")),
  legend(TESTS, tried.flatMap(([, trial]) => testsOf(trial).map((test) => test.state))),
  wide("Hosts and sets", make("table.numbers.matrix", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Host"), make("th.words", { scope: "col" }, "Verdict"), shown.map((name) => make("th", { scope: "col" }, foreign(name, "bdi", 24))))),
    make("tbody", {}, tried.slice(0, MOST_TRIED).map(([index, trial]) => {
      const tests = new Map(testsOf(trial).map((test) => [asText(test.name), test]));
      return make("tr", {}, make("th", { scope: "row" }, make("a", { href: linkOf(index) }, foreign(COLUMNS.name[index] || "(no name)", "bdi", 60))),
        make("td.words", {}, trial.verdict === "largest" && isThere(trial.largest) ? signOf(VERDICTS, trial.verdict, make("span", {}, "largest ", foreign(trial.largest, "bdi", 24))) : signOf(VERDICTS, trial.verdict)),
        shown.map((name) => cellOf(tests.get(name))));
    })))));
  if (tried.length > MOST_TRIED) box.append(hint("The first " + grouped(MOST_TRIED) + " of " + several(tried.length, "host", "hosts") + ", worst first; the CSV file has all."));
  if (names.length > MOST_TESTS) box.append(hint("The first " + MOST_TESTS + " of " + several(names.length, "set", "sets") + "."));
  return box;
}

function legend(table, keys, ...more) {
  const present = new Set(keys);
  return make("p.legend", {}, Object.keys(table).filter((key) => present.has(key)).map((key) => make("span", {}, signOf(table, key), " ", make("span.soft", {}, saysOf(table, key)))), more);
}

function greatest(values) {
  const known = values.filter(isNumber);
  return known.length ? known.reduce((most, value) => Math.max(most, value)) : null;
}

function setsCard(tried, names) {
  const heads = ["Set", "*Selected by", "Passed on", "Most lost", "Falco's CPU", "Memory", "System calls", "Blind", "Half blind"];
  return card("Cost of each set", hint("The largest value of any host. A set passes on a host where it loses no more than accepted."),
    wide("Cost of each set", make("table.numbers.sets", {}, make("thead", {}, make("tr", {}, headsOf(heads))),
      make("tbody", {}, names.slice(0, MOST_TESTS).map((name) => {
        const tests = tried.flatMap(([, trial]) => testsOf(trial).filter((test) => asText(test.name) === name));
        const ran = tests.filter((test) => ["clean", "accepted", "dropping"].includes(test.state));
        return make("tr", {}, make("th", { scope: "row" }, foreign(name, "bdi", 60)), make("td.words", {}, chosenBy(tests[0])),
          make("td", {}, whole(ran.filter((test) => test.state !== "dropping").length) + " of " + whole(ran.length)), ...testCosts({
            drops_percent: greatest(ran.map((test) => test.drops_percent)), falco_cpu_percent: greatest(ran.map((test) => test.falco_cpu_percent)),
            memory_bytes: greatest(ran.map((test) => test.memory_bytes)), calls: greatest(ran.map((test) => isList(test.selected).length)),
            blind: greatest(ran.map((test) => isList(test.rules_blind).length)), half: greatest(ran.map((test) => isList(test.rules_half_blind).length)),
          }));
      })))));
}

function testCosts(of) {
  return [percent(of.drops_percent), percent(of.falco_cpu_percent), bytes(of.memory_bytes), whole(of.calls), whole(of.blind), whole(of.half)].map((text) => make("td", {}, text === "" ? DASH : text));
}

function trialCard(host) {
  const trial = host.trial;
  if (!isPacked(trial)) return null;
  const tests = testsOf(trial);
  const box = card("Trial", make("p", {}, signOf(VERDICTS, trial.verdict, saysOf(VERDICTS, trial.verdict)), trial.verdict === "largest" && isThere(trial.largest) ? [": ", make("b", {}, foreign(trial.largest, "bdi", 60))] : null));
  if (isThere(trial.reason)) box.append(put(make("p.lines"), trial.reason, 2000, true));
  box.append(hint("Run " + (trial.mode === "instead" ? "instead of" : "beside") + " the production Falco, " + when(trial.began) + " to " + when(trial.ended) + "."));
  if (!tests.length) return box;
  const heads = ["Set", "*Result", "Events/s", "Events/s/CPU", "Waited", "Lost", "Falco's CPU", "Memory", "System calls", "Blind", "Half blind"];
  box.append(wide("Tests", make("table.numbers.sets", {}, make("thead", {}, make("tr", {}, headsOf(heads))),
    make("tbody", {}, tests.map((test) => make("tr", {}, make("th", { scope: "row" }, foreign(test.name, "bdi", 60)), make("td.words", {}, signOf(TESTS, test.state)),
      make("td", {}, whole(test.events_per_second)), make("td", {}, whole(test.rate_per_cpu)), make("td", {}, percent(test.falco_wait_percent)), ...testCosts({ ...test,
        calls: isList(test.selected).length || null, blind: ranOf(test) ? isList(test.rules_blind).length : null, half: ranOf(test) ? isList(test.rules_half_blind).length : null })))))),
  ...comparison(tests), ...tests.map(testDetails));
  return box;
}

function ranOf(test) {
  return isList(test.selected).length > 0;
}

function testDetails(test) {
  const lost = Object.entries(isPacked(test.drops_by_category) ? test.drops_by_category : {}).filter(([, number]) => isNumber(number) && number > 0);
  const rules = (names) => (isList(names).length ? make("ul.rules", {}, isList(names).map((name) => make("li", {}, foreign(name, "bdi", 200)))) : null);
  return folded(["More of ", foreign(test.name, "bdi", 60)], isThere(test.reason) ? put(make("p.lines"), test.reason, 2000, true) : null, pairs([
    ["Selected by", chosenBy(test)], ["Observed for", duration(test.seconds)], ["Events", isNumber(test.events) ? whole(test.events) + ", " + whole(test.drops) + " lost" : null],
    ["Lost by category", lost.length ? foreign(lost.map(([name, number]) => name + " " + whole(number)).join(", "), "bdi", 400) : null],
    ["Rules left out", rules(test.rules_removed)], ["Plugins", isList(test.plugins).length ? foreign(isList(test.plugins).map(asText).join(", "), "bdi", 400) : null],
    ["CPU for 1M events", isNumber(test.cpu_per_million) ? short(test.cpu_per_million) + " s" : null],
    ["Runs", isList(test.runs).length > 1 ? isList(test.runs).filter(isPacked).map((run) => (isNumber(run.cpu_per_million) ? short(run.cpu_per_million) + " s" : DASH)).join(", ") + " of CPU for 1M events" : null],
    ["Blind rules", rules(test.rules_blind)], ["Half blind rules", rules(test.rules_half_blind)], ["Wrong output", rules(test.rules_wrong_output)], ["System calls", isList(test.selected).length ? nameList(test.selected) : null],
  ]), ...unseenWays(test.unseen));
}
