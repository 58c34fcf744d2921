// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A rollout in time: a row a batch, a bar a host. Each row begins when its batch began, and all have one scale, so that what
// took long stands out. Of a large rollout not every bar is drawn: failures come first, then the hosts that were blind for
// longest.

const TIME = { label: 20, bar: 8, lane: 10, gap: 8, axis: 24, least: 4, sign: 14 };
const MOST_BARS = 400;
const MOST_LANES = 16;
const MOST_ROWS = 200;
const MOST_TALL = 610; // of what .rows shows without scrolling
const LAST_SECOND = 8.64e12; // of what a Date can hold

function isMoment(value) {
  return isNumber(value) && value >= 0 && value < LAST_SECOND;
}

// The rows of the batches that have begun, and their bars; all with numbers that can be drawn.
function timed(rollout) {
  const rows = [], bars = [];
  batchesOf(rollout).forEach((batch) => {
    const hosts = isList(batch.hosts).filter(isPacked);
    const begun = hosts.filter((host) => isMoment(host.began));
    const from = isMoment(batch.began) ? batch.began : least(begun.map((host) => host.began));
    if (from === null) return;
    const row = { batch, from, ended: isMoment(batch.ended) ? Math.max(from, batch.ended) : null };
    for (const host of begun) {
      const open = !isMoment(host.ended);
      const ended = [host.ended, row.ended, rollout.ended].find(isMoment) ?? host.began;
      bars.push({ host, row, began: Math.max(0, host.began - from), ended: Math.max(0, host.began - from, ended - from), open,
        blind: isNumber(host.blind_seconds) && host.blind_seconds > 0 ? host.blind_seconds : 0 });
    }
    rows.push(row);
  });
  return { rows, bars };
}

function least(values) {
  return values.length ? values.reduce((one, other) => Math.min(one, other)) : null;
}

function importance(one, other) {
  return WRONG.includes(other.host.outcome) - WRONG.includes(one.host.outcome) || other.blind - one.blind || one.row.from - other.row.from || one.began - other.began;
}

const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

// 0:30, 12:00; hours from the first hour on.
function tickText(seconds) {
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return seconds < 3600 ? minutes + ":" + two(seconds % 60) : whole(hours) + NARROW_SPACE + "h" + (minutes ? NARROW_SPACE + two(minutes) : "");
}

function drawAxis(picture, seconds, scale) {
  let step = TICKS.find((tick) => tick * scale >= 72) ?? 86400;
  while (step * scale < 72) step *= 2;
  for (let at = 0; at <= seconds; at += step) {
    picture.append(drawn("line", { class: "grid", x1: at * scale, x2: at * scale, y1: 18, y2: TIME.axis }), drawn("text", { x: at * scale, y: 13, "text-anchor": at ? "middle" : "start" }, tickText(at)));
  }
}

// Each bar goes into the first free lane, and is left out where there is none. By importance, then by time.
function lanesOf(bars, most) {
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

function clock(value) {
  return when(value, 19).slice(11, 19);
}

function barWords(bar) {
  const { host, row } = bar;
  return [visible(host.name, 60), (isThere(row.batch.number) ? "batch " + visible(row.batch.number, 20) : "a batch") + ", " + saysOf(OUTCOMES, host.outcome),
    clock(host.began) + (bar.open ? ", no end is known" : " to " + clock(host.ended)), bar.blind ? "blind for " + duration(bar.blind) : "no blind time is known",
    isThere(host.domain) ? "in " + visible(host.domain, 60) : "", isThere(host.reason) ? visible(host.reason, 200) : ""].filter(Boolean);
}

function drawTimeline(place, rollout) {
  const width = Math.floor(place.clientWidth);
  if (!width) return;
  const all = timed(rollout);
  const rows = all.rows.slice(-MOST_ROWS);
  if (!rows.length) {
    place.replaceChildren(hint("No batch has begun."));
    return;
  }
  const bars = all.bars.filter((bar) => rows.includes(bar.row)).sort(importance).slice(0, MOST_BARS);
  const seconds = [...rows.map((row) => (row.ended ?? row.from) - row.from), ...bars.map((bar) => bar.ended)].reduce((one, other) => Math.max(one, other), 1);
  const scale = (width - TIME.sign) / seconds;
  const byRow = new Map(rows.map((row) => [row, []]));
  for (const bar of bars) {
    bar.x = bar.began * scale;
    bar.width = Math.max(TIME.least, (bar.ended - bar.began) * scale);
    byRow.get(bar.row).push(bar);
  }
  const most = Math.max(2, Math.min(MOST_LANES, Math.floor(240 / rows.length)));
  const top = drawn("svg", { class: "history", width, height: TIME.axis, viewBox: "0 0 " + width + " " + TIME.axis, "aria-hidden": "true" });
  drawAxis(top, seconds, scale);
  const picture = drawn("svg", { class: "history timeline", width, role: "group", "aria-label": "Hosts of the rollout in time" });
  let y = 0, shown = 0;
  for (const row of rows) {
    const { kept, lanes } = lanesOf(byRow.get(row), most);
    const tall = Math.max(1, lanes) * TIME.lane;
    picture.append(drawn("text", { class: "name", x: 0, y: y + 14 }, rowWords(row, width)));
    y += TIME.label;
    picture.append(drawn("rect", { class: "band", x: 0, y, width: Math.max(TIME.least, ((row.ended ?? row.from) - row.from) * scale), height: tall, rx: 2 }));
    for (const bar of kept) picture.append(barOf(bar, y + bar.lane * TIME.lane + (TIME.lane - TIME.bar) / 2, scale));
    shown += kept.length;
    y += tall + TIME.gap;
  }
  picture.setAttribute("height", y);
  picture.setAttribute("viewBox", "0 0 " + width + " " + y);
  const tip = make("div.tip", { hidden: true });
  setUpBars(picture, tip, place);
  place.replaceChildren(top, make("div.rows", {}, picture), tip, hint((y > MOST_TALL ? "Scroll in it for all " + several(rows.length, "row", "rows") + ". " : "") + timelineWords(shown, rows.length, rollout)));
}

function timelineWords(shown, rows, rollout) {
  const batches = batchesOf(rollout);
  const total = batches.reduce((found, batch) => found + isList(batch.hosts).length, 0);
  const words = ["Each row begins when its batch began (UTC). The strip in a bar is as long as the host was blind; where in the bar is not known."];
  if (shown < total) words.push(grouped(shown) + " of " + several(total, "host is", "hosts are") + " drawn: failures first, then those that were blind for longest. The CSV file has all hosts.");
  if (rows < batches.length) words.push(grouped(rows) + " of " + several(batches.length, "batch", "batches") + " are drawn.");
  return words.join(" ");
}

function rowWords(row, width) {
  const hosts = isList(row.batch.hosts).filter(isPacked);
  const found = byCount(counted(hosts.map((host) => visible(host.outcome, 20)))).map(([outcome, number]) => grouped(number) + " " + outcome).join(", ");
  const words = [(row.batch.stage === "canary" ? "Canary " : "Batch ") + (isThere(row.batch.number) ? visible(row.batch.number, 12) : "?"), clock(row.from), several(hosts.length, "host", "hosts")];
  const text = words.join(" \u00b7 ") + (found ? ": " + found : "");
  return text.length * 7.5 > width ? text.slice(0, Math.floor(width / 7.5) - 1) + "\u2026" : text;
}

function barOf(bar, y, scale) {
  const { host, x, width } = bar;
  const number = NUMBER_OF.get(host.name);
  const group = number === undefined ? drawn("g", { role: "img" }) : drawn("a", { href: linkOf(number) });
  group.words = barWords(bar);
  group.setAttribute("class", "host s-" + lookOf(OUTCOMES, host.outcome) + (bar.open ? " open" : ""));
  group.setAttribute("aria-label", group.words.join(", "));
  group.setAttribute("tabindex", "-1");
  group.append(drawn("rect", { class: "whole", x: x.toFixed(1), y, width: width.toFixed(1), height: TIME.bar, rx: 2 }));
  if (bar.blind) group.append(drawn("rect", { class: "dark", x: x.toFixed(1), y, width: Math.min(width, Math.max(2, bar.blind * scale)).toFixed(1), height: TIME.bar }));
  if (host.outcome !== "done") {
    group.append(drawn("path", { class: "sign", d: stateOf(lookOf(OUTCOMES, host.outcome)).path, "fill-rule": "evenodd",
      transform: "translate(" + (x + width + 7).toFixed(1) + " " + (y + TIME.bar / 2).toFixed(1) + ") scale(0.9)" }));
  }
  return group;
}

// One stop for Tab; arrows go from bar to bar. The words of a bar are shown beside it, by mouse and keyboard alike.
function setUpBars(picture, tip, place) {
  const bars = [...picture.querySelectorAll(".host")];
  bars[0]?.setAttribute("tabindex", "0");
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
