"""Samples of records, independent of the division into files and lines."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.sources.dataset import Dataset
from runner.sources.sample import hash_order
from tests.sources.reading import DATA

rows = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["a", "b"])), min_size=1, max_size=30)


@given(rows, st.integers(1, 30), st.randoms(use_true_random=False))
def test_sample_is_independent_of_the_order(records: list[tuple[int, str]], most: int, random: Random) -> None:
    """The sample contains the same values equally often, in any order of the records."""
    shuffled = random.sample(records, len(records))
    tables = [pl.DataFrame(some, schema=["i", "t"], orient="row") for some in (records, shuffled)]
    first, second = (sorted(table[hash_order(table)[:most]].rows()) for table in tables)
    assert first == second
    assert len(first) == min(most, len(records))


def test_sample_is_unbiased() -> None:
    """If a tenth of the records are equal, so is a tenth of the sample, within binomial error."""
    values_N = np.arange(20_000)
    values_N[:2_000] = 7
    drawn_N = values_N[hash_order(pl.DataFrame({"x": values_N}))[:5_000]]
    assert abs((drawn_N == 7).mean() - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 5_000)
    assert abs(drawn_N[drawn_N != 7].mean() - values_N[2_000:].mean()) < 4 * 5_200 / np.sqrt(4_500)


@pytest.mark.parametrize(("most", "expected"), [(None, 50), (50, 50), (100, 50), (20, 20)])
def test_dataset_is_sampled(tmp_path: Path, most: int | None, expected: int) -> None:
    """The sample is in the order of the file; the hash is that of the whole file."""
    path = tmp_path / "data.jsonl"
    path.write_text("".join(f'{{"features": [{i}, {i % 3}]}}\n' for i in range(50)))
    features, digest = Dataset(str(path), DATA, "data.dataset", max_records=most).read()
    assert features.height == expected
    assert features.to_series(0).is_sorted()
    assert digest == sha256(path.read_bytes()).hexdigest()
