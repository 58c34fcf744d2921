// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// What the words of a verdict look like. A state has a shape besides its colour; the shapes are drawn around 0,0, about ten
// wide, by SVG and canvas alike.

const CIRCLE = "M-4.2 0a4.2 4.2 0 1 0 8.4 0a4.2 4.2 0 1 0-8.4 0Z";
const RING = CIRCLE + "M-2.2 0a2.2 2.2 0 1 1 4.4 0a2.2 2.2 0 1 1-4.4 0Z";

// Worst first.
const STATES = [
  ["blind", "Falco sees nothing", "M-4.8-2.6L-2.6-4.8L0-2.2L2.6-4.8L4.8-2.6L2.2 0L4.8 2.6L2.6 4.8L0 2.2L-2.6 4.8L-4.8 2.6L-2.2 0Z"],
  ["dropping", "loses events, and something can be done", "M-5-4.2H5L0 5Z"],
  ["overloaded", "loses events, and the load is too much for one Falco", "M-5 4.2H5L0-5Z"],
  ["failed", "the audit failed there", "M-4.2-4.2H4.2V4.2H-4.2Z"],
  ["unreachable", "could not be reached", "M-5-1.7H5V1.7H-5Z"],
  ["unmeasured", "nothing can be said yet", RING],
  ["acceptable", "loses a little, within the policy", "M0-5.2L5.2 0L0 5.2L-5.2 0Z"],
  ["healthy", "loses nothing", CIRCLE],
];
const STATE = new Map(STATES.map(([key, says, path], rank) => [key, { key, says, path, rank }]));
const STRANGE = { key: "unmeasured", says: "a state that this page doesn't know", path: RING, rank: 5 };

const BOTTLENECKS = {
  none: "none", buffer: "buffers run over", starved: "starved of CPU", consumer: "thread is full", cpu_quota: "CPU quota",
  kernel: "in the kernel", outputs: "slow outputs", thread_table: "thread table full", unknown: "unknown",
};
const STEPS = {
  none: "nothing", measure: "switch on metrics", observe: "measure longer", priority: "CPU priority", quota: "lift CPU quota",
  buffers: "larger buffers", syscalls: "fewer system calls", outputs: "faster outputs", thread_table: "larger thread table",
  upgrade: "upgrade Falco", accept: "accept the loss", overloaded: "less load", start: "start Falco", look: "look closer", kernel: "look at the kernel",
};
const TIERS = ["low", "moderate", "high", "extreme"];

// A word that isn't in the table is shown as it came.
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

// What a test, a trial and a host of a rollout came to: the state whose look it has, and what it says.
const TESTS = {
  clean: ["healthy", "lost nothing"], accepted: ["acceptable", "lost a little, within what is accepted"], dropping: ["dropping", "lost events"],
  aborted: ["unreachable", "was stopped before its time"], failed: ["failed", "could not be run"], skipped: ["unmeasured", "was not run"],
};
const VERDICTS = {
  failed: ["failed", "the trial failed"], aborted: ["unreachable", "the trial was stopped"], too_busy: ["overloaded", "too busy even for the smallest set"],
  none: ["dropping", "no set is kept"], largest: ["healthy", "the largest set without losses, or with what is accepted"],
};
const OUTCOMES = {
  lost: ["blind", "no word since its change began"], failed: ["failed", "the change could not be made"], reverted: ["dropping", "the previous state was put back"],
  staged: ["acceptable", "the change is written and waits for a restart"], skipped: ["unmeasured", "was left out"], planned: ["unreachable", "has not begun"],
  done: ["healthy", "changed, and proven"],
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
