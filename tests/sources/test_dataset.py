"""Datasets: features, hash, and the error of the first invalid record."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import DatasetError, MissingInput, SettingsError
from runner.sources.data import FileFormat
from runner.sources.dataset import Dataset, mini_batches, rescaled
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


FEATURES = pl.DataFrame({"Age": [1, None, -3], "Gain": [0.5, 2.5, None], "Sex": ["a", "1", None], "*": [1, 2, 3]})


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 30), st.integers(0, 20))
def test_mini_batches_are_the_rows_in_order(height: int, size: int, count: int, skip: int) -> None:
    """Concatenated mini-batches are the repeated table; all but the last have the full size."""
    table = pl.DataFrame({"x": range(height)})
    batches = list(mini_batches(table, size, count, skip))
    values = [value for batch in batches for value in batch.rows["x"]]
    assert values == list(itertools.islice(itertools.cycle(range(height)), skip % height, skip % height + count))
    assert all(batch.rows.height == size for batch in batches[:-1])
    assert all(batch.start == batch.rows["x"][0] for batch in batches)


def test_mini_batches_without_count_never_end() -> None:
    """Without a count the table is repeated without end."""
    endless = mini_batches(pl.DataFrame({"x": [1, 2, 3]}), 2, None)
    assert [batch.rows["x"].to_list() for batch in itertools.islice(endless, 4)] == [[1, 2], [3, 1], [2, 3], [1, 2]]


@pytest.mark.parametrize(
    ("factors", "changed"),
    [
        ({}, {}),
        ({"Age": 10}, {"Age": [10, None, -30]}),
        ({"Age": 0.5}, {"Age": [0.5, None, -1.5]}),
        ({"Age": 2, "Gain": 4.0}, {"Age": [2, None, -6], "Gain": [2.0, 10.0, None]}),
        ({"Gain": 0}, {"Gain": [0.0, 0.0, None]}),
        ({"*": 10}, {"*": [10, 20, 30]}),
    ],
)
def test_only_rescaled_features_change(factors: Mapping[str, float], changed: Mapping[str, list[float | None]]) -> None:
    """The numbers of the features are multiplied; nulls and other features, such as numeric strings, are unchanged."""
    assert rescaled(FEATURES, factors).to_dict(as_series=False) == {**FEATURES.to_dict(as_series=False), **changed}


def test_feature_names_are_not_patterns() -> None:
    """A feature whose name looks like a pattern selects itself only."""
    features = pl.DataFrame({"^A.*$": [1], "Age": [1]})
    assert rescaled(features, {"^A.*$": 10}).rows() == [(10, 1)]


@pytest.mark.parametrize(
    ("column", "name"),
    [([1], "nope"), (["a"], "column_0"), ([True], "column_0"), ([None], "column_0")],
    ids=["unknown", "strings", "booleans", "nulls"],
)
def test_unknown_and_non_numeric_features_are_refused(column: list[object], name: str, golden: Golden) -> None:
    """An unknown or non-numeric feature is an error of the setting."""
    with golden.raises(SettingsError) as caught:
        rescaled(pl.DataFrame({"column_0": column}), {name: 2})
    (problem,) = caught.value.problems
    assert problem.startswith("stage.rescale: ")
    assert repr(name) in problem
