"""Files of captured events: the fast reader says what the patient one says, and no line is lost."""

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
from runner.records.tables import Row
from runner.sources import capture_file
from runner.sources.capture_file import CaptureFile
from runner.sources.record_collector import RecordCollector
from tests.sources.captures import CSV, FORMS, JSON, LINES, Form, mutated

WINDOW = Window.parse("2023-01-19T05")
FAST, PATIENT = 1, 10**9
FUZZED_LINES = 200_000


def read(path: Path, fields: Fields, worthwhile: int) -> tuple[pl.DataFrame, list[int], tuple[int, int, int]]:
    """Return the records of a file by place, the rejected lines, how many events are inside, outside and probes."""
    with RecordCollector(fields) as intake:
        CaptureFile(path, "x", fields, WINDOW).read(intake, worthwhile)
        captured = intake.captured(["x"])
        rejected = sorted(json.loads(line)["line"] for line in captured.rejections)
        return (
            captured.table.collect().sort("line", "row"),
            rejected,
            (captured.events, captured.outside, captured.probes),
        )


def check_readers_agree(path: Path, fields: Fields) -> None:
    """Compare what both readers say, types included."""
    fast, patient = read(path, fields, FAST), read(path, fields, PATIENT)
    assert fast[1:] == patient[1:]
    assert fast[0].schema == patient[0].schema
    assert fast[0].equals(patient[0])


def written(folder: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    """Return a file with these lines; the last one has its end too, if there is one."""
    path = folder / "captures.jsonl"
    path.write_bytes((end or b"\n").join(lines) + end)
    return path


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_fast_reader_takes_every_line_of_a_shape(
    form: Form, end: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines of one form need the patient reader for none of them, and both say the same."""
    rng = random.Random(0)
    path = written(tmp_path, [form.line(rng, i) for i in range(300)], end)
    check_readers_agree(path, form.fields)
    slow: list[Line] = []

    def noted(_: CaptureFile, lines: Iterable[Line], __: RecordCollector) -> list[Row]:
        slow.extend(lines)
        return []

    monkeypatch.setattr(CaptureFile, "_rows", noted)
    read(path, form.fields, FAST)
    assert not slow


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_readers_agree_on_damaged_lines(form: Form, share: float, end: bytes, tmp_path: Path) -> None:
    """Whatever happens to lines, and whichever forms are mixed, records, rejections and types are the same."""
    others = [other for other in FORMS if other.layout == form.layout]
    for seed in range(2):
        rng = random.Random(seed)
        lines = [(form if rng.random() < 0.9 else rng.choice(others)).line(rng, i) for i in range(200)]
        damaged = [mutated(rng, line) if rng.random() < share else line for line in lines]
        check_readers_agree(written(tmp_path, damaged, end), form.fields)


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"{}", b"[1,2]", b"1,2", b"\xef\xbb\xbf"]), max_size=20),
    st.booleans(),
)
def test_any_bytes_are_accounted_for(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], good: bool) -> None:
    """Between good lines and without them, arbitrary bytes end as rejections, nothing else."""
    form, rng = Form(), random.Random(0)
    kept = [form.line(rng, i) for i in range(3 if good else 0)]
    content = [line.replace(b"\n", b"") for line in (*kept, *lines, *kept)]
    path = written(tmp_path_factory.mktemp("any"), content)
    check_readers_agree(path, form.fields)


@pytest.mark.soak
def test_fuzzed_lines_are_accepted_or_rejected(tmp_path: Path) -> None:
    """Of 200,000 mutated lines each is a record, a rejection, an event of another window, a probe, or blank."""
    rng = random.Random(1)
    forms = [form for form in FORMS if form.layout == LINES]
    originals = [rng.choice(forms).line(rng, i) for i in range(400)]
    lines = [mutated(rng, rng.choice(originals)) for _ in range(FUZZED_LINES)]
    blank = sum(not line.removeprefix(b"\xef\xbb\xbf" if i == 0 else b"").strip() for i, line in enumerate(lines))
    records, rejected, (events, outside, probes) = read(
        written(tmp_path, lines), Fields("features", "score"), capture_file.MIN_LINES
    )
    accepted = set(records["line"].to_list())
    whole = [line for line in rejected if line not in accepted]
    assert len(accepted) + len(set(whole)) == events
    assert events + outside + probes + blank == FUZZED_LINES
    assert len(accepted) > FUZZED_LINES / 20
    assert len(whole) > FUZZED_LINES / 20


def test_two_shapes_in_turns_are_both_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traffic of single records and mini-batches is read fast, each kind by its own shape."""
    rng = random.Random(0)
    single, batch = Form(), Form(records=3)
    path = written(tmp_path, [(batch if i % 3 else single).line(rng, i) for i in range(600)])
    patterns = []
    real = CaptureFile._read_pattern

    def noted(file: CaptureFile, pattern: LinePattern, *rest: Any) -> Any:
        patterns.append(pattern.records)
        return real(file, pattern, *rest)

    monkeypatch.setattr(CaptureFile, "_read_pattern", noted)
    records, rejected, (events, outside, probes) = read(path, single.fields, FAST)
    assert sorted(patterns) == [1, 3]
    assert (events + outside + probes, rejected) == (600, [])
    assert Counter(records["row"].to_list()).keys() == {0, 1, 2}


def test_many_shapes_end_with_the_patient_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many shapes the rest is read line by line, and nothing is lost."""
    rng = random.Random(0)
    monkeypatch.setattr(capture_file, "MAX_PATTERNS", 2)
    path = written(tmp_path, [Form(records=1 + i % 5).line(rng, i) for i in range(200)])
    check_readers_agree(path, Form().fields)


def test_integers_that_become_floats_late_keep_every_line(tmp_path: Path) -> None:
    """A float after thousands of integers makes the column one of floats, as if the file had been read in one go."""
    rng = random.Random(0)
    lines = [Form().line(rng, i) for i in range(3000)]
    lines += [Form(floats=True).line(rng, i) for i in range(20)]
    path = written(tmp_path, lines)
    check_readers_agree(path, Form().fields)
    records, rejected, _ = read(path, Form().fields, FAST)
    assert (str(records.schema["feature1"]), str(records.schema["feature0"])) == ("Float64", "Int64")
    assert not rejected


@pytest.mark.parametrize("place", [0, 1500, 3000])
def test_a_line_beyond_all_measure_is_rejected(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the limit is one rejection wherever it stands; its neighbours are records."""
    monkeypatch.setattr(storage, "MAX_LINE_BYTES", 2**16)
    rng = random.Random(0)
    lines = [Form().line(rng, i) for i in range(3000)]
    lines.insert(place, b'{"captureData":"' + b"x" * 2**17 + b'"}')
    with RecordCollector(Form().fields) as intake:
        CaptureFile(written(tmp_path, lines), "x", Form().fields, WINDOW).read(intake)
        captured = intake.captured(["x"])
        assert captured.rejected == {"too_long": 1}
        assert (captured.examples[0].line, captured.events + captured.outside + captured.probes) == (place + 1, 3001)


def test_a_hundred_megabytes_in_one_line(tmp_path: Path) -> None:
    """A line of 100 MB is refused for its length, with a cut of its text."""
    rng = random.Random(0)
    path = written(tmp_path, [Form().line(rng, 0), b'{"x":"' + b"y" * 100_000_000 + b'"}', Form().line(rng, 1)])
    with RecordCollector(Form().fields) as intake:
        CaptureFile(path, "x", Form().fields, WINDOW).read(intake)
        captured = intake.captured(["x"])
        assert captured.rejected == {"too_long": 1}
        assert len(captured.examples[0].text) < 200


@pytest.mark.parametrize(
    ("layout", "features", "score"),
    [
        (LINES, "features || other", "score"),
        (LINES, "sort(features)", "score"),
        (JSON, "instances[?features].features", "predictions[*].score"),
        (JSON, "instances[].features", "predictions[].score"),
        (LINES, "features", "max([score])"),
        (CSV, None, None),
    ],
)
def test_expressions_that_only_jmespath_knows(
    layout: str, features: str | None, score: str | None, tmp_path: Path
) -> None:
    """What no structure tells is read patiently, with the same result as ever."""
    (form, *_) = [form for form in FORMS if form.layout == layout]
    rng = random.Random(0)
    path = written(tmp_path, [form.line(rng, i) for i in range(50)])
    check_readers_agree(path, Fields(features, score, None, form.layout, form.layout))


@pytest.mark.parametrize("name", ["*.jsonl", "[a].jsonl", "x[1].jsonl", "a?.jsonl"])
def test_a_name_is_no_pattern(name: str, tmp_path: Path) -> None:
    """A file whose name reads like a pattern is that file and no other."""
    rng = random.Random(0)
    written(tmp_path, [Form().line(rng, i) for i in range(40)]).rename(tmp_path / "a.jsonl")
    path = written(tmp_path, [Form().line(rng, i) for i in range(30)]).rename(tmp_path / name)
    _, rejected, (events, outside, probes) = read(path, Form().fields, FAST)
    assert (events + outside + probes, rejected) == (30, [])


@pytest.mark.parametrize("tail", [b",garbage", b",{}", b",,x", b"{}"])
def test_what_stands_after_the_end_is_no_part_of_a_line(tail: bytes, tmp_path: Path) -> None:
    """Two records glued together, or a torn one after a whole, are rejected; nothing is passed over in silence."""
    rng = random.Random(0)
    lines = [Form().line(rng, i) for i in range(60)]
    path = written(tmp_path, [*lines, lines[0] + tail, lines[1] + b"," + lines[2], lines[3] + b","])
    check_readers_agree(path, Form().fields)
    assert read(path, Form().fields, FAST)[1] == [61, 62]


def test_wide_lines_are_read_patiently(tmp_path: Path) -> None:
    """A mini-batch of more values than a shape may have is not split into thousands of columns."""
    rng = random.Random(0)
    form = Form(records=200)
    lines = [form.line(rng, i) for i in range(20)]
    assert fast_reader.infer(lines, form.fields, WINDOW) is None
    check_readers_agree(written(tmp_path, lines), form.fields)


def test_large_integers_after_small_ones(tmp_path: Path) -> None:
    """Values beyond 32 and beyond 64 bits among small ones are read as what they are."""
    rng = random.Random(0)
    lines = [Form().line(rng, i) for i in range(300)]
    inside = next(line for line in lines if b"T05:" in line)
    for number in (2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1):
        lines.append(inside.replace(b",37]", b",%d]" % number))
    path = written(tmp_path, lines)
    check_readers_agree(path, Form().fields)
    assert str(read(path, Form().fields, FAST)[0].schema["feature3"]) == "Int64"
    path = written(tmp_path, [*lines, inside.replace(b",37]", b",%d]" % 2**64)])
    check_readers_agree(path, Form().fields)
    assert str(read(path, Form().fields, FAST)[0].schema["feature3"]) == "Float64"
