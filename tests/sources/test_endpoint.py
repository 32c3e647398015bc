"""Captures of an endpoint: files, hours, and rejections."""

from __future__ import annotations

import gzip
import json
import random
import resource
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import storage
from runner.domain.executions import Window, utc
from runner.domain.records import PROBE, Event, Line, Payload
from runner.drift.performance import Quality
from runner.probes import probe_id
from runner.records import fast_reader, ground_truth
from runner.records.capture import encode
from runner.records.fast_reader import LinePattern
from runner.records.fields import Fields
from runner.records.ground_truth import GroundTruth
from runner.records.payloads import Format
from runner.records.tables import Record
from runner.sources import endpoint
from runner.sources.endpoint import CaptureFile, EndpointSource, MergedReader
from runner.sources.source import RecordCollector
from tests.golden import Golden
from tests.processes import in_new_process
from tests.sources.line_formats import CSV, JSON, LINE_FORMATS, LINES, LineFormat, mutated
from tests.sources.reading import DATA, HOUR, body, capture_line, data_settings, read_window, write_captures

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


@pytest.mark.parametrize(
    "magic", [b"(\xb5/\xfd", b"x\x01", b"x\x9c", b"x\xda"], ids=["zstd", "zlib 1", "zlib 6", "zlib 9"]
)
def test_first_line_like_compressed_data_costs_only_this_line(tmp_path: Path, magic: bytes) -> None:
    """A file whose first line begins like compressed data is read as lines."""
    lines = b"".join(capture_line([line], scores=[0.5], id_=f"e{line}") for line in range(endpoint.MIN_LINES + 1))
    result = read_window(EndpointSource("endpoint", write_captures(tmp_path, h09_a=magic + b" torn\n" + lines), 0))
    assert (len(result.rows), result.rejected) == (endpoint.MIN_LINES + 1, {"not_json": 1})


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
    """Calls of shapwatch itself are counted by their signed ids, with any content; clients cannot claim such ids."""
    lines = (
        capture_line([1], inference_id="7")
        + capture_line(["x"], inference_id=probe_id(1))
        + capture_line([2], inference_id=f"{PROBE}-1")
        + b"torn\n"
    )
    reader = EndpointSource("endpoint", write_captures(tmp_path, h09_a=lines), 0)
    result = read_window(reader)
    assert (result.rows, result.events, result.probes, result.rejected) == ([(1,), (2,)], 3, 1, {"not_json": 1})


WINDOW = Window.parse("2023-01-19T05")
FAST, REFERENCE = 1, 10**9
FUZZED_LINES = 200_000


def read_file(path: Path, fields: Fields, min_lines: int) -> tuple[pl.DataFrame, list[int], tuple[int, int, int]]:
    """Return records by line, rejected lines, and the numbers of events, lines outside the window and probes."""
    with RecordCollector(fields) as collector:
        CaptureFile(path, "x", fields, WINDOW).read(collector, min_lines)
        captured = collector.captured(["x"])
        rejected = sorted(json.loads(line)["line"] for line in captured.rejections)
        return (
            captured.table.collect().sort("line", "row"),
            rejected,
            (captured.events, captured.outside, captured.probes),
        )


def check_readers_agree(path: Path, fields: Fields) -> None:
    """Compare the results of both readers, types included."""
    fast, reference = read_file(path, fields, FAST), read_file(path, fields, REFERENCE)
    assert fast[1:] == reference[1:]
    assert fast[0].schema == reference[0].schema
    assert fast[0].equals(reference[0])


def written_file(folder: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    """Return a file with these lines; an empty `end` leaves the last line without a line end."""
    path = folder / "captures.jsonl"
    path.write_bytes((end or b"\n").join(lines) + end)
    return path


@pytest.mark.parametrize("line_format", LINE_FORMATS, ids=str)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_fast_reader_reads_every_line_of_a_pattern(
    line_format: LineFormat, end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference reader reads no line of a file with one pattern, and both readers agree."""
    rng = random.Random(0)
    path = written_file(tmp_path, [line_format.line(rng, i) for i in range(300)], end)
    check_readers_agree(path, line_format.fields)
    slow: list[Line] = []

    def recorded(_: CaptureFile, lines: Iterable[Line], __: RecordCollector) -> list[Record]:
        slow.extend(lines)
        return []

    monkeypatch.setattr(CaptureFile, "_rows", recorded)
    read_file(path, line_format.fields, FAST)
    assert not slow


@pytest.mark.parametrize("line_format", LINE_FORMATS, ids=str)
@pytest.mark.parametrize(("share", "end"), [(0.02, b"\r\n"), (0.5, b"\n"), (1.0, b"")])
def test_readers_agree_on_damaged_lines(line_format: LineFormat, share: float, end: bytes, tmp_path: Path) -> None:
    """With any damaged lines and mixed formats, records, rejections and types are equal."""
    similar, rng = [each for each in LINE_FORMATS if each.format == line_format.format], random.Random(1)
    lines = [(line_format if rng.random() < 0.9 else rng.choice(similar)).line(rng, i) for i in range(200)]
    damaged = [mutated(rng, line) if rng.random() < share else line for line in lines]
    check_readers_agree(written_file(tmp_path, damaged, end), line_format.fields)


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"{}", b"[1,2]", b"1,2", b"\xef\xbb\xbf"]), max_size=20),
    st.booleans(),
)
def test_any_bytes_are_rejected(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], good: bool) -> None:
    """Arbitrary bytes, with and without valid lines around them, are rejections."""
    line_format, rng = LineFormat(), random.Random(0)
    valid = [line_format.line(rng, i) for i in range(3 if good else 0)]
    content = [line.replace(b"\n", b"") for line in (*valid, *lines, *valid)]
    path = written_file(tmp_path_factory.mktemp("any"), content)
    check_readers_agree(path, line_format.fields)


@pytest.mark.soak
def test_fuzzed_lines_are_accepted_or_rejected(tmp_path: Path) -> None:
    """Each of 200,000 mutated lines is a record, a rejection, outside the window, a probe, or blank."""
    rng = random.Random(1)
    line_formats = [line_format for line_format in LINE_FORMATS if line_format.format == LINES]
    originals = [rng.choice(line_formats).line(rng, i) for i in range(400)]
    lines = [mutated(rng, rng.choice(originals)) for _ in range(FUZZED_LINES)]
    blank = sum(not line.removeprefix(b"\xef\xbb\xbf" if i == 0 else b"").strip() for i, line in enumerate(lines))
    records, rejected, (events, outside, probes) = read_file(
        written_file(tmp_path, lines), Fields("features", "score"), endpoint.MIN_LINES
    )
    accepted = set(records["line"].to_list())
    whole = [line for line in rejected if line not in accepted]
    assert len(accepted) + len(set(whole)) == events
    assert events + outside + probes + blank == FUZZED_LINES
    assert len(accepted) > FUZZED_LINES / 20
    assert len(whole) > FUZZED_LINES / 20


def test_two_alternating_patterns_are_inferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Single records and mini-batches are read by one pattern each."""
    rng = random.Random(0)
    single, batch = LineFormat(), LineFormat(records=3)
    path = written_file(tmp_path, [(batch if i % 3 else single).line(rng, i) for i in range(600)])
    patterns = []
    real = CaptureFile._read_pattern

    def recorded(file: CaptureFile, pattern: LinePattern, *rest: Any) -> Any:
        patterns.append(pattern.records)
        return real(file, pattern, *rest)

    monkeypatch.setattr(CaptureFile, "_read_pattern", recorded)
    records, rejected, (events, outside, probes) = read_file(path, single.fields, FAST)
    assert sorted(patterns) == [1, 3]
    assert (events + outside + probes, rejected) == (600, [])
    assert Counter(records["row"].to_list()).keys() == {0, 1, 2}


@pytest.mark.parametrize("every", [1, 7], ids=["all", "some"])
def test_undelivered_responses_are_read(tmp_path: Path, every: int) -> None:
    """Both readers ignore the mark of an event whose response was not delivered."""
    rng = random.Random(0)
    lines = [
        line.replace(b'Z"},', b'Z","delivered":false},') if number % every == 0 else line
        for number, line in enumerate(LineFormat().line(rng, number) for number in range(200))
    ]
    assert sum(b"delivered" in line for line in lines) == len(range(0, 200, every))
    check_readers_agree(written_file(tmp_path, lines), LineFormat().fields)


def test_lines_beyond_the_maximum_number_of_patterns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the maximum number of patterns the reference reader reads the other lines."""
    rng = random.Random(0)
    monkeypatch.setattr(endpoint, "MAX_PATTERNS", 2)
    path = written_file(tmp_path, [LineFormat(records=1 + i % 5).line(rng, i) for i in range(200)])
    check_readers_agree(path, LineFormat().fields)


def test_floats_after_many_integers_are_read(tmp_path: Path) -> None:
    """A float after thousands of integers makes the whole column floats."""
    rng = random.Random(0)
    lines = [LineFormat().line(rng, i) for i in range(3000)]
    lines += [LineFormat(floats=True).line(rng, i) for i in range(20)]
    path = written_file(tmp_path, lines)
    check_readers_agree(path, LineFormat().fields)
    records, rejected, _ = read_file(path, LineFormat().fields, FAST)
    assert (str(records.schema["feature1"]), str(records.schema["feature0"])) == ("Float64", "Int64")
    assert not rejected


@pytest.mark.parametrize("position", [0, 1500, 3000])
def test_too_long_line_is_rejected(position: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the limit is one rejection at any position; its neighbours are records."""
    monkeypatch.setattr(storage, "MAX_LINE_BYTES", 2**16)
    rng = random.Random(0)
    lines = [LineFormat().line(rng, i) for i in range(3000)]
    lines.insert(position, b'{"captureData":"' + b"x" * 2**17 + b'"}')
    with RecordCollector(LineFormat().fields) as collector:
        CaptureFile(written_file(tmp_path, lines), "x", LineFormat().fields, WINDOW).read(collector)
        captured = collector.captured(["x"])
        assert captured.rejected == {"too_long": 1}
        assert (captured.examples[0].line, captured.events + captured.outside + captured.probes) == (position + 1, 3001)


def test_line_of_a_hundred_megabytes_is_rejected(tmp_path: Path) -> None:
    """A line of 100 MB is rejected with the beginning of its content."""
    rng = random.Random(0)
    path = written_file(
        tmp_path, [LineFormat().line(rng, 0), b'{"x":"' + b"y" * 100_000_000 + b'"}', LineFormat().line(rng, 1)]
    )
    with RecordCollector(LineFormat().fields) as collector:
        CaptureFile(path, "x", LineFormat().fields, WINDOW).read(collector)
        captured = collector.captured(["x"])
        assert captured.rejected == {"too_long": 1}
        assert len(captured.examples[0].text) < 200


@pytest.mark.parametrize(
    ("format_", "features", "score"),
    [
        (LINES, "features || other", "score"),
        (LINES, "sort(features)", "score"),
        (JSON, "instances[?features].features", "predictions[*].score"),
        (JSON, "instances[].features", "predictions[].score"),
        (LINES, "features", "max([score])"),
        (CSV, None, None),
    ],
)
def test_expressions_without_structure_are_read(
    format_: str, features: str | None, score: str | None, tmp_path: Path
) -> None:
    """With expressions that are not structural both readers agree."""
    (line_format, *_) = [line_format for line_format in LINE_FORMATS if line_format.format == format_]
    rng = random.Random(0)
    path = written_file(tmp_path, [line_format.line(rng, i) for i in range(50)])
    check_readers_agree(path, Fields(features, score, None, line_format.format, line_format.format))


@pytest.mark.parametrize("name", ["*.jsonl", "[a].jsonl", "x[1].jsonl", "a?.jsonl"])
def test_file_names_are_not_patterns(name: str, tmp_path: Path) -> None:
    """A file whose name looks like a pattern is read alone."""
    rng = random.Random(0)
    written_file(tmp_path, [LineFormat().line(rng, i) for i in range(40)]).rename(tmp_path / "a.jsonl")
    path = written_file(tmp_path, [LineFormat().line(rng, i) for i in range(30)]).rename(tmp_path / name)
    _, rejected, (events, outside, probes) = read_file(path, LineFormat().fields, FAST)
    assert (events + outside + probes, rejected) == (30, [])


@pytest.mark.parametrize("tail", [b",garbage", b",{}", b",,x", b"{}"])
def test_text_after_the_end_of_a_record_is_rejected(tail: bytes, tmp_path: Path) -> None:
    """Two records in one line, and a record with other text behind it, are rejected."""
    rng = random.Random(0)
    lines = [LineFormat().line(rng, i) for i in range(60)]
    path = written_file(tmp_path, [*lines, lines[0] + tail, lines[1] + b"," + lines[2], lines[3] + b","])
    check_readers_agree(path, LineFormat().fields)
    assert read_file(path, LineFormat().fields, FAST)[1] == [61, 62]


def test_wide_lines_have_no_pattern(tmp_path: Path) -> None:
    """A mini-batch with more values than a pattern may have is read by the reference reader."""
    rng = random.Random(0)
    line_format = LineFormat(records=200)
    lines = [line_format.line(rng, i) for i in range(20)]
    assert fast_reader.infer_pattern(lines, line_format.fields, WINDOW) is None
    check_readers_agree(written_file(tmp_path, lines), line_format.fields)


def wide_lines(values: int) -> dict[str, tuple[LineFormat, bytes]]:
    """Return formats by name, each with a capture line of about this number of values."""
    numbers = "[" + "1," * values + "1]"
    bodies: dict[str, tuple[Format, str, str]] = {
        "features": (LINES, f'{{"features":{numbers}}}', '{"score":1}'),
        "scores": (LINES, '{"features":[1,2,3,4]}', f'{{"score":{numbers}}}'),
        "leading zeros": (LINES, f'{{"features":{numbers.replace("1", "01")}}}', '{"score":1}'),
        "not finite": (LINES, f'{{"features":{numbers[:-1]},NaN]}}', '{"score":1}'),
        "lists": (LINES, f'{{"features":{numbers.replace("1", "[]")}}}', '{"score":1}'),
        "JSON": (JSON, f'{{"instances":[{{"features":{numbers}}}]}}', '{"predictions":[{"score":1}]}'),
        "JSON scores": (JSON, '{"instances":[{"features":[1,2]}]}', f'{{"predictions":[{{"score":{numbers}}}]}}'),
        "CSV": (CSV, numbers[1:-1], "1"),
        "empty cells": (CSV, "," * values, "1"),
        "quoted cells": (CSV, '"a",' * values + '"b"', "1"),
    }
    lines = {}
    for name, (format_, sent, answer) in bodies.items():
        request, response = (Payload("", text, "CSV" if format_ == CSV else "JSON") for text in (sent, answer))
        lines[name] = LineFormat(format_), encode(Event("e", WINDOW.start, request, response))
    return lines


def file_with_wide_line(folder: Path, name: str, values: int, position: int) -> tuple[Path, Fields]:
    """Return a file of 300 usual lines and a wide one, and the locations in them."""
    usual, wide = wide_lines(values)[name]
    rng = random.Random(0)
    lines = [usual.line(rng, i) for i in range(300)]
    lines.insert(position, wide)
    return written_file(folder, lines), usual.fields


@pytest.mark.parametrize("position", [0, 300])
@pytest.mark.parametrize("name", wide_lines(1))
def test_wide_line_is_rejected_at_any_position(name: str, position: int, tmp_path: Path) -> None:
    """A line with many values is one rejection; both readers return its neighbours as records."""
    path, fields = file_with_wide_line(tmp_path, name, 40_000, position)
    check_readers_agree(path, fields)
    assert read_file(path, fields, FAST)[1] == [position + 1]


@pytest.mark.soak
@pytest.mark.parametrize("values", [1_000_000, 6_000_000])
@pytest.mark.parametrize("name", wide_lines(1))
def test_wide_line_needs_little_memory(name: str, values: int, tmp_path: Path) -> None:
    """One line of 2 to 30 MB needs less than 300 MiB in either reader."""
    path, fields = file_with_wide_line(tmp_path, name, values, 0)
    for min_lines in (FAST, REFERENCE):
        assert in_new_process(peak_of_reading, path, fields, min_lines) < 300 * 2**20


def peak_of_reading(path: Path, fields: Fields, min_lines: int) -> int:
    """Return by how many bytes the peak of this process's memory grows while a file is read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read_file(path, fields, min_lines)
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_large_integers_after_small_ones_are_read(tmp_path: Path) -> None:
    """Values beyond 32 and beyond 64 bits are read exactly, or as floats."""
    rng = random.Random(0)
    lines = [LineFormat().line(rng, i) for i in range(300)]
    inside = next(line for line in lines if b"T05:" in line)
    for number in (2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1):
        lines.append(inside.replace(b",37]", b",%d]" % number))
    path = written_file(tmp_path, lines)
    check_readers_agree(path, LineFormat().fields)
    assert str(read_file(path, LineFormat().fields, FAST)[0].schema["feature3"]) == "Int64"
    path = written_file(tmp_path, [*lines, inside.replace(b",37]", b",%d]" % 2**64)])
    check_readers_agree(path, LineFormat().fields)
    assert str(read_file(path, LineFormat().fields, FAST)[0].schema["feature3"]) == "Float64"


SCORES, LABELS = [0.9, 0.2, 0.6, 0.4], [1, 0, 0, 1]


def merged_line(
    *labels: object, scores: list[Any] | None = None, clock: str = "09:30:00", encoding: str = "JSON"
) -> bytes:
    """Return the merged line of an invocation with these labels and scores."""
    rows = [[i] for i in range(len(scores if scores is not None else labels))]
    data = orjson.dumps({"instances": [{"label": label} for label in labels]}).decode()
    if encoding == "CSV":
        data = "\n".join(map(str, labels))
    return ground_truth.encode_merged(capture_line(*rows, scores=scores, clock=clock), GroundTruth("e", data, encoding))


def quality(
    root: Path, data: bytes, names: tuple[str, ...] = ("p",), label: str | None = None, window: Window = HOUR
) -> Quality | str | None:
    """Return the performance of a model from one merged file."""
    (folder := root / "2026/01/05/09").mkdir(parents=True)
    (folder / "part-00000-x.c000.jsonl").write_bytes(data)
    return MergedReader(str(root), data_settings(ground_truth=label)).quality(window, names)


def metrics(result: Quality | str | None) -> tuple[int, float, float | None]:
    """Return number of records, accuracy and AUC."""
    assert isinstance(result, Quality)
    return result.records, result.accuracy, result.auc


@pytest.mark.parametrize("encoding", ["JSON", "CSV"])
def test_labels_and_scores_are_matched_by_position(tmp_path: Path, encoding: str) -> None:
    """The labels of a mini-batch are matched with its scores by position."""
    assert metrics(quality(tmp_path, merged_line(*LABELS, scores=SCORES, encoding=encoding))) == (4, 0.5, 0.75)


def test_single_records_and_a_mini_batch_are_equal(tmp_path: Path) -> None:
    """Single records and a mini-batch of them have the same performance."""
    lines = [merged_line(label, scores=[score]) for label, score in zip(LABELS, SCORES, strict=True)]
    assert metrics(quality(tmp_path, b"\n".join(lines))) == (4, 0.5, 0.75)


def test_performance_is_unknown_without_merged_events(tmp_path: Path) -> None:
    """Without merged files, or with events of other windows only, the result is None."""
    assert MergedReader(str(tmp_path / "absent"), DATA).quality(HOUR, ("p",)) is None
    assert quality(tmp_path, merged_line(1, scores=[0.5], clock="10:00:00")) is None


def test_time_of_the_merged_event_decides_its_window(tmp_path: Path) -> None:
    """The event's own time decides within a file."""
    data = merged_line(1, 0, scores=[0.9, 0.1], clock="09:10:00") + merged_line(1, scores=[0.2], clock="09:50:00")
    result = quality(tmp_path, data, window=Window.parse("2026-01-05T09:00/2026-01-05T09:30"))
    assert metrics(result) == (2, 1.0, 1.0)


def test_performance_of_several_outputs(tmp_path: Path) -> None:
    """Labels are names of the outputs, scores a list per record."""
    scores = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]]
    result = quality(tmp_path, merged_line("a", "b", "c", scores=scores), ("a", "b", "c"))
    records, accuracy, _ = metrics(result)
    assert (records, round(accuracy * 3)) == (3, 2)


def test_location_of_labels_is_a_setting(tmp_path: Path) -> None:
    """A JMESPath locates the labels in any document."""
    truth = GroundTruth("e", '{"outcome":{"values":[1,0]}}', "JSON")
    line = ground_truth.encode_merged(capture_line([1], [2], scores=[0.9, 0.1]), truth)
    assert metrics(quality(tmp_path, line, label="outcome.values")) == (2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("data", "names", "shown"),
    [
        (b"torn\n", ("p",), "2026/01/05/09/part-00000-x.c000.jsonl:1:"),
        (merged_line(1, scores=None), ("p",), "2026/01/05/09/part-00000-x.c000.jsonl:1:"),
        (merged_line(1, 0, scores=[0.5]), ("p",), "2026/01/05/09/part-00000-x.c000.jsonl:1:"),
        (merged_line("yes", scores=[0.5]), ("p",), "'yes'"),
        (merged_line(1, scores=[0.5]), ("a", "b"), "2"),
    ],
    ids=["torn", "no response", "counts", "label", "outputs"],
)
def test_unknown_performance_has_a_message(
    tmp_path: Path, golden: Golden, data: bytes, names: tuple[str, ...], shown: str
) -> None:
    """The message contains the line or the label that is the cause."""
    result = quality(tmp_path, data, names)
    assert isinstance(result, str)
    assert shown in result
    golden(result)


def test_invalid_lines_are_noted(tmp_path: Path, golden: Golden) -> None:
    """The valid lines are used; a note contains the number of invalid lines, and the first."""
    result = quality(tmp_path, merged_line(*LABELS, scores=SCORES) + b"torn\n" * 2)
    assert isinstance(result, Quality)
    assert result.records == 4
    assert "2" in result.notes[-1].split()
    assert "2026/01/05/09/part-00000-x" in result.notes[-1]
    golden(result.notes[-1])
