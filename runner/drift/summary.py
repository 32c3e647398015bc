"""The verdict as text for people: a headline, and sentences that explain it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import (
    Canary,
    DetectableChange,
    DriftResult,
    FeatureDrift,
    Headline,
    LabelResult,
    Level,
    Parity,
    RankingResult,
    worst,
)
from runner.domain.executions import HOUR
from runner.domain.numbers import plural
from runner.drift.detect import Detector
from runner.drift.effects import canary_summary, rank, share
from runner.drift.policy import DriftPolicy
from runner.drift.verdict import (
    NO_ATTRIBUTION,
    changed_attributions,
    changed_inputs,
    changed_output,
    joint_words,
    model_suspected,
    most_changed,
    since,
    worst_label,
)

MOST_SEGMENTS = 2
"""Maximum number of segments in the sentences, by descending level."""
SIZES = (100, 1_000, 10_000)
"""Records per hour for which the minimum detectable change is noted."""
CURVE = (10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
"""Records per hour for which the minimum detectable change is drawn."""
HEADLINES = {
    Level.NONE: Headline.NO_DRIFT,
    Level.INSUFFICIENT_DATA: Headline.TOO_FEW_RECORDS,
    Level.INFO: Headline.NO_MATERIAL_DRIFT,
    Level.WARNING: Headline.DRIFT,
    Level.VIOLATION: Headline.SEVERE_DRIFT,
}


def headline(ranking: RankingResult, result: DriftResult | None, parity: Parity | None = None) -> Headline:
    """Return the headline of a verdict; with a violation of the nDCG rule, it is at least `Drift`.

    Another model than the serving one, or a changed model, comes first, whatever the inputs and attributions are.
    Drift is unconfirmed if too few windows have reached its level for an alert.
    """
    if parity and not parity.same:
        return Headline.MODEL_MISMATCH
    if result and result.canary and result.canary.changed:
        return Headline.MODEL_CHANGED
    alerts = {Level.WARNING, Level.VIOLATION}
    if ranking.violations and not (result and result.level in alerts):
        return Headline.DRIFT
    if result and result.level not in alerts and result.level_alone in alerts:
        return Headline.UNCONFIRMED_DRIFT
    has_ndcg = any(label.ndcg is not None for label in ranking.drifts)
    if not has_ndcg and not (result and result.level in alerts):
        return Headline.NO_VERDICT
    return HEADLINES[result.level] if result else Headline.NO_DRIFT


def sentence(
    ranking: RankingResult,
    result: DriftResult | None,
    reference: GlobalAttributions,
    live: GlobalAttributions,
    parity: Parity | None = None,
) -> str:
    """Return the sentences below the headline, for the label with the worst result.

    They say whether the model is the right one, which input changed and how, how much it matters, and the figures of
    the nDCG rule.
    """
    model = [*_model(parity, result.canary if result else None)]
    has_ndcg = any(label.ndcg is not None for label in ranking.drifts)
    if result is None or not result.labels or not has_ndcg:
        ranks, notes = summarize_ranking(ranking, reference, live), result.notes if result else ()
        is_judged = any(label.judged for label in ranking.drifts)
        return _join([*model, ranks, *notes] if is_judged else [*model, *notes, ranks])
    label = worst_label(result)
    of = f" of {label.label}" if len(result.labels) > 1 else ""
    return _join(
        [
            *model,
            *_alert(ranking, result),
            *_findings(result, label, of),
            *_since(result),
            _ndcg(ranking, label, of),
            *_additions(result),
        ]
    )


def _join(sentences: Sequence[str]) -> str:
    """Return sentences with full stops; all except the first start with a capital letter."""
    first, *others = [each if each.endswith("?") else f"{each}." for each in sentences]
    return " ".join([first, *(f"{each[:1].upper()}{each[1:]}" for each in others)])


def _model(parity: Parity | None, canary: Canary | None) -> Iterator[str]:
    """Yield a sentence if another model than the serving one was explained, or if the model changed."""
    if parity and not parity.same:
        part = f"{parity.differing:,} of {plural(parity.records, 'record')}"
        yield f"the explained model is not the serving one: its scores differ in {part}, by up to {parity.largest:.2g}"
    if canary and canary.changed:
        yield canary_summary(canary)


def _alert(ranking: RankingResult, result: DriftResult) -> Iterator[str]:
    """Yield a sentence if the level of this window differs from the alert level, which the headline states."""
    if result.level_alone.order > result.level.order and not ranking.violations:
        alone = f"this window alone has level {result.level_alone.words}"
        yield f"{alone}, but too few windows have reached this level for an alert"
    elif result.level_alone.order < result.level.order:
        yield f"the alert of earlier windows continues, although this window alone has level {result.level_alone.words}"


def _findings(result: DriftResult, label: LabelResult, of: str) -> Iterator[str]:
    """Yield what changed, and how large the effect on the scores and on the attributions is."""
    if result.smallest_p > result.significance and worst(result.segments) is Level.NONE:
        yield "no input, score or attribution changed more than by chance"
        yield _detectable(result)
        return
    changed = result.changed_inputs
    if changed:
        yield from changed_inputs(changed)
    if suspected := model_suspected(result):
        yield suspected
    feature, is_large = most_changed(label, result.significance), label.level.order > Level.INFO.order
    if result.joint_change and worst(changed).order <= Level.INFO.order:
        yield joint_words(result)
    elif not changed and label.p <= result.significance:
        yield (_largest if is_large else changed_attributions)(feature, with_cause=not suspected)
    elif not changed and result.is_separable:
        yield joint_words(result)
    yield from _outputs(result)
    if is_large and changed and changed[0].name != label.top_changes[0].name:
        yield _largest(label.top_changes[0], with_cause=False)
    shift = _shift(label, of)
    yield shift if is_large or suspected or shift == NO_ATTRIBUTION else f"effect on the model: {shift}"


def _since(result: DriftResult) -> Iterator[str]:
    """Yield since when the change that the headline names has been present."""
    if result.changes:
        yield f"present since {since(result)}"


def _outputs(result: DriftResult) -> Iterator[str]:
    """Yield the change of the mean score that matters most."""
    outputs = [each for each in result.outputs if each.level is not Level.NONE]
    if not outputs:
        return
    most = changed_output(outputs)
    of = f" of {most.label}" if len(result.outputs) > 1 else ""
    if most.level is Level.INFO:
        means = f"mean {most.mean_before:.3g} in the reference, {most.mean_now:.3g} now"
        yield f"the distribution of the scores{of} changed ({means})"
        return
    verb = "rose" if most.mean_now > most.mean_before else "fell"
    interval = f"95% interval of the change {most.change_low:+.2g} to {most.change_high:+.2g}"
    yield f"the mean score{of} {verb} from {most.mean_before:.3g} to {most.mean_now:.3g} ({interval})"


def _additions(result: DriftResult) -> Iterator[str]:
    """Yield clauses on segments with a higher level than the window, on joint changes, and on the model."""
    whole = worst(result.labels, least=Level.INSUFFICIENT_DATA)
    higher = [segment for segment in result.segments if segment.level.order > whole.order]
    for segment in sorted(higher, key=lambda segment: -segment.level.order)[:MOST_SEGMENTS]:
        label = worst_label(segment)
        figures = f"{_largest(label.top_changes[0])}; {_shift(label)}"
        if segment.level is Level.INFO:
            figures = changed_attributions(label.changed)
        yield f"{HEADLINES[segment.level].lower()} in {segment.name}: {figures}"
    if result.canary and not result.canary.changed and result.level_alone is not Level.NONE:
        yield canary_summary(result.canary)


def detectable_changes(policy: DriftPolicy, reference_rows: int, tests: int) -> tuple[DetectableChange, ...]:
    """Return the smallest detectable change for hourly windows of several sizes.

    Args:
        policy: thresholds and accepted false alarms.
        reference_rows: number of reference records.
        tests: features times labels.
    """
    detector = Detector(policy)
    changes = [detector.minimum_detectable_change(reference_rows, rows, tests, HOUR) for rows in CURVE]
    few = policy.min_rows
    return tuple(
        DetectableChange(rows, 1.0 if min(rows, reference_rows) < few else round(min(1.0, change), 6))
        for rows, change in zip(CURVE, changes, strict=True)
    )


def minimum_detectable(policy: DriftPolicy, reference_rows: int, tests: int) -> str:
    """Describe the smallest detectable change for typical hourly windows, as a share of a feature's records.

    Args:
        policy: thresholds and accepted false alarms.
        reference_rows: number of reference records.
        tests: features times labels.
    """
    changes = {rows: Detector(policy).minimum_detectable_change(reference_rows, rows, tests, HOUR) for rows in SIZES}
    shown = [f"{change:.0%} of {rows:,}" for rows, change in changes.items() if change < 1]
    if not shown:
        return f"minimum detectable change: none with {plural(reference_rows, 'reference record')}"
    return f"minimum detectable change of one feature: in {', '.join(shown)} records an hour"


def _detectable(result: DriftResult) -> str:
    if result.minimum_detectable_change >= 1:
        return "minimum detectable change: none (too few records)"
    return (
        "minimum detectable change: clearly different values of one feature in "
        f"{result.minimum_detectable_change:.0%} of the records"
    )


def _shift(label: LabelResult, of: str = "") -> str:
    shift, total = label.attribution_shift, label.total_log2_change
    if shift.value is None or shift.noise is None:
        return NO_ATTRIBUTION
    figures = f"attribution{of} shifted by {shift.value:.1%} (up to {shift.noise:.1%} expected by chance)"
    if total.value is not None and total.noise is not None and abs(total.value) > total.noise:
        figures += f" and its total is {2**total.value:.2g} times the reference"
    return figures


def _largest(feature: FeatureDrift, with_cause: bool = True) -> str:
    ranks = f"rank {feature.rank_before} to {feature.rank_now}"
    if feature.rank_before == feature.rank_now:
        ranks = f"rank {feature.rank_now} as before"
    verb = "rose" if feature.share_now > feature.share_before else "fell"
    shares = [f"{share:.1%}" for share in (feature.share_before, feature.share_now)]
    share = f"its share of attribution {verb} from {shares[0]} to {shares[1]} ({ranks})"
    if shares[0] == shares[1]:
        share = f"its share of attribution is {shares[1]} as before, but its attributions changed in "
        share += f"{feature.distance:.0%} of the records"
    if feature.cause is None or not with_cause:
        return f"largest change of attribution in {feature.name}: {share}"
    return f"largest change in {feature.name}: {feature.cause}. {share[:1].upper()}{share[1:]}"


def _ndcg(ranking: RankingResult, label: LabelResult, of: str) -> str:
    (ranked,) = [each for each in ranking.drifts if each.label == label.label]
    if ranked.ndcg is None:
        return f"the ranking{of} cannot be compared: nDCG is undefined"
    agrees = "differs from" if ranked in ranking.violations else "is similar to"
    return f"the ranking{of} {agrees} the reference: nDCG {ranked.ndcg:.4f} (alert below {ranking.threshold:g})"


def summarize_ranking(ranking: RankingResult, reference: GlobalAttributions, live: GlobalAttributions) -> str:
    """Describe the result of the nDCG rule alone, for the label with the lowest nDCG, without a full stop."""
    ranked = [(label.ndcg, label) for label in ranking.drifts if label.ndcg is not None]
    if not ranked:
        return ranking.drifts[0].notes[-1] if ranking.drifts else "no label could be compared"
    _, lowest = min(ranked, key=lambda pair: pair[0])
    of = f" for {lowest.label}" if len(ranking.drifts) > 1 else ""
    figures = f"nDCG {lowest.ndcg:.4f}, alert below {ranking.threshold:g}"
    now_D = abs(live.values(lowest.label, live.names))
    if not now_D.any():
        return f"{NO_ATTRIBUTION} ({figures})"
    if not lowest.judged:
        return f"the ranking of features{of} is not judged ({figures})"
    if not ranking.violations:
        return f"the features rank as in the reference{of} ({figures})"
    before_D = abs(reference.values(lowest.reference_label, live.names))
    d = int(abs(share(now_D) - share(before_D)).argmax())
    shares = f"share of attribution {share(before_D)[d]:.1%} to {share(now_D)[d]:.1%}"
    change = f"largest change in {live.names[d]}: rank {rank(before_D)[d]} to {rank(now_D)[d]}, {shares}"
    return f"the ranking of features differs from the reference{of} ({figures}). {change[:1].upper()}{change[1:]}"
