// Copyright (c) 2026 falcotune contributors
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Words and numbers for people. Text of a host reaches the document as text nodes only. Characters that are invisible or
// change the direction of a line are shown by their number.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029\u115f\u1160\u2800\u3164\uffa0]/gu;
const MOST_CHARACTERS = 300;
const NARROW_SPACE = "\u202f";
const DASH = "\u2013";

function codeOf(character) {
  return "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

function isThere(value) {
  return value !== null && value !== undefined && value !== "" && !Number.isNaN(value);
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function isList(value) {
  return Array.isArray(value) ? value : [];
}

// A value that is not text is shown as JSON: a hostile host may send any type.
function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value) ?? "";
}

function cut(text, most) {
  if (text.length <= most) return text;
  const kept = Array.from(text.slice(0, most)).slice(0, -1).join("");
  return kept + "\u2026 (" + grouped(text.length) + " characters)";
}

// For titles, options and the canvas, which hold no elements.
function visible(value, most = MOST_CHARACTERS) {
  return cut(asText(value), most).replace(HIDDEN, (character) => "[" + codeOf(character) + "]");
}

// Append text to an element; hidden characters become marks. With lines, a line feed stays one.
function put(node, value, most = MOST_CHARACTERS, lines = false) {
  const text = cut(asText(value), most);
  let from = 0;
  for (const found of text.matchAll(HIDDEN)) {
    if (lines && found[0] === "\n") continue;
    node.append(text.slice(from, found.index));
    const mark = document.createElement("span");
    mark.className = "mark";
    mark.textContent = codeOf(found[0]);
    mark.title = "an invisible character";
    node.append(mark);
    from = found.index + found[0].length;
  }
  node.append(text.slice(from));
  return node;
}

// make("p.hint.wide", {title: "…"}, "text", element, …): an element; nothing is ever parsed as HTML.
function make(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (isThere(value) && value !== false) node.setAttribute(name, name === "title" ? visible(value) : value);
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (child instanceof Node) node.append(child);
    else if (Array.isArray(child)) add(node, child);
    else if (isThere(child)) put(node, child);
  }
}

// Text of a host in an element of its own, so that its direction does not change the text around it.
function foreign(value, kind = "bdi", most = MOST_CHARACTERS) {
  return put(document.createElement(kind), value, most);
}

function drawn(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+(?!\d))/g, NARROW_SPACE);
}

function whole(number) {
  if (!isNumber(number)) return isThere(number) ? visible(number, 40) : DASH;
  return Math.abs(number) < 1e15 ? grouped(Math.round(number)) : number.toExponential(2);
}

function several(number, one, many) {
  return whole(number) + " " + (number === 1 ? one : many);
}

// Three significant digits, and never "0" for a number above zero.
function short(number) {
  if (!isNumber(number)) return isThere(number) ? visible(number, 40) : DASH;
  const size = Math.abs(number);
  if (size === 0) return "0";
  if (size < 0.01) return number < 0 ? "> -0.01" : "< 0.01";
  if (size < 9.995) return number.toFixed(2);
  if (size < 99.95) return number.toFixed(1);
  return whole(number);
}

function percent(number) {
  return isNumber(number) ? short(number) + NARROW_SPACE + "%" : DASH;
}

// A part of a whole, to one decimal.
function share(number) {
  if (!isNumber(number)) return DASH;
  const shown = number > 0 && number < 0.05 ? "< 0.1" : number.toFixed(1);
  return shown.replace(/\.0$/, "") + NARROW_SPACE + "%";
}

function bytes(number) {
  if (!isNumber(number)) return DASH;
  let size = number;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(size) < 1024 || unit === "TiB") {
      return (unit === "B" || Number.isInteger(size) || size >= 100 ? whole(size) : size.toFixed(1)) + NARROW_SPACE + unit;
    }
    size /= 1024;
  }
  return DASH;
}

function duration(seconds) {
  if (!isNumber(seconds)) return DASH;
  if (seconds < 120) return (seconds < 10 ? short(seconds) : String(Math.round(seconds * 10) / 10)) + NARROW_SPACE + "s";
  if (seconds < 7200) return Math.round(seconds / 60) + NARROW_SPACE + "min";
  if (seconds < 172800) return (seconds / 3600).toFixed(1) + NARROW_SPACE + "h";
  return grouped(Math.round(seconds / 86400)) + NARROW_SPACE + "days";
}

// Seconds since 1970 or an ISO text; in UTC, so that a page says the same wherever it is read. With 19 digits, seconds too.
function when(value, digits = 16) {
  const at = new Date(isNumber(value) ? value * 1000 : typeof value === "string" ? value : NaN);
  if (Number.isNaN(at.getTime())) return isThere(value) ? visible(value, 40) : DASH;
  return at.toISOString().slice(0, digits).replace("T", " ") + " UTC";
}
