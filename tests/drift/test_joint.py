"""Tests of joint changes: associations of two features, and the classifier two-sample test."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
from scipy.stats import binom, ks_2samp
from sklearn.linear_model import Ridge

from runner.drift.joint import (
    Columns,
    _ridge,
    changed_association,
    changed_together,
    exchanged_values,
    separability,
)


def records(rows: int, correlation: float, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Return inputs and attributions of three features, with a correlation between the first two."""
    rng = np.random.default_rng(seed)
    values_ND = rng.normal(size=(rows, 3))
    values_ND[:, 1] = correlation * values_ND[:, 0] + np.sqrt(1 - correlation**2) * values_ND[:, 1]
    features = pl.DataFrame(values_ND, schema=["a", "b", "c"])
    return features.with_columns(pl.Series("d", rng.choice(["u", "v", "w"], rows))), values_ND * [1, 2, 3]


def test_p_values_raise_no_more_alarms_than_the_level() -> None:
    """Windows without drift."""
    p = []
    for i in range(200):
        (before, before_ND), (now, now_ND) = records(120, 0.5, 2 * i), records(80, 0.5, 2 * i + 1)
        columns = Columns.of(before, now)
        association = changed_association(columns)
        assert association is not None
        p.append((separability(columns, before_ND, now_ND, np.random.default_rng(i)).p, association.p))
    for level in (0.05, 0.2, 0.5):
        assert ((np.array(p) <= level).sum(axis=0) <= binom.ppf(0.999, len(p), level)).all()


def test_changed_correlation_is_detected() -> None:
    """The distribution of each feature is unchanged."""
    (before, before_ND), (now, now_ND) = records(600, 0.0, 1), records(300, 0.6, 2)
    assert min(ks_2samp(before_ND[:, d], now_ND[:, d]).pvalue for d in range(3)) > 0.01
    columns = Columns.of(before, now)
    association = changed_association(columns)
    assert association is not None
    assert ({association.first, association.second}, association.p < 1e-9) == ({"a", "b"}, True)
    assert association.before == pytest.approx(0, abs=0.1)
    assert association.now == pytest.approx(0.6, abs=0.1)
    found = separability(columns, before_ND, now_ND, np.random.default_rng(0))
    assert found.p is not None
    assert found.p < 1e-3
    assert found.value is not None
    assert found.noise is not None
    assert found.value > 0.58 > found.noise > 0.5


def test_rare_categories_raise_no_more_alarms_than_the_level() -> None:
    """Few live records with a rare category and a missing value: the mean product is far from normal."""
    p = []
    for i in range(300):
        rng = np.random.default_rng(i)
        sides = []
        for rows in (600, 12):
            numbers = pl.Series("a", np.where(rng.random(rows) < 0.04, np.nan, rng.normal(size=rows))).fill_nan(None)
            sides.append(pl.DataFrame([numbers, pl.Series("b", rng.choice(["u", "v"], rows, p=[0.95, 0.05]))]))
        association = changed_association(Columns.of(*sides))
        assert association is not None
        p.append(association.p)
    for level in (0.001, 0.01, 0.1):
        assert (np.array(p) <= level).sum() <= binom.ppf(0.999, len(p), level)


@pytest.mark.parametrize("rows", [(600, 300), (300, 3000)])
@pytest.mark.parametrize("change", ["noise", "other records"])
def test_deviation_from_the_other_features_is_detected(change: str, rows: tuple[int, int]) -> None:
    """Each pair of features is nearly as before, but all others together predict one of them less."""
    rng = np.random.default_rng(5)
    before_ND, now_ND = (rng.normal(size=(count, 6)) for count in rows)
    for side_ND in (before_ND, now_ND):
        side_ND[:, 0] = side_ND[:, 1:].sum(axis=1) / np.sqrt(5) + 0.2 * side_ND[:, 0]
    now_ND[:, 0] = (
        rng.permutation(now_ND[:, 0]) if change == "other records" else now_ND[:, 0] + rng.normal(size=rows[1])
    )
    sides = [pl.DataFrame(side_ND, schema=list("abcdef")) for side_ND in (before_ND, now_ND)]
    association = changed_association(Columns.of(*sides))
    assert association is not None
    assert (association.first, association.p < 1e-9) == ("a", True)
    assert association.deviation_before < 0.7
    assert 0.6 < association.unexplained < 1.4
    assert -1 <= min(association.before, association.now) < max(association.before, association.now) <= 1


def test_deviations_of_codes_are_those_of_their_values() -> None:
    """A number that follows from codes in any order deviates if it comes from other records."""
    rng = np.random.default_rng(6)
    codes = [rng.integers(0, 8, count) for count in (600, 200)]
    values = [np.array([3.0, 0.0, 7.0, 1.0, 5.0, 2.0, 6.0, 4.0])[side] for side in codes]
    values[1] = rng.permutation(values[1])
    sides = [pl.DataFrame({"code": code, "value": value}) for code, value in zip(codes, values, strict=True)]
    association = changed_association(Columns.of(*sides))
    assert association is not None
    assert association.p < 1e-9
    assert association.deviation_before < 0.5 < association.deviation_now


def test_equal_records_have_p_value_1() -> None:
    """Constant features are supported; a single one has no association."""
    columns = Columns.of(pl.DataFrame({"a": [1.0] * 40}), pl.DataFrame({"a": [1.0] * 30}))
    found = separability(columns, np.ones((40, 3)), np.ones((30, 3)), np.random.default_rng(0))
    assert found.p == pytest.approx(1.0)
    assert changed_association(columns) is None


@pytest.mark.parametrize("shape", [(30, 5), (5, 30), (8, 8)])
def test_ridge_regression_of_few_and_many_terms(shape: tuple[int, int]) -> None:
    """The weights equal those of scikit-learn."""
    rng = np.random.default_rng(0)
    terms_KF, target_K = rng.normal(size=shape), rng.normal(size=shape[0])
    fitted = Ridge(alpha=0.7, fit_intercept=False).fit(terms_KF, target_K)
    assert _ridge(terms_KF, target_K, 0.7) == pytest.approx(fitted.coef_)


def test_same_seed_gives_the_same_result() -> None:
    """Results are bit-identical, also if records are sampled."""
    (before, before_ND), (now, now_ND) = records(1200, 0.3, 1), records(50, 0.3, 2)
    first, second = (
        separability(Columns.of(before, now), before_ND, now_ND, np.random.default_rng(3)) for _ in range(2)
    )
    assert first == second


CODES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "2 and 4 exchanged": lambda codes, _: np.select([codes == 2, codes == 4], [4, 2], codes),
    "1 and 3 exchanged": lambda codes, _: np.select([codes == 1, codes == 3], [3, 1], codes),
    "unchanged": lambda codes, _: codes,
    "reversed": lambda codes, _: 6 - codes,
    "of other records": lambda codes, rng: rng.permutation(codes),
    "4 for 5": lambda codes, _: np.where(codes == 5, 4, codes),
}


@pytest.mark.parametrize("change", CODES)
@pytest.mark.parametrize("as_type", [pl.Int64, pl.Float64, pl.String])
def test_exchanged_values_are_named(change: str, as_type: type[pl.DataType]) -> None:
    """Only an exchange of two values is one, also if the shares of both are equal."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        sides = []
        for rows in (1000, 400):
            ability = rng.normal(size=rows)
            codes = (3 + ability + 0.7 * rng.normal(size=rows)).round().clip(1, 5)
            sides.append((codes, np.exp(8 + 0.3 * ability + 0.3 * rng.normal(size=rows))))
        live = CODES[change](sides[1][0], rng)
        tables = [
            pl.DataFrame({"code": pl.Series(codes).cast(pl.Int64).cast(as_type), "income": income})
            for codes, income in (sides[0], (live, sides[1][1]))
        ]
        found = exchanged_values("code", "income", *tables)
        if not change.endswith("exchanged"):
            assert found is None
        elif found is not None or seed == 0:
            assert found is not None
            assert [int(float(value)) for value in found] == [int(change[0]), int(change[6])]


def test_exchanged_values_need_several_values_and_another_feature_that_varies() -> None:
    """Two values, a constant and missing values are no error."""
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"code": rng.integers(0, 2, 100), "many": rng.integers(0, 5, 100), "constant": np.ones(100)})
    assert exchanged_values("code", "many", table, table) is None
    assert exchanged_values("many", "constant", table, table) is None
    empty = table.with_columns(many=pl.lit(None, dtype=pl.Int64))
    assert exchanged_values("many", "code", table, empty) is None


def together(shift: float, seed: int, effect: float = 0.0) -> float:
    """Return the p-value of a joint change of six inputs that move by the same difference."""
    rng = np.random.default_rng(seed)
    sides = [rng.normal(size=(rows, 6)) + move for rows, move in ((300, 0.0), (200, shift))]
    scores_KL = np.concatenate(sides).sum(axis=1, keepdims=True)
    scores_KL[300:] += effect
    columns = Columns.of(*(pl.DataFrame(side_ND, schema=list("abcdef")) for side_ND in sides))
    return changed_together(columns, scores_KL, rng)


def test_scores_of_another_model_are_no_change_of_the_inputs() -> None:
    """The p-value of the inputs has its level, although all scores changed."""
    p = np.array([together(0.0, seed, effect=9.0) for seed in range(100)])
    for level in (0.05, 0.2):
        assert (p <= level).sum() <= binom.ppf(0.999, len(p), level)


def test_small_changes_of_many_inputs_add_up() -> None:
    """Each one by itself would rarely be significant among the tests of a window."""
    assert np.median([together(0.2, seed) for seed in range(9)]) < 1e-4
