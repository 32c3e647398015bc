"""Records of a logger that writes requests and responses apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Event, Payload
from runner.errors import RecordError
from runner.records.cloudevents import Side, decode, pair
from runner.records.fields import Fields
from runner.records.tables import event_rows
from tests.golden import Golden

REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
TIME = "2023-01-19T05:31:46.250Z"
AT = datetime(2023, 1, 19, 5, 31, 46, 250_000, tzinfo=UTC)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def line(**members: Any) -> bytes:
    """Return a logger's line, a request unless other members say otherwise; None takes a member away."""
    document = {"specversion": "1.0", "id": "7", "source": "http://x", "type": REQUEST, "time": TIME}
    document |= {"datacontenttype": "application/json", "data": {"instances": [[1, 2]]}} | members
    return orjson.dumps({name: value for name, value in document.items() if value is not None})


@pytest.mark.parametrize(("kind", "is_request"), [(REQUEST, True), (RESPONSE, False), ("x.request", True)])
def test_a_line_is_one_side(kind: str, is_request: bool) -> None:
    """A record has its id, its side, its time as it stands and its body."""
    expected = Side("7", is_request, TIME, Payload("application/json", '{"instances":[[1,2]]}', "JSON"))
    assert decode(line(type=kind)) == expected


@pytest.mark.parametrize(
    "spell",
    ["{}".format, "ce-{}".format, lambda name: f"Ce-{name.title()}", lambda name: f"CE-{name.upper()}"],
)
def test_attributes_may_be_spelled_as_headers(spell: Callable[[str], str]) -> None:
    """Attributes are found as they stand in an event's document or in its headers."""
    attributes = {spell(name): value for name, value in [("id", "7"), ("type", REQUEST), ("time", TIME)]}
    document = {**attributes, "Content-Type": "application/json", "data": [1]}
    assert decode(orjson.dumps(document)) == Side("7", True, TIME, Payload("application/json", "[1]", "JSON"))


@pytest.mark.parametrize(
    ("members", "payload"),
    [
        ({"data": {"a": [1, 2.5, "é", None]}}, Payload("application/json", '{"a":[1,2.5,"é",null]}', "JSON")),
        ({"data": '{"instances": [[1]]}'}, Payload("application/json", '{"instances": [[1]]}', "JSON")),
        ({"data": [1]}, Payload("application/json", "[1]", "JSON")),
        ({"data": ""}, Payload("application/json", "", "JSON")),
        ({"data": "1,2", "datacontenttype": "text/csv"}, Payload("text/csv", "1,2", "CSV")),
        ({"data": "1", "datacontenttype": "text/csv; header=absent"}, Payload("text/csv; header=absent", "1", "CSV")),
        ({"data": 5, "datacontenttype": "text/csv"}, Payload("text/csv", "5", "CSV")),
        ({"data": "1,2", "datacontenttype": None, "content-type": "text/csv"}, Payload("text/csv", "1,2", "CSV")),
        ({"data": "x", "datacontenttype": None}, Payload("application/json", "x", "JSON")),
        ({"data": "x", "datacontenttype": ""}, Payload("application/json", "x", "JSON")),
        ({"data": None, "data_base64": "MSwy"}, Payload("application/json", "MSwy", "BASE64")),
        ({"data": "1", "data_base64": "MSwy", "datacontenttype": "text/csv"}, Payload("text/csv", "MSwy", "BASE64")),
        ({"data_base64": 5}, Payload("application/json", '{"instances":[[1,2]]}', "JSON")),
    ],
)  # fmt: skip
def test_bodies_in_any_spelling(members: dict[str, Any], payload: Payload) -> None:
    """A body is a JSON value, a text or BASE64; its content type says whether it is a CSV."""
    assert decode(line(**members)).payload == payload


def test_null_data_is_a_body() -> None:
    """A response that is null is one, and not a missing one."""
    document = {**orjson.loads(line()), "data": None}
    assert decode(orjson.dumps(document)).payload.data == "null"


@given(json_values)
def test_any_value_survives_as_a_body(data: Any) -> None:
    """A body that is a JSON value is its text, and a text stays."""
    body = decode(orjson.dumps({**orjson.loads(line()), "data": data})).payload.data
    assert body == data if isinstance(data, str) else orjson.loads(body) == data


def test_two_sides_are_an_invocation() -> None:
    """A request and its response are the event that a capture would have written, at the request's time."""
    request, response = decode(line()), decode(line(type=RESPONSE, time="late", data={"predictions": [0.5]}))
    event = pair(request, response)
    assert event == Event("7", AT, request.payload, response.payload)
    fields = Fields("instances", "predictions", content_type="application/json", accept_type="application/json")
    (row,) = event_rows(1, event, fields)
    assert (row.values, row.scores, row.event_id, row.inference_id) == ([1, 2], [0.5], "7", None)


def test_an_unanswered_request_is_an_invocation() -> None:
    """A request without a response is an event without an output."""
    assert pair(decode(line()), None) == Event("7", AT, decode(line()).payload, None)


@pytest.mark.parametrize("time", ["noon", "2023-01-19"])
def test_a_request_needs_a_time(time: str, golden: Golden) -> None:
    """A request whose time is none belongs to no window."""
    with golden.raises(RecordError) as caught:
        pair(decode(line(time=time)), None)
    assert caught.value.kind == "not_a_capture"
    assert time in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "kind", "shown"),
    [
        pytest.param(b"", "not_json", "", id="empty"),
        pytest.param(b"torn {", "not_json", "torn {", id="torn"),
        pytest.param(line()[:60], "not_json", "specversion", id="cut"),
        pytest.param(b'{"id":"\xff"}', "not_json", "�", id="not UTF-8"),
        pytest.param(b"[" * 2000 + b"]" * 2000, "not_json", "…", id="deep"),
        pytest.param(b'{"id":NaN}', "not_json", "NaN", id="NaN"),
        pytest.param(b"[]", "not_a_capture", "[]", id="list"),
        pytest.param(b"3", "not_a_capture", "3", id="number"),
        pytest.param(b"{}", "not_a_capture", "id", id="nothing"),
        pytest.param(line(id=None), "not_a_capture", "id", id="no id"),
        pytest.param(line(id=""), "not_a_capture", "id", id="empty id"),
        pytest.param(line(id=7), "not_a_capture", "id", id="number as id"),
        pytest.param(line(type=None), "not_a_capture", "type", id="no type"),
        pytest.param(line(type="other"), "not_a_capture", "type", id="other type"),
        pytest.param(line(type="request"), "not_a_capture", "type", id="type without a dot"),
        pytest.param(line(time=None), "not_a_capture", "time", id="no time"),
        pytest.param(line(time=1674106306), "not_a_capture", "1674106306", id="number as time"),
        pytest.param(line(data=None), "not_a_capture", "data_base64", id="no data"),
        pytest.param(line(id="x" * 10_000, type="y" * 10_000), "not_a_capture", "…", id="long"),
        pytest.param(line().replace(b"[[1,2]]", b"[" * 900 + b"]" * 900), "not_a_capture", "data", id="deep data"),
    ],
)
def test_a_broken_line_is_an_error(broken: bytes, kind: str, shown: str, golden: Golden) -> None:
    """Every kind of broken line has its reason; the sentence names the attribute or shows the text, shortened."""
    with golden.raises(RecordError) as caught:
        decode(broken)
    assert caught.value.kind == kind
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.binary() | json_values.map(orjson.dumps))
def test_no_line_raises_anything_else(data: bytes) -> None:
    """Whatever else stands in a line, it is a record error and no other."""
    with pytest.raises(RecordError):
        decode(data)
