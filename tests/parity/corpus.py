# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Harmless actions, the rules that observe them, and a way to play them all.

scenarios.json holds the scenarios. `w` marks the observed event by raw arguments, `cond` is what a rule reads, `obs` groups them by
the event types that their rules name, `fields` are printed. `expect`: fire, quiet (a stale name must stay silent) or gap (not seen
on the default selection either). `n` is a number that makes the event unique: a port, a size, a gid or a descriptor.
`events` are the observed calls and `history` how it comes by what they read (see issued.py).
Every action works in its own scratch folder and on the loopback interface only.

stock.json holds actions that trigger rules which come with Falco; some of them read files of /etc.
"""

import json
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from shlex import quote

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
SCENARIOS = json.loads((HERE / "scenarios.json").read_text())
STOCK = json.loads((HERE / "stock.json").read_text())
GROUPS = sorted({scenario["obs"] for scenario in SCENARIOS})
TOOLS = ("gcc", "bash", "dash", "perl", "curl", "capsh", "setpriv", "tar", "find", "grep", "setsid")
# kill(2) of this number and the following ones marks in a Falco's alerts where an action begins; no process has them.
FIRST_ACTION = 4192000
LONGEST = 180  # seconds for one pass of the corpus; it takes about five


def missing():
    """Names of the tools that the actions need and that are not installed."""
    return [tool for tool in TOOLS if not shutil.which(tool)]


def build(folder):
    """Compiles the programs into folder."""
    for name in ("scn", "stockact"):
        subprocess.run(["gcc", "-O1", "-w", "-o", str(folder / name), str(PROGRAMS / (name + ".c"))], check=True, timeout=120)


class Corpus:
    """The actions with a scratch folder. The folder is part of the rules, so it stays the same for all passes."""

    def __init__(self, folder):
        self.root = Path(folder) / "s"
        self.programs = Path(folder) / "programs"
        self.programs.mkdir(parents=True, exist_ok=True)
        build(self.programs)
        # It is there before each Falco, which so finds what it has open (nothing) in /proc. A child of this process would seem to
        # have inherited what this process has open, and a number that Falco takes for known hides that it missed a copy.
        self.player = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", env=self.environment())

    def close(self):
        self.player.stdin.close()
        self.player.wait(LONGEST)

    def rules(self, group=None):
        return rules(self.root, group)

    def play(self, log, only=None):
        """One pass over the scenarios (of these groups only); what an action says of its failure goes to the file log."""
        self.stage()
        self._run([(one["id"], one["n"], one["cmd"]) for one in SCENARIOS if not only or one["obs"] in only], log)

    def play_stock(self, log):
        """One pass over the actions that trigger stock rules."""
        self.stage()
        self._run([(one["id"], 0, one["cmd"]) for one in STOCK], log)

    def stage(self):
        shutil.rmtree(self.root, ignore_errors=True)
        for name in ("bin", "stock", "scratch/log"):
            (self.root / name).mkdir(parents=True)
        for program, place, copies in (("scn", "bin", ("scn", "alpha", "beta")), ("stockact", "stock", ("act", "nginx", "httpd", "ssh"))):
            for copy in copies:
                shutil.copy(self.programs / program, self.root / place / copy)
        (self.root / "scratch/walk.py").write_text(
            "import os\nfor _, _, names, fd in os.fwalk('/etc/pam.d'):\n    for x in names: os.close(os.open(x, os.O_RDONLY, dir_fd=fd))\n")
        for one in SCENARIOS:
            own = self.root / one["id"]
            for name in ("d", "other"):
                (own / name).mkdir(parents=True)
            for name in ("d/t_%s" % one["id"], "t_%s" % one["id"], "secret"):
                (own / name).write_text("needle\n")
            if one["id"] == "tool_diff_r":
                shutil.copy(own / "d" / ("t_%s" % one["id"]), own / "other")

    def _run(self, actions, log):
        """All actions in one shell, as people use them; before each a mark, so that alerts can be told apart by their place."""
        lines = ["exec 2>>%s" % quote(str(log)),
                 'run() { kill -0 $1 2>/dev/null; export I=$2 N=$3 S=$ROOT/$2; eval "$4" </dev/null >/dev/null; r=$?;'
                 ' [ $r = 0 ] || echo "$2 ended with $r" >&2; }']
        lines += ["run %d %s %d %s" % (FIRST_ACTION + index, name, number, quote(command))
                  for index, (name, number, command) in enumerate(actions)]
        script = self.root.parent / "play.sh"
        script.write_text("\n".join(lines) + "\n")
        self.player.stdin.write(b"bash %s </dev/null; echo played\n" % quote(str(script)).encode())
        self.player.stdin.flush()
        ready, _, _ = select.select([self.player.stdout], [], [], LONGEST)
        assert ready and self.player.stdout.readline() == b"played\n", "the actions did not end in %d s" % LONGEST

    def environment(self):
        kept = {key: os.environ[key] for key in ("PATH", "LANG", "HOME") if key in os.environ}
        return dict(kept, ROOT=str(self.root), PARITY_ROOT=str(self.root), PY=os.path.realpath(sys.executable), SC=str(PROGRAMS),
                    B=str(self.root / "stock"), T=str(self.root / "scratch"), ADDRESS=address(), PYTHONDONTWRITEBYTECODE="1")


def rules(root, group=None):
    """Two rules for each scenario: `S id` is the rule under test, `W id` needs no state and tells that the event came."""
    return "\n".join(
        "- rule: %s %s\n  desc: '%s'\n  condition: >\n    %s\n  output: \"%s %s (%s)\"\n  priority: NOTICE\n"
        % (kind, one["id"], one["mech"], _filled(one[text], one, root), kind, one["id"], printed(one))
        for one in SCENARIOS if group in (None, one["obs"]) for kind, text in (("S", "cond"), ("W", "w")))


def _filled(text, one, root):
    number = one["n"]
    for mark, value in (("@S@", root / one["id"]), ("@R@", root), ("@I@", one["id"]), ("@N@", number),
                        ("@M@", number - 20000), ("@Z@", number - 30000)):
        text = text.replace(mark, str(value))
    return text


def printed(scenario):
    """The fields of an alert. evt.type and proc.name help whoever reads a difference."""
    return " ".join("%s=%%%s" % (name, name) for name in dict.fromkeys(scenario["fields"] + ["proc.name", "evt.type"]))


def address():
    """An IPv4 address of this machine that is not a loopback address, or else 127.0.0.1."""
    out = subprocess.run(["ip", "-4", "-o", "addr", "show"], stdout=subprocess.PIPE, check=False, timeout=10).stdout.decode()
    found = [line.split()[3].partition("/")[0] for line in out.splitlines() if line.split()[1] != "lo"]
    return found[0] if found else "127.0.0.1"
