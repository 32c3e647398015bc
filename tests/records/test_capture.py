"""Capture lines: decoding and encoding, compared with the notebook's published lines."""

from __future__ import annotations

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
from runner.records.capture import decode, encode
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
)


def with_member(key: str, value: object) -> bytes:
    """Return the first published line with a new value of one member, given its dotted path."""
    document = orjson.loads(PUBLISHED[0])
    *parents, last = key.split(".")
    reduce(getitem, parents, document)[last] = value
    return orjson.dumps(document)


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
