"""Effects: the attribution shift, the change of the total attribution, and both under random permutations.

Each family of tests has a most severe effect, with its range of chance and its limits.

Array letters: N reference records, M live records, D features (the last axis; functions apply to each row), P
permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.domain.drift import Canary, DriftResult, FamilyEffect, Level, Parity
from runner.domain.numbers import plural
from runner.drift.pairing import pair
from runner.drift.policy import Limit, Limits
from runner.drift.strata import Strata

ROUNDING = 1e-6
"""Largest difference of scores that rounding may explain, relative to the largest score or to 1 if that is larger.

Scores may be sent as decimal strings or in single precision.
"""


def share(values_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the attribution share of each feature; zeros if all attributions are zero."""
    sizes_D: NDArray[np.float64] = abs(values_D)
    total: NDArray[np.float64] = sizes_D.sum(axis=-1, keepdims=True)
    return np.divide(sizes_D, total, out=np.zeros(sizes_D.shape), where=total > 0)


def rank(values_D: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return each feature's rank in descending order, from 1; tied features share the better rank."""
    larger_D: NDArray[np.intp] = (values_D[:, None] < values_D).sum(axis=1)
    return larger_D + 1


def share_change(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the change of each feature's attribution share.

    >>> share_change(np.array([3.0, 1.0]), np.array([1.0, 1.0])).tolist()
    [-0.25, 0.25]
    """
    return share(now_D) - share(before_D)


def attribution_shift(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the total variation distance between the two distributions of shares, ½ Σ |change|, in [0, 1].

    The result is NaN if all attributions of one side are zero.

    Source: Levin and Peres (2017), "Markov Chains and Mixing Times", proposition 4.2.
    """
    known = before_D.any(axis=-1) & now_D.any(axis=-1)
    return np.where(known, abs(share_change(before_D, now_D)).sum(axis=-1) / 2, np.nan)


def total_log2_change(before_D: NDArray[np.float64], now_D: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log2 fold change of the total attribution; NaN if all attributions of one side are zero.

    >>> float(total_log2_change(np.array([1.0, 1.0]), np.array([0.5, 0.5])))
    -1.0
    """
    before, now = abs(before_D).sum(axis=-1), abs(now_D).sum(axis=-1)
    known = (before > 0) & (now > 0)
    growth: NDArray[np.float64] = np.divide(now, before, out=np.full(known.shape, np.nan), where=known)
    return np.log2(growth)


def signed_distance(before_ND: NDArray[np.float64], now_MD: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean distance between the sorted values of both sides, for each column, in their unit.

    It is the Wasserstein distance, the area between the two distribution functions, less its expected value under
    the null hypothesis, for which their difference is nearly normal.

    Source: Vallender (1974), "Calculation of the Wasserstein distance between probability distributions on the line".
    """
    N, M = len(before_ND), len(now_MD)
    distance_D = np.zeros(before_ND.shape[1])
    for d, (before_N, now_M) in enumerate(zip(before_ND.T, now_MD.T, strict=True)):
        pooled_K = np.sort(np.concatenate([before_N, now_M]))
        width_K = np.diff(pooled_K)
        below = [np.searchsorted(np.sort(side), pooled_K[:-1], "right") for side in (before_N, now_M)]
        pooled_share_K = (below[0] + below[1]) / (N + M)
        expected_K = np.sqrt(2 / np.pi * pooled_share_K * (1 - pooled_share_K) * (1 / N + 1 / M))
        distance_D[d] = max(0.0, float(((abs(below[0] / N - below[1] / M) - expected_K) * width_K).sum()))
    return distance_D


MOST_BLOCKS = 1_000
"""Number of blocks of the smaller side; of more records, blocks of several random ones are permuted together.

Permutations of fixed blocks are a group, so p-values stay exact, and sums of blocks take less time.
"""
FEWEST_MEDIANS = 199
"""Number of permutations of medians that are always drawn."""
MOST_SORTED = 4_000_000
"""Maximum number of records in further permutations of medians."""
MEANS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {"mean_abs": np.abs, "mean_sq": np.square}
"""Aggregations that are means, with the function that is applied to local values before averaging."""


class Pair(NamedTuple):
    """Absolute global attributions of both sides."""

    reference: NDArray[np.float64]
    live: NDArray[np.float64]


def observed_pair(
    reference_ND: NDArray[np.float64], live_MD: NDArray[np.float64], agg_method: str, strata: Strata | None = None
) -> Pair:
    """Return the absolute global attributions_D of each side; with strata, those of the live side are estimates."""
    if strata:
        return Pair(_summary(reference_ND, agg_method), strata.mean(MEANS[agg_method](live_MD)))
    return Pair(_summary(reference_ND, agg_method), _summary(live_MD, agg_method))


def permuted_pairs(
    reference_ND: NDArray[np.float64],
    live_MD: NDArray[np.float64],
    agg_method: str,
    permutations: int,
    rng: np.random.Generator,
    strata: Strata | None = None,
) -> Pair:
    """Return the absolute global attributions_PD of each side after P random permutations of the pooled records."""
    if strata:
        return _stratified(MEANS[agg_method](reference_ND), MEANS[agg_method](live_MD), permutations, rng, strata)
    N, M = len(reference_ND), len(live_MD)
    sides = (reference_ND, live_MD) if N <= M else (live_MD, reference_ND)
    aggregate = _means if agg_method in MEANS else _medians
    fewer_PD, more_PD = aggregate(*sides, agg_method, permutations, rng)
    return Pair(fewer_PD, more_PD) if N <= M else Pair(more_PD, fewer_PD)


def p_value(statistic: float, null_P: NDArray[np.float64]) -> float:
    """Return the p-value: the share of statistics at least as large as the observed one, which is itself counted.

    Source: Phipson and Smyth (2010), "Permutation p-values should never be zero".
    """
    return float((1 + (null_P >= statistic).sum()) / (1 + len(null_P)))


def _summary(phi_ND: NDArray[np.float64], agg_method: str) -> NDArray[np.float64]:
    mean_of = MEANS.get(agg_method)
    summary_D: NDArray[np.float64] = abs(np.median(phi_ND, axis=0)) if mean_of is None else mean_of(phi_ND).mean(axis=0)
    return summary_D


def _means(
    fewer_ND: NDArray[np.float64],
    more_ND: NDArray[np.float64],
    agg_method: str,
    permutations: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means of both sides, the smaller one first, for each permutation."""
    size = max(1, len(fewer_ND) // MOST_BLOCKS)
    values = MEANS[agg_method](fewer_ND), MEANS[agg_method](more_ND)
    (blocks_BD, left_D), (others_BD, other_left_D) = (_blocks(side, size, rng) for side in values)
    pooled_BD = np.concatenate([blocks_BD, others_BD])
    sums_PD = np.empty((permutations, pooled_BD.shape[1]))
    for p in range(permutations):
        sums_PD[p] = pooled_BD[rng.choice(len(pooled_BD), len(blocks_BD), replace=False, shuffle=False)].sum(axis=0)
    sums_PD += left_D
    total_D = pooled_BD.sum(axis=0) + left_D + other_left_D
    return sums_PD / len(fewer_ND), (total_D - sums_PD).clip(min=0) / len(more_ND)


def _blocks(
    values_ND: NDArray[np.float64], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of blocks of random records, and the sum of the remaining records."""
    if size == 1:
        return values_ND, np.zeros(values_ND.shape[1])
    shuffled_ND = values_ND[rng.permutation(len(values_ND))]
    whole = len(values_ND) // size * size
    return shuffled_ND[:whole].reshape(-1, size, values_ND.shape[1]).sum(axis=1), shuffled_ND[whole:].sum(axis=0)


def _stratified(
    reference_ND: NDArray[np.float64],
    live_XD: NDArray[np.float64],
    permutations: int,
    rng: np.random.Generator,
    strata: Strata,
) -> Pair:
    """Return the means of both sides if the whole window is permuted, and then sampled in the same strata.

    Of all far records, a hypergeometric number is on the side of the reference. The other records are divided like the
    records that are explained.
    """
    far_FD, rest_RD = live_XD[strata.far_X], live_XD[~strata.far_X]
    N, M, weight = len(reference_ND), strata.far + strata.rest, strata.far / len(far_FD)
    pooled_KD = np.concatenate([reference_ND, rest_RD])
    sums_D, far_D = pooled_KD.sum(axis=0), weight * far_FD.sum(axis=0)
    permuted = Pair(*np.empty((2, permutations, live_XD.shape[1])))
    for p in range(permutations):
        moved = int(rng.hypergeometric(strata.far, N + M - strata.far, N))
        live = len(rest_RD) + moved
        live_D = pooled_KD[rng.choice(len(pooled_KD), live, replace=False, shuffle=False)].sum(axis=0)
        chosen = rng.choice(len(far_FD), min(len(far_FD), round(moved / weight)), replace=False, shuffle=False)
        moved_D = weight * far_FD[chosen].sum(axis=0)
        permuted.reference[p] = (sums_D - live_D + moved_D).clip(min=0) / N
        permuted.live[p] = ((strata.rest + moved) / live * live_D + (far_D - moved_D).clip(min=0)) / M
    return permuted


def _medians(
    fewer_ND: NDArray[np.float64],
    more_ND: NDArray[np.float64],
    agg_method: str,
    permutations: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the absolute medians of both sides, the smaller one first, for each permutation."""
    pooled_KD = np.concatenate([fewer_ND, more_ND])
    K, D = pooled_KD.shape
    permutations = min(permutations, max(FEWEST_MEDIANS, MOST_SORTED // K))
    fewer_PD, more_PD = np.empty((permutations, D)), np.empty((permutations, D))
    for p in range(permutations):
        chosen_K = np.zeros(K, dtype=bool)
        chosen_K[rng.choice(K, len(fewer_ND), replace=False, shuffle=False)] = True
        fewer_PD[p], more_PD[p] = (_summary(pooled_KD[side], agg_method) for side in (chosen_K, ~chosen_K))
    return fewer_PD, more_PD


def canary(stored: Attributions, current: Attributions, agg_method: str, comparable: bool) -> Canary:
    """Compare stored attributions of reference records with current ones of the same records.

    Args:
        stored: attributions from baselining.
        current: attributions from the current model, of the same records in the same order.
        agg_method: aggregation of local attributions into global ones.
        comparable: whether both use the same estimator settings; if not, only scores are compared.
    """
    both = pair(stored, current, agg_method)
    difference, largest = 0.0, 1.0
    for live_label, reference_label in both.labels:
        stored_N = stored.scores_NL[:, stored.labels.index(reference_label)]
        current_N = current.scores_NL[:, current.labels.index(live_label)]
        difference = max(difference, float(abs(current_N - stored_N).max()))
        largest = max(largest, float(abs(stored_N).max()))
    shifts = [
        float(attribution_shift(*observed_pair(*sides, agg_method)))
        for sides in zip(both.before, both.now, strict=True)
    ]
    finite = [shift for shift in shifts if comparable and np.isfinite(shift)]
    changed = difference > ROUNDING * largest or len(stored.labels) != len(current.labels)
    return Canary(len(stored.scores_NL), changed, difference, max(finite, default=None))


def canary_summary(canary: Canary) -> str:
    """Describe the result in a clause without a full stop."""
    records = plural(canary.records, "reference record")
    if not canary.changed:
        return f"the model is unchanged (checked on {records})"
    shift = "" if canary.attribution_shift is None else f" and attribution shifted by {canary.attribution_shift:.1%}"
    return f"the model changed: on {records}, scores differ by up to {canary.difference:.2g}{shift}"


def families(
    result: DriftResult, limits: Limits, parity: Parity | None = None, canary: Canary | None = None
) -> tuple[FamilyEffect, ...]:
    """Return the most severe effect of each family that was tested, in the order of the report."""
    found = (_inputs(result, limits), _outputs(result, limits), _attributions(result, limits))
    every = (*found, joint_effects(result, limits), model_effects(limits, parity, canary))
    return tuple(effect for family in every if (effect := _most_severe(family)))


def _most_severe(effects: Iterable[FamilyEffect]) -> FamilyEffect | None:
    """Return the effect with the highest level, and of these the largest relative to its limits.

    Effects far above their limits have the same severity; the first of them is returned.
    """
    return max(effects, key=lambda effect: (effect.level.order, effect.severity), default=None)


def _effect(
    family: str, level: Level, measure: str, name: str, size: float, chance: float | None, limit: Limit
) -> FamilyEffect:
    return FamilyEffect(family, level, measure, name, size, chance, limit.warning, limit.violation)


def _inputs(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    """Yield the sizes of the change of each feature's values; the range of chance is that of a distance."""
    chance = min(1.0, result.minimum_detectable_change)
    unchanged = [each for each in result.inputs if each.level is Level.NONE]
    for each in (*result.changed_inputs, *unchanged):
        yield _effect("inputs", each.level, "input_values", each.name, each.moved, chance, limits.input_values)
        yield _effect("inputs", each.level, "input_invalid", each.name, each.invalid, chance, limits.input_invalid)


def _outputs(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    for each in sorted(result.outputs, key=lambda each: -abs(each.relative_change)):
        chance = each.chance / each.spread if each.spread else None
        yield _effect("outputs", each.level, "mean_score", each.label, each.relative_change, chance, limits.mean_score)


def _attributions(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    for each in sorted(result.labels, key=lambda each: -(each.attribution_shift.value or 0.0)):
        shift, total = each.attribution_shift, each.total_log2_change
        sizes = (
            ("attribution_shift", shift.value, shift.noise, limits.attribution_shift),
            ("total_log2_change", total.value, total.noise, limits.total_log2_change),
            ("signed_shift", each.signed_shift or None, 0.0, limits.signed_shift),
        )
        for measure, value, chance, limit in sizes:
            if value is not None:
                yield _effect("attributions", each.level, measure, each.label, value, chance, limit)


def joint_effects(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    """Yield the separability, and the two sizes of a changed association."""
    joint, association = result.separability, result.association
    if joint and joint.value is not None and joint.p is not None:
        limit = limits.separability
        level = limit.level(joint.value) if joint.p <= result.significance else Level.NONE
        yield _effect("joint", level, "separability", "", joint.value, joint.noise, limit)
    if association and association.level is not Level.NONE:
        limit, names = limits.association, f"{association.first} and {association.second}"
        size = abs(association.now - association.before)
        level = limit.level(size) if association.p <= result.significance else Level.NONE
        yield _effect("joint", level, "association", names, size, None, limit)
        if size := association.unexplained:
            limit = limits.unexplained
            level = association.level if size >= limit.warning else Level.NONE
            yield _effect("joint", level, "unexplained", association.first, size, None, limit)


def model_effects(limits: Limits, parity: Parity | None, canary: Canary | None) -> Iterator[FamilyEffect]:
    """Yield the differences of scores between the explained model, and the serving one or that of the reference."""
    limit = limits.model_scores
    if canary:
        level = limit.level(canary.difference) if canary.changed else Level.NONE
        yield _effect("model", level, "model_scores", "reference", canary.difference, None, limit)
    if parity:
        level = Level.NONE if parity.same else limit.level(parity.largest)
        yield _effect("model", level, "model_scores", "serving", parity.largest, parity.tolerance, limit)
