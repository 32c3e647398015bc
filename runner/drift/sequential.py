"""Sequential stopping: explain random records of a window until the verdict on all of them is sufficiently certain.

The verdict has two parts for each label: whether nDCG is below its threshold, and whether the calibrated level is a
warning or a violation. Both parts depend on whether statistics of the global attributions are above or below fixed
limits. While only a sample of the records is explained, the global attributions of all records are unknown. They are
modelled by a normal distribution. Its mean is the sample mean, and its covariance is that of the sample mean with the
finite-population correction.

Array letters: N explained records, D features, B draws.

Source: Cochran (1977), section 2.6, for the finite population; Armitage, McPherson and Rowe (1969) for why repeated
looks at a growing sample must share the allowed error probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, GlobalAttributions
from runner.domain.drift import DriftResult, LabelResult, Level
from runner.drift.effects import MEANS, attribution_shift, total_log2_change
from runner.drift.pairing import pair
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import match_labels, ndcg
from runner.drift.strata import Strata

FIRST_SAMPLE = 1000
"""Number of records in the first sample; each further sample is twice as large."""
DRAWS = 1999
"""Number of draws from the distribution of the global attributions of all records."""

R = TypeVar("R")
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class SequentialStopping:
    """Rule that decides when enough records are explained.

    Attributes:
        probability: required probability that all records would give the same verdict; None explains all records.
        policy: thresholds of the verdict, and the seed of the draws.
    """

    probability: float | None
    policy: DriftPolicy

    def run(self, records: int, extend: Callable[[int, R | None], R], error_probability: Callable[[R], float]) -> R:
        """Return the result for the first sample that is large enough.

        Args:
            records: number of all records.
            extend: function that returns the result for a sample size, given the result for the previous size.
            error_probability: function that returns, for a result, the probability that all records would give another
                verdict.
        """
        first, *larger = self.sample_sizes(records)
        result = extend(first, None)
        for look, size in enumerate(larger, 1):
            if self.should_stop(look, error_probability(result)):
                break
            result = extend(size, result)
        return result

    def sample_sizes(self, records: int) -> Iterator[int]:
        """Yield the sample size of each look; the last one is all records."""
        size = FIRST_SAMPLE
        while size < records and self.probability is not None:
            yield size
            size *= 2
        yield records

    def should_stop(self, look: int, error: float) -> bool:
        """Return whether the error probability at a look (numbered from 1) is within the part allowed for this look."""
        return self.probability is not None and error <= (1 - self.probability) / (look * (look + 1))

    def error_probability(
        self,
        reference: GlobalAttributions,
        stored: Attributions | None,
        live: Attributions,
        result: DriftResult | None,
        agg_method: str,
        records: int,
        strata: Strata | None = None,
    ) -> float:
        """Return an upper bound, at most 1, of the probability that all records would give another verdict.

        Args:
            reference: global reference attributions for nDCG.
            stored: attributions of the stored reference records; None if there are none.
            live: attributions of the records explained so far.
            result: calibrated result for these records.
            agg_method: `mean_abs` or `mean_sq`.
            records: number of all records.
            strata: strata of the live records; None for a random sample.
        """
        pairs = pair(stored or live, live, agg_method)
        matched = match_labels(reference.labels, live.labels)
        results = {label.label: label for label in result.labels} if result else {}
        total = 0.0
        for i, (label, _) in enumerate(pairs.labels):
            values_ND, before_ND = MEANS[agg_method](pairs.now[i]), MEANS[agg_method](pairs.before[i])
            drawn = _drawn(values_ND, records, np.random.default_rng([self.policy.seed, i]), strata)
            gains_D = abs(reference.values(matched[label], live.names))
            total += _crossing(partial(ndcg, gains_D), [self.policy.threshold], drawn)
            if label in results:
                total += self._calibrated(results[label], before_ND.mean(axis=0), drawn)
        return min(1.0, total)

    def _calibrated(self, result: LabelResult, before_D: NDArray[np.float64], drawn: Drawn) -> float:
        """Return the bound for the level of a label; 1 if an effect is material, but the level is below a warning."""
        shift, total = partial(attribution_shift, before_D), partial(total_log2_change, before_D)
        shifts, totals = self.policy.limits.attribution_shift, self.policy.limits.total_log2_change
        material = shift(drawn.sample_D) >= shifts.warning
        material |= abs(total(drawn.sample_D)) >= totals.warning
        if material and result.level.order < Level.WARNING.order:
            return 1.0
        limits = [totals.warning, totals.violation]
        return _crossing(shift, [shifts.warning, shifts.violation], drawn) + _crossing(
            total, [*limits, *(-limit for limit in limits)], drawn
        )


class Drawn(NamedTuple):
    """Global attributions of the sample, and draws of the global attributions of all records."""

    sample_D: NDArray[np.float64]
    all_BD: NDArray[np.float64]


def _drawn(
    values_ND: NDArray[np.float64], records: int, rng: np.random.Generator, strata: Strata | None = None
) -> Drawn:
    """Return the estimated means, and draws of the means over all records."""
    N, D = values_ND.shape
    if strata:
        sample_D, covariance_DD = strata.mean(values_ND), strata.covariance(values_ND)
    else:
        sample_D, unexplained = values_ND.mean(axis=0), 1 - N / records
        covariance_DD = np.cov(values_ND, rowvar=False).reshape(D, D) * unexplained / N
    all_BD = rng.multivariate_normal(sample_D, covariance_DD, DRAWS, method="eigh")
    return Drawn(sample_D, all_BD.clip(min=0))


def _crossing(statistic: Statistic, limits: Sequence[float], drawn: Drawn) -> float:
    """Return the share of draws in which a limit separates the statistic from that of the sample."""
    current, drawn_B = (statistic(values_D)[..., None] >= np.array(limits) for values_D in drawn)
    return float((drawn_B != current).any(axis=-1).mean())
