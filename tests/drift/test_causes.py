"""What has probably happened to a feature, told from its values alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions
from runner.drift.causes import MOST_FEATURES, SAME, likely_cause, with_causes
from runner.drift.detect import Detector
from tests.drift.samples import HOUR, POLICY, SCALES, local
from tests.golden import Golden

RNG = np.random.default_rng(8)
HOURS = RNG.integers(1, 80, 1000).astype(float)
SEX = (RNG.random(1000) < 0.7).astype(float)
BALANCE = RNG.normal(3, 4, 1000)


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
    ],
)
def test_a_change_of_numbers_is_named(
    values: np.ndarray, change: Callable[[np.ndarray], np.ndarray], golden: Golden
) -> None:
    """Each incident by its own name, on records that are not those of the reference."""
    golden(likely_cause(pl.Series(values[:600]), pl.Series(change(values[600:]))) or SAME)


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
def test_a_change_of_other_values_is_named(before: list[Any], now: list[Any], golden: Golden) -> None:
    """Texts, booleans, nulls, and kinds that have changed."""
    golden(likely_cause(pl.Series(before), pl.Series(now)) or SAME)


def as_inputs(attributions: Attributions) -> pl.DataFrame:
    """Return inputs that are as the attributions of the first label are."""
    return pl.DataFrame(attributions.phi_NDL[:, :, 0], schema=list(attributions.names))


def test_only_what_has_surely_changed_is_looked_at() -> None:
    """And not more than a few, however many features there are."""
    scales = np.ones(10)
    reference, live = local(600, 0, scales), local(300, 1, scales * 9)
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    inputs = as_inputs(reference), as_inputs(live)
    told = [feature.cause for feature in with_causes(found, *inputs).labels[0].features]
    assert sum(cause is not None for cause in told) == min(MOST_FEATURES, 10)
    quiet = Detector(POLICY).find(reference, local(300, 1, scales), "mean_abs", HOUR)
    assert with_causes(quiet, *inputs) == quiet


def test_of_two_labels_a_feature_has_one_cause() -> None:
    """It is looked for once."""
    reference, live = local(600, 0, labels=("y", "z")), local(300, 1, SCALES * 3, ("y", "z"))
    inputs = as_inputs(reference), as_inputs(live)
    one, two = with_causes(Detector(POLICY).find(reference, live, "mean_abs", HOUR), *inputs).labels
    assert [feature.cause for feature in one.features] == [feature.cause for feature in two.features]


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
def test_the_cause_of_a_group_is_that_of_its_most_changed_feature(now: dict[str, Any], golden: Golden) -> None:
    """Together they have one attribution; what has happened has happened to one of them."""
    reference, live = local(600, 0), local(400, 1, SCALES * 9)
    name = reference.names[0]
    before = (
        as_inputs(reference)
        .rename({name: "years"})
        .with_columns(pl.Series("years", HOURS[:600]), pl.Series("city", ["a"] * 450 + ["b"] * 150))
    )
    after = as_inputs(live).drop(name).with_columns(pl.Series(key, value, strict=False) for key, value in now.items())
    found = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    (label,) = with_causes(found, before, after, groups={name: ["years", "city"]}).labels
    (cause,) = [feature.cause for feature in label.features if feature.name == name]
    assert cause is not None
    golden(cause)
