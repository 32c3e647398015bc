"""The background: the rows that masked features are replaced with (`shap.baseline` on the surface).

Array letters: D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from runner.errors import BackgroundError

LARGEST = 1e100
"""Numbers beyond it are taken for mistakes."""


def mean(features: pl.DataFrame) -> pl.DataFrame:
    """Return one row of column means, rounded half to even where the column holds integers, so that they stay legal.

    Raises:
        BackgroundError: when a column holds no numbers.

    >>> mean(pl.DataFrame({"age": [40, 41], "rate": [0.5, 1.0]})).row(0)
    (40, 0.75)
    """
    row = {}
    for column in features:
        if not column.dtype.is_numeric():
            kind = "nothing but nulls" if column.dtype == pl.Null else column.dtype
            raise BackgroundError(f"'mean' needs numbers, but feature {column.name!r} holds {kind}; give rows instead")
        value = float(np.mean(column.drop_nulls().to_numpy().astype(np.float64)))
        row[column.name] = round(value) if column.dtype.is_integer() else value
    return pl.DataFrame([pl.Series(name, [value], dtype=features.schema[name]) for name, value in row.items()])


def given(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> pl.DataFrame:
    """Return the rows a user gave as a table.

    Raises:
        BackgroundError: when there is none, or a row has another number of values than there are features.
    """
    if not rows:
        raise BackgroundError("no row; give at least one, or 'mean'")
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise BackgroundError(f"row {i} has {len(row)} values, the data has {len(names)} features")
    return pl.DataFrame([_given_column(name, [row[d] for row in rows]) for d, name in enumerate(names)])


def _given_column(name: str, values: list[Any]) -> pl.Series:
    known = [value for value in values if value is not None]
    kinds = {{str: "text", bool: "boolean"}.get(type(value), "number") for value in known}
    numbers = kinds == {"number"}
    if numbers and not all(isinstance(value, int | float) and abs(value) < LARGEST for value in known):
        raise BackgroundError(f"feature {name!r} has {values}; expected numbers, texts, booleans or nulls")
    if len(kinds) > 1:
        raise BackgroundError(f"feature {name!r} has values of different kinds: {values}")
    if numbers and any(isinstance(value, float) or abs(value) >= 2**63 for value in known):
        return pl.Series(name, [None if value is None else float(value) for value in values], dtype=pl.Float64)
    return pl.Series(name, values)


def align(background: pl.DataFrame, features: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return background and features with the same column types, so that one can stand in for the other.

    Integers on both sides stay integers; a float on either side makes the column a float column.

    Raises:
        BackgroundError: when a feature holds numbers on one side and texts on the other.
    """
    if background.columns != features.columns:
        background = pl.DataFrame([background[name] for name in features.columns])
    if background.dtypes == features.dtypes:
        return background, features
    left, right = [], []
    for column, replacement in zip(features, background, strict=True):
        ours, theirs = column.dtype, replacement.dtype
        if ours.is_integer() and theirs.is_float() and _integral(replacement):
            theirs = ours
        if pl.Null in (ours, theirs):
            common = theirs if ours == pl.Null else ours
        elif ours.is_numeric() and theirs.is_numeric():
            common = ours if ours == theirs else pl.Float64()
        elif ours == theirs:
            common = ours
        else:
            problem = f"feature {column.name!r} is {replacement[0]!r} there, but the records hold {column[0]!r}"
            raise BackgroundError(problem)
        left.append(replacement.cast(common))
        right.append(column.cast(common))
    return pl.DataFrame(left), pl.DataFrame(right)


def _integral(column: pl.Series) -> bool:
    """Return whether all numbers of a float column are integers of 64 bits."""
    values = column.drop_nulls()
    return bool(((values == values.round()) & (values.abs() < 2**63)).all())


def identity(background: pl.DataFrame) -> str:
    """Return a hash of the background's names and values; an integer is the same as a float or not."""
    rows = [[int(v) if isinstance(v, float) and v.is_integer() else v for v in row] for row in background.rows()]
    return hashlib.sha256(json.dumps([background.columns, rows]).encode()).hexdigest()
