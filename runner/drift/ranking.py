"""The verdict of the Clarify monitor: a label whose nDCG against the reference is below the threshold is a violation.

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


def judge(reference: GlobalAttributions, live: GlobalAttributions, threshold: float) -> RankingResult:
    """Return the verdict on live attributions; features are matched by name, labels as `match_labels` says.

    Raises:
        FeatureMismatch: when a feature exists on one side only.
    """
    match_features(reference.names, live.names)
    pairs = match_labels(reference.labels, live.labels)
    drifts = []
    for ours, theirs in pairs.items():
        gains_D, live_D = reference.values(theirs, live.names), live.values(ours, live.names)
        drifts.append(_drift(ours, theirs, gains_D, live_D, threshold))
    unmatched = [f"label {label!r} of the live data" for label in live.labels if label not in pairs]
    unmatched += [f"label {label!r} of the reference" for label in reference.labels if label not in pairs.values()]
    notes = tuple(f"{label} has no counterpart and was not judged" for label in unmatched)
    return RankingResult(threshold, tuple(drifts), notes)


def match_features(reference: Sequence[str], live: Sequence[str]) -> None:
    """Make sure that both sides have the same features, in whatever order.

    Raises:
        FeatureMismatch: naming those that exist on one side only.
    """
    before, now = set(reference), set(live)
    if before != now:
        missing = [name for name in reference if name not in now]
        extra = [name for name in live if name not in before]
        raise FeatureMismatch(missing, extra)


def match_labels(reference: tuple[str, ...], live: tuple[str, ...]) -> dict[str, str]:
    """Return the reference label for each live label that has one: by name, else all by position if none matches.

    >>> match_labels(("0.7956",), ("label0",))
    {'label0': '0.7956'}
    """
    by_name = {label: label for label in live if label in reference}
    if not by_name and len(reference) == len(live):
        return dict(zip(live, reference, strict=True))
    return by_name


def reachability(reference: GlobalAttributions, threshold: float) -> list[str]:
    """Return, per label, a sentence on what the nDCG rule can see with this reference."""
    return [_reach(label, abs(reference.values_DL[:, i]), threshold) for i, label in enumerate(reference.labels)]


def _reach(label: str, gains_D: NDArray[np.float64], threshold: float) -> str:
    if not gains_D.any():
        return f"{label}: {DEGENERATE}"
    low, random = floor(gains_D), chance(gains_D)
    ranges = f"{label}: nDCG can fall to {low:.3f} (order reversed); a random order has {random:.3f} on average"
    return ranges if low < threshold else f"{ranges}. The alarm below {threshold:g} can never ring with this reference"


def _drift(
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
