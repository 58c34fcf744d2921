// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The fleet's way over the audits in the history: the share of all events that was lost, and how many hosts lose events.

let wayRows = [];

function setUpWay() {
  wayRows = isList(FLEET.way).filter((row) => Array.isArray(row) && isNumber(row[0]));
  document.getElementById("way").hidden = wayRows.length < 2;
  if (wayRows.length < 2) return;
  document.getElementById("way-words").textContent = wayWords(wayRows);
  document.getElementById("way-table").append(wayTable(wayRows));
}

function drawWay() {
  if (wayRows.length < 2) return;
  const drops = wayRows.map(([at, , , losing, lost]) => [at, losing ? "dropping" : "healthy", lost]);
  const title = "What the fleet lost in its last " + several(wayRows.length, "audit", "audits");
  drawPanels(document.getElementById("way-plot"), drops, title, wayWords(wayRows), (picture, ...where) => losingPanel(picture, wayRows, ...where));
}

// Hosts that lose events as a line, below one for the measured hosts.
function losingPanel(picture, rows, across, width, roof) {
  const floor = roof + PANEL.rate;
  const most = Math.max(1, ...rows.map((row) => row[2]).filter(isNumber)) * 1.05;
  const up = (number) => floor - number / most * (PANEL.rate - 8);
  picture.append(drawn("text", { class: "name", x: 0, y: roof - 2 }, "Hosts that lose events"));
  level(picture, floor, "0", width);
  level(picture, Math.round(up(most / 1.05)), grouped(Math.round(most / 1.05)), width);
  for (const [column, kind] of [[2, "half"], [3, "rate"]]) {
    const points = rows.filter((row) => isNumber(row[column])).map((row) => across(row[0]).toFixed(1) + " " + up(row[column]).toFixed(1));
    if (points.length) picture.append(drawn("path", { class: kind, d: "M" + points.join("L") }));
  }
  for (const [at, , measured, losing] of rows) {
    if (!isNumber(losing)) continue;
    const dot = drawn("circle", { class: "dot", cx: across(at).toFixed(1), cy: up(losing).toFixed(1), r: 3 });
    dot.append(drawn("title", {}, when(at) + ": " + whole(losing) + " of " + several(measured, "measured host", "measured hosts")));
    picture.append(dot);
  }
}

function wayWords(rows) {
  const [then, now] = [rows[0], rows[rows.length - 1]];
  const said = ([, , measured, losing, drops]) => whole(losing) + " of " + several(measured, "measured host", "measured hosts")
    + (isNumber(drops) ? " lost " + percent(drops) + " of all events" : " lost events");
  return several(rows.length, "audit", "audits") + " since " + when(then[0]) + ". Then " + said(then) + "; now " + said(now) + ".";
}

function wayTable(rows) {
  return make("table.numbers", {}, make("thead", {}, make("tr", {}, ["Audit", "Hosts", "Measured", "Lose events", "Of all events"].map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, rows.slice().reverse().map(([at, hosts, measured, losing, drops]) => make("tr", {}, make("th", { scope: "row" }, when(at)),
      make("td", {}, whole(hosts)), make("td", {}, whole(measured)), make("td", {}, whole(losing)), make("td", {}, percent(drops))))));
}
