"""Context of the templates: strings, numbers and tables, the same for page, PDF and notebook."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, Headline, Level, Verdict
from runner.domain.executions import Status
from runner.drift.performance import Quality
from runner.drift.verdict import since, verdict
from runner.report import charts, health, sections, tables
from runner.report.baseline import BASELINE_ANSWERS, BaselineTable, baseline_table, baseline_verdict
from runner.report.charts import Figure
from runner.report.families import Family, families
from runner.report.health import Check, Mark, State
from runner.report.sections import Label, Section, TopChanges, compare_labels
from runner.report.tables import ReportTable, make_table
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST, NOTEBOOK, PDF, SETTINGS, VIOLATIONS
from runner.results.documents import DriftDocument
from runner.results.manifest import Explanation, Manifest

STATES = {
    Headline.NO_DRIFT: State.GOOD,
    Headline.NO_DATA: State.GOOD,
    Headline.TOO_FEW_RECORDS: State.WARNING,
    Headline.NO_MATERIAL_DRIFT: State.GOOD,
    Headline.UNCONFIRMED_DRIFT: State.WARNING,
    Headline.MODEL_CHANGED: State.BAD,
    Headline.MODEL_MISMATCH: State.BAD,
    Headline.DRIFT: State.BAD,
    Headline.SEVERE_DRIFT: State.BAD,
    Headline.NO_VERDICT: State.WARNING,
    Headline.FAILED: State.BAD,
    Headline.REFERENCE: State.GOOD,
}
MARKS = {
    Headline.NO_DATA: Mark.FEW,
    Headline.TOO_FEW_RECORDS: Mark.FEW,
    Headline.MODEL_MISMATCH: Mark.DOUBT,
    Headline.FAILED: Mark.FAILED,
    Headline.REFERENCE: Mark.OK,
    Headline.NO_VERDICT: Mark.WARNING,
}
"""Marks of headlines that do not follow from the level."""
SEARCHED_SETTINGS = {"captures": "source", "reference": "monitor.reference", "model": "model"}
"""Setting of each kind of input."""
ANSWERS = ("What changed", "How much it matters", "What to do")
"""Names of the sentences of a verdict."""
NOT_JUDGED = {
    Mark.DOUBT: "Not judged: these attributions explain another model than the one that serves.",
    Mark.FEW: "Not judged: the window has too few records.",
}
"""Reasons why attributions are not judged."""
RESOLVE_CHECKS = "Resolve the failed health checks first. Until then, the verdict is unreliable."
FORMULAS = (
    (
        "nDCG",
        "Similarity of two rankings of the features; 1 if they are equal. The gains are the reference attributions. "
        "The gain at position i is weighted with 1 / log2(i + 1). nDCG is the weighted sum in the live order, divided "
        "by the weighted sum in the reference order.",
    ),
    ("Attribution share", "Global attribution of a feature, divided by the sum over all features."),
    ("Attribution shift", "½ Σ |q − p| over the attribution shares p in the reference and q live."),
    ("Total attribution", "Sum of the global attributions; its change is log2 of live divided by reference."),
    (
        "KS distance",
        "Largest difference between the distribution functions of the values, the scores or the local attributions φ; "
        "for categories, half the sum of the differences of their shares.",
    ),
    (
        "p (Holm)",
        "Probability of a change at least as large by chance; corrected for all tests of the window.",
    ),
    (
        "Expected by chance",
        "99% quantile of the effect over random divisions of the pooled reference and live records (permutation test).",
    ),
)


@dataclass(frozen=True)
class Appendix:
    """Origin of a report.

    Attributes:
        formulas: names of statistics with their definitions; empty without a comparison.
        settings: names and values of estimator settings, hashes and versions.
        command: shell command that reproduces the results; empty if unknown.
        documents: names of the files in the same directory.
    """

    formulas: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    command: str
    documents: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """Content of a report.

    Attributes:
        agg_method: aggregation of local attributions; empty for a failed execution.
        mark_name, level_words: mark of the verdict, and its level in words.
        since: since when the verdict holds; empty if unknown.
        verdict: the verdict in words.
        answers: sentences of the verdict, each with its name.
        families: most severe effect of each family of tests, the most severe first.
        crumbs: endpoint, monitor and window.
        forms: other forms of the report, each with its file and its name.
        sentence: verdict of the manifest in a sentence.
        doubt: sentence on the failed health checks; empty if none failed, or without a comparison.
        facts: names and values of facts, such as window and status.
        searched: where an execution without a verdict looked; None for others.
        is_calm: whether nothing changed, so that the page is short.
        not_judged: reason why the attributions are not judged; empty if they are.
        all_effects: most severe effect of each family with its limits; None without tests.
        inputs, outputs: changes of the inputs and of the scores; None without tests.
        top_changes: features with the largest changes; None without a comparison.
        heading: heading of the sections.
        labels: sections by label, the most urgent first.
        labels_left_out: number of further labels that are not shown.
        most_rows: maximum number of features per label.
        segments: results by segment; None without segments.
        baseline: rows of the SHAP baseline and their score; None for an execution.
    """

    title: str
    agg_method: str
    headline: str
    mark_name: Mark
    level_words: str
    since: str
    verdict: Verdict
    answers: tuple[tuple[str, str], ...]
    families: tuple[Family, ...]
    crumbs: tuple[str, ...]
    forms: tuple[tuple[str, str], ...]
    sentence: str
    doubt: str
    facts: tuple[tuple[str, str], ...]
    health: tuple[Check, ...]
    notes: tuple[str, ...]
    searched: ReportTable | None
    is_calm: bool
    not_judged: str
    all_effects: ReportTable | None
    inputs: ReportTable | None
    outputs: ReportTable | None
    top_changes: TopChanges | None
    figures: tuple[Figure, ...]
    heading: str
    labels: tuple[Section, ...]
    segments: ReportTable | None
    baseline: BaselineTable | None
    appendix: Appendix
    labels_left_out: int = 0
    most_rows: int = 0

    def limit(self, most_labels: int, most_rows: int) -> Page:
        """Return the page with at most `most_labels` labels, and `most_rows` rows of features in total."""
        shown = self.labels[:most_labels]
        rows = sections.rows_per_label(len(shown), most_rows)
        return replace(
            self,
            labels=tuple(replace(section, features=section.features.limit(rows)) for section in shown),
            labels_left_out=len(self.labels) - len(shown),
            most_rows=rows,
            segments=self.segments and self.segments.limit(rows),
            baseline=self.baseline and self.baseline.limit(rows),
        )


def page(
    title: str, manifest: Manifest, analysis: GlobalAttributions | None, drift: DriftDocument | None, most_bars: int
) -> Page:
    """Return the content of a report.

    Args:
        title: the title of the report.
        manifest: the manifest.json.
        analysis: the analysis.json; None for a failed execution.
        drift: the drift.json; None without a comparison.
        most_bars: the maximum number of features in a chart.
    """
    comparison, explanation = manifest.comparison, manifest.explanation
    ranking, result = comparison.verdict if comparison else None, drift.result if drift else None
    labels = [] if analysis is None else compare_labels(analysis, ranking, drift)
    agg_method = str(explanation.estimator["agg_method"]) if explanation else ""
    checks = tuple(health.checks(manifest, result))
    is_explained = manifest.headline == Headline.MODEL_MISMATCH
    doubt = health.doubt(checks) if comparison and not is_explained else ""
    parity = comparison.serving_parity if comparison else None
    mark, words, said = summary(manifest, result)
    is_calm = mark is Mark.NONE
    return Page(
        title=title,
        agg_method=agg_method,
        headline=manifest.headline,
        mark_name=mark,
        level_words=level_words(manifest, mark),
        since=f"since {since(result)}" if result and result.changes else "",
        verdict=words,
        answers=said,
        families=tuple(families(result, parity)),
        crumbs=tuple(_crumbs(manifest)),
        forms=((PDF, "PDF"), (NOTEBOOK, "Notebook"), (DRIFT if drift else MANIFEST, "JSON")),
        sentence=capitalize(manifest.sentence),
        doubt=doubt,
        facts=tuple(_facts(manifest, result)),
        health=checks,
        notes=manifest.notes,
        searched=_searched(manifest),
        is_calm=is_calm,
        not_judged=NOT_JUDGED.get(mark, ""),
        all_effects=sections.families_table(result),
        inputs=sections.inputs_table(result),
        outputs=sections.outputs_table(result),
        top_changes=sections.top_changes(labels, result),
        figures=tuple(_figures(manifest, labels, drift, most_bars)),
        heading="All labels" if len(labels) > 1 else "All features",
        labels=tuple(
            sections.section(
                label, ranking.threshold if ranking else None, result.separability if result else None, agg_method
            )
            for label in labels
        ),
        segments=sections.segments_table(result),
        baseline=baseline_table(explanation.background) if explanation and labels else None,
        appendix=_appendix(manifest, analysis is not None, drift is not None),
    )


def state(headline: str) -> State:
    """Return the state of a headline; an unknown headline, from another version, is a warning."""
    return STATES[Headline(headline)] if headline in set(Headline) else State.WARNING


def capitalize(sentence: str) -> str:
    """Return a sentence with a capital first letter.

    >>> capitalize("nDCG fell")
    'NDCG fell'
    """
    return sentence[:1].upper() + sentence[1:]


def summary(manifest: Manifest, result: DriftResult | None = None) -> tuple[Mark, Verdict, tuple[tuple[str, str], ...]]:
    """Return the mark of a result, its verdict in words, and the sentences of the verdict with their names.

    Args:
        manifest: the manifest.json.
        result: result of the tests; None without tests, or to use the words of the manifest.
    """
    is_explained = manifest.headline == Headline.MODEL_MISMATCH
    failed = manifest.comparison is not None and bool(health.doubt(list(health.checks(manifest, result))))
    doubtful = failed and not is_explained
    stored = manifest.comparison.words if manifest.comparison and result is None else None
    words = stored or _verdict(manifest, result)
    return _mark(manifest, doubtful), words, tuple(_answers(manifest, words, doubtful))


def _mark(manifest: Manifest, doubtful: bool) -> Mark:
    """Return the mark of a verdict: that of its level, unless the headline has another meaning."""
    headline = Headline(manifest.headline) if manifest.headline in set(Headline) else None
    if headline is None:
        return Mark.WARNING
    if doubtful:
        return Mark.DOUBT
    if headline in MARKS:
        return MARKS[headline]
    level = manifest.state.level
    if headline is Headline.DRIFT and level.order <= Level.INFO.order:
        return Mark.VIOLATION
    return Mark.of(level)


def level_words(manifest: Manifest, mark: Mark) -> str:
    """Return the level in words, or the headline if it says more."""
    if manifest.headline == Headline.REFERENCE:
        return "Reference is ready"
    if manifest.headline in {Headline.UNCONFIRMED_DRIFT, Headline.NO_VERDICT, Headline.NO_DATA}:
        return manifest.headline
    return mark.words


def _verdict(manifest: Manifest, result: DriftResult | None) -> Verdict:
    comparison, explanation = manifest.comparison, manifest.explanation
    if manifest.stage == "baseline" and explanation:
        return baseline_verdict(manifest.sentence, explanation, manifest.notes)
    if comparison and comparison.words:
        return comparison.words
    return verdict(manifest.headline, manifest.sentence, result, comparison.serving_parity if comparison else None)


def _answers(manifest: Manifest, words: Verdict, doubtful: bool) -> Iterator[tuple[str, str]]:
    """Yield the sentences of a verdict with their names; empty ones and repetitions of the title are left out."""
    names = BASELINE_ANSWERS if manifest.stage == "baseline" else ANSWERS
    if manifest.searched:
        names = ("What happened", *ANSWERS[1:])
    action = f"{RESOLVE_CHECKS} {words.action}".strip() if doubtful else words.action
    changed = words.changed.removeprefix(f"{words.title}.").lstrip()
    if manifest.failure_reason is not None:
        changed, check, remedy = changed.partition(" Check ")
        action = f"{check.lstrip()}{remedy} {action}".lstrip()
    for name, answer in zip(names, (changed, words.matters, action), strict=True):
        if answer:
            yield name, answer


def _searched(manifest: Manifest) -> ReportTable | None:
    """Return the window and the inputs of an execution without a verdict; None for others."""
    if not manifest.searched or manifest.time is None:
        return None
    rows = [SimpleNamespace(name="Window", setting="stage.window", place=str(manifest.time.window), found="")]
    for each in manifest.searched:
        setting = SEARCHED_SETTINGS.get(each.name, "")
        rows.append(SimpleNamespace(**{**vars(each), "name": capitalize(each.name)}, setting=setting))
    return make_table("Inputs of this execution.", tables.SEARCHED, rows)


def _crumbs(manifest: Manifest) -> Iterator[str]:
    if manifest.time:
        yield from (manifest.time.endpoint, manifest.monitor, str(manifest.time.window))
    else:
        yield from (manifest.monitor, "Reference")


def _facts(manifest: Manifest, result: DriftResult | None) -> Iterator[tuple[str, str]]:
    time, comparison = manifest.time, manifest.comparison
    if time:
        yield "Window", str(time.window)
    yield "Status", manifest.status
    ndcg = [label.ndcg for label in comparison.verdict.drifts if label.ndcg is not None] if comparison else []
    if comparison and ndcg:
        yield "nDCG", f"{min(ndcg):.4f} (alert below {comparison.verdict.threshold:g})"
    if result:
        level, alone = result.level.words, result.level_alone.words
        yield "Level", level if level == alone else f"{level} (this window alone: {alone})"
        least = result.minimum_detectable_change
        change = (
            f"clearly different values of one feature in {least:.0%} of the records"
            if least < 1
            else "none (too few records)"
        )
        yield "Minimum detectable change", change
    if time:
        yield "Scheduled", f"{charts.format_time(time.scheduled)} UTC"
        yield "Endpoint", time.endpoint
    yield "Monitor", manifest.monitor


def _figures(
    manifest: Manifest, labels: Sequence[Label], drift: DriftDocument | None, most_bars: int
) -> Iterator[Figure]:
    if not labels:
        point = manifest.history_point
        for figure in charts.timeline_figures([*manifest.history, point] if manifest.history and point else []):
            yield replace(figure, section="earlier")
        return
    if not labels[0].is_compared or drift is None:
        scores = manifest.explanation.background.scores if manifest.explanation else None
        yield from charts.baseline_figures(scores or (), manifest.detectable or ())
        yield from charts.reference_figures(labels, most_bars)
        return
    comparison, explanation = manifest.comparison, manifest.explanation
    parity = comparison.serving_parity if comparison else None
    if drift.scores and parity and not parity.same:
        yield charts.parity_figure(drift.scores, parity)
    log_odds = bool(explanation and explanation.estimator.get("use_logit"))
    charted = charts.Charted(
        label=labels[0],
        result=drift.result,
        sample=drift.sample,
        material=comparison.material if comparison else None,
        most=most_bars,
        log_odds=log_odds,
        threshold=_threshold(comparison.quality if comparison else None, log_odds=log_odds),
    )
    yield from charted.figures()
    if drift.result:
        yield from charts.segment_figures(drift.result)
    point = manifest.history_point
    changes = comparison.changes if comparison else ()
    yield from charts.timeline_figures([*drift.history, point] if point else [], next(iter(changes), None))


def _threshold(quality: Quality | str | None, *, log_odds: bool) -> float | None:
    """Return the lowest score of the positive class, in the unit of the scores; None if it does not apply."""
    threshold = None if quality is None or isinstance(quality, str) else quality.threshold
    if threshold is None or not log_odds:
        return threshold
    return math.log(threshold / (1 - threshold)) if 0 < threshold < 1 else None


def _appendix(manifest: Manifest, explained: bool, compared: bool) -> Appendix:
    violated = manifest.status is Status.COMPLETED_WITH_VIOLATIONS
    exists = {ANALYSIS: explained, DRIFT: compared, VIOLATIONS: violated, MANIFEST: True, SETTINGS: True}
    explanation = tuple(_settings(manifest.explanation)) if manifest.explanation else ()
    return Appendix(
        formulas=FORMULAS if compared else (),
        settings=(*explanation, *manifest.versions.items()),
        command=manifest.command,
        documents=tuple(name for name in exists if exists[name]),
    )


def _settings(explanation: Explanation) -> Iterator[tuple[str, str]]:
    for key, value in explanation.estimator.items():
        yield f"shap.{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    for name, digest in explanation.hashes.items():
        yield f"SHA-256 of {name}", digest or "unknown"
