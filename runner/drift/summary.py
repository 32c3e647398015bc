"""The verdict for people: two words, and a sentence that stands behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, FeatureDrift, LabelResult, Level, RankingResult, worst
from runner.domain.executions import HOUR
from runner.domain.text import plural
from runner.drift import canary
from runner.drift.detect import Detector
from runner.drift.shares import rank, share

NOTHING_LIVE = "all live attributions are zero: the records equal the SHAP baseline, or the model ignores them"
MOST_SEGMENTS = 2
"""That the sentence speaks of, those that say most."""
SIZES = (100, 1_000, 10_000)
HEADLINES = {
    Level.NONE: "No drift",
    Level.INSUFFICIENT_DATA: "Too few records",
    Level.INFO: "No material drift",
    Level.WARNING: "Drift",
    Level.VIOLATION: "Severe drift",
}


def headline(verdict: RankingResult, finding: DriftResult | None) -> str:
    """Return the verdict in two words; where the rankings differ too much there is drift, whatever else was found."""
    if finding and finding.level in {Level.WARNING, Level.VIOLATION}:
        return HEADLINES[finding.level]
    if verdict.violations:
        return "Drift"
    if not any(drift.ndcg is not None for drift in verdict.drifts):
        return "No verdict"
    return HEADLINES[finding.level] if finding else "No drift"


def sentence(
    verdict: RankingResult, finding: DriftResult | None, reference: GlobalAttributions, live: GlobalAttributions
) -> str:
    """Return what stands behind the headline; of several labels it speaks of the worst."""
    judged = any(drift.ndcg is not None for drift in verdict.drifts)
    if finding is None or not finding.labels or not judged:
        rule = ranked(verdict, reference, live)
        return " ".join([rule, *(f"{note[:1].upper()}{note[1:]}." for note in finding.notes)]) if finding else rule
    label = _foremost(finding.labels)
    of = f" for {label.label}" if len(finding.labels) > 1 else ""
    told = {
        Level.NONE: _nothing(label, finding),
        Level.INFO: f"{_shape(label)}; that is beyond chance, but {_moved(label)}",
        Level.WARNING: f"{_moved(label)}; {_mover(label.top_changes[0])}",
        Level.VIOLATION: f"{_moved(label)}; {_mover(label.top_changes[0])}",
    }[label.level]
    beside = "".join(f" {each[:1].upper()}{each[1:]}." for each in _beside(finding))
    return f"{told}{of} ({_ndcg(verdict, label)}).{beside}"


def _foremost(labels: Sequence[LabelResult]) -> LabelResult:
    return max(labels, key=lambda label: (label.level.order, label.attribution_shift.value or 0))


def _beside(finding: DriftResult) -> Iterator[str]:
    """Yield what else is worth a sentence: segments that say more than the whole, joint changes, and the model."""
    whole = worst(finding.labels, least=Level.INSUFFICIENT_DATA)
    louder = [segment for segment in finding.segments if segment.level.order > whole.order]
    for segment in sorted(louder, key=lambda segment: -segment.level.order)[:MOST_SEGMENTS]:
        label = _foremost(segment.labels)
        told = _shape(label) if segment.level is Level.INFO else f"{_moved(label)}; {_mover(label.top_changes[0])}"
        yield f"{HEADLINES[segment.level].lower()} in {segment.name}: {told}"
    apart = finding.separability
    if whole is Level.INSUFFICIENT_DATA and apart and apart.p is not None and apart.p <= finding.significance:
        yield f"taken together the attributions have changed: a classifier tells them apart (AUC {apart.value:.2f})"
    if finding.canary and finding.alone is not Level.NONE:
        yield canary.told(finding.canary)


def sight(detector: Detector, kept: int, tests: int) -> str:
    """Return from which change on hours of some sizes can be told from chance, as a share of a feature's records.

    Args:
        detector: the rule.
        kept: records of the reference.
        tests: features times labels.
    """
    seen = {rows: detector.smallest(kept, rows, tests, HOUR) for rows in SIZES}
    told = [f"{smallest:.0%} ({rows:,} records)" for rows, smallest in seen.items() if smallest < 1]
    if not told:
        return f"with {plural(kept, 'kept record')} no change can be told from chance"
    return f"in an hour a change can be told from chance from these parts of a feature's records on: {', '.join(told)}"


def _nothing(label: LabelResult, finding: DriftResult) -> str:
    seen = f"a change in {finding.smallest:.0%} of the records of a feature would have been seen"
    if finding.smallest >= 1:
        seen = "in so few records no change at all could have been seen"
    return f"{_moved(label)}; {seen}"


def _moved(label: LabelResult) -> str:
    moved = label.attribution_shift
    if moved.value is None or moved.noise is None:
        return NOTHING_LIVE
    told = f"{moved.value:.1%} of the attention moved, chance alone moves up to {moved.noise:.1%}"
    grown = label.total_log2_change
    if grown.value is not None and grown.noise is not None and abs(grown.value) > grown.noise:
        told += f", and all attribution together is {2**grown.value:.2g} times what it was"
    return told


def _shape(label: LabelResult) -> str:
    changed = label.changed
    told = f"the attributions of {changed.name} have changed in {changed.distance:.0%} of the records"
    return f"{told}: {changed.cause}" if changed.cause else told


def _mover(feature: FeatureDrift) -> str:
    ranks = f"from rank {feature.rank_before} to {feature.rank_now}"
    if feature.rank_before == feature.rank_now:
        ranks = f"still on rank {feature.rank_now}"
    return (
        f"{feature.name} moved most, {ranks} and from {feature.share_before:.1%} to {feature.share_now:.1%} "
        "of all attribution"
    ) + (f": {feature.cause}" if feature.cause else "")


def _ndcg(verdict: RankingResult, label: LabelResult) -> str:
    (drift,) = [each for each in verdict.drifts if each.label == label.label]
    value = "undefined" if drift.ndcg is None else f"{drift.ndcg:.4f}"
    return f"nDCG {value}, alarm below {verdict.threshold:g}"


def ranked(verdict: RankingResult, reference: GlobalAttributions, live: GlobalAttributions) -> str:
    """Return what the ranking alone says; it speaks of the label that ranks worst."""
    judged = [(drift.ndcg, drift) for drift in verdict.drifts if drift.ndcg is not None]
    if not judged:
        return f"{verdict.drifts[0].notes[-1] if verdict.drifts else 'no label could be compared'}."
    _, worst = min(judged, key=lambda pair: pair[0])
    of = f" for {worst.label}" if len(verdict.drifts) > 1 else ""
    figures = f"nDCG {worst.ndcg:.4f}, alarm below {verdict.threshold:g}"
    now_D = abs(live.values(worst.label, live.names))
    if not now_D.any():
        return f"{NOTHING_LIVE} ({figures})."
    if not verdict.violations:
        return f"the features rank as in the reference{of} ({figures})."
    before_D = abs(reference.values(worst.reference_label, live.names))
    mover = int(abs(share(now_D) - share(before_D)).argmax())
    move = (
        f"{live.names[mover]} moved most, from rank {rank(before_D)[mover]} to {rank(now_D)[mover]} and from "
        f"{share(before_D)[mover]:.1%} to {share(now_D)[mover]:.1%} of all attribution"
    )
    return f"the features no longer rank as in the reference{of} ({figures}); {move}."
