// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A rollout in time: a row a batch, a bar a host, all on one axis on which nothing but waiting is shortened. Of a large
// rollout not every bar is drawn: those that went wrong come first, then those that were blind for longest.

const TIME = { label: 20, bar: 10, lane: 13, gap: 7, axis: 34, blank: 40, least: 4, sign: 14 };
const MOST_BARS = 400;
const MOST_LANES = 16;
const MOST_ROWS = 200;
const LAST_SECOND = 8.64e12; // of what a Date can hold

function isMoment(value) {
  return isNumber(value) && value >= 0 && value < LAST_SECOND;
}

// {batches: [{batch, hosts}], work: hosts that have a beginning}, all with numbers that can be drawn.
function timed(rollout) {
  const batches = isList(rollout.batches).filter(isPacked);
  const work = [];
  batches.forEach((batch, row) => {
    for (const host of isList(batch.hosts).filter(isPacked)) {
      if (!isMoment(host.began)) continue;
      const open = !isMoment(host.ended);
      const ended = [host.ended, batch.ended, rollout.ended].find(isMoment) ?? host.began;
      work.push({ host, row, began: host.began, ended: Math.max(host.began, ended), open, blind: isNumber(host.blind_seconds) && host.blind_seconds > 0 ? host.blind_seconds : 0 });
    }
  });
  return { batches, work };
}

function importance(one, other) {
  return WRONG.includes(other.host.outcome) - WRONG.includes(one.host.outcome) || other.blind - one.blind || one.began - other.began || one.row - other.row;
}

// Waiting that takes more than a twentieth of the time in which something was done is cut out of the axis.
function axisOf(spans, width) {
  const sorted = spans.slice().sort((one, other) => one[0] - other[0]);
  const parts = [];
  for (const [from, to] of sorted) {
    const last = parts[parts.length - 1];
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else parts.push([from, to]);
  }
  const busy = parts.reduce((sum, [from, to]) => sum + to - from, 0);
  const waits = parts.slice(1).map(([from], index) => [from - parts[index][1], index]).filter(([seconds]) => seconds > Math.max(60, busy / 20));
  const cut = new Set(waits.sort((one, other) => other[0] - one[0]).slice(0, Math.floor(width * 0.4 / TIME.blank)).map(([, index]) => index));
  const pieces = [];
  parts.forEach((part, index) => {
    if (index && !cut.has(index - 1)) pieces[pieces.length - 1][1] = part[1];
    else pieces.push([...part]);
  });
  const seconds = Math.max(1, pieces.reduce((sum, [from, to]) => sum + to - from, 0));
  const scale = (width - TIME.sign - TIME.blank * (pieces.length - 1)) / seconds;
  let x = 0;
  const placed = pieces.map(([from, to]) => {
    const piece = { from, to, x };
    x += (to - from) * scale + TIME.blank;
    return piece;
  });
  const across = (at) => {
    const piece = placed.findLast((candidate) => candidate.from <= at) ?? placed[0];
    return piece.x + Math.max(0, Math.min(at, piece.to) - piece.from) * scale;
  };
  return { pieces: placed, scale, across };
}

const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

function drawAxis(picture, axis) {
  let step = TICKS.find((seconds) => seconds * axis.scale >= 64) ?? 86400;
  while (step * axis.scale < 64) step *= 2;
  const long = axis.pieces[axis.pieces.length - 1].to - axis.pieces[0].from > 86400;
  for (const piece of axis.pieces) {
    for (let at = Math.ceil(piece.from / step) * step; at <= piece.to && step > 0; at += step) {
      const x = axis.across(at);
      const text = step < 60 ? when(at, 19).slice(11, 19) : step >= 86400 ? when(at).slice(5, 10) : when(at).slice(11, 16);
      picture.append(drawn("line", { class: "grid", x1: x, x2: x, y1: 20, y2: TIME.axis }), drawn("text", { x, y: 14, "text-anchor": x < 20 ? "start" : "middle" }, text));
    }
  }
  axis.pieces.slice(1).forEach((piece, index) => {
    const x = piece.x - TIME.blank / 2;
    picture.append(drawn("text", { class: "wait", x, y: 30, "text-anchor": "middle" }, "\u2026" + duration(piece.from - axis.pieces[index].to)));
  });
  return long;
}

// Each bar into the first lane that is free; what finds none is left out. By importance, then again by time.
function lanesOf(bars, axis, most) {
  const fill = (order) => {
    const lanes = [];
    for (const bar of order) {
      const [from, to] = [bar.x, bar.x + bar.width + (bar.host.outcome === "done" ? 2 : TIME.sign)];
      let lane = lanes.findIndex((taken) => taken.every(([left, right]) => to <= left || right <= from));
      if (lane < 0 && lanes.length < most) lane = lanes.push([]) - 1;
      bar.lane = lane;
      if (lane >= 0) lanes[lane].push([from, to]);
    }
    return lanes.length;
  };
  fill(bars.slice().sort(importance));
  const kept = bars.filter((bar) => bar.lane >= 0).sort((one, other) => one.x - other.x);
  return { kept, lanes: fill(kept) };
}

function barWords(bar, batch) {
  const { host } = bar;
  return [visible(host.name, 60), "batch " + (isThere(batch.number) ? visible(batch.number, 20) : "?"), saysOf(OUTCOMES, host.outcome),
    when(host.began, 19).slice(11) + (bar.open ? ", no end is known" : " to " + when(host.ended, 19).slice(11)), bar.blind ? "blind for " + duration(bar.blind) : "no blind time is known",
    isThere(host.domain) ? "in " + visible(host.domain, 60) : "", isThere(host.reason) ? visible(host.reason, 200) : ""].filter(Boolean);
}

function drawTimeline(place, rollout) {
  const width = Math.floor(place.clientWidth);
  if (!width) return;
  const { batches, work } = timed(rollout);
  const rows = batches.map((batch, row) => [batch, row]).slice(-MOST_ROWS);
  const spans = rows.flatMap(([batch]) => (isMoment(batch.began) ? [[batch.began, Math.max(batch.began, isMoment(batch.ended) ? batch.ended : batch.began)]] : []));
  const chosen = work.filter((bar) => bar.row >= batches.length - MOST_ROWS).sort(importance).slice(0, MOST_BARS);
  spans.push(...chosen.map((bar) => [bar.began, bar.ended]));
  if (!spans.length) {
    place.replaceChildren(hint("No batch has begun."));
    return;
  }
  const axis = axisOf(spans, width);
  const byRow = new Map();
  for (const bar of chosen) {
    bar.x = axis.across(bar.began);
    bar.width = Math.max(TIME.least, axis.across(bar.ended) - bar.x);
    byRow.set(bar.row, [...(byRow.get(bar.row) || []), bar]);
  }
  const most = Math.max(2, Math.min(MOST_LANES, Math.floor(240 / rows.length)));
  const top = drawn("svg", { class: "history", width, height: TIME.axis, viewBox: "0 0 " + width + " " + TIME.axis, "aria-hidden": "true" });
  const long = drawAxis(top, axis);
  const picture = drawn("svg", { class: "history timeline", width, role: "group", "aria-label": "Hosts of the rollout in time" });
  let y = 0, shown = 0;
  const tip = make("div.tip", { hidden: true });
  for (const [batch, row] of rows) {
    const { kept, lanes } = lanesOf(byRow.get(row) || [], axis, most);
    const tall = Math.max(1, lanes) * TIME.lane;
    picture.append(drawn("text", { class: "name", x: 0, y: y + 14 }, batchWords(batch, width)));
    y += TIME.label;
    if (isMoment(batch.began)) {
      const from = axis.across(batch.began);
      picture.append(drawn("rect", { class: "band", x: from, y, width: Math.max(TIME.least, axis.across(isMoment(batch.ended) ? batch.ended : batch.began) - from), height: tall, rx: 2 }));
    }
    for (const bar of kept) picture.append(barOf(bar, batch, y + bar.lane * TIME.lane + (TIME.lane - TIME.bar) / 2, axis));
    shown += kept.length;
    y += tall + TIME.gap;
  }
  picture.setAttribute("height", y);
  picture.setAttribute("viewBox", "0 0 " + width + " " + y);
  const bars = [...picture.querySelectorAll(".host")];
  if (bars.length) bars[0].setAttribute("tabindex", "0");
  setUpBars(picture, bars, tip, place);
  const total = batches.reduce((sum, batch) => sum + isList(batch.hosts).length, 0);
  place.replaceChildren(top, make("div.rows", {}, picture), tip, hint(timelineWords(shown, total, rows.length, batches.length, long ? when(spans[0][0]).slice(0, 10) : null)));
}

function timelineWords(shown, total, rows, batches, date) {
  const words = ["Times in UTC" + (date ? ", from " + date + " on" : "") + "; where nothing happened for long, the axis is cut (\u2026).",
    "The dark part says how long a host was blind, not when."];
  if (shown < total) words.push(grouped(shown) + " of " + several(total, "host is", "hosts are") + " drawn: first what went wrong, then what was blind for longest. The CSV file has them all.");
  if (rows < batches) words.push("The last " + grouped(rows) + " of " + several(batches, "batch", "batches") + " are drawn.");
  return words.join(" ");
}

function batchWords(batch, width) {
  const hosts = isList(batch.hosts).filter(isPacked);
  const found = byCount(counted(hosts.map((host) => visible(host.outcome, 20))));
  const words = [(batch.stage === "canary" ? "Canary " : "Batch ") + (isThere(batch.number) ? visible(batch.number, 12) : "?"), several(hosts.length, "host", "hosts")];
  const said = found.map(([outcome, number]) => grouped(number) + " " + outcome).join(", ");
  return cut(words.join(" \u00b7 ") + (said ? ": " + said : ""), Math.floor(width / 7));
}

function barOf(bar, batch, y, axis) {
  const { host, x, width } = bar;
  const words = barWords(bar, batch);
  const number = NUMBER_OF.get(host.name);
  const group = number === undefined ? drawn("g", { role: "img" }) : drawn("a", { href: linkOf(number) });
  group.setAttribute("class", "host s-" + lookOf(OUTCOMES, host.outcome) + (bar.open ? " open" : ""));
  group.setAttribute("aria-label", words.join(", "));
  group.setAttribute("tabindex", "-1");
  group.append(drawn("rect", { class: "whole", x: x.toFixed(1), y, width: width.toFixed(1), height: TIME.bar, rx: 2 }));
  if (bar.blind) group.append(drawn("rect", { class: "dark", x: x.toFixed(1), y, width: Math.min(width, Math.max(2, bar.blind * axis.scale)).toFixed(1), height: TIME.bar }));
  if (host.outcome !== "done") {
    group.append(drawn("path", { class: "sign", d: stateOf(lookOf(OUTCOMES, host.outcome)).path, "fill-rule": "evenodd",
      transform: "translate(" + (x + width + 7).toFixed(1) + " " + (y + TIME.bar / 2).toFixed(1) + ")" }));
  }
  group.words = words;
  return group;
}

// One stop for Tab; arrows go from bar to bar. What a bar says is beside it, by mouse and keyboard alike.
function setUpBars(picture, bars, tip, place) {
  const tell = (event) => {
    const bar = event.target.closest?.(".host");
    if (!bar) return;
    const [name, ...words] = bar.words;
    tip.replaceChildren(make("b", {}, name), ...words.map((text) => make("span", {}, text)));
    tip.hidden = false;
    const [frame, box] = [place.getBoundingClientRect(), bar.getBoundingClientRect()];
    tip.style.left = Math.max(0, Math.min(box.left - frame.left, frame.width - tip.offsetWidth)) + "px";
    const above = box.top - frame.top - tip.offsetHeight - 6;
    tip.style.top = (above >= 0 ? above : box.bottom - frame.top + 6) + "px";
  };
  const hush = () => { tip.hidden = true; };
  picture.addEventListener("mouseover", tell);
  picture.addEventListener("mouseout", hush);
  picture.addEventListener("focusin", tell);
  picture.addEventListener("focusout", hush);
  picture.addEventListener("keydown", (event) => {
    const at = bars.indexOf(event.target.closest(".host"));
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: bars.length - 1 }[event.key];
    if (event.key === "Escape") hush();
    if (at < 0 || to === undefined || !bars[to]) return;
    event.preventDefault();
    bars[at].setAttribute("tabindex", "-1");
    bars[to].setAttribute("tabindex", "0");
    bars[to].focus();
  });
}
