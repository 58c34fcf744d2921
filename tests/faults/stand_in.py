# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd and Falco on virtual time: jobs that replace each other, time-outs, Restart=, transient timers, a boot.

What is modelled is what systemd.service(5) and systemctl(1) say: one job a unit, a start replaces a stop that is under way and the
stop's caller is told so; SIGTERM, then SIGKILL after TimeoutStopSec; Restart=on-failure after RestartSec; a manager that does not
answer does nothing until it does. Falco reads its files at its start and ends where one is cut short, is refused, or names a
directory that is not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import interposed

UNIT = "falco-modern-bpf.service"
DROPIN = "etc/systemd/system/%s.d/zz-falcotune.conf" % UNIT
MAIN, FRAGMENTS = "etc/falco/falco.yaml", "etc/falco/config.d"
WANTED = "etc/systemd/system/multi-user.target.wants"
END = "zz_end: true\n"  # the last line; a file without it was cut short
BY_STOP = 0.3  # seconds from SIGTERM to Falco's end
STARTS = 0.4  # seconds after which Falco has read its files
OPENS = 0.8  # ... and captures events
STOP_TIMEOUT, RESTART = 30.0, 15.0
INTERVAL = 1.0


def read(path: Path) -> str | None:
    try:
        with interposed.REAL_OPEN(path, "rb") as stream:
            return stream.read().decode()
    except OSError:
        return None


def configuration(root: Path) -> dict[str, str | None]:
    """Falco's files, in the order in which it reads them."""
    folder = root / FRAGMENTS
    names = sorted(interposed.REAL["listdir"](folder)) if folder.is_dir() else []
    paths = [MAIN] + [f"{FRAGMENTS}/{name}" for name in names if name.endswith(".yaml")]
    return {path: read(root / path) for path in paths}


def refusal(root: Path, texts: dict[str, str | None]) -> str | None:
    """Why Falco would not run with these files, or None."""
    for path, text in texts.items():
        if not text or not text.endswith(END):
            return f"Error: {path} is cut short or missing"
        if "refused: true" in text:
            return f"Error: {path} is refused"
        for output in re.findall(r"^ *output_file: (\S+)", text, re.M):
            if not os.path.isdir(os.path.dirname(output)):
                return f"Error: {output} can't be opened"
    return None


def settings(texts: dict[str, str | None]) -> dict[str, str]:
    """The last value of each key."""
    return dict(re.findall(r"^ *([a-z_]+): (\S+)", "\n".join(text or "" for text in texts.values()), re.M))


class Falco:
    """One process. phase: 'starting', 'runs' or 'gone'."""

    def __init__(self, manager, pid: int):
        self.manager, self.pid, self.phase = manager, pid, "starting"
        self.config: dict[str, str | None] = {}
        self.dropin = manager.loaded
        self.events, self.sample, self.reload_ts = 0, 0, 0
        self.began = manager.conductor.now
        self.show(0)
        manager.conductor.after(STARTS, self.reads)

    def show(self, rings: int) -> None:
        """Its files below proc."""
        nice = (re.findall(r"^Nice=(-?\d+)", self.dropin or "", re.M) or ["0"])[-1]
        folder, root = self.manager.root / "proc" / str(self.pid), self.manager.root
        folder.mkdir(exist_ok=True)
        fields = ["S"] + ["0"] * 49
        fields[16], fields[19] = nice, str(int(self.began * 100))
        (folder / "stat").write_text("%d (falco) %s\n" % (self.pid, " ".join(fields)))
        (folder / "status").write_text("Uid:\t%d\t%d\t%d\t%d\n" % ((os.getuid(),) * 4))
        (folder / "cmdline").write_text("\0".join([f"{root}/usr/bin/falco", "-c", f"{root}/{MAIN}", ""]))
        (folder / "environ").write_text("HOST_ROOT=/\0")
        page = os.sysconf("SC_PAGE_SIZE")
        (folder / "maps").write_text("7f0000000000-%x r--s %08x 00:0e 1  anon_inode:bpf-map\n"
                                     % (0x7f0000000000 + 2 * rings + page, page) if rings else "")
        if not (folder / "exe").is_symlink():
            (folder / "exe").symlink_to(root / "usr/bin/falco")

    def reads(self) -> None:
        if self.phase == "gone":
            return
        self.config = configuration(self.manager.root)
        problem = refusal(self.manager.root, self.config)
        if problem:
            self.manager.say(f"Falco {self.pid}: {problem}")
            self.die(1)
            return
        self.settings = settings(self.config)
        self.events = self.sample = 0
        self.reload_ts = int(self.manager.conductor.wall * 1e9)
        if "dies_after" in self.settings:
            self.manager.conductor.after(float(self.settings["dies_after"]), self.die, 1)
        if self.phase == "starting":
            self.phase = "runs"
            self.manager.conductor.after(OPENS, self.counts)
        self.show(1 << 20 << (int(self.settings.get("buf_size_preset", "4")) - 1))

    def counts(self) -> None:
        """One metrics interval is over."""
        if self.phase != "runs":
            return
        self.manager.conductor.after(INTERVAL, self.counts)
        path = self.settings.get("output_file")
        if not path or self.settings.get("blind") == "true":
            return
        self.events += 5000
        self.sample += 1
        wall = self.manager.conductor.wall
        line = {"output_fields": {"scap.n_evts": self.events, "scap.n_drops": 0, "evt.time": int(wall * 1e9),
                                  "falco.start_ts": int((wall - self.manager.conductor.now + self.began) * 1e9),
                                  **({"falco.reload_ts": self.reload_ts} if self.manager.tells_reloads else {})},
                "sample": self.sample}
        try:
            with interposed.REAL_OPEN(path, "a") as stream:
                stream.write(json.dumps(line) + "\n")
            os.utime(path, (wall, wall))
        except OSError:
            self.die(1)

    def reload(self) -> None:
        """A file was renamed to its place: read again. What is refused ends the process."""
        if self.phase == "runs":
            self.manager.say(f"Falco {self.pid} reloads")
            self.reads()

    def term(self) -> None:
        self.manager.conductor.after(max(BY_STOP, self.manager.stop_hangs - self.manager.conductor.now), self.die, 0)

    def die(self, status: int) -> None:
        if self.phase == "gone":
            return
        self.phase = "gone"
        folder = self.manager.root / "proc" / str(self.pid)
        for path in folder.iterdir():
            interposed.REAL["unlink"](path)
        interposed.REAL["rmdir"](folder)
        self.manager.gone(self, status)


class Manager:
    """systemd of one host. restart: Restart=on-failure, as the packages' units have it; else no."""

    def __init__(self, conductor, root: Path, restart: bool = True, watches: bool = False):
        self.conductor, self.root, self.restarts_itself, self.watches = conductor, root, restart, watches
        conductor.manager = self
        self.falco: Falco | None = None
        self.state, self.result, self.restarts = "inactive", "success", 0
        self.job = None  # (kind, [commands that wait for it])
        self.waiting: list[tuple] = []  # while the manager does not answer
        self.timers: dict[str, list[str]] = {}
        self.services: dict[str, object] = {}  # what a timer has started: its process
        self.loaded = None  # the drop-in as of the last daemon-reload
        self.pids, self.generation = 100, 0
        # Until when: nothing is answered, nothing happens; every command is refused; SIGTERM is not heard; a start hangs or fails.
        self.deaf = self.refuses = self.stop_hangs = self.start_hangs = self.start_fails = 0.0
        self.reloads_after, self.tells_reloads = 0.1, True  # seconds from a rename to a reload; falco.reload_ts, since 0.41
        self.down: list[list[float | None]] = []  # [from, until] of the times without a Falco
        self.down.append([conductor.now, None])

    def say(self, text: str) -> None:
        self.conductor.say(text)

    # -- the boot

    def boot(self) -> None:
        """Units that are enabled are started."""
        self.loaded = read(self.root / DROPIN)
        self.say("boot")
        wanted = self.root / WANTED
        units = sorted(wanted.glob("falcotune-*.service")) if wanted.is_dir() else []
        for unit in units:
            text = read(unit) or ""
            condition = re.findall(r"^ConditionPathExists=(.*)$", text, re.M)
            command = re.findall(r"^ExecStart=/bin/sh (.*)$", text, re.M)
            if command and all(os.path.exists(path) for path in condition):
                words = shlex.split(command[0])
                if os.path.exists(words[0]):
                    # Before= Falco's unit
                    self.conductor.script(words, lambda: self.start(None))
                    return
        self.start(None)

    def shutdown(self) -> None:
        """Processes and all that is in /run are gone at once."""
        self.generation += 1
        if self.falco:
            falco, self.falco = self.falco, None
            falco.die(0)
        self.state, self.job = "inactive", None
        for _when, command, *_rest in self.waiting:
            command.end(None)
        self.waiting, self.timers, self.services = [], {}, {}
        self.conductor.kill(["script"], " (shutdown)")
        shutil.rmtree(self.root / "run", ignore_errors=True)
        (self.root / "run").mkdir()
        self.deaf = self.refuses = self.stop_hangs = self.start_hangs = self.start_fails = 0.0

    # -- the unit

    @property
    def up(self) -> bool:
        return self.falco is not None and self.falco.phase != "gone"

    def start(self, command) -> None:
        if self.job and self.job[0] == "stop":
            for waiter in self.job[1]:
                waiter.end(1, "", f"Job for {UNIT} canceled.")
            self.job = ("start", [command] if command else [])
            if not self.up:
                self._start_now()
            return
        if self.job:
            self.job[1].extend([command] if command else [])
            return
        if self.up:
            self._end([command], 0)
            return
        self.job = ("start", [command] if command else [])
        self._start_now()

    def _start_now(self) -> None:
        self.state = "activating"
        self.generation += 1
        if self.conductor.now < self.start_hangs:
            self.conductor.at(self.start_hangs, self._started, self.generation)
        else:
            self.conductor.after(0.1, self._started, self.generation)

    def _started(self, generation: int) -> None:
        if generation != self.generation:
            return
        if self.conductor.now < self.start_fails:
            self.state, self.result = "failed", "exit-code"
            self._job_done(1, f"Job for {UNIT} failed because the control process exited with error code.")
            self._restart()
            return
        self.pids += 1
        self.falco = Falco(self, self.pids)
        self.state, self.result = "active", "success"
        self.say(f"Falco {self.pids} is started")
        if self.down[-1][1] is None:
            self.down[-1][1] = self.conductor.now
        self._job_done(0)

    def _restart(self) -> None:
        if self.restarts_itself:
            self.state = "auto-restart"
            self.generation += 1
            self.conductor.after(RESTART, self._again, self.generation)

    def _again(self, generation: int) -> None:
        if generation == self.generation and not self.job:
            self.restarts += 1
            self.start(None)

    def _job_done(self, status: int, err: str = "") -> None:
        job, self.job = self.job, None
        self._end(job[1] if job else [], status, err)

    def _end(self, commands, status: int, err: str = "") -> None:
        for command in commands:
            if command:
                command.end(status, "", err)

    def stop(self, command) -> None:
        if self.job and self.job[0] == "start":
            self._job_done(1, f"Job for {UNIT} canceled.")
        if not self.up:
            self.state = "inactive" if self.state != "failed" else "failed"
            self.generation += 1
            self._end([command], 0)
            return
        if self.job:
            self.job[1].append(command)
            return
        self.job, self.state = ("stop", [command]), "deactivating"
        self.generation += 1
        self.falco.term()
        self.conductor.after(STOP_TIMEOUT, self._stop_timeout, self.falco)

    def restart(self, command) -> None:
        if not self.up or self.job:
            self.start(command)
            return
        self.job, self.state = ("start", [command]), "deactivating"
        self.generation += 1
        self.falco.term()
        self.conductor.after(STOP_TIMEOUT, self._stop_timeout, self.falco)

    def _stop_timeout(self, falco: Falco) -> None:
        if falco.phase != "gone" and self.state == "deactivating":
            self.result = "timeout"
            falco.die(9)

    def gone(self, falco: Falco, status: int) -> None:
        self.say(f"Falco {falco.pid} has ended")
        if falco is not self.falco:
            return
        self.falco = None
        self.down.append([self.conductor.now, None])
        if self.job and self.job[0] == "stop":
            self.state = "failed" if status else "inactive"
            self._job_done(0)
        elif self.job:  # a start that has replaced the stop
            self._start_now()
        else:
            self.state, self.result = ("failed", "exit-code") if status else ("inactive", "success")
            if status:
                self._restart()

    def properties(self) -> str:
        state, sub = {"auto-restart": ("activating", "auto-restart"), "active": ("active", "running"),
                      "activating": ("activating", "start-pre"), "deactivating": ("deactivating", "stop-sigterm")}.get(
                          self.state, (self.state, "dead"))
        found = {"Id": UNIT, "LoadState": "loaded", "ActiveState": state, "SubState": sub, "UnitFileState": "enabled",
                 "MainPID": self.falco.pid if self.up else 0, "NRestarts": self.restarts, "Result": self.result,
                 "ExecStart": "{ path=%s/usr/bin/falco ; argv[]=%s/usr/bin/falco -c %s/%s ; ignore_errors=no ; }" % (
                     (self.root,) * 3 + (MAIN,)),
                 "FragmentPath": f"{self.root}/usr/lib/systemd/system/{UNIT}", "Nice": "0", "User": "", "Environment": "",
                 "StandardOutput": "null", "StandardError": "inherit", "NeedDaemonReload": "no"}
        return "".join(f"{name}={value}\n" for name, value in found.items())

    # -- commands

    def run(self, command, process) -> None:
        words = command.words
        if words[0].endswith("/falco"):
            self._falco(command)
        elif words[0] == "journalctl":
            self.conductor.after(0.05, command.end, 0)
        elif self.conductor.now < self.deaf:
            self.waiting.append((command, process))
        elif self.conductor.now < self.refuses:
            self.conductor.after(0.01, command.end, 1, "", "Failed to connect to bus: Connection refused")
        else:
            self.conductor.after(0.02, self.obey, command)

    def given_up(self, command) -> None:
        self.waiting = [item for item in self.waiting if item[0] is not command]

    def fall_deaf(self, seconds: float) -> None:
        self.deaf = self.conductor.now + seconds
        self.conductor.at(self.deaf, self._hears)

    def _hears(self) -> None:
        waiting, self.waiting = self.waiting, []
        for command, process in waiting:
            self.run(command, process)

    def obey(self, command) -> None:
        if self.conductor.now < self.deaf:
            self.waiting.append((command, None))
            return
        words = command.words
        if words[0] == "systemctl" and words[1] in ("start", "stop", "restart") and words[-1] == UNIT:
            getattr(self, words[1])(command)
        elif words[:2] == ["systemctl", "is-active"] and words[-1] != UNIT:
            active = any(name in self.timers or name in self.services and self.services[name].alive for name in words[2:])
            command.end(0 if active else 3)
        elif words[:2] == ["systemctl", "is-active"]:
            state = "activating" if self.state == "auto-restart" else self.state
            command.end(0 if state == "active" else 3, state)
        elif words[:2] == ["systemctl", "stop"]:
            for name in words[2:]:
                self.timers.pop(name, None)
                service = self.services.pop(name, None)
                if service:
                    self.conductor.kill_one(service)
            command.end(0)
        elif words[0] == "busctl":
            self._scope(command)
        elif words[:2] == ["systemctl", "show"]:
            command.end(0, self.properties())
        elif words[:2] == ["systemctl", "daemon-reload"]:
            self.loaded = read(self.root / DROPIN)
            self.conductor.after(0.2, command.end, 0)
        elif words[:2] == ["systemctl", "kill"]:
            if self.up:
                self.falco.term()
            command.end(0)
        elif words[:2] == ["systemctl", "reset-failed"]:
            self.state = "inactive" if self.state == "failed" else self.state
            command.end(0)
        elif words[0] == "systemd-run":
            self._timer(command)
        else:
            raise AssertionError(f"the stand-in does not know {words}")

    def _timer(self, command) -> None:
        options = dict(word[2:].split("=", 1) for word in command.words[1:] if word.startswith("--"))
        rest = [word for word in command.words[1:] if not word.startswith("--")]
        name = options["unit"] + ".timer"
        service = self.services.get(name.replace(".timer", ".service"))
        if name in self.timers or service and service.alive:
            command.end(1, "", f"Failed to start transient timer unit: Unit {name} was already loaded.")
            return
        self.timers[name] = rest
        self.conductor.after(float(options["on-active"].rstrip("s")), self._fires, name, rest)
        command.end(0)

    def _fires(self, name: str, words: list[str]) -> None:
        if self.timers.get(name) is not words:
            return
        if self.conductor.now < self.deaf:
            self.conductor.at(self.deaf, self._fires, name, words)
            return
        del self.timers[name]
        self.say(f"the timer {name} fires")
        if words == ["systemctl", "start", UNIT]:
            self.start(None)
            return
        assert words[0] == "/bin/sh", words
        script = self.root / words[1].lstrip("/")
        if script.exists():
            self.services[name.replace(".timer", ".service")] = self.conductor.script([str(script), *words[2:]])

    def _scope(self, command) -> None:
        """StartTransientUnit with PIDs=: those processes outlive the session."""
        words = command.words
        pids = words[words.index("PIDs") + 3:-1]
        scope = next(word for word in words if word.endswith(".scope"))
        for process in self.conductor.living():
            if str(process.pid) in pids:
                process.detached = True
                folder = self.root / "proc" / str(process.pid)
                folder.mkdir(exist_ok=True)
                (folder / "cgroup").write_text(f"0::/system.slice/{scope}\n")
        command.end(0, "o \"/org/freedesktop/systemd1/job/1\"")

    def _falco(self, command) -> None:
        """A dry run, or a start by hand."""
        words = command.words
        main = Path(words[len(words) - 1 - words[::-1].index("-c") + 1])
        main = main if str(main).startswith(str(self.root)) else Path(str(self.root) + str(main))
        if "--dry-run" in words:
            texts = {str(path): read(path) for path in sorted(main.parent.iterdir()) if path.name != "metrics"}
            problem = next((f"Error: {path} is refused" for path, text in texts.items() if text is None or "refused_dry: true" in text),
                           None)
            self.conductor.after(0.4, command.end, 1 if problem else 0, "", problem or "")
            return
        problem = refusal(self.root, configuration(self.root))
        if problem:
            self.conductor.after(STARTS, command.end, 1, "", problem)

    # -- what the host sees of the calls of others

    def seen(self, entry: dict) -> None:
        renamed = entry["name"] in ("rename", "unlink", "exchange", "move") and entry["paths"][-1].startswith("etc/falco/")
        if self.watches and renamed and self.up:
            self.conductor.after(self.reloads_after, self.falco.reload)

    def digest(self) -> str:
        texts = configuration(self.root)
        return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
