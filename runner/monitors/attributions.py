"""Analysis of attributions: explains the records of a window, and compares their attributions with the reference.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Calls, Explained, GlobalAttributions
from runner.domain.drift import Canary, DriftResult, Level, Parity, RankingResult, RecordSample, ScorePairs
from runner.domain.executions import HistoryPoint, Status, Window
from runner.domain.numbers import plural
from runner.domain.records import Captured
from runner.drift.detect import detect_drift, random_sample
from runner.drift.effects import canary
from runner.drift.onset import LiveRecords, dated_changes, dated_earlier
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import match_features, rank_labels
from runner.drift.record_sample import record_sample, score_pairs
from runner.drift.seasons import same_hours
from runner.drift.sequential import SequentialStopping
from runner.drift.strata import Sample, Sampling, WholeWindow, far_records, far_scores
from runner.drift.summary import headline, sentence
from runner.drift.units import WHOLE, check_unit
from runner.drift.verdict import verdict
from runner.errors import ShapwatchError
from runner.explain.estimator import ModelExplainer
from runner.explain.preflight import REJECTIONS, parity, preflight
from runner.monitors import ExecutionSlot, Findings, RecordsRejected, rejected_records
from runner.protocols import calls_made
from runner.results import directory, documents, manifest, manifest_file
from runner.results.directory import ANALYSIS, DRIFT, VIOLATIONS
from runner.results.documents import DriftDocument, saved
from runner.results.manifest import Comparison, Effects, Explanation, SearchedPlace
from runner.results.manifest_file import Stopwatch
from runner.results.reference import Reference, canaries
from runner.sources.endpoint import MergedReader
from runner.sources.source import hash_order, selected, window_salt

HISTORY = 48
"""Number of earlier executions in the timeline of a report."""
NO_STORED_RECORDS = (
    "the reference has no stored records, so the statistical tests were skipped; run stage=baseline to store some"
)


@dataclass(frozen=True)
class Context:
    """Inputs of the analysis of a window. They do not depend on the number of records that are explained.

    Attributes:
        sample: reference records that the window is compared with; None if the reference has none.
        sampling: order in which records are explained.
        reexplained: attributions of the canary records by the current model; None without canary records.
        past: earlier executions, oldest first.
    """

    reference: Reference
    sample: Explained | None
    background: pl.DataFrame
    captured: Captured
    features: pl.DataFrame
    sampling: Sampling
    window: Window
    reexplained: Attributions | None
    past: Sequence[HistoryPoint]

    def records(self, rows: NDArray[np.intp] | None) -> pl.DataFrame:
        """Return the features of records, of all if `rows` is None."""
        return self.features if rows is None else self.features[rows]

    def captured_records(self, sample: Sample) -> Captured:
        """Return the capture with only the records of a sample."""
        if sample.rows_X is None:
            return self.captured
        return replace(selected(self.captured, sample.rows_X), random=sample.random)

    def random_sample(self, result: SampleResult) -> tuple[Explained, Captured]:
        """Return the explained records of the random sample, and their capture."""
        sample, rows_X = result.sample, result.sample.rows_X
        explained = Explained(self.records(rows_X), result.attributions)
        if rows_X is None or len(rows_X) == sample.random:
            return explained, self.captured_records(sample)
        return explained.rows(np.arange(sample.random)), selected(self.captured, rows_X[: sample.random])


@dataclass(frozen=True)
class SampleResult:
    """Result for the records explained so far."""

    sample: Sample
    attributions: Attributions
    live: GlobalAttributions
    ranking: RankingResult
    drift: DriftResult | None
    parity: Parity | None


@dataclass(frozen=True)
class AttributionAnalysis:
    """Analysis of the attributions of a window.

    Attributes:
        reference: path of a baselining directory or an analysis.json; `strftime` codes are replaced by the window's
            start.
        policy: thresholds and tests of the verdict.
        stopping: rule that decides when enough records are explained.
        merged: reader of captures merged with ground truth, to measure the performance of the model.
        max_records: maximum number of records to explain; None for no maximum.
        max_rejected_share: largest accepted share of records that the model rejects.
        save_local_shap_values: whether the local attributions are saved as CSV, with the origin of each record.
    """

    model_explainer: ModelExplainer
    reference: Path
    policy: DriftPolicy
    stopping: SequentialStopping
    merged: MergedReader
    max_records: int | None
    max_rejected_share: float
    save_local_shap_values: bool

    def prepare(self, slot: ExecutionSlot) -> Callable[[Captured, Stopwatch], Findings]:
        """Read the reference of a window, and return the function that analyses its records.

        Raises:
            MissingInput, UnusableReference: if the reference cannot be read.
        """
        reference = Reference.read(directory.reference_path(self.reference, slot.window))
        return partial(self._analyse, slot, reference, cache(partial(calls_made, self.model_explainer.model)))

    def inputs(self, window: Window) -> Iterator[SearchedPlace]:
        """Yield the reference and the model of a window."""
        path = directory.reference_path(self.reference, window)
        file = path if path.suffix == ".json" else path / ANALYSIS
        yield SearchedPlace("reference", str(path), "present" if file.is_file() else f"no {file.name}")
        model = self.model_explainer.model
        named = (getattr(model, name, None) for name in ("artifact", "where", "function"))
        place = next((each for each in named if each is not None), getattr(model, "kind", "temporary local endpoint"))
        found = "" if not isinstance(place, Path) else "present" if place.is_file() else "no such file"
        yield SearchedPlace("model", str(place), found)

    def order(self, features: pl.DataFrame, window: Window) -> NDArray[np.intp]:
        """Return the indices of records in the random order in which a window's records are explained."""
        return hash_order(features, window_salt(window, self.policy.seed))

    def sampling(self, features: pl.DataFrame, window: Window, far_M: NDArray[np.bool_] | None = None) -> Sampling:
        """Return the order in which the records of a window are explained.

        Args:
            features: all records of the window.
            window: window.
            far_M: records with far values; None for none.
        """
        most = min(features.height, self.max_records or features.height)
        is_sample = self.stopping.probability is not None or most < features.height
        order_M = self.order(features, window) if is_sample else None
        far_M = np.zeros(features.height, dtype=bool) if far_M is None else far_M
        return Sampling(order_M, far_M, most, self.stopping.probability is None)

    def first_sample(
        self, reference: Reference, features: pl.DataFrame, scores_NL: NDArray[np.float64] | None, window: Window
    ) -> pl.DataFrame | None:
        """Return the records of a window that are explained first; None if all are explained at once."""
        sampling = self.sampling(features, window, self._far(reference, features, scores_NL))
        rows_X = sampling.sample(next(self.stopping.sample_sizes(sampling.most))).rows_X
        return None if rows_X is None or len(rows_X) == features.height else features[rows_X]

    def _far(
        self, reference: Reference, features: pl.DataFrame, scores_NL: NDArray[np.float64] | None
    ) -> NDArray[np.bool_] | None:
        """Return the records with far values if not all records of the window may be explained."""
        estimator, sample = self.model_explainer.estimator, reference.sample
        is_sample = self.stopping.probability is not None or (self.max_records or features.height) < features.height
        has_strata = self.policy.unit in WHOLE and estimator.agg_method != "median"
        if sample is None or not is_sample or not has_strata:
            return None
        far_M = far_records(sample.features, features)
        stored_NL = estimator.model_scores(sample.attributions)
        if scores_NL is not None and scores_NL.shape[1] == stored_NL.shape[1]:
            far_M |= far_scores(stored_NL, scores_NL)
        return far_M

    def canary_features(self, reference: Reference) -> pl.DataFrame | None:
        """Return the features of the canary records, or None without canary records."""
        if reference.sample is None or not self.policy.canary_rows:
            return None
        return canaries(reference.sample, self.policy.canary_rows).features

    def _analyse(
        self,
        slot: ExecutionSlot,
        reference: Reference,
        calls_before: Callable[[], Calls | None],
        captured: Captured,
        stopwatch: Stopwatch,
    ) -> Findings:
        try:
            return self._compare(slot, reference, calls_before(), captured, stopwatch)
        except REJECTIONS as error:
            with stopwatch.step("explain"):
                rejected = self.rejected(slot.window, captured, error)
            raise RecordsRejected(rejected) from error

    def rejected(self, window: Window, captured: Captured, error: ShapwatchError) -> dict[int, str]:
        """Return a message for each record that the model rejects, among the records that may be explained.

        Raises:
            ShapwatchError: the given error if no record is rejected alone, or too many.
        """
        order_n = self.order(captured.features(), window)[: self.max_records]
        return rejected_records(captured, self.model_explainer.model, order_n, self.max_rejected_share, error)

    def _compare(
        self,
        slot: ExecutionSlot,
        reference: Reference,
        calls_before: Calls | None,
        captured: Captured,
        stopwatch: Stopwatch,
    ) -> Findings:
        model, estimator = self.model_explainer.model, self.model_explainer.estimator
        with stopwatch.step("read"):
            match_features(reference.attributions.names, estimator.names(captured.names))
            features, scores_NL = captured.features(), captured.scores()
            check_unit(self.policy, features)
            sampling = self.sampling(features, slot.window, self._far(reference, features, scores_NL))
        with stopwatch.step("explain"):
            background = self.model_explainer.background(features, reference.background)
            differences = reference.check_comparable(estimator.settings, background)
            checked = preflight(model, features, background, estimator.use_logit, scores_NL)
            reexplained = self._reexplain(reference, background)
        past = manifest_file.earlier_points(slot.target, HISTORY)
        context = Context(
            reference,
            self._comparable(reference, slot.window),
            background,
            captured,
            features,
            sampling,
            slot.window,
            reexplained,
            past,
        )
        result = self.stopping.run(
            sampling.most,
            partial(self._extend, context, stopwatch),
            partial(self._error_probability, context),
        )
        result = self._dated(slot, context, result)
        calls = manifest.calls_between(calls_before, calls_made(model))
        notes = [
            *differences,
            *self._sample_notes(result, sampling, features.height),
            *result.ranking.notes,
            *(result.drift.notes if result.drift else [NO_STORED_RECORDS]),
            *manifest.call_notes(calls),
        ]
        analysis = documents.dump_analysis(result.live)
        extra = reexplained.evaluations if reexplained else 0
        hashes = {"reference": reference.digest, "model": model.identity}
        explanation = Explanation.of(
            estimator, result.attributions, background, checked, calls, analysis, hashes, extra
        )
        return self._findings(context, result, notes, explanation, analysis)

    def _findings(
        self, context: Context, result: SampleResult, notes: list[str], explanation: Explanation, analysis: bytes
    ) -> Findings:
        reference = context.reference
        captured = context.captured_records(result.sample)
        drift, ranking = result.drift, result.ranking
        sample = self._sample(context, result, captured)
        pairs = self._score_pairs(context, result, captured)
        document = DriftDocument(ranking, drift, reference.attributions, tuple(context.past), sample, pairs)
        text = sentence(ranking, drift, reference.attributions, result.live, result.parity)
        violations = self._violations(ranking, drift, text)
        title = headline(ranking, drift, result.parity)
        comparison = Comparison(
            level=drift.level if drift else None,
            level_alone=drift.level_alone if drift else None,
            effects=Effects.of(drift),
            verdict=ranking,
            material=self.policy.limits.attribution_shift.warning,
            serving_parity=result.parity,
            quality=self.merged.quality(context.window, result.attributions.labels),
            model_changed=reference.model_changed(self.model_explainer.model.identity),
            words=verdict(title, text, drift, result.parity),
            changes=drift.changes if drift else (),
        )
        return Findings(
            status=Status.COMPLETED_WITH_VIOLATIONS if violations else Status.COMPLETED,
            headline=title,
            sentence=text,
            notes=notes,
            captured=captured,
            explanation=explanation,
            comparison=comparison,
            documents={ANALYSIS: analysis, DRIFT: documents.dump_drift(document), **violations},
            attributions=result.live,
            ndcg={label.label: label.ndcg for label in ranking.drifts if label.ndcg is not None},
            drift=document,
            local_files=(
                saved(result.attributions, context.background, captured)
                if self.save_local_shap_values
                else nullcontext({})
            ),
        )

    def _sample(self, context: Context, result: SampleResult, captured: Captured) -> RecordSample | None:
        """Return the records for the charts; None without tests."""
        if result.drift is None or context.sample is None:
            return None
        live = Explained(context.records(result.sample.rows_X), result.attributions)
        sample = record_sample(result.drift, context.sample, live, self.policy.seed, result.sample.random)
        if sample is None or not sample.changed:
            return sample
        rows = [each.row for each in sample.changed]
        events = captured.table.select("event_id", "at").collect()[rows].rows()
        changed = [
            replace(each, event_id=event_id or "", at=f"{at:%FT%TZ}" if at else "")
            for each, (event_id, at) in zip(sample.changed, events, strict=True)
        ]
        return replace(sample, changed=tuple(changed))

    def _score_pairs(self, context: Context, result: SampleResult, captured: Captured) -> ScorePairs | None:
        """Return captured and recomputed scores for the charts; None unless some of them differ."""
        scores_ML, compared = captured.scores(), result.parity
        if compared is None or compared.same or scores_ML is None:
            return None
        recomputed_ML = self.model_explainer.estimator.model_scores(result.attributions)
        features, labels = context.records(result.sample.rows_X), result.attributions.labels
        return score_pairs(features, scores_ML, recomputed_ML, labels, compared.tolerance, self.policy.seed)

    def _violations(self, ranking: RankingResult, drift: DriftResult | None, text: str) -> dict[str, bytes]:
        """Return the constraint_violations.json by its name if `drift.violations` selects a violated rule."""
        rankings = () if self.policy.violations == "calibrated" else ranking.violations
        severe = self.policy.violations != "ranking" and drift is not None and drift.level is Level.VIOLATION
        if not rankings and not severe:
            return {}
        calibrated = None
        if severe and drift:
            label = max(drift.labels, key=lambda label: label.level.order).label if drift.labels else ""
            calibrated = {"label": label, "description": text}
        return {VIOLATIONS: documents.dump_violations(rankings, ranking.threshold, calibrated)}

    def _extend(self, context: Context, stopwatch: Stopwatch, rows: int, previous: SampleResult | None) -> SampleResult:
        """Return the result for a sample; explain only records that the previous result lacks."""
        estimator, sample = self.model_explainer.estimator, context.sampling.sample(rows)
        whole = context.sampling.whole(context.features, sample)
        if whole and previous and previous.drift:
            whole = replace(whole, inputs=previous.drift.inputs)
        with stopwatch.step("explain"):
            attributions = self._explained(context, sample, whole, previous)
            weight_X = whole.strata.weight_X if whole and whole.strata else None
            live = estimator.aggregate(attributions, weight_X)
        with stopwatch.step("detect"):
            explained = Explained(context.records(sample.rows_X), attributions)
            captured = context.captured_records(sample)
            compared = parity(captured.scores(), estimator.model_scores(attributions), self.policy.parity_tolerance)
            drift = self._detect(context, explained, captured, compared, whole)
        ranking = rank_labels(context.reference.attributions, live, self.policy.threshold)
        if drift and self.policy.violations != "ranking" and drift.rows_live < self.policy.min_rows:
            ranking = ranking.unjudged
        return SampleResult(sample, attributions, live, ranking, drift, compared)

    def _explained(
        self, context: Context, sample: Sample, whole: WholeWindow | None, previous: SampleResult | None
    ) -> Attributions:
        """Return the attributions of the records of a sample; explain only records that the previous result lacks."""
        estimator, rows_X = self.model_explainer.estimator, sample.rows_X
        done = previous.sample.rows_X if previous else None
        new = rows_X if rows_X is None or done is None else rows_X[~np.isin(rows_X, done)]
        added = self.model_explainer.explain(context.records(new), context.background)
        attributions = estimator.join(previous.attributions if previous else None, added)
        if rows_X is None or new is None:
            return attributions
        order = new if done is None else np.concatenate([done, new])
        strata = whole.strata if whole else None
        if strata is None and np.array_equal(order, rows_X):
            return attributions
        places = np.empty(context.features.height, dtype=np.intp)
        places[order] = np.arange(len(order))
        return estimator.arrange(attributions, places[rows_X], strata.weight_X if strata else np.ones(len(rows_X)))

    def _error_probability(self, context: Context, result: SampleResult) -> float:
        """Return an upper bound of the probability that all records would give another verdict."""
        reference, whole = context.reference, context.sampling.whole(context.features, result.sample)
        return self.stopping.error_probability(
            reference.attributions,
            None if context.sample is None else context.sample.attributions,
            result.attributions,
            result.drift,
            str(self.model_explainer.estimator.agg_method),
            context.sampling.most,
            whole.strata if whole else None,
        )

    def _sample_notes(self, result: SampleResult, sampling: Sampling, records: int) -> list[str]:
        """Return notes on the number of explained records, if not all are explained or shap.precision is set."""
        rows, random, notes = len(result.attributions.phi_NDL), result.sample.random, list[str]()
        if rows < records and (far := int(sampling.far_M.sum())):
            explained = int(sampling.far_M[result.sample.rows_X].sum())
            number = "all" if explained == far else f"{explained:,} of them"
            notes.append(f"{plural(far, 'record')} with values far outside the reference's range, {number} explained")
        if self.stopping.probability is None:
            return notes
        if rows == records:
            return [f"Explained all {plural(records, 'record')}, because no smaller sample reached shap.precision."]
        sample = "random sample" if rows == random else f"random sample of {random:,}, and records with far values"
        return [
            f"Explained {rows:,} of {plural(records, 'record')} ({sample}); "
            f"the full set would give the same verdict with probability ≥ {self.stopping.probability:g}.",
            *notes,
        ]

    def _reexplain(self, reference: Reference, background: pl.DataFrame) -> Attributions | None:
        """Return the canary records' attributions by the current model, or None without canary records."""
        features = self.canary_features(reference)
        return None if features is None else self.model_explainer.explain(features, background)

    def _comparable(self, reference: Reference, window: Window) -> Explained | None:
        """Return the stored records in the hours that a window is compared with, or None without stored records."""
        if reference.sample is None:
            return None
        return same_hours(reference.sample, window.start, window.end - window.start, self.policy).records

    def _detect(
        self,
        context: Context,
        live: Explained,
        captured: Captured,
        compared: Parity | None,
        whole: WholeWindow | None,
    ) -> DriftResult | None:
        """Return the drift of local attributions, or None if the reference has no stored records."""
        reference, estimator = context.reference, self.model_explainer.estimator
        if reference.sample is None:
            return None
        if self.policy.unit == "event":
            live = replace(live, events=captured.event_table())
        if self.policy.unit not in WHOLE:
            live, whole = random_sample(live, whole), None
        comparable = [point.level_alone for point in context.past if point.reference == reference.digest]
        return detect_drift(
            self.policy,
            reference.sample,
            live,
            str(estimator.agg_method),
            context.window.end - context.window.start,
            self._canary(context, reference.sample),
            compared,
            comparable,
            estimator.groups,
            context.window.start,
            whole,
        )

    def _dated(self, slot: ExecutionSlot, context: Context, result: SampleResult) -> SampleResult:
        """Add the start of each significant change, from this window and from earlier ones with the same reference."""
        reference = context.reference
        if context.sample is None or result.drift is None:
            return result
        explained, captured = context.random_sample(result)
        differs_M: NDArray[np.bool_] | None = None
        scores_ML = captured.scores()
        if result.parity and scores_ML is not None:
            gap_ML = abs(scores_ML - self.model_explainer.estimator.model_scores(explained.attributions))
            differs_M = np.any(gap_ML > result.parity.tolerance, axis=1)
        live = LiveRecords(explained, captured.times(), differs_M, context.window.start)
        changes = dated_changes(result.ranking, result.drift, result.parity, context.sample, live)
        changes = manifest_file.with_since(slot.target, reference.digest, changes)
        earlier = manifest_file.earlier_results(slot.target, reference.digest)
        changes = dated_earlier(changes, result.drift, context.window.start, earlier)
        return replace(result, drift=replace(result.drift, changes=changes))

    def _canary(self, context: Context, sample: Explained) -> Canary | None:
        """Compare the canary records' attributions by the current model with the stored ones."""
        if context.reexplained is None:
            return None
        stored, estimator = canaries(sample, self.policy.canary_rows), self.model_explainer.estimator
        same_settings = not context.reference.differing_settings(estimator.settings)
        return canary(stored.attributions, context.reexplained, str(estimator.agg_method), same_settings)
