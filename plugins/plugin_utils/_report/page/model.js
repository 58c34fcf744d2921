// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The report as html.pack() packed it. Strings are "$" + the number of a shared one in base 36, or "=" + themselves
// where they begin with either sign; an object is {"number of its shape": [its values]}, and a list of texts that is there more
// than once is {"@": its number}. Hosts stay packed until they are shown: the table reads its columns from the packed form.

const PACKED = JSON.parse(document.getElementById("report").textContent);

function isPacked(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unpackText(text) {
  if (text[0] === "$") return PACKED.strings[parseInt(text.slice(1), 36)];
  return text[0] === "=" ? text.slice(1) : text;
}

function unpack(value) {
  if (typeof value === "string") return unpackText(value);
  if (Array.isArray(value)) return value.map(unpack);
  if (!isPacked(value)) return value;
  const [number] = Object.keys(value);
  if (number === "@") return PACKED.lists[value[number]].map(unpack);
  // Without a prototype, so that a key named __proto__ is a key.
  const found = Object.create(null);
  PACKED.shapes[number].forEach((key, index) => { found[key] = unpack(value[number][index]); });
  return found;
}

const PLACES = PACKED.shapes.map((keys) => new Map(keys.map((key, index) => [key, index])));

// One value of a packed object, unpacked; null where there is none.
function pick(value, ...path) {
  let here = value;
  for (const key of path) {
    if (!isPacked(here)) return null;
    let found = null;
    for (const number in here) {
      const place = PLACES[number]?.get(key);
      found = place === undefined ? null : here[number][place];
    }
    here = found;
  }
  return here === null || typeof here === "number" || typeof here === "boolean" ? here : unpack(here);
}

const REPORT = unpack(PACKED.report);
const FLEET = REPORT.fleet || {};
const POLICY = REPORT.policy || {};
const COUNT = PACKED.hosts.length;
const LINES = isList(FLEET.lines).filter(isNumber);

function nameSet(list) {
  return new Set(isList(list));
}

const NOTES = [
  ["worse", "worse than before", nameSet((FLEET.since_last || {}).worse)],
  ["better", "better than before", nameSet((FLEET.since_last || {}).better)],
  ["new", "new", nameSet((FLEET.since_last || {}).new)],
  ["drift", "drift", nameSet(FLEET.drifting)],
  ["restart", "restart due", nameSet(FLEET.restart_required)],
  ["breach", "breaks the policy", new Set(isList(FLEET.breaches).flatMap((breach) => isList(breach.hosts)))],
];

function textOrNothing(value) {
  return isThere(value) ? asText(value) : "";
}

function numberOrNothing(value) {
  return isNumber(value) ? value : NaN;
}

// One array a column, by the host's number in the model. Numbers that are not known are NaN, texts "".
const COLUMNS = (() => {
  const columns = {
    name: [], state: [], bottleneck: [], step: [], driver: [], release: [], tier: [], notes: [], kernel: [], unit: [], reason: [],
    drops: new Float64Array(COUNT), rate: new Float64Array(COUNT), cpus: new Float64Array(COUNT), cpu: new Float64Array(COUNT),
    severity: new Uint8Array(COUNT),
  };
  PACKED.hosts.forEach((host, index) => {
    const name = textOrNothing(pick(host, "name"));
    const status = pick(host, "status");
    const state = status === "ok" ? textOrNothing(pick(host, "verdict", "state")) || "unmeasured" : textOrNothing(status);
    columns.name.push(name);
    columns.state.push(state);
    columns.severity[index] = severityOf(state);
    columns.bottleneck.push(textOrNothing(pick(host, "verdict", "bottleneck")));
    columns.step.push(textOrNothing(pick(host, "verdict", "next_step")));
    columns.tier.push(textOrNothing(pick(host, "verdict", "tier")));
    columns.driver.push(textOrNothing(pick(host, "driver")));
    columns.release.push(textOrNothing(pick(host, "release")));
    columns.kernel.push(textOrNothing(pick(host, "kernel")));
    columns.unit.push(textOrNothing(pick(host, "unit")));
    columns.reason.push(textOrNothing(pick(host, "reason")));
    columns.notes.push(NOTES.filter(([, , names]) => names.has(name)).map(([key]) => key));
    columns.drops[index] = numberOrNothing(pick(host, "verdict", "drops_percent"));
    columns.rate[index] = numberOrNothing(pick(host, "verdict", "rate_per_cpu_guide"));
    columns.cpus[index] = numberOrNothing(pick(host, "cpus"));
    columns.cpu[index] = numberOrNothing(pick(host, "verdict", "cost", "falco_cpu_percent"));
  });
  return columns;
})();

const NUMBER_OF = new Map();
COLUMNS.name.forEach((name, index) => { if (!NUMBER_OF.has(name)) NUMBER_OF.set(name, index); });

// The link of a host. Where no address can hold the name, or two hosts have it, the link has the host's number.
function linkOf(index) {
  const name = COLUMNS.name[index];
  try {
    if (NUMBER_OF.get(name) === index) return "#host=" + encodeURIComponent(name);
  } catch { /* half a surrogate pair */ }
  return "#number=" + index;
}

function hostOf(index) {
  const host = unpack(PACKED.hosts[index]);
  host.history = historyOf(host.history);
  return host;
}

// Columns to rows again: {first, steps, states, drops, rates, seconds} → [[unix, state, drops, rate, seconds], …].
function historyOf(packed) {
  if (!packed || !Array.isArray(packed.steps)) return isList(packed);
  let at = packed.first;
  return packed.steps.map((step, index) => {
    at += step;
    return [at, packed.states[index], packed.drops[index], packed.rates[index], packed.seconds[index]];
  });
}
