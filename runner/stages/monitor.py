"""One execution of a monitor: the captures of a window, explained, judged against the reference, reported.

This is the only place besides the command line that catches errors: what went wrong becomes a Failed execution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runner import documents, executions
from runner.domain import Attributions, Captured, Execution, GlobalAttributions, Status, Verdict, Window
from runner.drift.verdict import judge, match_features, sentence
from runner.errors import ShapwatchError
from runner.executions import ANALYSIS, MANIFEST, REPORT, SETTINGS, VIOLATIONS, Provenance, Stopwatch, sha256
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.protocols import Model, Track
from runner.reference import Reference
from runner.report.render import Report
from runner.sources import CaptureTree


@dataclass(frozen=True)
class Monitor:
    """A declared watch: data, model, estimator and reference under a name.

    Attributes:
        name, endpoint: where its executions are kept, `{root}/{endpoint}/{name}/yyyy/mm/dd/hh`.
        tree: the captures.
        background_rows: the SHAP baseline, None for the reference's own.
        reference: the folder that baselining wrote, or an analysis.json.
        threshold: an nDCG below it is a violation.
        root: the folder of all executions.
    """

    name: str
    endpoint: str
    tree: CaptureTree
    model: Model
    estimator: Estimator
    background_rows: Sequence[Sequence[Any]] | None
    reference: Path
    threshold: float
    report: Report
    provenance: Provenance
    root: Path
    track: Track

    def run(self, window: Window) -> Execution:
        """Execute over a window; the directory of its scheduled hour holds the result, also that of a failure."""
        try:
            return self._execute(window)
        except (ShapwatchError, OSError) as error:
            return self._fail(window, error)

    def _execute(self, window: Window) -> Execution:
        watch = Stopwatch(self.provenance.clock)
        with watch.step("read"):
            reference = Reference.read(self.reference)
            captured = self.tree.usable(window, self.track)
        with watch.step("explain"):
            features = captured.records.features
            match_features(reference.attributions.names, features.columns)
            given = self.background_rows
            background = reference.background() if given is None else backgrounds.given(given, features.columns)
            notes = reference.compare(self.estimator.settings, background)
            attributions = self.estimator.explain(self.model, features, background, self.track)
            live = self.estimator.aggregate(attributions)
        verdict = judge(reference.attributions, live, self.threshold)
        status = Status.COMPLETED_WITH_VIOLATIONS if verdict.violations else Status.COMPLETED
        analysis = documents.analysis(live)
        then = None if reference.origin is None else reference.origin["hashes"]["model"]
        manifest = {
            **self._head(window, status, sentence(verdict, reference.attributions, live)),
            "counts": {**_counts(captured), "evaluations": attributions.evaluations},
            "verdict": _judged(verdict),
            "background": {"names": background.columns, "rows": background.rows()},
            "estimator": self.estimator.settings,
            "efficiency_residual": attributions.residual,
            "serving_parity": self._parity(captured, attributions),
            "model_changed": None if then is None else then != self.model.identity,
            "hashes": {
                ANALYSIS: sha256(analysis),
                "reference": reference.digest,
                "model": self.model.identity,
                "background": backgrounds.identity(background),
            },
            "notes": [*notes, *verdict.notes, *(f"rejected, for example {example}" for example in captured.examples)],
            "versions": dict(self.provenance.versions),
        }
        files = {ANALYSIS: analysis}
        if verdict.violations:
            files[VIOLATIONS] = documents.constraint_violations(verdict)
        return self._commit(window, manifest, files, watch, verdict, live, reference.attributions)

    def _fail(self, window: Window, error: ShapwatchError | OSError) -> Execution:
        manifest = {
            **self._head(window, Status.FAILED, f"Failed: {error}"),
            "failure_reason": error.reason if isinstance(error, ShapwatchError) else str(error),
            "notes": [],
            "versions": dict(self.provenance.versions),
        }
        target = executions.directory(self.root, self.endpoint, self.name, window)
        if executions.finished(target):
            told = f"Failed, {window}. {error}\n  the earlier execution in {target} was kept"
            return Execution(told, succeeded=False, status=Status.FAILED, directory=str(target))
        return self._commit(window, manifest, {}, Stopwatch(self.provenance.clock), None, None, None)

    def _head(self, window: Window, status: Status, told: str) -> dict[str, Any]:
        return {
            "stage": "monitor",
            "status": status,
            "sentence": told,
            "monitor": self.name,
            "endpoint": self.endpoint,
            "window": {"start": f"{window.start:%FT%TZ}", "end": f"{window.end:%FT%TZ}", "text": str(window)},
            "scheduled": f"{window.scheduled:%FT%TZ}",
        }

    def _commit(
        self,
        window: Window,
        manifest: dict[str, Any],
        files: dict[str, bytes],
        watch: Stopwatch,
        verdict: Verdict | None,
        live: GlobalAttributions | None,
        reference: GlobalAttributions | None,
    ) -> Execution:
        with watch.step("report"):
            page = self.report.html(manifest, live, reference)
        target = executions.directory(self.root, self.endpoint, self.name, window)
        complete: Mapping[str, bytes] = {
            **files,
            REPORT: page,
            SETTINGS: self.provenance.settings.encode(),
            MANIFEST: documents.dump({**manifest, "timings": watch.seconds}),
        }
        executions.commit(target, complete)
        status = Status(manifest["status"])
        told = f"{status}, {window}. {manifest['sentence'].removeprefix('Failed: ')}\n  {target / REPORT}"
        return Execution(told, status is not Status.FAILED, status, str(target), verdict)

    def _parity(self, captured: Captured, attributions: Attributions) -> dict[str, Any] | None:
        """Return how far the captured scores are from the model's own, or None where none were captured."""
        captured_NL = captured.records.scores_NL
        if captured_NL is None or captured_NL.shape != attributions.scores_NL.shape:
            return None
        gaps_NL = abs(captured_NL - self.estimator.model_scores(attributions))
        return {"largest": float(np.nanmax(gaps_NL)), "records": int(np.isfinite(captured_NL).all(axis=1).sum())}


def _counts(captured: Captured) -> dict[str, Any]:
    return {
        "files": len(captured.files),
        "events": captured.events,
        "records": len(captured.records),
        "rejected": captured.rejected,
    }


def _judged(verdict: Verdict) -> dict[str, Any]:
    labels = [
        {
            "label": drift.label,
            "reference_label": drift.reference_label,
            "ndcg": drift.ndcg,
            "floor": drift.floor,
            "chance": drift.chance,
            "notes": list(drift.notes),
        }
        for drift in verdict.drifts
    ]
    return {"threshold": verdict.threshold, "labels": labels, "notes": list(verdict.notes)}
