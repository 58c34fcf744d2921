# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process: start, capture, hot reload, end."""

import json
import math
import os
import select
import signal
import sys
import time

from . import metrics
from .accounting import EVERY, Accounting
from .cli import Options, UsageError
from .config import ConfigError
from .cputime import Cpu
from .output import Log
from .profile import Profile
from .rings import Rings
from .run import Done, Run, RuntimeFailure, say

DEBOUNCE = 0.1
RESTART_AFTER = 0.25  # from the change of a file to the end of the old capture


def _from(value):
    """When a fault begins: after so many seconds, at once, or never."""
    return 0.0 if value is True else float(value or math.inf)


def complain(error):
    if getattr(error, "before", None):
        sys.stderr.write(error.before + "\n")
    sys.stderr.write("Error: %s\n" % error)
    sys.stderr.flush()


class Process:
    def __init__(self, options, argv):
        self.options, self.argv = options, argv
        self.born = self.busy_until = time.time()
        self.cpu, self.accounting = Cpu(self.born), None
        self.phase = "opening"
        self.deadline = 0.0
        self.hup = self.usr1 = False
        self.term_at = math.inf
        self.debounce = self.changed_at = None
        self.restart_at = None
        self.first_open = 0.0
        self.start_ns = 0
        self.code = None
        self.drop_found = self.drop_acted = 0
        self.wake_read, self.wake_write = os.pipe()
        os.set_blocking(self.wake_read, False)
        os.set_blocking(self.wake_write, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)

    # --- signals ---------------------------------------------------------

    def _on_term(self, *_):
        # While the old capture closes, a signal is lost for good.
        if self.phase != "closing":
            hang = self.run.fault.get("hang_on_term")
            self.term_at = min(self.term_at, math.inf if hang is True else time.time() + float(hang or 0))

    def _on_hup(self, *_):
        self.hup = True

    def _on_usr1(self, *_):
        self.usr1 = True

    def _handlers(self):
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.signal(signal.SIGHUP, self._on_hup)
        signal.signal(signal.SIGUSR1, self._on_usr1)

    # --- life --------------------------------------------------------------

    def start(self):
        """Configures and announces a run; capture opens later."""
        profile = Profile()
        self.run = run = Run(self.options, profile, Log(profile.syslog), self.argv)
        run.cpu = self.cpu
        again = bool(self.first_open)
        if self.accounting is None:
            self.accounting = Accounting(self.cpu, profile)
            self.busy_until = self.born + profile.startup
        self.accounting.take(profile)
        try:
            run.configure()
            run.print_after_config()
            self._handlers()
            run.prepare()
            run.reload_ns = time.time_ns()
            run.announce()
        except RuntimeFailure as failure:
            run.log.critical("Runtime error: %s. Exiting." % failure)
            return 1
        except ConfigError as error:
            if run.outputs and profile.release.since(41):
                self._summary()
            run.close()
            run.teardown()
            complain(error)
            return 1
        self.phase = "opening"
        if not again:
            self.deadline = self.born + profile.startup
        if run.fault.get("never_opens"):
            self.deadline = math.inf
        self.debounce = self.restart_at = None
        problem = run.open_failure()
        if problem:
            if profile.release.since(41):
                self._summary()
            complain(ConfigError(problem))
            if not profile.release.since(41):
                self._summary()
            return 1
        return None

    def _opened(self, now):
        run = self.run
        self.cpu.spend(now, self.busy_until)
        run.opened_at = now
        if not self.first_open:
            self.first_open = now
            self.start_ns = int(now * 1e9)
        run.first_open, run.start_ns = self.first_open, self.start_ns
        run.rings = Rings(run.profile, run.settings.kind, run.ring_bytes, run.settings.cpus_per_ring, run.selected, now,
                          _from(run.fault.get("blind")), self.cpu,
                          [(item.name, item.codes) for item in run.enabled], [name for name, _path in run.settings.plugins])
        self.snapshots = metrics.Snapshots()
        interval = run.settings.interval_ms / 1000.0
        # The timer runs since before the driver was loaded. Older releases wait for its first tick.
        ticks = max(int((now - run.reload_ns / 1e9) / interval), 0) if interval else 0
        at_once = ticks or run.profile.release.since(41)
        self.next_snapshot = now if at_once else run.reload_ns / 1e9 + interval
        self.snapshots.sample = 1 if ticks or not at_once else 0
        self.next_drop_check = now + 1
        self.drops_seen = (0, 0)
        self.drop_tokens, self.drop_found, self.drop_acted = run.settings.drop_burst, 0, 0
        self.phase = "live"

    def loop(self):
        while self.code is None:
            now = time.time()
            self._due(now)
            if self.code is not None:
                break
            run = self.run
            readers = [self.wake_read]
            if run.web and self.phase in ("opening", "live", "stopping"):
                readers.append(run.web)
            if run.watcher and run.watcher.fd >= 0 and self.phase in ("opening", "live"):
                readers.append(run.watcher.fd)
            ready, _, _ = select.select(readers, [], [], max(0.0, self._next() - time.time()))
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
            if run.web in ready:
                run.web.serve(self._answer)
            if run.watcher and self.phase in ("opening", "live") and (run.watcher.poll or run.watcher.fd in ready):
                if run.watcher.changed():
                    self._trigger()
        return self.code

    def _next(self):
        times = [time.time() + 1.0]
        if self.accounting.folder:
            times.append(self.accounting.next)
        if self._heeds_term:
            times.append(self.term_at)
        if self.phase != "live":
            times.append(self.deadline)
        else:
            times.append(self.next_drop_check)
            if self._writes_snapshots(time.time()):
                times.append(self.next_snapshot)
            if self.end_at:
                times.append(self.end_at)
        if self.debounce:
            times.append(self.debounce)
        if self.restart_at:
            times.append(self.restart_at)
        if self.run.watcher and self.run.watcher.poll:
            times.append(time.time() + 0.1)
        return min(times)

    @property
    def end_at(self):
        run = self.run
        limits = []
        if self.options.last("M"):
            limits.append(float(self.options.last("M")))
        if run.fault.get("die_after"):
            limits.append(float(run.fault["die_after"]))
        return run.opened_at + min(limits) if limits else None

    @property
    def _heeds_term(self):
        """A signal that comes while the capture opens is obeyed when it is open."""
        return self.phase == "live" or self.phase == "opening" and bool(self.run.fault.get("never_opens"))

    def _due(self, now):
        run = self.run
        if self.accounting.folder and now >= self.accounting.next:
            self._account(now)
        if self.hup:
            self.hup = False
            if run.watcher or not run.profile.release.since(42):
                self._trigger()
        if self.usr1:
            self.usr1 = False
            if run.outputs:
                run.outputs.reopen()
        if self.phase == "opening" and now >= self.deadline:
            self._opened(now)
        if self._heeds_term and now >= self.term_at:
            self._stop(now)
        if self.debounce and now >= self.debounce and self.phase in ("opening", "live"):
            self.debounce = None
            if self._check():
                self.restart_at = self.changed_at + RESTART_AFTER
        if self.phase == "live":
            self._live(now)
        elif self.phase == "stopping" and now >= self.deadline:
            self._finish(0)
        elif self.phase == "closing" and now >= self.deadline:
            self._gap(now)
        elif self.phase == "gap" and now >= self.deadline:
            self.deadline = self.reopen_at
            self.code = self.start()

    def _account(self, now):
        """Bring the totals of CPU time up to now, and show them."""
        if self.run.rings and self.phase in ("live", "stopping"):
            self.run.rings.advance(now)
        else:
            self.cpu.spend(now, self.busy_until)
        self.accounting.show(self.accounting.take(self.run.profile))
        self.accounting.next = now + EVERY

    def _live(self, now):
        run = self.run
        if self.restart_at and now >= self.restart_at:
            self._restart(now)
            return
        if self.end_at and now >= self.end_at:
            if run.fault.get("die_after"):
                run.log.critical("Runtime error: the simulated fault has come. Exiting.")
                self.code = 1
            else:
                self._finish(0)
            return
        if now >= self.next_snapshot and self._writes_snapshots(now):
            self._snapshot(now)
        if now >= self.next_drop_check:
            self.next_drop_check = now + 1
            self._drop_check(now)

    def _stop(self, now):
        self.run.log.info("SIGINT received, exiting...")
        self.phase, self.deadline, self.term_at = "stopping", now + self.run.profile.stop, math.inf

    def _finish(self, code):
        run = self.run
        self._drop_summary()
        run.log.debug("Stopping capture for event source 'syscall'")
        run.close()
        run.log.debug("closing inspectors")
        self._summary()
        self.code = code

    def _drop_summary(self):
        sys.stderr.write("Syscall event drop monitoring:\n   - event drop detected: %d occurrences\n"
                         "   - num times actions taken: %d\n" % (self.drop_found, self.drop_acted))
        sys.stderr.flush()

    def _summary(self):
        if not self.run.profile.quiet:
            say("Events detected: %d\nRule counts by severity:\nTriggered rules by rule name:\n" % self.run.alerts)

    # --- hot reload ----------------------------------------------------------

    def _trigger(self):
        now = time.time()
        self.debounce = now + DEBOUNCE
        self.changed_at = now

    def _check(self):
        """The dry run that Falco makes of itself before it lets go of the old run."""
        profile, old = Profile(), self.run
        trial = Run(self.options, profile, Log(profile.syslog), self.argv)
        trial.options.flags.add("dry-run")
        try:
            trial.configure()
            trial.prepare()
        except (ConfigError, RuntimeFailure) as error:
            trial.teardown()
            if getattr(error, "before", None):
                sys.stderr.write(error.before + "\n")
            old.outputs.emit("Falco internal: hot restart failure", "Falco internal: hot restart failure: %s" % error, {}, "Critical")
            return False
        finally:
            trial.options.flags.discard("dry-run")
            trial.close()
        trial.teardown()
        return True

    def _restart(self, now):
        run = self.run
        run.log.info("SIGHUP received, restarting...")
        self._drop_summary()
        run.log.debug("Stopping capture for event source 'syscall'")
        self.restart_at = None
        run.rings.advance(now)
        self.phase = "closing"
        span = run.profile.reload
        self.busy_until = now + span
        self.deadline = now + min(0.25, 0.3 * span)
        self.gap = min(0.2, 0.2 * span)
        self.reopen_at = now + span
        run.close()

    def _gap(self, now):
        # Between two runs no handler is set: a signal ends the process.
        self.phase, self.deadline = "gap", now + self.gap
        self.term_at = math.inf
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_IGN if self.run.fault.get("hang_on_term") else signal.SIG_DFL)
        self.run.log.debug("closing inspectors")
        self._summary()

    # --- what a live run writes -------------------------------------------

    def _writes_snapshots(self, now):
        run = self.run
        return bool(run.settings.metrics and (run.metrics_stream or run.settings.output_rule) and run.rings
                    and run.rings.share * run.profile.rate > 0 and not run.rings.blind(now))

    def _snapshot(self, now):
        run = self.run
        interval = run.settings.interval_ms / 1000.0
        fields = self.snapshots.fields(run, now)
        if run.metrics_stream:
            run.metrics_stream.write(json.dumps({"output_fields": fields, "sample": self.snapshots.sample},
                                                separators=(",", ":")) + "\n")
            run.metrics_stream.flush()
        if run.settings.output_rule:
            run.outputs.emit("Falco internal: metrics snapshot", "Falco metrics snapshot", fields, "Informational")
        self.snapshots.sample += 1
        timer = run.reload_ns / 1e9
        self.next_snapshot = timer + (int((now - timer) / interval) + 1) * interval

    def _drop_check(self, now):
        run, settings = self.run, self.run.settings
        run.rings.advance(now)
        events, drops = int(run.rings.events), int(run.rings.drops + run.rings.page_faults)
        fresh, lost = events - self.drops_seen[0], drops - self.drops_seen[1]
        self.drops_seen = (events, drops)
        if settings.simulate_drops:
            run.log.info("Simulating syscall event drop")
            lost = max(lost, 1)
        self.drop_tokens = min(settings.drop_burst, self.drop_tokens + settings.drop_rate)
        threshold = 0 if settings.simulate_drops else settings.drop_threshold
        if not lost or not fresh or lost / fresh <= threshold:
            return
        self.drop_found += 1
        actions = settings.drop_actions
        if self.drop_tokens < 1 or not actions:
            return
        self.drop_tokens -= 1
        self.drop_acted += 1
        counters = dict(metrics.Counters(run, now).kernel)
        enters = not run.profile.release.since(42)
        fields = {key: str(value) for key, value in counters.items() if key.startswith("n_drops") and (enters or "enter" not in key)}
        for name in ("n_drops_bug", "n_drops_page_faults", "n_drops_scratch_map"):
            fields.setdefault(name, "0")
        fields.update(n_evts=str(fresh), n_drops=str(lost), ebpf_enabled="0" if settings.kind == "kmod" else "1")
        text = "Falco internal: syscall event drop. %d system calls dropped in last second." % lost
        if "log" in actions:
            run.log.debug(text)
        if "alert" in actions:
            run.outputs.emit("Falco internal: syscall event drop", text, fields, "Debug")
        if "exit" in actions:
            run.log.critical(text)
            run.log.critical("Exiting.")
            self._drop_summary()
            self._summary()
            complain(ConfigError("Drop manager internal error"))
            self.code = 1

    def _answer(self, path):
        run = self.run
        release, settings = run.profile.release, run.settings
        if path == settings.healthz:
            return "200 OK", "application/json", b'{"status": "ok"}'
        if path == "/versions":
            versions = dict(release.versions)
            if settings.plugins:
                versions["plugin_versions"] = {name: "0.7.1" for name, _ in settings.plugins}
            return "200 OK", "application/json", json.dumps(versions, sort_keys=True, separators=(",", ":")).encode()
        if path == "/metrics" and settings.prometheus and settings.metrics and release.since(38):
            if self.phase == "opening":
                if release.since(41, 1):
                    return "404 Not Found", None, b""
                self._crash()
            return "200 OK", "text/plain; version=0.0.4", metrics.prometheus(run, time.time()).encode()
        return "404 Not Found", None, b""

    @staticmethod
    def _crash():
        """Before 0.41.1 a scrape that comes before the driver is open is a segmentation fault."""
        import resource
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)


def once(options, argv):
    """A run that ends by itself: printing, validation, dry run."""
    profile = Profile()
    run = Run(options, profile, Log(profile.syslog), argv)
    try:
        run.print_only()
        run.configure()
        run.print_after_config()
        run.prepare()
    except RuntimeFailure as failure:
        run.log.critical("Runtime error: %s. Exiting." % failure)
        return 1
    except ConfigError as error:
        run.teardown()
        complain(error)
        return 1
    run.teardown()
    return 0


def main(argv):
    try:
        options = Options(argv, Profile().release)
    except UsageError as error:
        complain(error)
        return 1
    ends = ("dry-run", "V", "h", "version", "page-size", "list-plugins", "i", "list-events", "L", "l", "support", "config-schema",
            "rule-schema")
    try:
        if any(name in options for name in ends):
            return once(options, argv)
        process = Process(options, argv)
        code = process.start()
        return process.loop() if code is None else code
    except Done as done:
        return done.code
