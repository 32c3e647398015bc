"""The most severe effect of each family of tests, with its range of chance and its limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.domain.drift import Canary, DriftResult, FamilyEffect, Level, Parity
from runner.drift.policy import Limit, Limits


def families(
    result: DriftResult, limits: Limits, parity: Parity | None = None, canary: Canary | None = None
) -> tuple[FamilyEffect, ...]:
    """Return the most severe effect of each family that was tested, in the order of the report."""
    found = (_inputs(result, limits), _outputs(result, limits), _attributions(result, limits))
    every = (*found, joint_effects(result, limits), model_effects(limits, parity, canary))
    return tuple(effect for family in every if (effect := _most_severe(family)))


def _most_severe(effects: Iterable[FamilyEffect]) -> FamilyEffect | None:
    """Return the effect with the highest level, and of these the largest relative to its limits."""
    return max(effects, key=lambda effect: (effect.level.order, effect.severity), default=None)


def _effect(
    family: str, level: Level, measure: str, name: str, size: float, chance: float | None, limit: Limit
) -> FamilyEffect:
    return FamilyEffect(family, level, measure, name, size, chance, limit.warning, limit.violation)


def _inputs(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    """Yield the sizes of the change of each feature's values; the range of chance is that of a distance."""
    chance = min(1.0, result.minimum_detectable_change)
    for each in result.inputs:
        yield _effect("inputs", each.level, "input_values", each.name, each.moved, chance, limits.input_values)
        yield _effect("inputs", each.level, "input_invalid", each.name, each.invalid, chance, limits.input_invalid)


def _outputs(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    for each in result.outputs:
        chance = each.chance / each.spread if each.spread else None
        yield _effect("outputs", each.level, "mean_score", each.label, each.relative_change, chance, limits.mean_score)


def _attributions(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    for each in result.labels:
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
