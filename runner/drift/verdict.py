"""The verdict in words: a title, what changed, how much it matters, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.domain.drift import (
    Association,
    DriftResult,
    FeatureDrift,
    Headline,
    InputResult,
    LabelResult,
    Level,
    OutputResult,
    Parity,
    SegmentResult,
    Verdict,
    highest,
    worst,
)
from runner.domain.executions import day_and_time, utc
from runner.domain.numbers import plural, with_equal_decimals
from runner.errors import listed

NO_ATTRIBUTION = "all live attributions are zero: the records equal the SHAP baseline, or the model ignores its inputs"
MOST_INPUTS = 3
"""Maximum number of further changed inputs that are named."""
LONGEST_TITLE = 90
"""Maximum number of characters of a title; a longer one is shortened."""
SIZES = {
    Level.NONE: "No effect on the model",
    Level.INSUFFICIENT_DATA: "Not judged",
    Level.INFO: "Small effect on the model",
    Level.WARNING: "Moderate effect on the model",
    Level.VIOLATION: "Large effect on the model",
}
"""Size of the effect on the model by level."""
NOTHING = "no input, score or attribution changed more than by chance"
RANKED = "The ranking of features differs from the reference"
MISMATCH = "The model explained is not the model that serves"
NEW_REFERENCE = "If the change is intended, make a new reference with stage=baseline."
SET_CANARY = "Set drift.canary_rows, so that each window compares the model with that of the reference."
ACTIONS = {
    Headline.FAILED: "Correct the cause, then run this window again. The new report replaces this one.",
    Headline.NO_DATA: (
        "If you expected traffic, check monitor.endpoint, monitor.variant and paths.capture. If captures arrive late, "
        "run this window again with stage=backfill."
    ),
    Headline.TOO_FEW_RECORDS: (
        "Use longer windows, or lower drift.min_rows. With fewer records, only larger changes can be detected. "
        "If you expected more traffic, check the captured and the rejected records."
    ),
    Headline.UNCONFIRMED_DRIFT: (
        "Wait for the next windows: an alert needs several windows at this level (drift.datapoints_to_alert)."
    ),
    Headline.MODEL_MISMATCH: (
        "Set model to the model that serves. If it is the same model, find out why the endpoint returned other scores. "
        "Then run this window again."
    ),
    Headline.MODEL_CHANGED: f"Check whether the change of the model was intended. {NEW_REFERENCE}",
    Headline.NO_MATERIAL_DRIFT: "Nothing now.",
    Headline.NO_DRIFT: "Nothing.",
    Headline.NO_VERDICT: (
        "Make a new reference with stage=baseline. It needs the labels of the model and nonzero attributions."
    ),
}
"""What to do, by headline; for drift it depends on the cause."""


def verdict(headline: str, sentence: str, result: DriftResult | None, parity: Parity | None) -> Verdict:
    """Return the verdict in words.

    Args:
        headline: headline of the manifest; one of another version is the title.
        sentence: sentence of the manifest, which is used where there are no tests.
        result: result of the tests; None without tests.
        parity: comparison of captured and recomputed scores; None if nothing was comparable.
    """
    known = Headline(headline) if headline in set(Headline) else None
    changed = _join(_changed(known, sentence, result, parity))
    matters = _join(_matters(known, result)) or _without_tests(known)
    return Verdict(_title(known, headline, sentence, result), changed, matters, _action(known, result))


def _join(sentences: Iterator[str]) -> str:
    """Return clauses as sentences."""
    ended = (each if each.endswith(("?", ".")) else f"{each}." for each in sentences)
    return " ".join(f"{each[:1].upper()}{each[1:]}" for each in ended)


def _title(headline: Headline | None, words: str, sentence: str, result: DriftResult | None) -> str:
    """Return the title; the words of the headline where nothing more is known."""
    if headline is Headline.FAILED:
        return _failure(f"{sentence[:1].upper()}{sentence[1:]}") or words
    titles = {
        None: words,
        Headline.NO_DATA: "No captured events in this window",
        Headline.MODEL_MISMATCH: MISMATCH,
        Headline.NO_DRIFT: words,
        Headline.NO_VERDICT: words,
    }
    if result:
        titles[Headline.TOO_FEW_RECORDS] = f"Too few records: {result.rows_live:,} in this window"
    if result and result.canary:
        titles[Headline.MODEL_CHANGED] = f"The model changed: scores differ by up to {result.canary.difference:.2g}"
    found = titles.get(headline) or (shortened(next(_findings(result), "")) if result else "")
    return found or (RANKED if headline is Headline.DRIFT else words)


def _failure(sentence: str) -> str:
    """Return the first sentence of a failure, without the remedy after the last colon if it is long.

    >>> _failure(f"The reference was not found at {'a' * 20}.json (monitor.reference): run stage=baseline first.")[-24:]
    'json (monitor.reference)'
    """
    title = sentence.partition(". ")[0].removesuffix(".")
    clause = title[:LONGEST_TITLE].rpartition(": ")[0] if len(title) > LONGEST_TITLE else ""
    return clause or shortened(title)


def shortened(title: str) -> str:
    """Return a title with at most `LONGEST_TITLE` characters.

    >>> len(shortened("a" * 200))
    90
    """
    return title if len(title) <= LONGEST_TITLE else f"{title[: LONGEST_TITLE - 1].rstrip()}…"


def _findings(result: DriftResult) -> Iterator[str]:
    """Yield what changed in a few words, the most important change first."""
    if result.changed_inputs:
        first = result.changed_inputs[0]
        cause = first.cause and f"{first.name}: {cause_without_evidence(first.cause)}"
        yield cause or f"The values of {first.name} changed"
    association = result.association
    if association and association.level is not Level.NONE:
        yield deviation(association) or f"{_pair(association)} are not related as in the reference"
    if result.joint_change:
        yield "The inputs changed jointly"
    scores = _changed_score(result)
    if result.without_inputs:
        yield f"{scores or _changed_attributions(result)}, although no input did"
    if any(label.p <= result.significance for label in result.labels):
        yield _changed_attributions(result)
    if scores:
        yield scores
    if result.is_separable:
        yield "A classifier separates live from reference records"
    if worst(result.segments) is not Level.NONE:
        yield f"Drift in {max(result.segments, key=lambda each: each.level.order).name}"


def _pair(association: Association) -> str:
    return f"{association.first} and {association.second}"


def deviation(association: Association) -> str:
    """Return how a feature deviates from its prediction, without figures; empty if the correlation changed, too."""
    if not association.is_deviation:
        return ""
    verb = "deviates more from" if association.unexplained else "follows more closely"
    return f"{association.first} {verb} its prediction by the other features"


def _changed_score(result: DriftResult) -> str:
    """Return a change of the scores in a few words; empty if there is none."""
    outputs = [each for each in result.outputs if each.level is not Level.NONE]
    if not outputs:
        return ""
    most = changed_output(outputs)
    of = f" of {most.label}" if len(result.outputs) > 1 else ""
    if abs(most.mean_now - most.mean_before) <= most.chance:
        return f"The distribution of the scores{of} changed"
    before, now = with_equal_decimals(most.mean_before, most.mean_now)
    return f"The mean score{of} {'rose' if most.mean_now > most.mean_before else 'fell'} from {before} to {now}"


def _changed_attributions(result: DriftResult) -> str:
    """Return the change of a feature's attributions in a few words: of its share, if this exceeds chance."""
    if all(label.p > result.significance for label in result.labels):
        return "The attributions changed jointly"
    feature = most_changed(worst_label(result), result.significance)
    shares = [f"{share:.0%}" for share in (feature.share_before, feature.share_now)]
    if abs(feature.share_change) <= (feature.share_noise or 0.0) or shares[0] == shares[1]:
        return f"The attributions of {feature.name} changed in {feature.distance:.0%} of the records"
    verb = "rose" if feature.share_change > 0 else "fell"
    return f"The attribution share of {feature.name} {verb} from {shares[0]} to {shares[1]}"


def cause_without_evidence(cause: str) -> str:
    """Return a cause without its evidence and hypotheses.

    >>> cause_without_evidence("about 12 times the reference values (11–13.1): another unit, such as months for years?")
    'about 12 times the reference values'
    >>> cause_without_evidence("'a' (16% of the reference) no longer occurs; 'b' (15%) is new: renamed?")
    "'a' no longer occurs; 'b' is new"
    """
    parts, depth = [], 0
    for i, character in enumerate(cause):
        depth += character == "("
        if not depth:
            if cause[i : i + 2] == ": ":
                break
            parts.append(character)
        depth -= character == ")" and depth > 0
    return " ".join("".join(parts).split()).replace(" ;", ";").replace(" ,", ",").removesuffix(";")


def most_changed(label: LabelResult, significance: float) -> FeatureDrift:
    """Return the feature whose share changed most, of those whose attributions changed significantly."""
    return next((each for each in label.top_changes if each.p <= significance), label.changed)


def model_suspected(result: DriftResult) -> str:
    """Return a clause on the model if no input explains a change; empty otherwise."""
    if not result.without_inputs:
        return ""
    p = {"scores": [each.p for each in result.outputs], "attributions": [each.p for each in result.labels]}
    parts = [name for name, tested in p.items() if min(tested, default=1.0) <= result.significance]
    changed = f"{' and '.join(parts) or 'attributions'} changed, although no input did"
    if result.canary is None:
        unchecked = "this window did not compare the model with that of the reference (drift.canary_rows)"
        return f"{changed}: probably the model that serves, or the SHAP baseline, changed; {unchecked}"
    same = f"on {plural(result.canary.records, 'reference record')}, the model returns the same scores"
    return f"{changed}, and {same}: another SHAP baseline, or a model that changed for other records?"


def worst_label(found: DriftResult | SegmentResult) -> LabelResult:
    """Return the label with the highest level and the largest attribution shift."""
    return max(found.labels, key=lambda label: (label.level.order, label.attribution_shift.value or 0))


def _changed(
    headline: Headline | None, sentence: str, result: DriftResult | None, parity: Parity | None
) -> Iterator[str]:
    """Yield what changed."""
    if parity and not parity.same:
        share = parity.differing / parity.records
        part = f"{parity.differing:,} of {parity.records:,} captured scores ({share:.0%})"
        yield f"{part} differ from those of the explained model, by up to {parity.largest:.2g}"
    if result and result.canary and result.canary.changed:
        records = f"on {plural(result.canary.records, 'reference record')}, this model and that of the reference"
        yield f"{records} return scores that differ by up to {result.canary.difference:.2g}"
    if result is None or not result.labels:
        yield sentence
        return
    if result.level is not result.level_alone:
        yield f"this window alone has level {result.level_alone.words}"
    if result.changed_inputs:
        yield from changed_inputs(result.changed_inputs)
    elif headline in {Headline.MODEL_MISMATCH, Headline.MODEL_CHANGED} and not result.joint_change:
        yield "no input changed more than by chance"
    elif result.smallest_p > result.significance and worst(result.segments) is Level.NONE:
        yield f"{RANKED}, but no test finds a change beyond chance" if headline is Headline.DRIFT else NOTHING
    else:
        yield from _without_changed_input(result)
    for segment in result.segments:
        if segment.level.order > highest([each.level for each in result.labels]).order:
            yield f"{segment.level.words} in {segment.name}"


def _without_changed_input(result: DriftResult) -> Iterator[str]:
    """Yield what changed if no input changed by itself."""
    if result.joint_change:
        yield joint_words(result)
        return
    suspected = model_suspected(result)
    if suspected:
        yield suspected
    label = worst_label(result)
    if label.p <= result.significance:
        yield changed_attributions(most_changed(label, result.significance), with_cause=not suspected)
    elif scores := _changed_score(result):
        yield scores
    elif result.is_separable:
        yield joint_words(result)


def joint_words(result: DriftResult) -> str:
    """Return a clause on a joint change: of inputs, or of inputs and attributions."""
    association, joint = result.association, result.separability
    if association and association.level is not Level.NONE:
        return _association(association)
    separates = ""
    if joint and joint.value is not None and result.is_separable:
        separates = f"a classifier separates live from reference records (AUC {joint.value:.2f})"
    if result.joint_change:
        return f"the inputs changed jointly: {separates or 'small changes of many inputs add up'}"
    return f"{separates} by inputs and attributions together"


def _association(each: Association) -> str:
    """Return what changed in the association of two features, and why that may be."""
    correlations = f"correlation {each.before:.2f} in the reference, {each.now:.2f} now"
    deviations = f"{each.deviation_before:.2f} standard deviations in the reference, {each.deviation_now:.2f} now"
    if words := deviation(each):
        return f"{words} ({deviations}): {each.hypothesis}"
    if each.unexplained:
        correlations += f"; {each.first} deviates from its prediction by the other features by {deviations}"
    return f"the features {_pair(each)} are not related as in the reference ({correlations}): {each.hypothesis}"


def changed_inputs(changed: Sequence[InputResult]) -> Iterator[str]:
    """Yield the change of the first of these inputs, and the names of the others."""
    yield f"input {changed[0].name}: {changed[0].cause or 'its values changed'}"
    if len(changed) > 1:
        yield f"other changed inputs: {listed([each.name for each in changed[1:]], MOST_INPUTS)}"


def changed_attributions(feature: FeatureDrift, with_cause: bool = True) -> str:
    """Return the change of the attributions of a feature."""
    figures = f"the attributions of {feature.name} changed in {feature.distance:.0%} of the records"
    return f"{figures}: {feature.cause}" if feature.cause and with_cause else figures


def changed_output(outputs: Sequence[OutputResult]) -> OutputResult:
    """Return the output whose mean score changed most, of those with the highest level."""
    return max(outputs, key=lambda each: (each.level.order, abs(each.relative_change)))


def _matters(headline: Headline | None, result: DriftResult | None) -> Iterator[str]:
    """Yield how large the effect on the scores and on the attributions is; nothing without tests."""
    if result is None or not result.labels:
        return
    if headline is Headline.MODEL_MISMATCH:
        yield "the attributions of this window explain another model, so drift is neither shown nor excluded"
        return
    model = result.level if result.canary and result.canary.changed else Level.NONE
    yield SIZES[highest([model, worst(result.labels), worst(result.outputs)])]
    if result.outputs:
        most = changed_output(result.outputs)
        of = f" of {most.label}" if len(result.outputs) > 1 else ""
        before, now = with_equal_decimals(most.mean_before, most.mean_now)
        if most.level.order > Level.INFO.order:
            verb = "rose" if most.mean_now > most.mean_before else "fell"
            interval = f"{most.change_low:+.2g} to {most.change_high:+.2g}".replace("-", "−")
            yield f"the mean score{of} {verb} from {before} to {now} (95% interval of the change: {interval})"
        else:
            yield f"the mean score{of} is {now}; in the reference it is {before}"
    label = worst_label(result)
    shift, total = label.attribution_shift, label.total_log2_change
    if shift.value is None or shift.noise is None:
        yield NO_ATTRIBUTION
        return
    of = f" of {label.label}" if len(result.labels) > 1 else ""
    yield f"the attribution shift{of} is {shift.value:.1%} (up to {shift.noise:.1%} expected by chance)"
    if total.value is not None and total.noise is not None and abs(total.value) > total.noise:
        yield f"the total attribution is {2**total.value:.2g} times that of the reference"
    if result.smallest_p > result.significance:
        least = result.minimum_detectable_change
        if least < 1:
            yield f"clearly different values of one feature in {least:.0%} or more of the records would be detected"
        else:
            yield "no change could have been detected in so small a window"


def _without_tests(headline: Headline | None) -> str:
    if headline is Headline.FAILED:
        return "Drift was not judged. The reference and the earlier results are unchanged."
    if headline in {Headline.DRIFT, Headline.NO_DRIFT}:
        return "Only the ranking was compared: the reference has no stored records for the tests."
    if headline in {Headline.NO_DATA, Headline.TOO_FEW_RECORDS, Headline.NO_VERDICT}:
        return "Drift was not judged."
    return ""


def _action(headline: Headline | None, result: DriftResult | None) -> str:
    """Return what to do; empty for a headline of another version."""
    if headline is Headline.NO_MATERIAL_DRIFT and result and result.without_inputs and result.canary is None:
        return f"{ACTIONS[headline]} {SET_CANARY}"
    if headline not in {Headline.DRIFT, Headline.SEVERE_DRIFT}:
        return ACTIONS.get(headline, "") if headline else ""
    if result and (checked := next(_checks(result), "")):
        release = f", and look for a release at about {since(result)}" if result.changes else ""
        canary = f" {SET_CANARY}" if result.without_inputs and result.canary is None else ""
        return f"Check {checked}{release}.{canary} {NEW_REFERENCE}"
    return f"Check the features with the largest changes below. {NEW_REFERENCE}"


def _checks(result: DriftResult) -> Iterator[str]:
    """Yield what to check, the most important first; nothing without tests."""
    if result.changed_inputs:
        yield f"the source of {result.changed_inputs[0].name}"
    association = result.association
    if association and association.level is not Level.NONE:
        yield (
            f"the source of {association.first}" if association.is_deviation else f"the sources of {_pair(association)}"
        )
    if result.joint_change:
        yield "the sources of the inputs, and how their records are joined"
    if result.without_inputs:
        yield "the version of the model that serves, and the SHAP baseline"
    if result.labels:
        label = worst_label(result)
        model = "" if result.canary else ", and the model that serves"
        if label.p > result.significance and worst(result.outputs) is not Level.NONE:
            yield f"the inputs{model}"
        yield f"{most_changed(label, result.significance).name}{model}"


def since(result: DriftResult) -> str:
    """Return the start of the change that the headline names; empty without a change."""
    if not result.changes:
        return ""
    first = result.changes[0]
    return day_and_time(utc(first.since), utc(first.onset).year)
