"""Merged files as the source of a model's quality."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.domain.executions import Window
from runner.drift.performance import Quality
from runner.records import ground_truth
from runner.records.ground_truth import GroundTruth
from runner.sources.merged import MergedReader
from tests.golden import Golden
from tests.sources.reading import DATA, HOUR, data_settings, event

SCORES, LABELS = [0.9, 0.2, 0.6, 0.4], [1, 0, 0, 1]


def merged(*labels: object, scores: list[Any] | None = None, clock: str = "09:30:00", encoding: str = "JSON") -> bytes:
    """Return the merged line of an invocation with these labels and scores."""
    rows = [[i] for i in range(len(scores if scores is not None else labels))]
    data = orjson.dumps({"instances": [{"label": label} for label in labels]}).decode()
    if encoding == "CSV":
        data = "\n".join(map(str, labels))
    return ground_truth.encode_merged(event(*rows, scores=scores, clock=clock), GroundTruth("e", data, encoding))


def quality(
    root: Path, data: bytes, names: tuple[str, ...] = ("p",), label: str | None = None, window: Window = HOUR
) -> Quality | str | None:
    """Return the quality of a model by one merged file."""
    (folder := root / "2026/01/05/09").mkdir(parents=True)
    (folder / "part-00000-x.c000.jsonl").write_bytes(data)
    return MergedReader(str(root), data_settings(ground_truth=label)).quality(window, names)


def figures(found: Quality | str | None) -> tuple[int, float, float | None]:
    """Return records, accuracy and AUC."""
    assert isinstance(found, Quality)
    return found.records, found.accuracy, found.auc


@pytest.mark.parametrize("encoding", ["JSON", "CSV"])
def test_labels_and_scores_belong_together_by_position(tmp_path: Path, encoding: str) -> None:
    """The labels of a mini-batch meet its scores one by one."""
    assert figures(quality(tmp_path, merged(*LABELS, scores=SCORES, encoding=encoding))) == (4, 0.5, 0.75)


def test_lines_add_up(tmp_path: Path) -> None:
    """Single records give the same as a mini-batch of them."""
    lines = [merged(label, scores=[score]) for label, score in zip(LABELS, SCORES, strict=True)]
    assert figures(quality(tmp_path, b"\n".join(lines))) == (4, 0.5, 0.75)


def test_nothing_merged_is_nothing_to_say(tmp_path: Path) -> None:
    """Without merged files, or with none of the window's events, there is no quality."""
    assert MergedReader(str(tmp_path / "absent"), DATA).quality(HOUR, ("p",)) is None
    assert quality(tmp_path, merged(1, scores=[0.5], clock="10:00:00")) is None


def test_part_of_an_hour(tmp_path: Path) -> None:
    """The event's own time decides within a file."""
    data = merged(1, 0, scores=[0.9, 0.1], clock="09:10:00") + merged(1, scores=[0.2], clock="09:50:00")
    found = quality(tmp_path, data, window=Window.parse("2026-01-05T09:00/2026-01-05T09:30"))
    assert figures(found) == (2, 1.0, 1.0)


def test_several_outputs(tmp_path: Path) -> None:
    """Labels are names of the outputs, scores a list for each record."""
    scores = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.3, 0.2]]
    found = quality(tmp_path, merged("a", "b", "c", scores=scores), ("a", "b", "c"))
    records, accuracy, _ = figures(found)
    assert (records, round(accuracy * 3)) == (3, 2)


def test_the_labels_place_is_a_setting(tmp_path: Path) -> None:
    """A JMESPath finds the labels in a document of one's own."""
    truth = GroundTruth("e", '{"outcome":{"values":[1,0]}}', "JSON")
    line = ground_truth.encode_merged(event([1], [2], scores=[0.9, 0.1]), truth)
    assert figures(quality(tmp_path, line, label="outcome.values")) == (2, 1.0, 1.0)


@pytest.mark.parametrize(
    ("data", "names", "shown"),
    [
        (b"torn\n", ("p",), "2026/01/05/09/part-00000-x.c000.jsonl:1:"),
        (merged(1, scores=None), ("p",), "2026/01/05/09/part-00000-x.c000.jsonl:1:"),
        (merged(1, 0, scores=[0.5]), ("p",), "2026/01/05/09/part-00000-x.c000.jsonl:1:"),
        (merged("yes", scores=[0.5]), ("p",), "'yes'"),
        (merged(1, scores=[0.5]), ("a", "b"), "2"),
    ],
    ids=["torn", "no response", "counts", "label", "outputs"],
)
def test_a_reason_stands_instead_of_a_quality(
    tmp_path: Path, golden: Golden, data: bytes, names: tuple[str, ...], shown: str
) -> None:
    """Where there is no quality there is a sentence with the line or the label that is the cause."""
    found = quality(tmp_path, data, names)
    assert isinstance(found, str)
    assert shown in found
    golden(found)


def test_bad_lines_beside_good_ones_are_noted(tmp_path: Path, golden: Golden) -> None:
    """What can be compared is, and a note has the number of lines that cannot be read, and the first one."""
    found = quality(tmp_path, merged(*LABELS, scores=SCORES) + b"torn\n" * 2)
    assert isinstance(found, Quality)
    assert found.records == 4
    assert "2" in found.notes[-1].split()
    assert "2026/01/05/09/part-00000-x" in found.notes[-1]
    golden(found.notes[-1])
