# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Falco's own rules under each selection of system calls: how many calls, and how many rules are whole, half blind or blind.

    python tests/tools/state_table.py FOLDER [RELEASE]

FOLDER holds Falco's rules files (falco_rules-*.yaml, falco-*_rules-*.yaml). Rules that the files disable are enabled, to show what
they would need. All files that begin with the stable rules are read one after the other, as their macros build on each other.
"""

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = tempfile.TemporaryDirectory(prefix="falcotune-")
_PLACE = Path(_FOLDER.name) / "ansible_collections" / "falcotune"
_PLACE.mkdir(parents=True)
(_PLACE / "fleet").symlink_to(ROOT)
sys.path.insert(0, _FOLDER.name)

from ansible_collections.falcotune.fleet.plugins.plugin_utils._falco import selections  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._rules import coverage, ruleset, state  # noqa: E402
from ansible_collections.falcotune.fleet.plugins.plugin_utils._tuning import policies, syscall_set  # noqa: E402


def sets(folder):
    """[(name, rules files)]: the stable rules, and each of the others behind them."""
    stable = sorted(folder.glob("falco_rules-*.yaml"))[-1:]
    found = [("stable", stable)]
    for maturity in ("incubating", "sandbox"):
        more = sorted(folder.glob("falco-%s_rules-*.yaml" % maturity))[-1:]
        if more:
            found.append(("stable + " + maturity, stable + more))
    return found


def states(rules, selected, release):
    """(whole, half blind, blind, only outputs wrong)"""
    found = coverage.coverage(rules, selected, release)
    half, blind, outputs = (len(found[kind]) for kind in ("half_blind", "blind", "wrong_output"))
    return "%d / %d / %d" % (len(rules) - half - blind, half, blind) + (" (%d outputs wrong)" % outputs if outputs else "")


def rows(folder, release):
    for name, files in sets(folder):
        found = ruleset.resolve([(path.name, path.read_text()) for path in files], release)
        rules = [dict(rule, enabled=True) for rule in found["rules"] if rule["source"] == "syscall" and rule["disabled_by"] != "error"]
        calls = coverage.needs(rules, release)
        lossless = syscall_set.choose(rules, release, policies.complete({}))
        row = [name, str(len(rules))]
        for chosen in (selections.select(release, calls), selections.select(release, calls, [], True), lossless):
            row += [str(len(chosen["selected"])), states(rules, chosen["selected"], release)]
        yield row, lossless, sorted({field for rule in rules for field in state.unknown_fields(rule)})


def main():
    release = sys.argv[2] if len(sys.argv) > 2 else "0.44.1"
    print("| rules | enabled | default: calls | whole / half blind / blind | repair: calls | whole / half blind / blind "
          "| lossless: calls | whole / half blind / blind |")
    print("|" + "---|" * 8)
    notes = []
    for row, lossless, unknown in rows(Path(sys.argv[1]), release):
        print("| %s |" % " | ".join(row))
        notes.append("%s: repair and %s%s%s" % (row[0], ", ".join(lossless["custom_set"]) or "nothing",
                                                "" if lossless["repair"] else " (nothing saved: not changed)",
                                                "; fields not known: " + ", ".join(unknown) if unknown else ""))
    print()
    print("\n".join(notes))


if __name__ == "__main__":
    main()
