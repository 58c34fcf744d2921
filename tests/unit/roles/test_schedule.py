# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's defaults and argument_specs are one list; what it writes means to systemd what was given."""

import re
import string

import jinja2
import pytest
import yaml
from ansible.plugins.filter.core import FilterModule
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from hypothesis import given
from hypothesis import strategies as st

ROLE = ROOT / "roles" / "schedule"
PREFIX = "falco_schedule_"
TASKS = sorted(ROLE.glob("tasks/*.yml"))
TEMPLATES = sorted(ROLE.glob("templates/*.j2"))

DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
VARS = yaml.safe_load((ROLE / "vars/main.yml").read_text())
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
TYPES = {"bool": bool, "str": str, "int": int, "list": list, "dict": dict}
KEYWORDS = {"name", "when", "loop", "loop_control", "register", "changed_when", "failed_when", "check_mode", "block"}


def test_argument_specs_name_every_variable_with_the_same_default():
    assert {name: option["default"] for name, option in OPTIONS.items()} == DEFAULTS
    assert list(OPTIONS) and all(name.startswith(PREFIX) for name in OPTIONS)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_variable_is_described_and_has_a_default_of_its_type(name):
    option = OPTIONS[name]
    assert option["description"]
    assert type(option["default"]) is TYPES[option["type"]]
    assert option["default"] in option.get("choices", [option["default"]])


def test_internal_variables_carry_the_internal_prefix():
    assert VARS and all(name.startswith("__" + PREFIX) for name in VARS)


def test_every_internal_variable_is_used():
    text = "".join(path.read_text() for path in [*TASKS, *TEMPLATES, ROLE / "vars/main.yml"])
    assert [name for name in VARS if len(re.findall(r"\b%s\b" % name, text)) < 2] == []


def test_tasks_templates_and_playbook_use_no_other_names():
    texts = [path.read_text() for path in [*TASKS, *TEMPLATES, ROLE / "vars/main.yml", ROOT / "playbooks/schedule_audit.yml"]]
    registered = {name for text in texts for name in re.findall(r"register: (\w+)", text)}
    assert all(name.startswith("__" + PREFIX) for name in registered)
    used = {name for text in texts for name in re.findall(r"\b(?:__)?falco_schedule_\w+", text)}
    # The pattern that finds names which are no variables of the role ends with the prefix itself.
    assert used - {PREFIX} <= set(OPTIONS) | set(VARS) | registered


def test_every_variable_is_used():
    text = "".join(path.read_text() for path in [*TASKS, *TEMPLATES, ROLE / "vars/main.yml"])
    assert [name for name in OPTIONS if not re.search(r"(?<!_)\b%s\b" % name, text)] == []


def test_every_variable_with_a_range_is_checked():
    checked = {item["name"] for item in VARS["__falco_schedule_expected_always"] + VARS["__falco_schedule_expected_present"]}
    free = {name for name, option in OPTIONS.items() if option["type"] == "bool" or "choices" in option}
    # A dictionary can hold anything, and the seed is only hashed.
    assert set(OPTIONS) - free - checked == {"falco_schedule_extra_vars", "falco_schedule_cron_seed"}


def tasks_of(items):
    for task in items:
        yield task
        yield from tasks_of(task.get("block", []))


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_only_modules_of_ansible_itself_and_no_shell(path):
    for task in tasks_of(yaml.safe_load(path.read_text())):
        modules = set(task) - KEYWORDS
        assert all(name.startswith("ansible.builtin.") for name in modules), task["name"]
        assert not modules & {"ansible.builtin.shell", "ansible.builtin.raw"}, task["name"]
        for name in modules & {"ansible.builtin.command"}:
            assert set(task[name]) <= {"argv", "chdir"}, task["name"]


# -- quoting

ENVIRONMENT = jinja2.Environment(loader=jinja2.FileSystemLoader(ROLE / "templates"), trim_blocks=True)
ENVIRONMENT.filters.update(FilterModule().filters())
COMMAND = ENVIRONMENT.from_string("{% import 'words.j2' as words %}{{ words.command(argv) }}")
WORD = ENVIRONMENT.from_string("{% import 'words.j2' as words %}{{ words.word(text) }}")
TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'", "s": " "}


def as_systemd_splits(line):
    """The words of a unit's line as systemd.syntax(7) and systemd.unit(5) have it: quotes, escapes, then specifiers."""
    assert not set(line) & set(string.whitespace) - {" "}, "a line ends where it should"
    words, position = [], 0
    while position < len(line):
        quoted = re.compile(r'"((?:[^"\\]|\\.)*)"(?: |$)').match(line, position)
        assert quoted, line[position:]
        position = quoted.end()
        text = re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", lambda found: chr(int(found[1], 16)) if found[1] else ESCAPES[found[2]], quoted[1])
        assert not re.search("%", text.replace("%%", "")), "a specifier"
        words.append(text.replace("%%", "%"))
    return words


def without_variables(text):
    assert "$" not in text.replace("$$", ""), "a variable"
    return text.replace("$$", "$")


@given(st.lists(TEXT))
def test_systemd_takes_a_command_as_it_was_given(arguments):
    program, _, rest = COMMAND.render(argv=["/usr/bin/ansible-playbook", *arguments]).partition(" ")
    assert program == "/usr/bin/ansible-playbook"
    assert [without_variables(word) for word in as_systemd_splits(rest)] == arguments


@given(TEXT)
def test_systemd_takes_an_environment_variable_as_it_was_given(text):
    assert as_systemd_splits(WORD.render(text="NAME=" + text)) == ["NAME=" + text]
