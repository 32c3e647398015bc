"""Likely causes of a change, derived from the values of a feature."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import InputResult, Level
from runner.drift.causes import MOST_CAUSES, REVERSED, SAME, likely_cause, with_causes
from runner.drift.detect import detect_drift
from tests.drift.samples import HOUR, POLICY, SCALES, compared, local_attributions
from tests.golden import Golden

RNG = np.random.default_rng(8)
HOURS = RNG.integers(1, 80, 1000).astype(float)
SEX = (RNG.random(1000) < 0.7).astype(float)
BALANCE = RNG.normal(3, 4, 1000)
INCOME = np.exp(RNG.normal(10.3, 0.6, 1000)).round()
AGE = RNG.normal(41, 12, 1000).clip(18, 90).round()
CHANNEL = RNG.choice(["branch", "broker", "web", "phone"], 3000, p=[0.4, 0.15, 0.35, 0.1])


def cause_of(before: pl.Series, now: pl.Series) -> str:
    """Return the text of the likely cause."""
    cause = likely_cause(before, now)
    return cause.text if cause else SAME


@pytest.mark.parametrize(
    ("values", "change"),
    [
        (HOURS, lambda v: v / 10),
        (HOURS, lambda v: v * 60),
        (HOURS, lambda v: v * 12),
        (BALANCE, lambda v: v / 0.45359237),
        (BALANCE, lambda v: -v),
        (SEX, lambda v: 1 - v),
        (np.floor(HOURS / 30), lambda v: v + 1),
        (np.floor(HOURS / 30), lambda v: v - 1),
        (HOURS, lambda v: v * 0 + 40),
        (BALANCE, lambda v: v + 5),
        (np.floor(HOURS / 30), lambda v: np.where(v == 0, 2, v)),
        (np.floor(HOURS / 30), lambda v: np.where(v == 0, 7, v)),
        (HOURS, lambda v: v),
        (INCOME, lambda v: v * 100),
        (INCOME, lambda v: v * 1.65),
        (INCOME, lambda v: v * 30.4375),
        (INCOME, np.log),
        (INCOME, lambda v: (v - v.mean()) / v.std()),
        (INCOME, lambda v: np.minimum(v, 50_000)),
        (INCOME, lambda v: np.maximum(v, 20_000)),
        (INCOME, lambda v: np.where(np.arange(len(v)) % 3 == 0, 0, v)),
        (INCOME, lambda v: np.where(np.arange(len(v)) % 3 == 0, np.median(v), v)),
        (INCOME, lambda v: np.where(np.arange(len(v)) % 2 == 0, v * 100, v)),
        (INCOME, lambda v: np.where(np.arange(len(v)) % 2 == 0, -v, v)),
        (INCOME, lambda v: (v / 1000).round() * 1000),
        (AGE, lambda v: 2026 - v),
        (AGE, lambda v: (v / 10).round() * 10),
        (AGE, lambda v: np.where(np.arange(len(v)) % 10 == 0, -1, v)),
        (BALANCE, lambda v: v + np.random.default_rng(1).normal(0, 8, len(v))),
    ],
)
def test_cause_of_changed_numbers(
    values: np.ndarray, change: Callable[[np.ndarray], np.ndarray], golden: Golden
) -> None:
    """Each kind of change is recognized in other records than those of the reference."""
    golden(cause_of(pl.Series(values[:600]), pl.Series(change(values[600:]))))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (["US"] * 9 + ["DE"], ["US"] * 5 + ["FR"] * 5),
        (["US"] * 9 + ["DE"], ["US"] * 4 + ["DE"] * 6),
        (["US"] * 9 + ["DE"], ["US"] * 9 + ["DE"]),
        ([1.0, 2.0] * 5, [1.0, None] * 5),
        ([None, None], [None, None]),
        ([True, False], [True, True]),
        ([1, 2, 3] * 9, ["1", "2", "x"] * 9),
        (["<b>"] * 9, ["'\n"] * 4 + ['"'] * 5),
    ],
)
def test_cause_of_other_changed_values(before: list[Any], now: list[Any], golden: Golden) -> None:
    """Strings, booleans, nulls and changed types are recognized."""
    golden(cause_of(pl.Series(before), pl.Series(now)))


@pytest.mark.parametrize(
    "change",
    [
        lambda v: np.where(np.arange(len(v)) % 3 == 0, np.char.add(" ", v), v),
        lambda v: np.where(v == "web", "WEB", v),
        lambda v: np.where(v == "broker", "branch", v),
        lambda v: np.where(v == "broker", "partner", v),
        lambda v: np.where(v == "broker", np.where(np.arange(len(v)) % 2 == 0, "partner", "web"), v),
        lambda v: v[v != "broker"],
        lambda v: np.where(np.arange(len(v)) % 6 == 0, "kiosk", v),
        lambda v: np.where(v == "phone", "branch", np.where(v == "branch", "phone", v)),
        lambda v: v,
    ],
    ids=["blank", "case", "merged", "renamed", "renamed in part", "vanished", "new", "swapped", "unchanged"],
)
def test_cause_of_changed_categories(change: Callable[[np.ndarray], np.ndarray], golden: Golden) -> None:
    """New, vanished, merged and renamed categories, and other spellings, are recognized."""
    golden(cause_of(pl.Series(CHANNEL[:1000]), pl.Series(change(CHANNEL[1000:]))))


MISSING = np.array(
    [None if gap else hours for hours, gap in zip(HOURS, np.random.default_rng(4).random(1000) < 0.2, strict=True)]
)


@pytest.mark.parametrize("value", [-1, 0, 999, 33.5])
def test_values_in_place_of_missing_ones_are_named(value: float, golden: Golden) -> None:
    """The value that replaces missing ones, and its share."""
    before = pl.Series(MISSING[:600].tolist())
    cause = cause_of(before, pl.Series(MISSING[600:].tolist()).fill_null(value))
    share = np.mean([each is None for each in MISSING[600:]])
    assert f"({before.null_count() / 600:.0%} in the reference)" in cause
    assert f"{value:g} in {share:.0%} of" in cause
    golden(cause)


@pytest.mark.parametrize(("share", "factor"), [(0.06, 100.0), (0.4, 60.0), (0.6, 100.0)])
def test_missing_values_do_not_hide_another_factor(share: float, factor: float) -> None:
    """Both changes are stated, first the one of more records."""
    lost = np.random.default_rng(5).random(400) < share
    now = pl.Series([None if gap else hours * factor for hours, gap in zip(HOURS[600:], lost, strict=True)])
    cause = cause_of(pl.Series(HOURS[:600]), now)
    scale = f"{factor:g} times the reference values"
    missing = f"issing in {lost.mean():.0%} of the records (0% in the reference)"
    assert scale in cause
    assert missing in cause
    assert (cause.index(scale) < cause.index(missing)) == (share < 0.5)


def test_missing_values_alone_are_the_only_cause(golden: Golden) -> None:
    """The other values are unchanged, or hardly changed."""
    lost = np.random.default_rng(5).random(400) < 0.3
    now = [None if gap else hours for hours, gap in zip(HOURS[600:] * 1.05, lost, strict=True)]
    cause = cause_of(pl.Series(HOURS[:600]), pl.Series(now))
    assert f"{lost.mean():.0%} of" in cause
    golden(cause)
    golden(cause_of(pl.Series(HOURS[:600]), pl.Series([None] * 400)))


@pytest.mark.parametrize("words", [("True", "False"), ("true", "false"), ("Y", "N"), ("yes", "no"), ("1", "0"), (1, 0)])
def test_truth_values_of_another_type(words: tuple[str | int, str | int], golden: Golden) -> None:
    """Strings or numbers in place of booleans, and the reverse; other strings are no truth values."""
    before, now = pl.Series(SEX[:600] > 0), pl.Series([words[0] if sex else words[1] for sex in SEX[600:]])
    golden(f"{cause_of(before, now)}\n{cause_of(now, before)}")
    assert "instead of" not in cause_of(before, pl.Series(["m", "w"] * 200))


FACTORS = [2, 1.65, 1 / 12, 12, 30.4375, 0.3048, 1.609344, 2.54, 2.204623, 100, 1000, 24, 60, 7]


@pytest.mark.parametrize("factor", FACTORS)
def test_interval_of_a_factor_contains_it(factor: float) -> None:
    """A unit is named only if it is the true one; the interval is that of the sentence."""
    incomes = np.exp(np.random.default_rng(3).normal(10.3, 0.6, 1000))
    cause = cause_of(pl.Series(incomes[:600]), pl.Series(incomes[600:] * factor))
    bounds = re.search(r"\((?:1/)?([\d.,]+)(?:–| to )(?:1/)?([\d.,]+)\)", cause)
    assert bounds is not None, cause
    low, high = sorted(float(bound.replace(",", "")) for bound in bounds.groups())
    true = factor if factor >= 1 else 1 / factor
    assert low <= true <= high
    named = re.search(r"about (?:1/)?([\d.,]+) (?:times|of) .*another unit", cause)
    assert named is None or float(named[1].replace(",", "")) == pytest.approx(true, rel=0.005)


@pytest.mark.parametrize("factor", [*FACTORS, 1.08, 0.97])
@pytest.mark.parametrize("step", [1.0, 50.0, 0.01])
def test_factor_of_values_with_a_step_is_exact(factor: float, step: float) -> None:
    """Values that are multiples of one number have the factor of that number, however few values have it."""
    cause = likely_cause(pl.Series(INCOME[:600] * step), pl.Series(INCOME[600:] * step * factor))
    assert cause is not None
    found = re.match(r"(1/)?([\d.,]+) (?:times|of) the reference values \(multiples of ", cause.text)
    assert found is not None, cause
    true = 1 / factor if found[1] else factor
    assert float(found[2].replace(",", "")) == pytest.approx(true, rel=0.005)
    assert ("unit" in cause.text) == (factor not in {2, 1.65, 1.08, 0.97})
    moved_N, deviation = abs(INCOME[:600] * (factor - 1)), np.subtract(*np.quantile(INCOME[:600], [0.75, 0.25])) / 1.349
    assert cause.altered == pytest.approx((moved_N > deviation / 2).mean(), abs=0.02)


def test_repeated_values_and_more_decimals_are_named(golden: Golden) -> None:
    """A cache repeats values; noise has more decimals than the values."""
    noisy = INCOME[600:] + np.random.default_rng(2).normal(size=400)
    for now in (np.repeat(INCOME[600:608], 50), noisy):
        golden(cause_of(pl.Series(INCOME[:600]), pl.Series(now)))


HOUR_SHARES = np.repeat([0.01, 0.07, 0.02], [8, 12, 4])
CLOCK = RNG.choice(24, 2000, p=HOUR_SHARES).astype(float)


@pytest.mark.parametrize(
    "change",
    [lambda v: (v + 5) % 24, lambda v: (v - 3) % 24, lambda v: (v - 1) % 12 + 1, lambda v: v],
    ids=["5 later", "3 earlier", "12 hours", "unchanged"],
)
def test_cause_of_changed_hours(change: Callable[[np.ndarray], np.ndarray], golden: Golden) -> None:
    """Another time zone and a clock of 12 hours are recognized."""
    golden(cause_of(pl.Series(CLOCK[:1000]), pl.Series(change(CLOCK[1000:]))))


@pytest.mark.parametrize("form", ["{:.2f}", "{:.2f} €"])
def test_strings_in_place_of_numbers_are_named(form: str, golden: Golden) -> None:
    """A decimal comma is recognized."""
    values = [form.format(value).replace(".", ",") for value in BALANCE[600:]]
    golden(cause_of(pl.Series(BALANCE[:600]), pl.Series(values)))


def test_swapped_columns_are_named() -> None:
    """Each feature names the other one."""
    before = pl.DataFrame({"a": INCOME[:600], "b": BALANCE[:600], "c": HOURS[:600]})
    now = pl.DataFrame({"a": BALANCE[600:], "b": INCOME[600:], "c": HOURS[600:]})
    sides = []
    for table in (before, now):
        phi_NDL = np.zeros((table.height, 3, 1))
        sides.append(Explained(table, Attributions(("a", "b", "c"), ("y",), phi_NDL, np.zeros(1), phi_NDL[:, 0], 0)))
    result = detect_drift(POLICY, sides[0], sides[1], "mean_abs", HOUR)
    found = {each.name: each.cause for each in result.inputs}
    assert (found["c"], "b" in (found["a"] or ""), "a" in (found["b"] or "")) == (None, True, True)
    assert "swapped" in (found["a"] or "")


def inputs_like(attributions: Attributions) -> pl.DataFrame:
    """Return feature values equal to the attributions of the first label."""
    return pl.DataFrame(attributions.phi_NDL[:, :, 0], schema=list(attributions.names))


def test_only_significant_changes_have_a_cause() -> None:
    """The number of features with a cause is limited."""
    scales = np.ones(10)
    reference, live = local_attributions(600, 0, scales), local_attributions(300, 1, scales * 9)
    found = compared(POLICY, reference, live, "mean_abs", HOUR)
    inputs = inputs_like(reference), inputs_like(live)
    causes = [feature.cause for feature in with_causes(found, *inputs).labels[0].features]
    assert sum(cause is not None for cause in causes) == min(MOST_CAUSES, 10)
    unchanged = compared(POLICY, reference, local_attributions(300, 1, scales), "mean_abs", HOUR)
    assert with_causes(unchanged, *inputs) == unchanged


def test_feature_has_the_same_cause_for_all_labels() -> None:
    """The cause depends only on the values."""
    reference, live = local_attributions(600, 0, labels=("y", "z")), local_attributions(300, 1, SCALES * 3, ("y", "z"))
    inputs = inputs_like(reference), inputs_like(live)
    first, second = with_causes(compared(POLICY, reference, live, "mean_abs", HOUR), *inputs).labels
    assert [feature.cause for feature in first.features] == [feature.cause for feature in second.features]


@pytest.mark.parametrize(
    "now",
    [
        {"years": HOURS[600:], "city": ["a"] * 300 + ["b"] * 100},
        {"years": HOURS[600:] * 12, "city": ["a"] * 300 + ["b"] * 100},
        {"years": HOURS[600:] + 2, "city": ["c"] * 400},
        {"years": [None] * 400, "city": ["b"] * 300 + ["a"] * 100},
        {"years": [None] * 4 + [1.0] * 396, "city": [None] * 120 + ["a"] * 280},
    ],
    ids=["unchanged", "years times 12", "new city", "no years", "constant years"],
)
def test_cause_of_a_group_is_that_of_its_most_changed_feature(now: dict[str, Any], golden: Golden) -> None:
    """A group has one attribution and one cause."""
    reference, live = local_attributions(600, 0), local_attributions(400, 1, SCALES * 9)
    name = reference.names[0]
    before = (
        inputs_like(reference)
        .rename({name: "years"})
        .with_columns(pl.Series("years", HOURS[:600]), pl.Series("city", ["a"] * 450 + ["b"] * 150))
    )
    after = inputs_like(live).drop(name).with_columns(pl.Series(key, value, strict=False) for key, value in now.items())
    found = compared(POLICY, reference, live, "mean_abs", HOUR)
    (label,) = with_causes(found, before, after, groups={name: ["years", "city"]}).labels
    (cause,) = [feature.cause for feature in label.features if feature.name == name]
    assert cause is not None
    golden(cause)


def small_change(kind: str, size: float, rng: np.random.Generator) -> tuple[pl.Series, pl.Series]:
    """Return values of 600 reference and 400 live records that differ by this size."""
    if kind == "categories":
        mix = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.4 - size, 0.3, 0.2 + size, 0.1])
        return tuple(  # type: ignore[return-value]
            pl.Series(rng.choice(["a", "b", "c", "d"], rows, p=p)) for rows, p in zip((600, 400), mix, strict=True)
        )
    before, now = rng.normal(size=600), rng.normal(size=400)
    if kind == "codes":
        return pl.Series((2 * before).round().clip(-3, 3)), pl.Series((2 * now + 2 * size).round().clip(-3, 3))
    if kind == "missing":
        return (
            pl.Series([None if gap else x for x, gap in zip(side, rng.random(len(side)) < share, strict=True)])
            for side, share in ((before, 0.03), (now, 0.03 + size))
        )  # type: ignore[return-value]
    return pl.Series(before), pl.Series(now * (1 + size) + size)


@pytest.mark.parametrize("kind", ["numbers", "codes", "categories", "missing"])
def test_values_are_called_unchanged_only_if_they_are(kind: str) -> None:
    """Where a cause says that the values are unchanged, scipy's tests do not reject it at 0.5 %."""
    reference, live = local_attributions(600, 0), local_attributions(400, 1, SCALES * 9)
    name = reference.names[0]
    found = compared(POLICY, reference, live, "mean_abs", HOUR)
    tested = InputResult(name, Level.NONE, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, constant=False)
    texts = []
    for seed, size in enumerate(np.linspace(0, 0.4, 9).repeat(3).tolist()):
        before, now = small_change(kind, size, np.random.default_rng(seed))
        tables = [inputs_like(side).with_columns(x.alias(name)) for side, x in ((reference, before), (live, now))]
        (label,) = with_causes(replace(found, inputs=(tested,)), tables[0], tables[1]).labels
        (text,) = [feature.cause or "" for feature in label.features if feature.name == name]
        texts.append(text.startswith(SAME))
        if texts[-1]:
            assert difference(before, now) > 0.005
    assert texts[0]
    assert not texts[-1]


def difference(before: pl.Series, now: pl.Series) -> float:
    """Return the smallest of scipy's p-values: of missing values, of numbers, and of up to 10 different values."""
    p = [stats.fisher_exact([[side.null_count(), len(side) - side.null_count()] for side in (before, now)]).pvalue]
    before, now = before.drop_nulls(), now.drop_nulls()
    if before.dtype.is_numeric():
        p.append(stats.ks_2samp(before.to_numpy(), now.to_numpy()).pvalue)
    names = sorted({*before.to_list(), *now.to_list()})
    if len(names) <= 10:
        p.append(stats.chi2_contingency([[(side == name).sum() for name in names] for side in (before, now)]).pvalue)
    return float(min(p))


@pytest.mark.parametrize("kind", ["opposite sign", "1 minus", "offset"])
def test_correlations_decide_between_reverse_order_and_an_offset(kind: str) -> None:
    """The values of a feature that is related to another one, with a symmetric distribution."""
    rng = np.random.default_rng(3)
    tables = []
    for rows in (1000, 400):
        related = rng.normal(size=rows)
        rate = (0.1 + 0.02 * (0.8 * related + 0.6 * rng.normal(size=rows))).clip(0.01, 0.3)
        tables.append(pl.DataFrame({"rate": rate, "related": related, "other": rng.normal(size=rows)}))
    changes = {"opposite sign": -pl.col("rate"), "1 minus": 1 - pl.col("rate"), "offset": pl.col("rate") + 0.8}
    sides = []
    for table in (tables[0], tables[1].with_columns(rate=changes[kind])):
        phi_NDL = np.zeros((table.height, 3, 1))
        sides.append(
            Explained(table, Attributions(tuple(table.columns), ("y",), phi_NDL, np.zeros(1), phi_NDL[:, 0], 0))
        )
    result = detect_drift(replace(POLICY, classifier=True), sides[0], sides[1], "mean_abs", HOUR)
    (cause,) = [each.cause or "" for each in result.inputs if each.name == "rate"]
    beginning = {"opposite sign": "opposite sign, as", "1 minus": "1 minus the reference values: in reverse order, as"}
    assert cause.startswith(beginning.get(kind, "about 0."))
    assert ", or " not in cause
    assert ("higher" in cause) == (kind == "offset")


def test_reversed_values_are_not_called_unchanged() -> None:
    """Codes in reverse order may have the same distribution; their correlations show it."""
    rng = np.random.default_rng(4)
    before, now = ((pl.Series((3 + rng.normal(size=rows)).round().clip(1, 5))) for rows in (600, 400))
    tables = [pl.DataFrame({"a": side, "b": side + rng.normal(size=len(side)) / 2}) for side in (before, now)]
    tables[1] = tables[1].with_columns(a=6 - pl.col("a"))
    sides = []
    for table, scale in zip(tables, (1.0, 9.0), strict=True):
        phi_NDL = rng.normal(size=(table.height, 2, 1)) * np.array([scale, 1])[:, None]
        sides.append(Explained(table, Attributions(("a", "b"), ("y",), phi_NDL, np.zeros(1), phi_NDL.sum(axis=1), 0)))
    result = detect_drift(replace(POLICY, classifier=True), sides[0], sides[1], "mean_abs", HOUR)
    assert result.association is not None
    assert result.association.reversed in {"a", "b"}
    causes = {feature.name: feature.cause for feature in result.labels[0].features}
    assert causes[result.association.reversed] == REVERSED
