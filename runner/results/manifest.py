"""The manifest: inputs, settings and results of a baselining or an execution, from which its report is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from typing import Literal

import polars as pl

from runner.domain.attributions import Attributions, Calls
from runner.domain.drift import Change, DetectableChange, DriftResult, Effect, Level, Parity, RankingResult, Verdict
from runner.domain.executions import ExecutionState, HistoryPoint, Status, Window, changed_names
from runner.domain.numbers import plural
from runner.domain.records import Captured
from runner.drift.performance import Quality
from runner.explain import background as backgrounds
from runner.explain.background import BaselineScore, most_unusual
from runner.explain.estimator import Estimator
from runner.explain.preflight import Preflight
from runner.results.directory import ANALYSIS
from runner.results.documents import dump_json, sha256

DIGITS = 3
"""Significant digits of a standard error."""
TIME = "%FT%TZ"
"""Format of times, in UTC."""
UNDEFINED = Effect(None, None, None)
MOST_SHARE_CHANGES = 20
"""Maximum number of features whose change of the share is stored for the history."""


@dataclass(frozen=True)
class DatasetCounts:
    """Number of records of a dataset."""

    records: int


@dataclass(frozen=True)
class CaptureCounts:
    """Numbers of files, events and records of a window.

    Attributes:
        files: number of files read.
        events: number of events in the window.
        outside: number of events of other windows in the same files.
        probes: number of events that shapwatch itself caused; they are left out.
        records: number of usable records.
        sample: number of records explained; None for all.
        rejected: number of rejected records by reason.
        random: number of explained records that were drawn at random, None for all of them; the others have values far
            outside the reference's range.
    """

    files: int
    events: int
    outside: int
    probes: int
    records: int
    sample: int | None
    rejected: Mapping[str, int]
    random: int | None = None

    @classmethod
    def of(cls, captured: Captured) -> CaptureCounts:
        """Return the counts of the records of a window."""
        return cls(
            files=len(captured.files),
            events=captured.events,
            outside=captured.outside,
            probes=captured.probes,
            records=captured.records,
            sample=captured.sample,
            rejected=dict(captured.rejected),
            random=None if captured.random == captured.sample else captured.random,
        )


@dataclass(frozen=True)
class SearchedPlace:
    """Input that an execution without a verdict needed.

    Attributes:
        name: kind of the input: captures, reference or model.
        place: folders, path or address.
        found: what was found there; empty if it was not examined.
    """

    name: str
    place: str
    found: str


@dataclass(frozen=True)
class ExecutionTime:
    """Endpoint, window and scheduled time of an execution."""

    endpoint: str
    window: Window
    scheduled: datetime


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of the attributions of one label; None if unknown.

    Attributes:
        local: root mean square of the standard errors of all local attributions.
        by_feature: standard errors of the global attributions, by feature.
    """

    local: float | None
    by_feature: Mapping[str, float | None]


@dataclass(frozen=True)
class BackgroundRows:
    """Rows that replace masked features.

    Attributes:
        scores: their score for each label, among those of the reference; None for an execution, or if the explainer
            does not use them.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    scores: tuple[BaselineScore, ...] | None = None


@dataclass(frozen=True)
class Explanation:
    """Origin and cost of attributions.

    Attributes:
        estimator: settings of the estimator.
        evaluations: number of rows sent to the model.
        efficiency_residual: largest violation of efficiency, |Σφ + expected − score|.
        standard_errors: errors by label; None if unknown.
        background: rows that replaced masked features.
        hashes: SHA-256 of analysis.json, background, estimator settings, model and other inputs; None if unknown.
        preflight: responses of the model before the explanation.
        calls: calls made to a remote model; None for a model in this process.
    """

    estimator: Mapping[str, object]
    evaluations: int
    efficiency_residual: float
    standard_errors: Mapping[str, StandardErrors] | None
    background: BackgroundRows
    hashes: Mapping[str, str | None]
    preflight: Preflight
    calls: Calls | None

    @classmethod
    def of(
        cls,
        estimator: Estimator,
        attributions: Attributions,
        background: pl.DataFrame,
        preflight: Preflight,
        calls: Calls | None,
        analysis: bytes,
        inputs: Mapping[str, str | None],
        canary_evaluations: int = 0,
        is_reference: bool = False,
    ) -> Explanation:
        """Describe attributions.

        Args:
            estimator: estimator that computed them.
            attributions: attributions.
            background: rows that replaced masked features.
            preflight: responses of the model before the explanation.
            calls: calls to a remote model; None for a model in this process.
            analysis: content of analysis.json.
            inputs: hashes of further inputs by name, such as `model`.
            canary_evaluations: number of rows sent to the model for canary records.
            is_reference: whether the scores of the background are compared with those of the records.
        """
        uses_background = "quantity" not in estimator.settings
        scores = backgrounds.baseline_scores(attributions) if is_reference and uses_background else None
        hashes = {
            ANALYSIS: sha256(analysis),
            "background": backgrounds.identity(background),
            "estimator": sha256(dump_json(estimator.settings)),
            **inputs,
        }
        return cls(
            estimator=estimator.settings,
            evaluations=attributions.evaluations + canary_evaluations,
            efficiency_residual=attributions.residual,
            standard_errors=_standard_errors(attributions),
            background=BackgroundRows(tuple(background.columns), tuple(background.rows()), scores),
            hashes=hashes,
            preflight=preflight,
            calls=calls,
        )


@dataclass(frozen=True)
class Effects:
    """Effects of the label with the largest attribution shift.

    Attributes:
        share_changes: largest changes of the attribution shares beyond chance, by feature.
        mean_score, mean_score_reference: mean score, live and in the reference; None if unknown.
    """

    attribution_shift: Effect
    total_log2_change: Effect
    share_changes: Mapping[str, float] = field(default_factory=dict)
    mean_score: float | None = None
    mean_score_reference: float | None = None

    @classmethod
    def of(cls, result: DriftResult | None) -> Effects | None:
        """Return the effects of a result, or None without tests or labels."""
        if result is None or not result.labels:
            return None
        worst = max(result.labels, key=lambda label: label.attribution_shift.value or 0.0)
        changed = [each for each in worst.top_changes if each.p <= result.significance][:MOST_SHARE_CHANGES]
        means = next(((each.mean_now, each.mean_before) for each in result.outputs if each.label == worst.label), ())
        return cls(
            worst.attribution_shift,
            worst.total_log2_change,
            {each.name: round(each.share_change, 6) for each in changed},
            *means,
        )


@dataclass(frozen=True)
class Comparison:
    """Comparison of a window with the reference.

    Attributes:
        level, level_alone: alert level from this and the previous windows, and from this window alone; None without
            tests.
        effects: largest effects; None without tests or labels.
        verdict: result of the nDCG rule; its notes are in the notes of the manifest.
        material: attribution shift from which a change is material; None if unknown.
        serving_parity: comparison of captured and recomputed scores; None if nothing was comparable.
        quality: performance of the model, or the reason why it is missing; None without ground truth.
        model_changed: whether the model differs from the one of the reference; None if unknown.
        words: the verdict in words; None in manifests of earlier versions.
        changes: significant changes with their start, the one that the headline names first.
    """

    level: Level | None
    level_alone: Level | None
    effects: Effects | None
    verdict: RankingResult
    material: float | None
    serving_parity: Parity | None
    quality: Quality | str | None
    model_changed: bool | None
    words: Verdict | None = None
    changes: tuple[Change, ...] = ()

    @property
    def lowest_ndcg(self) -> float | None:
        """The nDCG of the worst label; None if no label has one."""
        return min((drift.ndcg for drift in self.verdict.drifts if drift.ndcg is not None), default=None)


@dataclass(frozen=True)
class Manifest:
    """Inputs, settings and results of a baselining or an execution.

    Attributes:
        headline, sentence: result in two or three words, and in a sentence.
        versions: versions of shapwatch, Python and libraries.
        command: shell command that reproduces the result.
        notes: notes for readers of the report.
        counts: numbers of records; None if none were read.
        time: endpoint, window and scheduled time; None for a baselining.
        failure_reason: reason of the failure; None unless the execution failed.
        claim: digest of the claim in the ledger under which the execution wrote its result; None without a ledger.
        died: True if the process of the execution died, and another one wrote this failure; otherwise None.
        explanation: origin of the attributions; None if the execution failed, and without data.
        comparison: comparison with the reference; None for a baselining, for a failed execution and without data.
        timings: seconds per step.
        detectable: smallest detectable changes in hourly windows of several sizes; None except for a baselining.
        searched: inputs of an execution that failed or had no data; None for others, and in earlier manifests.
        history: results of executions before one that failed or had no data, oldest first; None as for `searched`.
    """

    stage: Literal["baseline", "monitor"]
    status: Status
    headline: str
    sentence: str
    monitor: str
    versions: Mapping[str, str]
    command: str
    notes: tuple[str, ...] = ()
    counts: DatasetCounts | CaptureCounts | None = None
    time: ExecutionTime | None = None
    failure_reason: str | None = None
    claim: str | None = None
    died: bool | None = None
    explanation: Explanation | None = None
    comparison: Comparison | None = None
    timings: Mapping[str, float] | None = None
    detectable: tuple[DetectableChange, ...] | None = None
    searched: tuple[SearchedPlace, ...] | None = None
    history: tuple[HistoryPoint, ...] | None = None

    @property
    def state(self) -> ExecutionState:
        """The status and the alert level."""
        level = Level.INSUFFICIENT_DATA if self.is_empty else self.comparison and self.comparison.level
        changes = self.comparison.changes if self.comparison else ()
        return ExecutionState(self.status, level or Level.NONE, bool(self.died), changed_names(changes))

    @property
    def is_empty(self) -> bool:
        """Whether this is an execution that completed without data (`schedule.on_empty=skip`)."""
        return self.stage == "monitor" and self.status is Status.COMPLETED and self.comparison is None

    @property
    def history_point(self) -> HistoryPoint | None:
        """The summary for later executions; None for a baselining."""
        if self.time is None:
            return None
        found = self.comparison
        effects = (found and found.effects) or Effects(UNDEFINED, UNDEFINED)
        level = self.state.level
        return HistoryPoint(
            start=f"{self.time.window.start:{TIME}}",
            end=f"{self.time.window.end:{TIME}}",
            status=self.status,
            level=level,
            level_alone=(found and found.level_alone) or level,
            ndcg=found.lowest_ndcg if found else None,
            threshold=found.verdict.threshold if found else None,
            attribution_shift=effects.attribution_shift.value,
            attribution_shift_noise=effects.attribution_shift.noise,
            total_log2_change=effects.total_log2_change.value,
            total_log2_change_noise=effects.total_log2_change.noise,
            reference=self.explanation.hashes.get("reference") if self.explanation else None,
            share_changes=effects.share_changes,
            mean_score=effects.mean_score,
            mean_score_reference=effects.mean_score_reference,
            records=self.counts.records if self.counts else None,
        )


def _standard_errors(attributions: Attributions) -> dict[str, StandardErrors] | None:
    """Return the standard errors by label, or None if they are unknown."""
    errors = attributions.errors
    if errors is None:
        return None
    return {
        label: StandardErrors(
            _rounded(errors.local_L[i]),
            dict(zip(attributions.names, map(_rounded, errors.global_DL[:, i]), strict=True)),
        )
        for i, label in enumerate(attributions.labels)
    }


def _rounded(error: float) -> float | None:
    """Round an error to `DIGITS` digits, since further ones depend on the batch size; None if it is not finite."""
    return float(f"{error:.{DIGITS}g}") if isfinite(error) else None


def calls_between(before: Calls | None, after: Calls | None) -> Calls | None:
    """Return the difference of two counts of model calls, or None for a model in this process."""
    return None if before is None or after is None else after - before


def baseline_notes(background: BackgroundRows) -> list[str]:
    """Return a warning if the score of the background is unusual."""
    if not background.scores:
        return []
    worst, is_unusual = most_unusual(background.scores)
    if not is_unusual:
        return []
    score = f"its score for {worst.label}, {worst.score:.4g}, is {compared(worst)}"
    remedy = "set shap.baseline=median_mode or shap.num_clusters=auto, or give rows that are like the records"
    return [f"the SHAP baseline is unusual, and attributions are differences from it: {score}; {remedy}"]


def compared(score: BaselineScore) -> str:
    """Return a comparison of the background's score with those of the records.

    >>> compared(BaselineScore("yes", 0.9, 0.97)), compared(BaselineScore("yes", 0.1, 0.2))
    ('above 97.0% of the records', 'below 80.0% of the records')
    """
    side, share = ("above", score.quantile) if score.quantile >= 0.5 else ("below", 1 - score.quantile)
    return f"{side} {share:.1%} of the records" if share < 1 else f"{side} all records"


def call_notes(calls: Calls | None) -> list[str]:
    """Return notes on retries and on rejected batches."""
    notes = []
    if calls and calls.retries:
        retries = "1 retry" if calls.retries == 1 else f"{calls.retries:,} retries"
        notes.append(f"{retries} in {plural(calls.requests, 'model call')}")
    if calls and calls.fallbacks:
        notes.append("the endpoint rejected batches, so records were sent one at a time")
    return notes
