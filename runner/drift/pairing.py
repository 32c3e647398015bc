"""Reference and live local attributions, matched by the names of features and labels.

Array letters: N reference records, M live records, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.drift.ranking import match_features, match_labels
from runner.drift.segments import Segment


@dataclass(frozen=True)
class Pairing:
    """Both sides, label by label, the features in one order.

    Attributes:
        names: of the features, in the live order.
        labels: the live label and the reference's that it was matched with.
        before, now: the local attributions_ND and _MD of each label.
        agg_method: how they become global ones.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    before: tuple[NDArray[np.float64], ...]
    now: tuple[NDArray[np.float64], ...]
    agg_method: str

    def part(self, segment: Segment) -> Pairing:
        """Return the records of a segment."""
        return replace(
            self,
            before=tuple(phi_ND[segment.reference_N] for phi_ND in self.before),
            now=tuple(phi_MD[segment.live_M] for phi_MD in self.now),
        )

    @property
    def tests(self) -> int:
        """Features times labels."""
        return len(self.names) * len(self.labels)


def pair(reference: Attributions, live: Attributions, agg_method: str) -> Pairing:
    """Return both sides matched; labels without a counterpart are left out.

    Raises:
        FeatureMismatch: when a feature exists on one side only.
    """
    match_features(reference.names, live.names)
    labels = match_labels(reference.labels, live.labels)
    before, now = _local(reference, live.names, tuple(labels.values())), _local(live, live.names, tuple(labels))
    return Pairing(live.names, tuple(labels.items()), before, now, agg_method)


def _local(
    attributions: Attributions, names: tuple[str, ...], labels: tuple[str, ...]
) -> tuple[NDArray[np.float64], ...]:
    places = [attributions.names.index(name) for name in names]
    return tuple(attributions.phi_NDL[:, places, attributions.labels.index(label)] for label in labels)
