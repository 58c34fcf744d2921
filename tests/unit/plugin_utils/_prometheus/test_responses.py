# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a Prometheus: recorded ones are read, and nothing that is not whole becomes a verdict."""

import json
import math

import pytest
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus import responses
from ansible_collections.falcotune.fleet.plugins.plugin_utils._prometheus.responses import AnswerError, Sample
from hypothesis import given
from hypothesis import strategies as st

# Of Prometheus 2.42.
RECORDED = (b'{"status":"success","data":{"resultType":"vector","result":['
            b'{"metric":{"instance":"web-01:8765","job":"falco"},"value":[1795472281.781,"1374.9986"]},'
            b'{"metric":{"instance":"web-02:8765","job":"falco"},"value":[1795472281.781,"NaN"]}]}}')
RECORDED_ERROR = (b'{"status":"error","errorType":"bad_data","error":"invalid parameter \\"query\\": 1:5: parse error: '
                  b'unexpected identifier \\"falco\\" in label matching, expected string"}')


def body(result=(), **more):
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": list(result)}, **more}).encode()


def series(value="1", at=1795472281.781, **labels):
    return {"metric": labels, "value": [at, value]}


def refused(data, most=100):
    with pytest.raises(AnswerError) as error:
        responses.read(data, most)
    return str(error.value)


def test_a_recorded_answer():
    found = responses.read(RECORDED, 100)
    assert found.at == 1795472281.781
    assert found.samples[0] == Sample({"instance": "web-01:8765", "job": "falco"}, 1374.9986)
    assert math.isnan(found.samples[1].value) and len(found.samples) == 2


@pytest.mark.parametrize("item", ["{}", "[]", "1", '"ab"'])
def test_an_answer_of_more_values_than_its_series_have_is_not_parsed(monkeypatch, item):
    monkeypatch.setattr(responses.json, "loads", None)
    data = '{"status":"success","data":{"resultType":"vector","result":[%s]}}' % ",".join([item] * 5000)
    assert "and at most 4040 are read" in refused(data.encode(), 100)


def test_an_empty_answer_has_no_time():
    assert responses.read(body(), 1) == ([], None)


def test_a_recorded_error_says_what_prometheus_says():
    assert refused(RECORDED_ERROR).startswith('bad_data: invalid parameter "query": 1:5: parse error')
    assert responses.refusal(RECORDED_ERROR) == refused(RECORDED_ERROR)
    assert responses.refusal(body()) == ""


def test_as_many_series_as_the_limit_may_be_too_few():
    found = [series(instance=str(number)) for number in range(3)]
    assert len(responses.read(body(found), 4).samples) == 3
    assert "raise limit" in refused(body(found), 3)


@pytest.mark.parametrize("more", [
    {"warnings": ["results truncated due to limit"]}, {"warnings": ["PromQL info: x", "no store matched"]}, {"isPartial": True}])
def test_an_answer_that_is_not_whole_is_refused(more):
    assert "not whole" in refused(body([series()], **more))


def test_an_info_is_no_warning():
    noted = {"warnings": ["PromQL info: metric might not be a counter"], "infos": ["PromQL info: y"]}
    assert len(responses.read(body([series()], **noted), 9).samples) == 1


@pytest.mark.parametrize("data", [
    b"", b"<html>502 Bad Gateway</html>", b"\xff\xfe", b"[" * 100000, b"null", b"[]", b'{"status":"fine"}',
    b'{"status":"success"}', b'{"status":"success","data":{"resultType":"matrix","result":[]}}',
    b'{"status":"success","data":{"resultType":"vector","result":{}}}',
])
def test_what_is_no_answer_of_a_prometheus_is_refused(data):
    assert refused(data)


@pytest.mark.parametrize("item", [
    None, 3, {}, {"metric": {}}, {"metric": [], "value": [1, "1"]}, {"metric": {}, "value": [1]}, {"metric": {}, "value": ["1", "1"]},
    {"metric": {}, "value": [1, 1]}, {"metric": {}, "value": [1, "one"]}, {"metric": {}, "value": [-1, "1"]},
    {"metric": {"instance": 3}, "value": [1, "1"]}, {"metric": {"instance": "x" * 501}, "value": [1, "1"]},
    {"metric": {str(number): "" for number in range(101)}, "value": [1, "1"]}, {"metric": {}, "value": [1, "1" * 41]},
    {"metric": {}, "value": [True, "1"]},
])
def test_a_series_of_another_shape_is_refused(item):
    assert refused(body([item]))


def test_samples_of_two_times_are_no_instant_vector():
    assert "different times" in refused(body([series(at=5, instance="a"), series(at=6, instance="b")]))


def test_control_characters_of_a_server_are_written_out():
    assert "\x1b" not in refused(json.dumps({"status": "error", "errorType": "\x1b[2J", "error": "x" * 9999}).encode())
    assert len(refused(json.dumps({"status": "error", "errorType": "e", "error": "x" * 9999}).encode())) < 400


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["status", "data", "resultType", "result", "metric", "value", "warnings"]), inner, max_size=4),
                    max_leaves=12))
def test_nothing_but_an_answer_error_comes_of_any_json(value):
    for data in (value, {"status": "success", "data": value}, {"status": "success", "data": {"resultType": "vector", "result": value}},
                 {"status": "success", "data": {"resultType": "vector", "result": [value]}}):
        try:
            responses.read(json.dumps(data).encode(), 100)
        except AnswerError:
            pass
