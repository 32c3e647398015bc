"""Significant changes of a window, and the time in the window at which each of them began.

A live record has a score: the log ratio of the frequencies of its value among the live and the reference records. If a
change began inside the window, the scores of later records are higher. The statistic of each possible beginning is the
standardized difference of the mean scores after and before it. The beginning is where the statistic is largest, if this
maximum is significant; otherwise the change is in the whole window.

Source: Andrews, "Tests for parameter instability and structural change with unknown change point", Econometrica 61
(1993). With at least 5 % of the records on each side, the maximum exceeds 3.6 with probability 1 %.

Array letters: N reference records, M live records, sorted by time from `_beginning` on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import Change, ChangeKind, DriftResult, Level, Parity, RankingResult
from runner.drift.inputs import are_numeric
from runner.drift.pairing import pair

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
TIME = "%FT%TZ"
"""Format of times, in UTC."""
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
            scores_M = _scores(kind, name, result, before, live, rows)
            at = None if scores_M is None else beginning(scores_M, live.at_M[rows])
            onset = onset if at is None else datetime.fromtimestamp(at // 1_000_000, UTC)
        dated.append(Change(kind, name, f"{onset:{TIME}}", f"{onset:{TIME}}"))
    return tuple(dated)


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
        for label in sorted(result.labels, key=lambda label: -label.level.order)
        for each in sorted(label.features, key=lambda each: (each.p, -each.distance))
        if each.p <= result.significance and each.name not in inputs
    )
    yield from ((ChangeKind.ATTRIBUTION, name) for name in dict.fromkeys(changed))
    yield from ((ChangeKind.OUTPUT, each.label) for each in result.outputs if each.level is not Level.NONE)
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


def _scores(
    kind: ChangeKind,
    name: str,
    result: DriftResult,
    before: Explained,
    live: LiveRecords,
    rows: NDArray[np.intp],
) -> Scores | None:
    """Return the scores of these live records, or None if the change has no time inside the window."""
    now = live.explained
    if kind is ChangeKind.SERVING and live.differs_M is not None:
        return live.differs_M[rows].astype(np.float64)
    if kind is ChangeKind.INPUT:
        return log_ratio(before.features[name], now.features[name][rows])
    if kind is ChangeKind.JOINT and result.association and result.association.level is not Level.NONE:
        names = result.association.first, result.association.second
        return log_ratio(*(_products(side, before.features, names) for side in (before.features, now.features[rows])))
    if kind is ChangeKind.ATTRIBUTION:
        label = min(result.labels, key=lambda label: min(each.p for each in label.features if each.name == name))
        both = pair(before.attributions, now.attributions, "mean_abs")
        i, d = [each.label for each in result.labels].index(label.label), both.names.index(name)
        return log_ratio(pl.Series(both.before[i][:, d]), pl.Series(both.now[i][rows, d]))
    if kind is ChangeKind.OUTPUT:
        (reference,) = [each.reference_label for each in result.labels if each.label == name]
        sides = (before.attributions, reference), (now.attributions, name)
        values = [side.scores_NL[:, side.labels.index(label)] for side, label in sides]
        return log_ratio(pl.Series(values[0]), pl.Series(values[1][rows]))
    return None


def log_ratio(before: pl.Series, now: pl.Series) -> Scores:
    """Return for each live value the log ratio of its frequencies among the live and the reference values."""
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
    before_B, now_B = (np.bincount(side.astype(np.intp), minlength=bins) for side in codes)
    ratio_B = np.log((now_B + 0.5) / (len(now) + 0.5 * bins)) - np.log((before_B + 0.5) / (len(before) + 0.5 * bins))
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
