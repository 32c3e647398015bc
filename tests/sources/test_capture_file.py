"""Files of captured events: the fast reader agrees with the reference reader, and no line is lost."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import storage
from runner.domain.executions import Window
from runner.domain.records import Line
from runner.records import fast_reader
from runner.records.fast_reader import LinePattern
from runner.records.fields import Fields
from runner.records.tables import Record
from runner.sources import capture_file
from runner.sources.capture_file import CaptureFile
from runner.sources.record_collector import RecordCollector
from tests.sources.line_formats import CSV, JSON, LINE_FORMATS, LINES, LineFormat, mutated

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
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_readers_agree_on_damaged_lines(line_format: LineFormat, share: float, end: bytes, tmp_path: Path) -> None:
    """With any damaged lines and mixed formats, records, rejections and types are equal."""
    similar = [each for each in LINE_FORMATS if each.format == line_format.format]
    for seed in range(2):
        rng = random.Random(seed)
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
        written_file(tmp_path, lines), Fields("features", "score"), capture_file.MIN_LINES
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


def test_lines_beyond_the_maximum_number_of_patterns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the maximum number of patterns the reference reader reads the other lines."""
    rng = random.Random(0)
    monkeypatch.setattr(capture_file, "MAX_PATTERNS", 2)
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
