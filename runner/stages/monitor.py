"""One execution of a monitor: the captures of a window, explained, judged against the reference, reported.

This is the only place besides the command line that catches errors: what went wrong becomes a Failed execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from runner import documents, executions, manifest
from runner.domain import Captured, Execution, GlobalAttributions, Status, Window
from runner.drift.verdict import headline, judge, match_features, sentence
from runner.errors import OccupiedTarget, ShapwatchError, disk_sentence
from runner.executions import ANALYSIS, REJECTED, REPORT, VIOLATIONS, Provenance, Stopwatch
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.preflight import parity, preflight
from runner.protocols import Model, Track
from runner.reference import Reference
from runner.report.render import Report
from runner.sources.merged_tree import MergedTree
from runner.sources.source import Source


@dataclass(frozen=True)
class Monitor:
    """A declared watch: data, model, estimator and reference under a name.

    Attributes:
        name, endpoint: where its executions are kept, `{root}/{endpoint}/{name}/yyyy/mm/dd/hh`.
        source: where the records come from.
        merged: the events whose true labels are known, for the quality of the model.
        background_rows: gives the SHAP baseline, None for the reference's own.
        reference: the folder that baselining wrote, or an analysis.json.
        threshold: an nDCG below it is a violation.
        root: the folder of all executions.
    """

    name: str
    endpoint: str
    source: Source
    merged: MergedTree
    model: Model
    estimator: Estimator
    background_rows: Callable[[], Sequence[Sequence[Any]] | None]
    reference: Path
    threshold: float
    report: Report
    provenance: Provenance
    root: Path
    track: Track

    def run(self, window: Window) -> Execution:
        """Execute over a window; the directory of its scheduled hour holds the result, also that of a failure."""
        captured = None
        with ExitStack() as stack:
            try:
                self._claim(window)
                reference = Reference.read(self.reference)
                captured = stack.enter_context(self.source.read(window))
                return self._execute(window, reference, captured)
            except (ShapwatchError, OSError) as error:
                return self._fail(window, error, captured)

    def _execute(self, window: Window, reference: Reference, captured: Captured) -> Execution:
        watch = Stopwatch(self.provenance.clock)
        with watch.step("read"):
            self.source.check(captured, window)
            features, scores_NL = captured.features(), captured.scores()
            match_features(reference.attributions.names, features.columns)
        with watch.step("explain"):
            given = self.background_rows()
            background = reference.background() if given is None else backgrounds.given(given, features.columns)
            differences = reference.compare(self.estimator.settings, background)
            before = self.model.sent
            checked = preflight(self.model, features, background, self.estimator.use_logit, scores_NL)
            attributions = self.estimator.explain(self.model, features, background, self.track)
            live = self.estimator.aggregate(attributions)
        verdict = judge(reference.attributions, live, self.threshold)
        status = Status.COMPLETED_WITH_VIOLATIONS if verdict.violations else Status.COMPLETED
        analysis = documents.analysis(live)
        files: dict[str, bytes | IO[bytes]] = {ANALYSIS: analysis, **_rejected(captured)}
        if verdict.violations:
            files[VIOLATIONS] = documents.constraint_violations(verdict)
        identities = {"reference": reference.digest, "model": self.model.identity}
        calls = manifest.calls(before, self.model.sent)
        found = {
            **self._head(window, status, (headline(verdict), sentence(verdict, reference.attributions, live))),
            "counts": manifest.counts(captured),
            "verdict": manifest.judgement(verdict),
            **manifest.explanation(self.estimator, attributions, background, analysis, **identities),
            "preflight": asdict(checked),
            "calls": calls,
            "serving_parity": parity(scores_NL, self.estimator.model_scores(attributions)),
            "quality": manifest.quality(self.merged.quality(window, attributions.labels)),
            "model_changed": reference.model_changed(self.model.identity),
            "notes": [*differences, *verdict.notes, *manifest.trouble(calls), *rejections(captured)],
        }
        target = self._commit(window, found, files, watch, (live, reference.attributions))
        lines = [
            f"{status}, {window}. {found['headline']}: {found['sentence']}",
            *(f"note: {note}" for note in found["notes"]),
            target / REPORT,
        ]
        told = "\n  ".join(map(str, lines))
        return Execution(told, status=status, directory=str(target))

    def _target(self, window: Window) -> Path:
        return executions.directory(self.root, self.endpoint, self.name, window)

    def _claim(self, window: Window) -> None:
        """Make sure that the directory of the scheduled hour is free, or holds an execution over the same window."""
        target = self._target(window)
        executions.claim(target)
        if executions.finished(target) and (stored := executions.stored_window(target)) not in {None, str(window)}:
            raise OccupiedTarget(target, f"an execution over {stored}")

    def _fail(self, window: Window, error: ShapwatchError | OSError, captured: Captured | None) -> Execution:
        reason = disk_sentence(error) if isinstance(error, OSError) else str(error)
        told = f"Failed, {window}: {reason}"
        target = self._target(window)
        if executions.finished(target):
            told = f"{told}\n  the earlier execution in {target} was kept"
        else:
            stored = error.reason if isinstance(error, ShapwatchError) else reason
            found = {**self._head(window, Status.FAILED, ("Failed", reason)), "failure_reason": stored, "notes": []}
            if captured:
                found["counts"] = manifest.counts(captured)
            files = _rejected(captured) if captured else {}
            self._commit(window, found, files, Stopwatch(self.provenance.clock), (None, None))
            told = f"{told}\n  {target / REPORT}"
        return Execution(told, succeeded=False, status=Status.FAILED, directory=str(target))

    def _head(self, window: Window, status: Status, told: tuple[str, str]) -> dict[str, Any]:
        head = manifest.head("monitor", self.name, status, told, self.provenance.versions)
        return {**head, **manifest.place(self.endpoint, window)}

    def _commit(
        self,
        window: Window,
        found: dict[str, Any],
        files: Mapping[str, bytes | IO[bytes]],
        watch: Stopwatch,
        compared: tuple[GlobalAttributions | None, GlobalAttributions | None],
    ) -> Path:
        with watch.step("report"):
            page = self.report.html(found, *compared)
        target = self._target(window)
        executions.commit(target, {**files, **executions.bundle(found, page, self.provenance, watch)})
        return target


def _rejected(captured: Captured) -> dict[str, bytes | IO[bytes]]:
    return {REJECTED: captured.rejections} if captured.rejected else {}


def rejections(captured: Captured) -> list[str]:
    """Return how many were rejected, with an example of each reason."""
    counted = captured.rejected
    return [
        f"rejected for {one.kind}, {counted[one.kind]} of {captured.records + sum(counted.values())} records: {one}"
        for one in captured.examples
    ]
