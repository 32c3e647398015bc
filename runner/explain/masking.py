"""Tables of records that can be masked and hashed.

Columns of 64-bit numbers without nulls are stored as words, which are the bits of the numbers. All other columns are
stored as polars series.

Array letters: N records, D features, C columns of words, S positions, k coalitions, R rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Words = NDArray[np.uint64]

WORDS: Mapping[pl.DataType, str] = {pl.Int64(): "i8", pl.UInt64(): "u8", pl.Float64(): "f8"}
"""Polars types of 64 bits, with the corresponding numpy types."""
GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
"""Increment of splitmix64: 2^64 divided by the golden ratio."""
ONE = np.uint64(1)
NULL = np.uint64(0x5851F42D4C957F2D)
"""Word that stands for null in hashes."""
CHUNK = 2**12
"""Number of records that are hashed together; larger chunks would allocate new memory for every intermediate result."""


@dataclass(frozen=True)
class Table:
    """N records.

    Attributes:
        names: names of all columns.
        types: numpy types of the columns of words, by name.
        words_CN: bits of the values in these columns.
        others: the other columns.
    """

    names: tuple[str, ...]
    types: Mapping[str, str]
    words_CN: Words
    others: pl.DataFrame

    def __len__(self) -> int:
        return int(self.words_CN.shape[1])

    def take(self, rows_N: NDArray[np.intp]) -> Table:
        """Return the records with these indices."""
        return self._rows(self.words_CN.take(rows_N, axis=1), rows_N)

    def part(self, rows: slice) -> Table:
        """Return consecutive records."""
        return self._rows(self.words_CN[:, rows], rows)

    def frame(self) -> pl.DataFrame:
        """Return the records as a data frame."""
        return self._assemble(self.words_CN, {column.name: column for column in self.others})

    def differs(self, row: Table) -> NDArray[np.bool_]:
        """Return booleans_ND: whether each value differs from that of a single row; nulls equal nulls."""
        differs_DN = np.empty((len(self.names), len(self)), dtype=np.bool_)
        word_columns, other_columns = self._column_indices()
        words = zip(word_columns, self.types.values(), self.words_CN, row.words_CN, strict=True)
        for d, dtype, words_N, word_1 in words:
            differs_DN[d] = words_N.view(dtype) != word_1.view(dtype)
        for d, column, value in zip(other_columns, self.others, row.others, strict=True):
            differs_DN[d] = column.ne_missing(value).to_numpy()
        return differs_DN.T

    def mask(self, row: Table, is_own_Sk: NDArray[np.bool_], position_DN: NDArray[np.intp]) -> pl.DataFrame:
        """Return N·k rows: k versions of each record, in which some values are replaced by those of a single row.

        Args:
            row: replacement values, of the same types.
            is_own_Sk: whether each of the k versions has the record's own values at a position.
            position_DN: row of `is_own_Sk` that applies to each value; the values of one player share a row.
        """
        word_columns, other_columns = self._column_indices()
        is_own_CNk = is_own_Sk.take(position_DN[word_columns], axis=0)
        words_CNk = np.where(is_own_CNk, self.words_CN[:, :, None], row.words_CN[:, :, None])
        columns = zip(other_columns, self.others, row.others, strict=True)
        masked = {column.name: _mask(column, value, is_own_Sk[position_DN[d]]) for d, column, value in columns}
        return self._assemble(words_CNk.reshape(len(word_columns), len(self) * is_own_Sk.shape[1]), masked)

    def _rows(self, words_CN: Words, rows: NDArray[np.intp] | slice) -> Table:
        """Return a table of selected rows; a data frame without columns has no rows to select."""
        return replace(self, words_CN=words_CN, others=self.others[rows] if self.others.width else self.others)

    def _column_indices(self) -> tuple[list[int], list[int]]:
        """Return the indices of the columns of words, and of all others."""
        indices: tuple[list[int], list[int]] = ([], [])
        for d, name in enumerate(self.names):
            indices[name not in self.types].append(d)
        return indices

    def _assemble(self, words_CR: Words, others: Mapping[str, pl.Series]) -> pl.DataFrame:
        """Return R rows; columns of one type are slices of one series, which polars shares without a copy."""
        R = words_CR.shape[1]
        words = words_CR.reshape(-1)
        series = {dtype: pl.Series(words.view(dtype)) for dtype in set(self.types.values())}
        columns = {
            name: series[dtype].slice(c * R, R).alias(name) for c, (name, dtype) in enumerate(self.types.items())
        }
        return pl.DataFrame([columns[name] if name in columns else others[name] for name in self.names])


def tables(features: pl.DataFrame, background: pl.DataFrame) -> tuple[Table, Table]:
    """Return records and background rows as tables with the same types, so that their values are interchangeable."""
    nulls = zip(features.null_count().row(0), background.null_count().row(0), strict=True)
    columns = zip(features.columns, features.dtypes, nulls, strict=True)
    types = {name: WORDS[dtype] for name, dtype, nulls_2 in columns if dtype in WORDS and not any(nulls_2)}
    return _table(features, types), _table(background, types)


def slices(count: int, size: int) -> Iterator[slice]:
    """Return consecutive slices of `size` rows, the last one possibly shorter.

    >>> list(slices(5, 3))
    [slice(0, 3, None), slice(3, 6, None)]
    """
    return (slice(start, start + size) for start in range(0, count, size))


def hash_rows(features: pl.DataFrame) -> tuple[Words, Words]:
    """Return two independent hashes of each record's values; the second one detects collisions of the first.

    Equal numbers have equal hashes in integer, float and boolean columns; −0 equals 0.
    """
    salt_D1 = np.arange(1, features.width + 1, dtype=np.uint64)[:, None] * GOLDEN_RATIO
    keys_N, checks_N = np.empty(features.height, dtype=np.uint64), np.empty(features.height, dtype=np.uint64)
    for rows in slices(features.height, CHUNK):
        words_DN = mix_bits(_value_words(features[rows]) + salt_D1)
        keys_N[rows] = mix_bits(words_DN.sum(axis=0))
        checks_N[rows] = mix_bits((words_DN * (salt_D1 | ONE)).sum(axis=0))
    return keys_N, checks_N


def mix_bits(words: Words) -> Words:
    """Return words in which every bit depends on every bit of the input.

    Source: the finalizer of splitmix64; Steele, Lea and Flood (OOPSLA 2014).
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _table(frame: pl.DataFrame, types: Mapping[str, str]) -> Table:
    columns = dict(zip(frame.columns, frame.get_columns(), strict=True))
    words_CN = np.empty((len(types), frame.height), dtype=np.uint64)
    for words_N, name in zip(words_CN, types, strict=True):
        words_N[:] = columns[name].to_numpy().view(np.uint64)
    others = pl.DataFrame([column for name, column in columns.items() if name not in types])
    return Table(tuple(columns), types, words_CN, others)


def _mask(column: pl.Series, replacement: pl.Series, is_own_Nk: NDArray[np.bool_]) -> pl.Series:
    """Return a column of N·k values: the record's own value or the replacement."""
    N = len(column)
    rows_Nk = np.where(is_own_Nk, np.arange(N, dtype=np.uint32)[:, None], np.uint32(N))
    return pl.concat([column, replacement]).gather(rows_Nk.ravel())


def _value_words(features: pl.DataFrame) -> Words:
    """Return words_DN: one word per value, equal for equal values of a column."""
    words_DN = np.empty((features.width, features.height), dtype=np.uint64)
    columns_by_type: dict[pl.DataType, list[int]] = {}
    for d, column in enumerate(features):
        if _is_number(column) and not column.null_count():
            columns_by_type.setdefault(column.dtype, []).append(d)
        else:
            words_DN[d] = _words_with_nulls(column)
    for columns in columns_by_type.values():
        words_DN[columns] = _number_words(np.stack([features.to_series(d).to_numpy() for d in columns]))
    return words_DN


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype == pl.Boolean


def _words_with_nulls(column: pl.Series) -> Words:
    words_N = _number_words(column.fill_null(0).to_numpy()) if _is_number(column) else _string_words(column)
    return np.where(column.is_null().to_numpy(), NULL, words_N) if column.null_count() else words_N


def _number_words(values: NDArray[Any]) -> Words:
    """Return the bits of values after conversion to floats; for integers beyond ±2^53, a hash of their own bits."""
    floats = values.astype(np.float64) + 0.0
    words = floats.view(np.uint64)
    if values.dtype.kind in "iu":
        beyond = abs(floats) > 2.0**53
        if beyond.any():
            return np.where(beyond, mix_bits(values.astype(np.uint64, casting="unsafe")), words)
    return words


def _string_words(column: pl.Series) -> Words:
    """Return a hash of each string; each distinct string is hashed once."""
    strings_N = column.cast(pl.String).fill_null("")
    distinct = strings_N.unique()
    digests = [hashlib.blake2b(string.encode(), digest_size=8).digest() for string in distinct]
    words = pl.Series(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))
    return strings_N.replace_strict(distinct, words).to_numpy()
