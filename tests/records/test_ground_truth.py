"""Ground-truth lines ⇄ labels, and how they find their events."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
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


def lines(data: bytes, file: str = "a.jsonl") -> list[Line]:
    """Return the lines of a file."""
    return [Line(file, number, line) for number, line in enumerate(data.splitlines(keepends=True), 1)]


def event(event_id: str, inference_id: str | None = None) -> Event:
    """Return an event with these ids."""
    return Event(event_id, datetime(2023, 1, 19, 5, tzinfo=UTC), None, None, inference_id)


def read(data: bytes) -> list[GroundTruth | Rejection]:
    """Return what a file holds."""
    return list(decode_files(lines(data)))


@pytest.mark.parametrize("line", PUBLISHED, ids=["CSV", "JSON"])
def test_published_lines_survive_byte_for_byte(line: bytes) -> None:
    """Decoding and encoding a published line changes no byte of it."""
    assert [encode(truth) for truth in decode(line)] == [line]


@given(truths)
def test_any_record_survives(truth: GroundTruth) -> None:
    """Encoding and decoding returns the same record, whatever texts it holds."""
    assert decode(encode(truth)) == [truth]
    assert encode(truth).count(b"\n") == 1


@given(st.lists(truths, max_size=4))
def test_an_array_is_its_records(found: list[GroundTruth]) -> None:
    """A line may hold a whole array, as a batch notebook writes it."""
    assert decode(b"[" + b",".join(encode(truth) for truth in found) + b"]") == found


@pytest.mark.parametrize(
    ("given_id", "text"), [(7, "7"), (-7, "-7"), (7.0, "7"), (7.5, "7.5"), (1e300, "1e+300"), ("{a GUID}", "{a GUID}")]
)
def test_ids_may_be_numbers(given_id: object, text: str) -> None:
    """A number becomes the text an endpoint would have been sent."""
    assert decode(orjson.dumps(record(given_id)))[0].id == text


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (None, "null"), ([0, 1], "[0,1]"), ({"label": "é"}, '{"label":"é"}')]
)
def test_data_may_be_a_value(value: object, text: str) -> None:
    """Labels that were not written as a text are read as JSON, whatever the encoding says."""
    assert decode(orjson.dumps(record(data=value))) == [GroundTruth("0", text, "JSON")]


def test_the_version_may_be_missing() -> None:
    """A record without a version has the only one there is."""
    document = record()
    del document["eventVersion"]
    assert decode(orjson.dumps(document)) == [GroundTruth("0", "1", "CSV", "0")]


@pytest.mark.parametrize(
    "line", [pytest.param(b"", id="empty"), pytest.param(b"torn {", id="torn"), pytest.param(b'"\xff"', id="not UTF-8")]
)
def test_a_line_that_is_no_json_is_shown(line: bytes, golden: Golden) -> None:
    """The reason is `not_json`, and the sentence shows the offending text."""
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
def test_a_wrong_member_is_named(document: object, shown: str, golden: Golden) -> None:
    """The reason is `not_ground_truth`, and the sentence names the member and shows its value."""
    with golden.raises(RecordError) as caught:
        decode(json.dumps(document).encode())
    assert caught.value.kind == "not_ground_truth"
    assert shown in str(caught.value)


@given(st.binary() | st.recursive(st.none() | st.text() | st.integers(0, 9), st.lists).map(orjson.dumps))
def test_reading_never_raises(data: bytes) -> None:
    """Whatever stands in a file, reading it ends in records and rejections."""
    assert all(isinstance(found, Rejection) for found in read(data))


def test_files_are_read_line_by_line(golden: Golden) -> None:
    """Blank lines count for nothing, a bad line costs nothing but itself, and the place is told."""
    data = b"\n" + PUBLISHED[0] + b"torn\n \n[" + PUBLISHED[0][:-1] + b",{}]\n" + PUBLISHED[1][:-1]
    first, torn, second, bad, third = read(data)
    assert (first, second, third) == (*decode(PUBLISHED[0]) * 2, *decode(PUBLISHED[1]))
    assert isinstance(torn, Rejection)
    assert (torn.file, torn.line, torn.kind) == ("a.jsonl", 3, "not_json")
    assert isinstance(bad, Rejection)
    assert (bad.line, bad.kind) == (5, "not_ground_truth")
    golden(bad.problem)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_a_pretty_printed_array_is_one_document(ends: bytes) -> None:
    """A file that starts with a lone bracket is read to its end; the next file is another."""
    found = [GroundTruth(str(i), "1", "CSV") for i in range(3)]
    text = json.dumps([record(truth.id) for truth in found], indent=2).replace(",\n", ",\n\n").encode()
    pretty = (b"\n" + text + b"\n\n").replace(b"\n", ends)
    assert list(decode_files([*lines(pretty), *lines(PUBLISHED[0], "b.jsonl")])) == [*found, *decode(PUBLISHED[0])]


def test_a_broken_array_names_the_files_own_line(golden: Golden) -> None:
    """The parser's line number is that of the file."""
    (broken,) = read(b"\n\n[\n{},\n oops\n]\n")
    assert isinstance(broken, Rejection)
    assert (broken.line, broken.kind) == (3, "not_json")
    assert "5" in broken.problem
    golden(broken.problem)


@pytest.mark.parametrize("data", [b"", b"\n \n", b"[]", b"[\n]\n"])
def test_an_empty_file_has_no_record(data: bytes) -> None:
    """Nothing is neither a record nor a mistake."""
    assert read(data) == []


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
def test_labels_stand_in_order(data: str, encoding: str, label: str | None, values: list[object]) -> None:
    """Each form of labels, as a text and as BASE64, gives them in the order of the payload's records."""
    packed = base64.b64encode(data.encode()).decode()
    for truth in (GroundTruth("0", data, encoding), GroundTruth("0", packed, "BASE64")):
        found = label_values(truth, label)
        assert found == values
        assert [type(value) for value in found] == [type(value) for value in values]


def test_a_path_does_not_matter_to_plain_cells() -> None:
    """Labels that are CSV are found although `label` says where they stand in JSON ones."""
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
    """Whatever the cause, the reason is `ground_truth`, and the sentence names a label's place that was asked for."""
    with golden.raises(RecordError) as caught:
        label_values(GroundTruth("0", data, encoding), label)
    assert caught.value.kind == "ground_truth"
    assert (label or "") in str(caught.value)


@given(st.text() | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps), st.data())
def test_labels_raise_nothing_else(data: str, draw: st.DataObject) -> None:
    """Whatever stands in the data, there are labels or a record error."""
    encoding = draw.draw(st.sampled_from(["CSV", "JSON", "BASE64"]))
    label = draw.draw(st.none() | st.sampled_from(["0", "label", "[*]"]) | st.text(max_size=3))
    kind = "ground_truth"
    try:
        assert label_values(GroundTruth("0", data, encoding), label)
    except RecordError as error:
        kind = error.kind
    assert kind == "ground_truth"


def test_merged_record_has_the_documented_order() -> None:
    """A merged record is version, labels, the capture as it was, and the ids with their time."""
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
def test_merging_can_be_undone(truth: GroundTruth, inference_id: str | None) -> None:
    """A merged record gives back the event and the ground truth, without an invented inference id."""
    found = replace(capture.decode(CAPTURED[0]), inference_id=inference_id)
    line = encode_merged(capture.encode(found), truth)
    assert decode_merged(line) == (found, replace(truth, id=event_key(found), version=found.version))
    assert (b'"inferenceId"' in line) == (inference_id is not None)


def test_what_cannot_be_merged_is_a_record_error(golden: Golden) -> None:
    """Neither a torn capture line, nor one too deep to write, nor a merged one without labels raises another error."""
    deep = CAPTURED[0].replace(b'{"endpointInput"', b'{"x":' + b"[" * 300 + b"]" * 300 + b',"endpointInput"')
    for line in (b"torn", deep):
        with pytest.raises(RecordError):
            encode_merged(line, GroundTruth("0", "1", "CSV"))
    with pytest.raises(RecordError) as caught:
        decode_merged(CAPTURED[0])
    assert (caught.value.kind, "groundTruthData" in str(caught.value)) == ("not_ground_truth", True)


def test_the_callers_id_is_the_key() -> None:
    """The inference id is what joins, even an empty one; without it the event id is."""
    assert [event_key(found) for found in (event("e", "i"), event("e", ""), event("e"))] == ["i", "", "e"]


def test_every_event_with_an_id_gets_its_truth() -> None:
    """Ids that come back in the hour all find the last record of that id; what has no partner is counted and named."""
    rejection = Rejection(file="a.jsonl", line=1, kind="not_json", problem="not JSON")
    old, new, spare = GroundTruth("1", "0", "CSV"), GroundTruth("1", "1", "CSV"), GroundTruth("9", "1", "CSV")
    events = [event("a", "1"), event("b", "1"), event("1"), event("c", "2"), event("d", "2"), event("e")]
    found = GroundTruthIndex.build([old, rejection, spare, new])
    assert [found.find(each) for each in events] == [new, new, new, None, None, None]
    join = found.join([event_key(each) for each in events])
    assert (join.events, join.joined, join.rate) == (6, 3, 0.5)
    assert join.unmatched_events == ("2", "e")
    assert (join.truths, join.unused, join.superseded) == (3, 1, 1)
    assert join.unmatched_truths == ("9",)
    assert join.rejections == (rejection,)


keys = st.lists(st.integers(0, 30).map(str), max_size=60)


@given(keys, keys)
def test_join_counts_as_plain_loops_do(asked: Iterable[str], told: Iterable[str]) -> None:
    """The counts are those of a naive join, whatever recurs."""
    asked, told = list(asked), list(told)
    join = GroundTruthIndex.build(GroundTruth(each, "1", "CSV") for each in told).join(asked)
    assert join.joined == sum(each in told for each in asked)
    assert join.unused == len(set(told) - set(asked))
    assert join.truths == len(told) == len(set(told) & set(asked)) + join.unused + join.superseded
    assert set(join.unmatched_events) <= set(asked) - set(told)
    assert len(join.unmatched_events) == min(5, len(set(asked) - set(told)))
    assert len(join.unmatched_truths) == min(5, join.unused)
    assert join.rate == (join.joined / len(asked) if asked else 0)
