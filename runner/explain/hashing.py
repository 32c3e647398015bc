"""What a record holds, as numbers: to know it again, and to draw the same randomness for it wherever it stands.

Array letters: N records, D features.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.explain.masking import slices

Words = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ONE = np.uint64(1)
NULL = np.uint64(0x5851F42D4C957F2D)
CHUNK = 2**12
"""Records that are looked at together; of more, the intermediate results cost fresh memory each time."""


def keys(features: pl.DataFrame) -> tuple[Words, Words]:
    """Return two hashes of each record's values, keys_N and others to tell apart what has the same key by chance.

    A value counts the same as an integer, a float or a boolean column, and −0 as 0.
    """
    place_D1 = np.arange(1, features.width + 1, dtype=np.uint64)[:, None] * GOLDEN
    keys_N, others_N = np.empty(features.height, dtype=np.uint64), np.empty(features.height, dtype=np.uint64)
    for some in slices(features.height, CHUNK):
        words_DN = mix(_words(features[some]) + place_D1)
        keys_N[some] = mix(words_DN.sum(axis=0))
        others_N[some] = mix((words_DN * (place_D1 | ONE)).sum(axis=0))
    return keys_N, others_N


def mix(words: Words) -> Words:
    """Return words with every bit depending on every bit.

    Source: the finaliser of splitmix64; Steele, Lea and Flood (OOPSLA 2014).
    """
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def _words(features: pl.DataFrame) -> Words:
    """Return words_DN: a number for each value, the same for the same value of a column."""
    words_DN = np.empty((features.width, features.height), dtype=np.uint64)
    alike: dict[pl.DataType, list[int]] = {}
    for d, column in enumerate(features):
        if _is_number(column) and not column.null_count():
            alike.setdefault(column.dtype, []).append(d)
        else:
            words_DN[d] = _with_nulls(column)
    for places in alike.values():
        words_DN[places] = _numbers(np.stack([features.to_series(d).to_numpy() for d in places]))
    return words_DN


def _is_number(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype == pl.Boolean


def _with_nulls(column: pl.Series) -> Words:
    words_N = _numbers(column.fill_null(0).to_numpy()) if _is_number(column) else _texts(column)
    return np.where(column.is_null().to_numpy(), NULL, words_N) if column.null_count() else words_N


def _numbers(values: NDArray[Any]) -> Words:
    """Return the bits of values as floats, and for integers that no float holds their own as well."""
    floats = values.astype(np.float64) + 0.0
    words = floats.view(np.uint64)
    if values.dtype.kind in "iu":
        beyond = abs(floats) > 2.0**53
        if beyond.any():
            return np.where(beyond, mix(values.astype(np.uint64, casting="unsafe")), words)
    return words


def _texts(column: pl.Series) -> Words:
    """Return a hash of each text, taken once for each different one."""
    texts_N = column.cast(pl.String).fill_null("")
    different = texts_N.unique()
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in different]
    words = pl.Series(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))
    return texts_N.replace_strict(different, words).to_numpy()
