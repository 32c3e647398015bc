"""The ranking rule of the Clarify monitor: an nDCG below the threshold is a violation.

The reference attributions are the gains; the live attributions determine the order. nDCG is DCG / ideal DCG, where
DCG = Σ_i gain of the i-th feature / log2(i + 1).

Array letter: D features.

Source: Järvelin and Kekäläinen (2002); the use for attributions follows the SageMaker Clarify monitor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import LabelRanking, RankingResult
from runner.errors import FeatureMismatch

ONE_FEATURE = "there is only one feature, so its rank cannot change"
ABSOLUTE = "some attributions are negative (signed medians); the ranking is by absolute value"
DEGENERATE = "the reference is degenerate: all its attributions are zero, so there is no order to compare with"

LABELS_NOTED = 20
"""Maximum number of labels in notes of one kind."""


def ndcg(reference_D: NDArray[np.float64], live_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the nDCG in [0, 1]; features with equal live values get the mean of their gains.

    Args:
        reference_D: non-negative gains; one row or many.
        live_D: values that order the features, largest first; one row or many.

    Returns:
        One value per row, NaN if all gains are zero.

    >>> float(ndcg(np.array([0.70, 0.50, 0.05]), np.array([0.10, 0.20, 0.70])))
    0.6876396241226223
    """
    reference_D, live_D = np.broadcast_arrays(reference_D, live_D)
    order_D = (-live_D).argsort(axis=-1, kind="stable")
    gains_D, values_D = np.take_along_axis(reference_D, order_D, -1), np.take_along_axis(live_D, order_D, -1)
    return _ratio(_dcg(_shared(gains_D, values_D)), reference_D)


def _shared(gains_D: NDArray[np.float64], values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gains; in each run of equal values, every gain is replaced by the mean of the run."""
    first_D = np.ones(values_D.shape, dtype=np.bool_)
    first_D[..., 1:] = values_D[..., 1:] != values_D[..., :-1]
    starts = np.flatnonzero(first_D)
    sizes = np.diff(starts, append=first_D.size)
    shared_D: NDArray[np.float64] = (np.add.reduceat(gains_D.ravel(), starts) / sizes).repeat(sizes)
    return shared_D.reshape(gains_D.shape)


def floor(reference_D: NDArray[np.float64]) -> float:
    """Return the nDCG of the reversed order, the lower bound of all rankings; NaN if all gains are zero."""
    return float(_ratio(_dcg(np.sort(reference_D)), reference_D))


def chance(reference_D: NDArray[np.float64]) -> float:
    """Return the mean nDCG over all orders, the expectation of a random ranking; NaN if all gains are zero."""
    return float(_ratio(_dcg(np.full_like(reference_D, reference_D.mean())), reference_D))


def _ratio(dcg: NDArray[np.float64], reference_D: NDArray[np.float64]) -> NDArray[np.float64]:
    ideal = _dcg(np.sort(reference_D)[..., ::-1])
    none: NDArray[np.float64] = np.full(ideal.shape, np.nan)
    return np.divide(dcg, ideal, out=none, where=ideal > 0)


def _dcg(gains_D: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((gains_D / np.log2(np.arange(gains_D.shape[-1]) + 2)).sum(axis=-1))


def rank_labels(reference: GlobalAttributions, live: GlobalAttributions, threshold: float) -> RankingResult:
    """Compare the live ranking of features with the reference, label by label.

    Features are matched by name, labels by `match_labels`.

    Raises:
        FeatureMismatch: if a feature exists on one side only.
    """
    match_features(reference.names, live.names)
    pairs = match_labels(reference.labels, live.labels)
    drifts = []
    for label, matched in pairs.items():
        reference_D, live_D = reference.values(matched, live.names), live.values(label, live.names)
        drifts.append(_rank(label, matched, reference_D, live_D, threshold))
    unmatched = [f"label {label!r} of the live data" for label in live.labels if label not in pairs]
    unmatched += [f"label {label!r} of the reference" for label in reference.labels if label not in pairs.values()]
    notes = [f"{label} has no counterpart and was not judged" for label in unmatched[:LABELS_NOTED]]
    if len(unmatched) > LABELS_NOTED:
        notes.append(f"{len(unmatched) - LABELS_NOTED:,} more labels have no counterpart and were not judged")
    return RankingResult(threshold, tuple(drifts), tuple(notes))


def match_features(reference: Sequence[str], live: Sequence[str]) -> None:
    """Check that both sides have the same features, in any order.

    Raises:
        FeatureMismatch: if a feature exists on one side only.
    """
    before, now = set(reference), set(live)
    if before != now:
        missing = [name for name in reference if name not in now]
        extra = [name for name in live if name not in before]
        raise FeatureMismatch(missing, extra)


def match_labels(reference: tuple[str, ...], live: tuple[str, ...]) -> dict[str, str]:
    """Return the reference label of each live label: matched by name, or all by position if no name matches.

    >>> match_labels(("0.7956",), ("label0",))
    {'label0': '0.7956'}
    """
    by_name = {label: label for label in live if label in reference}
    if not by_name and len(reference) == len(live):
        return dict(zip(live, reference, strict=True))
    return by_name


def ndcg_range_notes(reference: GlobalAttributions, threshold: float) -> list[str]:
    """Describe the range of nDCG that this reference allows, per label."""
    labels = list(enumerate(reference.labels))
    notes = [_range(label, abs(reference.values_DL[:, i]), threshold) for i, label in labels[:LABELS_NOTED]]
    more = [f"{len(labels) - LABELS_NOTED:,} more labels are not listed here"] if len(labels) > LABELS_NOTED else []
    return [*notes, *more]


def _range(label: str, gains_D: NDArray[np.float64], threshold: float) -> str:
    if not gains_D.any():
        return f"{label}: {DEGENERATE}"
    low, random = floor(gains_D), chance(gains_D)
    ranges = f"{label}: lowest possible nDCG {low:.3f} (reversed ranking), mean nDCG of random rankings {random:.3f}"
    return ranges if low < threshold else f"{ranges}. So nDCG never raises an alert (threshold {threshold:g})"


def _rank(
    label: str, matched: str, reference_D: NDArray[np.float64], live_D: NDArray[np.float64], threshold: float
) -> LabelRanking:
    notes = []
    if (reference_D < 0).any() or (live_D < 0).any():
        notes.append(ABSOLUTE)
    gains_D, live_D = abs(reference_D), abs(live_D)
    if not gains_D.any():
        return LabelRanking(label, matched, None, None, None, (*notes, DEGENERATE))
    if len(gains_D) == 1:
        notes.append(ONE_FEATURE)
    elif floor(gains_D) >= threshold:
        notes.append(f"no order of the features can bring nDCG below {threshold:g}; this rule cannot alarm here")
    return LabelRanking(label, matched, float(ndcg(gains_D, live_D)), floor(gains_D), chance(gains_D), tuple(notes))
