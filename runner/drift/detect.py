"""The calibrated comparison: is there any drift beyond chance, and is it large enough to matter?

Two questions, two answers. Whether drift is detectable is told by a test of each feature's local attributions,
corrected for their number, at the level that a yearly number of false alarms allows. Whether it is material is told by
the effects: how much of the attention changed hands, and how much all attribution together has grown or shrunk.

Array letters: N reference records, M live records, D features, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.domain.drift import DriftResult, Effect, FeatureDrift, LabelResult, Level, SegmentResult, worst
from runner.domain.text import plural
from runner.drift import permutation
from runner.drift.classifier import separability
from runner.drift.holm import holm
from runner.drift.ks import critical, smirnov
from runner.drift.ndcg import ndcg
from runner.drift.pairing import Pairing, pair
from runner.drift.policy import AlertPolicy
from runner.drift.segments import Segment
from runner.drift.shares import attribution_shift, rank, share, total_log2_change

NOISE = 0.99
"""Of the divisions by chance that stay within what is told as noise."""


@dataclass(frozen=True)
class Detector:
    """The rule by which a window is judged.

    The level is divided: equal parts of it go to the features of the whole window, to the classifier, and to the
    segments; that of the segments goes to each in equal parts, and what a segment has is shared by its features as
    Holm has it. So all tests together are wrong no more often than was promised.

    Attributes:
        alarm: how many false alarms a year are accepted.
        min_rows: a side with fewer records supports no finding.
        material, severe: the shares of the attention from which a drift is a warning, and a violation.
        material_mass, severe_mass: the same for all attribution together, as log2 of its growth, either way.
        permutations: divisions by chance that effects are held against.
        seed: draws them.
        segment_by: divides records into parts that are judged by themselves, None for none.
        classifier: whether it is also tried to tell live records from those of the reference by all features at once.
    """

    alarm: AlertPolicy
    min_rows: int
    material: float
    severe: float
    material_mass: float
    severe_mass: float
    permutations: int
    seed: int
    segment_by: str | None = None
    classifier: bool = False

    def find(
        self,
        reference: Attributions,
        live: Attributions,
        agg_method: str,
        window: timedelta,
        parts: Sequence[Segment] = (),
    ) -> DriftResult:
        """Return what the live local attributions say beside those of the reference.

        Args:
            reference: the records that baselining kept.
            live: those of the window.
            agg_method: how local attributions become global ones.
            window: its length.
            parts: the segments of both.

        Raises:
            FeatureMismatch: when a feature exists on one side only.
        """
        pairing = pair(reference, live, agg_method)
        N, M, significance = len(reference.phi_NDL), len(live.phi_NDL), self.alarm.level(window)
        segments = self._segments(pairing, significance, parts)
        if not pairing.labels or min(N, M) < self.min_rows:
            rows = plural(min(N, M), "record")
            note = f"{rows} are too few to tell drift from chance: drift.min_rows={self.min_rows}"
            notes, none = (note,) if pairing.labels else (), Level.INSUFFICIENT_DATA
            return DriftResult(none, none, N, M, significance, 1.0, (), notes, segments=segments)
        labels = self._labels(pairing, significance, self._families, np.random.default_rng(self.seed))
        told = separability = self._separability(pairing, significance)
        apart = told is not None and told.p is not None and told.p <= significance
        level = worst([*labels, *segments], least=Level.INFO if apart else Level.NONE)
        smallest = self.smallest(N, M, pairing.tests, window)
        return DriftResult(
            level, level, N, M, significance, smallest, labels, segments=segments, separability=separability
        )

    def smallest(self, kept: int, rows: int, tests: int, window: timedelta) -> float:
        """Return the smallest distance of a feature's distributions that a window of so many records can show.

        Args:
            kept: records of the reference.
            rows: records of the window.
            tests: features times labels.
            window: its length.
        """
        return critical(kept, rows, self.alarm.level(window) / (tests * self._families))

    @property
    def _families(self) -> int:
        """How many parts the level has."""
        return 1 + self.classifier + (self.segment_by is not None)

    def _labels(
        self, pairing: Pairing, significance: float, shared: int, rng: np.random.Generator
    ) -> tuple[LabelResult, ...]:
        """Return what has become of each label; the level is shared by so many comparisons."""
        tested = smirnov(np.hstack(pairing.before), np.hstack(pairing.now))
        p_LD = (shared * holm(tested.p_D)).clip(max=1).reshape(len(pairing.labels), -1)
        distance_LD = tested.distance_D.reshape(p_LD.shape)
        found = []
        for (label, matched), before_ND, now_MD, distance_D, p_D in zip(
            pairing.labels, pairing.before, pairing.now, distance_LD, p_LD, strict=True
        ):
            effects = self._effects(before_ND, now_MD, pairing.agg_method, rng)
            features = _features(pairing.names, before_ND, now_MD, pairing.agg_method, distance_D, p_D)
            p = float(p_D.min())
            found.append(
                LabelResult(label, matched, self._level(p <= significance, *effects[:2]), p, *effects, features)
            )
        return tuple(found)

    def _segments(self, pairing: Pairing, significance: float, parts: Sequence[Segment]) -> tuple[SegmentResult, ...]:
        enough = [bool(pairing.labels) and part.smaller >= self.min_rows for part in parts]
        shared = self._families * sum(enough)
        found = []
        for i, part in enumerate(parts):
            labels: tuple[LabelResult, ...] = ()
            if enough[i]:
                labels = self._labels(pairing.part(part), significance, shared, np.random.default_rng([self.seed, i]))
            level = worst(labels) if labels else Level.INSUFFICIENT_DATA
            found.append(SegmentResult(part.name, level, len(part.reference_N), len(part.live_M), labels))
        return tuple(found)

    def _separability(self, pairing: Pairing, significance: float) -> Effect | None:
        if not self.classifier:
            return None
        rng = np.random.default_rng([self.seed, pairing.tests])
        told = separability(np.hstack(pairing.before), np.hstack(pairing.now), significance / self._families, rng)
        return replace(told, p=None if told.p is None else min(1.0, self._families * told.p))

    def _level(self, detectable: bool, moved: Effect, grown: Effect) -> Level:
        if not detectable:
            return Level.NONE
        sizes = [(moved, self.material, self.severe), (grown, self.material_mass, self.severe_mass)]
        if any(_beyond(effect, severe) for effect, _, severe in sizes):
            return Level.VIOLATION
        return Level.WARNING if any(_beyond(effect, material) for effect, material, _ in sizes) else Level.INFO

    def _effects(
        self, before_ND: NDArray[np.float64], now_MD: NDArray[np.float64], agg_method: str, rng: np.random.Generator
    ) -> tuple[Effect, Effect, Effect]:
        """Return share moved, mass and nDCG beside what chance does to them."""
        seen = permutation.observed(before_ND, now_MD, agg_method)
        chance = permutation.permuted(before_ND, now_MD, agg_method, self.permutations, rng)
        return (
            _effect(attribution_shift, seen, chance, np.positive, np.positive),
            _effect(total_log2_change, seen, chance, np.abs, np.positive),
            _effect(ndcg, seen, chance, _short_of_one, _short_of_one),
        )


Map = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Figure = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _effect(figure: Figure, seen: permutation.Pair, chance: permutation.Pair, extremity: Map, inverse: Map) -> Effect:
    """Return a figure beside what chance does to it.

    Args:
        figure: of the global attributions of both sides, one for each row.
        seen: those that were observed, and `chance` those of the divisions.
        chance: see there.
        extremity: how far out a value of the figure is; `inverse` gives the value that is so far out.
        inverse: see there.
    """
    value = float(figure(*seen))
    if not np.isfinite(value):
        return Effect(None, None, None)
    out_P = np.nan_to_num(extremity(figure(*chance)), nan=0.0)
    noise = float(inverse(np.array(np.quantile(out_P, NOISE))))
    return Effect(value, noise, permutation.p_value(float(extremity(np.array(value))), out_P))


def _short_of_one(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - values


def _beyond(effect: Effect, size: float) -> bool:
    """Return whether an effect is of a size, and beyond what chance does."""
    if effect.value is None or effect.noise is None:
        return False
    return abs(effect.value) >= size and abs(effect.value) > effect.noise


def _features(
    names: tuple[str, ...],
    before_ND: NDArray[np.float64],
    now_MD: NDArray[np.float64],
    agg_method: str,
    distance_D: NDArray[np.float64],
    p_D: NDArray[np.float64],
) -> tuple[FeatureDrift, ...]:
    seen = permutation.observed(before_ND, now_MD, agg_method)
    columns = [
        *seen,
        *map(share, seen),
        *map(rank, seen),
        np.median(before_ND, axis=0),
        np.median(now_MD, axis=0),
        distance_D,
        p_D,
    ]
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return tuple(FeatureDrift(*row) for row in rows)
