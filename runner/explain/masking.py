"""Records as they are masked: numbers of 64 bits as words that are swapped together, all else as polars holds it.

Array letters: N records, D features, C columns of numbers, S seats, k coalitions, R rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

WORDS: Mapping[pl.DataType, str] = {pl.Int64(): "i8", pl.UInt64(): "u8", pl.Float64(): "f8"}
"""Types of polars whose values are words, and how numpy calls them."""


@dataclass(frozen=True)
class Table:
    """N records.

    Attributes:
        names: of all columns.
        types: of the columns of numbers, by name.
        words_CN: the bits of these numbers.
        others: the other columns.
    """

    names: tuple[str, ...]
    types: Mapping[str, str]
    words_CN: NDArray[np.uint64]
    others: pl.DataFrame

    def __len__(self) -> int:
        return int(self.words_CN.shape[1])

    def take(self, places_N: NDArray[np.intp]) -> Table:
        """Return the records at some places."""
        return self._rows(self.words_CN.take(places_N, axis=1), places_N)

    def part(self, some: slice) -> Table:
        """Return some records that stand together."""
        return self._rows(self.words_CN[:, some], some)

    def frame(self) -> pl.DataFrame:
        """Return the records as polars has them."""
        return self._assembled(self.words_CN, {column.name: column for column in self.others})

    def differs(self, row: Table) -> NDArray[np.bool_]:
        """Return which values are not those of a single row of the same types, as booleans_ND; nulls equal nulls."""
        differs_DN = np.empty((len(self.names), len(self)), dtype=np.bool_)
        numbers, others = self._places()
        for d, kind, words_N, word_1 in zip(numbers, self.types.values(), self.words_CN, row.words_CN, strict=True):
            differs_DN[d] = words_N.view(kind) != word_1.view(kind)
        for d, column, other in zip(others, self.others, row.others, strict=True):
            differs_DN[d] = column.ne_missing(other).to_numpy()
        return differs_DN.T

    def swapped(self, row: Table, kept_Sk: NDArray[np.bool_], seat_DN: NDArray[np.intp]) -> pl.DataFrame:
        """Return N·k rows: of record n its own values where their seats are kept, else those of a single row.

        Args:
            row: of the same types.
            kept_Sk: which seats keep their own values in each of k rows.
            seat_DN: the seat of each value.
        """
        numbers, others = self._places()
        kept_CNk = kept_Sk.take(seat_DN[numbers], axis=0)
        words_CNk = np.where(kept_CNk, self.words_CN[:, :, None], row.words_CN[:, :, None])
        columns = zip(others, self.others, row.others, strict=True)
        swapped = {column.name: _swap(column, other, kept_Sk[seat_DN[d]]) for d, column, other in columns}
        return self._assembled(words_CNk.reshape(len(numbers), len(self) * kept_Sk.shape[1]), swapped)

    def _rows(self, words_CN: NDArray[np.uint64], some: NDArray[np.intp] | slice) -> Table:
        """Return the records with these words, which stand at some places; a frame without columns has no places."""
        return replace(self, words_CN=words_CN, others=self.others[some] if self.others.width else self.others)

    def _places(self) -> tuple[list[int], list[int]]:
        """Return where the columns of numbers stand, and the others."""
        places: tuple[list[int], list[int]] = ([], [])
        for d, name in enumerate(self.names):
            places[name not in self.types].append(d)
        return places

    def _assembled(self, words_CR: NDArray[np.uint64], others: Mapping[str, pl.Series]) -> pl.DataFrame:
        """Return R rows; the columns of a type are parts of one, which polars takes as it is."""
        R = words_CR.shape[1]
        words = words_CR.reshape(-1)
        all_of = {kind: pl.Series(words.view(kind)) for kind in set(self.types.values())}
        numbers = {name: all_of[kind].slice(c * R, R).alias(name) for c, (name, kind) in enumerate(self.types.items())}
        return pl.DataFrame([numbers[name] if name in numbers else others[name] for name in self.names])


def tables(features: pl.DataFrame, background: pl.DataFrame) -> tuple[Table, Table]:
    """Return records and background rows of the same types, so that one can stand in for the other."""
    nulls = zip(features.null_count().row(0), background.null_count().row(0), strict=True)
    columns = zip(features.columns, features.dtypes, nulls, strict=True)
    types = {name: WORDS[dtype] for name, dtype, nulls_2 in columns if dtype in WORDS and not any(nulls_2)}
    return _table(features, types), _table(background, types)


def slices(count: int, size: int) -> Iterator[slice]:
    """Return the parts of so many rows, one after another, each of a size but for the last.

    >>> list(slices(5, 3))
    [slice(0, 3, None), slice(3, 6, None)]
    """
    return (slice(lo, lo + size) for lo in range(0, count, size))


def _table(frame: pl.DataFrame, types: Mapping[str, str]) -> Table:
    columns = dict(zip(frame.columns, frame.get_columns(), strict=True))
    words_CN = np.empty((len(types), frame.height), dtype=np.uint64)
    for words_N, name in zip(words_CN, types, strict=True):
        words_N[:] = columns[name].to_numpy().view(np.uint64)
    others = pl.DataFrame([column for name, column in columns.items() if name not in types])
    return Table(tuple(columns), types, words_CN, others)


def _swap(column: pl.Series, replacement: pl.Series, own_Nk: NDArray[np.bool_]) -> pl.Series:
    """Return the column of N·k values: the n-th of `column` where kept, else the one of `replacement`."""
    N = len(column)
    rows_Nk = np.where(own_Nk, np.arange(N, dtype=np.uint32)[:, None], np.uint32(N))
    return pl.concat([column, replacement]).gather(rows_Nk.ravel())
