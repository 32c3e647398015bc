"""Significant changes of a window, and the time in the window at which each of them began.

A live record has a score: the log ratio of the frequencies of its value among the live and the reference records. If a
change began inside the window, the scores of later records are higher. The statistic of each possible beginning is the
standardized difference of the mean scores after and before it. If the largest statistic is significant, the change
began inside the window; otherwise, it is in the whole window. The frequencies of the records after and before the
largest statistic give other scores. The sum of these scores is largest from the most likely beginning on.

A change that is in all of a window may be older: in the windows before, it may not have been significant. The records
of such a window are more likely under the distribution of the later window than under that of the reference. If nothing
changed, the likelihood ratio of all of these windows exceeds a million with a probability of at most a millionth.

Source: Andrews, "Tests for parameter instability and structural change with unknown change point", Econometrica 61
(1993). With at least 5 % of the records on each side, the maximum exceeds 3.6 with probability 1 %. Ville (1939),
"Étude critique de la notion de collectif", for the likelihood ratio.

Array letters: N reference records, M live records, sorted by time from `beginning` on, B bins or categories.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import Change, ChangeKind, DriftResult, Histogram, Level, Parity, RankingResult
from runner.drift.inputs import are_numeric
from runner.drift.pairing import pair
from runner.drift.verdict import changed_output, worst_label

MOST_CHANGES = 20
"""Maximum number of changes of a window that are dated."""
MOST_ROWS = 20_000
"""Maximum number of records that are compared, at equal distances in the order of time."""
SIGNIFICANT = 4.0
"""Maximum of the statistic from which a change began inside the window; higher than 3.6, for dependent records."""
FEWEST = 10
"""Minimum number of records before and after a beginning."""
SHARE = 0.05
"""Minimum share of the records before and after a beginning."""
BINS = 20
"""Number of bins of each side's numbers."""
MOST_EARLIER = 48
"""Maximum number of earlier windows that are searched for a change."""
EVIDENCE, COUNTER_EVIDENCE = math.log(1e6), math.log(100)
"""Logarithms of the likelihood ratios from which an earlier window has a change, and does not have it.

The first one is large because the distributions of the changed window are those of another hour.
"""
TIME = "%FT%TZ"
"""Format of times, in UTC."""
ROWS_PER_BIN = 10
"""Minimum number of records per bin in the comparison of earlier windows with the changed one."""
Scores = NDArray[np.float64]


@dataclass(frozen=True)
class LiveRecords:
    """Records of a window in any order.

    Attributes:
        explained: records with their attributions.
        at_M: event times in microseconds since 1970; None if they are unknown.
        differs_M: whether the captured scores are those of another model; None if this is unknown.
        start: start of the window.
    """

    explained: Explained
    at_M: NDArray[np.int64] | None
    differs_M: NDArray[np.bool_] | None
    start: datetime


def dated_changes(
    ranking: RankingResult, result: DriftResult, parity: Parity | None, before: Explained, live: LiveRecords
) -> tuple[Change, ...]:
    """Return the significant changes of a window, the one that the headline names first, each with its beginning.

    Args:
        ranking: result of the nDCG rule.
        result: result of the statistical tests.
        parity: comparison of captured with recomputed scores; None if nothing was comparable.
        before: stored reference records.
        live: records of the window.
    """
    found = list(_found(ranking, result, parity))[:MOST_CHANGES]
    rows = order_of_time(live.at_M) if live.at_M is not None else None
    dated = []
    for kind, name in found:
        onset = live.start
        if rows is not None and live.at_M is not None:
            sides = _compared(kind, name, result, before, live, rows)
            at = None if sides is None else most_likely_beginning(*sides, live.at_M[rows])
            onset = onset if at is None else datetime.fromtimestamp(at // 1_000_000, UTC)
        dated.append(Change(kind, name, f"{onset:{TIME}}", f"{onset:{TIME}}"))
    return tuple(dated)


def dated_earlier(
    changes: Sequence[Change], result: DriftResult, start: datetime, earlier: Iterable[tuple[datetime, DriftResult]]
) -> tuple[Change, ...]:
    """Return the changes with earlier beginnings if windows before had them without being significant.

    Args:
        changes: changes of a window with their beginnings, also those in windows before.
        result: result of the tests of the window.
        start: start of the window.
        earlier: start and result of the windows before, newest first; they are read only as far as needed.
    """
    begun = f"{start:{TIME}}"
    searches = {
        change: _Search(observed)
        for change in changes
        if change.since == begun and (observed := _Observed.of(change.kind, change.name, result))
    }
    for at, past in islice(earlier if searches else (), MOST_EARLIER):
        for change, search in searches.items():
            search.add(at, _Observed.of(change.kind, change.name, past))
        if all(search.ended for search in searches.values()):
            break
    dates = {change: search.found for change, search in searches.items() if search.found}
    return tuple(replace(each, onset=dates[each], since=dates[each]) if each in dates else each for each in changes)


@dataclass
class _Search:
    """Search for the first window with a change, from the newest one on.

    Attributes:
        changed: values of the window in which the change is significant.
        found: start of the earliest window that has the change; empty without one.
        evidence: log likelihood ratio of the windows before it.
        ended: whether a window without the change was found.
    """

    changed: _Observed
    found: str = ""
    evidence: float = 0.0
    ended: bool = False

    def add(self, start: datetime, observed: _Observed | None) -> None:
        """Consider the next window before; one without tests has no evidence."""
        if self.ended or observed is None:
            return
        self.evidence += observed.evidence(self.changed)
        if self.evidence >= EVIDENCE:
            self.found, self.evidence = f"{start:{TIME}}", 0.0
        self.ended = self.evidence <= -COUNTER_EVIDENCE


@dataclass(frozen=True)
class _Observed:
    """Values of an input, attributions of a feature, or scores in a window.

    Attributes:
        rows: number of reference and of live records.
        missing: share of missing values on both sides.
        unseen: share of the live records with values that are not in the reference.
        histogram: histogram of the values; None if it was not stored.
    """

    rows: tuple[int, int]
    missing: tuple[float, float] = (0.0, 0.0)
    unseen: float = 0.0
    histogram: Histogram | None = None

    @classmethod
    def of(cls, kind: ChangeKind, name: str, result: DriftResult) -> _Observed | None:
        """Return the values that a change concerns; None if they were not stored."""
        rows = result.rows_reference, result.rows_live
        features = [each for label in result.labels for each in label.features if each.name == name]
        if kind is ChangeKind.INPUT:
            values = next((each.values for each in features if each.values), None)
            inputs = (each for each in result.inputs if each.name == name)
            found = ((each.missing_before, each.missing_now, each.unseen) for each in inputs)
            return next((cls(rows, (before, now), unseen, values) for before, now, unseen in found), None)
        histograms = [each.attributions for each in features] if kind is ChangeKind.ATTRIBUTION else []
        histograms += [each.scores for each in result.outputs if kind is ChangeKind.OUTPUT and each.label == name]
        return next((cls(rows, histogram=each) for each in histograms if each), None)

    def evidence(self, changed: _Observed) -> float:
        """Return the log likelihood ratio of the live records: of the changed distribution, and of the reference."""
        sides = (self.missing[1], self.rows[1]), (changed.missing[1], changed.rows[1]), (self.missing[0], self.rows[0])
        total = _log_likelihood_ratio(*(np.array([share, 1 - share]) * rows for share, rows in sides))
        present = [(1 - share) * rows for share, rows in sides]
        shares = (
            self.histogram and changed.histogram and _aligned(self.histogram, changed.histogram, self._bins(changed))
        )
        if not shares:
            known = 1 / (1 + self.rows[0])
            shares = tuple(np.array([share, 1 - share]) for share in (self.unseen, changed.unseen, known))
        return total + _log_likelihood_ratio(*(share_B * rows for share_B, rows in zip(shares, present, strict=True)))

    def _bins(self, changed: _Observed) -> int:
        """Return the number of bins of numbers whose shares are known well enough."""
        return max(2, min(self.rows[0], changed.rows[1]) // ROWS_PER_BIN)


Shares = tuple[NDArray[np.float64], ...]
"""Shares of bins: of the live records of a window, of the changed ones, and of the reference records."""


def _aligned(window: Histogram, changed: Histogram, bins: int) -> Shares | None:
    """Return the shares of bins or categories: of a window, of the changed records, and of the reference.

    Args:
        window: histogram of the window; its bins are pooled.
        changed: histogram of the changed records. Categories that only one histogram names are one category.
        bins: maximum number of bins.
    """
    if bool(window.edges) != bool(changed.edges):
        return None
    if window.edges:
        cumulated = np.append(0.0, np.cumsum(changed.live))
        inner = np.interp(window.edges[1:-1], changed.edges, cumulated)
        sides = np.array([window.live, np.diff(inner, prepend=0.0, append=1.0), window.reference])
        middle_B = sides[1:].mean(axis=0)
        pool_B = ((np.cumsum(middle_B) - middle_B / 2) * bins).astype(int)
        pooled = np.add.reduceat(sides, np.flatnonzero(np.diff(pool_B, prepend=-1)), axis=1)
        return pooled[0], pooled[1], pooled[2]
    names = [name for name in window.names if name in changed.names]
    named = (window, window.live), (changed, changed.live), (window, window.reference)
    known = [[shares[side.names.index(name)] for name in names] for side, shares in named]
    return tuple(np.array([*each, max(0.0, 1 - sum(each))]) for each in known)


def _log_likelihood_ratio(live_B: Scores, changed_B: Scores, reference_B: Scores) -> float:
    """Return the log likelihood ratio of live records, given the numbers of records of each bin."""
    shares = [(side_B + 0.5) / (side_B.sum() + 0.5 * len(side_B)) for side_B in (changed_B, reference_B)]
    return float(live_B @ np.log(shares[0] / shares[1]))


def _found(ranking: RankingResult, result: DriftResult, parity: Parity | None) -> Iterator[tuple[ChangeKind, str]]:
    """Yield kind and name of each significant change."""
    if parity and not parity.same:
        yield ChangeKind.SERVING, ""
    if result.canary and result.canary.changed:
        yield ChangeKind.MODEL, ""
    inputs = [each.name for each in result.changed_inputs]
    yield from ((ChangeKind.INPUT, name) for name in inputs)
    if result.joint_change:
        yield ChangeKind.JOINT, ""
    changed = (
        each.name
        for label in sorted(result.labels, key=lambda label: label is not worst_label(result))
        for each in label.top_changes
        if each.p <= result.significance and each.name not in inputs
    )
    attributions = [(ChangeKind.ATTRIBUTION, name) for name in dict.fromkeys(changed)]
    if result.is_separable and not (attributions or inputs or result.joint_change):
        attributions = [(ChangeKind.ATTRIBUTION, "")]
    outputs = [each for each in result.outputs if each.level is not Level.NONE]
    first = changed_output(outputs) if outputs else None
    scores = [(ChangeKind.OUTPUT, each.label) for each in sorted(outputs, key=lambda each: each is not first)]
    yield from [*scores, *attributions] if result.without_inputs else [*attributions, *scores]
    quiet = {Level.NONE, Level.INSUFFICIENT_DATA}
    yield from ((ChangeKind.SEGMENT, each.name) for each in result.segments if each.level not in quiet)
    yield from ((ChangeKind.RANKING, each.label) for each in ranking.violations)


def order_of_time(at_M: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the indices of at most `MOST_ROWS` records at equal distances in the order of time."""
    order_M = np.argsort(at_M, kind="stable")
    if len(order_M) <= MOST_ROWS:
        return order_M
    return order_M[np.linspace(0, len(order_M) - 1, MOST_ROWS).astype(np.intp)]


def beginning(scores_M: Scores, at_M: NDArray[np.int64]) -> int | None:
    """Return the time of the first record with higher scores, or None if no beginning is significant.

    Args:
        scores_M: scores of the records, sorted by time.
        at_M: times of the records, ascending.

    >>> beginning(np.repeat([0.0, 1.0], 50), np.arange(100)), beginning(np.tile([0.0, 1.0], 50), np.arange(100))
    (50, None)
    """
    M = len(scores_M)
    fewest = max(FEWEST, int(SHARE * M))
    spread = float(scores_M.std()) if fewest * 2 <= M else 0.0
    if spread == 0:
        return None
    first_K = np.arange(fewest, M - fewest + 1)
    first_K = first_K[at_M[first_K - 1] < at_M[first_K]]
    if not len(first_K):
        return None
    before_K = np.concatenate([[0.0], np.cumsum(scores_M - scores_M.mean())])[first_K]
    statistic_K = -before_K / (spread * np.sqrt(first_K * (1 - first_K / M)))
    best = int(statistic_K.argmax())
    return int(at_M[first_K[best]]) if statistic_K[best] > SIGNIFICANT else None


def most_likely_beginning(before: pl.Series, now: pl.Series, at_M: NDArray[np.int64]) -> int | None:
    """Return the time from which the values of live records have most likely changed; None if it is not significant.

    Args:
        before: values of the reference.
        now: values of the live records, sorted by time.
        at_M: times of the live records, ascending.
    """
    first = beginning(log_ratio(before, now), at_M)
    if first is None:
        return None
    scores_M = log_ratio(before, now, at_M >= first)
    sum_M = np.cumsum(scores_M[::-1])[::-1]
    first_K = np.flatnonzero(np.append(True, at_M[1:] > at_M[:-1]))
    return int(at_M[first_K[sum_M[first_K].argmax()]])


def _compared(
    kind: ChangeKind,
    name: str,
    result: DriftResult,
    before: Explained,
    live: LiveRecords,
    rows: NDArray[np.intp],
) -> tuple[pl.Series, pl.Series] | None:
    """Return the values of the reference and of these live records, or None if the change has no time in the window."""
    now = live.explained
    if kind is ChangeKind.SERVING and live.differs_M is not None:
        return pl.Series(np.zeros(before.features.height)), pl.Series(live.differs_M[rows].astype(np.float64))
    if kind is ChangeKind.INPUT:
        return before.features[name], now.features[name][rows]
    if kind is ChangeKind.JOINT and result.association and result.association.level is not Level.NONE:
        names = result.association.first, result.association.second
        return _products(before.features, before.features, names), _products(now.features[rows], before.features, names)
    if kind is ChangeKind.ATTRIBUTION and name:
        label = min(result.labels, key=lambda label: min(each.p for each in label.features if each.name == name))
        both = pair(before.attributions, now.attributions, "mean_abs")
        i, d = [each.label for each in result.labels].index(label.label), both.names.index(name)
        return pl.Series(both.before[i][:, d]), pl.Series(both.now[i][rows, d])
    if kind is ChangeKind.OUTPUT:
        (reference,) = [each.reference_label for each in result.labels if each.label == name]
        sides = (before.attributions, reference), (now.attributions, name)
        values = [side.scores_NL[:, side.labels.index(label)] for side, label in sides]
        return pl.Series(values[0]), pl.Series(values[1][rows])
    return None


def log_ratio(before: pl.Series, now: pl.Series, changed_M: NDArray[np.bool_] | None = None) -> Scores:
    """Return for each live value the log ratio of its frequencies among the live and the reference values.

    Args:
        before: values of the reference.
        now: values of the live records.
        changed_M: live records that are changed, so that the others count as reference records; None for all.
    """
    if are_numeric(before, now):
        sides = [side.cast(pl.Float64).fill_null(float("nan")).to_numpy() for side in (before, now)]
        quantiles = np.linspace(0, 1, BINS + 1)
        edges = np.unique(np.concatenate([_quantiles(side, quantiles) for side in sides]))
        codes = [
            np.where(np.isfinite(side), np.searchsorted(edges, side, side="right"), len(edges) + 1) for side in sides
        ]
    else:
        codes_K = pl.concat([before.cast(pl.String), now.cast(pl.String)]).rank("dense").fill_null(0).to_numpy()
        codes = [codes_K[: len(before)], codes_K[len(before) :]]
    bins = int(max(side.max(initial=0) for side in codes)) + 1
    is_changed_M = np.ones(len(now), dtype=bool) if changed_M is None else changed_M
    counted = codes[1][is_changed_M], np.append(codes[0], codes[1][~is_changed_M])
    counts = [np.bincount(side.astype(np.intp), minlength=bins) for side in counted]
    shares = [(side_B + 0.5) / (side_B.sum() + 0.5 * bins) for side_B in counts]
    ratio_B = np.log(shares[0] / shares[1])
    scores_M: Scores = ratio_B[codes[1].astype(np.intp)]
    return scores_M


def _quantiles(values: Scores, quantiles: Scores) -> Scores:
    finite = values[np.isfinite(values)]
    return np.quantile(finite, quantiles) if len(finite) else np.empty(0)


def _products(side: pl.DataFrame, reference: pl.DataFrame, names: tuple[str, str]) -> pl.Series:
    """Return the products of two features' positions among the reference values, from -1 to 1."""
    product_M = np.ones(side.height)
    for name in names:
        values, known = (each[name] for each in (side, reference))
        if not are_numeric(values, known):
            values, known = values.cast(pl.String).fill_null(""), known.cast(pl.String).fill_null("")
            ordered, at = np.sort(known.to_numpy()), values.to_numpy()
        else:
            ordered = np.sort(known.cast(pl.Float64).fill_null(float("nan")).to_numpy())
            at = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        low, high = (np.searchsorted(ordered, at, side=each) for each in ("left", "right"))
        product_M *= (low + high) / max(1, len(ordered)) - 1
    return pl.Series(product_M)
