"""Datasets: features, hash, and the error of the first invalid record."""

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


def dataset(path: Path, format_: FileFormat = JSON_LINES, features: str = "features", **settings: Any) -> Dataset:
    """Return a dataset with these settings."""
    data = data_settings(dataset_type=format_, features=features, **settings)
    return Dataset(str(path), data, "data.dataset", labelled=True)


def test_dataset_is_read_as_table_and_hash(tmp_path: Path) -> None:
    """The features have their names, and the hash is that of the file."""
    (path := tmp_path / "data.jsonl").write_bytes(data := b'{"features":[1,"x"]}\n{"features":[2,null]}')
    features, digest = dataset(path, headers=HEADERS).read()
    assert features.equals(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))
    assert digest == hashlib.sha256(data).hexdigest()


def test_every_format_gives_the_same_table() -> None:
    """The quickstart's measurements as JSON Lines, JSON and CSV are one table."""
    lines, _ = dataset(DEMO / "baseline.jsonl").read()
    dense, _ = dataset(DEMO / "baseline.json", "application/json", "instances[*].features").read()
    cells, _ = dataset(DEMO / "baseline.csv", "text/csv", label="0").read()
    assert lines.shape == (299, 10)
    assert lines.equals(dense)
    assert lines.equals(cells)


def test_csv_with_header_and_quotes_is_read(tmp_path: Path) -> None:
    """The label is removed by its name, and a cell may span lines."""
    (path := tmp_path / "data.csv").write_bytes(b'a,"the label",b\n1,0,"x\ny"\n2,1,"z"\n')
    features, _ = dataset(path, "text/csv", headers=HEADERS, label="the label", header=True).read()
    assert features.rows() == [(1, "x\ny"), (2, "z")]


def test_parquet_columns_are_in_the_order_of_headers(tmp_path: Path) -> None:
    """A Parquet dataset has its columns in the order of the headers."""
    pl.DataFrame({"b": ["x", None], "y": [0, 1], "a": [1, 2]}).write_parquet(path := tmp_path / "data.parquet")
    features, _ = dataset(path, "application/x-parquet", headers=HEADERS).read()
    assert features.equals(pl.DataFrame({"a": [1, 2], "b": ["x", None]}))


def test_missing_dataset_is_an_error_with_its_setting(tmp_path: Path, golden: Golden) -> None:
    """The error contains the path and the setting."""
    with golden.raises(MissingInput) as caught:
        dataset(tmp_path / "absent.jsonl").read()
    assert (str(caught.value.path), caught.value.key) == (str(tmp_path / "absent.jsonl"), "data.dataset")


@pytest.mark.parametrize(
    ("format_", "data", "place", "others"),
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
def test_first_invalid_line_is_an_error(
    tmp_path: Path, golden: Golden, format_: FileFormat, data: bytes, place: str, others: int
) -> None:
    """The error contains position and reason of the first invalid line, and the number of others."""
    (path := tmp_path / "data").write_bytes(data)
    with golden.raises(DatasetError) as caught:
        dataset(path, format_, headers=HEADERS).read()
    assert str(caught.value.problem).startswith(f"{path}{place} ")
    assert caught.value.further == others


@pytest.mark.parametrize(("name", "rows"), [("validation-dataset", 666), ("test-dataset", 334)])
def test_notebook_datasets_are_read(adult: Path, name: str, rows: int) -> None:
    """The notebook's datasets are integers in 14 columns."""
    features, _ = dataset(adult / f"{name}.jsonl").read()
    assert features.shape == (rows, 14)
    assert set(features.dtypes) == {pl.Int64}
