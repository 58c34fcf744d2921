# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of unit files: time spans, sizes and switches, as systemd reads and prints them."""

from fleetd import files

INFINITY = "infinity"
SPANS = (("y", 31557600), ("month", 2629800), ("w", 604800), ("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
SPAN_WORDS = {"us": 1, "usec": 1, "ms": 1000, "msec": 1000, "": 1000000, "s": 1000000, "sec": 1000000,
              "second": 1000000, "seconds": 1000000, "m": 60000000, "min": 60000000, "minute": 60000000,
              "minutes": 60000000, "h": 3600000000, "hr": 3600000000, "hour": 3600000000, "hours": 3600000000,
              "d": 86400000000, "day": 86400000000, "days": 86400000000, "w": 604800000000, "week": 604800000000}


def parse_span(text, default):
    """Microseconds of a time span such as '15', '1min 30s' or '500ms'; None is for ever."""
    if not text:
        return default
    if text.strip() == INFINITY:
        return None
    total, number, word = 0, "", ""
    for char in text.strip() + " ":
        if char.isdigit() or char == ".":
            if word:
                total += int(float(number) * SPAN_WORDS[word])
                number, word = "", ""
            number += char
        elif char.isalpha():
            word += char
        elif number and (word or char == " "):
            total += int(float(number) * SPAN_WORDS[word])
            number, word = "", ""
    return total


def format_span(usec):
    if usec is None:
        return INFINITY
    if usec == 0:
        return "0"
    parts = []
    rest = usec
    for name, seconds in SPANS:
        size = seconds * 1000000
        if name == "s" and rest < 60000000 and rest % size and rest > size:
            parts.append("%d.%06ds" % divmod(rest, size))
            rest = 0
        elif rest >= size:
            parts.append("%d%s" % (rest // size, name))
            rest %= size
    if rest >= 1000:
        parts.append("%gms" % (rest / 1000.0))
    elif rest:
        parts.append("%dus" % rest)
    return " ".join(parts)


def parse_size(text):
    if not text or text == INFINITY:
        return INFINITY
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    if text.endswith("%"):
        with open(files.ROOT + "/proc/meminfo") as stream:
            total = int(stream.readline().split()[1]) * 1024
        return str(int(total * float(text[:-1]) / 100))
    if text[-1].upper() in units:
        return str(int(float(text[:-1]) * units[text[-1].upper()]))
    return str(int(text))


def yes_no(text, default="no"):
    if not text:
        return default
    return {"1": "yes", "true": "yes", "on": "yes", "0": "no", "false": "no", "off": "no"}.get(text.lower(), text)
