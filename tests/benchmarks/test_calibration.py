"""Calibration: situations without drift, the screen that saves exact p-values, and the arithmetic of the table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import portfolio
from benchmarks.calibration import (
    SHARED,
    SITUATIONS,
    Block,
    Situation,
    Window,
    applications,
    fresh,
    levels,
    lower_bound,
    overall,
    row,
    screened,
    smallest_p,
)
from benchmarks.incidents import HOUR, POLICY
from runner.domain.drift import Level
from runner.drift.detect import detect_drift
from runner.drift.significance import smirnov_sorted

PLAIN = Situation("plain", 300, fresh(300))
DRAWN = [each for each in SITUATIONS if each.rows <= 5_000 and each.name != "notebook's data"]


def test_situations_differ() -> None:
    """Each row of the table has its own name or size, and sizes span four orders of magnitude."""
    rows = [(situation.name, situation.rows) for situation in SITUATIONS]
    assert len(set(rows)) == len(rows)
    sizes = {situation.rows for situation in SITUATIONS}
    assert (min(sizes), max(sizes)) == (10, 100_000)


@pytest.mark.parametrize("situation", DRAWN, ids=lambda situation: f"{situation.name}, {situation.rows}")
def test_windows_have_the_stated_size_and_no_drift(situation: Situation) -> None:
    """A stream is a function of the random numbers, and the first window has no significant change."""
    stream, again = (situation.stream(np.random.default_rng(3)) for _ in range(2))
    window = stream.window()
    assert len(window.records.features) == situation.rows
    assert window.records.features.equals(again.window().records.features)
    policy = replace(POLICY, **situation.settings)
    assert levels((policy,), window, stream.reference)[0] in {Level.NONE, Level.INSUFFICIENT_DATA}


def test_attributions_add_up() -> None:
    """The closed form is that of an additive model, also for missing and unknown values."""
    features = portfolio.applications(np.random.default_rng(0), 100)
    features = features.with_columns(pl.col("channel").replace("web", "new"))
    attributions = portfolio.explained(features).attributions
    sums_NL = attributions.phi_NDL.sum(axis=1) + attributions.expected_L
    assert sums_NL == pytest.approx(attributions.scores_NL)
    assert np.isfinite(sums_NL).all()


@given(
    st.lists(st.integers(0, 6), min_size=2, max_size=40),
    st.lists(st.integers(0, 6), min_size=2, max_size=40),
)
def test_bound_is_below_the_exact_p_value(reference: list[int], live: list[int]) -> None:
    """The distance is exact, and the p-value is a lower bound, also with ties."""
    sides = ([np.sort(np.array(reference, dtype=float))], [np.sort(np.array(live, dtype=float))])
    bound, exact = lower_bound(*sides), smirnov_sorted(*sides)
    assert bound.distance_D == pytest.approx(exact.distance_D)
    assert bound.p_D[0] <= exact.p_D[0] * (1 + 1e-9)


@pytest.mark.parametrize("factor", [1.0, 1.15, 3.0])
def test_screen_changes_no_level(factor: float) -> None:
    """Levels at several significance levels are those of the full verdict; p-values of the screen are not larger."""
    policies = [replace(POLICY, false_alarms_per_year=count) for count in (8760 * 0.3, 87.6, 1.0)]
    rng = np.random.default_rng(2)
    before, features = applications(rng, 200), portfolio.applications(rng, 100)
    now = portfolio.explained(features.with_columns(pl.col("income") * factor))
    full = [detect_drift(policy, before, now, "mean_abs", HOUR) for policy in policies]
    assert levels(policies, Window(now), before) == [result.level_alone for result in full]
    assert smallest_p(screened(policies[0], before, now)) <= smallest_p(full[0])


def blocks(alarms: list[int], yearly: int = 0) -> list[Block]:
    """Return the counts of references with these alarms in 50 windows each."""
    return [Block(SHARED, alarm, 2 * alarm, 0, alarm, yearly) for alarm in alarms]


def test_row_of_a_situation() -> None:
    """Rates, the worst reference, and the comparison with the promise."""
    situation = replace(PLAIN, shared=SHARED)
    found = row(situation, blocks([0, 1, 0, 3]), 0.01)
    assert (found["windows"], found["references"], found["alarms"]["count"]) == (200, 4, 4)
    assert found["alarms"]["rate"] == pytest.approx(0.02)
    assert found["alarms"]["worst"] == pytest.approx(0.06)
    low, high = found["alarms"]["interval"]
    assert low < 0.02 < high
    assert found["alarms"]["verdict"] == "within"
    above = row(situation, blocks([5, 6, 5, 6]), 0.01)
    assert (above["alarms"]["verdict"], above["several_seen"]["verdict"]) == ("above", "above")
    assert row(replace(situation, differs=True), blocks([5, 6]), 0.01)["seen"]["verdict"] == "differs"
    assert "several" not in row(PLAIN, [Block(1, 0, 0, 0, 0, 0)] * 5, 0.01)


def test_windows_at_one_false_alarm_a_year_are_pooled() -> None:
    """Only those with references of their own are independent."""
    own = row(PLAIN, [Block(1, 0, 0, 0, 0, 1)] + [Block(1, 0, 0, 0, 0, 0)] * 999, 0.01)
    shared = row(replace(PLAIN, shared=SHARED), blocks([0], yearly=50), 0.01)
    found = overall([own, shared])
    assert (found["count"], found["windows"], found["verdict"]) == (1, 1000, "within")
    assert overall([own] * 9)["verdict"] == "above"
    assert overall([])["verdict"] == "within"
