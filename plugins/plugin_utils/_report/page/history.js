// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A host's earlier audits as two small charts above each other: drops as points with the shape of their state, and the rate
// as a line, with the guide's lines. They are drawn for the available width, so that their text keeps its size.

const PANEL = { left: 58, right: 14, drops: 96, rate: 96, blank: 18, gap: 34, top: 22, bottom: 26 };

function drawHistory(place, rows) {
  const title = "Drops and load of this host in its last " + several(rows.length, "audit", "audits");
  drawPanels(place, rows, title, historyWords(rows), (picture, ...where) => ratePanel(picture, rows, ...where));
}

// Drops above another panel. rows: [time, state, drops, …]. below: what draws the other panel, given the picture, the place of a
// time, the width and the panel's top.
function drawPanels(place, rows, title, words, below) {
  const width = Math.max(280, Math.floor(place.clientWidth));
  const blanks = rows.some((row) => !isNumber(row[2])) ? PANEL.blank : 0;
  const height = PANEL.top + PANEL.drops + blanks + PANEL.gap + PANEL.rate + PANEL.bottom;
  const picture = drawn("svg", { class: "history", width, height, viewBox: "0 0 " + width + " " + height, role: "img" });
  picture.append(drawn("title", {}, title), drawn("desc", {}, words));
  const times = rows.map((row) => row[0]);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const across = (at) => PANEL.left + 8 + (last > first ? (at - first) / (last - first) : 0.5) * (width - PANEL.left - PANEL.right - 16);
  dropsPanel(picture, rows, across, width, blanks);
  below(picture, across, width, PANEL.top + PANEL.drops + blanks + PANEL.gap);
  for (const [at, anchor] of last > first ? [[first, "start"], [last, "end"]] : [[last, "middle"]]) {
    picture.append(drawn("text", { x: across(at), y: height - 6, "text-anchor": anchor }, when(at).slice(0, 10)));
  }
  place.replaceChildren(picture);
}

function historyWords(rows) {
  const drops = rows.map((row) => row[2]).filter(isNumber);
  const rates = rows.map((row) => row[3]).filter(isNumber);
  if (!drops.length) return "None of these audits has a measurement.";
  return "Drops between " + percent(Math.min(...drops)) + " and " + percent(Math.max(...drops)) + (rates.length
    ? ", events/s per CPU between " + whole(Math.min(...rates)) + " and " + whole(Math.max(...rates)) : "") + ".";
}

function level(picture, y, label, width, kind = "grid") {
  picture.append(drawn("line", { class: kind, x1: PANEL.left, x2: width - PANEL.right, y1: y, y2: y }),
    drawn("text", { x: PANEL.left - 7, y: y + 4, "text-anchor": "end" }, label));
}

// Logarithmic, as in the fleet's chart: zero at the bottom, then 0.01 % to 100 %. Audits without a measurement have a line of
// their own.
function dropsPanel(picture, rows, across, width, blanks) {
  const floor = PANEL.top + PANEL.drops;
  const worst = Math.max(1, ...rows.map((row) => row[2]).filter(isNumber));
  const top = worst > 10 ? 100 : worst > 1 ? 10 : 1;
  const decades = Math.log10(top / 0.01);
  const up = (drops) => (drops > 0 ? floor - 18 - Math.max(0, Math.log10(drops / 0.01)) / decades * (PANEL.drops - 18) : floor);
  picture.append(drawn("text", { class: "name", x: 0, y: 12 }, "Events lost"));
  level(picture, floor, "none", width);
  if (blanks) level(picture, floor + blanks, "unknown", width);
  for (let mark = 0.01; mark <= top * 1.01; mark *= 10) level(picture, Math.round(up(mark)), Number(mark.toFixed(2)) + "%", width);
  for (const [at, state, drops, rate, seconds] of rows) {
    const y = isNumber(drops) ? up(Math.min(drops, top)) : floor + blanks;
    const sign = drawn("path", { class: "s-" + stateOf(state).key, d: stateOf(state).path, "fill-rule": "evenodd",
      transform: "translate(" + across(at).toFixed(1) + " " + y.toFixed(1) + ") scale(0.9)" });
    sign.append(drawn("title", {}, when(at) + ": " + visible(state, 40) + (isNumber(drops) ? ", " + percent(drops) + " lost" : "")
      + (isNumber(rate) ? " at " + whole(rate) + " events/s per CPU" : "") + (isNumber(seconds) ? " in " + duration(seconds) : "")));
    picture.append(sign);
  }
}

// The largest of 1, 2, 5, 10, 20, … that is not above a number.
function roundBelow(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return power * [5, 2, 1].find((step) => step * power <= number);
}

function ratePanel(picture, rows, across, width, roof) {
  const floor = roof + PANEL.rate;
  const most = Math.max(1, ...rows.map((row) => row[3]).filter(isNumber)) * 1.1;
  const up = (rate) => floor - rate / most * (PANEL.rate - 8);
  picture.append(drawn("text", { class: "name", x: 0, y: roof - 2 }, "Events/s per CPU"));
  level(picture, floor, "0", width);
  const marks = LINES.filter((line) => line < most);
  let free = floor - 14;
  for (const mark of marks.length ? marks : [roundBelow(most)]) {
    const y = Math.round(up(mark));
    level(picture, y, y <= free && y > roof + 6 ? grouped(mark) : "", width, marks.length ? "mark" : "grid");
    if (y <= free) free = y - 14;
  }
  // A gap where nothing was measured.
  let path = "", open = false;
  for (const [at, , , rate] of rows) {
    if (isNumber(rate)) path += (open ? "L" : "M") + across(at).toFixed(1) + " " + up(rate).toFixed(1);
    open = isNumber(rate);
  }
  picture.append(drawn("path", { class: "rate", d: path }));
  for (const [at, , , rate] of rows) if (isNumber(rate)) picture.append(drawn("circle", { class: "dot", cx: across(at).toFixed(1), cy: up(rate).toFixed(1), r: 2 }));
}

function historyTable(rows) {
  return make("table.numbers", {}, make("thead", {}, make("tr", {}, ["Audit", "State", "Drops", "Events/s/CPU", "Seconds"].map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, rows.slice().reverse().map(([at, state, drops, rate, seconds]) => make("tr", {}, make("th", { scope: "row" }, when(at)),
      make("td", {}, badge(state)), make("td", {}, percent(drops)), make("td", {}, whole(rate)), make("td", {}, short(seconds))))));
}
