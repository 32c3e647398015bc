"""Records and rejections as they come in, in memory and on disk."""

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
from runner.records.tables import Row
from runner.sources.record_collector import RecordCollector
from tests.golden import Golden
from tests.sources.reading import FIELDS, Taken, plain

AT = datetime(2026, 1, 5, 9, tzinfo=UTC)


def row(line: int, values: Sequence[Any], scores: Sequence[float] = (), event_id: str | None = "e") -> Row:
    """Return a record."""
    return Row(line, 0, event_id, None, AT, values, scores)


MIXED = [
    ("a", [row(1, [1, "x"], [0.5]), row(2, [2.5, None])]),
    ("b", [row(1, [True, "y"], [0.5]), row(2, [3, "z", 0])]),
    ("c", [row(1, [None, "x"], [0.25]), row(2, [4, "y"], [0.25, 0.75])]),
]


def mixed(held_bytes: int) -> Taken:
    """Return three files with records that differ in everything in which records can differ."""
    with RecordCollector(FIELDS, held_bytes) as intake:
        for file, rows in MIXED:
            intake.events += len(rows)
            intake.add_rows(file, rows)
        return plain(intake)


def test_records_agree_with_most() -> None:
    """What most records have in common decides what is usable; scores may be missing, values may be null."""
    found = mixed(2**28)
    assert sorted(zip(found.origins, found.rows, strict=True)) == [
        (("a", 1, 0), (1.0, "x")),
        (("a", 2, 0), (2.5, None)),
        (("c", 1, 0), (None, "x")),
    ]
    assert found.rejected == {"feature_type": 1, "feature_count": 1, "score_count": 1}
    assert found.events == len(found.rows) + sum(found.rejected.values())


def test_a_rejected_record_is_shown_with_its_values(golden: Golden) -> None:
    """Each rejection has file, line, kind, the sentence and the values themselves."""
    (strange,) = [rejection for rejection in mixed(2**28).lost if rejection["kind"] == "feature_type"]
    golden(strange.pop("problem"))
    assert strange == {"file": "b", "line": 1, "kind": "feature_type", "text": '[true,"y"]'}


def test_the_disk_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Records that go to disk table by table come back as those that stay in memory, and leave nothing behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RecordCollector(FIELDS, memory_bytes=0) as intake:
        for file, rows in MIXED:
            intake.add_rows(file, rows)
        assert len(list(tmp_path.rglob("*.arrow"))) >= len(MIXED)
        assert plain(intake)._replace(events=6).rejected == mixed(2**28).rejected
    assert list(tmp_path.iterdir()) == []
    held, stored = mixed(2**28), mixed(0)
    assert sorted(map(str, held.rows)) == sorted(map(str, stored.rows))
    assert sorted(held.origins) == sorted(stored.origins)
    assert sorted(map(str, held.lost)) == sorted(map(str, stored.lost))


def test_half_on_disk_is_one_table() -> None:
    """Tables on disk and tables in memory are concatenated, integers with floats to floats."""
    with RecordCollector(FIELDS, memory_bytes=250) as intake:
        for line in range(1, 40):
            intake.add_rows("a", [row(line, [line if line % 2 else line + 0.5])])
        found = plain(intake)
    assert sorted(found.rows) == [(line if line % 2 else line + 0.5,) for line in range(1, 40)]


def test_no_record_is_no_table() -> None:
    """Nothing taken in gives no rows, no scores and no rejection, also where headers name features."""
    for fields in (FIELDS, Fields("features", "score", ("a", "b"))):
        with RecordCollector(fields) as intake:
            found = plain(intake)
        assert (found.rows, found.scores, found.lost, found.rejected) == ([], None, [], {})


def test_rejections_are_kept_with_the_first_of_each_kind() -> None:
    """All are in the file, the most frequent kind is counted first, and each kind has its first as example."""
    with RecordCollector(FIELDS) as intake:
        for i, kind in enumerate(["rare", "often", "often"], 1):
            intake.reject(Rejection("f", i, kind, f"problem {i}", f"text {i}"))
        captured = intake.captured(["f"])
        assert list(captured.rejected.items()) == [("often", 2), ("rare", 1)]
        assert [str(example) for example in captured.examples] == ["f:2: problem 2", "f:1: problem 1"]
        lines = [orjson.loads(line) for line in captured.rejections]
        assert [(line["line"], line["kind"], line["text"]) for line in lines] == [
            (1, "rare", "text 1"),
            (2, "often", "text 2"),
            (3, "often", "text 3"),
        ]
