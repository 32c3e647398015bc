"""Calibrated drift detection: is a change statistically significant, and is it large enough to matter?

Significance: families of tests (inputs, outputs, attributions, joint changes, segments) share the significance level
that the accepted number of false alarms per year allows. Holm's correction applies within a family. Size: each
significant change has a size, and its limits determine the level. The level of a window is the highest one.

Array letters: N reference records, M live records, D features, P permutations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Explained
from runner.domain.drift import (
    CONFIDENCE,
    Association,
    Canary,
    DriftResult,
    Effect,
    FeatureDrift,
    InputResult,
    LabelResult,
    Level,
    OutputResult,
    Parity,
    SegmentResult,
    highest,
    worst,
)
from runner.drift.causes import with_causes
from runner.drift.effects import (
    MEANS,
    Pair,
    attribution_shift,
    canary_summary,
    families,
    joint_effects,
    model_effects,
    observed_pair,
    p_value,
    permuted_pairs,
    rank,
    share,
    share_change,
    signed_distance,
    total_log2_change,
)
from runner.drift.histograms import numbers_histogram, with_histograms
from runner.drift.inputs import compare_inputs, with_finite_numbers
from runner.drift.joint import Columns, changed_association, changed_together, drawn, separability
from runner.drift.pairing import Pairing, Segment, pair, segments
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import ndcg
from runner.drift.seasons import same_hours
from runner.drift.significance import critical, distribution, holm
from runner.drift.strata import Strata, WholeWindow
from runner.drift.units import WHOLE, different, group_notes, observations, settled

NOISE = 0.99
"""Quantile of the permutation distribution that is reported as noise."""
MOST_JOINT_ROWS = 5_000
"""Maximum number of records of each side in the tests of joint changes."""
SPREAD = (0.01, 0.99)
"""Quantiles of the reference scores whose distance is the spread of the scores."""


@dataclass(frozen=True)
class Detector:
    """Tests that assign a level to a window.

    The families of tests divide the significance level by their weights. Each segment gets an equal part of the level
    of its family. Holm's correction applies to the tests of a family or segment. All tests together therefore raise no
    more false alarms than accepted.
    """

    policy: DriftPolicy

    def find(
        self,
        before: Explained,
        now: Explained,
        agg_method: str,
        window: timedelta,
        parts: Sequence[Segment] = (),
        whole: WholeWindow | None = None,
    ) -> DriftResult:
        """Compare the records of a window with the reference records.

        Args:
            before: stored reference records.
            now: records of the window.
            agg_method: aggregation of local attributions into global ones.
            window: length of the window.
            parts: segments of the records of both sides.
            whole: all records of the window if only some are explained.

        Raises:
            FeatureMismatch: if a feature exists on one side only.
        """
        explained, strata = now, whole.strata if whole and agg_method in MEANS else None
        now = random_sample(now, whole)
        pairing = pair(before.attributions, now.attributions, agg_method)
        stratified = (
            Stratified(pair(before.attributions, explained.attributions, agg_method).now, strata) if strata else None
        )
        N, M = len(before.attributions.phi_NDL), len(now.attributions.phi_NDL)
        significance = self.policy.significance(window)
        found = DriftResult(Level.NONE, Level.NONE, N, M, significance, 1.0, ())
        found = replace(found, segments=self._segments(pairing, significance, parts))
        if not pairing.labels or min(N, M) < self.policy.min_rows:
            of = "records" if self.policy.unit in WHOLE else f"units of drift.unit={self.policy.unit}"
            needed = f"at least drift.min_rows={self.policy.min_rows} {of} in the reference and in the window"
            notes = (f"the tests need {needed}; there are {N:,} and {M:,}",) if pairing.labels else ()
            level = Level.INSUFFICIENT_DATA
            return replace(found, level=level, level_alone=level, notes=notes)
        found = replace(
            found,
            minimum_detectable_change=self.minimum_detectable_change(N, M, pairing.tests, window),
            inputs=self._inputs(before.features, now.features, whole),
            outputs=self._outputs(before, now, pairing, explained, strata),
            labels=self._labels(
                pairing, significance, self._factor("attributions"), np.random.default_rng(self.policy.seed), stratified
            ),
        )
        found = self._graded(self._with_joint(found, before, now, pairing))
        level = self._level(found)
        return replace(found, level=level, level_alone=level)

    def minimum_detectable_change(self, reference_rows: int, rows: int, tests: int, window: timedelta) -> float:
        """Return the smallest detectable distance between a feature's distributions; from 1, no change is detectable.

        Args:
            reference_rows: number of reference records.
            rows: number of records of the window.
            tests: number of features times number of labels.
            window: length of the window.
        """
        level = self.policy.significance(window) / (2 * tests * self._factor("attributions"))
        return critical(reference_rows, rows, level)

    def _factor(self, family: str) -> float:
        """Return the factor of the p-values of a family: the inverse of its part of the significance level."""
        weights = self.policy.weights
        total = weights.inputs + weights.outputs + weights.attributions
        total += weights.joint if self.policy.classifier else 0.0
        total += weights.segments if self.policy.segment_by is not None else 0.0
        part: float = getattr(weights, family)
        return total / part

    def _corrected(self, family: str, p: Sequence[float]) -> list[float]:
        """Return the p-values of a family, corrected for all tests of the window."""
        corrected: list[float] = (self._factor(family) * holm(np.array(p))).clip(max=1).tolist()
        return corrected

    def _inputs(self, before: pl.DataFrame, now: pl.DataFrame, whole: WholeWindow | None) -> tuple[InputResult, ...]:
        if whole and whole.inputs:
            return tuple(replace(each, level=Level.NONE, cause=None, altered=0.0) for each in whole.inputs)
        now = whole.features if whole else now
        tested = compare_inputs(before, now, [name for name in now.columns if name in before.columns])
        corrected = self._corrected("inputs", [each.p for each in tested])
        return tuple(replace(each, p=p) for each, p in zip(tested, corrected, strict=True))

    def _outputs(
        self, before: Explained, now: Explained, pairing: Pairing, explained: Explained, strata: Strata | None
    ) -> tuple[OutputResult, ...]:
        """Test the scores of the random sample `now`; the means are those of all explained records."""
        before_NL = _scores(before, [reference for _, reference in pairing.labels])
        now_ML = _scores(now, [label for label, _ in pairing.labels])
        tested = distribution(before_NL, now_ML)
        corrected = self._corrected("outputs", tested.p_D.tolist())
        results = []
        for i, (label, _) in enumerate(pairing.labels):
            before_N = before_NL[:, i]
            mean, variance = _mean_score(now_ML[:, i], _scores(explained, [label])[:, 0], strata)
            change = mean - float(before_N.mean())
            error = math.sqrt(before_N.var() / len(before_N) + variance)
            results.append(
                OutputResult(
                    label=label,
                    level=Level.NONE,
                    p=corrected[i],
                    distance=float(tested.distance_D[i]),
                    mean_before=float(before_N.mean()),
                    mean_now=mean,
                    change_low=change - CONFIDENCE * error,
                    change_high=change + CONFIDENCE * error,
                    spread=float(np.subtract(*np.quantile(before_N, SPREAD[::-1]))),
                    scores=numbers_histogram(before_N, now_ML[:, i]),
                )
            )
        return tuple(results)

    def _with_joint(self, found: DriftResult, before: Explained, now: Explained, pairing: Pairing) -> DriftResult:
        """Add the tests of joint changes; both share the level of the family.

        If a test is significant, a further one shows whether the inputs alone changed jointly. It raises no alarm.
        """
        if not self.policy.classifier:
            return found
        labels, names = found.labels, [each.name for each in found.inputs]
        size = {each.name: each.now + each.before for label in labels for each in label.features}
        important = sorted(names, key=lambda name: -size.get(name, 0.0))
        rng = np.random.default_rng([self.policy.seed, pairing.tests])
        sides = [np.arange(len(side.attributions.phi_NDL)) for side in (before, now)]
        rows = [np.sort(drawn(side, MOST_JOINT_ROWS, rng)) for side in sides]
        columns = Columns.of(before.features.select(important)[rows[0]], now.features.select(important)[rows[1]])
        phi = (
            np.hstack([label_ND[rows[0]] for label_ND in pairing.before]),
            np.hstack([label_MD[rows[1]] for label_MD in pairing.now]),
        )
        joint = separability(columns, *phi, rng)
        association = changed_association(columns)
        p = [1.0 if joint.p is None else joint.p, 1.0 if association is None else association.p]
        corrected = self._corrected("joint", p)
        if association:
            association = replace(association, p=corrected[1])
        found = replace(found, separability=replace(joint, p=corrected[0]), association=association)
        if found.smallest_p > found.significance:
            return found
        scores_NL = _scores(before, [reference for _, reference in pairing.labels])[rows[0]]
        scores_ML = _scores(now, [label for label, _ in pairing.labels])[rows[1]]
        together = changed_together(columns, np.concatenate([scores_NL, scores_ML]), rng)
        return replace(found, inputs_together=together)

    def _labels(
        self,
        pairing: Pairing,
        significance: float,
        factor: float,
        rng: np.random.Generator,
        stratified: Stratified | None = None,
    ) -> tuple[LabelResult, ...]:
        """Compare the attributions of each label; p-values are multiplied by the factor.

        Effects are those of stratified records, if there are some.
        """
        tested = distribution(_joined(pairing.before), _joined(pairing.now))
        p_LD = (factor * holm(tested.p_D)).clip(max=1).reshape(len(pairing.labels), -1)
        distance_LD = tested.distance_D.reshape(p_LD.shape)
        results = []
        explained, strata = stratified or (pairing.now, None)
        for (label, matched), before_ND, now_MD, all_XD, distance_D, p_D in zip(
            pairing.labels, pairing.before, pairing.now, explained, distance_LD, p_LD, strict=True
        ):
            observed = observed_pair(before_ND, all_XD, pairing.agg_method, strata)
            permuted = permuted_pairs(before_ND, all_XD, pairing.agg_method, self.policy.permutations, rng, strata)
            shift, total_change, ranking, noise_D = _effects(observed, permuted)
            features = _features(pairing.names, observed, before_ND, now_MD, distance_D, p_D, noise_D)
            changed_D = p_D <= significance
            signed = signed_distance(before_ND[:, changed_D], now_MD[:, changed_D]).sum()
            total = abs(before_ND).mean(axis=0).sum()
            result = LabelResult(label, matched, Level.NONE, float(p_D.min()), shift, total_change, ranking, features)
            results.append(replace(result, signed_shift=float(signed / total) if total else 0.0))
        return tuple(results)

    def _segments(self, pairing: Pairing, significance: float, parts: Sequence[Segment]) -> tuple[SegmentResult, ...]:
        enough = [bool(pairing.labels) and part.smaller >= self.policy.min_rows for part in parts]
        results = []
        for i, part in enumerate(parts):
            labels: tuple[LabelResult, ...] = ()
            if enough[i]:
                rng = np.random.default_rng([self.policy.seed, i])
                found = self._labels(pairing.part(part), significance, self._factor("segments") * sum(enough), rng)
                labels = tuple(self._graded_label(label, label.p <= significance, significance) for label in found)
            level = worst(labels) if labels else Level.INSUFFICIENT_DATA
            results.append(SegmentResult(part.name, level, len(part.reference_N), len(part.live_M), labels))
        return tuple(results)

    def _graded(self, found: DriftResult) -> DriftResult:
        """Assign the levels of inputs, outputs, labels and the association.

        If any test of the window is significant, sizes of scores, attributions and deviations need to exceed chance at
        1 % only.
        """
        drifted = found.smallest_p <= found.significance
        return replace(
            found,
            association=found.association and self._graded_association(found.association, drifted, found.significance),
            inputs=tuple(self._graded_input(each, found.significance) for each in found.inputs),
            outputs=tuple(self._graded_output(each, drifted, found.significance) for each in found.outputs),
            labels=tuple(self._graded_label(each, drifted, found.significance) for each in found.labels),
        )

    def _graded_input(self, found: InputResult, significance: float) -> InputResult:
        if found.p > significance:
            return found
        limits = self.policy.limits
        levels = [limits.input_values.level(found.moved), limits.input_invalid.level(found.invalid)]
        if found.altered >= limits.input_invalid.warning:
            levels.append(Level.WARNING)
        return replace(found, level=highest(levels))

    def with_altered(self, found: DriftResult) -> DriftResult:
        """Assign the levels again that depend on likely causes; a cause alone is at most a warning."""
        graded = replace(found, inputs=tuple(self._graded_input(each, found.significance) for each in found.inputs))
        level = highest([found.level, worst(graded.inputs)])
        return replace(graded, level=level, level_alone=level)

    def _graded_association(self, found: Association, drifted: bool, significance: float) -> Association:
        limits, levels = self.policy.limits, [Level.NONE]
        if found.p <= significance:
            levels.append(limits.association.level(found.now - found.before))
        if drifted and found.deviation_p <= 1 - NOISE and found.unexplained >= limits.unexplained.warning:
            levels.append(limits.unexplained.level(found.unexplained))
        return replace(found, level=highest(levels))

    def _graded_output(self, found: OutputResult, drifted: bool, significance: float) -> OutputResult:
        change = found.mean_now - found.mean_before
        clear = drifted and abs(change) > found.chance
        if clear:
            return replace(found, level=self.policy.limits.mean_score.level(found.relative_change))
        return replace(found, level=Level.INFO) if found.p <= significance else found

    def _graded_label(self, found: LabelResult, drifted: bool, significance: float) -> LabelResult:
        limits = self.policy.limits
        levels = [Level.INFO if found.p <= significance else Level.NONE]
        for effect, limit in [
            (found.attribution_shift, limits.attribution_shift),
            (found.total_log2_change, limits.total_log2_change),
        ]:
            if drifted and _beyond(effect):
                levels.append(limit.level(effect.value or 0.0))
        if found.signed_shift:
            levels.append(limits.signed_shift.level(found.signed_shift))
        return replace(found, level=highest(levels))

    def _level(self, found: DriftResult) -> Level:
        """Return the level of the window alone."""
        tested = worst([*found.inputs, *found.outputs, *found.labels, *found.segments])
        return highest([tested, *(effect.level for effect in joint_effects(found, self.policy.limits))])


class Stratified(NamedTuple):
    """Local attributions of all explained records for each label, and their strata."""

    explained: tuple[NDArray[np.float64], ...]
    strata: Strata


def random_sample(explained: Explained, whole: WholeWindow | None) -> Explained:
    """Return the explained records that are a random sample of the window."""
    rows = len(explained.attributions.phi_NDL)
    return explained if whole is None or whole.random == rows else explained.rows(np.arange(whole.random))


def _mean_score(
    random_M: NDArray[np.float64], explained_X: NDArray[np.float64], strata: Strata | None
) -> tuple[float, float]:
    """Return the mean score of the window, and the variance of this mean as an estimate for the population."""
    if strata is None:
        return float(random_M.mean()), float(random_M.var()) / len(random_M)
    mean = float(strata.mean(explained_X[:, None])[0])
    variance = float(strata.mean((explained_X[:, None] - mean) ** 2)[0]) / (strata.far + strata.rest)
    return mean, variance + float(strata.covariance(explained_X[:, None])[0, 0])


def _effects(observed: Pair, permuted: Pair) -> tuple[Effect, Effect, Effect, NDArray[np.float64]]:
    """Return attribution shift, total log2 change and nDCG, with their noise, and the noise of each share."""
    return (
        _effect(attribution_shift, observed, permuted, np.positive, np.positive),
        _effect(total_log2_change, observed, permuted, np.abs, np.positive),
        _effect(ndcg, observed, permuted, _one_minus, _one_minus),
        np.quantile(abs(share_change(*permuted)), NOISE, axis=0),
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


def _beyond(effect: Effect) -> bool:
    """Return whether an effect exceeds its noise level."""
    return effect.value is not None and effect.noise is not None and abs(effect.value) > effect.noise


def _joined(labels: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return labels[0] if len(labels) == 1 else np.hstack(labels)


def _scores(explained: Explained, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the scores_NL of labels."""
    attributions = explained.attributions
    return attributions.scores_NL[:, [attributions.labels.index(label) for label in labels]]


def _features(
    names: tuple[str, ...],
    observed: Pair,
    before_ND: NDArray[np.float64],
    now_MD: NDArray[np.float64],
    distance_D: NDArray[np.float64],
    p_D: NDArray[np.float64],
    noise_D: NDArray[np.float64],
) -> tuple[FeatureDrift, ...]:
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
    noise = noise_D.tolist()
    return tuple(replace(FeatureDrift(*row), share_noise=noise[d]) for d, row in enumerate(rows))


def detect_drift(
    policy: DriftPolicy,
    before: Explained,
    now: Explained,
    agg_method: str,
    window: timedelta,
    canary: Canary | None = None,
    parity: Parity | None = None,
    past: Sequence[Level] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
    start: datetime | None = None,
    whole: WholeWindow | None = None,
) -> DriftResult:
    """Compare a window with the reference: tests, effects, segments, likely causes and the alert level.

    Args:
        policy: thresholds and tests.
        before: stored reference records.
        now: records of the window.
        agg_method: aggregation of local attributions into global ones.
        window: length of the window.
        canary: comparison of the current model with that of the reference; None if no records were explained again.
        parity: comparison of captured with recomputed scores; None if nothing was comparable.
        past: levels of the previous windows alone, oldest first.
        groups: names of the features of each group, by the name of the group.
        start: start of the window, for a reference with a cycle; None compares with all hours.
        whole: all records of the window if only some are explained. Inputs are tested on all of them, the rest on the
            random sample; effects are estimates for all of them.

    Raises:
        FeatureMismatch: if a feature exists on one side only.
        SegmentError: if records cannot be divided by `drift.segment_by` or `drift.unit`.
    """
    same = same_hours(before, start, window, policy)
    before, now = (replace(side, features=with_finite_numbers(side.features)) for side in (same.records, now))
    policy = settled(policy, before.features, (whole or now).features)
    whole = _observed(policy, before, now, whole) if whole else None
    counted = observations(policy, before, now, start, window)
    before, now, by = counted.before, counted.now, policy.segment_by
    notes = [*same.notes, *counted.notes]
    sample = random_sample(now, whole)
    parts = segments(by, before.features, sample.features, policy.min_rows) if by else ()
    tested = _without_unit(before, policy), _without_unit(now, policy)
    result = Detector(policy).find(*tested, agg_method, window, parts, whole)
    described = whole.features if whole and not parts else sample.features
    result = with_causes(replace(result, canary=canary, season=same.season), before.features, described, parts, groups)
    result = Detector(policy).with_altered(result)
    result = with_histograms(result, before, sample)
    # A changed model, or another one than the serving model, needs no further windows.
    model = highest([Level.NONE, *(effect.level for effect in model_effects(policy.limits, parity, canary))])
    level = highest([policy.status(past, result.level_alone), model])
    result = replace(result, level_alone=highest([result.level_alone, model]))
    notes += [*result.notes, *_dependence(policy, result, before, sample)]
    if level is not result.level_alone:
        rule = f"{policy.datapoints_to_alert} of the last {policy.evaluation_period} windows must reach a level"
        alone = f"this window alone has level {result.level_alone.words}"
        notes.append(f"the alert level is {level.words}: {rule} (drift.datapoints_to_alert); {alone}")
    if by and not parts:
        needed = f"drift.min_rows={policy.min_rows} records in both the reference and the window"
        notes.append(f"drift.segment_by={by}: no segment has {needed}")
    if canary and canary.changed:
        notes.append(canary_summary(canary))
    effects = families(result, policy.limits, parity, canary)
    return replace(result, level=level, notes=tuple(notes), families=effects)


def _dependence(policy: DriftPolicy, result: DriftResult, before: Explained, now: Explained) -> list[str]:
    """Return a note if the records of a changed window seem to be dependent, which raises false alarms."""
    return group_notes(policy, before.features, now.features) if result.smallest_p <= result.significance else []


def _without_unit(side: Explained, policy: DriftPolicy) -> Explained:
    """Return records without the feature that is their unit: one record of each value is no sample of its values."""
    return replace(side, features=side.features.drop(policy.unit, strict=False))


def _observed(policy: DriftPolicy, before: Explained, now: Explained, whole: WholeWindow) -> WholeWindow:
    """Return the window with finite numbers, and without repetitions if they count once."""
    whole = replace(whole, features=with_finite_numbers(whole.features))
    if policy.unit != "content":
        return whole
    rows_M, rows_X = (different(policy, before.features, side.features) for side in (whole, now))
    return whole.rows(rows_M, rows_X)
