"""Computes the reference: the global attributions of a dataset, with the settings they depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import polars as pl

from runner import subprocesses
from runner.domain.attributions import Explained
from runner.domain.executions import Outcome, Status
from runner.domain.text import plural
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import ndcg_range_notes
from runner.drift.segments import segments
from runner.drift.summary import minimum_detectable
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.preflight import preflight
from runner.protocols import Model, Track, calls_made
from runner.report.render import Report
from runner.results import documents, manifest, manifest_file
from runner.results.directory import ANALYSIS, REFERENCE_SAMPLE, REPORT, claim, commit, writing
from runner.results.documents import sha256
from runner.results.local_attributions import saved
from runner.results.manifest import DatasetCounts, Explanation, Manifest
from runner.results.provenance import Provenance, Stopwatch
from runner.results.reference import draw_sample, to_parquet
from runner.sources.dataset import Dataset
from runner.types import NO_OTHER_KEYS


@dataclass(frozen=True)
class BaselineStage:
    """`stage=baseline`, a stage without further keys."""

    kind: Literal["baseline"]

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Baseline:
    """Baselining, what SageMaker calls `suggest_baseline`.

    Attributes:
        name: the monitor's.
        dataset: the records to explain.
        background_rows: gives the SHAP baseline, None for what `summary` makes of the dataset.
        policy: thresholds of the verdict, and the sample size of the stored records.
        save_local_shap_values: whether the local attributions of all records are left as CSV too.
        target: the folder that becomes the reference.
    """

    name: str
    dataset: Dataset
    model: Model
    estimator: Estimator
    background_rows: Callable[[], Sequence[Sequence[Any]] | None]
    summary: Callable[[pl.DataFrame], pl.DataFrame]
    policy: DriftPolicy
    save_local_shap_values: bool
    report: Report
    provenance: Provenance
    target: Path
    track: Track

    def run(self) -> Outcome:
        """Write analysis.json, report, settings and manifest; the former reference stays until they are complete."""
        claim(self.target)
        with writing(self.target):
            return self._run()

    def _run(self) -> Outcome:
        watch = Stopwatch(self.provenance.clock)
        with watch.step("read"):
            features, digest = self.dataset.read()
            given = self.background_rows()
            background = self.summary(features) if given is None else backgrounds.given(given, features.columns)
        with watch.step("explain"):
            before = calls_made(self.model)
            checked = preflight(self.model, features, background, self.estimator.use_logit)
            attributions = self.estimator.explain(self.model, features, background, self.track)
            reference = self.estimator.aggregate(attributions)
        analysis = documents.dump_analysis(reference)
        records = draw_sample(Explained(features, attributions), self.policy.reference_rows, self.policy.seed)
        sample_bytes = to_parquet(records)
        tests = features.width * len(attributions.labels)
        calls = manifest.calls_between(before, calls_made(self.model))
        identities = {"dataset": digest, "model": self.model.identity, REFERENCE_SAMPLE: sha256(sample_bytes)}
        size = f"{plural(features.height, 'record')}, {plural(features.width, 'feature')}."
        notes = [
            *ndcg_range_notes(reference, self.policy.threshold),
            minimum_detectable(self.policy, records.features.height, tests),
            *self._segments(records),
            *manifest.call_notes(calls),
        ]
        found = Manifest(
            stage="baseline",
            status=Status.COMPLETED,
            headline="Reference",
            sentence=size,
            monitor=self.name,
            versions=self.provenance.versions,
            command=subprocesses.reproduction(kind="baseline"),
            notes=tuple(notes),
            counts=DatasetCounts(features.height),
            explanation=Explanation.of(self.estimator, attributions, background, checked, calls, analysis, identities),
        )
        with watch.step("report"):
            reports, troubles = self.report.attempt(found, reference)
        found = replace(found, notes=(*found.notes, *troubles), timings=watch.seconds)
        files = {
            ANALYSIS: analysis,
            REFERENCE_SAMPLE: sample_bytes,
            **manifest_file.common_files(found, reports, self.provenance),
        }
        with ExitStack() as stack:
            local = stack.enter_context(saved(attributions, background)) if self.save_local_shap_values else {}
            commit(self.target, {**files, **local})
        paths = [str(self.target / name) for name in (ANALYSIS, REPORT)]
        message = "\n  ".join([f"Completed. Reference: {size}", *found.notes, *paths])
        return Outcome(message, directory=str(self.target.absolute()))

    def _segments(self, records: Explained) -> list[str]:
        """Return a sentence on the parts that windows will be judged by, if they are asked for.

        Raises:
            SegmentError: when records cannot be divided so.
        """
        policy = self.policy
        if policy.segment_by is None:
            return []
        parts = segments(policy.segment_by, records.features, records.features, policy.min_rows)
        told = [f"{part.name} ({plural(part.smaller, 'kept record')})" for part in parts]
        return [f"segments: {', '.join(told)}"]
