"""What a record holds, as numbers: to know it again, and to draw the same randomness for it wherever it stands.

Array letters: N records, D features.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.explain.table import slices

Words = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ONE = np.uint64(1)
NULL = np.uint64(0x5851F42D4C957F2D)
CHUNK = 2**14
"""Records that are looked at together, to bound the memory."""


def keys(features: pl.DataFrame) -> tuple[Words, Words]:
    """Return two hashes of each record's values, keys_N and others to tell apart what has the same key by chance.

    A value counts the same as an integer, a float or a boolean column, and −0 as 0.
    """
    place_D1 = np.arange(1, features.width + 1, dtype=np.uint64)[:, None] * GOLDEN
    keys_N, others_N = np.empty(features.height, dtype=np.uint64), np.empty(features.height, dtype=np.uint64)
    for some in slices(features.height, CHUNK):
        words_DN = mix(np.stack([_words(column) for column in features[some]]) + place_D1)
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


def _words(column: pl.Series) -> Words:
    """Return a number for each value of a column, the same for the same value."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        words_N = _numbers(column.fill_null(0) if column.null_count() else column)
    else:
        words_N = _texts(column)
    return np.where(column.is_null().to_numpy(), NULL, words_N) if column.null_count() else words_N


def _numbers(column: pl.Series) -> Words:
    """Return the bits of the floats, and for integers that no float holds their own as well."""
    values_N = column.to_numpy()
    floats_N = values_N.astype(np.float64) + 0.0
    words_N = floats_N.view(np.uint64)
    if column.dtype.is_integer():
        beyond_N = abs(floats_N) > 2.0**53
        if beyond_N.any():
            return np.where(beyond_N, mix(values_N.astype(np.uint64, casting="unsafe")), words_N)
    return words_N


def _texts(column: pl.Series) -> Words:
    """Return a hash of each text, taken once for each different one."""
    texts_N = column.cast(pl.String).fill_null("")
    different = texts_N.unique()
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in different]
    words = pl.Series(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))
    return texts_N.replace_strict(different, words).to_numpy()
