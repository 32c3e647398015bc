"""Computes the reference: the global attributions of a dataset, with the settings they depend on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import polars as pl

from runner.domain.attributions import Attributions, Explained
from runner.domain.executions import Outcome, Status, Window
from runner.domain.numbers import plural
from runner.domain.records import Captured
from runner.drift.pairing import segments
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import ndcg_range_notes
from runner.drift.seasons import hour_rows, season_notes
from runner.drift.summary import detectable_changes, minimum_detectable
from runner.drift.units import check_unit
from runner.explain.estimator import ModelExplainer
from runner.explain.masking import hash_rows
from runner.explain.preflight import REJECTIONS, noise_notes, preflight_rows, preflight_scores
from runner.monitors import MODEL_INPUT, ResultWriter, rejected_records, rejection_notes
from runner.protocols import calls_made
from runner.results import documents, manifest
from runner.results.directory import ANALYSIS, REFERENCE_SAMPLE, REPORT, claim, writing
from runner.results.documents import saved, sha256
from runner.results.manifest import TIME, CaptureCounts, DatasetCounts, Explanation, Manifest
from runner.results.manifest_file import Stopwatch
from runner.results.reference import stored_sample, to_parquet
from runner.sources.dataset import Dataset
from runner.sources.source import WindowReader, hash_order, without
from runner.types import NO_OTHER_KEYS, Interval


@dataclass(frozen=True)
class BaselineStage:
    """`stage=baseline`; conf/stage/baseline.yaml describes the keys."""

    kind: Literal["baseline"]
    window: Interval | None = None  # commands in manifests of earlier versions lack this key

    __pydantic_config__ = NO_OTHER_KEYS


class ReferenceRecords(NamedTuple):
    """Records to explain.

    Attributes:
        digest: SHA-256 of the content.
        origin: description of the window of captured records; empty for a dataset.
        events: times and numbers of the events of captured records; None for a dataset.
        notes: notes on rejected records.
    """

    features: pl.DataFrame
    digest: str
    counts: DatasetCounts | CaptureCounts
    origin: str = ""
    events: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """Number and origin of the records, and number of features."""
        records = plural(self.features.height, "record")
        return f"{records}{self.origin}, {plural(self.features.width, 'feature')}."


@dataclass(frozen=True)
class Baseline:
    """Baselining: computation of the reference, like SageMaker's `suggest_baseline`.

    Attributes:
        name: name of the monitor.
        dataset: records to explain, without a window.
        source, window: captured records to explain instead; None for a dataset.
        policy: thresholds of the verdict, and size of the reference sample.
        save_local_shap_values: whether the local attributions of all records are also saved as CSV.
        writer: writer of the result.
        target: directory that becomes the reference.
    """

    name: str
    dataset: Dataset
    source: WindowReader
    window: Window | None
    model_explainer: ModelExplainer
    policy: DriftPolicy
    save_local_shap_values: bool
    writer: ResultWriter
    target: Path

    def run(self) -> Outcome:
        """Explain the dataset, and replace the reference by the result."""
        claim(self.target)
        stopwatch, window = Stopwatch(self.writer.provenance.clock), self.window
        with writing(self.target), ExitStack() as stack:
            with stopwatch.step("read"):
                if window is None:
                    features, digest = self.dataset.read()
                    records = ReferenceRecords(features, digest, DatasetCounts(features.height))
                else:
                    captured = stack.enter_context(self.source.read(window))
            return self._run(records, stopwatch) if window is None else self._run_window(captured, window, stopwatch)

    def _run_window(self, captured: Captured, window: Window, stopwatch: Stopwatch) -> Outcome:
        """Explain captured records except rejected ones.

        Raises:
            NoData, NoValidRecords, TooManyRejected: if the window has no records, or too many rejected ones.
        """
        self.source.check(captured, window)
        try:
            return self._run(_window_records(captured, window), stopwatch)
        except REJECTIONS as error:
            model, allowed = self.model_explainer.model, self.source.data.max_rejected_share
            rejected = rejected_records(captured, model, hash_order(captured.features()), allowed, error)
        return self._run_window(without(captured, MODEL_INPUT, rejected), window, stopwatch)

    def _run(self, records: ReferenceRecords, stopwatch: Stopwatch) -> Outcome:
        model_explainer, features = self.model_explainer, records.features
        with stopwatch.step("read"):
            check_unit(self.policy, features)
            background = model_explainer.background(features)
        with stopwatch.step("explain"):
            before = calls_made(model_explainer.model)
            checked, scores_NL = preflight_scores(
                model_explainer.model, features, background, model_explainer.estimator.use_logit
            )
            attributions = model_explainer.explain(features, background)
            reference = model_explainer.estimator.aggregate(attributions)
        analysis = documents.dump_analysis(reference)
        sample = stored_sample(Explained(features, attributions, records.events), self.policy)
        sample_bytes = to_parquet(sample)
        calls = manifest.calls_between(before, calls_made(model_explainer.model))
        hashes = self._hashes(records, sample_bytes)
        explanation = Explanation.of(
            model_explainer.estimator, attributions, background, checked, calls, analysis, hashes, is_reference=True
        )
        tests = features.width * len(attributions.labels)
        repeated_NL = model_explainer.estimator.model_scores(attributions)[preflight_rows(features.height)]
        notes = [
            *records.notes,
            *noise_notes(scores_NL, repeated_NL),
            *manifest.baseline_notes(explanation.background),
            *ndcg_range_notes(reference, self.policy.threshold),
            *season_notes(sample, self.policy),
            minimum_detectable(self.policy, hour_rows(sample), tests),
            *self._segment_notes(sample),
            *manifest.call_notes(calls),
        ]
        result = Manifest(
            stage="baseline",
            status=Status.COMPLETED,
            headline="Reference",
            sentence=records.summary,
            monitor=self.name,
            versions=self.writer.provenance.versions,
            command=self.writer.provenance.command(kind="baseline", **self._interval()),
            notes=tuple(notes),
            counts=records.counts,
            explanation=explanation,
            detectable=detectable_changes(self.policy, hour_rows(sample), tests),
        )
        with self._local_files(attributions, background) as local:
            files: dict[str, bytes | IO[bytes]] = {ANALYSIS: analysis, REFERENCE_SAMPLE: sample_bytes, **local}
            result = self.writer.write(self.target, result, files, stopwatch, reference)
        paths = [str(self.target / name) for name in (ANALYSIS, REPORT)]
        message = "\n  ".join([f"Completed. Reference: {records.summary}", *result.notes, *paths])
        return Outcome(message, directory=str(self.target.absolute()))

    def _hashes(self, records: ReferenceRecords, sample: bytes) -> dict[str, str | None]:
        model = self.model_explainer.model.identity
        return {"dataset": records.digest, "model": model, REFERENCE_SAMPLE: sha256(sample)}

    def _local_files(
        self, attributions: Attributions, background: pl.DataFrame
    ) -> AbstractContextManager[Mapping[str, IO[bytes]]]:
        return saved(attributions, background) if self.save_local_shap_values else nullcontext({})

    def _interval(self) -> dict[str, str]:
        """Return the window as a setting, for the command that reproduces the result."""
        return {} if self.window is None else {"window": f"{self.window.start:{TIME}}/{self.window.end:{TIME}}"}

    def _segment_notes(self, sample: Explained) -> list[str]:
        """Return a note on the segments of the reference sample; empty without drift.segment_by.

        Raises:
            SegmentError: if records cannot be divided by drift.segment_by.
        """
        policy = self.policy
        if policy.segment_by is None:
            return []
        parts = segments(policy.segment_by, sample.features, sample.features, policy.min_rows)
        sizes = [f"{part.name} ({plural(part.smaller, 'stored record')})" for part in parts]
        return [f"segments: {', '.join(sizes)}"]


def _window_records(captured: Captured, window: Window) -> ReferenceRecords:
    features, events = captured.features(), captured.event_table()
    digest = sha256(hash_rows(features)[0].tobytes() + events["at"].cast(pl.Int64).to_numpy().tobytes())
    counts, notes = CaptureCounts.of(captured), tuple(rejection_notes(captured))
    return ReferenceRecords(features, digest, counts, f" captured in {window}", events, notes)
