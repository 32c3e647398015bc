"""Local attributions, read back with the csv module."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.results import local_attributions
from runner.results.directory import BASELINE_ROWS, EXPLAINED, LOCAL_ATTRIBUTIONS, amend
from runner.results.local_attributions import saved
from runner.results.reference import from_parquet
from tests.builders import WINDOW, baseline, changed, event, monitor, write
from tests.formula_models import Formula, additive, interacting

NAMES = ("Age", 'a,"b"\r\nc', "a_b", "a", "ü <i>")
LABELS = ("c", "b_c", "x\ny")
EXTREME = [0.1, -0.0, 5e-324, -1.7976931348623157e308, 1e22, 1 / 3, 1e-7]


def table(data: bytes) -> list[list[str]]:
    """Return the cells of a CSV file."""
    return list(csv.reader(io.StringIO(data.decode(), newline="")))


def two_outputs(x: pl.DataFrame) -> NDArray[np.float64]:
    """Return the scores of two outputs."""
    return np.stack([interacting(x), additive(x)], axis=1)


@pytest.mark.parametrize("values", [1, 40, 2**20])
def test_special_names_and_floats_are_read_back(monkeypatch: pytest.MonkeyPatch, values: int) -> None:
    """Features of the first label come first, duplicate columns are preserved, floats keep all bits."""
    monkeypatch.setattr(local_attributions, "VALUES", values)
    phi_NDL = np.random.default_rng(0).normal(size=(7, len(NAMES), len(LABELS)))
    phi_NDL[:, 1, 2] = EXTREME
    attributions = Attributions(NAMES, LABELS, phi_NDL, np.zeros(3), np.zeros((7, 3)), 0)
    columns: list[list[object]] = [
        ["x,\n", None, 'q"', "\r", ""],
        [1, None, 3, 4, 5],
        [0.1, 2.0, 1e300, 5e-324, None],
        [True] * 5,
        ["12"] * 5,
    ]
    background = pl.DataFrame([pl.Series(name, column) for name, column in zip(NAMES, columns, strict=True)])
    with saved(attributions, background[:, ::-1]) as files:
        found = {name: table(file.read()) for name, file in files.items()}
    header, *rows = found[LOCAL_ATTRIBUTIONS]
    assert header == [f"{name}_{label}" for label in LABELS for name in NAMES]
    assert header.count("a_b_c") == 2
    assert np.array(rows, dtype=np.float64).tobytes() == phi_NDL.transpose(0, 2, 1).reshape(7, -1).tobytes()
    header, *rows = found[BASELINE_ROWS]
    assert header == list(NAMES)
    assert rows[0] == ["x,\n", "1", "0.1", "true", "12"]
    assert rows[1] == ["", "", "2.0", "true", "12"]
    assert [row[0] for row in rows] == ["x,\n", "", 'q"', "\r", ""]


def test_baseline_saves_the_attributions_of_the_reference_sample(tmp_path: Path) -> None:
    """One row per record of the dataset, in its order and equal to the reference sample; the mean is the background."""
    model = Formula(two_outputs, label_headers=("no", "yes"))
    assert replace(baseline(tmp_path, model), save_local_shap_values=True).run().succeeded
    reference = tmp_path / "reference"
    header, *rows = table((reference / LOCAL_ATTRIBUTIONS).read_bytes())
    assert header == ["a_no", "b_no", "c_no", "a_yes", "b_yes", "c_yes"]
    records = from_parquet((reference / "reference.parquet").read_bytes(), list("abc"), ("a", "b", "c"), ("no", "yes"))
    expected = records.attributions.phi_NDL.transpose(0, 2, 1).reshape(3, 6)
    assert np.array(rows, dtype=np.float64).tobytes() == expected.tobytes()
    assert (reference / BASELINE_ROWS).read_bytes() == b"a,b,c\n3,1,1\n"
    assert not (reference / EXPLAINED).exists()


def test_explained_csv_links_rows_to_events(tmp_path: Path) -> None:
    """out.csv has the format of AWS; explained.csv names the event and the record of each row."""
    stage = changed(monitor(tmp_path, []), save_local_shap_values=True)
    write(tmp_path, "09/a.jsonl", event([7, 2, 1], [6, 2, 1]) + event([9, 3, 0], clock="09:31:00"))
    target = Path(stage.run(WINDOW).directory)
    header, *rows = table((target / LOCAL_ATTRIBUTIONS).read_bytes())
    assert header == ["a_label0", "b_label0", "c_label0"]
    values_ND = np.array([[7, 2, 1], [6, 2, 1], [9, 3, 0]]) - np.array([3, 1, 1])
    np.testing.assert_allclose(np.array(rows, dtype=float), values_ND * [1, 2, 3])
    assert (target / BASELINE_ROWS).read_bytes() == b"a,b,c\n3,1,1\n"
    header, *rows = table((target / EXPLAINED).read_bytes())
    assert header == ["file", "line", "row", "event_id", "inference_id", "at"]
    assert [row[1:4] for row in rows] == [["1", "0", "id"], ["1", "1", "id"], ["2", "0", "id"]]
    assert [row[-1] for row in rows] == ["2026-01-05T09:30:00Z"] * 2 + ["2026-01-05T09:31:00Z"]
    assert rows[0][0].endswith("a.jsonl")
    before = (target / LOCAL_ATTRIBUTIONS).read_bytes()
    amend(target, {"report.html": b"new"})
    assert (target / LOCAL_ATTRIBUTIONS).read_bytes() == before


def test_local_attributions_are_not_saved_by_default(tmp_path: Path) -> None:
    """Neither by baselining nor by an execution; files of a former execution are removed."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    changed(stage, save_local_shap_values=True).run(WINDOW)
    target = Path(stage.run(WINDOW).directory)
    assert not any((folder / "explanations_shap").exists() for folder in (target, tmp_path / "reference"))
    assert not (target / EXPLAINED).exists()
