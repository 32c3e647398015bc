"""Ground-truth lines and labels, and their join with events."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Event, Line, Rejection
from runner.errors import RecordError
from runner.records import capture
from runner.records.ground_truth import (
    GroundTruth,
    GroundTruthIndex,
    decode,
    decode_files,
    decode_merged,
    encode,
    encode_merged,
    event_key,
    label_values,
)
from tests.golden import Golden

CAPTURED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes().splitlines(keepends=True)
PUBLISHED = (
    b'{"groundTruthData":{"data":"1","encoding":"CSV"},"eventMetadata":{"eventId":"0"},"eventVersion":"0"}\n',
    b'{"groundTruthData":{"data":"{\\"label\\": 1}","encoding":"JSON"},"eventMetadata":{"eventId":"0"},'
    b'"eventVersion":"0"}\n',
)

ids = st.text().filter(lambda text: "{" not in text)
truths = st.builds(GroundTruth, id=ids, data=st.text(), encoding=st.text(), version=st.text())


def record(event_id: object = "0", data: object = "1", **more: object) -> dict[str, Any]:
    """Return a ground-truth record as a document."""
    labels = {"data": data, "encoding": "CSV"}
    return {"groundTruthData": labels, "eventMetadata": {"eventId": event_id}, "eventVersion": "0"} | more


def file_lines(data: bytes, file: str = "a.jsonl") -> list[Line]:
    """Return the lines of a file."""
    return [Line(file, number, line) for number, line in enumerate(data.splitlines(keepends=True), 1)]


def event_with_ids(event_id: str, inference_id: str | None = None) -> Event:
    """Return an event with these ids."""
    return Event(event_id, datetime(2023, 1, 19, 5, tzinfo=UTC), None, None, inference_id)


def decoded_file(data: bytes) -> list[GroundTruth | Rejection]:
    """Return the records and rejections of a file."""
    return list(decode_files(file_lines(data)))


@pytest.mark.parametrize("line", PUBLISHED, ids=["CSV", "JSON"])
def test_published_lines_are_unchanged_by_decoding_and_encoding(line: bytes) -> None:
    """Decoding and encoding a published line changes no byte."""
    assert [encode(truth) for truth in decode(line)] == [line]


@given(truths)
def test_any_record_is_unchanged_by_encoding_and_decoding(truth: GroundTruth) -> None:
    """Any strings are encoded and decoded as they are, in one line."""
    assert decode(encode(truth)) == [truth]
    assert encode(truth).count(b"\n") == 1


@given(st.lists(truths, max_size=4))
def test_array_is_decoded_as_records(found: list[GroundTruth]) -> None:
    """A line may contain an array of records, as a batch notebook writes it."""
    assert decode(b"[" + b",".join(encode(truth) for truth in found) + b"]") == found


@pytest.mark.parametrize(
    ("given_id", "text"), [(7, "7"), (-7, "-7"), (7.0, "7"), (7.5, "7.5"), (1e300, "1e+300"), ("{a GUID}", "{a GUID}")]
)
def test_ids_may_be_numbers(given_id: object, text: str) -> None:
    """A number is converted to the string of an inference id."""
    assert decode(orjson.dumps(record(given_id)))[0].id == text


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (None, "null"), ([0, 1], "[0,1]"), ({"label": "é"}, '{"label":"é"}')]
)
def test_data_may_be_a_json_value(value: object, text: str) -> None:
    """Labels that are not a string are JSON, with any encoding."""
    assert decode(orjson.dumps(record(data=value))) == [GroundTruth("0", text, "JSON")]


def test_version_may_be_missing() -> None:
    """The default version is 0."""
    document = record()
    del document["eventVersion"]
    assert decode(orjson.dumps(document)) == [GroundTruth("0", "1", "CSV", "0")]


@pytest.mark.parametrize(
    "line", [pytest.param(b"", id="empty"), pytest.param(b"torn {", id="torn"), pytest.param(b'"\xff"', id="not UTF-8")]
)
def test_line_that_is_not_json_is_an_error(line: bytes, golden: Golden) -> None:
    """The reason is `not_json`, and the message contains the line."""
    with golden.raises(RecordError) as caught:
        decode(line)
    assert caught.value.kind == "not_json"
    assert line.decode("utf-8", "replace") in str(caught.value)


@pytest.mark.parametrize(
    ("document", "shown"),
    [
        pytest.param(3, "groundTruthData", id="number"),
        pytest.param({}, "groundTruthData", id="nothing"),
        pytest.param([3], "groundTruthData", id="number in an array"),
        pytest.param(orjson.loads(CAPTURED[0]), "groundTruthData", id="capture"),
        pytest.param([record(), record(None)], "2", id="second of an array"),
        pytest.param(record(None), "eventId", id="null id"),
        pytest.param(record(True), "eventId", id="boolean id"),
        pytest.param(record({"id": 3}), "{'id': 3}", id="object as id"),
        pytest.param(record(str({"id": 3})), "{'id': 3}", id="dict in a string as id"),
        pytest.param(record('{"id":3}'), '{"id":3}', id="object in a string as id"),
        pytest.param(record(eventMetadata=3), "eventMetadata", id="metadata"),
        pytest.param(record(eventVersion=0), "eventVersion", id="version"),
        pytest.param(record(groundTruthData={"encoding": "CSV"}), "data", id="no data"),
        pytest.param(record(groundTruthData={"data": "1"}), "encoding", id="no encoding"),
        pytest.param(json.loads('{"groundTruthData":{"data":' + "[" * 300 + "]" * 300 + "}}"), "", id="deep"),
    ],
)
def test_wrong_member_is_an_error(document: object, shown: str, golden: Golden) -> None:
    """The reason is `not_ground_truth`, and the message contains the name or the value of the member."""
    with golden.raises(RecordError) as caught:
        decode(json.dumps(document).encode())
    assert caught.value.kind == "not_ground_truth"
    assert shown in str(caught.value)


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(0, 9), st.lists).map(orjson.dumps))
def test_decoding_of_files_never_raises(data: bytes) -> None:
    """Any content of a file gives records and rejections."""
    assert all(isinstance(found, Rejection) for found in decoded_file(data))


def test_files_are_decoded_line_by_line(golden: Golden) -> None:
    """Blank lines are skipped, and an invalid line is one rejection with its line number."""
    data = b"\n" + PUBLISHED[0] + b"torn\n \n[" + PUBLISHED[0][:-1] + b",{}]\n" + PUBLISHED[1][:-1]
    first, torn, second, bad, third = decoded_file(data)
    assert (first, second, third) == (*decode(PUBLISHED[0]) * 2, *decode(PUBLISHED[1]))
    assert isinstance(torn, Rejection)
    assert (torn.file, torn.line, torn.kind) == ("a.jsonl", 3, "not_json")
    assert isinstance(bad, Rejection)
    assert (bad.line, bad.kind) == (5, "not_ground_truth")
    golden(bad.problem)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_pretty_printed_array_is_one_document(ends: bytes) -> None:
    """A file that starts with a bracket only is one array; the next file is separate."""
    found = [GroundTruth(str(i), "1", "CSV") for i in range(3)]
    text = json.dumps([record(truth.id) for truth in found], indent=2).replace(",\n", ",\n\n").encode()
    pretty = (b"\n" + text + b"\n\n").replace(b"\n", ends)
    assert list(decode_files([*file_lines(pretty), *file_lines(PUBLISHED[0], "b.jsonl")])) == [
        *found,
        *decode(PUBLISHED[0]),
    ]


def test_line_number_in_a_broken_array_is_that_of_the_file(golden: Golden) -> None:
    """The parser's line number counts from the start of the file."""
    (broken,) = decoded_file(b"\n\n[\n{},\n oops\n]\n")
    assert isinstance(broken, Rejection)
    assert (broken.line, broken.kind) == (3, "not_json")
    assert "5" in broken.problem
    golden(broken.problem)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"[]", b"[\n]\n"])
def test_empty_file_has_no_record(data: bytes) -> None:
    """An empty file gives neither records nor rejections."""
    assert decoded_file(data) == []


@pytest.mark.parametrize(
    ("data", "encoding", "label", "values"),
    [
        ("1", "CSV", None, [1]),
        ("1\n", "CSV", "0", [1]),
        ("0,1", "CSV", None, [0, 1]),
        ("0\r\n1\r\n", "CSV", None, [0, 1]),
        ("0,,1", "CSV", None, [0, None, 1]),
        ('0.5, yes ,"1"', "CSV", None, [0.5, "yes", "1"]),
        ('"<=50K, or so"\n>50K', "CSV", None, ["<=50K, or so", ">50K"]),
        ("7,0\n8,1", "CSV", "1", [0, 1]),
        ("7,0\n8,1", "CSV", "0", [7, 8]),
        ("1", "JSON", None, [1]),
        ('"yes"', "JSON", None, ["yes"]),
        ("[0, null, true]", "JSON", None, [0, None, True]),
        ('{"label": 1}', "JSON", None, [1]),
        ('{"label": [0, 1]}', "JSON", None, [0, 1]),
        ('[{"label": 0}, {"label": null}, {"label": 1}]', "JSON", None, [0, None, 1]),
        ('{"instances":[{"label":0},{"label":1}]}', "JSON", None, [0, 1]),
        ('{"instances":[{"label":0},{"label":null},{"label":1}]}', "JSON", None, [0, None, 1]),
        ('{"instances":[{"y":0},{"y":1}]}', "JSON", "instances[*].y", [0, 1]),
        ('{"instances":[{"y":0},{"y":null},{"y":1}]}', "JSON", "map(&y, instances)", [0, None, 1]),
        ('{"a":{"y":0.5}}', "JSON", "a.y", [0.5]),
        ('{"label":0}\n{"label":1}\n', "JSON", None, [0, 1]),
        ('{"y":0}\n\n{"y":null}\n{"y":1}', "JSON", "y", [0, None, 1]),
        ("0\n1", "JSON", None, [0, 1]),
        ('{\n  "label": [\n    0\n  ]\n}\n', "JSON", None, [0]),
    ],
)
def test_labels_are_in_the_order_of_the_records(
    data: str, encoding: str, label: str | None, values: list[object]
) -> None:
    """Labels in each format, as a string and as BASE64, are in the order of the payload's records."""
    packed = base64.b64encode(data.encode()).decode()
    for truth in (GroundTruth("0", data, encoding), GroundTruth("0", packed, "BASE64")):
        found = label_values(truth, label)
        assert found == values
        assert [type(value) for value in found] == [type(value) for value in values]


def test_path_is_ignored_for_csv_labels() -> None:
    """Labels in CSV are read even if the setting is a JMESPath."""
    assert label_values(GroundTruth("0", "0,1", "CSV"), "instances[*].label") == [0, 1]


@pytest.mark.parametrize(
    ("data", "encoding", "label"),
    [
        pytest.param("", "CSV", None, id="empty CSV"),
        pytest.param(",,", "CSV", None, id="empty cells"),
        pytest.param("7,0\n8,1", "CSV", None, id="several columns"),
        pytest.param("7,0\n8", "CSV", "1", id="no column"),
        pytest.param("", "JSON", None, id="empty JSON"),
        pytest.param("null", "JSON", None, id="null"),
        pytest.param("[]", "JSON", None, id="empty list"),
        pytest.param("torn {", "JSON", None, id="torn"),
        pytest.param('{"y": 1}', "JSON", None, id="object"),
        pytest.param('{"y": [[1]]}', "JSON", "y", id="nested list"),
        pytest.param('{"y": 1}', "JSON", "z", id="absent"),
        pytest.param('{"y": 1}', "JSON", "sort(y)", id="function"),
        pytest.param('{"y": 1}', "JSON", "0", id="no expression"),
        pytest.param("[" * 990 + "]" * 990, "JSON", "to_string(@)", id="too deep to search"),
        pytest.param("[" * 990 + "]" * 990, "JSON", None, id="deep"),
        pytest.param("//8=", "BASE64", None, id="not UTF-8"),
        pytest.param("1", "XML", None, id="unknown encoding"),
    ],
)
def test_missing_labels_are_an_error(data: str, encoding: str, label: str | None, golden: Golden) -> None:
    """The reason is always `ground_truth`, and the message contains the setting if there is one."""
    with golden.raises(RecordError) as caught:
        label_values(GroundTruth("0", data, encoding), label)
    assert caught.value.kind == "ground_truth"
    assert (label or "") in str(caught.value)


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps), st.data())
def test_any_data_is_labels_or_a_record_error(data: str, draw: st.DataObject) -> None:
    """Any data gives labels or a record error."""
    encoding = draw.draw(st.sampled_from(["CSV", "JSON", "BASE64"]))
    label = draw.draw(st.none() | st.sampled_from(["0", "label", "[*]"]) | st.text(max_size=3))
    kind = "ground_truth"
    try:
        assert label_values(GroundTruth("0", data, encoding), label)
    except RecordError as error:
        kind = error.kind
    assert kind == "ground_truth"


def test_merged_record_has_the_documented_order() -> None:
    """A merged record has version, labels, the unchanged capture, and ids with the time."""
    document = orjson.loads(CAPTURED[0])
    document["eventMetadata"] = {"inferenceId": "7", **document["eventMetadata"], "customAttributes": ["x"]}
    document["captureData"]["more"] = 1
    line = encode_merged(orjson.dumps(document), GroundTruth("7", "1", "CSV"))
    assert line.endswith(b"}\n")
    out = orjson.loads(line)
    assert list(out) == ["eventVersion", "groundTruthData", "captureData", "eventMetadata"]
    assert out["groundTruthData"] == {"data": "1", "encoding": "CSV"}
    assert orjson.dumps(out["captureData"]) == orjson.dumps(document["captureData"])
    assert list(out["eventMetadata"]) == ["eventId", "inferenceId", "inferenceTime"]
    assert out["eventMetadata"]["inferenceTime"] == "2023-01-19T05:31:46Z"


@given(truths, st.none() | ids)
def test_merged_record_is_decoded(truth: GroundTruth, inference_id: str | None) -> None:
    """A merged record gives the event and the ground truth; a missing inference id stays missing."""
    found = replace(capture.decode(CAPTURED[0]), inference_id=inference_id)
    line = encode_merged(capture.encode(found), truth)
    assert decode_merged(line) == (found, replace(truth, id=event_key(found), version=found.version))
    assert (b'"inferenceId"' in line) == (inference_id is not None)


def test_line_that_cannot_be_merged_is_a_record_error(golden: Golden) -> None:
    """An invalid or deeply nested capture line, and a merged line without labels, are record errors."""
    deep = CAPTURED[0].replace(b'{"endpointInput"', b'{"x":' + b"[" * 300 + b"]" * 300 + b',"endpointInput"')
    for line in (b"torn", deep):
        with pytest.raises(RecordError):
            encode_merged(line, GroundTruth("0", "1", "CSV"))
    with pytest.raises(RecordError) as caught:
        decode_merged(CAPTURED[0])
    assert (caught.value.kind, "groundTruthData" in str(caught.value)) == ("not_ground_truth", True)


def test_inference_id_is_the_key() -> None:
    """The inference id is the key, even if empty; without it the event id is."""
    events = event_with_ids("e", "i"), event_with_ids("e", ""), event_with_ids("e")
    assert [event_key(event) for event in events] == ["i", "", "e"]


def test_last_ground_truth_of_an_id_applies_to_all_its_events() -> None:
    """All events with one id have its last record; unmatched ids are counted and listed."""
    rejection = Rejection(file="a.jsonl", line=1, kind="not_json", problem="not JSON")
    old, new, spare = GroundTruth("1", "0", "CSV"), GroundTruth("1", "1", "CSV"), GroundTruth("9", "1", "CSV")
    ids = [("a", "1"), ("b", "1"), ("1", None), ("c", "2"), ("d", "2"), ("e", None)]
    events = [event_with_ids(*each) for each in ids]
    index = GroundTruthIndex.build([old, rejection, spare, new])
    assert [index.find(event) for event in events] == [new, new, new, None, None, None]
    join = index.join([event_key(event) for event in events])
    assert (join.events, join.joined, join.rate) == (6, 3, 0.5)
    assert join.unmatched_events == ("2", "e")
    assert (join.truths, join.unused, join.superseded) == (3, 1, 1)
    assert join.unmatched_truths == ("9",)
    assert join.rejections == (rejection,)


short_ids = st.lists(st.integers(0, 30).map(str), max_size=60)


@given(short_ids, short_ids)
def test_counts_agree_with_a_naive_join(keys: list[str], labelled: list[str]) -> None:
    """The counts are those of a naive join, with any duplicates."""
    join = GroundTruthIndex.build(GroundTruth(each, "1", "CSV") for each in labelled).join(keys)
    assert join.joined == sum(each in labelled for each in keys)
    assert join.unused == len(set(labelled) - set(keys))
    assert join.truths == len(labelled) == len(set(labelled) & set(keys)) + join.unused + join.superseded
    assert set(join.unmatched_events) <= set(keys) - set(labelled)
    assert len(join.unmatched_events) == min(5, len(set(keys) - set(labelled)))
    assert len(join.unmatched_truths) == min(5, join.unused)
    assert join.rate == (join.joined / len(keys) if keys else 0)
