"""Baselining, built by hand: what others see of it while it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.errors import ModelAnswerError
from runner.results.directory import is_being_written
from tests.builders import baseline
from tests.formula_models import Formula, additive


def test_it_is_seen_while_it_goes_on(tmp_path: Path) -> None:
    """From the first call of the model to the last the reference is being written; then nothing hidden is left."""
    seen: list[bool] = []

    def watched(features: pl.DataFrame) -> NDArray[np.float64]:
        seen.append(is_being_written(tmp_path / "reference") and is_being_written(tmp_path / "reference/analysis.json"))
        return additive(features)

    assert baseline(tmp_path, Formula(watched)).run().succeeded
    assert set(seen) == {True}
    assert not is_being_written(tmp_path / "reference")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.jsonl", "reference"]


def test_one_that_fails_is_over(tmp_path: Path) -> None:
    """Nobody waits for a reference that will not come."""

    def broken(features: pl.DataFrame) -> NDArray[np.float64]:
        raise ModelAnswerError("nothing to say")

    with pytest.raises(ModelAnswerError):
        baseline(tmp_path, Formula(broken)).run()
    assert not is_being_written(tmp_path / "reference")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.jsonl"]


def test_two_at_once_leave_one_whole_reference(tmp_path: Path) -> None:
    """A second baselining of the same folder may end within the first one; the last to write stays."""
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
