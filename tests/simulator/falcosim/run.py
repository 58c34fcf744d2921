# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the command line to a configured run."""

import json
import os
import sys
import textwrap

from . import reload, rings, rules, selection, syscalls
from .cli import help_text
from .config import ConfigError, Merged, Settings, support_tree
from .output import Outputs
from .web import Web

DEFAULT_CONFIG = "/etc/falco/falco.yaml"
DEFAULT_PROBE = os.path.expanduser("~/.falco/falco-bpf.o")


class RuntimeFailure(Exception):
    """Ends the run with a log line of its own."""


class Done(Exception):
    """The run was only asked to print something."""

    def __init__(self, code=0):
        Exception.__init__(self)
        self.code = code


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


class Run:
    """One pass through Falco's start sequence; a hot reload makes a new one."""

    def __init__(self, options, profile, log, argv):
        self.options, self.profile, self.log, self.argv = options, profile, log, argv
        self.release = profile.release
        self.settings = self.engine = self.web = self.outputs = self.watcher = self.rings = self.metrics_stream = None
        self.enabled, self.rules_asked, self.rules_paths, self.config_paths = [], [], [], []
        self.selected = set()
        self.inspected = False
        self.fault = {}
        self.start_ns = self.reload_ns = 0
        self.first_open = self.opened_at = 0.0
        self.alerts = 0
        self.cpu = None  # of the process

    @property
    def dry(self):
        return "dry-run" in self.options

    # --- configuration -------------------------------------------------

    def configure(self):
        path = self.options.last("c")
        if path is None and os.path.exists(DEFAULT_CONFIG):
            path = DEFAULT_CONFIG
        if path is not None and not os.path.exists(path):
            raise ConfigError("Could not find configuration file at %s" % path)
        merged = Merged(self.release, path, self.options.all("o"))
        self.settings = Settings(merged, self.log)
        self._old_driver_options()
        self.config_paths = ([path] if path else []) + merged.listed
        self.fault = self.profile.fault(self.settings)
        self.log.info("Falco version: %s (%s)" % (self.release.text, os.uname().machine))
        self.log.debug("CLI args: " + " ".join(["/usr/bin/falco"] + self.argv))
        if path:
            self._name_files(merged)
        self.log.info("System info: " + _kernel_version())

    def _name_files(self, merged):
        if not self.release.since(38):
            self.log.info("Falco initialized with configuration file: " + merged.path)
            return
        self.log.info("Falco initialized with configuration files:")
        if not self.release.since(39):
            for path, _ in merged.files:
                self.log.info("   " + path)
            return
        for path, complaint in sorted(merged.files):
            if complaint:
                self.log.warning("   %s | schema validation: %s" % (path, complaint))
            else:
                self.log.info("   %s | schema validation: ok" % path)

    def _old_driver_options(self):
        settings = self.settings
        if self.release.since(38) or (self.release.minor == 37 and settings.kind != "kmod"):
            return
        if "modern-bpf" in self.options:
            settings.kind = "modern_ebpf"
        elif "FALCO_BPF_PROBE" in os.environ:
            settings.kind = "ebpf"
        elif "nodriver" in self.options:
            settings.kind = "nodriver"

    # --- things that only print ------------------------------------------

    def print_only(self):
        options = self.options
        if "h" in options:
            say("Falco - Cloud Native Runtime Security\nUsage:\n  falco [OPTION...]\n\n%s" % help_text(self.release))
            raise Done()
        if "config-schema" in options or "rule-schema" in options:
            say("{}\n")
            raise Done()

    def print_after_config(self):
        options = self.options
        if "version" in options:
            self._version()
        if "page-size" in options:
            self.log.info("Your system page size is: %d bytes" % self.profile.page_size)
            raise Done()
        if not self.settings.merged.path:
            raise ConfigError("You must create a config file at %s or by passing -c" % DEFAULT_CONFIG)
        if "list-plugins" in options:
            say("%d Plugins Loaded:\n\n" % len(self.settings.plugins)
                + "".join("Name: %s\n\n" % name for name, _ in self.settings.plugins) + "\n")
            raise Done()
        if "i" in options:
            say("Ignored syscall(s):\n" + "".join("- %s\n" % name for name in sorted(syscalls.to_names(self.release.ignored_codes))))
            say("\n")
            raise Done()
        if "list-events" in options:
            self._list_events()

    def _version(self):
        versions = self.release.versions
        if self.settings.json_output:
            say(json.dumps(versions, sort_keys=True, separators=(",", ":")) + "\n")
        else:
            say("Falco version: %(falco_version)s\nLibs version:  %(libs_version)s\nPlugin API:    %(plugin_api_version)s\n"
                "Engine:        %(engine_version_semver)s\nDriver:\n  API version:    %(driver_api_version)s\n"
                "  Schema version: %(driver_schema_version)s\n  Default driver: %(default_driver_version)s\n" % versions)
        raise Done()

    def _list_events(self):
        say("The events below are valid for Falco *Schema Version*: %s\n" % self.release.versions["driver_schema_version"])
        traced = ("procexit", "switch", "page_fault", "signaldeliver")
        both = not self.release.since(42)
        say("## Syscall events\n\n")
        for name in sorted(syscalls.LEGAL_NAMES - set(traced)):
            say("%s< %s()\n" % ("> %s()\n" % name if both else "", name))
        say("\n## Tracepoint events\n\n" + "".join("> %s()\n" % name for name in traced))
        say("\n## Plugin events\n\n> pluginevent()\n\n## Metaevents\n\n")
        say("".join("> %s()\n" % name for name in sorted(syscalls.META_EVENTS - {"pluginevent"})) + "\n")
        raise Done()

    # --- rules -------------------------------------------------------------

    def load_plugins(self):
        for name, path in self.settings.plugins:
            self.log.info("Loaded plugin '%s@0.7.1' from file %s" % (name, path))
        self.inspected = True
        if self.settings.drop_failed and self.settings.kind in rings_kinds():
            self.log.info("Failed syscall exit events are dropped in the kernel driver")

    def validate(self):
        paths = self.options.all("V")
        for path in paths:
            if not os.access(path, os.R_OK):
                raise ConfigError("Could not open file %s for reading" % path)
        self.log.info("Validating rules file(s):")
        for path in paths:
            self.log.info("   " + path)
        engine = rules.Engine(self.release, [name for name, _path in self.settings.plugins])
        for path in paths:
            engine.load(path)
        if not any(report.errors for report in engine.reports):
            engine.compile()
        failed = [report for report in engine.reports if report.errors]
        for report in engine.reports:
            if report.warnings and not report.errors:
                self.log.warning(report.text())
        if self.settings.json_output:
            body = {"falco_load_results": [report.as_dict(self.release) for report in engine.reports]}
            say(json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n")
        else:
            for report in engine.reports:
                say(report.text() + "\n" if report.errors else report.summary())
        if failed:
            raise ConfigError("".join(report.text() for report in failed))
        raise Done()

    def load_rules(self):
        self.rules_asked = self.options.all("r") or self.settings.rules_files
        self.engine = rules.load(self.settings, self.rules_asked, self.log)
        self.rules_paths = [report.path for report in self.engine.reports]
        self.enabled = self.engine.enabled(self.settings, self.options.all("D"), self.options.all("T"), self.options.all("t"))
        if "L" in self.options or "l" in self.options:
            self._describe()
        if "support" in self.options:
            self._support()

    def _describe(self):
        only = self.options.last("l")
        found = self.engine.describe(only)
        if self.settings.json_output:
            say(json.dumps(found) + "\n")
        else:
            say("%-50s %s\n%-50s %s\n" % ("Rule", "Description", "----", "-----------"))
            for rule in found["rules"]:
                text = textwrap.wrap(rule["info"]["description"], 59) or [""]
                say("".join("%-50s %s\n" % row for row in zip([rule["info"]["name"]] + [""] * len(text), text)) + "\n")
        raise Done()

    def _support(self):
        merged = Merged(self.release, self.settings.merged.path, self.options.all("o"), last=True)
        info = os.uname()
        files = []
        for path in self.rules_paths:
            with open(path, encoding="utf-8", errors="replace") as stream:
                files.append({"name": path, "variants": [{"required_engine_version": "0.0.0", "content": stream.read()}]})
        body = {
            "cmdline": " ".join(["/usr/bin/falco"] + self.argv), "config": json.dumps(support_tree(merged.root)),
            "engine_info": self.release.versions, "rules_files": files, "version": self.release.text,
            "system_info": {"machine": info.machine, "nodename": info.nodename, "release": info.release, "sysname": info.sysname,
                            "version": info.version},
        }
        say(json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n")
        raise Done()

    # --- capture -------------------------------------------------------------

    def prepare(self):
        """Everything up to opening the driver."""
        if "V" in self.options:
            self.load_plugins()
            self.validate()
        self.load_plugins()
        if self.fault.get("refuse_config"):
            raise ConfigError(_plain(self.fault["refuse_config"]))
        self.load_rules()
        if self.release.since(34) and not self.settings.any_output:
            raise ConfigError("No output configured, please make sure at least one output is configured and enabled.")
        if self.dry:
            self.log.debug("Skipping outputs initialization in dry-run")
            self.log.debug("Skipping signal handlers creation in dry-run")
            self.log.debug("Skipping pidfile creation in dry-run")
        else:
            self.outputs = Outputs(self.settings, self.log)
            self._watch()
            self._pidfile()
        codes = set()
        for item in self.enabled:
            if str(item.body.get("source") or "syscall") == "syscall":
                codes |= item.codes
        self.selected = selection.select(self.settings, codes, self.log, "A" in self.options)
        self._ring_size()
        self._ring_count()
        self._start_web()
        if self.release.since(37):
            self.log.debug("Enabled rules:")
            for item in self.enabled:
                self.log.debug("   " + item.name)
            self.log.debug("(%d) enabled rules in total" % len(self.enabled))
        problem = self._start_metrics()
        if self.dry:
            self.log.debug("Skipping event processing in dry-run")
        if problem:
            raise ConfigError(problem)

    def _watch(self):
        files, directories = reload.watched(self)
        for path in files:
            self.log.debug("Watching file '%s'" % path)
        for path in directories:
            self.log.debug("Watching directory '%s'" % path)
        if files or directories:
            self.watcher = reload.Watcher(self.release, files, directories)
        elif self.release.since(42):
            self.log.debug("Refusing to start restart handler due to nothing to watch")

    def _pidfile(self):
        path = self.options.last("P")
        if path:
            with open(path, "w", encoding="ascii") as stream:
                stream.write("%d" % os.getpid())

    def _ring_size(self):
        settings = self.settings
        self.ring_bytes = 8 << 20
        if settings.kind not in rings_kinds():
            return
        if settings.preset == -1:
            return
        if not 1 <= settings.preset <= 10:
            raise ConfigError("The 'buf_size_preset' value must be between '1' and '10'\n")
        self.ring_bytes = 1 << (19 + settings.preset)
        if self.ring_bytes % self.profile.page_size or self.ring_bytes // self.profile.page_size <= 2:
            raise ConfigError("The syscall buffer dimension '%d' is not a multiple of the page size '%d'\n"
                              % (self.ring_bytes, self.profile.page_size))
        self.log.info("The chosen syscall buffer dimension is: %d bytes (%d MBs)" % (self.ring_bytes, self.ring_bytes >> 20))

    def _ring_count(self):
        settings, cpus = self.settings, self.profile.cpus
        if settings.kind == "modern_ebpf" and settings.cpus_per_ring > cpus:
            self.log.warning("you required a buffer every '%d' CPUs but there are only '%d' online CPUs. Falco changed the config "
                             "to: one buffer every '%d' CPUs" % (settings.cpus_per_ring, cpus, cpus))
            settings.cpus_per_ring = cpus

    def _start_web(self):
        settings = self.settings
        if not settings.web:
            return
        if self.dry:
            self.log.debug("Skipping starting webserver in dry-run")
            return
        threads = settings.web_threads or self.profile.cpus
        where = "%s:%d" % (settings.web_address, settings.web_port) if self.release.since(37) else "port %d" % settings.web_port
        self.log.info("Starting health webserver with threadiness %d, listening on %s" % (threads, where))
        try:
            self.web = Web(settings.web_address, settings.web_port)
        except OSError:
            raise RuntimeFailure("an error occurred while starting webserver")

    def _start_metrics(self):
        """What is wrong with the metrics settings, as text."""
        settings = self.settings
        if not settings.metrics:
            return None
        if settings.output_file:
            try:
                self.metrics_stream = open(settings.output_file, "a", encoding="utf-8")
            except OSError:
                raise RuntimeFailure("basic_ios::clear: iostream error")
        if not settings.output_file and not settings.output_rule and not (settings.prometheus and self.release.since(38)):
            return ("Metrics are enabled with no output configured. Please enable at least one output channel"
                    + (" ('metrics.output_rule', 'metrics.output_file' or 'webserver.prometheus_metrics_enabled')"
                       if self.release.since(38) else ""))
        if settings.interval_ms < 100:
            return ("Metrics interval must have a minimum value of 100ms and reflect a Prometheus compliant time duration format: "
                    "https://prometheus.io/docs/prometheus/latest/querying/basics/#time-durations. \n")
        self.log.info("Setting metrics interval to %s, equivalent to %d (ms)" % (settings.interval_text, settings.interval_ms))
        return None

    def announce(self):
        """The lines just before the driver is opened."""
        settings, log = self.settings, self.log
        log.info("Loaded event sources: syscall")
        log.info("Enabled event sources: syscall")
        log.debug("Opening event source 'syscall'")
        if settings.kind == "modern_ebpf":
            log.info("Opening 'syscall' source with modern BPF probe.")
            log.info("One ring buffer every '%d' CPUs." % settings.cpus_per_ring)
        elif settings.kind == "kmod":
            log.info("Opening 'syscall' source with Kernel module")
        elif settings.kind == "ebpf":
            log.info("Opening 'syscall' source with BPF probe. BPF probe path: "
                     + settings.text("engine.ebpf.probe", os.environ.get("FALCO_BPF_PROBE") or DEFAULT_PROBE))
        else:
            log.info("Opening 'syscall' source with no driver")
        self._libs("Trying to open the right engine!")

    def _libs(self, text):
        if self.settings.libs_logger and self.release.since(41):
            self.log.info("[libs]: " + text)

    def open_failure(self):
        """The error of a driver that doesn't open, or None."""
        kind, log = self.settings.kind, self.log
        if kind not in rings_kinds():
            return None
        if self.fault.get("refuse"):
            text = _plain(self.fault["refuse"])
        elif not self.profile.opens(kind):
            if kind == "kmod":
                log.info("Trying to inject the Kernel module and opening the capture again...")
                log.critical("Unable to load the driver")
                self._libs("Trying to open the right engine!")
                text = ("error opening device /dev/falco0. Make sure you have root credentials and that the falco module is loaded: "
                        "No such file or directory")
            elif kind == "ebpf":
                text = "can't open BPF probe '%s'" % self.settings.text("engine.ebpf.probe", DEFAULT_PROBE)
            else:
                self._libs("libpman: failed to load BPF object (errno: 22 | message: Invalid argument)")
                text = "Initialization issues during scap_init"
        elif self.settings.metrics and self.settings.interval_ms < 200 and kind == "modern_ebpf":
            text = "Initialization issues during scap_init"  # the metrics timer interrupts the loading
        else:
            model = rings.Rings(self.profile, kind, self.ring_bytes, self.settings.cpus_per_ring, self.selected, 0)
            if self.profile.memory is None or model.peak_memory <= self.profile.memory:
                return None
            fitting = max(int(self.profile.memory // self.ring_bytes), 0)
            if kind == "modern_ebpf":
                text = ("failed to create the ringbuf map for CPU '%d'. (If you get memory allocation errors try to reduce the "
                        "buffer dimension)" % min(fitting * self.settings.cpus_per_ring, self.profile.cpus - 1))
                self._libs("libpman: %s (errno: 12 | message: Cannot allocate memory)" % text)
            else:
                text = ("error mapping the ring buffer for device /dev/falco%d. (If you get memory allocation errors try to "
                        "reduce the buffer dimension)" % fitting)
        log.critical("An error occurred in an event source, forcing termination...")
        return text

    def close(self):
        for part in (self.web, self.outputs, self.watcher, self.metrics_stream):
            if part:
                part.close()
        self.web = self.outputs = self.watcher = self.metrics_stream = None

    def teardown(self):
        if self.inspected:
            if self.dry:
                self.log.debug("Skipping unregistering signal handlers in dry-run")
            self.log.debug("closing inspectors")


def rings_kinds():
    return ("kmod", "ebpf", "modern_ebpf")


def _plain(text):
    """An error's text without the word that is printed before it."""
    return str(text)[7:] if str(text).startswith("Error: ") else str(text)


def _kernel_version():
    try:
        with open("/proc/version", encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return "Linux"
