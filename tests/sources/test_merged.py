"""Model performance from merged files."""

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
from tests.sources.reading import DATA, HOUR, capture_line, data_settings

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


def test_time_of_the_event_decides_its_window(tmp_path: Path) -> None:
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
