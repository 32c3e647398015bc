"""The most severe effect of each family of tests, with its range of chance and its limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.domain.drift import Canary, DriftResult, FamilyEffect, Level, Parity
from runner.drift.policy import Limits


def families(
    result: DriftResult, limits: Limits, parity: Parity | None = None, canary: Canary | None = None
) -> tuple[FamilyEffect, ...]:
    """Return the most severe effect of each family that was tested, in the order of the report."""
    found = (_inputs(result, limits), _outputs(result, limits), _attributions(result, limits))
    every = (*found, _joint(result, limits), _model(limits, parity, canary))
    return tuple(effect for family in every if (effect := _most_severe(family)))


def _most_severe(effects: Iterable[FamilyEffect]) -> FamilyEffect | None:
    """Return the effect with the highest level, and of these the largest relative to its limits."""
    return max(effects, key=lambda effect: (effect.level.order, effect.severity), default=None)


def _inputs(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    """Yield the sizes of the change of each feature's values; the range of chance is that of a distance."""
    for each in result.inputs:
        sizes = (
            ("input_values", each.moved, limits.input_values),
            ("input_invalid", each.invalid, limits.input_invalid),
        )
        for measure, size, limit in sizes:
            chance = min(1.0, result.minimum_detectable_change)
            yield FamilyEffect("inputs", each.level, measure, each.name, size, chance, limit.warning, limit.violation)


def _outputs(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    for each in result.outputs:
        chance = each.chance / each.spread if each.spread else None
        limit = limits.mean_score
        yield FamilyEffect(
            "outputs",
            each.level,
            "mean_score",
            each.label,
            each.relative_change,
            chance,
            limit.warning,
            limit.violation,
        )


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
                yield FamilyEffect(
                    "attributions", each.level, measure, each.label, value, chance, limit.warning, limit.violation
                )


def _joint(result: DriftResult, limits: Limits) -> Iterator[FamilyEffect]:
    joint, association = result.separability, result.association
    if joint and joint.value is not None and joint.p is not None:
        limit = limits.separability
        level = limit.level(joint.value) if joint.p <= result.significance else Level.NONE
        yield FamilyEffect("joint", level, "separability", "", joint.value, joint.noise, limit.warning, limit.violation)
    if association and association.level is not Level.NONE:
        limit, names = limits.association, f"{association.first} and {association.second}"
        size = abs(association.now - association.before)
        level = limit.level(size) if association.p <= result.significance else Level.NONE
        yield FamilyEffect("joint", level, "association", names, size, None, limit.warning, limit.violation)
        if size := association.unexplained:
            limit, name = limits.unexplained, association.first
            level = association.level if size >= limit.warning else Level.NONE
            yield FamilyEffect("joint", level, "unexplained", name, size, None, limit.warning, limit.violation)


def _model(limits: Limits, parity: Parity | None, canary: Canary | None) -> Iterator[FamilyEffect]:
    """Yield the differences of scores between the explained model, and the serving one or that of the reference."""
    limit = limits.model_scores
    if canary:
        level = limit.level(canary.difference) if canary.changed else Level.NONE
        yield FamilyEffect(
            "model", level, "model_scores", "reference", canary.difference, None, limit.warning, limit.violation
        )
    if parity:
        level = Level.NONE if parity.same else limit.level(parity.largest)
        yield FamilyEffect(
            "model", level, "model_scores", "serving", parity.largest, parity.tolerance, limit.warning, limit.violation
        )
