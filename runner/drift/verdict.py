"""The verdict in words: a title, what changed, how much it matters, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from runner.domain.drift import (
    DriftResult,
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
    found = titles.get(headline) or (shortened(_finding(result)) if result else "")
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


def _finding(result: DriftResult) -> str:
    """Return the most important change in a few words; empty if there is none."""
    if result.changed_inputs:
        first = result.changed_inputs[0]
        return (
            f"{first.name}: {cause_without_evidence(first.cause)}"
            if first.cause
            else f"The values of {first.name} changed"
        )
    association = result.association
    if association and association.level is not Level.NONE:
        return f"{association.first} and {association.second} are not related as in the reference"
    if result.joint_change:
        return "The inputs changed jointly"
    if any(label.p <= result.significance for label in result.labels):
        return f"The attributions of {worst_label(result).changed.name} changed"
    return _other_finding(result)


def _other_finding(result: DriftResult) -> str:
    """Return a change of the scores or of a segment in a few words; empty if there is none."""
    if outputs := [each for each in result.outputs if each.level is not Level.NONE]:
        before, now = with_equal_decimals(outputs[0].mean_before, outputs[0].mean_now)
        verb = "rose" if outputs[0].mean_now > outputs[0].mean_before else "fell"
        return f"The mean score {verb} from {before} to {now}"
    if worst(result.segments) is not Level.NONE:
        return f"Drift in {max(result.segments, key=lambda each: each.level.order).name}"
    return ""


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
    return " ".join("".join(parts).replace(" ;", ";").split()).removesuffix(" ;")


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
    elif headline in {Headline.MODEL_MISMATCH, Headline.MODEL_CHANGED}:
        yield "no input changed more than by chance"
    elif result.smallest_p > result.significance and worst(result.segments) is Level.NONE:
        yield f"{RANKED}, but no test finds a change beyond chance" if headline is Headline.DRIFT else NOTHING
    elif result.association and result.association.level is not Level.NONE:
        each = result.association
        figures = f"correlation {each.before:.2f} in the reference, {each.now:.2f} now"
        yield f"features {each.first} and {each.second}: {figures}: {each.hypothesis}"
    elif result.joint_change and result.separability:
        yield f"a classifier separates live from reference records (AUC {result.separability.value:.2f})"
    elif worst_label(result).p <= result.significance:
        yield changed_attributions(worst_label(result))
    for segment in result.segments:
        if segment.level.order > highest([each.level for each in result.labels]).order:
            yield f"{segment.level.words} in {segment.name}"


def changed_inputs(changed: Sequence[InputResult]) -> Iterator[str]:
    """Yield the change of the first of these inputs, and the names of the others."""
    yield f"input {changed[0].name}: {changed[0].cause or 'its values changed'}"
    if len(changed) > 1:
        yield f"other changed inputs: {listed([each.name for each in changed[1:]], MOST_INPUTS)}"


def changed_attributions(label: LabelResult) -> str:
    """Return the most significant change of attributions, with its cause."""
    figures = f"the attributions of {label.changed.name} changed in {label.changed.distance:.0%} of the records"
    return f"{figures}: {label.changed.cause}" if label.changed.cause else figures


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
    if headline not in {Headline.DRIFT, Headline.SEVERE_DRIFT}:
        return ACTIONS.get(headline, "") if headline else ""
    release = f", and look for a release at about {since(result)}" if result and result.changes else ""
    if result and result.changed_inputs:
        return f"Check the source of {result.changed_inputs[0].name}{release}. {NEW_REFERENCE}"
    if result and result.labels:
        return f"Check {worst_label(result).changed.name}, and the model that serves{release}. {NEW_REFERENCE}"
    return f"Check the features with the largest changes below. {NEW_REFERENCE}"


def since(result: DriftResult) -> str:
    """Return the start of the change that the headline names; empty without a change."""
    if not result.changes:
        return ""
    first = result.changes[0]
    return day_and_time(utc(first.since), utc(first.onset).year)
