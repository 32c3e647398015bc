"""Records of KServe's logger: pairs of request and response."""

from __future__ import annotations

import base64
import tracemalloc
from itertools import permutations
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.probes import probe_id
from runner.records import capture
from runner.sources import kserve
from runner.sources.data import Data
from runner.sources.kserve import KserveSource
from runner.storage import read_lines
from tests.golden import Golden
from tests.sources.reading import DATA, HOUR, Collected, data_settings, read_window

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
JSON = "application/json"
DENSE = data_settings(features="instances", score="predictions", content_type=JSON, accept_type=JSON)


def cloud_event(id_: str, kind: str, data: Any, clock: str = "09:30:00", **attributes: Any) -> dict[str, Any]:
    """Return a CloudEvent as KServe's logger writes it."""
    event = {"specversion": "1.0", "id": id_, "type": kind, "time": f"2026-01-05T{clock}.123Z", "data": data}
    return {**event, "datacontenttype": "application/json", **attributes}


def request(id_: str, *rows: list[Any], **more: Any) -> dict[str, Any]:
    """Return the CloudEvent of a request."""
    return cloud_event(id_, REQUEST, {"instances": rows}, **more)


def response(id_: str, *scores: float, **more: Any) -> dict[str, Any]:
    """Return the CloudEvent of a response."""
    return cloud_event(id_, RESPONSE, {"predictions": scores}, **more)


def read_files(root: Path, data: Data = DENSE, **files: list[Any]) -> Collected:
    """Return the records and rejections of an hour, from files with these events, one per line."""
    for name, records in files.items():
        lines = [line if isinstance(line, bytes) else orjson.dumps(line) for line in records]
        (root / f"{name}.jsonl").write_bytes(b"\n".join(lines))
    return read_window(KserveSource("kserve", str(root)), data=data)


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_pairs_are_matched_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Request and response are matched by their id, in any order."""
    sides = [request("a", [1], [2]), response("a", 0.25, 0.5), request("b", [3]), response("b", 0.75)]
    result = read_files(tmp_path, log=[sides[i] for i in order])
    assert result.scores is not None
    pairs = sorted(zip(result.rows, result.scores, strict=True))
    assert pairs == [((1,), [0.25]), ((2,), [0.5]), ((3,), [0.75])]
    assert (result.events, result.rejected) == (2, {})


def test_pairs_are_matched_across_files(tmp_path: Path) -> None:
    """One side may be in another file and folder; the record has the file of its request."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later/z.json").write_bytes(orjson.dumps(request("a", [1])))
    result = read_files(tmp_path, first=[response("a", 0.25)])
    assert (result.rows, result.scores, result.origins) == ([(1,)], [[0.25]], [("later/z.json", 1, 0)])


def test_duplicate_ids_are_separate_invocations(tmp_path: Path) -> None:
    """Pairs with equal ids one after the other are separate records, even with a missing response."""
    sides = [request("a", [1]), response("a", 0.25), request("a", [2]), request("a", [3]), response("a", 0.5)]
    result = read_files(tmp_path, log=sides)
    pairs = zip(result.rows, result.scores or [], strict=True)
    assert str(sorted(pairs)) == "[((1,), [0.25]), ((2,), [nan]), ((3,), [0.5])]"


def test_request_without_response_is_read(tmp_path: Path) -> None:
    """A request without a response is a record without a score."""
    result = read_files(tmp_path, log=[request("a", [1]), request("b", [2])])
    assert (result.rows, result.scores, result.events) == ([(1,), (2,)], None, 2)


def test_a_response_without_request_is_rejected(tmp_path: Path, golden: Golden) -> None:
    """A response without a request is rejected with its position."""
    result = read_files(tmp_path, log=[request("a", [1]), response("b", 0.5)])
    assert (result.rows, result.events) == ([(1,)], 2)
    (rejection,) = result.rejections
    assert (rejection["file"], rejection["line"], rejection["kind"]) == ("log.jsonl", 2, "no_input")
    assert "'b'" in rejection["problem"]
    golden(rejection["problem"])
    assert rejection["text"].startswith('{"specversion":"1.0","id":"b"')


def test_probes_are_counted_separately(tmp_path: Path) -> None:
    """Calls of shapwatch itself are counted, with one or both sides."""
    sides = [
        request("a", [1]),
        request(probe_id(1), [2], [3]),
        response(probe_id(1), 0.5),
        response(probe_id(2), 0.5),
        request(probe_id(1), [4]),
        request(probe_id(3), [5], clock="10:00:00"),
    ]
    result = read_files(tmp_path, log=sides)
    assert (result.rows, result.events, result.probes, result.outside, result.rejected) == ([(1,)], 1, 3, 1, {})


def test_time_of_the_request_decides_its_window(tmp_path: Path) -> None:
    """Requests of other hours are outside the window; a later response belongs to its request."""
    sides = [
        request("early", [1], clock="08:59:59"),
        response("early", 0.5, clock="09:00:00"),
        request("own", [2], clock="09:59:59"),
        response("own", 0.75, clock="10:00:00"),
        request("late", [3], clock="10:00:00"),
        response("lone", 0.5, clock="07:00:00"),
    ]
    result = read_files(tmp_path, log=sides)
    assert (result.rows, result.scores) == ([(2,)], [[0.75]])
    assert (result.events, result.outside, result.rejected) == (1, 3, {})


@pytest.mark.parametrize("clock", ["08:30:00", "09:30:00"])
def test_unpaired_requests_take_little_memory(tmp_path: Path, clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests outside the window keep no payload; the lines of others move to disk, and later responses find them."""
    monkeypatch.setattr(kserve, "MEMORY_BYTES", 2**16)
    count, values = 300, [0.5] * 500
    lines = [orjson.dumps(request(f"{i}", [i, *values], clock=clock)) for i in range(count)]
    responses = [orjson.dumps(response(f"{i}", i / 4)) for i in range(0, count, 2)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines + responses))
    sides = [(line, capture.decode_cloudevent(line.data)) for line in read_lines(tmp_path / "log.jsonl", "log.jsonl")]
    tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with kserve.Unpaired() as unpaired:
        for line, side in sides[:count]:
            unpaired.add(line, side.id)
        assert tracemalloc.get_traced_memory()[1] - before < 2**17 + 300 * count
        assert [unpaired.read(unpaired.pop(str(i)) or 0)[1] for i in range(count)] == [
            side for _, side in sides[:count]
        ]
    tracemalloc.stop()
    result = read_files(tmp_path)
    if clock.startswith("08"):
        assert (result.rows, result.outside, result.events) == ([], count, 0)
    else:
        assert (len(result.rows), result.events, result.rejected) == (count, count, {})
        scores = {int(row[0]): score for row, (score,) in zip(result.rows, result.scores or [], strict=True)}
        assert all(scores[i] == i / 4 if i % 2 == 0 else scores[i] != scores[i] for i in range(count))


def test_bodies_may_be_json_strings_or_base64(tmp_path: Path) -> None:
    """A body is JSON, a string with JSON, or its bytes as BASE64."""
    encoded = base64.b64encode(b'{"instances":[[2]]}').decode()
    sides = [
        cloud_event("text", REQUEST, '{"instances":[[1]]}'),
        {key: value for key, value in request("bytes").items() if key != "data"} | {"data_base64": encoded},
        response("bytes", 0.5),
    ]
    result = read_files(tmp_path, log=sides)
    assert sorted(result.rows) == [(1,), (2,)]
    assert str(sorted(map(str, result.scores or []))) == "['[0.5]', '[nan]']"


def test_csv_request_with_json_lines_response_is_read(tmp_path: Path) -> None:
    """The content type decides about CSV, the settings about other formats."""
    sides = [
        cloud_event("a", REQUEST, "1,x\n2,y", datacontenttype="text/csv; charset=utf-8"),
        cloud_event("a", RESPONSE, '{"score":0.25}\n{"score":0.5}', datacontenttype="application/jsonlines"),
    ]
    result = read_files(tmp_path, DATA, log=sides)
    assert (result.rows, result.scores) == ([(1, "x"), (2, "y")], [[0.25], [0.5]])


def test_attributes_may_be_spelled_as_headers(tmp_path: Path) -> None:
    """The names of CloudEvents in HTTP headers are accepted."""
    headers = {"Ce-Id": "a", "Ce-Type": REQUEST, "CE-Time": "2026-01-05T10:30:00+01:00"}
    assert read_files(tmp_path, log=[{**headers, "data": {"instances": [[1]]}}]).rows == [(1,)]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param(b'{"id":', "not_json", id="cut"),
        pytest.param(b"[]", "not_a_capture", id="list"),
        pytest.param(request("", [1]), "not_a_capture", id="empty id"),
        pytest.param(cloud_event("a", "org.kubeflow.serving.feedback", {}), "not_a_capture", id="type"),
        pytest.param({**request("a", [1]), "time": "noon"}, "not_a_capture", id="time"),
        pytest.param({"id": "a", "type": REQUEST, "time": "2026-01-05T09:30:00Z"}, "not_a_capture", id="no data"),
        pytest.param(request("a", ["NaN", []]), "feature_type", id="list as a feature"),
        pytest.param(cloud_event("a", REQUEST, '{"instances":[[NaN]]}'), "not_finite", id="NaN"),
        pytest.param({**request("a"), "data_base64": "?"}, "encoding", id="no BASE64"),
    ],
)
def test_invalid_line_is_rejected(tmp_path: Path, golden: Golden, line: object, kind: str) -> None:
    """Each line is a side of a record or a rejection; blank lines are skipped."""
    result = read_files(tmp_path, log=[request("good", [1]), b"", line])
    assert (result.rows, result.events, result.rejected_lines) == ([(1,)], 2, [("log.jsonl", 3, kind)])
    golden(result.rejections[0]["problem"])


def test_unequal_sides_are_rejected(tmp_path: Path) -> None:
    """A pair with different numbers of records is one rejection, at its request."""
    result = read_files(tmp_path, log=[response("a", 0.5), request("a", [1], [2]), request("b", [1])])
    assert result.rows == [(1,)]
    assert result.rejected_lines == [("log.jsonl", 2, "row_count")]


def test_folder_is_independent_of_the_window(tmp_path: Path) -> None:
    """The folder is the root, for any window."""
    assert KserveSource("kserve", str(tmp_path)).folders(HOUR) == [str(tmp_path)]
