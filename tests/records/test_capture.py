"""Capture lines: decoding and encoding, compared with the notebook's published lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Event, Payload
from runner.errors import RecordError
from runner.records import payloads
from runner.records.capture import CHARACTERS_PER_CALL, Side, decode, decode_cloudevent, encode, pair_cloudevents
from runner.records.fields import Fields
from runner.records.tables import event_records
from tests.golden import Golden

PUBLISHED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes().splitlines(keepends=True)

ids = st.text()
sides = st.none() | st.builds(Payload, content_type=st.text(), data=st.text(), encoding=st.text())
whole_seconds = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))
events = st.builds(
    Event,
    event_id=ids,
    at=whole_seconds,
    input=sides,
    output=sides,
    inference_id=st.none() | ids,
    version=st.text(),
    custom_attributes=st.lists(st.text()).map(tuple),
    delivered=st.booleans(),
)


def with_member(key: str, value: object) -> bytes:
    """Return the first published line with a new value of one member, given its dotted path."""
    document = orjson.loads(PUBLISHED[0])
    *parents, last = key.split(".")
    reduce(getitem, parents, document)[last] = value
    return orjson.dumps(document)


def test_long_strings_are_encoded_in_parts() -> None:
    """The line is the same."""
    text = 'a"\\\nü€\U0001f600' * (CHARACTERS_PER_CALL // 3)
    event = replace(decode(PUBLISHED[0]), input=Payload("text/csv", text, "CSV"), output=None)
    document = orjson.loads(PUBLISHED[0])
    side = {"observedContentType": "text/csv", "mode": "INPUT", "data": text, "encoding": "CSV"}
    document["captureData"] = {"endpointInput": side}
    assert encode(event) == orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


@pytest.mark.parametrize("line", PUBLISHED, ids=["one record", "mini-batch"])
def test_published_lines_are_unchanged_by_decoding_and_encoding(line: bytes) -> None:
    """Decoding and encoding a published line changes no byte."""
    assert encode(decode(line)) == line


def test_published_line_is_decoded() -> None:
    """The event has all values of the published line."""
    assert decode(PUBLISHED[0]) == Event(
        event_id="40394cfe-37c3-4abb-b22c-dd7accbe9608",
        at=datetime(2023, 1, 19, 5, 31, 46, tzinfo=UTC),
        input=Payload("application/jsonlines", '{"features":[28,2,133937,9,13,2,0,0,4,1,15024,0,55,37]}', "JSON"),
        output=Payload("application/jsonlines", '{"predicted_label":1,"score":0.989977359771728}\n', "JSON"),
        inference_id=None,
        version="0",
    )


def test_inference_id_is_between_event_id_and_time() -> None:
    """The inference id has its published position."""
    line = encode(replace(decode(PUBLISHED[0]), inference_id="0"))
    assert b'"40394cfe-37c3-4abb-b22c-dd7accbe9608","inferenceId":"0","inferenceTime":"2023-01-19T05:31:46Z"' in line
    assert decode(line).inference_id == "0"


def test_undelivered_response_is_marked_after_the_time() -> None:
    """The mark is the last member of the metadata; without it, the response was delivered."""
    line = encode(replace(decode(PUBLISHED[0]), delivered=False))
    assert b'"inferenceTime":"2023-01-19T05:31:46Z","delivered":false},"eventVersion"' in line
    assert not decode(line).delivered


def test_custom_attributes_are_before_the_time() -> None:
    """Custom attributes are a list after the ids, and are decoded."""
    event = replace(decode(PUBLISHED[0]), inference_id="0", custom_attributes=("tfs-model-name=a", "b"))
    assert (
        b'"inferenceId":"0","customAttributes":["tfs-model-name=a","b"],"inferenceTime":"2023-01-19T05:31:46Z"'
        in encode(event)
    )
    assert decode(encode(event)) == event


@pytest.mark.parametrize("value", [None, 7, "text", {"a": "b"}, [], [7, None, ["x"]]])
def test_malformed_custom_attributes_are_ignored(value: object) -> None:
    """Custom attributes other than a list of strings are ignored."""
    assert decode(with_member("eventMetadata.customAttributes", value)) == decode(PUBLISHED[0])


@given(events)
def test_any_event_is_unchanged_by_encoding_and_decoding(event: Event) -> None:
    """Any strings and any missing sides are encoded and decoded as they are, in one line."""
    line = encode(event)
    assert decode(line) == event
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@pytest.mark.parametrize("side", ["endpointInput", "endpointOutput"])
def test_null_side_is_absent(side: str) -> None:
    """A side that is null was not captured."""
    event = decode(with_member(f"captureData.{side}", None))
    assert (event.input is None, event.output is None) == (side == "endpointInput", side == "endpointOutput")


def test_absent_sides_are_not_encoded() -> None:
    """A side that was not captured has no key."""
    event = replace(decode(PUBLISHED[0]), input=None, output=None)
    assert orjson.loads(encode(event))["captureData"] == {}


@pytest.mark.parametrize("key", ["eventMetadata.more", "captureData.more", "more"])
def test_unknown_members_are_ignored(key: str) -> None:
    """Unknown members, which SageMaker may add, are ignored."""
    assert decode(with_member(key, ["x"])) == decode(PUBLISHED[0])


@pytest.mark.parametrize("time", ["2023-01-19T05:31:46+00:00", "2023-01-19T07:31:46+02:00", "2023-01-19T05:31:46"])
def test_times_are_converted_to_utc(time: str) -> None:
    """A time with another offset, or without one, is converted to UTC."""
    assert encode(decode(with_member("eventMetadata.inferenceTime", time))) == PUBLISHED[0]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param(b"torn {", "torn {", id="torn"),
        pytest.param(PUBLISHED[0][:100], "captureData", id="cut"),
        pytest.param(b'{"captureData":"\xff"}', "�", id="not UTF-8"),
        pytest.param(rb'{"captureData":"\ud800"}', r"\ud800", id="surrogate"),
        pytest.param(b"[" * 2000 + b"]" * 2000, "…", id="deep"),
    ],
)
def test_line_that_is_not_json_is_an_error(line: bytes, shown: str, golden: Golden) -> None:
    """The reason is `not_json`, and the message contains the beginning of the line."""
    with golden.raises(RecordError) as caught:
        decode(line)
    assert caught.value.kind == "not_json"
    assert shown in str(caught.value)


@pytest.mark.parametrize(
    ("line", "member", "got"),
    [
        pytest.param(b"3", "captureData", "None", id="number"),
        pytest.param(b"[]", "captureData", "None", id="list"),
        pytest.param(b"{}", "captureData", "None", id="nothing"),
    ]
    + [
        pytest.param(with_member(path, value), path.split(".")[-1], str(value), id=f"{path}={value}")
        for path, value in [
            ("captureData", "text"),
            ("eventMetadata", None),
            ("eventMetadata.eventId", 7),
            ("eventMetadata.inferenceId", 7),
            ("eventMetadata.inferenceTime", None),
            ("eventMetadata.inferenceTime", "noon"),
            ("eventMetadata.inferenceTime", "2023-01-19"),
            ("eventMetadata.inferenceTime", "2023-02-30T00:00:00Z"),
            ("eventMetadata.inferenceTime", "0001-01-01T00:00:00+05:00"),
            ("eventVersion", 0),
            ("captureData.endpointInput", "x"),
            ("captureData.endpointInput.data", {"features": [1]}),
            ("captureData.endpointOutput.data", None),
            ("captureData.endpointInput.encoding", 1),
        ]
    ],
)
def test_wrong_member_is_an_error(line: bytes, member: str, got: str, golden: Golden) -> None:
    """The reason is `not_a_capture`, and the message contains the name and the value of the member."""
    with golden.raises(RecordError) as caught:
        decode(line)
    assert caught.value.kind == "not_a_capture"
    assert member in str(caught.value)
    assert got in str(caught.value)


@pytest.mark.parametrize("line", [b"x" * 10_000, with_member("captureData", "x" * 10_000)])
def test_message_of_a_long_line_is_short(line: bytes) -> None:
    """A long line is shortened in the message."""
    with pytest.raises(RecordError) as caught:
        decode(line)
    assert len(str(caught.value)) < 300


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(0, 9), st.lists).map(orjson.dumps))
def test_any_invalid_line_is_a_record_error(line: bytes) -> None:
    """Any other content is a record error."""
    with pytest.raises(RecordError):
        decode(line)


def test_missing_content_type_is_empty() -> None:
    """The content type may be missing, because it decides nothing."""
    document: dict[str, Any] = orjson.loads(PUBLISHED[0])
    del document["captureData"]["endpointInput"]["observedContentType"]
    event = decode(orjson.dumps(document))
    assert event.input == replace(decode(PUBLISHED[0]).input or Payload("", "", ""), content_type="")


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
    assert decode_cloudevent(logger_line(type=kind)) == expected


@pytest.mark.parametrize(
    "spell",
    ["{}".format, "ce-{}".format, lambda name: f"Ce-{name.title()}", lambda name: f"CE-{name.upper()}"],
)
def test_attributes_may_be_spelled_as_headers(spell: Callable[[str], str]) -> None:
    """Attributes are decoded in the spelling of documents and of headers."""
    attributes = {spell(name): value for name, value in [("id", "7"), ("type", REQUEST), ("time", TIME)]}
    document = {**attributes, "Content-Type": "application/json", "data": [1]}
    assert decode_cloudevent(orjson.dumps(document)) == Side(
        "7", True, TIME, Payload("application/json", "[1]", "JSON")
    )


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
    assert decode_cloudevent(logger_line(**members)).payload == payload


def test_null_data_is_a_body() -> None:
    """A response that is null is a body, not a missing one."""
    document = {**orjson.loads(logger_line()), "data": None}
    assert decode_cloudevent(orjson.dumps(document)).payload.data == "null"


@given(json_values)
def test_any_value_is_a_body(data: Any) -> None:
    """A JSON value is encoded as a string, and a string is unchanged."""
    body = decode_cloudevent(orjson.dumps({**orjson.loads(logger_line()), "data": data})).payload.data
    assert body == data if isinstance(data, str) else orjson.loads(body) == data


def test_two_sides_are_an_invocation() -> None:
    """A request and its response are one event, at the time of the request."""
    request, response = (
        decode_cloudevent(logger_line()),
        decode_cloudevent(logger_line(type=RESPONSE, time="late", data={"predictions": [0.5]})),
    )
    event = pair_cloudevents(request, response)
    assert event == Event("7", AT, request.payload, response.payload)
    fields = Fields("instances", "predictions", content_type="application/json", accept_type="application/json")
    (row,) = event_records(1, event, fields)
    assert (row.values, row.scores, row.event_id, row.inference_id) == ([1, 2], [0.5], "7", None)


def test_request_without_response_is_an_invocation() -> None:
    """A request without a response is an event without output."""
    assert pair_cloudevents(decode_cloudevent(logger_line()), None) == Event(
        "7", AT, decode_cloudevent(logger_line()).payload, None
    )


@pytest.mark.parametrize("time", ["noon", "2023-01-19"])
def test_request_without_valid_time_is_an_error(time: str, golden: Golden) -> None:
    """A request without a valid time belongs to no window."""
    with golden.raises(RecordError) as caught:
        pair_cloudevents(decode_cloudevent(logger_line(time=time)), None)
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
        decode_cloudevent(broken)
    assert caught.value.kind == kind
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.binary() | json_values.map(orjson.dumps))
def test_any_invalid_cloudevent_is_a_record_error(data: bytes) -> None:
    """Any other content is a record error."""
    with pytest.raises(RecordError):
        decode_cloudevent(data)


@pytest.mark.parametrize("decode_line", [decode, decode_cloudevent])
def test_line_with_too_many_values_is_not_parsed(decode_line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values outside the payloads are limited, too: the whole line is parsed before its payloads."""
    monkeypatch.setattr(payloads, "MAX_VALUES", 50)
    with pytest.raises(RecordError) as caught:
        decode_line(orjson.dumps({"junk": [[]] * 30}))
    assert caught.value.kind == "too_long"


@pytest.mark.parametrize("key", ["eventId", "inferenceId"])
def test_long_id_is_an_error(key: str, golden: Golden) -> None:
    """An id is repeated in each record of its event, so its length is limited."""
    document: dict[str, Any] = orjson.loads(PUBLISHED[0])
    document["eventMetadata"][key] = "x" * 1_024
    assert decode(orjson.dumps(document))
    document["eventMetadata"][key] += "x"
    with golden.raises(RecordError) as caught:
        decode(orjson.dumps(document))
    assert caught.value.kind == "not_a_capture"
    if key == "eventId":
        with golden.raises(RecordError):
            decode_cloudevent(logger_line(id="x" * 1_025))
