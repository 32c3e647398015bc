"""How surely the records seen so far tell the verdict on all records of a window.

The verdict is what alarms: for each label whether nDCG is below its threshold, and whether the calibrated verdict is a
warning or a violation. Both follow from a few figures of the global attributions and the sides of limits they lie on.
The global attributions of all records are unknown while only some were explained, drawn at random; they are normal
around those of the ones seen, with the covariance of their mean, less what of the window has been seen already.

Array letters: N records seen, D features, B draws.

Source: Cochran (1977), section 2.6, for the finite population; Armitage, McPherson and Rowe (1969) for why looks at a
growing sample have to share what doubt is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, GlobalAttributions
from runner.domain.drift import DriftResult, LabelResult, Level
from runner.drift.detect import Detector
from runner.drift.ndcg import ndcg
from runner.drift.pairing import pair
from runner.drift.permutation import MEANS
from runner.drift.ranking import match_labels
from runner.drift.shares import attribution_shift, total_log2_change

FIRST = 1000
"""Records of the first look; each look has twice as many as the one before."""
DRAWS = 1999

Figure = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class SequentialStopping:
    """The rule by which enough records were seen.

    Attributes:
        probability: with which the verdict on all records has to be the one on those seen; None: all have to be seen.
        threshold: of nDCG; `detector`: the rule of the calibrated verdict.
        seed: draws what the others may add.
    """

    probability: float | None
    threshold: float
    detector: Detector
    seed: int

    def looks(self, records: int) -> Iterator[int]:
        """Yield how many records are to be seen at each look, the last time all."""
        some = FIRST
        while some < records and self.probability is not None:
            yield some
            some *= 2
        yield records

    def enough(self, look: int, doubt: float) -> bool:
        """Return whether a look, from 1, leaves no more doubt than its part of what is allowed to all."""
        return self.probability is not None and doubt <= (1 - self.probability) / (look * (look + 1))

    def doubt(
        self,
        reference: GlobalAttributions,
        kept: Attributions | None,
        live: Attributions,
        finding: DriftResult | None,
        agg_method: str,
        records: int,
    ) -> float:
        """Return how likely the verdict on all records is another one than that on the live ones, at most 1.

        Args:
            reference: what nDCG is held against.
            kept: the records that the calibrated verdict is held against, None where there are none.
            live: the records seen so far; `finding`: what the calibrated verdict says of them.
            finding: see there.
            agg_method: `mean_abs` or `mean_sq`.
            records: how many there are in all.
        """
        pairs = pair(kept or live, live, agg_method)
        matched = match_labels(reference.labels, live.labels)
        found = {label.label: label for label in finding.labels} if finding else {}
        total = 0.0
        for i, (label, _) in enumerate(pairs.labels):
            values_ND, before_ND = MEANS[agg_method](pairs.now[i]), MEANS[agg_method](pairs.before[i])
            drawn = _drawn(values_ND, records, np.random.default_rng([self.seed, i]))
            gains_D = abs(reference.values(matched[label], live.names))
            total += _crossing(partial(ndcg, gains_D), [self.threshold], drawn)
            if label in found:
                total += self._calibrated(found[label], before_ND.mean(axis=0), drawn)
        return min(1.0, total)

    def _calibrated(self, found: LabelResult, before_D: NDArray[np.float64], drawn: Drawn) -> float:
        """Return the same for the level of a label: 1 where it would alarm by size, but cannot be told from chance."""
        moved, grown = partial(attribution_shift, before_D), partial(total_log2_change, before_D)
        material = moved(drawn.seen_D) >= self.detector.material
        material |= abs(grown(drawn.seen_D)) >= self.detector.material_mass
        if material and found.level.order < Level.WARNING.order:
            return 1.0
        limits = [self.detector.material_mass, self.detector.severe_mass]
        return _crossing(moved, [self.detector.material, self.detector.severe], drawn) + _crossing(
            grown, [*limits, *(-limit for limit in limits)], drawn
        )


class Drawn(NamedTuple):
    """The global attributions of the records seen, and what those of all records may be."""

    seen_D: NDArray[np.float64]
    all_BD: NDArray[np.float64]


def _drawn(values_ND: NDArray[np.float64], records: int, rng: np.random.Generator) -> Drawn:
    """Return the means of values, and draws of the means of all records."""
    N, D = values_ND.shape
    seen_D, unseen = values_ND.mean(axis=0), 1 - N / records
    covariance_DD = np.cov(values_ND, rowvar=False).reshape(D, D) * unseen / N
    all_BD = rng.multivariate_normal(seen_D, covariance_DD, DRAWS, method="eigh")
    return Drawn(seen_D, all_BD.clip(min=0))


def _crossing(figure: Figure, limits: Sequence[float], drawn: Drawn) -> float:
    """Return the share of the draws in which a figure lies on another side of some limit than it does now."""
    now, others_B = (figure(values_D)[..., None] >= np.array(limits) for values_D in drawn)
    return float((others_B != now).any(axis=-1).mean())
