# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest
import yaml
from ansible_collections.falcotune.fleet.plugins.module_utils._change import yaml_text
from ansible_collections.falcotune.fleet.tests.unit.hosts import ROOT
from hypothesis import given
from hypothesis import strategies as st

TEXT = """\
# head
---
a: 1  # one

# about b
b:
  c: 2

  # inside b

- not: here
"""


@pytest.mark.parametrize("text, spans", [
    ("", []),
    ("# only\n\n", []),
    ("a: 1\nb: 2\n", [("a", 0, 1), ("b", 1, 2)]),
    ("a:\n  x: 1\n\n  y: 2\n\n# note\nb: 2\n", [("a", 0, 4), ("b", 6, 7)]),
    ("a:\n- 1\n- 2\nb: 2", [("a", 0, 3), ("b", 3, 4)]),
    ("a:\n-\n  x: 1\nb: 2\n", [("a", 0, 3), ("b", 3, 4)]),
    ("a: [\n  1,\n]\nb: 2\n", [("a", 0, 3), ("b", 3, 4)]),
    ("a: {\n  x: 1\n}\nb: 2\n", [("a", 0, 3), ("b", 3, 4)]),
    ("a: |\n  text: no key\n\n  more\nb: 2\n", [("a", 0, 4), ("b", 4, 5)]),
    ("'a b': 1\n\"c\": 2\n", [("a b", 0, 1), ("c", 1, 2)]),
    ("---\na: 1\n", [("a", 1, 2)]),
    ("%YAML 1.1\n---\na: 1\n", [("a", 2, 3)]),
    ("a:\r\n  x: 1\r\nb: 2\r\n", [("a", 0, 2), ("b", 2, 3)]),
    ("url-of.it: x:y\n", [("url-of.it", 0, 1)]),
    ("a : 1\n", [("a", 0, 1)]),
    ("\ufeff# note\na: 1\n", [("a", 1, 2)]),
    ("\ufeffa: 1\nb: 2\n", [("a", 0, 1), ("b", 1, 2)]),
    ("--- # note\na: 1\n", [("a", 1, 2)]),
    ("a: 1\n...\n", [("a", 0, 1)]),
    ("a: 1\n--- # end\n# note\n\n...\n", [("a", 0, 1)]),
    ("a: 1\n# caf\u00e9 \u2028 not: a line\nb: 2\n", [("a", 0, 1), ("b", 2, 3)]),
])
def test_spans(text, spans):
    assert yaml_text.spans(text) == spans


@pytest.mark.parametrize("text, message", [
    ("{a: 1}\n", "line 1: expected a top-level key"),
    ("- a\n", "line 1: expected a top-level key"),
    ("a: 1\njust text\n", "line 2: expected a top-level key"),
    ("a: 1\n---\nb: 2\n", "line 2: more than one document"),
    ("a: 1\n...\n# note\n---\nb: 2\n", "line 2: more than one document"),
    ("---\n---\na: 1\n", "line 2: more than one document"),
    ("---#a\nb: 1\n", "line 1: expected a top-level key"),
    ("? a\n: 1\n", "line 1: expected a top-level key"),
    ("a: 1\n!tag b: 2\n", "line 2: expected a top-level key"),
])
def test_what_can_not_be_cut_by_lines_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        yaml_text.spans(text)


@pytest.mark.parametrize("text, blocks, result", [
    ("a: 1\n# note\nb:\n  x: 1\n\n# end\n", {"b": "b:\n  x: 2\n"}, "a: 1\n# note\nb:\n  x: 2\n\n# end\n"),
    ("a: 1", {"a": "a: 2"}, "a: 2\n"),
    ("a: 1", {"b": "b: 2"}, "a: 1\n\nb: 2\n"),
    ("", {"b": "b: 2", "a": "a: 1"}, "\na: 1\n\nb: 2\n"),
    ("a: 1\nb: 2\nc: 3\n", {"a": "a:\n- 1\n", "c": "c: 4\n"}, "a:\n- 1\nb: 2\nc: 4\n"),
    ("a: 1\r\nb: 2\r\n", {"b": "b: 3\n"}, "a: 1\r\nb: 3\n"),
    ("a: 1\n", {}, "a: 1\n"),
])
def test_replace(text, blocks, result):
    assert yaml_text.replace(text, blocks) == result


def test_a_key_that_is_there_twice_is_refused_only_where_it_is_replaced():
    text = "a: 1\nb: 2\na: 3\n"
    with pytest.raises(ValueError, match="line 3: the key a is given twice"):
        yaml_text.replace(text, {"a": "a: 4"})
    assert yaml_text.replace(text, {"b": "b: 4"}) == "a: 1\nb: 4\na: 3\n"


@pytest.mark.parametrize("key, text", [("a", "a: 1  # one\n"), ("b", "b:\n  c: 2\n\n  # inside b\n\n- not: here\n"), ("c", None)])
def test_block(key, text):
    assert yaml_text.block(TEXT, key) == text


def test_block_of_what_can_not_be_cut():
    assert yaml_text.block("{a: 1}", "a") is None


@pytest.mark.parametrize("text, words", [
    ("config_files:\n  - /etc/falco/config.d\n", ["/etc/falco/config.d"]),
    ("config_files: [/a/b.yaml, '/c d/e', \"/f/\"]\nother: /x\n", ["/a/b.yaml", "/c", "/f"]),
    ("config_files:\n- path: /a.d  # was /b.d\n  strategy: override\n- /c.yaml\n", ["/a.d", "/c.yaml"]),
    ("config_files: /etc/falco/config.d\n", ["/etc/falco/config.d"]),
    ("config_files:\n  - ${DIR}/x\n  - /\n", ["/"]),
    ("engine: {probe: /lib/x.o}\n", []),
    ("{config_files: [/a.d], x: /b}", ["/a.d", "/b"]),  # searched whole
    ("a: 1\nnonsense\nconfig_files: [/a.d]\n", ["/a.d"]),
])
def test_path_words(text, words):
    assert [word for word in yaml_text.path_words(text) if word.startswith("/")] == words


# Blocks of every style, with the comments and blank lines that may stand between them.

keys = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(lambda key: key not in ("y", "n", "yes", "no", "on", "off", "true",
                                                                                            "false", "null"))
words = st.sampled_from(["x", "5", "true", "a: b", "'q'", "# hash", "caf\u00e9", "-", "%"])
bodies = st.one_of(
    words.map(lambda word: " " + yaml.safe_dump(word).splitlines()[0] + "\n"),
    st.just("\n"),
    st.dictionaries(keys, words, min_size=1, max_size=3).map(
        lambda value: "\n" + "".join("  " + line + "\n" for line in yaml.safe_dump(value).splitlines())),
    st.lists(words, min_size=1, max_size=3).map(lambda value: "\n" + yaml.safe_dump(value, default_flow_style=False)),
    st.lists(words, min_size=1, max_size=3).map(lambda value: "\n" + yaml.safe_dump(value, default_flow_style=False,
                                                                                    indent=2).replace("- ", "  - ")),
    st.just(" [\n  1,\n  2,\n]\n"),
    st.just(" |\n  text: no key\n\n  - more\n"),
    st.just("\n  x: 1\n\n  # note\n  y: 2\n"),
)
gaps = st.lists(st.sampled_from(["\n", "# comment: with colon\n", "#\n", "   \n"]), max_size=3).map("".join)
documents = st.lists(st.tuples(gaps, keys, bodies), min_size=1, max_size=6, unique_by=lambda item: item[1])


@given(documents, gaps, st.dictionaries(keys, st.dictionaries(keys, st.integers() | words, max_size=3), max_size=4), st.data())
def test_replace_leaves_every_other_byte_and_gives_the_wanted_mapping(document, tail, new, data):
    text = "".join(gap + key + ":" + body for gap, key, body in document) + tail
    new = dict(new, **{key: {"changed": 1} for key in data.draw(st.sets(st.sampled_from([key for dummy, key, dummy2 in document])))})
    blocks = {key: yaml.safe_dump({key: value}) for key, value in new.items()}
    result = yaml_text.replace(text, blocks)
    wanted, added = "", set(new)
    for gap, key, body in document:
        # Blank lines and comments behind a block's last line belong to nobody and stay.
        wanted += gap + (blocks[key] if key in new else key + ":" + body)
        added.discard(key)
    wanted += tail + "".join("\n" + blocks[key] for key in sorted(added))
    assert result == wanted
    assert yaml.safe_load(result) == dict(yaml.safe_load(text), **new)
    assert yaml_text.replace(result, blocks) == result


@given(documents)
def test_blocks_and_what_lies_between_them_are_the_whole_text(document):
    text = "".join(gap + key + ":" + body for gap, key, body in document)
    assert [key for key, dummy, dummy2 in yaml_text.spans(text)] == [key for dummy, key, dummy2 in document]
    for _gap, key, body in document:
        assert yaml_text.block(text, key).rstrip() == (key + ":" + body).rstrip()


UPSTREAM = sorted((ROOT / ".." / "shared" / "upstream").glob("falco-0*.yaml"))


@pytest.mark.skipif(not UPSTREAM, reason="upstream's own files are not here")
@pytest.mark.parametrize("path", UPSTREAM, ids=lambda path: path.name)
def test_upstreams_own_file_is_cut_as_yaml_reads_it(path):
    text = path.read_text()
    assert [key for key, dummy, dummy2 in yaml_text.spans(text)] == list(yaml.safe_load(text))
    key = "syscall_event_drops"
    result = yaml_text.replace(text, {key: key + ":\n  threshold: .5\n"})
    assert yaml.safe_load(result) == dict(yaml.safe_load(text), **{key: {"threshold": 0.5}})
    gone = yaml_text.block(text, key)
    assert len(result) == len(text) - len(gone) + len(key + ":\n  threshold: .5\n")


@pytest.mark.parametrize("text, replaced", [
    ("\ufeff# note\na: 1\n", "\ufeff# note\na: 2\n\nnew: 3\n"),
    ("\ufeffa: 1\nb: 1\n", "\ufeffa: 2\nb: 1\n\nnew: 3\n"),
    ("--- # note\na: 1\n", "--- # note\na: 2\n\nnew: 3\n"),
    ("a: 1\n...\n", "a: 2\n\nnew: 3\n...\n"),
    ("a: 1\n---\n# end\n", "a: 2\n\nnew: 3\n---\n# end\n"),
])
def test_marks_of_the_first_document_stay_and_new_blocks_belong_to_it(text, replaced):
    """F15: Falco reads the first document."""
    assert yaml_text.replace(text, {"a": "a: 2", "new": "new: 3"}) == replaced
