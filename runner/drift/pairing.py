"""Pairing: reference and live local attributions, matched by the names of features and labels.

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
    """Reference and live attributions by label, with features in one order.

    Attributes:
        names: features, in the live order.
        labels: pairs of a live label and its reference label.
        before, now: local attributions_ND and attributions_MD of each label.
        agg_method: aggregation of local attributions into global ones.
    """

    names: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    before: tuple[NDArray[np.float64], ...]
    now: tuple[NDArray[np.float64], ...]
    agg_method: str

    def part(self, segment: Segment) -> Pairing:
        """Return the pairing restricted to a segment."""
        return replace(
            self,
            before=tuple(phi_ND[segment.reference_N] for phi_ND in self.before),
            now=tuple(phi_MD[segment.live_M] for phi_MD in self.now),
        )

    @property
    def tests(self) -> int:
        """Number of hypothesis tests: features times labels."""
        return len(self.names) * len(self.labels)


def pair(reference: Attributions, live: Attributions, agg_method: str) -> Pairing:
    """Match both sides; labels without a counterpart are left out.

    Raises:
        FeatureMismatch: if a feature exists on one side only.
    """
    match_features(reference.names, live.names)
    labels = match_labels(reference.labels, live.labels)
    before, now = _local(reference, live.names, tuple(labels.values())), _local(live, live.names, tuple(labels))
    return Pairing(live.names, tuple(labels.items()), before, now, agg_method)


def _local(
    attributions: Attributions, names: tuple[str, ...], labels: tuple[str, ...]
) -> tuple[NDArray[np.float64], ...]:
    columns = [attributions.names.index(name) for name in names]
    return tuple(attributions.phi_NDL[:, columns, attributions.labels.index(label)] for label in labels)
