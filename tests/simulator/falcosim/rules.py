# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules files: what is loaded, what is enabled, and what Falco says about it."""

import fnmatch
import os
import re

from . import syscalls, yamltext
from .condition import ConditionError, Expander, Parser
from .config import ConfigError, PRIORITIES

_RULE_KEYS = frozenset(
    "rule condition output desc priority source enabled capture capture_duration warn_evttypes skip-if-unknown-filter "
    "tags exceptions override append".split())
_KEYS = {
    "rule": _RULE_KEYS,
    "macro": frozenset("macro condition append override".split()),
    "list": frozenset("list items append override".split()),
    "required_engine_version": frozenset(["required_engine_version"]),
    "required_plugin_versions": frozenset(["required_plugin_versions"]),
}
_UNVALIDATED = ("Object contains a property that could not be validated using 'properties' or 'additionalProperties' "
                "constraints: '%s'.")


class Item:
    def __init__(self, kind, body, path, mark):
        self.kind, self.body, self.path, self.mark = kind, body, path, mark
        self.name = str(body.get(kind))
        self.tree = None

    @property
    def place(self):
        return "    %s '%s': (%s:%d:%d)\n" % (self.kind, self.name, self.path, self.mark[0], self.mark[1])

    @property
    def snippet(self):
        return "------\n- %s: %s\n  ^\n------\n" % (self.kind, self.name)


class FileReport:
    """What a load of one file yielded."""

    def __init__(self, path):
        self.path = path
        self.errors = []    # (context, code line)
        self.warnings = []
        self.schema = "none"
        self.schema_warnings = []

    def text(self):
        if self.errors:
            head, label, found = "Invalid", "Errors", self.errors
        elif self.warnings:
            head, label, found = "Ok, with warnings", "Warnings", self.warnings
        else:
            return "%s: Ok\n" % self.path
        out = "%s: %s\n" % (self.path, head)
        if self.schema_warnings:
            out += "%d Schema warnings:\n%s------\n\n" % (
                len(self.schema_warnings), "".join("------\n%s\n" % item for item in self.schema_warnings))
        out += "%d %s:\n" % (len(found), label)
        return out + "".join(context + line + "\n" for context, line in found)

    def summary(self):
        head = "Invalid" if self.errors else "Ok, with warnings" if self.warnings else "Ok"
        return "%s: %s\n" % (self.path, head)

    def as_dict(self, release):
        def entry(pair):
            code, _, rest = pair[1].partition(" ")
            return {"code": code, "codedesc": rest.partition(")")[0].lstrip("("), "message": rest.partition("): ")[2],
                    "context": {"locations": [], "snippet": pair[0]}}
        out = {"name": self.path, "successful": not self.errors, "errors": [entry(item) for item in self.errors],
               "warnings": [entry(item) for item in self.warnings]}
        if release.since(39):
            out["schema_valid"] = self.schema == "ok"
            out["schema_warnings"] = self.schema_warnings
        return out


class Engine:
    """All rules loaded so far."""

    def __init__(self, release, plugins=()):
        self.release = release
        self.plugins = plugins  # names of those that are loaded
        self.items = {"rule": {}, "macro": {}, "list": {}}
        self.plugin_needs = []
        self.engine_need = None
        self.reports = []
        self.expander = None

    def load(self, path):
        report = FileReport(path)
        self.reports.append(report)
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            text = stream.read()
        try:
            node = yamltext.compose(text)
        except yamltext.YamlError as error:
            lines = text.splitlines() or [""]
            last = lines[-1]
            report.errors.append((
                "In rules content: (%s:0:0)\n    value for: (%s:%d:0)\n------\n%s\n%s^\n------\n"
                % (path, path, len(lines), last, " " * max(len(last) - 1, 0)),
                "LOAD_ERR_YAML_PARSE (YAML parse error): %s" % error))
            return report
        if node is None or not getattr(node, "value", None):
            return report
        report.schema = "ok"
        for index, entry in enumerate(node.value):
            self._add(yamltext._convert(entry, False, True), path, entry.start_mark, index, report)
        return report

    def _add(self, body, path, mark, index, report):
        kind = next((key for key in _KEYS if isinstance(body, dict) and key in body), None)
        if kind is None:
            report.errors.append(("In rules content: (%s:0:0)\n" % path,
                                  "LOAD_ERR_YAML_VALIDATE (Error validating internal structure of YAML file): Unknown top level object"))
            return
        item = Item(kind, body, path, (mark.line, mark.column))
        context = "In rules content: (%s:0:0)\n%s%s" % (path, item.place, item.snippet)
        unknown = [key for key in body if key not in _KEYS[kind]]
        if unknown and self.release.since(39):
            complaint = "failed for <root>[%d]: %s" % (index, _UNVALIDATED % unknown[0])
            if report.schema == "ok":
                report.schema = complaint
            report.schema_warnings += [complaint, "failed for <root>: Failed to validate item #%d in array." % index]
        if unknown and self.release.since(44):
            report.warnings.append((context, "LOAD_UNKNOWN_KEY (Unknown key in item definition): Unknown key '%s'. "
                                             "The key will be ignored." % unknown[0]))
        if kind == "required_plugin_versions":
            self.plugin_needs += body[kind] or []
            return
        if kind == "required_engine_version":
            self._check_engine(str(body[kind]), context, report)
            return
        self._define(kind, item, context, report)

    def _check_engine(self, wanted, context, report):
        self.engine_need = wanted
        numbers = [int(part) for part in wanted.split(".") if part.isdigit()]
        wanted_minor = numbers[1] if len(numbers) > 1 else numbers[0] if numbers else 0
        have = int(self.release.versions["engine_version"])
        if wanted_minor > have:
            report.errors.append((context, "LOAD_ERR_VALIDATE (Error validating rule/macro/list/exception objects): Rules require "
                                           "engine version %s, but engine version is %s"
                                  % (wanted, self.release.versions["engine_version_semver"])))

    def _define(self, kind, item, context, report):
        known, body = self.items[kind], item.body
        override = body.get("override") if isinstance(body.get("override"), dict) else {}
        old = known.get(item.name)
        missing = self._nothing_to_change(body, override) if kind == "rule" and old is None else None
        if missing:
            report.errors.append((context, "LOAD_ERR_VALIDATE (Error validating rule/macro/list/exception objects): %s but no rule by "
                                           "that name already exists" % missing))
            return
        if old is not None and (override or yamltext.as_bool(body.get("append"), False)):
            for key in body:
                if key in (kind, "append", "override"):
                    continue
                how = override.get(key, "append" if not override else "replace")
                if how == "append" and key == "condition":
                    old.body[key] = yamltext.Scalar("(%s)\n%s" % (old.body.get(key, ""), body[key]) if kind == "rule"
                                                    else "%s %s" % (old.body.get(key, ""), body[key]))
                elif how == "append" and isinstance(old.body.get(key), list):
                    old.body[key] = old.body[key] + body[key]
                elif how == "append" and key == "output":
                    old.body[key] = yamltext.Scalar("%s %s" % (old.body.get(key, ""), body[key]))
                else:
                    old.body[key] = body[key]
            return
        if kind == "rule" and "condition" not in body and "enabled" in body:
            old.body["enabled"] = body["enabled"]
            return
        if kind == "rule":
            for key in ("condition", "output", "desc", "priority"):
                if not isinstance(body.get(key), str):
                    report.errors.append((context, "LOAD_ERR_YAML_VALIDATE (Error validating internal structure of YAML file): "
                                                   "Item has no mapping for key '%s'" % key))
                    return
        known.pop(item.name, None)
        known[item.name] = item

    def _nothing_to_change(self, body, override):
        """What an entry asks for that only changes a rule, where there is no such rule; else None."""
        if override and self.release.since(37):
            if "replace" in override.values():
                return "An 'override.<key>: replace' to a rule was requested"
            return "Rule uses 'append' or 'override.<key>: append'"
        if yamltext.as_bool(body.get("append"), False):
            return "Rule uses 'append' or 'override.<key>: append'" if self.release.since(37) else "Rule has 'append' key"
        return "Rule has 'enabled' key" if "condition" not in body and "enabled" in body else None

    def compile(self):
        """Parses every condition; errors and warnings land in the file's report."""
        lists = {name: yamltext.as_list(item.body.get("items")) for name, item in self.items["list"].items()}
        macros = {}
        self.expander = Expander(macros, lists)
        by_path = {report.path: report for report in self.reports}
        for kind in ("macro", "rule"):
            for item in self.items[kind].values():
                self._compile(kind, item, macros, by_path[item.path])
        used_lists = self.expander.used_lists | {entry for items in lists.values() for entry in items if entry in lists}
        for kind, used in (("macro", self.expander.used_macros), ("list", used_lists)):
            for name, item in self.items[kind].items():
                if name not in used:
                    what = kind.capitalize()
                    by_path[item.path].warnings.append((
                        "In rules content: (%s:0:0)\n%s%s" % (item.path, item.place, item.snippet),
                        "LOAD_UNUSED_%s (Unused %s): %s not referred to by any other rule/macro" % (kind.upper(), kind, what)))

    def _compile(self, kind, item, macros, report):
        text = str(item.body.get("condition", ""))
        try:
            item.tree = Parser(text).parse()
            if kind == "macro":
                macros[item.name] = item.tree
                self.expander.fields(item.tree, {})
                return
            found = {}
            self.expander.fields(item.tree, found)
            item.codes = self.expander.codes(item.tree)
            self._of_container(item, found)
        except ConditionError as error:
            line = text.count("\n", 0, error.position) + 1
            shown = text.splitlines()[line - 1] if text else ""
            column = error.position - (text.rfind("\n", 0, error.position) + 1)
            head = text[:17] + "..." if len(text) > 20 else text
            report.errors.append((
                "In rules content: (%s:0:0)\n%s    condition expression: (\"%s\":%d:%d)\n------\n%s\n%s^\n------\n"
                % (item.path, item.place, head, line, column + 2, shown, " " * (column + 2)),
                "%s: %s" % (error.code, error)))
            return
        item.found = found
        context = "In rules content: (%s:0:0)\n%s%s" % (item.path, item.place, item.snippet)
        if self.release.since(42) and "evt.dir" in found.get("fields", ()):
            report.warnings.append((context, "LOAD_DEPRECATED_ITEM (Used deprecated item: field 'evt.dir'): due to the drop of "
                                             "enter events, 'evt.dir = <' always evaluates to true, and 'evt.dir = >' always "
                                             "evaluates to false. The rule expression can be simplified by removing the "
                                             "condition on 'evt.dir'"))
        source = str(item.body.get("source") or "syscall")
        warn = yamltext.as_bool(item.body.get("warn_evttypes"), True)
        if source == "syscall" and warn and (len(item.codes) > 45 or (not item.codes and not found.get("meta"))):
            report.warnings.append((context, "LOAD_NO_EVTTYPE (Condition has no event-type restriction): Rule matches too many "
                                             "evt.type values. This has a significant performance penalty."))

    def _of_container(self, item, found):
        """Since 0.41 the fields of containers come from a plugin."""
        if not self.release.since(41) or "container" in self.plugins:
            return
        for field in (*found.get("fields", {}), *re.findall(r"%([a-z][\w.]*)", str(item.body.get("output")))):
            if field.startswith(("container.", "k8s.")):
                raise ConditionError("filter_check called with nonexistent field %s" % field, 0)

    def enabled(self, settings, off_names=(), off_tags=(), only_tags=()):
        """Rules in force: not disabled in the file, by the configuration or the command line, and severe enough."""
        limit = PRIORITIES.index(settings.priority)
        out = []
        for name, item in self.items["rule"].items():
            level = str(item.body.get("priority", "")).lower()
            level = {"info": "informational"}.get(level, level)
            if level not in PRIORITIES or PRIORITIES.index(level) > limit:
                continue
            tags = yamltext.as_list(item.body.get("tags"))
            on = yamltext.as_bool(item.body.get("enabled"), True)
            if only_tags:
                on = bool(set(tags) & set(only_tags))
            if any(part in name for part in off_names) or set(tags) & set(off_tags):
                on = False
            for switch in settings.rule_switches or []:
                for verb, what in (switch.items() if isinstance(switch, dict) else ()):
                    what = what if isinstance(what, dict) else {}
                    hit = ("rule" in what and fnmatch.fnmatchcase(name, str(what["rule"]))) or ("tag" in what and what["tag"] in tags)
                    if hit:
                        on = verb == "enable"
            if on:
                out.append(item)
        return out

    def describe(self, only=None):
        """The object behind `-L -o json_output=true`."""
        rules = [self._describe_rule(item) for name, item in self.items["rule"].items() if not only or name == only]
        macros = [self._describe_macro(item) for item in self.items["macro"].values() if not only]
        lists = [self._describe_list(item) for item in self.items["list"].values() if not only]
        return {"required_engine_version": self.engine_need or "0.0.0", "required_plugin_versions": self.plugin_needs, "rules": rules,
                "macros": macros, "lists": lists}

    def _condition(self, item, codes):
        """What both rules and macros say about their condition."""
        probe = Expander(self.expander.macros, self.expander.lists)
        found = {}
        probe.fields(item.tree, found)
        compiled = probe.show(item.tree)
        out = {"lists": sorted(probe.used_lists), "macros": sorted(probe.used_macros), "plugins": []}
        if self.release.since(37):
            out.update(condition_compiled=compiled, condition_fields=list(found.get("fields", {})),
                       condition_operators=list(found.get("operators", {})),
                       events=sorted(syscalls.to_names(codes)) + ["asyncevent"])
        return out

    def _describe_rule(self, item):
        body = item.body
        priority, output = str(body["priority"]).capitalize(), str(body["output"])
        info = {"name": item.name, "condition": str(body["condition"]), "description": str(body["desc"]),
                "enabled": yamltext.as_bool(body.get("enabled"), True), "output": output,
                "priority": {"Info": "Informational"}.get(priority, priority), "source": str(body.get("source") or "syscall"),
                "tags": sorted(yamltext.as_list(body.get("tags")))}
        if self.release.since(42):
            info.update(capture=yamltext.as_bool(body.get("capture"), False),
                        capture_duration=yamltext.as_int(body.get("capture_duration"), 0, 0, 0xFFFFFFFF))
        details = self._condition(item, item.codes)
        # The container plugin's own fields are added to every output, so every rule needs it.
        details["plugins"] = ["container"] if "container" in self.plugins and self.release.since(41) else []
        details.update(exception_fields=[], exception_names=[], exception_operators=[],
                       output_fields=sorted(set(re.findall(r"%([a-z][\w.]*(?:\[[^]]*\])?)", output))))
        if self.release.since(37):
            details["output_compiled"] = output
        return {"info": info, "details": details}

    def _describe_macro(self, item):
        details = self._condition(item, self.expander.codes(item.tree))
        return {"info": {"name": item.name, "condition": str(item.body["condition"])},
                "details": dict(details, used=item.name in self.expander.used_macros)}

    def _describe_list(self, item):
        items = yamltext.as_list(item.body.get("items"))
        return {"info": {"name": item.name, "items": items},
                "details": {"items_compiled": [part for name in items for part in self._items(name)], "plugins": [],
                            "lists": [name for name in items if name in self.items["list"]],
                            "used": item.name in self.expander.used_lists}}

    def _items(self, name):
        """A list's items in place of its name."""
        inner = self.items["list"].get(name)
        return [part for item in yamltext.as_list(inner.body.get("items")) for part in self._items(item)] if inner else [name]


def existing_files(paths, release):
    """Paths that are there, directories replaced by their members."""
    out = []
    for path in paths:
        if os.path.isdir(path):
            for name in sorted(os.listdir(path)):
                member = os.path.join(path, name)
                if os.path.isfile(member) and (not release.since(41) or name.endswith((".yaml", ".yml"))):
                    out.append(member)
        elif os.path.exists(path):
            out.append(path)
    return out


def load(settings, paths, log):
    """Loads in order and stops at the first broken file, as Falco does."""
    release = settings.release
    files = existing_files(paths, release)
    if not files:
        raise ConfigError("You must specify at least one rules file/directory via -r or a rules_file entry in falco.yaml")
    log.debug("Configured rules filenames:")
    for path in paths:
        log.debug("   " + path)
    if release.since(39):
        log.info("Loading rules from:")
    engine = Engine(release, [name for name, _path in settings.plugins])
    for path in files:
        if not release.since(39):
            log.info("Loading rules from file " + path)
        report = engine.load(path)
        if release.since(39):
            (log.info if report.schema in ("ok", "none") else log.warning)("   %s | schema validation: %s" % (path, report.schema))
        if report.errors:
            raise ConfigError(report.text())
    engine.compile()
    for report in engine.reports:
        if report.errors:
            raise ConfigError(report.text())
        if report.warnings:
            log.warning(report.text())
    for need in engine.plugin_needs:
        name = need.get("name") if isinstance(need, dict) else None
        if name and name not in [plugin for plugin, _ in settings.plugins]:
            raise ConfigError("Plugin requirement not satisfied, must load one of: %s (>= %s)" % (name, need.get("version")))
    return engine
