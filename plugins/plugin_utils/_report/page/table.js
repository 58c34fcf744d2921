// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The table of hosts: a list of host numbers, filtered and sorted, of which one page is in the document.

const MOST_PRINTED = 500;
const SELECTS = { state: null, bottleneck: BOTTLENECKS, step: STEPS, driver: null, release: null };
const START = { q: "", state: "", bottleneck: "", step: "", driver: "", release: "", note: "", sort: "state", page: "1", size: "50" };
const RANKS = new Map();

let view = { ...START };
let listed = [];
let haystack = null;

// [key, heading, longer heading, class, first order when its button is pressed]
const HEADS = [
  ["name", "Host", "name of the host", "name", 1],
  ["state", "State", "worst first, and within a state what loses most", "word", 1],
  ["drops", "Drops", "share of the events that were lost", "figure", -1],
  ["rate", "Events/s/CPU", "events a second and CPU, in the terms of Falco's guide", "figure", -1],
  ["bottleneck", "Bottleneck", "what holds Falco up", "word", 1],
  ["step", "Next step", "what would help", "word", 1],
  ["driver", "Driver", "driver of Falco", "word", 1],
  ["release", "Release", "release of Falco", "word", 1],
  ["cpus", "CPUs", "CPUs online", "figure", -1],
  ["cpu", "Falco CPU", "percent of one CPU", "figure", -1],
  ["notes", "Notes", "other findings", "notes", -1],
];

const collator = new Intl.Collator("en", { numeric: true });

// The rank of each text of a column: comparing numbers is quicker than comparing texts.
function rankOf(key) {
  if (!RANKS.has(key)) {
    const texts = COLUMNS[key];
    const order = [...new Set(texts)].sort((one, other) => collator.compare(one, other) || (one < other ? -1 : 1));
    const places = new Map(order.map((text, place) => [text, place]));
    RANKS.set(key, Float64Array.from(texts, (text) => (text === "" || text === "none" ? NaN : places.get(text))));
  }
  return RANKS.get(key);
}

// Unknown values are last in both orders.
function compare(values, way) {
  return (one, other) => {
    const [first, second] = [values[one], values[other]];
    if (first === second) return 0;
    if (Number.isNaN(first)) return Number.isNaN(second) ? 0 : 1;
    if (Number.isNaN(second)) return -1;
    return (first - second) * way;
  };
}

function sorted(numbers) {
  const key = view.sort.replace(/^-/, "");
  const way = view.sort[0] === "-" ? -1 : 1;
  let values = COLUMNS[key];
  if (key === "state") values = COLUMNS.severity;
  else if (key === "notes") values = COLUMNS.notes.map((notes) => notes.length || NaN);
  else if (!(values instanceof Float64Array)) values = rankOf(key);
  const first = compare(values, way);
  const [drops, rate, name] = [compare(COLUMNS.drops, -1), compare(COLUMNS.rate, -1), compare(rankOf("name"), 1)];
  return numbers.sort((one, other) => first(one, other) || drops(one, other) || rate(one, other) || name(one, other) || one - other);
}

function filtered() {
  haystack ??= COLUMNS.name.map((name, index) => [name, COLUMNS.kernel[index], COLUMNS.unit[index], COLUMNS.driver[index],
    COLUMNS.release[index], COLUMNS.state[index], wordOf(BOTTLENECKS, COLUMNS.bottleneck[index]), wordOf(STEPS, COLUMNS.step[index]),
    COLUMNS.reason[index]].join("\n").toLowerCase());
  const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
  const exact = Object.keys(SELECTS).filter((key) => view[key] !== "");
  const found = [];
  for (let index = 0; index < COUNT; index++) {
    if (exact.every((key) => COLUMNS[key][index] === view[key]) && (!view.note || COLUMNS.notes[index].includes(view.note))
      && words.every((word) => haystack[index].includes(word))) found.push(index);
  }
  return found;
}

function isFiltered() {
  return ["q", "note", ...Object.keys(SELECTS)].some((key) => view[key] !== "");
}

function setUpTable() {
  for (const [key, words] of Object.entries(SELECTS)) {
    const select = document.getElementById(key);
    const found = [...new Set(COLUMNS[key])].filter(Boolean);
    found.sort((one, other) => (key === "state" ? severityOf(one) - severityOf(other) : 0) || collator.compare(one, other));
    fill(select, found.map((value) => [value, words ? wordOf(words, value) : visible(value, 40)]));
  }
  const present = new Set(COLUMNS.notes.flat());
  fill(document.getElementById("note"), NOTES.filter(([key]) => present.has(key)).map(([key, says]) => [key, says]));
  const order = document.getElementById("order");
  for (const [key, says, longer, kind, way] of HEADS) {
    const sort = (way < 0 ? "-" : "") + key;
    order.append(make("option", { value: sort }, says + (kind === "figure" ? ", largest first" : "")));
    document.getElementById("head").append(make("th.c-" + key + "." + kind, { scope: "col" },
      make("button", { type: "button", title: longer, click: () => change({ sort: view.sort === sort ? (way < 0 ? key : "-" + key) : sort }) },
        says.split(/(?<=\/)/).flatMap((part) => [part, make("wbr")]), make("span.arrow", { "aria-hidden": "true" }))));
    document.getElementById("head").lastChild.dataset.key = key;
  }
  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => { event.preventDefault(); change({ ...START, sort: view.sort, size: view.size }); document.getElementById("q").focus(); });
  document.getElementById("q").addEventListener("input", (event) => change({ q: event.target.value }));
  for (const key of [...Object.keys(SELECTS), "note", "size"]) {
    document.getElementById(key).addEventListener("change", (event) => change({ [key]: event.target.value }));
  }
  order.addEventListener("change", () => change({ sort: order.value }));
  const turn = { first: () => 1, back: (page) => page - 1, next: (page) => page + 1, last: (page, pages) => pages };
  for (const [id, target] of Object.entries(turn)) {
    document.getElementById(id).addEventListener("click", () => change({ page: String(target(pageNumber(), pageCount())) }));
  }
  const rows = document.getElementById("rows");
  rows.addEventListener("keydown", walk);
  rows.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a") && !String(getSelection())) location.hash = linkOf(Number(row.dataset.number));
  });
}

function fill(select, options) {
  for (const [value, says] of [["", "all"], ...options]) {
    const option = make("option", {}, says);
    option.value = value;
    select.append(option);
  }
  select.disabled = options.length === 0;
}

// Up and down go from host to host.
function walk(event) {
  const way = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
  const row = event.target.closest("tr");
  if (!way || !row || !row[way]) return;
  event.preventDefault();
  row[way].querySelector("a").focus();
}

function pageCount() {
  return Math.max(1, Math.ceil(listed.length / Number(view.size)));
}

function pageNumber() {
  return Math.min(Math.max(1, Math.floor(Number(view.page)) || 1), pageCount());
}

// A new view of the table. Any change but that of the page number shows the first page.
function change(changes) {
  const next = { ...view, ...changes };
  if (!("page" in changes)) next.page = "1";
  show(next);
  remember();
}

function toggle(key, value) {
  const column = key === "bottleneck" || key === "step" || key === "state" || key === "note" ? key : null;
  change({ [column]: view[column] === value ? "" : value });
  const title = document.getElementById("hosts-title");
  if (key !== "state" || document.activeElement.classList.contains("link")) title.scrollIntoView({ block: "start" });
}

function show(next) {
  const before = view;
  view = next;
  if (!HEADS.some(([key]) => key === view.sort.replace(/^-/, ""))) view.sort = START.sort;
  if (!["50", "100", "250"].includes(view.size)) view.size = START.size;
  const same = !["q", "note", "sort", ...Object.keys(SELECTS)].some((key) => before[key] !== view[key]);
  if (!same || !haystack) {
    listed = sorted(filtered());
    chart.shown = isFiltered() ? listed.slice() : null;
    drawChart();
  }
  for (const key of ["q", "note", "size", ...Object.keys(SELECTS)]) {
    const field = document.getElementById(key);
    if (field.value !== view[key]) field.value = view[key];
  }
  document.getElementById("order").value = view.sort;
  document.getElementById("clear").disabled = !isFiltered();
  for (const head of document.getElementById("head").children) {
    const way = view.sort === head.dataset.key ? "ascending" : view.sort === "-" + head.dataset.key ? "descending" : null;
    if (way) head.setAttribute("aria-sort", way);
    else head.removeAttribute("aria-sort");
  }
  for (const chip of document.getElementById("chips").children) {
    if (chip.dataset.state) chip.setAttribute("aria-pressed", String(chip.dataset.state === view.state));
  }
  drawRows();
}

function drawRows(everything = false) {
  const size = everything ? MOST_PRINTED : Number(view.size);
  const from = everything ? 0 : (pageNumber() - 1) * size;
  const rows = listed.slice(from, from + size);
  document.getElementById("rows").replaceChildren(...rows.map(rowOf));
  const words = isFiltered() ? grouped(listed.length) + " of " + several(COUNT, "host matches", "hosts match") : several(COUNT, "host", "hosts");
  document.getElementById("count").textContent = words + (everything && listed.length > size ? "; the first " + grouped(size) + " are printed" : "");
  document.getElementById("where").textContent = rows.length ? grouped(from + 1) + " to " + grouped(from + rows.length) + " of " + grouped(listed.length) : "";
  const page = pageNumber();
  for (const id of ["first", "back"]) document.getElementById(id).disabled = page <= 1;
  for (const id of ["next", "last"]) document.getElementById(id).disabled = page >= pageCount();
  document.getElementById("pages").hidden = listed.length <= 50;
  document.getElementById("table").hidden = !rows.length;
  const empty = document.getElementById("empty");
  empty.hidden = rows.length > 0;
  if (!rows.length) {
    empty.replaceChildren(COUNT ? make("p", {}, "No host matches these filters. ", make("button.link", { type: "button", click: () => document.getElementById("clear").click() }, "Clear them"))
      : make("p", {}, "The audit covered no hosts. Check the inventory and --limit."));
  }
}

function rowOf(index) {
  const link = make("a", { href: linkOf(index) }, foreign(COLUMNS.name[index] || "(no name)", "bdi", 80));
  // The state says already that a host breaks the policy.
  const notes = NOTES.filter(([key]) => key !== "breach" && COLUMNS.notes[index].includes(key));
  const word = (table, key) => (key ? put(make("span"), wordOf(table, key)) : DASH);
  const cells = {
    name: link, state: badge(COLUMNS.state[index]), drops: percent(COLUMNS.drops[index]), rate: whole(COLUMNS.rate[index]),
    bottleneck: COLUMNS.bottleneck[index] === "none" ? DASH : word(BOTTLENECKS, COLUMNS.bottleneck[index]),
    step: COLUMNS.step[index] === "none" ? DASH : word(STEPS, COLUMNS.step[index]),
    driver: COLUMNS.driver[index] ? foreign(COLUMNS.driver[index], "bdi", 40) : DASH,
    release: COLUMNS.release[index] ? foreign(COLUMNS.release[index], "bdi", 40) : DASH,
    cpus: whole(COLUMNS.cpus[index]), cpu: percent(COLUMNS.cpu[index]),
    notes: notes.map(([key, says]) => make("span.note.n-" + key, { title: says }, key)),
  };
  const row = make("tr", {}, HEADS.map(([key, , , kind]) => make((key === "name" ? "th" : "td") + ".c-" + key + "." + kind, key === "name" ? { scope: "row" } : {}, cells[key])));
  row.dataset.number = index;
  return row;
}
