"""Tests of the inputs: calibration, and the changes that they detect."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, ks_2samp

from runner.drift.causes import likely_cause
from runner.drift.inputs import compare_inputs
from tests.golden import Golden

NAMES = ["x", "codes", "category", "gaps", "flag"]


def inputs(rows: int, seed: int) -> pl.DataFrame:
    """Return records with numbers, codes, categories, missing values and booleans."""
    rng = np.random.default_rng(seed)
    missing = rng.random(rows) < 0.1
    gaps = [None if each else value for each, value in zip(missing, rng.normal(size=rows).tolist(), strict=True)]
    return pl.DataFrame(
        {
            "x": rng.normal(size=rows),
            "codes": rng.integers(0, 30, rows),
            "category": rng.choice(["a", "b", "c"], rows),
            "gaps": gaps,
            "flag": rng.random(rows) < 0.3,
        }
    )


REFERENCE, LIVE = inputs(1000, 0), inputs(300, 1)


def test_p_values_raise_no_more_alarms_than_the_level() -> None:
    """Windows come from the population of the reference."""
    p = np.array(
        [[each.p for each in compare_inputs(inputs(200, 2 * i), inputs(100, 2 * i + 1), NAMES)] for i in range(100)]
    )
    for level in (0.05, 0.2):
        assert ((p <= level).sum(axis=0) <= binom.ppf(0.999, len(p), level)).all()


def test_distance_equals_scipy() -> None:
    """The distance of numbers is the Kolmogorov-Smirnov statistic."""
    found = compare_inputs(REFERENCE, LIVE, ["x"])[0]
    assert found.distance == pytest.approx(ks_2samp(REFERENCE["x"], LIVE["x"]).statistic)


@pytest.mark.parametrize(
    ("name", "change", "sizes"),
    [
        ("x", pl.lit(None, dtype=pl.Float64), {"missing_now": 1.0}),
        ("x", pl.col("x") + 100, {"unseen": 1.0, "distance": 1.0}),
        ("x", pl.lit(0.5), {"constant": True}),
        ("codes", pl.col("codes") + 1000, {"unseen": 1.0}),
        ("category", pl.col("category") + " ", {"unseen": 1.0, "vanished": 1.0, "distance": 1.0}),
        ("category", pl.col("category").replace("c", "a"), {"unseen": 0.0}),
        ("gaps", pl.col("gaps").fill_null(0.0), {"missing_now": 0.0}),
        ("flag", pl.lit(value=True), {"constant": True}),
        ("x", pl.col("x").cast(pl.String), {"unseen": 1.0}),
    ],
    ids=["missing", "offset", "constant", "codes", "blank", "merged", "filled", "boolean", "text"],
)
def test_each_kind_of_change_is_detected(name: str, change: pl.Expr, sizes: dict[str, float]) -> None:
    """Other features are unaffected."""
    results = {each.name: each for each in compare_inputs(REFERENCE, LIVE.with_columns(change.alias(name)), NAMES)}
    assert results[name].p < 1e-6
    assert {key: getattr(results[name], key) for key in sizes} == pytest.approx(sizes)
    assert min(each.p for key, each in results.items() if key != name) > 1e-3


def test_constant_feature_of_both_sides_is_no_change() -> None:
    """Also without any value."""
    constant = pl.DataFrame({"a": [1.0] * 50, "b": [None] * 50})
    assert [(each.p, each.size) for each in compare_inputs(constant, constant, ["a", "b"])] == [(1.0, 0.0), (1.0, 0.0)]


def codes(rows: int, seed: int, values: int) -> pl.DataFrame:
    """Return records with many codes, few of them frequent."""
    rng = np.random.default_rng(seed)
    share = 1 / np.sqrt(np.arange(1, values + 1))
    return pl.DataFrame({"code": rng.choice(values, rows, p=share / share.sum()).astype(str)})


@pytest.mark.parametrize(("values", "rows"), [(2000, (1000, 300)), (200, (1000, 300)), (2000, (300, 3000))])
def test_many_categories_are_not_unseen_and_vanished_without_drift(values: int, rows: tuple[int, int]) -> None:
    """The expected share of unseen codes is right on average; the sizes of the change are small."""
    found = [
        compare_inputs(codes(rows[0], 2 * i, values), codes(rows[1], 2 * i + 1, values), ["code"])[0] for i in range(50)
    ]
    excess = np.array([each.unseen - each.unseen_expected for each in found])
    assert abs(excess.mean()) < 3 * excess.std() / np.sqrt(50)
    assert sum(each.newly_unseen > 0 for each in found) <= binom.ppf(0.999, 50, 0.02)
    assert max(each.moved for each in found) < 0.1
    assert max(each.vanished for each in found) == 0


@pytest.mark.parametrize("share", [0.06, 0.5])
def test_frequent_one_of_many_categories(share: float, golden: Golden) -> None:
    """The size is the growth of its share, although most codes of the window are unseen; the cause is this code."""
    reference, live = codes(1000, 1, 5000), codes(300, 2, 5000)
    now = live.with_columns(pl.when(pl.int_range(300) < 300 * share).then(pl.lit("77")).otherwise("code").alias("code"))
    found = compare_inputs(reference, now, ["code"])[0]
    assert found.p < 1e-6
    assert found.moved == pytest.approx(share, abs=0.02)
    assert found.invalid == 0
    golden(getattr(likely_cause(reference["code"], now["code"]), "text", ""))


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_unknown_codes_in_place_of_known_ones(share: float, golden: Golden) -> None:
    """Their share is that of the records that changed, although many codes are unseen anyway."""
    reference, live = codes(1000, 3, 1000), codes(300, 4, 1000)
    changed = pl.when(pl.int_range(300) < 300 * share).then(pl.lit("x") + pl.col("code")).otherwise("code")
    now = live.with_columns(changed.alias("code"))
    found = compare_inputs(reference, now, ["code"])[0]
    assert found.unseen_expected > 0.2
    assert found.invalid == pytest.approx(share, abs=0.12)
    golden(getattr(likely_cause(reference["code"], now["code"]), "text", ""))
