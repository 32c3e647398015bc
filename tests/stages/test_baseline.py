"""Baselining: the state of the reference directory during and after a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.executions import Window, utc
from runner.errors import ModelAnswerError, NoData, SegmentError
from runner.results.directory import is_being_written
from runner.results.reference import Reference
from tests.builders import baseline, event, write
from tests.drift.samples import POLICY
from tests.formula_models import Formula, additive
from tests.golden import Golden


def test_reference_is_being_written_during_the_run(tmp_path: Path) -> None:
    """Other processes see this from the first to the last model call; then no hidden file remains."""
    writing: list[bool] = []

    def checking(features: pl.DataFrame) -> NDArray[np.float64]:
        writing.append(
            is_being_written(tmp_path / "reference") and is_being_written(tmp_path / "reference/analysis.json")
        )
        return additive(features)

    assert baseline(tmp_path, Formula(checking)).run().succeeded
    assert set(writing) == {True}
    assert not is_being_written(tmp_path / "reference")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.jsonl", "reference"]


def test_failed_run_leaves_no_lock(tmp_path: Path) -> None:
    """After the error the reference is not being written any more."""

    def broken(features: pl.DataFrame) -> NDArray[np.float64]:
        raise ModelAnswerError("no response")

    with pytest.raises(ModelAnswerError):
        baseline(tmp_path, Formula(broken)).run()
    assert not is_being_written(tmp_path / "reference")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.jsonl"]


def test_noisy_model_is_mentioned(tmp_path: Path) -> None:
    """The first note says by how much scores of the same record differ; a deterministic model has no such note."""
    rng = np.random.default_rng(0)

    def noisy(features: pl.DataFrame) -> NDArray[np.float64]:
        return additive(features) + rng.normal(0, 0.1, features.height)

    for name in "ab":
        (tmp_path / name).mkdir()
    assert "not deterministic" not in baseline(tmp_path / "a", Formula(additive)).run().message
    message = baseline(tmp_path / "b", Formula(noisy)).run().message
    assert "not deterministic" in message.splitlines()[1]


def test_score_of_the_background_is_compared_with_those_of_the_records(tmp_path: Path, golden: Golden) -> None:
    """An unusual one is a warning in the message; the background of an execution has no score."""
    (tmp_path / "far").mkdir()
    usual, far = (baseline(folder, Formula(additive)) for folder in (tmp_path, tmp_path / "far"))
    far = replace(far, model_explainer=replace(far.model_explainer, background_rows=lambda: [[900, 900, 900]]))
    assert "unusual" not in usual.run().message
    note = next(line for line in far.run().message.splitlines() if "unusual" in line)
    golden(note.strip())
    for folder, low, high in (("reference", 0.1, 0.9), ("far/reference", 1.0, 1.0)):
        stored = orjson.loads((tmp_path / folder / "manifest.json").read_bytes())["background"]
        (score,) = stored["scores"]
        assert set(stored) == {"names", "rows", "scores"}
        assert low <= score["quantile"] <= high
        expected = orjson.loads((tmp_path / folder / "analysis.json").read_bytes())
        assert score["score"] == expected["explanations"]["kernel_shap"][score["label"]]["expected_value"]


def test_concurrent_runs_leave_one_complete_reference(tmp_path: Path) -> None:
    """A second run into the same folder may end during the first one; the last writer wins."""
    inner = baseline(tmp_path, Formula(additive, identity="inner"))
    runs: list[str] = []

    def nested(features: pl.DataFrame) -> NDArray[np.float64]:
        if not runs:
            runs.append(inner.run().message)
            assert is_being_written(tmp_path / "reference")
        return additive(features)

    assert baseline(tmp_path, Formula(nested, identity="outer")).run().succeeded
    assert '"model":"outer"' in (tmp_path / "reference/manifest.json").read_text().replace(": ", ":")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.jsonl", "reference"]


def test_captured_records_keep_the_times_of_their_events(tmp_path: Path, golden: Golden) -> None:
    """The reference consists of the records of the window, and of no others; records of one event share its number."""
    rows: tuple[list[list[int]], ...] = [[0, 0, 0], [3, 2, 1]], [[6, 2, 1], [9, 9, 9], [1, 2, 3]]
    write(tmp_path, "09/a.jsonl", event(*rows[0], clock="09:00:00") + b"\n")
    write(tmp_path, "11/b.jsonl", event(*rows[1], clock="11:59:59") + b"\n")
    write(tmp_path, "12/c.jsonl", event([7, 7, 7], clock="12:00:00") + b"\n")
    window = Window.parse("2026-01-05T09/2026-01-05T12")
    golden(baseline(tmp_path, Formula(additive), window=window).run().message.splitlines()[0])
    sample = Reference.read(tmp_path / "reference").sample
    assert sample is not None
    assert sample.events is not None
    stored = dict(zip(sample.features.rows(), sample.events.rows(), strict=True))
    for at, event_rows in zip(("09:00:00", "11:59:59"), rows, strict=True):
        (found,) = {stored.pop(tuple(row)) for row in event_rows}
        assert found[0] == utc(f"2026-01-05T{at}")
    assert not stored
    assert sample.events["event"].n_unique() == 2


def test_captured_record_that_the_model_rejects_is_rejected_alone(tmp_path: Path, golden: Golden) -> None:
    """A reference from captures contains the other records; a dataset must be complete."""
    for i in range(40):
        write(tmp_path, f"09/{i:02}-00-000-x.jsonl", event([None if i == 7 else i, 2, 1]))
    message = baseline(tmp_path, Formula(additive), window=Window.parse("2026-01-05T09")).run().message
    stored = orjson.loads((tmp_path / "reference/manifest.json").read_bytes())["counts"]
    assert (stored["records"], stored["rejected"]) == (39, {"model_input": 1})
    golden("\n".join(line for line in message.splitlines() if "39" in line or "rejected" in line))
    stage = baseline(tmp_path, Formula(additive))
    (tmp_path / "dataset.jsonl").write_bytes(b'{"features":[1,2,3]}\n{"features":[1,null,3]}\n')
    with golden.raises(ModelAnswerError):
        stage.run()


def test_span_without_captured_records_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """Nothing is written."""
    with golden.raises(NoData):
        baseline(tmp_path, Formula(additive), window=Window.parse("2026-01-05T09/2026-01-26T09")).run()
    assert not (tmp_path / "reference").exists()


def test_invalid_unit_is_an_error_before_records_are_explained(tmp_path: Path) -> None:
    """The model is not called, and nothing is written."""

    def never(features: pl.DataFrame) -> NDArray[np.float64]:
        raise AssertionError(features)

    with pytest.raises(SegmentError):
        baseline(tmp_path, Formula(never), policy=replace(POLICY, unit="nobody")).run()
    assert not (tmp_path / "reference").exists()


@pytest.mark.parametrize(("unit", "rows"), [("record", 4), ("event", 2), ("a", 3)])
def test_one_record_of_each_unit_and_hour_is_stored(unit: str, rows: int, tmp_path: Path) -> None:
    """The analysis is that of all records."""
    write(tmp_path, "09/a.jsonl", event([0, 0, 0], [0, 2, 1], clock="09:00:00") + b"\n")
    write(tmp_path, "10/b.jsonl", event([0, 9, 9], [1, 2, 3], clock="10:00:00") + b"\n")
    window = Window.parse("2026-01-05T09/2026-01-05T11")
    done = baseline(tmp_path, Formula(additive), window=window, policy=replace(POLICY, unit=unit)).run()
    assert "4 records" in done.message
    sample = Reference.read(tmp_path / "reference").sample
    assert sample is not None
    assert sample.features.height == rows
