# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures selections on a real Falco and adds what it finds to matrix.csv: measure.py FOLDER minus [CALL ...] | repair | derived

minus: the default selection without one call (each, or those named), with all rules. repair: each group's rules alone with
`repair: true`. derived: the same with a custom_set of the calls that are known to carry the state which the group's rules read (from
matrix.csv). Two passes each, beside a Falco with the default selection that watches the same execution. What is in the matrix is not
measured again. Needs root, FALCO_BIN and what corpus.missing() names.
"""

import sys
import time
from pathlib import Path

import compare
import corpus
import matrix
import watch

PASSES = 2
# Falco always selects procexit. The others are what the rules of the corpus only observe.
LEFT_ALONE = {"procexit", "kill", "fchown", "fchownat", "fchmodat", "mkdirat", "renameat", "renameat2", "linkat", "symlinkat",
              "unlinkat", "listen"}


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.corpus = corpus.Corpus(folder)
        self.release = watch.release()
        self.known = matrix.rows()

    def falco(self, name, group, **selection):
        rules = self.folder / ("rules-%s.yaml" % (group or "all"))
        rules.write_text(self.corpus.rules(group))
        return watch.Falco(self.folder / "falco", name, [rules], **selection)

    def measure(self, batch, group, reference, candidate, mode, changed):
        """Runs the candidate beside the reference, which runs already, and adds the rows to the matrix."""
        scenarios = [one for one in corpus.SCENARIOS if group in (None, one["obs"])]
        seen = {reference: [], candidate: []}
        with candidate:
            for falco in seen:
                falco.alerts()
            for _ in range(PASSES):
                self.corpus.play(self.folder / "play.log", group and [group])
                for falco, passes in seen.items():
                    passes.append(compare.seen(falco.alerts(), scenarios, self.corpus.root))
            time.sleep(2)
            candidate.alerts()
        drops = {falco.name: falco.drops() for falco in seen}
        if any(drops.values()):
            print("%s: discarded, events were dropped: %s" % (candidate.name, drops), flush=True)
            return
        rows = [self.row(batch, group, candidate, mode, changed, one,
                         *([one_pass[one["id"]] for one_pass in seen[falco]] for falco in (reference, candidate)))
                for one in scenarios]
        self.known = matrix.rows() + rows
        matrix.write(self.known)
        print("%s: %d selected, %s" % (candidate.name, len(candidate.selected), {
            row["scenario"]: row["verdict"] for row in rows if row["verdict"] != "same"}), flush=True)

    def row(self, batch, group, candidate, mode, changed, one, before, after):
        found = compare.verdict(before, after)
        if mode == "default minus one" and changed in matrix.calls_of(one) and found in matrix.LOSSES:
            found = "own-call"
        told = found not in ("same", "own-call")
        values = ["; ".join(sorted(passes[0]["values"])[:2]) if told else "" for passes in (after, before)]
        return {"release": self.release, "batch": batch, "scenario": one["id"], "group": group or "all", "mode": mode,
                "call_removed_or_custom_set": changed, "selected": str(len(candidate.selected)), "fires": compare.fires(after),
                "reference": compare.fires(before), "verdict": found, "values": values[0], "values_reference": values[1]}

    def done(self, mode):
        return {(row["group"], row["call_removed_or_custom_set"]) for row in self.known
                if row["release"] == self.release and row["mode"] == mode}


def minus(bench, calls):
    reference = bench.falco("default", None)
    calls = calls or [name for name in reference.selected if name not in LEFT_ALONE]
    calls = [name for name in calls if ("all", name) not in bench.done("default minus one")]
    print(len(calls), "calls:", " ".join(calls), flush=True)
    with reference:
        for name in calls:
            bench.measure("minus", None, reference, bench.falco("no_" + name, None, custom_set=["!" + name]),
                          "default minus one", name)


def derived_set(rows, group, repaired):
    """Calls that repair leaves out and without any one of which a scenario of the group differs on the default selection."""
    own = {one["id"] for one in corpus.SCENARIOS if one["obs"] == group}
    return sorted({row["call_removed_or_custom_set"] for row in rows
                   if row["mode"] == "default minus one" and row["scenario"] in own and row["verdict"] in matrix.DIFFERENCES}
                  - set(repaired))


def groups(bench, derived):
    for group in corpus.GROUPS:
        candidate = bench.falco(group + ".repair", group, repair=True)
        mode, changed = "repair", ""
        if derived:
            extra = derived_set(bench.known, group, candidate.selected)
            mode, changed = "repair + custom_set", " ".join(extra)
            candidate = bench.falco(group + ".derived", group, repair=True, custom_set=extra)
        if (group, changed) in bench.done(mode):
            continue
        reference = bench.falco(group + ".default", group)
        with reference:
            bench.measure("derived" if derived else "groups", group, reference, candidate, mode, changed)


def main(folder, what, *calls):
    bench = Bench(Path(folder).resolve())
    try:
        if what == "minus":
            minus(bench, calls)
        else:
            groups(bench, what == "derived")
    finally:
        bench.corpus.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
