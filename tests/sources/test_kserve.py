"""Records of KServe's logger: requests and responses that find each other."""

from __future__ import annotations

import base64
from itertools import permutations
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.domain.records import PROBE
from runner.sources.data import Data
from runner.sources.kserve import KserveSource
from tests.golden import Golden
from tests.sources.reading import DATA, HOUR, Taken, data_settings, taken

REQUEST, RESPONSE = "org.kubeflow.serving.inference.request", "org.kubeflow.serving.inference.response"
JSON = "application/json"
DENSE = data_settings(features="instances", score="predictions", content_type=JSON, accept_type=JSON)


def record(id_: str, kind: str, data: Any, clock: str = "09:30:00", **attributes: Any) -> dict[str, Any]:
    """Return a CloudEvent, as KServe's logger writes one."""
    event = {"specversion": "1.0", "id": id_, "type": kind, "time": f"2026-01-05T{clock}.123Z", "data": data}
    return {**event, "datacontenttype": "application/json", **attributes}


def request(id_: str, *rows: list[Any], **more: Any) -> dict[str, Any]:
    """Return the record of a request."""
    return record(id_, REQUEST, {"instances": rows}, **more)


def response(id_: str, *scores: float, **more: Any) -> dict[str, Any]:
    """Return the record of a response."""
    return record(id_, RESPONSE, {"predictions": scores}, **more)


def read(root: Path, data: Data = DENSE, **files: list[Any]) -> Taken:
    """Return what the hour holds where files have these records, a line each."""
    for name, records in files.items():
        lines = [line if isinstance(line, bytes) else orjson.dumps(line) for line in records]
        (root / f"{name}.jsonl").write_bytes(b"\n".join(lines))
    return taken(KserveSource("kserve", str(root)), data=data)


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_pairs_are_found_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    """Request and response belong together by their id, in whichever order they were written."""
    sides = [request("a", [1], [2]), response("a", 0.25, 0.5), request("b", [3]), response("b", 0.75)]
    found = read(tmp_path, log=[sides[i] for i in order])
    assert found.scores is not None
    pairs = sorted(zip(found.rows, found.scores, strict=True))
    assert pairs == [((1,), [0.25]), ((2,), [0.5]), ((3,), [0.75])]
    assert (found.events, found.rejected) == (2, {})


def test_pairs_are_found_across_files(tmp_path: Path) -> None:
    """One side may lie in another file, in another folder; the record is named by its request."""
    (tmp_path / "later").mkdir()
    (tmp_path / "later/z.json").write_bytes(orjson.dumps(request("a", [1])))
    found = read(tmp_path, first=[response("a", 0.25)])
    assert (found.rows, found.scores, found.origins) == ([(1,)], [[0.25]], [("later/z.json", 1, 0)])


def test_a_recurring_id_is_several_invocations(tmp_path: Path) -> None:
    """Pairs that follow each other under one id are records of their own, an unanswered one in between too."""
    sides = [request("a", [1]), response("a", 0.25), request("a", [2]), request("a", [3]), response("a", 0.5)]
    found = read(tmp_path, log=sides)
    pairs = zip(found.rows, found.scores or [], strict=True)
    assert str(sorted(pairs)) == "[((1,), [0.25]), ((2,), [nan]), ((3,), [0.5])]"


def test_an_unanswered_request_is_used_without_score(tmp_path: Path) -> None:
    """The features are there, and nothing else is needed."""
    found = read(tmp_path, log=[request("a", [1]), request("b", [2])])
    assert (found.rows, found.scores, found.events) == ([(1,), (2,)], None, 2)


def test_a_response_without_request_is_rejected(tmp_path: Path, golden: Golden) -> None:
    """It cannot be used, and stands among the rejections with its place."""
    found = read(tmp_path, log=[request("a", [1]), response("b", 0.5)])
    assert (found.rows, found.events) == ([(1,)], 2)
    (lost,) = found.lost
    assert (lost["file"], lost["line"], lost["kind"]) == ("log.jsonl", 2, "no_input")
    assert "'b'" in lost["problem"]
    golden(lost["problem"])
    assert lost["text"].startswith('{"specversion":"1.0","id":"b"')


def test_our_own_calls_are_no_traffic(tmp_path: Path) -> None:
    """Calls that explaining the endpoint made are counted, and nothing else, whichever of their sides are there."""
    sides = [
        request("a", [1]),
        request(f"{PROBE}-1", [2], [3]),
        response(f"{PROBE}-1", 0.5),
        response(f"{PROBE}-2", 0.5),
        request(f"{PROBE}-1", [4]),
        request(f"{PROBE}-3", [5], clock="10:00:00"),
    ]
    found = read(tmp_path, log=sides)
    assert (found.rows, found.events, found.probes, found.outside, found.rejected) == ([(1,)], 1, 3, 1, {})


def test_the_requests_time_decides(tmp_path: Path) -> None:
    """What is of other hours is outside, a response that came after the hour belongs to its request."""
    sides = [
        request("early", [1], clock="08:59:59"),
        response("early", 0.5, clock="09:00:00"),
        request("own", [2], clock="09:59:59"),
        response("own", 0.75, clock="10:00:00"),
        request("late", [3], clock="10:00:00"),
        response("lone", 0.5, clock="07:00:00"),
    ]
    found = read(tmp_path, log=sides)
    assert (found.rows, found.scores) == ([(2,)], [[0.75]])
    assert (found.events, found.outside, found.rejected) == (1, 3, {})


def test_bodies_may_be_base64_or_texts(tmp_path: Path) -> None:
    """A body stands in the record as JSON, as its text, or as its bytes in BASE64."""
    encoded = base64.b64encode(b'{"instances":[[2]]}').decode()
    sides = [
        record("text", REQUEST, '{"instances":[[1]]}'),
        {key: value for key, value in request("bytes").items() if key != "data"} | {"data_base64": encoded},
        response("bytes", 0.5),
    ]
    found = read(tmp_path, log=sides)
    assert sorted(found.rows) == [(1,), (2,)]
    assert str(sorted(map(str, found.scores or []))) == "['[0.5]', '[nan]']"


def test_json_lines_and_csv_bodies(tmp_path: Path) -> None:
    """A text/csv request is read as such, a JSON Lines response beside it as what the settings say."""
    sides = [
        record("a", REQUEST, "1,x\n2,y", datacontenttype="text/csv; charset=utf-8"),
        record("a", RESPONSE, '{"score":0.25}\n{"score":0.5}', datacontenttype="application/jsonlines"),
    ]
    found = read(tmp_path, DATA, log=sides)
    assert (found.rows, found.scores) == ([(1, "x"), (2, "y")], [[0.25], [0.5]])


def test_attributes_may_be_spelled_as_headers(tmp_path: Path) -> None:
    """The names that CloudEvents have as HTTP headers are understood too."""
    headers = {"Ce-Id": "a", "Ce-Type": REQUEST, "CE-Time": "2026-01-05T10:30:00+01:00"}
    assert read(tmp_path, log=[{**headers, "data": {"instances": [[1]]}}]).rows == [(1,)]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        pytest.param(b'{"id":', "not_json", id="cut"),
        pytest.param(b"[]", "not_a_capture", id="list"),
        pytest.param(request("", [1]), "not_a_capture", id="empty id"),
        pytest.param(record("a", "org.kubeflow.serving.feedback", {}), "not_a_capture", id="type"),
        pytest.param({**request("a", [1]), "time": "noon"}, "not_a_capture", id="time"),
        pytest.param({"id": "a", "type": REQUEST, "time": "2026-01-05T09:30:00Z"}, "not_a_capture", id="no data"),
        pytest.param(request("a", ["NaN", []]), "feature_type", id="list as a feature"),
        pytest.param(record("a", REQUEST, '{"instances":[[NaN]]}'), "not_finite", id="NaN"),
        pytest.param({**request("a"), "data_base64": "?"}, "encoding", id="no BASE64"),
    ],
)
def test_a_line_that_cannot_be_used_is_rejected(tmp_path: Path, golden: Golden, line: object, kind: str) -> None:
    """Every line is a record, the other side of one, or a rejection; blank lines are nothing."""
    found = read(tmp_path, log=[request("good", [1]), b"", line])
    assert (found.rows, found.events, found.places) == ([(1,)], 2, [("log.jsonl", 3, kind)])
    golden(found.lost[0]["problem"])


def test_unequal_counts_are_told(tmp_path: Path) -> None:
    """A pair whose sides have different numbers of records is one rejection, at its request."""
    found = read(tmp_path, log=[response("a", 0.5), request("a", [1], [2]), request("b", [1])])
    assert found.rows == [(1,)]
    assert found.places == [("log.jsonl", 2, "row_count")]


def test_it_is_one_folder(tmp_path: Path) -> None:
    """Where was looked is the folder, whatever the window."""
    assert KserveSource("kserve", str(tmp_path)).folders(HOUR) == [str(tmp_path)]
