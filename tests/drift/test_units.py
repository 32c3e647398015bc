"""Repetitions of records, and records that are equal by chance."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Level
from runner.drift.detect import detect_drift
from runner.drift.units import (
    check_unit,
    different,
    equal_by_chance,
    group_features,
    observations,
    one_per_unit,
    sample_one_per_unit,
    settled,
    without_repetitions,
)
from runner.errors import SegmentError
from tests.drift.samples import HOUR, POLICY
from tests.golden import Golden

RNG = np.random.default_rng(0)


def frame(values_KD: np.ndarray) -> pl.DataFrame:
    """Return a table with a column for each feature."""
    return pl.DataFrame({f"x{d}": column for d, column in enumerate(values_KD.T)})


@pytest.mark.parametrize("times", [1, 2, 11])
def test_records_sent_again_count_once(times: int) -> None:
    """The first one of equal records counts."""
    rows_KD = RNG.normal(size=(334, 14)).round(1)
    assert without_repetitions(frame(np.tile(rows_KD, (times, 1)))).tolist() == list(range(334))


@pytest.mark.parametrize(
    "values_KD",
    [
        RNG.integers(0, 4, (1000, 3)),
        np.hstack([RNG.integers(0, 4, (1000, 3))] * 5),
        np.eye(20)[RNG.integers(0, 20, 1000)],
        RNG.integers(0, 2, (1000, 10)),
        ((RNG.normal(size=(1000, 1)) + RNG.normal(size=(1000, 40)) * 0.1) > 0).astype(int),
    ],
    ids=["three features", "copies of features", "one of 20", "ten booleans", "dependent booleans"],
)
def test_records_of_coarse_features_are_equal_by_chance(values_KD: np.ndarray) -> None:
    """Each record counts."""
    assert len(without_repetitions(frame(values_KD))) == 1000


def test_skewed_repetitions_count_once() -> None:
    """One client sends half of the records."""
    rows_KD = RNG.normal(size=(100, 6))
    again = np.vstack([rows_KD, np.tile(rows_KD[:1], (100, 1))])
    assert len(without_repetitions(frame(again))) == 100


def test_few_different_records_of_many_features_are_repetitions() -> None:
    """Also if most values of each feature occur once among the different records."""
    rows_KD = np.round(RNG.normal(size=(90, 8)), 1)
    places = np.minimum(RNG.zipf(1.6, 1000), 90) - 1
    assert len(without_repetitions(frame(rows_KD[places]))) == len(np.unique(places))


ITEMS_UD = np.random.default_rng(1).normal(size=(500, 5)) + 3 / np.arange(1, 501)[:, None]


def popular(rows: int, seed: int) -> np.ndarray:
    """Return records of 500 items; the most popular ones have the highest values."""
    weights = 1 / np.arange(1, 501)
    return ITEMS_UD[np.random.default_rng(seed).choice(500, rows, p=weights / weights.sum())]


def new(rows: int, seed: int, times: int = 1) -> np.ndarray:
    """Return different records, each of them repeated."""
    return np.tile(np.random.default_rng(seed).normal(size=(rows, 5)), (times, 1))


@pytest.mark.parametrize(
    ("before", "now", "unit"),
    [
        (popular(1000, 2), popular(300, 3), "record"),
        (popular(300, 2), popular(3000, 3), "record"),
        (popular(1000, 2), np.tile(popular(100, 3), (5, 1)), "content"),
        (new(1000, 2), new(300, 3), "content"),
        (new(1000, 2), new(100, 3, 3), "content"),
        (new(100, 2, 10), new(300, 3), "content"),
        (new(100, 2, 10), new(100, 3, 3), "content"),
        (new(100, 2, 10), new(100, 2, 3), "record"),
    ],
)
def test_repetitions_of_one_population_count(before: np.ndarray, now: np.ndarray, unit: str) -> None:
    """Repetitions count once if one side has more of them than a random division of all records."""
    assert settled(POLICY, frame(before), frame(now)).unit == unit
    assert settled(replace(POLICY, unit="event"), frame(before), frame(now)).unit == "event"


def test_popular_records_raise_no_alarm() -> None:
    """The larger side has more different records, most of them unpopular; the windows differ in nothing else."""
    policy = replace(POLICY, false_alarms_per_year=87.6)
    sides = [
        pl.DataFrame(popular(rows, seed), schema=["a", "b", "c", "d", "e"]) for rows, seed in ((2000, 4), (300, 5))
    ]
    assert detect_drift(policy, explained(sides[0]), explained(sides[1]), "mean_abs", HOUR).level is Level.NONE


@pytest.mark.parametrize(("share", "known", "counted"), [(0.15, 0.0, 300), (0.15, 0.15, 256), (0.05, 0.0, 286)])
def test_repetitions_of_a_new_and_frequent_record_count(share: float, known: float, counted: int) -> None:
    """Not if the reference has such records, too, or if they are few."""
    before, now = new(1000, 2), new(300, 3)
    for side, part in ((before, known), (now, share)):
        side[: round(len(side) * part)] = 0.0
    rows_N, rows_M = without_repetitions(frame(before)), different(POLICY, frame(before), frame(now))
    assert len(rows_N) == 1000 - max(0, round(1000 * known) - 1)
    assert len(rows_M) == counted


def test_few_records_sent_again_and_again_are_no_window() -> None:
    """There are too few different records for a verdict."""
    assert len(different(POLICY, frame(new(1000, 2)), frame(new(5, 3, 60)))) == 5


def test_frequent_record_counts_once_where_other_records_are_repeated_too() -> None:
    """The repetitions follow Zipf's law."""
    places = np.minimum(np.random.default_rng(7).zipf(1.6, 1000), 1000) - 1
    rows_M = different(POLICY, frame(new(1000, 2)), frame(new(1000, 3)[places]))
    assert len(rows_M) == len(np.unique(places))


def test_outage_is_a_change() -> None:
    """All values of 60 % of the records are missing."""
    rng = np.random.default_rng(6)
    before, now = (pl.DataFrame({name: rng.normal(size=rows) for name in ("a", "b")}) for rows in (1000, 300))
    is_out = pl.Series(rng.random(300) < 0.6)
    now = now.with_columns(pl.when(~is_out).then(pl.col(name)).alias(name) for name in now.columns)
    phi = [side.fill_null(0.0) for side in (before, now)]
    sides = [replace(explained(values), features=side) for values, side in zip(phi, (before, now), strict=True)]
    result = detect_drift(POLICY, sides[0], sides[1], "mean_abs", HOUR)
    assert result.level is Level.VIOLATION
    assert {each.name for each in result.changed_inputs} == {"a", "b"}


def test_probability_of_equal_records_is_estimated() -> None:
    """Independent uniform codes are equal with the product of the probabilities."""
    codes_KD = RNG.integers(0, 10, (2000, 2))
    assert 0.0098 <= equal_by_chance(frame(codes_KD)) <= 0.012


def test_missing_values_are_equal_to_each_other() -> None:
    """Records with equal values and the same missing values are repetitions."""
    values = [None, *RNG.normal(size=99).tolist()]
    table = pl.DataFrame({"a": values * 2, "b": [*RNG.normal(size=100).tolist()] * 2})
    assert len(without_repetitions(table)) == 100


def test_one_record_per_unit_is_sampled_uniformly() -> None:
    """Equal line numbers in two files are two events."""
    events = pl.DataFrame({"file": ["a", "a", "a", "b", "b"], "line": [1, 1, 2, 1, 1]})
    counts = np.zeros(5)
    for seed in range(2000):
        indices = sample_one_per_unit(events, seed)
        assert indices.tolist() == sorted(indices)
        assert events[indices].n_unique() == len(indices) == 3
        counts[indices] += 1
    assert counts == pytest.approx(np.array([1000, 1000, 2000, 1000, 1000]), rel=0.1)


def explained(features: pl.DataFrame, events: pl.DataFrame | None = None) -> Explained:
    """Return records whose attributions are the values of `a` and `b`."""
    phi_ND = features.select("a", "b").to_numpy().astype(np.float64)
    attributions = Attributions(("a", "b"), ("y",), phi_ND[:, :, None], np.zeros(1), phi_ND.sum(1, keepdims=True), 0)
    return Explained(features, attributions, events)


def clustered(customers: int, requests: int, seed: int) -> Explained:
    """Return requests of customers; `a` is equal for all of a customer, `b` is not."""
    rng = np.random.default_rng(seed)
    owner_N = np.repeat(np.arange(customers), requests)
    a_N, b_N = rng.normal(size=customers)[owner_N], rng.normal(size=len(owner_N))
    return explained(pl.DataFrame({"customer": owner_N + 1000 * seed, "a": a_N, "b": b_N}))


def test_clusters_are_silent_if_they_are_the_unit(golden: Golden) -> None:
    """All requests of a customer have one value of `a`; the ids of the customers, all new, are not tested."""
    reference, live = clustered(500, 1, 1), clustered(60, 30, 2)
    levels = {}
    for unit in ("content", "customer", "customer || '-'"):
        result = detect_drift(replace(POLICY, unit=unit), reference, live, "mean_abs", HOUR)
        levels[unit] = result.level
        if unit == "customer":
            assert [each.name for each in result.inputs] == ["a", "b"]
            assert (result.rows_reference, result.rows_live) == (500, 60)
            golden("\n".join(result.notes))
    assert levels["customer"] is Level.NONE
    assert levels["content"].order > Level.NONE.order


def test_change_of_all_units_is_seen() -> None:
    """With one record of each of 200 customers."""
    live = clustered(200, 10, 2)
    live = explained(live.features.with_columns(pl.col("a") + 1.0))
    result = detect_drift(replace(POLICY, unit="customer"), clustered(500, 1, 1), live, "mean_abs", HOUR)
    assert result.changed_inputs[0].name == "a"


def test_too_few_units_are_insufficient_data(golden: Golden) -> None:
    """The note names the setting."""
    policy = replace(POLICY, unit="customer")
    result = detect_drift(policy, clustered(500, 1, 1), clustered(10, 30, 2), "mean_abs", HOUR)
    assert result.level is Level.INSUFFICIENT_DATA
    golden("\n".join(result.notes))


@pytest.mark.parametrize("unit", ["customer || '-' || kind", "nobody", "customer +", "max(a)"])
def test_expressions_are_units(unit: str, golden: Golden) -> None:
    """Equal values are one unit, records without a value are units of their own, and errors name the setting."""
    policy = replace(POLICY, unit=unit)
    features = pl.DataFrame({"customer": [1, 1, 1, 2, None, None], "kind": list("aabbbb"), "a": [0.0] * 6, "b": 1.0})
    if "kind" in unit:
        assert one_per_unit(explained(features), policy).features.height == 5
        check_unit(policy, features)
        return
    with golden.raises(SegmentError):
        check_unit(policy, features)
    with pytest.raises(SegmentError):
        observations(policy, explained(features), explained(features), None, HOUR)


def test_unit_of_the_reference_counts_once_in_each_window() -> None:
    """A customer who is in each hour of the reference is as frequent there as in a window."""
    start = datetime(2026, 1, 5, 0, 30, tzinfo=UTC)
    at = [start + timedelta(minutes=10 * i) for i in range(24)]
    events = pl.DataFrame({"at": at, "event": pl.Series(range(24), dtype=pl.UInt32)})
    features = pl.DataFrame({"customer": [1] * 24, "a": np.arange(24.0), "b": 0.0})
    policy = replace(POLICY, unit="customer")
    for length, rows in ((HOUR, 4), (2 * HOUR, 2), (24 * HOUR, 1)):
        assert one_per_unit(explained(features, events), policy, start, length).features.height == rows
        assert one_per_unit(explained(features), policy, start, length).features.height == 1
    event = replace(POLICY, unit="event")
    assert one_per_unit(explained(features, events), event).features.height == 24
    assert one_per_unit(explained(features), event).features.height == 24


def test_unit_counts_on_one_side_only() -> None:
    """Units of both sides are divided so that the sides are as large as possible; missing values are never shared."""
    for before, now, sizes in ((50, 20, (30, 20)), (30, 30, (15, 15)), (5, 40, (5, 35))):
        first, second = (
            explained(pl.DataFrame({"customer": [*range(count), None, None], "a": 0.0, "b": 0.0}))
            for count in (before, now)
        )
        counted = observations(replace(POLICY, unit="customer"), first, second, None, HOUR)
        sides = [side.features["customer"].drop_nulls().to_list() for side in (counted.before, counted.now)]
        assert not {*sides[0]} & {*sides[1]}
        assert {*sides[0], *sides[1]} == {*range(max(before, now))}
        assert tuple(map(len, sides)) == pytest.approx(sizes, abs=1)
        assert counted.before.features["customer"].null_count() == counted.now.features["customer"].null_count() == 2


def test_units_of_the_reference_are_drawn_by_their_occurrences() -> None:
    """Customers who come ten times as often are ten times as frequent, as in a window."""
    rng = np.random.default_rng(0)
    rate_N = np.repeat([0.5, 0.05], 1000)
    owner_N, hour_N = np.nonzero(rng.random((2000, 48)) < rate_N[:, None])
    at = pl.Series([datetime(2026, 1, 5, tzinfo=UTC) + hour * HOUR for hour in hour_N.tolist()])
    events = pl.DataFrame({"at": at, "event": np.arange(len(owner_N), dtype=np.uint32)})
    before = explained(pl.DataFrame({"customer": owner_N, "a": 0.0, "b": 0.0}), events)
    now = explained(pl.DataFrame({"customer": np.arange(5000, 5100), "a": 0.0, "b": 0.0}))
    counted = observations(replace(POLICY, unit="customer"), before, now, None, HOUR).before.features["customer"]
    assert counted.is_unique().all()
    assert len(counted) > 100
    assert (counted < 1000).mean() == pytest.approx(10 / 11, abs=0.05)


def test_groups_of_records_are_noticed(golden: Golden) -> None:
    """Requests of a customer share all but two features; independent, coarse or constant records are no groups."""
    rng = np.random.default_rng(0)

    def requests(customers: int, each: int) -> pl.DataFrame:
        owner_N = np.repeat(np.arange(customers), each)
        stable = {name: rng.normal(size=customers).round(1)[owner_N] for name in ("a", "b", "income", "age")}
        varying = {"amount": rng.normal(size=len(owner_N)).round(1), "hour": rng.integers(0, 24, len(owner_N))}
        return pl.DataFrame(stable | varying)

    reference, clusters, single = requests(800, 1), requests(40, 10), requests(300, 1)
    assert sorted(group_features(reference, clusters)) == ["a", "age", "b", "income"]
    assert not group_features(reference, single)
    assert not group_features(reference.select("hour"), single.select("hour"))
    assert not group_features(reference, single.with_columns(a=0.0, b=0.0, income=0.0))
    result = detect_drift(POLICY, explained(reference), explained(clusters), "mean_abs", HOUR)
    golden("\n".join(result.notes))
    quiet = detect_drift(POLICY, explained(reference), explained(single), "mean_abs", HOUR)
    assert not quiet.notes
