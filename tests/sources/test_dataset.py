"""Datasets: what they hold, and how the first thing that is wrong with one is told."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from runner.errors import DatasetError, MissingInput
from runner.sources.data import FileFormat
from runner.sources.dataset import Dataset
from tests.conftest import DEMO
from tests.golden import Golden
from tests.sources.reading import data_settings

JSON_LINES: FileFormat = "application/jsonlines"
HEADERS = ("a", "b")


def dataset(path: Path, layout: FileFormat = JSON_LINES, features: str = "features", **settings: Any) -> Dataset:
    """Return a dataset with its settings."""
    data = data_settings(dataset_type=layout, features=features, **settings)
    return Dataset(str(path), data, "data.dataset", labelled=True)


def test_it_is_a_table_and_a_hash(tmp_path: Path) -> None:
    """The features come under their names, with the hash of the file as it stands."""
    (path := tmp_path / "data.jsonl").write_bytes(data := b'{"features":[1,"x"]}\n{"features":[2,null]}')
    features, digest = dataset(path, headers=HEADERS).read()
    assert features.equals(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))
    assert digest == hashlib.sha256(data).hexdigest()


def test_every_layout_is_the_same_table() -> None:
    """The quickstart's measurements as JSON Lines, dense JSON and CSV are one table."""
    lines, _ = dataset(DEMO / "baseline.jsonl").read()
    dense, _ = dataset(DEMO / "baseline.json", "application/json", "instances[*].features").read()
    cells, _ = dataset(DEMO / "baseline.csv", "text/csv", label="0").read()
    assert lines.shape == (299, 10)
    assert lines.equals(dense)
    assert lines.equals(cells)


def test_a_csv_with_header_and_quotes(tmp_path: Path) -> None:
    """The label is found by its name, and a cell may go over lines."""
    (path := tmp_path / "data.csv").write_bytes(b'a,"the label",b\n1,0,"x\ny"\n2,1,"z"\n')
    features, _ = dataset(path, "text/csv", headers=HEADERS, label="the label", header=True).read()
    assert features.rows() == [(1, "x\ny"), (2, "z")]


def test_a_parquet_file(tmp_path: Path) -> None:
    """A Parquet dataset gives its columns in the order of the headers."""
    pl.DataFrame({"b": ["x", None], "y": [0, 1], "a": [1, 2]}).write_parquet(path := tmp_path / "data.parquet")
    features, _ = dataset(path, "application/x-parquet", headers=HEADERS).read()
    assert features.equals(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))


def test_a_missing_one_names_its_setting(tmp_path: Path, golden: Golden) -> None:
    """A dataset that is not there is an error with its path and the setting that names it."""
    with golden.raises(MissingInput) as caught:
        dataset(tmp_path / "absent.jsonl").read()
    assert (str(caught.value.path), caught.value.key) == (str(tmp_path / "absent.jsonl"), "data.dataset")


@pytest.mark.parametrize(
    ("layout", "data", "place", "others"),
    [
        (JSON_LINES, b'{"features":[1,2]}\n{"label":1}\n', ":2:", 0),
        (JSON_LINES, b'{"features":[1,2]}\n{"features":[1,2,3]}', ":2:", 0),
        (JSON_LINES, b'{"features":[1,2]}\n{"features":[NaN,2]}', ":2:", 0),
        (JSON_LINES, b'{"features":["x",2]}\n{"features":[1,2]}\n{"features":[1,2]}\ntorn\n[]\n', ":1:", 2),
        ("text/csv", b"1,2\n1,2\n3\n", ":3:", 0),
        ("application/json", b'{"features":[[1,2],[3]]}', ":1:", 0),
        ("application/x-parquet", b"", ":1:", 0),
        (JSON_LINES, b"\n\n", ":", 0),
        ("text/csv", b"", ":", 0),
    ],
    ids=["nothing", "width", "NaN", "several", "CSV", "JSON", "Parquet", "blank", "empty"],
)
def test_the_first_bad_line_is_an_error(
    tmp_path: Path, golden: Golden, layout: FileFormat, data: bytes, place: str, others: int
) -> None:
    """The first line that is wrong stops everything; the error has its place, the reason and the number of others."""
    (path := tmp_path / "data").write_bytes(data)
    with golden.raises(DatasetError) as caught:
        dataset(path, layout, headers=HEADERS).read()
    assert str(caught.value.problem).startswith(f"{path}{place} ")
    assert caught.value.further == others


@pytest.mark.parametrize(("name", "rows"), [("validation-dataset", 666), ("test-dataset", 334)])
def test_notebook_datasets_are_read(adult: Path, name: str, rows: int) -> None:
    """The notebook's datasets are whole numbers in 14 columns."""
    features, _ = dataset(adult / f"{name}.jsonl").read()
    assert features.shape == (rows, 14)
    assert set(features.dtypes) == {pl.Int64}
