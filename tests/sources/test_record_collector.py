"""Records and rejections in memory and on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.domain.records import Rejection
from runner.records.fields import Fields
from runner.records.tables import Record
from runner.sources.record_collector import RecordCollector
from tests.golden import Golden
from tests.sources.reading import FIELDS, Collected, collected

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)


def row(line: int, values: Sequence[Any], scores: Sequence[float] = (), event_id: str | None = "e") -> Record:
    """Return a record."""
    return Record(line, 0, event_id, None, AT, values, scores)


MIXED = [
    ("a", [row(1, [1, "x"], [0.5]), row(2, [2.5, None])]),
    ("b", [row(1, [True, "y"], [0.5]), row(2, [3, "z", 0])]),
    ("c", [row(1, [None, "x"], [0.25]), row(2, [4, "y"], [0.25, 0.75])]),
]


def mixed_records(memory_bytes: int) -> Collected:
    """Return three files with records that differ in kinds, widths and scores."""
    with RecordCollector(FIELDS, memory_bytes) as collector:
        for file, rows in MIXED:
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


def test_rejection_contains_the_values(golden: Golden) -> None:
    """Each rejection has file, line, kind, message and values."""
    (strange,) = [rejection for rejection in mixed_records(2**28).rejections if rejection["kind"] == "feature_type"]
    golden(strange.pop("problem"))
    assert strange == {"file": "b", "line": 1, "kind": "feature_type", "text": '[true,"y"]'}


def test_records_on_disk_are_equal_to_those_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Records on disk give the same result, and their files are removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RecordCollector(FIELDS, memory_bytes=0) as collector:
        for file, rows in MIXED:
            collector.add_records(file, rows)
        assert len(list(tmp_path.rglob("*.arrow"))) >= len(MIXED)
        assert collected(collector)._replace(events=6).rejected == mixed_records(2**28).rejected
    assert list(tmp_path.iterdir()) == []
    in_memory, on_disk = mixed_records(2**28), mixed_records(0)
    assert sorted(map(str, in_memory.rows)) == sorted(map(str, on_disk.rows))
    assert sorted(in_memory.origins) == sorted(on_disk.origins)
    assert sorted(map(str, in_memory.rejections)) == sorted(map(str, on_disk.rejections))


def test_records_on_disk_and_in_memory_are_one_table() -> None:
    """Tables on disk and in memory are concatenated, integers and floats to floats."""
    with RecordCollector(FIELDS, memory_bytes=250) as collector:
        for line in range(1, 40):
            collector.add_records("a", [row(line, [line if line % 2 else line + 0.5])])
        result = collected(collector)
    assert sorted(result.rows) == [(line if line % 2 else line + 0.5,) for line in range(1, 40)]


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
