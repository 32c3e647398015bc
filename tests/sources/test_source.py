"""Reading of windows, and checks of the records."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.executions import Window
from runner.domain.records import Rejection
from runner.errors import NO_DATA, NoData, NoValidRecords, ShapwatchError, TooManyRejected
from runner.protocols import Item
from runner.records.fields import Fields
from runner.records.tables import MAX_COLUMNS, Part, Record, part
from runner.sources import source
from runner.sources.dataset import Dataset
from runner.sources.endpoint import EndpointSource
from runner.sources.source import RecordCollector, WindowReader, hash_order, window_salt
from tests.conftest import untracked
from tests.golden import Golden
from tests.sources.reading import DATA, FIELDS, HOUR, Collected, capture_line, collected, data_settings, write_captures


def window_reader(root: Path, max_rejected_share: float = 0.05, /, **files: bytes) -> WindowReader:
    """Return the reader of an endpoint with these capture files."""
    return WindowReader(
        EndpointSource("endpoint", write_captures(root, **files), neighbours=1),
        data_settings(max_rejected_share=max_rejected_share),
        untracked,
    )


def checked(found: WindowReader, window: Window = HOUR) -> ShapwatchError | None:
    """Return the error of a window, None if it is valid."""
    with found.read(window) as captured:
        try:
            found.check(captured, window)
        except ShapwatchError as error:
            return error
    return None


def test_reading_is_tracked_by_file(tmp_path: Path, golden: Golden) -> None:
    """Progress is counted in files, including neighbour hours."""
    tracked: list[tuple[str, int | None]] = []

    def track(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
        tracked.append((what, total))
        return items

    root = write_captures(tmp_path, h08_a=b"", h09_a=capture_line([1]), h09_b=capture_line([2]))
    with WindowReader(EndpointSource("endpoint", root, 1), DATA, track).read(HOUR) as captured:
        assert captured.records == 2
    ((what, total),) = tracked
    assert total == 3
    golden(what)


@pytest.mark.parametrize(
    ("files", "found", "outside"),
    [
        ({}, 0, 0),
        ({"h09_a": b""}, 1, 0),
        ({"h09_a": b"\n \r\n"}, 1, 0),
        ({"h09_a": capture_line([1], clock="08:59:59") * 2}, 1, 2),
    ],
    ids=["no file", "empty", "blank", "other hour"],
)
def test_window_without_events_is_an_error(
    tmp_path: Path, golden: Golden, files: dict[str, bytes], found: int, outside: int
) -> None:
    """The error has window and folder, and the numbers of files and of events outside the window."""
    error = checked(window_reader(tmp_path, 0.05, **files))
    assert isinstance(error, NoData)
    assert (error.window, [*error.prefixes]) == (HOUR, [(tmp_path / "2026/01/05/09").as_posix()])
    assert (error.files, error.outside, error.probes) == (found, outside, 0)
    assert error.reason == NO_DATA
    assert str(error).startswith(NO_DATA)
    golden(error)


def test_message_contains_the_first_and_last_folder(tmp_path: Path, golden: Golden) -> None:
    """The error has all folders of the window; the message contains the first and the last."""
    error = checked(window_reader(tmp_path), Window.parse("2026-01-05T09/2026-01-05T12"))
    assert isinstance(error, NoData)
    assert [*error.prefixes] == [f"{tmp_path}/2026/01/05/{hour}" for hour in ("09", "10", "11")]
    assert ("05/09" in str(error), "05/10" in str(error), "05/11" in str(error)) == (True, False, True)
    golden(error)


def test_window_of_rejected_events_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """The error has the number of events by reason, and an example of the most frequent."""
    error = checked(window_reader(tmp_path, h09_a=b"{}\n" + b"torn\n" * 2 + capture_line([1], clock="10:00:00")))
    assert isinstance(error, NoValidRecords)
    assert (error.window, [*error.reasons.items()]) == (HOUR, [("not_json", 2), ("not_a_capture", 1)])
    assert str(error.example).startswith("2026/01/05/09/a.jsonl:2:")
    golden(error)


def test_events_with_empty_bodies_are_an_error(tmp_path: Path) -> None:
    """Events whose bodies contain no record are events without valid records."""
    assert isinstance(checked(window_reader(tmp_path, h09_a=capture_line())), NoValidRecords)


def test_the_share_of_rejected_records_is_limited(tmp_path: Path, golden: Golden) -> None:
    """The limit of rejected records is exact, and the error has share, limit, reasons and examples."""
    data = capture_line([1]) * 3 + b"torn\n"
    assert checked(window_reader(tmp_path, 0.25, h09_a=data)) is None
    error = checked(window_reader(tmp_path, 0.2499, h09_a=data))
    assert isinstance(error, TooManyRejected)
    assert (error.window, error.share, error.allowed, error.reasons) == (HOUR, 0.25, 0.2499, {"not_json": 1})
    assert [str(example).partition(" ")[0] for example in error.examples] == ["2026/01/05/09/a.jsonl:4:"]
    golden(error)


def test_rejections_are_closed_afterwards(tmp_path: Path) -> None:
    """The file of rejections is open while the window is read, and closed afterwards."""
    with window_reader(tmp_path, h09_a=b"torn\n").read(HOUR) as captured:
        assert b'"not_json"' in captured.rejections.read()
    assert captured.rejections.closed


rows = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"])), min_size=1, max_size=30)


@given(rows, st.integers(1, 30), st.randoms(use_true_random=False))
def test_sample_is_independent_of_the_order(records: list[tuple[int, str]], most: int, random: Random) -> None:
    """The sample contains the same values equally often, in any order of the records."""
    shuffled = random.sample(records, len(records))
    tables = [pl.DataFrame(some, schema=["i", "t"], orient="row") for some in (records, shuffled)]
    first, second = (sorted(table[hash_order(table)[:most]].rows()) for table in tables)
    assert first == second
    assert len(first) == min(most, len(records))


def test_sample_is_unbiased() -> None:
    """If a tenth of the records are equal, so is a tenth of the sample, within binomial error."""
    values_N = np.arange(20_000)
    values_N[:2_000] = 7
    drawn_N = values_N[hash_order(pl.DataFrame({"x": values_N}))[:5_000]]
    assert abs((drawn_N == 7).mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 5_000)
    assert abs(drawn_N[drawn_N != 7].mean() - values_N[2_000:].mean()) < 4 * 5_200 / np.sqrt(4_500)


def test_each_window_has_its_own_sample() -> None:
    """Clients who send the same records in each hour are sampled in turn; a window always has the same sample."""
    table = pl.DataFrame({"x": np.arange(2000.0)})
    hours = [Window.parse(f"2026-01-05T{hour:02}") for hour in range(20)]
    samples = [set(hash_order(table, window_salt(hour))[:1000].tolist()) for hour in hours]
    assert len(set.union(*samples)) == 2000
    assert 400 < len(samples[0] & samples[1]) < 600
    assert samples[0] == set(hash_order(table, window_salt(hours[0]))[:1000].tolist())
    assert window_salt(hours[0], 1) != window_salt(hours[0])


@pytest.mark.parametrize(("most", "expected"), [(None, 50), (50, 50), (100, 50), (20, 20)])
def test_dataset_is_sampled(tmp_path: Path, most: int | None, expected: int) -> None:
    """The sample is in the order of the file; the hash is that of the whole file."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f'{{"features": [{i}, {i % 3}]}}\n' for i in range(50)))
    features, digest = Dataset(str(path), DATA, "data.dataset", max_records=most).read()
    assert features.height == expected
    assert features.to_series(0).is_sorted()
    assert digest == sha256(path.read_bytes()).hexdigest()


AT = datetime(2026, 1, 5, 9, tzinfo=UTC)


def row(line: int, values: Sequence[Any], scores: Sequence[float] = (), event_id: str | None = "e") -> Record:
    """Return a record."""
    return Record(line, 0, event_id, None, AT, values, scores)


MIXED = [
    ("a", [row(1, [1, "x"], [0.5]), row(2, [2.5, None])]),
    ("b", [row(1, [True, "y"], [0.5]), row(2, [3, "z", 0])]),
    ("c", [row(1, [None, "x"], [0.25]), row(2, [4, "y"], [0.25, 0.75])]),
]


REPEATED = [(file, [found for found in rows for _ in range(4)]) for file, rows in MIXED]
"""The same records, each often enough for a table."""


def mixed_records(memory_bytes: int, files: Sequence[tuple[str, list[Record]]] = MIXED) -> Collected:
    """Return three files with records that differ in kinds, widths and scores."""
    with RecordCollector(FIELDS, memory_bytes) as collector:
        for file, rows in files:
            collector.events += len(rows)
            collector.add_records(file, rows)
        return collected(collector)


def test_records_that_differ_from_most_are_rejected() -> None:
    """Most records decide the schema; scores may be missing, and values may be null."""
    result = mixed_records(2**28)
    assert sorted(zip(result.origins, result.rows, strict=True)) == [
        (("a", 1, 0), (1.0, "x")),
        (("a", 2, 0), (2.5, None)),
        (("c", 1, 0), (None, "x")),
    ]
    assert result.rejected == {"feature_type": 1, "feature_count": 1, "score_count": 1}
    assert result.events == len(result.rows) + sum(result.rejected.values())


@pytest.mark.parametrize("copies", [1, 6])
def test_one_event_has_one_vote_for_the_schema(copies: int) -> None:
    """An event with many records outvotes neither the width, nor the kind, nor the number of scores of the others."""
    odd: list[tuple[list[Any], list[float]]] = [([1], [0.5]), (["x", "y"], [0.5]), ([1, "y"], [0.5, 0.5])]
    many = [
        Record(line, i, f"e{line}", None, AT, values, scores)
        for line, (values, scores) in enumerate(odd, 10)
        for i in range(20 * copies)
    ]
    honest = [row(line, [line, "x"], [0.25]) for line in range(1, 1 + copies * 3)]
    with RecordCollector(FIELDS) as collector:
        collector.add_records("a", many)
        collector.add_records("b", honest)
        result = collected(collector)
    assert len(result.rows) == len(honest)
    assert result.rejected == dict.fromkeys(("feature_count", "feature_type", "score_count"), 20 * copies)


def test_invalid_records_of_one_event_are_a_small_share() -> None:
    """Many invalid records of one event are the share of one event; those of a data file are the share of records."""
    shares = []
    for event_id in ("e", None):
        with RecordCollector(FIELDS) as collector:
            collector.events = 10
            collector.add_records("a", [row(line, [line, line], event_id=event_id) for line in range(1, 10)])
            collector.add_records("b", [Record(10, i, event_id, None, AT, [i, "x"]) for i in range(1, 8)])
            shares.append(collector.captured(["a", "b"]).rejected_share)
    assert shares == [0.1, 7 / 16]


def test_kind_of_a_value_that_first_records_lack_is_that_of_the_others() -> None:
    """A feature that is null in the first record of each event has the kind of its other values."""
    rows = [Record(line, i, "e", None, AT, [i or None], ()) for line in range(1, 9) for i in range(2)]
    with RecordCollector(FIELDS) as collector:
        collector.add_records("a", rows)
        assert collected(collector).rejected == {}


def test_rejection_contains_the_values(golden: Golden) -> None:
    """Each rejection has file, line, kind, message and values."""
    (strange,) = [rejection for rejection in mixed_records(2**28).rejections if rejection["kind"] == "feature_type"]
    golden(strange.pop("problem"))
    assert strange == {"file": "b", "line": 1, "kind": "feature_type", "text": '[true,"y"]'}


def test_records_on_disk_are_equal_to_those_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Records on disk give the same result, and their files are removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RecordCollector(FIELDS, memory_bytes=0) as collector:
        for file, rows in REPEATED:
            collector.add_records(file, rows)
        assert len(list(tmp_path.rglob("*.arrow"))) >= len(REPEATED)
        assert collected(collector)._replace(events=24).rejected == mixed_records(2**28, REPEATED).rejected
    assert list(tmp_path.iterdir()) == []
    in_memory, on_disk = mixed_records(2**28, REPEATED), mixed_records(0, REPEATED)
    assert sorted(map(str, in_memory.rows)) == sorted(map(str, on_disk.rows))
    assert sorted(in_memory.origins) == sorted(on_disk.origins)
    assert sorted(map(str, in_memory.rejections)) == sorted(map(str, on_disk.rejections))


def test_records_on_disk_and_in_memory_are_one_table() -> None:
    """Tables on disk and in memory are concatenated, integers and floats to floats."""
    with RecordCollector(FIELDS, memory_bytes=20_000) as collector:
        for line in range(1, 40):
            collector.add_records("a", [row(line, [line if line % 2 else line + 0.5])])
        result = collected(collector)
    assert sorted(result.rows) == [(line if line % 2 else line + 0.5,) for line in range(1, 40)]


def test_single_records_are_collected_as_those_of_tables() -> None:
    """Records that arrive one by one have no table, but the same types, origins and rejections."""
    singles = [(file, [found]) for file, rows in REPEATED for found in rows]
    tables, buffered = mixed_records(2**28, REPEATED), mixed_records(2**28, singles)
    assert sorted(map(str, buffered.rows)) == sorted(map(str, tables.rows))
    assert sorted(buffered.origins) == sorted(tables.origins)
    assert sorted(map(str, buffered.rejections)) == sorted(map(str, tables.rejections))
    assert buffered.rejected == tables.rejected


@pytest.mark.parametrize("count", [MAX_COLUMNS, MAX_COLUMNS + 1])
def test_wide_records_do_not_become_tables(count: int, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record wider than most, and one beyond the maximum, are rejected without a column per value."""
    tables: list[int] = []

    def recorded(rows: Sequence[Record]) -> Part:
        tables.append(len(rows))
        return part(rows)

    monkeypatch.setattr(source, "part", recorded)
    wide = [row(2, [0.5] * count), row(3, [1], [0.5] * count)]
    with RecordCollector(FIELDS) as collector:
        collector.events += 4
        collector.add_records("a", [row(1, [1], [0.5]), *wide, row(4, [2], [0.5])])
        result = collected(collector)
    assert result.rows == [(1,), (2,)]
    assert result.rejected == {"feature_count": 1, "score_count": 1}
    assert tables == [2]
    for rejection in result.rejections:
        golden(rejection["problem"])


def test_collector_without_records_is_empty() -> None:
    """No record gives no rows, no scores and no rejections, with and without headers."""
    for fields in (FIELDS, Fields("features", "score", ("a", "b"))):
        with RecordCollector(fields) as collector:
            result = collected(collector)
        assert (result.rows, result.scores, result.rejections, result.rejected) == ([], None, [], {})


def test_rejections_are_counted_with_examples() -> None:
    """All rejections are in the file, kinds are ordered by frequency, and each has its first as example."""
    with RecordCollector(FIELDS) as collector:
        for i, kind in enumerate(["rare", "often", "often"], 1):
            collector.reject(Rejection("f", i, kind, f"problem {i}", f"text {i}"))
        captured = collector.captured(["f"])
        assert list(captured.rejected.items()) == [("often", 2), ("rare", 1)]
        assert [str(example) for example in captured.examples] == ["f:2: problem 2", "f:1: problem 1"]
        lines = [orjson.loads(line) for line in captured.rejections]
        assert [(line["line"], line["kind"], line["text"]) for line in lines] == [
            (1, "rare", "text 1"),
            (2, "often", "text 2"),
            (3, "often", "text 3"),
        ]
