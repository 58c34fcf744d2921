// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Hosts by load and drops. Both axes are logarithmic. Hosts without drops have a lane of their own below, in which the height
// has no meaning: it only keeps them apart.

const LEAST_DROPS = 0.001;
const EDGE = { left: 52, right: 14, top: 34, bottom: 40 };
const CELL = 12;

const chart = { width: 0, height: 0, points: [], cells: new Map(), shown: null, low: 1, high: 10, stale: true };

function isDrawn(index) {
  return isNumber(COLUMNS.rate[index]) && isNumber(COLUMNS.drops[index]);
}

function setUpChart() {
  const rates = [];
  for (let index = 0; index < COUNT; index++) if (isDrawn(index) && COLUMNS.rate[index] > 0) rates.push(COLUMNS.rate[index]);
  const least = rates.reduce((one, other) => Math.min(one, other), LINES.length ? LINES[0] : 1000);
  const most = rates.reduce((one, other) => Math.max(one, other), LINES.length ? LINES[LINES.length - 1] : 3000);
  chart.low = Math.max(least * 0.8, 0.1);
  chart.high = most * 1.4;
  describeChart();
  const canvas = document.getElementById("chart");
  canvas.addEventListener("mousemove", (event) => point(event));
  canvas.addEventListener("mouseleave", () => { document.getElementById("tip").hidden = true; canvas.style.cursor = ""; });
  canvas.addEventListener("click", (event) => { const index = nearest(event); if (index !== null) location.hash = linkOf(index); });
}

// Text and a table for readers who do not see the chart.
function describeChart() {
  let drawnHosts = 0;
  const cells = new Map();
  for (let index = 0; index < COUNT; index++) {
    if (!isDrawn(index)) continue;
    drawnHosts++;
    const key = tierOf(COLUMNS.rate[index]) + " " + COLUMNS.state[index];
    cells.set(key, (cells.get(key) || 0) + 1);
  }
  const bounds = [...LINES.map((line, tier) => [tier, tier ? grouped(LINES[tier - 1]) + " to " + grouped(line) : "below " + grouped(line)])];
  if (LINES.length) bounds.push([LINES.length, "above " + grouped(LINES[LINES.length - 1])]);
  const states = STATES.map(([key]) => key).filter((key) => bounds.some(([tier]) => cells.has(tier + " " + key)));
  document.getElementById("chart-hint").append("Every measured host by its events/s per CPU, as Falco's guide counts them, and the share that it lost. "
    + "The lines are the guide's: few drops below " + grouped(LINES[0] ?? 1000) + ", many above " + grouped(LINES[LINES.length - 1] ?? 3000) + ".");
  const words = [several(drawnHosts, "host is", "hosts are") + " drawn"];
  if (drawnHosts < COUNT) words.push(several(COUNT - drawnHosts, "was", "were") + " not measured");
  for (const [tier, says] of bounds) {
    const here = states.reduce((sum, key) => sum + (cells.get(tier + " " + key) || 0), 0);
    const losing = here - (cells.get(tier + " healthy") || 0);
    if (here) words.push(says + ": " + grouped(here) + (losing ? ", " + grouped(losing) + " of them losing events" : ""));
  }
  document.getElementById("chart-words").textContent = words.join("; ") + ".";
  const table = make("table.numbers", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Events/s/CPU"),
    states.map((key) => make("th", { scope: "col" }, badge(key))))));
  table.append(make("tbody", {}, bounds.map(([tier, says]) => make("tr", {}, make("th", { scope: "row" }, says + (TIERS[tier] ? " (" + TIERS[tier] + ")" : "")),
    states.map((key) => make("td", {}, whole(cells.get(tier + " " + key) || 0)))))));
  document.getElementById("chart-table").append(table);
}

function tierOf(rate) {
  return LINES.filter((line) => rate >= line).length;
}

// A hash of the host's number, from 0 to 1: the same each time, and unlike its neighbours'.
function scatter(index) {
  let mixed = Math.imul(index + 1, 0x9e3779b1);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b);
  return ((mixed ^ (mixed >>> 13)) >>> 0) / 4294967296;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue("--" + name).trim();
}

function drawChart() {
  const canvas = document.getElementById("chart");
  const width = Math.floor(canvas.parentNode.clientWidth);
  if (!width) return;
  const height = heightFor(canvas, width);
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = height + "px";
  Object.assign(chart, { width, height, stale: false });
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const colour = colours();
  pen.font = "12px " + getComputedStyle(document.body).fontFamily;
  const lane = Math.round((height - EDGE.top - EDGE.bottom) * 0.3);
  chart.floor = height - EDGE.bottom;
  chart.roof = chart.floor - lane;
  drawFrame(pen, colour);
  drawPoints(pen, colour, scale);
  if (!chart.points.length) {
    pen.fillStyle = colour("soft");
    pen.textAlign = "center";
    pen.fillText(chart.shown && COUNT ? "No measured host matches the filters" : "No host was measured", width / 2, height / 2);
  }
}

// As tall as its width asks for; beside the other cards, as tall as they are together.
function heightFor(canvas, width) {
  canvas.style.height = "0";
  const card = canvas.closest(".card").getBoundingClientRect();
  const beside = document.querySelector(".stack").getBoundingClientRect().left >= card.right;
  const room = beside ? card.bottom - document.querySelector(".card > details").getBoundingClientRect().bottom - 18 : 0;
  return Math.round(Math.max(320, Math.min(room, 760), Math.min(560, width * 0.72)));
}

function across(rate) {
  const share = (Math.log10(Math.max(rate, chart.low)) - Math.log10(chart.low)) / (Math.log10(chart.high) - Math.log10(chart.low));
  return EDGE.left + 6 + share * (chart.width - EDGE.left - EDGE.right - 6);
}

function up(drops) {
  const share = Math.log10(Math.max(drops, LEAST_DROPS) / LEAST_DROPS) / 5;
  return chart.roof - 10 - share * (chart.roof - 10 - EDGE.top);
}

function drawFrame(pen, colour) {
  const right = chart.width - EDGE.right;
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.fillStyle = colour("lane");
  pen.fillRect(EDGE.left, chart.roof, right - EDGE.left, chart.floor - chart.roof);
  pen.strokeStyle = colour("grid");
  pen.fillStyle = colour("soft");
  pen.textAlign = "right";
  for (const mark of [LEAST_DROPS, 0.01, 0.1, 1, 10, 100]) {
    const at = Math.round(up(mark)) + 0.5;
    stroke(pen, [EDGE.left, at, right, at]);
    pen.fillText((mark === LEAST_DROPS ? "\u2264" : "") + mark + "%", EDGE.left - 7, at);
  }
  pen.fillText("none", EDGE.left - 7, (chart.roof + chart.floor) / 2);
  drawAccepted(pen, colour, right);
  pen.textAlign = "center";
  pen.textBaseline = "top";
  pen.fillStyle = colour("soft");
  for (let power = Math.ceil(Math.log10(chart.low)); 10 ** power <= chart.high; power++) {
    const at = Math.round(across(10 ** power)) + 0.5;
    pen.strokeStyle = colour("grid");
    stroke(pen, [at, EDGE.top, at, chart.floor + 4]);
    pen.fillText(grouped(power < 0 ? Number((10 ** power).toFixed(1)) : 10 ** power), at, chart.floor + 7);
  }
  pen.textAlign = "right";
  pen.fillText("events/s per CPU", right, chart.floor + 24);
  pen.textAlign = "left";
  pen.fillText("events lost", 2, 2);
  drawLines(pen, colour);
}

function drawAccepted(pen, colour, right) {
  const accepted = POLICY.accepted_drops_percent;
  if (!isNumber(accepted) || accepted < LEAST_DROPS) return;
  const at = Math.round(up(Math.min(accepted, 100))) + 0.5;
  pen.strokeStyle = colour("line");
  pen.setLineDash([2, 3]);
  stroke(pen, [EDGE.left, at, right, at]);
  pen.setLineDash([]);
  pen.save();
  pen.textAlign = "left";
  pen.textBaseline = "bottom";
  pen.fillText("accepted", EDGE.left + 5, at - 2);
  pen.restore();
}

// The guide's lines; labels that would touch alternate between two rows.
function drawLines(pen, colour) {
  pen.textAlign = "center";
  pen.textBaseline = "top";
  const ends = [-Infinity, -Infinity];
  for (const line of LINES) {
    const at = Math.round(across(line)) + 0.5;
    const label = grouped(line);
    const half = pen.measureText(label).width / 2 + 3;
    const row = at - half >= ends[1] ? 1 : 0;
    ends[row] = at + half;
    pen.strokeStyle = colour("line");
    pen.setLineDash([5, 3]);
    stroke(pen, [at, row ? 30 : 15, at, chart.floor]);
    pen.setLineDash([]);
    pen.fillStyle = colour("text");
    pen.fillText(label, at, row ? 16 : 2);
  }
}

function stroke(pen, [fromX, fromY, toX, toY]) {
  pen.beginPath();
  pen.moveTo(fromX, fromY);
  pen.lineTo(toX, toY);
  pen.stroke();
}

// Healthy hosts first, so that they do not cover others.
function drawPoints(pen, colour, scale) {
  const shown = chart.shown || Array.from({ length: COUNT }, (unused, index) => index);
  const points = shown.filter(isDrawn);
  const size = points.length > 2000 ? 0.5 : points.length > 300 ? 0.75 : 1;
  const paths = new Map(STATES.map(([key, , path]) => [key, [new Path2D(path), colour("s-" + key)]]));
  points.sort((one, other) => COLUMNS.severity[other] - COLUMNS.severity[one] || one - other);
  chart.points = points;
  chart.cells = new Map();
  for (const index of points) {
    const [x, y] = placeOf(index);
    const [path, fill] = paths.get(stateOf(COLUMNS.state[index]).key);
    pen.setTransform(scale * size, 0, 0, scale * size, x * scale, y * scale);
    pen.fillStyle = fill;
    pen.globalAlpha = points.length <= 2000 ? 0.9 : COLUMNS.drops[index] > 0 ? 0.8 : 0.4;
    pen.fill(path, "evenodd");
    const cell = Math.floor(x / CELL) + ":" + Math.floor(y / CELL);
    if (chart.cells.has(cell)) chart.cells.get(cell).push(index);
    else chart.cells.set(cell, [index]);
  }
  pen.globalAlpha = 1;
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  nameWorst(pen, colour, points);
}

function placeOf(index) {
  const drops = COLUMNS.drops[index];
  const y = drops > 0 ? up(drops) : chart.roof + 9 + scatter(index) * (chart.floor - chart.roof - 18);
  return [across(COLUMNS.rate[index]), y];
}

// The names of the hosts that lose most, where there is room for them.
function nameWorst(pen, colour, points) {
  const losing = points.filter((index) => COLUMNS.drops[index] > 0);
  const worst = losing.filter((index) => COLUMNS.drops[index] > (POLICY.accepted_drops_percent || 0))
    .sort((one, other) => COLUMNS.drops[other] - COLUMNS.drops[one] || one - other).slice(0, 8);
  const signs = losing.map((index) => [index, ...placeOf(index)]);
  const taken = [];
  pen.textBaseline = "middle";
  for (const index of worst) {
    const [x, y] = placeOf(index);
    const label = visible(COLUMNS.name[index], 24);
    const width = pen.measureText(label).width;
    const box = [x + 9, x - 9 - width].map((left) => [left - 2, y - 8, left + width + 2, y + 8]).find(([from, over, to, under]) =>
      from > EDGE.left && to < chart.width - EDGE.right
      && !taken.some((other) => from < other[2] && other[0] < to && over < other[3] && other[1] < under)
      && !signs.some(([other, left, top]) => other !== index && left > from - 5 && left < to + 5 && top > over - 4 && top < under + 4));
    if (!box) continue;
    const left = box[0] + 2;
    taken.push(box);
    pen.textAlign = "left";
    pen.lineWidth = 3;
    pen.lineJoin = "round";
    pen.strokeStyle = colour("card");
    pen.strokeText(label, left, y);
    pen.fillStyle = colour("text");
    pen.fillText(label, left, y);
  }
  pen.lineWidth = 1;
}

function nearest(event) {
  const frame = document.getElementById("chart").getBoundingClientRect();
  const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
  let found = null, least = CELL * CELL;
  for (let column = -1; column <= 1; column++) {
    for (let row = -1; row <= 1; row++) {
      for (const index of chart.cells.get((Math.floor(x / CELL) + column) + ":" + (Math.floor(y / CELL) + row)) || []) {
        const [left, top] = placeOf(index);
        const distance = (left - x) ** 2 + (top - y) ** 2;
        if (distance <= least) [found, least] = [index, distance];
      }
    }
  }
  return found;
}

function point(event) {
  const tip = document.getElementById("tip");
  const index = nearest(event);
  document.getElementById("chart").style.cursor = index === null ? "" : "pointer";
  tip.hidden = index === null;
  if (index === null) return;
  tip.replaceChildren(make("b", {}, foreign(COLUMNS.name[index], "bdi", 60)), badge(COLUMNS.state[index]),
    make("span", {}, percent(COLUMNS.drops[index]) + " lost at " + whole(COLUMNS.rate[index]) + " events/s per CPU"));
  const [x, y] = placeOf(index);
  tip.style.left = Math.max(0, Math.min(x + 12, chart.width - tip.offsetWidth - 4)) + "px";
  tip.style.top = (y - tip.offsetHeight - 10 > 0 ? y - tip.offsetHeight - 10 : y + 14) + "px";
}
