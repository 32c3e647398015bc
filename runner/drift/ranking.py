"""The ranking rule of the Clarify monitor: an nDCG against the reference below the threshold is a violation.

Array letter: D features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import LabelRanking, RankingResult
from runner.drift.ndcg import chance, floor, ndcg
from runner.errors import FeatureMismatch

ONE_FEATURE = "there is only one feature, so its rank cannot change"
ABSOLUTE = "some attributions are negative (signed medians); the ranking is by absolute value"
DEGENERATE = "the reference is degenerate: all its attributions are zero, so there is no order to compare with"


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
    notes = tuple(f"{label} has no counterpart and was not judged" for label in unmatched)
    return RankingResult(threshold, tuple(drifts), notes)


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
    return [_range(label, abs(reference.values_DL[:, i]), threshold) for i, label in enumerate(reference.labels)]


def _range(label: str, gains_D: NDArray[np.float64], threshold: float) -> str:
    if not gains_D.any():
        return f"{label}: {DEGENERATE}"
    low, random = floor(gains_D), chance(gains_D)
    ranges = f"{label}: nDCG is at least {low:.3f} (reversed order); a random order has {random:.3f} on average"
    return ranges if low < threshold else f"{ranges}. nDCG < {threshold:g} can never alert"


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
