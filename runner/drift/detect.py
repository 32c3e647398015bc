"""Calibrated drift detection: is a change statistically significant, and is it large enough to matter?

Significance: a Kolmogorov-Smirnov test of each feature's local attributions, corrected for multiple tests, at the
level that the accepted number of false alarms per year allows. Size: the attribution shift and the change of the total
attribution, each compared with its distribution under random permutations of reference and live records.

Array letters: N reference records, M live records, D features, P permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Canary, DriftResult, Effect, FeatureDrift, LabelResult, Level, SegmentResult, worst
from runner.drift.causes import with_causes, with_histograms
from runner.drift.effects import (
    Pair,
    attribution_shift,
    canary_summary,
    observed_pair,
    p_value,
    permuted_pairs,
    rank,
    share,
    total_log2_change,
)
from runner.drift.pairing import Pairing, Segment, pair, segments
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import ndcg
from runner.drift.significance import critical, holm, separability, smirnov

NOISE = 0.99
"""Quantile of the permutation distribution that is reported as noise."""


@dataclass(frozen=True)
class Detector:
    """Tests that assign a level to a window.

    The significance level is divided equally between up to three families of tests: features of the whole window,
    the classifier, and segments. Each segment gets an equal part of the level of its family. Holm's correction applies
    to the features of a window or segment. All tests together therefore raise no more false alarms than accepted.
    """

    policy: DriftPolicy

    def find(
        self,
        reference: Attributions,
        live: Attributions,
        agg_method: str,
        window: timedelta,
        parts: Sequence[Segment] = (),
    ) -> DriftResult:
        """Compare live local attributions with those of the reference records.

        Args:
            reference: attributions of the stored reference records.
            live: attributions of the window's records.
            agg_method: aggregation of local attributions into global ones.
            window: length of the window.
            parts: segments of the records of both sides.

        Raises:
            FeatureMismatch: if a feature exists on one side only.
        """
        pairing = pair(reference, live, agg_method)
        N, M, significance = len(reference.phi_NDL), len(live.phi_NDL), self.policy.significance(window)
        segments = self._segments(pairing, significance, parts)
        if not pairing.labels or min(N, M) < self.policy.min_rows:
            needed = f"drift.min_rows={self.policy.min_rows} records in both the reference and the window"
            note = f"the tests need {needed}, got {N:,} and {M:,}"
            notes, level = (note,) if pairing.labels else (), Level.INSUFFICIENT_DATA
            return DriftResult(level, level, N, M, significance, 1.0, (), notes, segments=segments)
        labels = self._labels(pairing, significance, self._families, np.random.default_rng(self.policy.seed))
        joint = self._separability(pairing, significance)
        separable = joint is not None and joint.p is not None and joint.p <= significance
        level = worst([*labels, *segments], least=Level.INFO if separable else Level.NONE)
        change = self.minimum_detectable_change(N, M, pairing.tests, window)
        return DriftResult(level, level, N, M, significance, change, labels, segments=segments, separability=joint)

    def minimum_detectable_change(self, reference_rows: int, rows: int, tests: int, window: timedelta) -> float:
        """Return the smallest detectable distance between a feature's distributions; from 1, no change is detectable.

        Args:
            reference_rows: number of reference records.
            rows: number of records of the window.
            tests: number of features times number of labels.
            window: length of the window.
        """
        return critical(reference_rows, rows, self.policy.significance(window) / (tests * self._families))

    @property
    def _families(self) -> int:
        """Number of families of tests that share the significance level."""
        return 1 + self.policy.classifier + (self.policy.segment_by is not None)

    def _labels(
        self, pairing: Pairing, significance: float, shared: int, rng: np.random.Generator
    ) -> tuple[LabelResult, ...]:
        """Compare each label; p-values are multiplied by `shared`, the number of comparisons that share the level."""
        tested = smirnov(np.hstack(pairing.before), np.hstack(pairing.now))
        p_LD = (shared * holm(tested.p_D)).clip(max=1).reshape(len(pairing.labels), -1)
        distance_LD = tested.distance_D.reshape(p_LD.shape)
        results = []
        for (label, matched), before_ND, now_MD, distance_D, p_D in zip(
            pairing.labels, pairing.before, pairing.now, distance_LD, p_LD, strict=True
        ):
            effects = self._effects(before_ND, now_MD, pairing.agg_method, rng)
            features = _features(pairing.names, before_ND, now_MD, pairing.agg_method, distance_D, p_D)
            p = float(p_D.min())
            results.append(
                LabelResult(label, matched, self._level(p <= significance, *effects[:2]), p, *effects, features)
            )
        return tuple(results)

    def _segments(self, pairing: Pairing, significance: float, parts: Sequence[Segment]) -> tuple[SegmentResult, ...]:
        enough = [bool(pairing.labels) and part.smaller >= self.policy.min_rows for part in parts]
        shared = self._families * sum(enough)
        results = []
        for i, part in enumerate(parts):
            labels: tuple[LabelResult, ...] = ()
            if enough[i]:
                labels = self._labels(
                    pairing.part(part), significance, shared, np.random.default_rng([self.policy.seed, i])
                )
            level = worst(labels) if labels else Level.INSUFFICIENT_DATA
            results.append(SegmentResult(part.name, level, len(part.reference_N), len(part.live_M), labels))
        return tuple(results)

    def _separability(self, pairing: Pairing, significance: float) -> Effect | None:
        if not self.policy.classifier:
            return None
        rng = np.random.default_rng([self.policy.seed, pairing.tests])
        joint = separability(np.hstack(pairing.before), np.hstack(pairing.now), significance / self._families, rng)
        return replace(joint, p=None if joint.p is None else min(1.0, self._families * joint.p))

    def _level(self, significant: bool, shift: Effect, total: Effect) -> Level:
        if not significant:
            return Level.NONE
        sizes = [
            (shift, self.policy.material, self.policy.severe),
            (total, self.policy.material_mass, self.policy.severe_mass),
        ]
        if any(_beyond(effect, severe) for effect, _, severe in sizes):
            return Level.VIOLATION
        return Level.WARNING if any(_beyond(effect, material) for effect, material, _ in sizes) else Level.INFO

    def _effects(
        self, before_ND: NDArray[np.float64], now_MD: NDArray[np.float64], agg_method: str, rng: np.random.Generator
    ) -> tuple[Effect, Effect, Effect]:
        """Return attribution shift, total log2 change and nDCG, with their permutation distributions."""
        observed = observed_pair(before_ND, now_MD, agg_method)
        permuted = permuted_pairs(before_ND, now_MD, agg_method, self.policy.permutations, rng)
        return (
            _effect(attribution_shift, observed, permuted, np.positive, np.positive),
            _effect(total_log2_change, observed, permuted, np.abs, np.positive),
            _effect(ndcg, observed, permuted, _one_minus, _one_minus),
        )


Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]
Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def _effect(
    statistic: Statistic,
    observed: Pair,
    permuted: Pair,
    extremity: Transform,
    inverse: Transform,
) -> Effect:
    """Return a statistic with its noise level and p-value under permutation.

    Args:
        statistic: function of the global attributions of both sides, applied to each row.
        observed: global attributions of both sides.
        permuted: global attributions of both sides after each permutation.
        extremity: transforms a statistic so that larger is more extreme.
        inverse: transforms an extremity back into a statistic.
    """
    value = float(statistic(*observed))
    if not np.isfinite(value):
        return Effect(None, None, None)
    extremity_P = np.nan_to_num(extremity(statistic(*permuted)), nan=0.0)
    noise = float(inverse(np.array(np.quantile(extremity_P, NOISE))))
    return Effect(value, noise, p_value(float(extremity(np.array(value))), extremity_P))


def _one_minus(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 - values


def _beyond(effect: Effect, size: float) -> bool:
    """Return whether an effect reaches a size and exceeds its noise level."""
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
    observed = observed_pair(before_ND, now_MD, agg_method)
    columns = [
        *observed,
        *map(share, observed),
        *map(rank, observed),
        np.median(before_ND, axis=0),
        np.median(now_MD, axis=0),
        distance_D,
        p_D,
    ]
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    return tuple(FeatureDrift(*row) for row in rows)


def detect_drift(
    policy: DriftPolicy,
    before: Explained,
    now: Explained,
    agg_method: str,
    window: timedelta,
    canary: Canary | None = None,
    past: Sequence[Level] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> DriftResult:
    """Compare a window with the reference: tests, effects, segments, likely causes and the alert level.

    Args:
        policy: thresholds and tests.
        before: stored reference records.
        now: records of the window.
        agg_method: aggregation of local attributions into global ones.
        window: length of the window.
        canary: comparison of the current model with that of the reference; None if no records were explained again.
        past: levels of the previous windows alone, oldest first.
        groups: names of the features of each group, by the name of the group.

    Raises:
        FeatureMismatch: if a feature exists on one side only.
        SegmentError: if records cannot be divided by `drift.segment_by`.
    """
    by = policy.segment_by
    parts = segments(by, before.features, now.features, policy.min_rows) if by else ()
    result = Detector(policy).find(before.attributions, now.attributions, agg_method, window, parts)
    result = with_causes(replace(result, canary=canary), before.features, now.features, parts, groups)
    result = with_histograms(result, before, now)
    level = policy.status(past, result.level_alone)
    notes = list(result.notes)
    if level is not result.level_alone:
        rule = f"{policy.datapoints_to_alert} of the last {policy.evaluation_period} windows must reach a level"
        alone = f"this window alone has level {result.level_alone.words}"
        notes.append(f"the alert level is {level.words}: {rule} (drift.datapoints_to_alert); {alone}")
    if by and not parts:
        needed = f"drift.min_rows={policy.min_rows} records in both the reference and the window"
        notes.append(f"drift.segment_by={by}: no segment has {needed}")
    if canary and canary.changed:
        notes.append(canary_summary(canary))
    return replace(result, level=level, notes=tuple(notes))
