"""Swapped and copied columns: statements are true of the change that was made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from runner.drift.changed_columns import copied, swapped
from tests.golden import Golden

Values = np.ndarray
CITIES = ["Bern", "Graz", "Linz", "Ulm"]
COLOURS = ["red", "blue", "green"]


def inputs(seed: int, rows: int) -> pl.DataFrame:
    """Return standardized columns with one distribution, and numbers and strings with others."""
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            **{f"z{i}": rng.normal(size=rows) for i in range(4)},
            "age": rng.integers(18, 90, rows),
            "rate": rng.beta(2, 9, rows),
            "income": np.exp(rng.normal(10.3, 0.6, rows)),
            "city": rng.choice(CITIES, rows, p=[0.4, 0.3, 0.2, 0.1]),
            "colour": rng.choice(COLOURS, rows, p=[0.5, 0.3, 0.2]),
            "other_city": rng.choice(CITIES, rows, p=[0.1, 0.1, 0.2, 0.6]),
            "member": rng.random(rows) < 0.4,
        }
    )


@pytest.mark.parametrize("pair", [("age", "income"), ("rate", "z0"), ("city", "colour"), ("city", "other_city")])
def test_swapped_columns_name_each_other(pair: tuple[str, str], golden: Golden) -> None:
    """Numbers and strings, also strings of one vocabulary, and together with other changed features."""
    first, second = pair
    before, now = inputs(1, 1000), inputs(2, 400)
    now = now.with_columns(pl.col(second).alias(first), pl.col(first).alias(second), z3=pl.col("z3") + 1)
    found = swapped([first, "z3", second], before, now)
    assert found.keys() == {first, second}
    golden(f"{first}: {found[first].text}\n{second}: {found[second].text}")
    assert not copied([first, second], before, now)


CHANGES: dict[str, Callable[[Values, np.random.Generator], Values]] = {
    "zeros in 6 %": lambda z, rng: np.where(rng.random(len(z)) < 0.06, 0, z),
    "-99 in 6 %": lambda z, rng: np.where(rng.random(len(z)) < 0.06, -99, z),
    "rounded to 1 decimal": lambda z, _: z.round(1),
    "rounded to 4 decimals": lambda z, _: z.round(4),
    "higher": lambda z, _: z + 2,
    "opposite sign": lambda z, _: -z,
    "nothing": lambda z, _: z,
}


@pytest.mark.parametrize("change", CHANGES)
def test_columns_with_one_distribution_are_never_called_swapped(change: str) -> None:
    """The values of each are like those of all others, with and without the same change in two of them."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        before, now = inputs(2 * seed, 1000), inputs(2 * seed + 1, 300)
        now = now.with_columns(pl.Series(name, CHANGES[change](now[name].to_numpy(), rng)) for name in ("z0", "z1"))
        assert not swapped(["z0", "z1", "z2"], before, now)
        assert not copied(["z0", "z1"], before, now)


def test_a_pair_is_the_closest_of_several() -> None:
    """Columns that resemble a swapped one are not called swapped instead of it."""
    before, now = inputs(3, 1000), inputs(4, 400)
    before, now = (side.with_columns(rates=pl.col("rate") * 1.04) for side in (before, now))
    now = now.with_columns(rate=pl.col("income"), income=pl.col("rate"), rates=pl.col("rates") + 3)
    assert swapped(["rates", "income", "rate"], before, now).keys() == {"income", "rate"}


@pytest.mark.parametrize(("name", "source"), [("income", "age"), ("city", "colour"), ("z0", "z1"), ("rate", "age")])
def test_copied_column_names_its_source(name: str, source: str, golden: Golden) -> None:
    """A copy has equal values in each record; some may be missing."""
    before, now = inputs(5, 1000), inputs(6, 300)
    now = now.with_columns(pl.when(pl.int_range(300) % 9 != 0).then(pl.col(source)).alias(name))
    assert copied([name], before, now).keys() == {name}
    golden(copied([name], before, now)[name].text)
    assert not copied([name], before, inputs(6, 300))


def test_equal_frequent_values_are_no_copy() -> None:
    """Two columns are almost always 0 in an outage: nothing was copied."""
    rng = np.random.default_rng(7)
    before = pl.DataFrame({name: np.where(rng.random(900) < 0.4, 0, rng.normal(size=900)) for name in "ab"})
    now = pl.DataFrame({name: np.where(rng.random(300) < 0.98, 0, rng.normal(size=300)) for name in "ab"})
    assert not copied(["a"], before, now)
    assert not copied(["a"], before, now.with_columns(a=0.0, b=0.0))
    assert not copied(["a"], before, now.with_columns(a=pl.lit(None, pl.Float64)))
