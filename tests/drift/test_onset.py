"""Beginnings of changes inside a window, from the order of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Canary, Change, ChangeKind, DriftResult, Histogram, Parity
from runner.domain.executions import utc
from runner.drift.detect import detect_drift
from runner.drift.histograms import numbers_histogram
from runner.drift.onset import (
    FEWEST,
    SHARE,
    LiveRecords,
    beginning,
    dated_changes,
    dated_earlier,
    most_likely_beginning,
    order_of_time,
)
from runner.drift.ranking import rank_labels
from runner.drift.summary import headline
from runner.drift.verdict import since, verdict
from tests.drift.samples import HOUR, POLICY, mean_abs
from tests.golden import Golden

START = utc("2026-07-14T13:00")
MICROSECONDS = 1_000_000
REFERENCE = pl.DataFrame(np.random.default_rng(0).normal(size=(600, 3)), schema=list("abc")).with_columns(
    d=pl.Series(["web", "phone", "branch"] * 200)
)


def live_values(seed: int, rows: int = 300) -> pl.DataFrame:
    """Return records of the same population in the order of time."""
    rng = np.random.default_rng(seed)
    numbers = pl.DataFrame(rng.normal(size=(rows, 3)), schema=list("abc"))
    return numbers.with_columns(d=pl.Series(rng.choice(["web", "phone", "branch"], rows)))


def explained(values: pl.DataFrame) -> Explained:
    """Return records with attributions of a linear model of the first three features."""
    phi_NDL = np.zeros((values.height, 4, 1))
    phi_NDL[:, :3, 0] = values.select("a", "b", "c").fill_null(0.0).to_numpy()
    return Explained(values, Attributions(tuple("abcd"), ("y",), phi_NDL, np.zeros(1), phi_NDL.sum(axis=1), 0))


def naive(scores_M: np.ndarray, at_M: np.ndarray) -> tuple[float, int]:
    """Return the largest standardized difference of means after and before a time, and this time."""
    M = len(scores_M)
    fewest = max(FEWEST, int(SHARE * M))
    found = []
    for k in range(fewest, M - fewest + 1):
        if at_M[k] > at_M[k - 1]:
            gap = scores_M[k:].mean() - scores_M[:k].mean()
            found.append((gap / scores_M.std() * np.sqrt(k * (M - k)) / np.sqrt(M), int(at_M[k])))
    return max(found, key=lambda each: (each[0], -each[1]))


@pytest.mark.parametrize("seed", range(5))
def test_beginning_is_the_largest_difference_of_means(seed: int) -> None:
    """It agrees with the definition, also with equal times."""
    rng = np.random.default_rng(seed)
    at_M = np.sort(rng.integers(0, 40, 90))
    scores_M = rng.normal(size=90) + 2 * (at_M >= 25)
    statistic, at = naive(scores_M, at_M)
    assert statistic > 4
    assert beginning(scores_M, at_M) == at


def test_beginnings_by_chance_are_rare() -> None:
    """At most 1 % of random orders of records have a beginning, also if two thirds of them changed."""
    rng, scores_M, at_M = np.random.default_rng(1), np.repeat([0.0, 1.0, 1.2], 100), np.arange(300)
    found = [beginning(rng.permutation(scores_M), at_M) for _ in range(1_000)]
    assert sum(each is not None for each in found) <= 10


@pytest.mark.parametrize("count", [0, 1, 19, 20])
def test_few_records_have_no_beginning(count: int) -> None:
    """Ten records on each side are needed; an end of a change is no beginning."""
    half = np.repeat([0.0, 1.0], [count // 2, count - count // 2])
    assert (beginning(half, np.arange(count)) is None) == (count < 20)
    assert beginning(1 - half, np.arange(count)) is None
    assert beginning(half, np.zeros(count, dtype=np.int64)) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a", pl.col("a") * 100),
        ("b", pl.lit(None, dtype=pl.Float64)),
        ("c", pl.col("c") + 2),
        ("d", pl.lit("kiosk")),
        ("d", pl.lit("web")),
    ],
)
@pytest.mark.parametrize("first", [40, 150, 260])
def test_input_that_changes_inside_the_window(name: str, change: pl.Expr, first: int) -> None:
    """The beginning is within two minutes of the first changed record, for numbers, categories and missing values."""
    values = live_values(2).with_row_index("i")
    values = values.with_columns(pl.when(pl.col("i") >= first).then(change).otherwise(name).alias(name)).drop("i")
    at = most_likely_beginning(REFERENCE[name], values[name], np.arange(300) * 12)
    assert at is not None
    assert abs(at - first * 12) <= 120


@pytest.mark.parametrize("seed", range(4))
def test_new_category_begins_with_its_first_record(seed: int) -> None:
    """The largest difference of means may be later, because the first records of the category are few."""
    rng = np.random.default_rng(seed)
    values = rng.choice(["web", "phone", "branch"], 400).astype(object)
    new = (np.arange(400) >= 200) & (rng.random(400) < 0.25)
    values[new] = "kiosk"
    at_M = np.arange(400) * 12
    assert most_likely_beginning(REFERENCE["d"], pl.Series(values.tolist()), at_M) == at_M[new.argmax()]


def test_order_of_time_is_thinned() -> None:
    """A window with many records is dated with a limited number of them."""
    at_M = np.random.default_rng(3).permutation(100_000)
    rows = order_of_time(at_M)
    assert len(rows) == 20_000
    assert (np.diff(at_M[rows]) > 0).all()
    assert {at_M[rows[0]], at_M[rows[-1]]} == {0, 99_999}


CHANGES: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], ChangeKind, str]] = {
    "input": (lambda values: values.with_columns(b=pl.col("b") * 100), ChangeKind.INPUT, "b"),
    "joint": (lambda values: values.with_columns(c=pl.col("b")), ChangeKind.JOINT, ""),
}


@pytest.mark.parametrize("kind", CHANGES)
@pytest.mark.parametrize("first", [0, 120])
def test_changes_are_dated(kind: str, first: int, golden: Golden) -> None:
    """A change of the whole window begins at its start; times in any order give the same result."""
    change, expected, name = CHANGES[kind]
    live = live_values(4)
    values = pl.concat([live[:first], change(live[first:])])
    order = np.random.default_rng(5).permutation(300)
    at_M = (int(START.timestamp()) + np.arange(300) * 12) * MICROSECONDS
    results = []
    for rows in (np.arange(300), order):
        before, now = explained(REFERENCE), explained(values[rows])
        result = detect_drift(replace(POLICY, classifier=True), before, now, "mean_abs", HOUR)
        ranking = rank_labels(mean_abs(before.attributions), mean_abs(now.attributions), 0.5)
        changes = dated_changes(ranking, result, None, before, LiveRecords(now, at_M[rows], None, START))
        results.append(replace(result, changes=changes))
    found = results[0].changes[0]
    assert (found.kind, found.name) == (expected, name)
    assert abs((utc(found.onset) - START).total_seconds() - first * 12) <= 120
    assert results[1].changes[0] == found
    words = verdict(headline(ranking, results[0]), "", results[0], None)
    golden(f"since {since(results[0])}: {words.title}\n{words.action}")


def test_another_model_is_dated_by_the_captured_scores() -> None:
    """The model that serves changed inside the window; a changed artifact has no time inside it."""
    before, now = explained(REFERENCE), explained(live_values(6))
    parity = Parity(0.5, 300, 1e-6, 100)
    canary = Canary(20, True, 0.25, None)
    result = detect_drift(POLICY, before, now, "mean_abs", HOUR, canary, parity)
    ranking = rank_labels(mean_abs(before.attributions), mean_abs(now.attributions), 0.5)
    at_M = (int(START.timestamp()) + np.arange(300) * 12) * MICROSECONDS
    live = LiveRecords(now, at_M, np.arange(300) >= 200, START)
    changes = dated_changes(ranking, result, parity, before, live)
    assert [each.kind for each in changes] == [ChangeKind.SERVING, ChangeKind.MODEL]
    assert [each.onset for each in changes] == ["2026-07-14T13:40:00Z", "2026-07-14T13:00:00Z"]
    assert since(replace(result, changes=changes)) == "Tue 14 Jul, 13:40 UTC"


MODELS: dict[str, tuple[list[float], list[float], ChangeKind]] = {
    "another intercept": ([1, 1, 1, 0], [0, 0, 0, 3], ChangeKind.OUTPUT),
    "another weight": ([1, 4, 1, 0], [0, 0, 0, 0], ChangeKind.ATTRIBUTION),
    "another SHAP baseline": ([1, 1, 1, 0], [2, -2, 0, 0], ChangeKind.ATTRIBUTION),
    "only jointly": ([1, 1, 1, 0], [0, 0, 0, 0], ChangeKind.ATTRIBUTION),
}


@pytest.mark.parametrize("canary", [None, Canary(20, False, 0.0, 0.0)], ids=["no canary", "same"])
@pytest.mark.parametrize("kind", MODELS)
def test_a_change_without_changed_inputs_is_one_of_the_model(kind: str, canary: Canary | None, golden: Golden) -> None:
    """It is not called a joint change of inputs, although a classifier of inputs and attributions sees it."""
    factors, offsets, expected = MODELS[kind]
    before, now = explained(REFERENCE), explained(live_values(8))
    attributions = now.attributions
    phi_NDL = attributions.phi_NDL * np.array(factors)[:, None] + np.array(offsets)[:, None]
    if kind == "only jointly":
        phi_NDL[:, 0] = np.random.default_rng(1).permutation(phi_NDL[:, 1])
    scores_NL = phi_NDL.sum(axis=1) if expected is ChangeKind.OUTPUT else attributions.scores_NL
    now = replace(now, attributions=replace(attributions, phi_NDL=phi_NDL, scores_NL=scores_NL))
    result = detect_drift(replace(POLICY, classifier=True), before, now, "mean_abs", HOUR, canary)
    ranking = rank_labels(mean_abs(before.attributions), mean_abs(now.attributions), 0.5)
    result = replace(result, changes=dated_changes(ranking, result, None, before, LiveRecords(now, None, None, START)))
    assert (result.joint_change, result.without_inputs, result.is_separable) == (False, True, True)
    assert result.changes[0].kind is expected
    assert ChangeKind.JOINT not in {each.kind for each in result.changes}
    shown = headline(ranking, result)
    words = verdict(shown, "", result, None)
    golden("\n".join([shown, words.title, words.changed, words.action]))


def test_unknown_times_give_the_start_of_the_window() -> None:
    """A file without times is dated by its window."""
    values = live_values(7).with_columns(a=pl.col("a") * 100)
    before, now = explained(REFERENCE), explained(values)
    result = detect_drift(POLICY, before, now, "mean_abs", HOUR)
    ranking = rank_labels(mean_abs(before.attributions), mean_abs(now.attributions), 0.5)
    changes = dated_changes(ranking, result, None, before, LiveRecords(now, None, None, START))
    assert {each.onset for each in changes} == {"2026-07-14T13:00:00Z"}


def window_of(values: pl.DataFrame) -> DriftResult:
    """Return the result of a window with histograms."""
    return detect_drift(POLICY, explained(REFERENCE), explained(values), "mean_abs", HOUR)


def altered(rows: int, seed: int, name: str, change: pl.Expr) -> pl.DataFrame:
    """Return records with another distribution of a feature."""
    return live_values(seed, rows).with_columns(change.alias(name))


EVERY_SIXTH = pl.int_range(pl.len()) % 6 == 0
WEAK: dict[str, tuple[str, pl.Expr]] = {
    "new category": ("d", pl.when(EVERY_SIXTH).then(pl.lit("kiosk")).otherwise("d")),
    "missing values": ("b", pl.when(EVERY_SIXTH.not_()).then("b")),
    "factor": ("a", pl.col("a") * 100),
    "offset": ("c", pl.col("c") + 1),
}


@pytest.mark.parametrize("kind", WEAK)
def test_change_begins_in_an_earlier_window_that_is_not_significant(kind: str) -> None:
    """The date is the start of the first of the windows that are more likely with the change than without it."""
    name, change = WEAK[kind]
    windows = [live_values(seed, 40) for seed in (10, 11, 12)] + [altered(60, seed, name, change) for seed in (13, 14)]
    earlier = [
        (START - hours * timedelta(hours=1), window_of(values))
        for hours, values in zip(range(5, 0, -1), windows, strict=True)
    ]
    result = window_of(altered(400, 15, name, change))
    begun = f"{START:%FT%TZ}"
    (dated,) = dated_earlier((Change(ChangeKind.INPUT, name, begun, begun),), result, START, earlier[::-1])
    assert (dated.onset, dated.since) == ("2026-07-14T11:00:00Z", "2026-07-14T11:00:00Z")


def test_only_changes_of_the_whole_first_window_are_dated_earlier() -> None:
    """A change that began inside the window, in a window before, or has no values keeps its date; nothing is read."""
    result = window_of(altered(300, 16, "a", pl.col("a") * 100))
    begun, later, before = (f"2026-07-14T{time}Z" for time in ("13:00:00", "13:20:00", "09:00:00"))
    changes = (
        Change(ChangeKind.INPUT, "a", later, later),
        Change(ChangeKind.INPUT, "a", begun, before),
        Change(ChangeKind.JOINT, "", begun, begun),
        Change(ChangeKind.MODEL, "", begun, begun),
    )
    unread: Iterator[tuple[datetime, DriftResult]] = iter([(START, result)])
    assert dated_earlier(changes, result, START, unread) == changes
    assert next(unread) == (START, result)


@pytest.mark.parametrize("name", ["a", "b", "d"])
def test_beginnings_before_the_true_one_are_rare(name: str) -> None:
    """At most 1 % of unchanged windows before a change seem to have it, for small changes, too."""
    rng, found = np.random.default_rng(20), 0
    for _ in range(300):
        if name == "d":
            sides = [rng.multinomial(count, share) / count for count, share in CATEGORIES]
            names = ("web", "phone", "branch", "kiosk")
            shown = [Histogram((), names, tuple(sides[0]), tuple(side)) for side in sides[1:]]
        else:
            samples = rng.normal(size=600), rng.normal(size=60), rng.normal(size=300) + (0.3 if name == "a" else 1.0)
            shown = [numbers_histogram(samples[0], side) for side in samples[1:]]
        past, now = (observed_by(name, side, rows) for side, rows in zip(shown, (60, 300), strict=True))
        begun = f"{START:%FT%TZ}"
        changes = (Change(ChangeKind.INPUT, name, begun, begun),)
        found += dated_earlier(changes, now, START, [(START - timedelta(hours=1), past)]) != changes
    assert found <= 9


CATEGORIES = (
    (600, [0.4, 0.3, 0.3, 0.0]),
    (60, [0.4, 0.3, 0.3, 0.0]),
    (300, [0.4, 0.3, 0.2, 0.1]),
)
"""Number of records and shares of the categories: of the reference, of the window before, and of the changed one."""


@cache
def unchanged_result() -> DriftResult:
    """Return the result of a window without a change."""
    return window_of(REFERENCE[:300])


def observed_by(name: str, histogram: Histogram, rows: int) -> DriftResult:
    """Return a result with the histogram of a feature's values."""
    result = unchanged_result()
    (label,) = result.labels
    features = tuple(replace(each, values=histogram if each.name == name else None) for each in label.features)
    return replace(result, rows_live=rows, labels=(replace(label, features=features),))
