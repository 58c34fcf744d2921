# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cuts fixtures/<release>/ from a directory of recordings: cut_fixtures.py RECORDINGS"""

import csv
import glob
import json
import os
import re
import sys

import normal

HERE = os.path.dirname(os.path.abspath(__file__))
SECTION = re.compile(r"^===== (.*?) =====$", re.M)
STOCK = re.compile(r"rules_files: \[/etc/falco/falco_rules.yaml, /etc/falco/falco_rules.local.yaml\]")
PLUGINS = re.compile(r"^load_plugins: \[container\]\nplugins:\n(?:  .*\n)+", re.M)
LIVE_SLOW = re.compile(r"buf_size_preset_(_x_|4_5|null|99999|_6_)_live|metrics_interval_combined_live|buf_size_preset__1_live")
# Cases that quote Falco's own files or need a plugin.
LEFT_OUT = ("stock_without_container_plugin",)


def read(path):
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def local(text):
    """Paths of the recording become {dir}; stock rules become the rules file of this suite with the same system calls."""
    text = STOCK.sub("rules_files: [{dir}/nineteen_rules.yaml]", PLUGINS.sub("", text))
    text = re.sub(r"/etc/falco/cfgd/[^/\s]+", "{dir}", text)
    text = re.sub(r"/etc/falco/cfg/[^\s)|']+\.yaml", "{dir}/falco.yaml", text)
    text = re.sub(r"\bT\d+_\w+\.yaml", "{dir}/falco.yaml", text)
    text = text.replace("/etc/falco/falco_rules.yaml", "{dir}/nineteen_rules.yaml")
    return text.replace("/etc/falco/", "{dir}/")


def sections(text):
    parts = SECTION.split(text)
    return parts[0], dict(zip(parts[1::2], (part.strip("\n") + "\n" for part in parts[2::2])))


def case(path):
    """One recorded command: configuration, arguments, exit code, normal lines of stderr."""
    text = read(path)
    head, parts = sections(text)
    name = os.path.basename(path)[:-4]
    command = re.search(r"# command: falco (.*)", text).group(1)
    stock = bool(STOCK.search(text))
    files = {}
    for title, body in parts.items():
        if title.startswith("file "):
            target = os.path.basename(local(title[5:]))
            body = local(body)
            stop = body.find("\n# exit code")
            files[target] = body[:stop + 1] if stop >= 0 else body
    stderr = re.sub(r"\n# exit code: .*", "", local(parts["stderr"]))
    lines = normal.lines(stderr, name in normal.RULE_CASES, not stock)
    lines = [line for line in lines if "falco_rules.local.yaml" not in line]
    return name, {
        "args": local(command).split(" "), "files": files,
        "exit": int(re.search(r"# exit code: (-?\d+)", text).group(1)), "stock": stock, "stderr": lines,
    }


def dry_runs(root):
    return dict(case(path) for path in sorted(glob.glob(os.path.join(root, "dry-runs", "T*.txt"))))


def errors(root):
    out = {}
    for path in sorted(glob.glob(os.path.join(root, "errors", "*.txt"))):
        name, body = case(path)
        if name in LEFT_OUT or body["stock"] or LIVE_SLOW.search(name):
            continue
        if any("SIGHUP" in line for line in body["stderr"]):
            continue  # somebody touched a file while this one was recorded
        body["live"] = not any(word in body["args"] for word in ("--dry-run", "-V", "--config-schema"))
        body["args"] = ["1" if word == "3" else word for word in body["args"]]
        out[name] = body
    known = {name: text for body in out.values() for name, text in body["files"].items() if name != "falco.yaml"}
    for body in out.values():
        for word in body["args"]:
            name = word.replace("{dir}/", "", 1)
            if name in known:
                body["files"].setdefault(name, known[name])
    return out


def merges(root):
    out = {}
    for path in sorted(glob.glob(os.path.join(root, "config-d", "*.txt"))):
        text = read(path)
        _, parts = sections(text)
        dry, support = re.search(r"commands: falco (.*?)   \(exit (\d+)\)\n#           falco .*?\(exit (\d+)\)", text).group(1, 2), \
            re.search(r"--support   \(exit (\d+)\)", text).group(1)
        files = {}
        for title, body in parts.items():
            if title.startswith("file "):
                files[local(title[5:]).replace("{dir}/", "", 1)] = local(body)
        effective = json.loads(local(parts["effective configuration (from --support, keys of interest)"]))
        out[os.path.basename(path)[:-4]] = {
            "args": local(dry[0]).split(" "), "files": files, "exit": int(dry[1]), "exit_support": int(support),
            "env": json.loads(re.search(r"# env: (.*)", text).group(1).replace("'", '"')),
            "effective": effective, "stderr": normal.lines(local(parts["dry-run stderr"])),
        }
    return out


def metrics(root):
    out = {}
    for path in sorted(glob.glob(os.path.join(root, "metrics", "*.metrics.jsonl"))):
        name = os.path.basename(path).partition(".")[0]
        block = re.search(r"^metrics:\n(?:  .*\n)+", read(path.replace("metrics.jsonl", "config.yaml")), re.M).group()
        block = re.sub(r'output_file: ".*"', 'output_file: "{dir}/metrics.jsonl"', block)
        samples = [json.loads(line) for line in read(path).splitlines()]
        fields = sorted({normal.json_field(key) for key in samples[-1]["output_fields"]} - {None})
        out[name] = {"metrics": block, "fields": fields, "first_sample": samples[0]["sample"],
                     "empty": "include_empty_values: true" in block}
    return out


def prometheus(root):
    text = read(os.path.join(root, "prometheus", "C_metrics.txt"))
    families = {normal.prometheus_family(line) for line in text.splitlines()} - {None}
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", text, re.M))
    return {"samples": sorted(families), "types": {name: types[name] for name in sorted(types)
                                                   if normal.prometheus_family(name + " 0")}}


def versions(root):
    return {"text": read(os.path.join(root, "cli", "version.stdout")).splitlines(),
            "json": json.loads(read(os.path.join(root, "cli", "version_json.stdout")))}


def reloads(root):
    out = []
    for part in read(os.path.join(root, "hot-reload", "SUMMARY.md")).split("\n## ")[1:]:
        title = part.splitlines()[0]
        state = re.search(r"reloaded: (\w+); same process alive: (\w+)", part)
        out.append({"what": re.sub(r" \(.*", "", title) if "within config.d" not in title else title.partition(" (")[0],
                    "reloaded": state.group(1) == "True", "alive": state.group(2) == "True"})
    return out


def starved(root):
    """A Falco beside ten busy programs on two CPUs, by its nice value; each list holds the repeats."""
    path = os.path.join(root, "drops", "cpu_starved.csv")
    out = {}
    for row in csv.DictReader(line for line in read(path).splitlines() if line[0] != "#") if os.path.exists(path) else ():
        case = out.setdefault("nice%s" % row["nice"], {"nice": int(row["nice"]), "seconds": 15, "cpus": 2, "buf_size_preset": 4,
                                                       "cpus_for_each_buffer": 2})
        for name in ("n_evts", "n_drops", "drop_perc", "falco_on_cpu_perc", "falco_run_queue_wait_perc"):
            case.setdefault(name, []).append(float(row[name]))
    return out


def main(root):
    found = {"versions": versions(root)}
    release = found["versions"]["json"]["falco_version"]
    for cut in (dry_runs, errors, merges, metrics, prometheus, reloads, starved):
        found[cut.__name__] = cut(root)
    target = os.path.join(HERE, "fixtures", release)
    os.makedirs(target, exist_ok=True)
    for name, body in found.items():
        if not body:
            continue
        with open(os.path.join(target, name + ".json"), "w", encoding="utf-8") as stream:
            json.dump(body, stream, indent=1, sort_keys=True, ensure_ascii=False)
            stream.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
