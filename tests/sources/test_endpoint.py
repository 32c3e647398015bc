"""Captures of an endpoint: files, hours, and rejections."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from runner.domain.executions import Window, utc
from runner.domain.records import PROBE, Event, Payload
from runner.records.capture import encode
from runner.sources.endpoint import EndpointSource
from tests.golden import Golden
from tests.sources.reading import HOUR, body, capture_line, read_window, write_captures

PUBLISHED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes()


def line_with_bodies(text: str | None, response: str | None = None, encoding: str = "JSON") -> bytes:
    """Return the capture line with these bodies."""
    sent = None if text is None else Payload("application/jsonlines", text, encoding)
    answer = None if response is None else Payload("application/jsonlines", response, "JSON")
    return encode(Event("e", utc("2026-01-05T09:30:00Z"), sent, answer))


def test_files_are_read_in_order_with_relative_names(tmp_path: Path) -> None:
    """The files of all hours are read in the order of their names."""
    captures = {"h09_b": capture_line([2]), "h09_a": capture_line([1]), "h10_a": capture_line([3], clock="10:30:00")}
    tree = EndpointSource("endpoint", write_captures(tmp_path, **captures), 0)
    result = read_window(tree, Window.parse("2026-01-05T09/2026-01-05T11"))
    assert result.files == ("2026/01/05/09/a.jsonl", "2026/01/05/09/b.jsonl", "2026/01/05/10/a.jsonl")
    assert result.rows == [(1,), (2,), (3,)]
    assert result.origins[-1] == ("2026/01/05/10/a.jsonl", 1, 0)


def test_published_captures_are_three_records(tmp_path: Path) -> None:
    """Two published invocations, the second with two rows, are three records with their scores."""
    (folder := tmp_path / "2023/01/19/05").mkdir(parents=True)
    (folder / "31-46-585-9ee7358c-33e7-467d-9133-624e448e6552.jsonl").write_bytes(PUBLISHED)
    result = read_window(EndpointSource("endpoint", str(tmp_path), 1), Window.parse("2023-01-19T05"))
    assert (result.events, len(result.rows), result.rejected) == (2, 3, {})
    assert result.scores is not None
    assert result.scores[0] == [0.989977359771728]


def test_missing_root_is_empty(tmp_path: Path) -> None:
    """A folder that does not exist has no events."""
    assert read_window(EndpointSource("endpoint", str(tmp_path / "absent"), 1)).events == 0


def test_other_files_are_ignored(tmp_path: Path) -> None:
    """Hidden files and files with other suffixes are ignored."""
    root = write_captures(tmp_path, h09_a=capture_line([1]))
    for name in (".hidden.jsonl", "a.jsonl.tmp", "_SUCCESS"):
        (tmp_path / "2026/01/05/09" / name).write_bytes(capture_line([2]))
    assert read_window(EndpointSource("endpoint", root, 0)).rows == [(1,)]


def test_time_of_the_event_decides_its_window(tmp_path: Path) -> None:
    """Events in folders of neighbour hours are read, events of other hours are outside the window."""
    files = {
        "h08_late": capture_line([8], clock="08:59:59") + capture_line([1], clock="09:00:00"),
        "h09_own": capture_line([2], clock="09:30:00") + capture_line([9], clock="10:00:00"),
        "h10_early": capture_line([3], clock="09:59:59"),
        "h11_far": capture_line([4], clock="09:59:59"),
    }
    root = write_captures(tmp_path, **files)
    near = read_window(EndpointSource("endpoint", root, 1))
    assert (near.rows, near.events, near.outside) == ([(1,), (2,), (3,)], 3, 2)
    own = read_window(EndpointSource("endpoint", root, 0))
    assert (own.rows, own.events, own.outside) == ([(2,)], 1, 1)
    far = read_window(EndpointSource("endpoint", root, 2))
    assert (far.rows, far.events, far.outside) == ([(1,), (2,), (3,), (4,)], 4, 2)


def test_late_file_is_read(tmp_path: Path) -> None:
    """A file that arrives after a window was read is read the next time."""
    tree = EndpointSource("endpoint", write_captures(tmp_path, h09_a=capture_line([1])), 1)
    assert read_window(tree).rows == [(1,)]
    write_captures(tmp_path, h09_z=capture_line([2]))
    assert read_window(tree).rows == [(1,), (2,)]


def test_undecodable_line_belongs_to_the_hour_of_its_folder(tmp_path: Path) -> None:
    """A line without a readable time belongs to the hour of its folder, others to the hour of their time."""
    torn, timed = b"torn\n", capture_line(["x", []])
    root = write_captures(tmp_path, h08_a=torn + timed, h09_a=torn + timed, h10_a=torn + timed)
    result = read_window(EndpointSource("endpoint", root, 1))
    assert (result.events, result.outside, result.rejected) == (4, 2, {"feature_type": 3, "not_json": 1})
    assert ("2026/01/05/09/a.jsonl", 1, "not_json") in result.rejected_lines


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        pytest.param(b'{"captureData":{"endpointIn', "not_json", '{"captureData":{"endpointIn', id="cut"),
        pytest.param(b"[1,2]\n", "not_a_capture", "[1,2]", id="list"),
        pytest.param(b"null\n", "not_a_capture", "null", id="null"),
        pytest.param(b'"text"\n', "not_a_capture", '"text"', id="string"),
        pytest.param(b"\xff\xfe{}\n", "not_json", "\ufffd\ufffd{}", id="not UTF-8"),
        pytest.param(capture_line([1]).replace(b'"e"', b'"\xe9"'), "not_json", '{"captureData"', id="id not UTF-8"),
        pytest.param(
            capture_line([1]).replace(b"2026-01-05T09", b"yesterday"), "not_a_capture", '{"captureData"', id="time"
        ),
        pytest.param(line_with_bodies(None, '{"score":1}'), "no_input", '{"captureData"', id="no request"),
        pytest.param(line_with_bodies(""), "payload", '{"captureData"', id="empty request"),
        pytest.param(
            line_with_bodies('{"features":[1]}\n{"features":[2]}', '{"score":1}'), "row_count", "", id="numbers of rows"
        ),
        pytest.param(line_with_bodies('{"features":[NaN]}'), "not_finite", '{"captureData"', id="NaN"),
        pytest.param(
            line_with_bodies('{"features":[1]}', '{"score":Infinity}'), "not_finite", '{"captureData"', id="Infinity"
        ),
        pytest.param(line_with_bodies('{"features":[1e999]}'), "not_finite", '{"captureData"', id="1e999"),
        pytest.param(line_with_bodies('{"features":[1'), "payload", '{"captureData"', id="cut request"),
        pytest.param(line_with_bodies('{"other":[1]}'), "features_not_found", '{"captureData"', id="no features"),
        pytest.param(line_with_bodies('{"features":[{}]}'), "feature_type", '{"captureData"', id="object as a feature"),
        pytest.param(line_with_bodies('{"features":[1]}', "{}"), "score_not_found", '{"captureData"', id="no score"),
        pytest.param(line_with_bodies("no base64", encoding="BASE64"), "encoding", '{"captureData"', id="no BASE64"),
        pytest.param(capture_line([1, 2]), "feature_count", "[1,2]", id="number of features"),
        pytest.param(capture_line(["x"]), "feature_type", '["x"]', id="string as a feature"),
        pytest.param(capture_line([1], scores=[[0.5, 0.5]]), "score_count", "[1]", id="number of scores"),
    ],
)
def test_invalid_line_is_rejected(tmp_path: Path, golden: Golden, line: bytes, kind: str, text: str) -> None:
    """An invalid line is rejected with position, reason and the beginning of its content; the others are read."""
    good = capture_line([1], scores=[0.5])
    result = read_window(EndpointSource("endpoint", write_captures(tmp_path, h09_a=good * 2 + line.rstrip(b"\n")), 0))
    assert (result.events, result.rows) == (3, [(1,), (1,)])
    (rejection,) = result.rejections
    assert (rejection["file"], rejection["line"], rejection["kind"]) == ("2026/01/05/09/a.jsonl", 3, kind)
    golden(rejection["problem"])
    assert rejection["text"].startswith(text)
    assert len(rejection["text"]) <= 120


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + capture_line([1]) + capture_line([2]),
        b"\n \t\n" + capture_line([1]) + b"\r\n\n" + capture_line([2]) + b"\n",
        capture_line([1]).replace(b"\n", b"\r\n") + capture_line([2]).replace(b"\n", b"\r\n"),
        capture_line([1]) + capture_line([2]).rstrip(b"\n"),
        gzip.compress(capture_line([1]) + capture_line([2])),
    ],
    ids=["BOM", "blank lines", "CRLF", "no last line end", "gzip under a plain name"],
)
def test_line_ends_and_byte_order_marks_are_accepted(tmp_path: Path, data: bytes) -> None:
    """Byte order marks and other line ends are not part of a line, and blank lines are skipped."""
    result = read_window(EndpointSource("endpoint", write_captures(tmp_path, h09_a=data), 0))
    assert (result.rows, result.events, result.rejected) == ([(1,), (2,)], 2, {})


def test_gzip_file_is_read(tmp_path: Path) -> None:
    """Line numbers are those of the decompressed file."""
    (folder := tmp_path / "2026/01/05/09").mkdir(parents=True)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(capture_line([1]) + b"torn\n"))
    result = read_window(EndpointSource("endpoint", str(tmp_path), 0))
    assert (result.rows, result.rejected_lines) == ([(1,)], [("2026/01/05/09/a.jsonl.gz", 2, "not_json")])


def test_records_of_a_mini_batch_are_rejected_one_by_one(tmp_path: Path, golden: Golden) -> None:
    """The valid records of a mini-batch are read; the message on the others contains their row."""
    result = read_window(
        EndpointSource("endpoint", write_captures(tmp_path, h09_a=capture_line([1], [2, 3], [4], scores=[0, 1, 0])), 0)
    )
    assert (result.rows, result.scores) == ([(1,), (4,)], [[0.0], [0.0]])
    (rejection,) = result.rejections
    assert (rejection["kind"], rejection["text"]) == ("feature_count", "[2,3]")
    golden(rejection["problem"])


def test_encoding_of_an_event_decides_its_format(tmp_path: Path) -> None:
    """A CSV request with a JSON Lines response is read."""
    mixed = encode(Event("e", utc("2026-01-05T09:30:00Z"), Payload("text/csv", "5", "CSV"), body("score", [0.5])))
    result = read_window(
        EndpointSource("endpoint", write_captures(tmp_path, h09_a=capture_line([1], scores=[0.25]) + mixed), 0)
    )
    assert (result.rows, result.scores) == ([(1,), (5,)], [[0.25], [0.5]])


def test_duplicate_ids_are_separate_records(tmp_path: Path) -> None:
    """Events with equal ids are separate records."""
    result = read_window(
        EndpointSource("endpoint", write_captures(tmp_path, h09_a=capture_line([1], inference_id="0") * 3), 0)
    )
    assert result.rows == [(1,)] * 3


def test_folders_are_those_of_the_window(tmp_path: Path) -> None:
    """The folders in messages are those of the window, without neighbours."""
    assert EndpointSource("endpoint", str(tmp_path), 1).folders(HOUR) == [str(tmp_path / "2026/01/05/09")]


def test_probes_are_counted_separately(tmp_path: Path) -> None:
    """Calls of shapwatch itself are counted by their inference ids, with any content."""
    lines = capture_line([1], inference_id="7") + capture_line(["x"], inference_id=f"{PROBE}-1") + b"torn\n"
    reader = EndpointSource("endpoint", write_captures(tmp_path, h09_a=lines), 0)
    result = read_window(reader)
    assert (result.rows, result.events, result.probes, result.rejected) == ([(1,)], 2, 1, {"not_json": 1})
