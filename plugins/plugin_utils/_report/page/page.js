// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The address after # says which page is shown: "#host=NAME" is a host; "#q=…&state=…&sort=…" is the fleet with its table
// filtered and sorted like that. So links can be shared, and the back button works.

const TITLE = document.title;
let scrolled = 0;
let shownHost = null;

function fleetHash() {
  const told = new URLSearchParams();
  for (const [key, value] of Object.entries(START)) if (view[key] !== value) told.set(key, view[key]);
  return "#" + (String(told) || "all");
}

// The address follows the table. Typing does not add an entry a letter to the browser's history.
function remember() {
  try {
    history.replaceState(null, "", fleetHash());
  } catch { /* too many a second: the next one will tell */ }
}

function route() {
  // "+" is a plus sign in a name: only what this page encoded is decoded.
  const text = location.hash.slice(1);
  const index = text.startsWith("host=") ? NUMBER_OF.get(decoded(text.slice(5))) : text.startsWith("number=") ? Number(text.slice(7)) : null;
  const problem = document.getElementById("problem");
  problem.hidden = true;
  if (index !== null && Number.isInteger(index) && index >= 0 && index < COUNT) {
    openHost(index);
    return;
  }
  if (index !== null) {
    problem.hidden = false;
    problem.replaceChildren("This report has no host ", make("b", {}, foreign(text.startsWith("host=") ? decoded(text.slice(5)) : "number " + text.slice(7))), ". It has these hosts:");
  }
  const asked = new URLSearchParams(index === null ? text : "");
  openFleet(Object.fromEntries(Object.entries(START).map(([key, value]) => [key, asked.get(key) ?? value])));
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function openFleet(asked) {
  const from = shownHost;
  shownHost = null;
  document.getElementById("host").hidden = true;
  document.getElementById("fleet").hidden = false;
  document.title = TITLE;
  show(asked);
  if (chart.stale) drawChart();
  drawWay();
  redrawRollout();
  if (from === null) return;
  window.scrollTo(0, scrolled);
  document.querySelector("#rows tr[data-number=\"" + from + "\"] a")?.focus({ preventScroll: true });
}

function openHost(index) {
  if (shownHost === null) scrolled = window.scrollY;
  shownHost = index;
  document.getElementById("fleet").hidden = true;
  const place = document.getElementById("host");
  theHost(index);
  place.hidden = false;
  redraw();
  document.title = visible(COLUMNS.name[index], 80) + " \u00b7 " + TITLE;
  window.scrollTo(0, 0);
  place.querySelector("h1").focus({ preventScroll: true });
}

function redraw() {
  if (shownHost === null) {
    drawChart();
    drawWay();
    redrawRollout();
    return;
  }
  chart.stale = true;
  for (const box of document.querySelectorAll("#host section")) box.redraw?.();
}

// In print: light, without controls, and with more than one page of the table.
function setUpPrinting() {
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    redraw();
    if (shownHost === null) drawRows(true);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    redraw();
    if (shownHost === null) drawRows();
  });
}

function start() {
  if ("scrollRestoration" in history) history.scrollRestoration = "manual";
  drawHead();
  drawBreaches();
  drawStates();
  drawRules();
  drawWeights();
  drawPercentiles();
  drawCounts("steps", "step", STEPS, "No host needs a next step.");
  drawCounts("bottlenecks", "bottleneck", BOTTLENECKS, "No host has a bottleneck.");
  drawSince();
  setUpWay();
  setUpChart();
  setUpTable();
  setUpPrinting();
  drawTrials();
  document.getElementById("looked").hidden = !["trial", "rollout"].includes(REPORT.kind);
  // Hosts that were not measured have only the results of the rollout or the trial.
  document.getElementById("measured").hidden = ["trial", "rollout"].includes(REPORT.kind) && !(FLEET.percentiles || {}).measured;
  listed = sorted(filtered());
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    const target = shownHost === null ? document.getElementById("hosts-title") : document.querySelector("#host h1");
    target.focus();
    target.scrollIntoView();
  });
  addEventListener("hashchange", route);
  let waiting = 0;
  addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(redraw); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  drawRollout();
  route();
  performance.mark("falcotune-interactive");
}

start();
