"""Families of tests on the page: level, most severe effect, and its position between chance and the limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from runner.domain.drift import DriftResult, FamilyEffect, Level, OutputResult, Parity
from runner.domain.numbers import with_equal_decimals
from runner.report.health import Mark

NAMES = {
    "inputs": "Inputs",
    "outputs": "Outputs",
    "attributions": "Attributions",
    "joint": "Joint changes",
    "model": "Model",
}
"""Names of the families."""
NOT_JUDGED = {"attributions", "joint"}
"""Families without a verdict if another model than the serving one was explained."""
FULL = 4.0
"""Severity at the end of a bullet."""


@dataclass(frozen=True)
class Family:
    """Row of the table of families.

    Attributes:
        mark: mark of the level.
        words: level in words.
        effect: most severe effect in words.
        expected: size up to which the effect is expected by chance, in words; empty if unknown.
        chance, position: end of the range of chance, and position of the effect, in percent of the bullet.
    """

    name: str
    mark: Mark
    words: str
    effect: str
    expected: str
    chance: float
    position: float


def families(result: DriftResult | None, parity: Parity | None) -> Iterator[Family]:
    """Yield the rows of the families that were tested, the most severe first; nothing without tests."""
    doubtful = parity is not None and not parity.same
    found = result.families if result else ()
    for each in sorted(found, key=lambda each: -_order(each, doubtful)):
        mark = Mark.of(each.level)
        if each.family == "model" and not mark.is_alert:
            mark = Mark.OK
        if doubtful and (each.family in NOT_JUDGED or (each.family == "model" and mark.is_alert)):
            mark = Mark.DOUBT
        assert result  # noqa: S101  it has families
        yield Family(
            name=NAMES.get(each.family, each.family),
            mark=mark,
            words=mark.words,
            effect=_effect(each, result, parity),
            expected=_expected(each, result),
            chance=round(100 * each.chance_severity / FULL, 1),
            position=round(100 * each.severity / FULL, 1),
        )


def _order(effect: FamilyEffect, doubtful: bool) -> int:
    """Return the sort key: the model first if it is in doubt, otherwise by level."""
    return 10 if doubtful and effect.family == "model" else effect.level.order


def _effect(each: FamilyEffect, result: DriftResult, parity: Parity | None) -> str:
    """Return an effect in words."""
    if each.family == "inputs":
        return f"{each.name}, {each.value or 0.0:.0%} of records"
    if each.family == "outputs":
        output, of = _output(each, result), f" of {each.name}" if len(result.outputs) > 1 else ""
        return f"Mean score{of} {' → '.join(with_equal_decimals(output.mean_before, output.mean_now))}"
    if each.family == "model":
        return _model(each, parity)
    value = each.value or 0.0
    return {
        "attribution_shift": f"Attribution shift {value:.1%}",
        "total_log2_change": f"Total attribution {2 ** min(value, 99):.2g} times the reference",
        "signed_shift": f"Signed shift {value:.1%} of the total attribution",
        "separability": f"Classifier AUC {value:.2f}",
        "unexplained": f"{each.name} deviates from its prediction by {value:.2f} standard deviations more",
        "association": f"Correlation of {each.name} changed by {value:.2f}",
    }[each.measure]


def _expected(each: FamilyEffect, result: DriftResult) -> str:
    """Return the size up to which an effect is expected by chance, in words; empty if it is unknown."""
    if not each.chance:
        return ""
    if each.family == "outputs":
        return f"± {_output(each, result).chance:.2g}"
    return {
        "input_values": f"≤ {each.chance:.0%}",
        "input_invalid": f"≤ {each.chance:.0%}",
        "attribution_shift": f"≤ {each.chance:.1%}",
        "total_log2_change": f"± {2 ** min(each.chance, 99) - 1:.0%}",
        "separability": f"≤ {each.chance:.2f}",
        "model_scores": f"≤ {each.chance:.0g}",
    }.get(each.measure, "")


def _output(each: FamilyEffect, result: DriftResult) -> OutputResult:
    """Return the scores of the label of an effect."""
    (output,) = [output for output in result.outputs if output.label == each.name]
    return output


def _model(each: FamilyEffect, parity: Parity | None) -> str:
    if parity and not parity.same:
        return f"{parity.differing / parity.records:.0%} of scores differ, by up to {parity.largest:.2g}"
    if each.level is Level.NONE:
        return f"Scores agree within {each.value or 0.0:.1g}"
    return f"Scores differ by up to {each.value or 0.0:.2g}"
