"""CloudEvents: decoding of a logger's lines, and pairs of request and response."""

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
from runner.records.tables import event_records
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


def logger_line(**members: Any) -> bytes:
    """Return a logger's line, by default of a request; None removes a member."""
    document = {"specversion": "1.0", "id": "7", "source": "http://x", "type": REQUEST, "time": TIME}
    document |= {"datacontenttype": "application/json", "data": {"instances": [[1, 2]]}} | members
    return orjson.dumps({name: value for name, value in document.items() if value is not None})


@pytest.mark.parametrize(("kind", "is_request"), [(REQUEST, True), (RESPONSE, False), ("x.request", True)])
def test_line_is_decoded_as_one_side(kind: str, is_request: bool) -> None:
    """The side has the id, the type, the unparsed time and the body of the line."""
    expected = Side("7", is_request, TIME, Payload("application/json", '{"instances":[[1,2]]}', "JSON"))
    assert decode(logger_line(type=kind)) == expected


@pytest.mark.parametrize(
    "spell",
    ["{}".format, "ce-{}".format, lambda name: f"Ce-{name.title()}", lambda name: f"CE-{name.upper()}"],
)
def test_attributes_may_be_spelled_as_headers(spell: Callable[[str], str]) -> None:
    """Attributes are decoded in the spelling of documents and of headers."""
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
def test_bodies_are_decoded(members: dict[str, Any], payload: Payload) -> None:
    """A body is a JSON value, a string or BASE64; the content type decides whether it is CSV."""
    assert decode(logger_line(**members)).payload == payload


def test_null_data_is_a_body() -> None:
    """A response that is null is a body, not a missing one."""
    document = {**orjson.loads(logger_line()), "data": None}
    assert decode(orjson.dumps(document)).payload.data == "null"


@given(json_values)
def test_any_value_is_a_body(data: Any) -> None:
    """A JSON value is encoded as a string, and a string is unchanged."""
    body = decode(orjson.dumps({**orjson.loads(logger_line()), "data": data})).payload.data
    assert body == data if isinstance(data, str) else orjson.loads(body) == data


def test_two_sides_are_an_invocation() -> None:
    """A request and its response are one event, at the time of the request."""
    request, response = (
        decode(logger_line()),
        decode(logger_line(type=RESPONSE, time="late", data={"predictions": [0.5]})),
    )
    event = pair(request, response)
    assert event == Event("7", AT, request.payload, response.payload)
    fields = Fields("instances", "predictions", content_type="application/json", accept_type="application/json")
    (row,) = event_records(1, event, fields)
    assert (row.values, row.scores, row.event_id, row.inference_id) == ([1, 2], [0.5], "7", None)


def test_request_without_response_is_an_invocation() -> None:
    """A request without a response is an event without output."""
    assert pair(decode(logger_line()), None) == Event("7", AT, decode(logger_line()).payload, None)


@pytest.mark.parametrize("time", ["noon", "2023-01-19"])
def test_request_without_valid_time_is_an_error(time: str, golden: Golden) -> None:
    """A request without a valid time belongs to no window."""
    with golden.raises(RecordError) as caught:
        pair(decode(logger_line(time=time)), None)
    assert caught.value.kind == "not_a_capture"
    assert time in str(caught.value)


@pytest.mark.parametrize(
    ("broken", "kind", "shown"),
    [
        pytest.param(b"", "not_json", "", id="empty"),
        pytest.param(b"torn {", "not_json", "torn {", id="torn"),
        pytest.param(logger_line()[:60], "not_json", "specversion", id="cut"),
        pytest.param(b'{"id":"\xff"}', "not_json", "�", id="not UTF-8"),
        pytest.param(b"[" * 2000 + b"]" * 2000, "not_json", "…", id="deep"),
        pytest.param(b'{"id":NaN}', "not_json", "NaN", id="NaN"),
        pytest.param(b"[]", "not_a_capture", "[]", id="list"),
        pytest.param(b"3", "not_a_capture", "3", id="number"),
        pytest.param(b"{}", "not_a_capture", "id", id="nothing"),
        pytest.param(logger_line(id=None), "not_a_capture", "id", id="no id"),
        pytest.param(logger_line(id=""), "not_a_capture", "id", id="empty id"),
        pytest.param(logger_line(id=7), "not_a_capture", "id", id="number as id"),
        pytest.param(logger_line(type=None), "not_a_capture", "type", id="no type"),
        pytest.param(logger_line(type="other"), "not_a_capture", "type", id="other type"),
        pytest.param(logger_line(type="request"), "not_a_capture", "type", id="type without a dot"),
        pytest.param(logger_line(time=None), "not_a_capture", "time", id="no time"),
        pytest.param(logger_line(time=1674106306), "not_a_capture", "1674106306", id="number as time"),
        pytest.param(logger_line(data=None), "not_a_capture", "data_base64", id="no data"),
        pytest.param(logger_line(id="x" * 10_000, type="y" * 10_000), "not_a_capture", "…", id="long"),
        pytest.param(
            logger_line().replace(b"[[1,2]]", b"[" * 900 + b"]" * 900), "not_a_capture", "data", id="deep data"
        ),
    ],
)
def test_invalid_line_is_an_error(broken: bytes, kind: str, shown: str, golden: Golden) -> None:
    """Each invalid line has its reason; the message contains the attribute or the beginning of the line."""
    with golden.raises(RecordError) as caught:
        decode(broken)
    assert caught.value.kind == kind
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.binary() | json_values.map(orjson.dumps))
def test_any_invalid_line_is_a_record_error(data: bytes) -> None:
    """Any other content is a record error."""
    with pytest.raises(RecordError):
        decode(data)
