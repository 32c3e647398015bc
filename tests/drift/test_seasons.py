"""Cycles in the reference, and the hours that a window is compared with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Level, Season
from runner.drift.detect import detect_drift
from runner.drift.policy import DriftPolicy
from runner.drift.seasons import DAY, WEEK, cycle, hour_rows, same_hours, season_notes, stratified
from tests.drift.samples import HOUR, POLICY
from tests.golden import Golden

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def records(hour_N: NDArray[np.floating[Any]], effect_N: NDArray[np.float64], seed: int = 0) -> Explained:
    """Return records at hours since a Monday; the first of three features is higher by an effect."""
    x_ND = np.random.default_rng(seed).normal(size=(len(hour_N), 3))
    x_ND[:, 0] += effect_N
    at = pl.Series(MONDAY.timestamp() * 1e6 + hour_N * 3.6e9).cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
    events = pl.DataFrame({"at": at, "event": np.arange(len(hour_N), dtype=np.uint32)})
    scores_NL = x_ND.sum(axis=1, keepdims=True)
    attributions = Attributions(("a", "b", "c"), ("y",), x_ND[:, :, None], np.zeros(1), scores_NL, 0)
    return Explained(pl.DataFrame(x_ND, schema=["a", "b", "c"]), attributions, events)


def captured(sd: float, period: int, days: float = 21, rows: int = 10_000, seed: int = 0) -> Explained:
    """Return records of some days from a Monday, whose first feature has a cycle of this amplitude."""
    hour_N = np.random.default_rng([seed, 1]).uniform(0, days * 24, rows)
    return records(hour_N, sd * np.sin(2 * np.pi * np.floor(hour_N) / period), seed)


@pytest.mark.parametrize(
    ("sd", "period", "days", "found"),
    [
        (0.0, DAY, 21, 0),
        (0.3, DAY, 21, DAY),
        (0.3, WEEK, 21, WEEK),
        (0.3, DAY, 3.9, DAY),
        (0.3, DAY, 2.9, 0),
        (0.3, WEEK, 12.9, 0),
    ],
)
def test_cycles_are_recognized(sd: float, period: int, days: float, found: int) -> None:
    """A daily cycle needs four days, a weekly one two weeks."""
    assert cycle(captured(sd, period, days), 0) == found


def test_days_that_differ_at_random_are_no_cycle() -> None:
    """The mean of each day, and of each hour, is random."""
    rng = np.random.default_rng(3)
    hour_N = rng.uniform(0, 504, 10_000)
    wobble_N = 0.2 * rng.normal(size=21)[hour_N.astype(int) // 24] + 0.1 * rng.normal(size=504)[hour_N.astype(int)]
    assert cycle(records(hour_N, wobble_N), 0) == 0


def test_cycle_of_a_category_or_of_missing_values_is_recognized() -> None:
    """Nights have another category and no value of `b`; without the times there is no cycle."""
    day = captured(0.0, DAY, days=5, rows=2000)
    assert day.events is not None
    night = day.events["at"].dt.hour() < 6
    named = day.features.select(pl.when(night).then(pl.lit("n")).otherwise(pl.lit("d")).alias("c"))
    missing = day.features.select(pl.when(~night).then(pl.col("b")))
    for features in (named, missing):
        assert cycle(replace(day, features=features), 0) == DAY
    assert cycle(replace(day, features=named, events=None), 0) == 0


def test_stored_sample_has_equally_many_records_of_each_hour() -> None:
    """Hours with fewer are stored whole, and the weights add up to all captured records."""
    busy_N = np.random.default_rng(0).uniform(0, 504, 9000)
    whole = records(np.append(busy_N[busy_N % 24 >= 1], np.arange(5) * 24 + 0.5), np.zeros(1))
    sample = stratified(whole, 2400, DAY, 0)
    assert sample.events is not None
    assert sample.features.height == 2400
    counts = sample.events.group_by(pl.col("at").dt.hour()).len().sort("at")["len"].to_list()
    assert counts[0] == 5
    assert max(counts[1:]) - min(counts[1:]) <= 1
    assert sample.events["weight"].sum() == pytest.approx(whole.features.height)
    assert hour_rows(sample) == 100


@pytest.mark.parametrize(
    ("start", "hours", "season", "rows"),
    [
        (14, 1, Season("week", "Mondays 14:00–15:00 UTC"), 30),
        (24 + 23, 1, Season("week", "Tuesdays 23:00–00:00 UTC"), 30),
        (2 * 24 + 22, 8, Season("week", "Wednesdays 22:00 to Thursdays 06:00 UTC"), 240),
        (168 * 50 + 5 * 24, 24, Season("week", "Saturdays 00:00 to Sundays 00:00 UTC"), 720),
        (14.5, 1, Season("week", "Mondays 14:30–15:30 UTC"), 60),
        (0, 168, None, 5040),
    ],
)
def test_window_is_compared_with_the_same_hours(start: float, hours: int, season: Season | None, rows: int) -> None:
    """Equally many records of each hour are stored; a window of a week has all of them."""
    whole = records(np.repeat(np.arange(504), 20) + 0.5, np.zeros(1))
    sample = stratified(whole, 5040, WEEK, 0)
    found = same_hours(sample, MONDAY + timedelta(hours=start), timedelta(hours=hours), POLICY)
    assert found.season == season
    assert found.records.features.height == rows
    assert same_hours(sample, None, HOUR, POLICY).season is None
    assert same_hours(sample, MONDAY, HOUR, replace(POLICY, season="none")).records.features.height == 5040


def test_hours_with_too_few_records_are_compared_with_more(golden: Golden) -> None:
    """With the same hour of all days, but not with other hours: the notes say why there is no verdict."""
    whole = records(np.repeat(np.arange(504), 20) + 0.5, np.zeros(1))
    for rows in (1000, 500):
        sample = stratified(whole, rows, WEEK, 0)
        found = same_hours(sample, MONDAY + timedelta(hours=14), HOUR, POLICY)
        assert found.season == Season("day", "all days 14:00–15:00 UTC")
        assert (found.records.features.height >= POLICY.min_rows) == (rows == 1000)
        golden("\n".join([f"{rows} records stored", *found.notes, *season_notes(sample, POLICY)]))


def test_hours_of_different_traffic_have_their_share_together() -> None:
    """A window of half a day has 9 times as many records in one hour as in another one, and so has its reference."""
    hours = np.concatenate([np.repeat(np.arange(504), 1), np.repeat(np.arange(504)[8::24], 8)]) + 0.5
    sample = stratified(records(np.tile(hours, 60), np.zeros(1)), 24_000, DAY, 0)
    found = same_hours(sample, MONDAY + timedelta(hours=6), timedelta(hours=12), POLICY).records.events
    assert found is not None
    counts = found.group_by(pl.col("at").dt.hour()).len().sort("at")["len"].to_numpy()
    assert len(counts) == 12
    assert counts[2] / np.delete(counts, 2).mean() == pytest.approx(9, rel=0.2)


@pytest.mark.parametrize(("period", "rows"), [(DAY, 1200), (WEEK, 6720)])
def test_cyclic_population_is_silent(period: int, rows: int) -> None:
    """Compared with the same hours, no window has a level; compared with all hours, those of the extremes have one."""
    sample = stratified(captured(1.0, period, rows=40_000), rows, period, 0)
    policy: DriftPolicy = replace(POLICY, permutations=99)
    for hour in range(period // 4, period * 5 // 4, period // 6):
        start = MONDAY + timedelta(weeks=4, hours=hour)
        live = records(672 + hour + np.linspace(0, 0.99, 100), np.full(100, np.sin(2 * np.pi * hour / period)), hour)
        assert detect_drift(policy, sample, live, "mean_abs", HOUR, start=start).level is Level.NONE
        if hour == period // 4:
            assert detect_drift(policy, sample, live, "mean_abs", HOUR).level is not Level.NONE


def test_change_is_seen_among_the_same_hours(golden: Golden) -> None:
    """The result names the hours."""
    sample = stratified(captured(1.0, DAY, rows=40_000), 10_000, DAY, 0)
    live = records(672 + np.linspace(0, 0.99, 300), np.full(300, 1.0), 1)
    result = detect_drift(POLICY, sample, live, "mean_abs", HOUR, start=MONDAY + timedelta(weeks=4))
    assert result.level.order >= Level.WARNING.order
    assert result.season == Season("day", "all days 00:00–01:00 UTC")
    golden("\n".join(result.notes))


def test_notes_on_the_season_of_a_reference(golden: Golden) -> None:
    """They describe the stored records; a dataset has none."""
    short, day = captured(0.0, DAY, days=5, rows=500), captured(0.3, DAY)
    golden("\n".join([*season_notes(short, POLICY), *season_notes(stratified(day, 5000, DAY, 0), POLICY)]))
    assert not season_notes(replace(day, events=None), POLICY)
    assert not season_notes(day, POLICY)
