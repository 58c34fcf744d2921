# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and merging configuration, by release."""

import os

from . import schema, yamltext

KINDS_WITH_RINGS = ("kmod", "ebpf", "modern_ebpf")
LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
PRIORITIES = LEVELS[:6] + ("informational", "debug")


class ConfigError(Exception):
    """Ends the run; the text follows `Error: `."""

    def __init__(self, text, before=None):
        Exception.__init__(self, text)
        self.before = before


def _read(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()


def _tokens(key):
    """a.b[0].c -> a, b, 0, c; an empty [] stands for a new item."""
    out = []
    for part in key.split("."):
        name, bracket, rest = part.partition("[")
        if name:
            out.append(name)
        while bracket:
            index, _, rest = rest.partition("]")
            out.append(int(index) if index.isdigit() else None)
            _, bracket, rest = rest.partition("[")
    return out


def set_option(root, option):
    key, equals, text = option.partition("=")
    if not equals or not key:
        raise ConfigError('Error parsing config option "%s". Must be of the form key=val or key.subkey=val' % option)
    value = yamltext.parse(text) if text.startswith("{") else yamltext.Scalar(text)
    tokens = _tokens(key)
    node = root
    for position, token in enumerate(tokens):
        final = position == len(tokens) - 1
        empty = value if final else (yamltext.Map() if isinstance(tokens[position + 1], str) else yamltext.Seq())
        if isinstance(node, str):
            raise ConfigError('Config error at key "%s": yaml-cpp: error at line %d, column %d: operator[] call on a scalar '
                              '(key: "%s")\n' % ((key,) + tuple(node.mark) + (token,)))
        if isinstance(token, str):
            if final or node.get(token) is None:
                node[token] = empty
            node = node[token]
            if not final and not isinstance(tokens[position + 1], str) and not isinstance(node, list):
                raise ConfigError('Config error at key "%s": not a sequence\n' % key)
        elif token is None or token >= len(node):
            node.append(empty)
            node = node[-1]
        else:
            if final:
                node[token] = empty
            node = node[token]


class Merged:
    """The merged tree and how it came about."""

    def __init__(self, release, path, options, last=False):
        self.release = release
        self.path = path
        self.options = list(options)
        self.last = last
        self.root = yamltext.Map()
        self.files = []      # (path, complaint of the schema check or None), in order of loading
        self.directories = []
        self.listed = []     # files named one by one
        if path:
            self._load_main()
        else:
            self._apply(self.options)

    def _parse(self, text):
        return yamltext.parse(text, self.last, whole_only=self.release.minor < 37)

    def _note(self, path, tree):
        complaint = schema.first_complaint(tree, self.release) if self.release.since(39) else None
        self.files.append((path, complaint))

    def _load_main(self):
        try:
            tree = self._parse(_read(self.path))
        except OSError:
            raise ConfigError("Could not find configuration file at %s" % self.path)
        except yamltext.YamlError as error:
            raise ConfigError("std::exception", "Cannot read config file (%s): %s" % (self.path, error))
        self._note(self.path, tree)
        self.root = tree if isinstance(tree, dict) else yamltext.Map()
        includes = [item for item in self.options if item.startswith("config_files")]
        others = [item for item in self.options if not item.startswith("config_files")]
        if not self.release.since(38):
            self._apply(self.options)
            return
        self._apply(includes)
        if not self.release.since(41):
            # Before 0.41 the command line comes first and fragments win over it.
            self._apply(others)
        for path, strategy in self._entries():
            self._include(path, strategy)
        if self.release.since(41):
            self._apply(others)

    def _apply(self, options):
        for option in options:
            set_option(self.root, option)

    def _entries(self):
        entries = self.root.get("config_files")
        if isinstance(entries, str):
            entries = [entries]
        for entry in entries or []:
            if isinstance(entry, dict):
                if not self.release.since(41):
                    raise ConfigError("yaml-cpp: error at line %d, column %d: bad conversion\n" % tuple(entry.mark))
                yield str(entry.get("path", "")), str(entry.get("strategy", "append"))
            elif isinstance(entry, str):
                yield str(entry), "append"

    def _include(self, path, strategy):
        if os.path.isdir(path):
            self.directories.append(path)
            members = sorted(os.path.join(path, name) for name in os.listdir(path))
            members = [member for member in members if os.path.isfile(member)]
        elif os.path.exists(path):
            self.listed.append(path)
            members = [path]
        else:
            return
        for member in members:
            if os.path.realpath(member) == os.path.realpath(self.path):
                raise ConfigError("Config error: 'config_files' directive tried to recursively include main config file: %s.\n"
                                  % member)
            self._merge(member, strategy)

    def _merge(self, path, strategy):
        try:
            tree = self._parse(_read(path))
        except yamltext.YamlError as error:
            raise ConfigError(str(error) + "\n")
        except OSError:
            return
        if isinstance(tree, list):
            raise ConfigError("invalid node; this may result from using a map iterator as a sequence iterator, or vice-versa\n")
        if isinstance(tree, dict) and "config_files" in tree:
            raise ConfigError("Config error: 'config_files' directive in included config file %s.\n" % path)
        self._note(path, tree)
        for key, value in (tree if isinstance(tree, dict) else {}).items():
            present = key in self.root
            if not self.release.since(41) or strategy == "override":
                self.root[key] = value
            elif strategy == "add-only":
                if not present:
                    self.root[key] = value
            elif isinstance(value, list) and isinstance(self.root.get(key), list):
                self.root[key] = yamltext.Seq(self.root[key] + value)
            else:
                self.root[key] = value


def duration_ms(text):
    """A Prometheus duration; 0 when it is none."""
    units = (("y", 31536000000), ("w", 604800000), ("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1))
    total, position, number, text = 0, 0, "", text.replace(" ", "")
    if not text:
        return 0
    index = 0
    while index < len(text):
        if text[index].isdigit():
            number += text[index]
            index += 1
            continue
        unit = "ms" if text.startswith("ms", index) else text[index]
        order = [name for name, _ in units]
        if not number or unit not in order or order.index(unit) < position:
            return 0
        position = order.index(unit) + 1
        total += int(number) * units[order.index(unit)][1]
        number = ""
        index += len(unit)
    return 0 if number else total


class Settings:
    """Values with Falco's own defaults where a key is absent or not convertible."""

    def __init__(self, merged, log):
        self.merged = merged
        self.release = merged.release
        self.log = log
        try:
            self._read()
        except ValueError as error:
            raise ConfigError("Error reading config file (%s): %s" % (merged.path, error))

    def _get(self, key):
        node = self.merged.root
        for part in key.split("."):
            if not isinstance(node, dict):
                return None
            node = node.get(part)
        return node

    def bool(self, key, default):
        return yamltext.as_bool(self._get(key), default)

    def int(self, key, default, low=0, high=0xFFFFFFFF):
        return yamltext.as_int(self._get(key), default, low, high)

    def text(self, key, default):
        return yamltext.as_str(self._get(key), default)

    def list(self, key):
        return yamltext.as_list(self._get(key))

    def _read(self):
        release = self.release
        self.log_level = self.text("log_level", "info")
        if self.log_level not in LEVELS:
            raise ConfigError("Unknown log level " + self.log_level)
        self.log_stderr = self.bool("log_stderr", False)
        self.log_syslog = self.bool("log_syslog", True)
        self.iso_time = self.bool("time_format_iso_8601", False)
        self.libs_logger = self.bool("libs_logger.enabled", release.since(41))
        self.libs_severity = self.text("libs_logger.severity", "info" if release.since(41) else "debug")
        self.log.configure(self)
        self._read_engine()
        self._read_rules_files()
        self.json_output = self.bool("json_output", False)
        priority = self.text("priority", "debug").lower()
        self.priority = {"info": "informational"}.get(priority, priority)
        if self.priority not in PRIORITIES:
            raise ValueError('Unknown priority "%s"--must be one of emergency, alert, critical, error, warning, notice, '
                             'informational, debug' % self.text("priority", ""))
        self.stdout = self.bool("stdout_output.enabled", False)
        self.syslog_output = self.bool("syslog_output.enabled", False)
        self.file_output = self.text("file_output.filename", "") if self.bool("file_output.enabled", False) else ""
        others = ["program_output", "http_output"] + ([] if release.since(44) else ["grpc_output"])
        self.any_output = (self.stdout or self.syslog_output or self.bool("file_output.enabled", False)
                           or any(self.bool(name + ".enabled", False) for name in others))
        self.watch = self.bool("watch_config_files", True)
        matching = self.text("rule_matching", "first")
        if release.since(36) and matching not in ("first", "all"):
            raise ValueError('Unknown rule matching strategy "%s"--must be one of first, all' % matching)
        self.custom_set = self.list("base_syscalls.custom_set") if release.since(35) else []
        self.repair = self.bool("base_syscalls.repair", False) if release.since(35) else False
        self.all_syscalls = self.bool("base_syscalls.all", False) if release.since(40) else False
        self._read_drops()
        self._read_web()
        self._read_metrics()
        self.plugins = self._read_plugins()
        self.rule_switches = self._get("rules") if release.since(38) else None

    def _read_engine(self):
        release = self.release
        if not release.since(37):
            self.kind = "kmod"
            self.preset = self.int("syscall_buf_size_preset", 4, 0, 0xFFFF)
            self.cpus_per_ring = self.int("modern_bpf.cpus_for_each_syscall_buffer", 2, 0, 0xFFFF)
            self.drop_failed = release.since(35) and self.bool("syscall_drop_failed_exit", False)
            return
        self.kind = self.text("engine.kind", "kmod")
        if self.kind not in release.engine_kinds:
            raise ValueError("engine.kind '%s' is not a valid kind." % self.kind)
        if self.kind == "replay" and not self.text("engine.replay.capture_file", ""):
            raise ValueError("engine.kind is 'replay' but no engine.replay.capture_file specified.")
        block = "engine." + self.kind
        self.preset = self.int(block + ".buf_size_preset", 4, -0x8000, 0x7FFF)
        self.cpus_per_ring = self.int("engine.modern_ebpf.cpus_for_each_buffer", 2, 0, 0xFFFF)
        self.drop_failed = self.bool(block + ".drop_failed_exit", False)
        if release.minor == 37 and self.kind == "kmod" and self.preset == 4 and not self.drop_failed:
            self.preset = self.int("syscall_buf_size_preset", 4, -0x8000, 0x7FFF)
            self.cpus_per_ring = self.int("modern_bpf.cpus_for_each_syscall_buffer", 2, 0, 0xFFFF)

    def _read_rules_files(self):
        singular, plural = self._get("rules_file"), self._get("rules_files")
        if self.release.since(38):
            if singular is not None:
                self.log.warning("Using deprecated config key 'rules_file' (singular form). "
                                 "Please use new 'rules_files' config key (plural form).")
                if plural is not None:
                    raise ValueError("both 'rules_files' and 'rules_file' keys set")
            self.rules_files = yamltext.as_list(plural if plural is not None else singular)
        else:
            self.rules_files = yamltext.as_list(singular)

    def _read_drops(self):
        self.drop_threshold = yamltext.as_float(self._get("syscall_event_drops.threshold"), 0.1)
        if not 0 <= self.drop_threshold <= 1:
            raise ValueError("Syscall event drops threshold must be a double in the range [0, 1]")
        self.drop_rate = yamltext.as_float(self._get("syscall_event_drops.rate"), 0.03333)
        self.drop_burst = yamltext.as_float(self._get("syscall_event_drops.max_burst"), 1)
        self.simulate_drops = self.bool("syscall_event_drops.simulate_drops", False)
        self.drop_actions = self.list("syscall_event_drops.actions")
        for action in self.drop_actions:
            if action not in ("ignore", "log", "alert", "exit"):
                raise ValueError("available actions for syscall event drops are 'ignore', 'log', 'alert', and 'exit'")
        if "ignore" in self.drop_actions and len(self.drop_actions) > 1:
            raise ValueError("syscall event drop action \"%s\" does not make sense with the \"ignore\" action"
                             % [item for item in self.drop_actions if item != "ignore"][0])

    def _read_web(self):
        self.web = self.bool("webserver.enabled", False)
        self.web_port = self.int("webserver.listen_port", 8765)
        self.web_address = self.text("webserver.listen_address", "0.0.0.0") if self.release.since(37) else "0.0.0.0"
        if not self.web_address.replace(".", "").replace(":", "").isalnum():
            raise ValueError('Webserver listen address "%s" is not a valid IP address' % self.web_address)
        self.web_threads = self.int("webserver.threadiness", 0)
        self.healthz = self.text("webserver.k8s_healthz_endpoint", "/healthz")
        self.prometheus = self.release.since(38) and self.bool("webserver.prometheus_metrics_enabled", False)

    def _read_metrics(self):
        known = self.release.since(35)
        self.metrics = known and self.bool("metrics.enabled", False)
        self.interval_text = self.text("metrics.interval", "5000")
        self.interval_ms = duration_ms(self.interval_text)
        self.output_rule = self.bool("metrics.output_rule", False)
        self.output_file = self.text("metrics.output_file", "")
        since = {
            "resource_utilization_enabled": 35, "kernel_event_counters_enabled": 35, "libbpf_stats_enabled": 35,
            "convert_memory_to_mb": 35, "state_counters_enabled": 37, "rules_counters_enabled": 38,
            "plugins_metrics_enabled": 39, "kernel_event_counters_per_cpu_enabled": 39,
            "kernel_iter_event_counters_enabled": 44,
        }
        self.metric = {key: self.release.since(minor) and self.bool("metrics." + key, True) for key, minor in since.items()}
        self.metric["include_empty_values"] = self.bool("metrics.include_empty_values", False)

    def _read_plugins(self):
        """Names and paths of the plugins to load."""
        known = {}
        for item in self._get("plugins") or []:
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                known[str(item["name"])] = yamltext.as_str(item.get("library_path"), "")
        wanted = self._get("load_plugins")
        if wanted is None:
            return list(known.items())
        for name in yamltext.as_list(wanted):
            if name not in known:
                raise ValueError("Cannot load plugin '%s': plugin config not found for given name" % name)
        return [(name, known[name]) for name in yamltext.as_list(wanted)]


def support_tree(node):
    """The merged tree as --support shows it: scalars are text, empty blocks are objects."""
    return {key: ({} if value is None else value) for key, value in node.items()}
