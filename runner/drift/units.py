"""Units of observation: groups of dependent records, such as those of a customer, and repetitions of a record.

Records of one unit are similar. Tests that count each of them as an observation raise false alarms. Of each unit, one
random record counts, on one side only: a unit that occurs in the reference and in the window is assigned to one of them
at random. If units are independent, all divisions of them into both sides are equally likely, whatever their numbers of
records, so the tests remain exact.

A customer who comes each hour is in each window, but a light user is not. In the reference, each interval of the length
of a window is therefore an occurrence of a unit, and units are drawn by their occurrences. The draw ends before many
are drawn twice, because otherwise all units would be in the reference, with equal weight.

A client may send the same records again and again. Tests that count each repetition as a new observation raise false
alarms. Records with few and coarse features, however, are often equal by chance, and such records are observations of
their own. Equal records are repetitions if chance does not explain them: if their features have enough combinations.

Records of a population can also be popular, such as those of the items of a catalogue. Both sides then repeat the same
records. If only the first one counted, the popular ones would have less weight on the larger side, and tests would
raise false alarms. All records count if the repetitions are those of one population: if random divisions of the pooled
records have as many.

Array letters: U different records, D features, E features that were considered before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.numbers import plural
from runner.drift.pairing import record_values
from runner.drift.policy import DriftPolicy
from runner.errors import listed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

WHOLE = {"content", "record"}
"""Values of `drift.unit` that name no group of records."""
MIN_DIFFERENT = 0.9
"""Minimum share of different units among the occurrences that are drawn from the reference."""
MIN_FEATURES = 2
"""Minimum number of features that records of a group share."""
FEWER_GROUPS = 0.75
"""Ratio of the numbers of groups without and with a feature, above which the feature is equal in most groups."""
MIN_RATIO = 10
"""Minimum ratio of the frequencies of equal pairs in a window and in the reference from which records are grouped."""
MOST_NAMES = 3
"""Maximum number of features in a note."""
MOST_BY_CHANCE = 0.1
"""Maximum expected number of records that equal a record by chance, if equal records are repetitions."""
MIN_PAIRS = 10
"""Minimum number of pairs with equal values of a feature from which its dependence on another one is estimated."""
DIVISIONS = 30
MOST_DEVIATIONS = 5
"""Number of random divisions into both sides; maximum excess of repetitions over theirs, in standard deviations."""
NEW_MASS, MOST_KNOWN = 0.1, 0.1
"""Share of a window from which all repetitions of a record count, and largest share in the reference relative to it."""
MOST_ROWS = 2_000
"""Maximum number of different records from which the probability of equal records is estimated."""
MOST_COLUMNS = 20
"""Maximum number of features from which it is estimated, those with the most values."""


@dataclass(frozen=True)
class Observations:
    """Records of both sides that the tests count, and notes on the others."""

    before: Explained
    now: Explained
    notes: list[str]


def observations(
    policy: DriftPolicy, before: Explained, now: Explained, start: datetime | None, length: timedelta
) -> Observations:
    """Return the independent records of a reference and of a window.

    Raises:
        SegmentError: if the expression in `drift.unit` is not valid.
    """
    if policy.unit == "content":
        rows_M = different(policy, before.features, now.features)
        sides = before.rows(without_repetitions(before.features)), now.rows(rows_M)
        counted, why = "different record", "the tests count repetitions of a record once (drift.unit)"
        if sides[1].features.is_duplicated().any():
            counted, why = (
                "counted record",
                "repetitions count once, except those of a new and frequent record (drift.unit)",
            )
    else:
        sides = _one_per_unit_of_both(policy, one_per_unit(before, policy, start or EPOCH, length), now)
        counted, why = "unit", f"the tests use one random record of each (drift.unit={policy.unit})"
    count, total = (len(each.attributions.phi_NDL) for each in (sides[1], now))
    notes = [f"{plural(count, counted)} among {plural(total, 'record')}: {why}"] if count < total else []
    return Observations(*sides, notes)


def settled(policy: DriftPolicy, before: pl.DataFrame, now: pl.DataFrame) -> DriftPolicy:
    """Return the policy with `drift.unit=record` if the repetitions of both sides are those of one population."""
    if policy.unit != "content" or not _repeat_alike(_contents(before, now), before.height, policy.seed):
        return policy
    return replace(policy, unit="record")


def _contents(before: pl.DataFrame, now: pl.DataFrame) -> NDArray[np.intp]:
    """Return a number for each record of both sides, equal for equal records."""
    if not before.width:
        return np.arange(before.height + now.height)
    keys = [side.hash_rows().to_numpy() for side in (before, now.select(before.columns))]
    return np.unique(np.concatenate(keys), return_inverse=True)[1]


def _repeat_alike(content_K: NDArray[np.intp], N: int, seed: int) -> bool:
    """Return whether random divisions of the records have as many repetitions on both sides as the actual one."""
    rng = np.random.default_rng([seed, 2])

    def counts(content_K: NDArray[np.intp]) -> tuple[int, int]:
        return len(np.unique(content_K[:N])), len(np.unique(content_K[N:]))

    actual = np.array(counts(content_K))
    if actual[0] == N:
        return False
    random = np.array([counts(rng.permutation(content_K)) for _ in range(DIVISIONS)])
    return bool((random.mean(axis=0) - actual <= MOST_DEVIATIONS * random.std(axis=0, ddof=1)).all())


def different(policy: DriftPolicy, before: pl.DataFrame, now: pl.DataFrame) -> NDArray[np.intp]:
    """Return the indices of the live records that count if repetitions count once, ascending.

    All repetitions count of a record that is a large part of the window, and rare in the reference, because this is a
    change of its own, such as an outage of a source that leaves all values missing. The other records must differ,
    because otherwise clients repeat records in general. A window with too few different records has no verdict.
    """
    rows_M = without_repetitions(now)
    if len(rows_M) == now.height or len(rows_M) < policy.min_rows:
        return rows_M
    content_K, N = _contents(before, now), before.height
    before_U, now_U = (np.bincount(side, minlength=content_K.max(initial=-1) + 1) for side in np.split(content_K, [N]))
    share_U = now_U / max(1, now.height)
    is_new_U = (share_U >= NEW_MASS) & (before_U / max(1, N) <= MOST_KNOWN * share_U)
    is_new_M = is_new_U[content_K[N:]]
    others = int((~is_new_M).sum())
    if len(np.setdiff1d(rows_M, np.flatnonzero(is_new_M))) < MIN_DIFFERENT * others:
        return rows_M
    return np.union1d(rows_M, np.flatnonzero(is_new_M))


def one_per_unit(
    explained: Explained, policy: DriftPolicy, start: datetime | None = None, length: timedelta | None = None
) -> Explained:
    """Return one random record of each unit; all records if `drift.unit` names no unit, or events are unknown.

    Args:
        explained: records.
        policy: unit, and seed of the choice.
        start: start of the first interval; a unit counts once in each interval; None for a single one.
        length: length of the intervals.

    Raises:
        SegmentError: if the expression in `drift.unit` is not valid.
    """
    unit_N = _units(explained, policy)
    if unit_N is None:
        return explained
    keys = pl.DataFrame({"unit": unit_N})
    if start and length and explained.events is not None:
        interval = (explained.events["at"] - start).dt.total_microseconds() // (length // timedelta(microseconds=1))
        keys = keys.with_columns(interval)
    return explained.rows(sample_one_per_unit(keys, policy.seed))


def _one_per_unit_of_both(policy: DriftPolicy, before: Explained, now: Explained) -> tuple[Explained, Explained]:
    """Return one random record of each unit, which is on one side only; events are never on both sides."""
    if policy.unit == "event" or policy.unit in WHOLE:
        return before, one_per_unit(now, policy)
    rng = np.random.default_rng([policy.seed, 1])
    unit_N, unit_M = _numbers(*(record_values(policy.unit, side.features, "drift.unit") for side in (before, now)))
    rows_M = sample_one_per_unit(pl.DataFrame({"unit": unit_M}), policy.seed)
    rows_N = _by_occurrence(unit_N, rng)
    shared = np.intersect1d(unit_N[rows_N], unit_M)
    largest_product = (len(rows_N) + len(shared) - len(rows_M)) // 2
    live = rng.choice(shared, min(len(shared), max(0, largest_product)), replace=False, shuffle=False)
    rows_N = rows_N[~np.isin(unit_N[rows_N], live)]
    rows_M = rows_M[~np.isin(unit_M[rows_M], np.setdiff1d(shared, live))]
    return before.rows(rows_N), now.rows(rows_M)


def _by_occurrence(unit_N: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return one random occurrence of each unit, of a random part of the occurrences with few repeated units."""
    order_N = rng.permutation(len(unit_N))
    _, first = np.unique(unit_N[order_N], return_index=True)
    different_N = np.zeros(len(unit_N))
    different_N[first] = 1
    enough = np.flatnonzero(different_N.cumsum() >= MIN_DIFFERENT * np.arange(1, len(unit_N) + 1))
    rows: NDArray[np.intp] = np.sort(order_N[first[first <= enough.max(initial=0)]])
    return rows


def _units(explained: Explained, policy: DriftPolicy) -> NDArray[np.int64] | None:
    """Return the number of the unit of each record, or None if each record counts."""
    if policy.unit in WHOLE or (policy.unit == "event" and explained.events is None):
        return None
    if policy.unit == "event" and explained.events is not None:
        return explained.events["event"].cast(pl.Int64).to_numpy()
    values = record_values(policy.unit, explained.features, "drift.unit")
    return _numbers(values, values[:0])[0]


def _numbers(before: pl.Series, now: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a number for each value, equal for equal values; a missing value has a number of its own."""
    kind = pl.Float64() if before.dtype.is_numeric() and now.dtype.is_numeric() else pl.String()
    pooled = pl.concat([side.cast(kind).alias("unit") for side in (before, now)])
    number_K = pooled.rank("dense").cast(pl.Int64).fill_null(0).to_numpy()
    number_K = np.where(pooled.is_null().to_numpy(), -1 - np.arange(len(number_K)), number_K)
    return number_K[: len(before)], number_K[len(before) :]


def check_unit(policy: DriftPolicy, features: pl.DataFrame) -> None:
    """Check the expression in `drift.unit` before records are explained.

    Raises:
        SegmentError: if it is not valid.
    """
    if policy.unit not in {*WHOLE, "event"}:
        record_values(policy.unit, features, "drift.unit")


def sample_one_per_unit(keys: pl.DataFrame, seed: int) -> NDArray[np.intp]:
    """Return the indices of one random record of each unit, ascending.

    Args:
        keys: one row for each record; records of one unit have equal rows.
        seed: seed of the random choice.

    >>> sample_one_per_unit(pl.DataFrame({"line": [1, 1, 2, 3, 3]}), 0).tolist()
    [0, 2, 4]
    """
    unit_M = keys.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy()
    order_M = np.random.default_rng(seed).permutation(len(unit_M))
    _, first = np.unique(unit_M[order_M], return_index=True)
    indices: NDArray[np.intp] = np.sort(order_M[first])
    return indices


def without_repetitions(features: pl.DataFrame) -> NDArray[np.intp]:
    """Return the indices of the records without repetitions, ascending: the first one of equal records.

    All indices are returned if equal records are frequent by chance.

    >>> without_repetitions(pl.DataFrame({"a": [i / 7 for i in range(100)] * 2, "b": [*range(100)] * 2})).shape
    (100,)
    >>> without_repetitions(pl.DataFrame({"a": [True, False] * 20})).shape
    (40,)
    """
    first: NDArray[np.intp] = np.arange(features.height)
    if features.width:
        first = np.flatnonzero(features.hash_rows().is_first_distinct().to_numpy())
    if len(first) < features.height and equal_by_chance(features[first]) * features.height > MOST_BY_CHANCE:
        return np.arange(features.height)
    return first


def group_features(before: pl.DataFrame, now: pl.DataFrame) -> list[str]:
    """Return the features whose values most live records share with another one; empty if chance explains this.

    Features are left out, the one that makes most records equal first, until records share the others with at least one
    more record on average, and no feature is left that differs in most groups. Pairs of equal records must be
    `MIN_RATIO` times as frequent as in the reference.
    """
    sample = now[:MOST_ROWS].select(each for each in now.select(before.columns) if each.n_unique() > 1)
    names = sorted(sample.columns, key=lambda name: -sample[name].n_unique())[:MOST_COLUMNS]
    rng = np.random.default_rng(0)
    codes = {name: sample[name].rank("dense").fill_null(0).to_numpy() for name in names}
    hashes = {name: rng.integers(0, 2**63, sample.height + 1, dtype=np.uint64)[codes[name]] for name in names}
    total_U = sum(hashes.values(), np.zeros(sample.height, np.uint64))
    groups = sample.height
    while names:
        fewer, most = min((len(np.unique(total_U - hashes[name])), name) for name in names)
        if groups <= sample.height / 2 and fewer > groups * FEWER_GROUPS:
            break
        groups, total_U = fewer, total_U - hashes[most]
        names.remove(most)
    if len(names) < MIN_FEATURES:
        return []
    rate = equal_by_chance(before.select(names)[:MOST_ROWS])
    return names if _equal_pairs(total_U) >= MIN_RATIO * rate else []


def group_notes(policy: DriftPolicy, before: pl.DataFrame, now: pl.DataFrame) -> list[str]:
    """Return a note if records seem to be dependent, and `drift.unit` names no group of records."""
    if policy.unit not in {*WHOLE, "event"}:
        return []
    names = group_features(before, now)
    group = "records seem to come in groups with the same"
    remedy = "if such records depend on each other, name the group by drift.unit"
    return [f"{group} {listed(names, MOST_NAMES)}: {remedy}"] if names else []


def equal_by_chance(different: pl.DataFrame) -> float:
    """Return an upper estimate of the probability that two records of the population are equal.

    It is the probability of equal values in the feature with the most values, times the probability of equal values in
    each further feature, given equal values in the feature that predicts it best. A feature that is a function of
    another one thus leaves the estimate unchanged.

    Args:
        different: records of the population, without repetitions.
    """
    sample = different[:MOST_ROWS]
    codes_DU = [sample[name].rank("dense").fill_null(0).to_numpy() for name in sample.columns]
    equal_D = [_equal_pairs(codes_U) for codes_U in codes_DU]
    known = MIN_PAIRS / max(1.0, len(sample) * (len(sample) - 1) / 2)
    probability, predictors = 1.0, list[int]()
    for d in sorted(range(len(codes_DU)), key=equal_D.__getitem__)[:MOST_COLUMNS]:
        joint_E = [_equal_pairs(codes_DU[d] * len(sample) + codes_DU[e]) for e in predictors]
        given = [joint / equal_D[e] for joint, e in zip(joint_E, predictors, strict=True)]
        probability *= max([equal_D[d], *given])
        predictors += [d] if equal_D[d] >= known else []
    return probability


def _equal_pairs(codes_U: NDArray[np.unsignedinteger[Any]]) -> float:
    """Return the share of pairs of records with equal codes, at least one pair."""
    counts = np.unique(codes_U, return_counts=True)[1].astype(np.float64)
    pairs = len(codes_U) * (len(codes_U) - 1) / 2
    return max(1.0, float((counts * (counts - 1) / 2).sum())) / max(1.0, pairs)
