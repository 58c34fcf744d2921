// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// How the words of a verdict look. A state has a shape besides its colour. SVG and canvas draw the shapes around 0,0,
// about ten units wide.

const CIRCLE = "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0-8.4 0Z";
const RING = CIRCLE + "M-2.2 0a2.2 2.2 0 1 1 4.4 0a2.2 2.2 0 1 1-4.4 0Z";

// Worst first.
const STATES = [
  ["blind", "Falco sees no events", "M-4.8-2.6L-2.6-4.8L0-2.2L2.6-4.8L4.8-2.6L2.2 0L4.8 2.6L2.6 4.8L0 2.2L-2.6 4.8L-4.8 2.6L-2.2 0Z"],
  ["dropping", "loses events; a next step can help", "M-5-4.2H5L0 5Z"],
  ["overloaded", "loses events; the load is too high for one Falco", "M-5 4.2H5L0-5Z"],
  ["failed", "the audit failed on this host", "M-4.2-4.2H4.2V4.2H-4.2Z"],
  ["unreachable", "could not be reached", "M-5-1.7H5V1.7H-5Z"],
  ["unmeasured", "not measured yet", RING],
  ["no_syscalls", "Falco watches no system calls here, so there is nothing to tune", "M-5-1H5V1H-5Z"],
  ["acceptable", "loses some events, within the policy", "M0-5.2L5.2 0L0 5.2L-5.2 0Z"],
  ["healthy", "loses no events", CIRCLE],
  ["monitored", "not visited: healthy by Prometheus", "M-4.4-4.4H4.4V4.4H-4.4ZM-2.6-2.6V2.6H2.6V-2.6Z"],
];
const STATE = new Map(STATES.map(([key, says, path], rank) => [key, { key, says, path, rank }]));
const STRANGE = { key: "unmeasured", says: "a state that this page does not know", path: RING, rank: 5 };

const BOTTLENECKS = {
  none: "none", buffer: "buffers overflow", starved: "starved of CPU", consumer: "Falco's thread is saturated", cpu_quota: "CPU quota",
  kernel: "in the kernel", outputs: "slow outputs", thread_table: "thread table is full", unknown: "unknown",
};
const STEPS = {
  none: "nothing", measure: "enable metrics", observe: "measure longer", priority: "CPU priority", quota: "raise CPU quota",
  buffers: "larger buffers", syscalls: "fewer system calls", outputs: "faster outputs", thread_table: "larger thread table",
  upgrade: "upgrade Falco", accept: "accept the loss", overloaded: "reduce the load", start: "start Falco", look: "investigate", kernel: "investigate the kernel",
};
const TIERS = ["low", "moderate", "high", "extreme"];

// A word that is not in the table is shown as it is.
function wordOf(table, key) {
  return Object.hasOwn(table, key) ? table[key] : visible(key, 60);
}

function stateOf(key) {
  return STATE.get(key) || STRANGE;
}

function severityOf(key) {
  return stateOf(key).rank;
}

function shapeOf(key, size = 12) {
  const state = stateOf(key);
  const picture = drawn("svg", { class: "shape s-" + state.key, viewBox: "-6 -6 12 12", width: size, height: size, "aria-hidden": "true" });
  picture.append(drawn("path", { d: state.path, "fill-rule": "evenodd" }));
  return picture;
}

function badge(key) {
  return make("span.state.s-" + stateOf(key).key, { title: stateOf(key).says }, shapeOf(key), foreign(key, "span", 24));
}

// Results of a test, of a trial and of a host in a rollout: the state whose shape they have, and their words.
const TESTS = {
  clean: ["healthy", "lost no events"], accepted: ["acceptable", "lost some events, within the accepted share"], dropping: ["dropping", "lost events"],
  aborted: ["unreachable", "was stopped early"], failed: ["failed", "could not run"], skipped: ["unmeasured", "was not run"],
};
const VERDICTS = {
  failed: ["failed", "the trial failed"], aborted: ["unreachable", "the trial was stopped early"], too_busy: ["overloaded", "too busy even for the smallest set"],
  none: ["dropping", "no set passed"], compared: ["healthy", "rules and plugins were compared"], largest: ["healthy", "the largest set that loses no more than accepted"],
};
const OUTCOMES = {
  lost: ["blind", "no result since its change began"], failed: ["failed", "the change failed; nothing was touched"], reverted: ["dropping", "the previous state was put back"],
  staged: ["acceptable", "the change is written and waits for a restart"], skipped: ["unmeasured", "was skipped"], planned: ["unreachable", "has not begun"],
  done: ["healthy", "changed and proven"],
};
const WRONG = ["lost", "failed", "reverted"];

function lookOf(table, key) {
  return Object.hasOwn(table, key) ? table[key][0] : "unmeasured";
}

function saysOf(table, key) {
  return Object.hasOwn(table, key) ? table[key][1] : visible(key, 60);
}

function signOf(table, key, ...words) {
  return make("span.state", { title: saysOf(table, key) }, shapeOf(lookOf(table, key)), words.length ? words : foreign(visible(key, 24).replaceAll("_", " "), "span"));
}
