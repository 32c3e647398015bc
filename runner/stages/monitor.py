"""One execution of a monitor: the captures of a window, explained, judged against the reference, reported.

This is the only place besides the command line that catches errors: what went wrong becomes a Failed execution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner import subprocesses
from runner.domain.attributions import Attributions, Explained, GlobalAttributions
from runner.domain.drift import DriftResult, RankingResult
from runner.domain.executions import Execution, HistoryPoint, Status, Window
from runner.domain.publication import Publication
from runner.domain.records import Captured
from runner.domain.text import plural
from runner.drift.canary import canary
from runner.drift.detect import detect_drift
from runner.drift.policy import DriftPolicy
from runner.drift.ranking import match_features, rank_labels
from runner.drift.segments import sample_one_per_event
from runner.drift.sequential import SequentialStopping
from runner.drift.summary import headline, sentence
from runner.errors import OccupiedTarget, ShapwatchError, os_error_message
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.preflight import parity, preflight
from runner.protocols import Model, Track, calls_made
from runner.report.render import Report
from runner.results import directory, documents, history, manifest, manifest_file
from runner.results.directory import ANALYSIS, DRIFT, REJECTED, REPORT, VIOLATIONS
from runner.results.documents import DriftDocument
from runner.results.local_attributions import saved
from runner.results.manifest import CaptureCounts, Comparison, Effects, ExecutionTime, Explanation, Manifest
from runner.results.provenance import Provenance, Stopwatch
from runner.results.reference import Reference, canaries
from runner.sources.merged import MergedReader
from runner.sources.sample import only, order
from runner.sources.source import WindowReader
from runner.types import NO_OTHER_KEYS, Instant, Interval

LOOKED_BACK = 48
"""Executions before one that its report draws over time."""
NOTHING_KEPT = "the reference keeps no records: chance cannot be told from drift here; run stage=baseline to have them"


@dataclass(frozen=True)
class MonitorStage:
    """`stage=monitor`; conf/stage/monitor.yaml describes the keys."""

    kind: Literal["monitor"]
    window: Interval
    scheduled: Instant | None
    attached: bool

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Slot:
    """What an execution is about: the window it looks at, the time it is scheduled for, where its result belongs."""

    window: Window
    scheduled: datetime
    target: Path


@dataclass(frozen=True)
class Scene:
    """What does not change between the looks of an execution at more and more of its records.

    Attributes:
        drawn_N: the places of the records in the order in which they are looked at, None for that of the captures.
        again: kept records explained again; `past`: the executions before.
    """

    reference: Reference
    background: pl.DataFrame
    captured: Captured
    features: pl.DataFrame
    drawn_N: NDArray[np.intp] | None
    window: Window
    again: Attributions | None
    past: Sequence[HistoryPoint]

    def records(self, some: slice) -> pl.DataFrame:
        """Return some records in that order."""
        return self.features[some] if self.drawn_N is None else self.features[self.drawn_N[some]]

    def first(self, count: int) -> Captured:
        """Return what was captured with its first records in that order only."""
        return self.captured if self.drawn_N is None else only(self.captured, self.drawn_N[:count])


@dataclass(frozen=True)
class Seen:
    """What a look at some of the records has shown."""

    attributions: Attributions
    live: GlobalAttributions
    verdict: RankingResult
    finding: DriftResult | None


@dataclass(frozen=True)
class Monitor:
    """A declared watch: data, model, estimator and reference under a name.

    Attributes:
        name, endpoint: where its executions are kept, `{root}/{endpoint}/{name}/yyyy/mm/dd/hh`.
        source: where the records come from.
        merged: the events whose true labels are known, for the quality of the model.
        background_rows: gives the SHAP baseline, None for the reference's own.
        reference: the folder that baselining wrote, or an analysis.json; `strftime` codes stand for a window's start.
        policy: thresholds and tests of the verdict.
        certainty: how sure the verdict has to be before no more records are explained.
        save_local_shap_values: whether the local attributions are left as CSV, with a file that leads to their events.
        root: the folder of all executions.
        tell: tells others what was found, and returns a sentence on each that could not be told.
    """

    name: str
    endpoint: str
    source: WindowReader
    merged: MergedReader
    model: Model
    estimator: Estimator
    background_rows: Callable[[], Sequence[Sequence[Any]] | None]
    reference: Path
    policy: DriftPolicy
    certainty: SequentialStopping
    save_local_shap_values: bool
    report: Report
    provenance: Provenance
    root: Path
    tell: Callable[[Publication], Sequence[str]]
    track: Track

    def run(self, window: Window, scheduled: datetime | None = None) -> Execution:
        """Execute over a window; the directory of its scheduled time holds the result, also that of a failure.

        Args:
            window: what to look at.
            scheduled: in UTC, None for the first full hour after the window.
        """
        at = scheduled or window.scheduled
        slot = Slot(window, at, directory.execution_directory(self.root, self.endpoint, self.name, at))
        captured = None
        with ExitStack() as stack:
            try:
                _claim(slot)
                reference = Reference.read(directory.reference_path(self.reference, window))
                captured = stack.enter_context(self.source.read(window))
                return self._execute(slot, reference, captured)
            except (ShapwatchError, OSError) as error:
                return self._fail(slot, error, captured)

    def _execute(self, slot: Slot, reference: Reference, captured: Captured) -> Execution:
        watch = Stopwatch(self.provenance.clock)
        with watch.step("read"):
            self.source.check(captured, slot.window)
            match_features(reference.attributions.names, self.estimator.names(captured.names))
            features, scores_NL = captured.features(), captured.scores()
            drawn_N = order(features) if self.certainty.probability else None
        with watch.step("explain"):
            given = self.background_rows()
            background = reference.background() if given is None else backgrounds.given(given, features.columns)
            differences = reference.check_comparable(self.estimator.settings, background)
            before = calls_made(self.model)
            checked = preflight(self.model, features, background, self.estimator.use_logit, scores_NL)
            again = self._again(reference, background)
        past = history.earlier_points(slot.target, LOOKED_BACK)
        scene = Scene(reference, background, captured, features, drawn_N, slot.window, again, past)
        seen = self._seen(scene, watch)
        attributions, live, verdict, finding = seen.attributions, seen.live, seen.verdict, seen.finding
        captured = scene.first(len(attributions.phi_NDL))
        status = Status.COMPLETED_WITH_VIOLATIONS if verdict.violations else Status.COMPLETED
        analysis = documents.dump_analysis(live)
        told = headline(verdict, finding), sentence(verdict, finding, reference.attributions, live)
        drift = DriftDocument(verdict, finding, reference.attributions, tuple(past))
        files: dict[str, bytes | IO[bytes]] = {ANALYSIS: analysis, DRIFT: documents.dump_drift(drift)}
        files |= _rejected(captured)
        if verdict.violations:
            files[VIOLATIONS] = documents.dump_violations(verdict)
        identities = {"reference": reference.digest, "model": self.model.identity}
        calls = manifest.calls_between(before, calls_made(self.model))
        notes = [
            *differences,
            *self._explained(len(attributions.phi_NDL), features.height),
            *verdict.notes,
            *(finding.notes if finding else [NOTHING_KEPT]),
            *manifest.call_notes(calls),
            *rejections(captured),
        ]
        extra = again.evaluations if again else 0
        explanation = Explanation.of(
            self.estimator, attributions, background, checked, calls, analysis, identities, extra
        )
        comparison = Comparison(
            level=finding.level if finding else None,
            level_alone=finding.alone if finding else None,
            effects=Effects.of(finding),
            verdict=verdict,
            material=self.policy.material,
            serving_parity=parity(captured.scores(), self.estimator.model_scores(attributions)),
            quality=self.merged.quality(slot.window, attributions.labels),
            model_changed=reference.model_changed(self.model.identity),
        )
        found = replace(
            self._head(slot, status, told),
            notes=tuple(notes),
            counts=CaptureCounts.of(captured),
            explanation=explanation,
            comparison=comparison,
        )
        with ExitStack() as stack:
            if self.save_local_shap_values:
                files |= stack.enter_context(saved(attributions, background, captured))
            troubles = self._commit(slot, found, files, watch, live, drift)
        scores = {drift.label: drift.ndcg for drift in verdict.drifts if drift.ndcg is not None}
        untold = self._tell(slot, status, told[1], live=live, ndcg=scores, finding=finding)
        lines = [
            f"{status}, {slot.window}. {found.headline}: {found.sentence}",
            *(f"note: {note}" for note in [*found.notes, *troubles]),
            slot.target / REPORT,
            *untold,
        ]
        message = "\n  ".join(map(str, lines))
        return Execution(message, status=status, directory=str(slot.target.absolute()))

    def _seen(self, scene: Scene, watch: Stopwatch) -> Seen:
        """Return what all records show; where fewer may do, what as many of them do as it takes."""
        first_look, *more = self.certainty.sample_sizes(scene.features.height)
        seen = self._look(scene, first_look, None, watch)
        for look, rows in enumerate(more, 1):
            if self._enough(look, scene, seen):
                break
            seen = self._look(scene, rows, seen, watch)
        return seen

    def _look(self, scene: Scene, rows: int, before: Seen | None, watch: Stopwatch) -> Seen:
        """Return what so many records say, those among them explained that were not before."""
        done = len(before.attributions.phi_NDL) if before else 0
        with watch.step("explain"):
            records = scene.records(slice(done, rows))
            some = self.estimator.explain(self.model, records, scene.background, self.track)
            attributions = self.estimator.join(before.attributions if before else None, some)
            live = self.estimator.aggregate(attributions)
        with watch.step("detect"):
            finding = self._find(scene, Explained(scene.records(slice(rows)), attributions), scene.first(rows))
        return Seen(attributions, live, rank_labels(scene.reference.attributions, live, self.policy.threshold), finding)

    def _enough(self, look: int, scene: Scene, seen: Seen) -> bool:
        """Return whether more records would hardly change the verdict."""
        stored = None if scene.reference.sample is None else scene.reference.sample.attributions
        doubt = self.certainty.error_probability(
            scene.reference.attributions,
            stored,
            seen.attributions,
            seen.finding,
            str(self.estimator.agg_method),
            scene.features.height,
        )
        return self.certainty.should_stop(look, doubt)

    def _explained(self, rows: int, records: int) -> list[str]:
        """Return a sentence on how many records it took, where fewer may do."""
        if self.certainty.probability is None:
            return []
        if rows == records:
            return [f"all {plural(records, 'record')} were explained: shap.precision was not reached before"]
        share = f"{rows:,} of {plural(records, 'record')}, drawn, were explained"
        return [f"{share}: with the others the verdict would be the same, as sure as shap.precision asks for"]

    def _again(self, reference: Reference, background: pl.DataFrame) -> Attributions | None:
        """Return kept records explained again, None where there are none."""
        if reference.sample is None or not self.policy.canary_rows:
            return None
        features = canaries(reference.sample, self.policy.canary_rows).features
        return self.estimator.explain(self.model, features, background, self.track)

    def _find(self, scene: Scene, live: Explained, captured: Captured) -> DriftResult | None:
        """Return what the local attributions say, None where the reference keeps none."""
        reference = scene.reference
        if reference.sample is None:
            return None
        if self.policy.unit == "event":
            live = live.rows(sample_one_per_event(captured.events_of(), self.policy.seed))
        method, told = str(self.estimator.agg_method), None
        if scene.again is not None:
            then, same = (
                canaries(reference.sample, self.policy.canary_rows),
                not reference.differing_settings(self.estimator.settings),
            )
            told = canary(then.attributions, scene.again, method, same)
        comparable = [point.alone for point in scene.past if point.reference == reference.digest]
        length = scene.window.end - scene.window.start
        return detect_drift(
            self.policy, reference.sample, live, method, length, told, comparable, self.estimator.groups
        )

    def _fail(self, slot: Slot, error: ShapwatchError | OSError, captured: Captured | None) -> Execution:
        reason = os_error_message(error) if isinstance(error, OSError) else str(error)
        stored = error.reason if isinstance(error, ShapwatchError) else reason
        directory, where = str(slot.target.absolute()), f"the earlier execution in {slot.target} was kept"
        if not manifest_file.is_finished(slot.target):
            try:
                self._report_failure(slot, reason, stored, captured)
                where = str(slot.target / REPORT)
            except (ShapwatchError, OSError) as trouble:
                told = os_error_message(trouble) if isinstance(trouble, OSError) else str(trouble)
                directory, where = "", f"there is no report: {told}"
            where = "\n  ".join([where, *self._tell(slot, Status.FAILED, reason, reported=bool(directory))])
        message = f"Failed, {slot.window}: {reason}\n  {where}"
        return Execution(message, succeeded=False, status=Status.FAILED, directory=directory, failure_reason=stored)

    def _tell(
        self,
        slot: Slot,
        status: Status,
        sentence: str,
        reported: bool = True,
        live: GlobalAttributions | None = None,
        ndcg: Mapping[str, float] | None = None,
        finding: DriftResult | None = None,
    ) -> Sequence[str]:
        """Publish an execution, and return a message for each sink that failed."""
        publication = Publication(
            monitor=self.name,
            endpoint=self.endpoint,
            window=slot.window,
            scheduled=slot.scheduled,
            status=status,
            sentence=sentence,
            report=str(slot.target.absolute() / REPORT) if reported else "",
            directory=slot.target if reported else None,
            attributions=live,
            ndcg=dict(ndcg or {}),
            drift=finding,
            history=history.alert_history(slot.target),
        )
        return self.tell(publication)

    def _report_failure(self, slot: Slot, reason: str, stored: str, captured: Captured | None) -> None:
        counts = CaptureCounts.of(captured) if captured else None
        head = self._head(slot, Status.FAILED, ("Failed", reason))
        found = replace(head, failure_reason=stored, counts=counts)
        files = _rejected(captured) if captured else {}
        self._commit(slot, found, files, Stopwatch(self.provenance.clock))

    def _head(self, slot: Slot, status: Status, told: tuple[str, str]) -> Manifest:
        headline, sentence = told
        at = {"window": f"{slot.window.start:%FT%TZ}/{slot.window.end:%FT%TZ}", "scheduled": f"{slot.scheduled:%FT%TZ}"}
        return Manifest(
            stage="monitor",
            status=status,
            headline=headline,
            sentence=sentence,
            monitor=self.name,
            versions=self.provenance.versions,
            command=subprocesses.reproduction(kind="monitor", **at, attached="false"),
            time=ExecutionTime(self.endpoint, slot.window, slot.scheduled),
        )

    def _commit(
        self,
        slot: Slot,
        found: Manifest,
        files: Mapping[str, bytes | IO[bytes]],
        watch: Stopwatch,
        live: GlobalAttributions | None = None,
        drift: DriftDocument | None = None,
    ) -> list[str]:
        """Put the directory in place, and return what could not be reported."""
        with watch.step("report"):
            reports, troubles = self.report.attempt(found, live, drift)
        found = replace(found, notes=(*found.notes, *troubles), timings=watch.seconds)
        directory.commit(slot.target, {**files, **manifest_file.common_files(found, reports, self.provenance)})
        return [*troubles, *self.report.put_index(self.root / self.endpoint / self.name)]


def _claim(slot: Slot) -> None:
    """Make sure that the directory is free, or holds an execution over the same window."""
    directory.claim(slot.target)
    stored = manifest_file.stored_window(slot.target)
    if manifest_file.is_finished(slot.target) and stored not in {None, slot.window}:
        raise OccupiedTarget(slot.target, f"contains an execution over {stored}")


def _rejected(captured: Captured) -> dict[str, bytes | IO[bytes]]:
    captured.rejections.seek(0)  # a first try to write it may have come to nothing
    return {REJECTED: captured.rejections} if captured.rejected else {}


def rejections(captured: Captured) -> list[str]:
    """Return how many were rejected, with an example of each reason."""
    counted = captured.rejected
    return [
        f"rejected for {one.kind}, {counted[one.kind]} of {captured.records + sum(counted.values())} records: {one}"
        for one in captured.examples
    ]
