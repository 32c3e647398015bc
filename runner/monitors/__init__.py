"""Execution of a monitor: claim the directory, read the window, analyse it, write and publish the result.

An error becomes a Failed execution with a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, Headline, Verdict
from runner.domain.executions import Execution, HistoryPoint, Publication, Status, Window
from runner.domain.numbers import plural
from runner.domain.records import Captured
from runner.domain.schedules import ExecutionRecord
from runner.drift.verdict import verdict
from runner.errors import NO_DATA, ClaimLost, NoData, OccupiedTarget, ShapwatchError, error_message, first_to_last
from runner.explain.preflight import Screening
from runner.protocols import Model
from runner.report.context import capitalize
from runner.report.render import Report
from runner.results import directory, manifest_file
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST, REJECTED, REPORT
from runner.results.documents import DriftDocument, load_analysis, load_drift
from runner.results.manifest import CaptureCounts, Comparison, ExecutionTime, Explanation, Manifest, SearchedPlace
from runner.results.manifest_file import Provenance, Stopwatch
from runner.sources.source import WindowReader, without

if TYPE_CHECKING:
    from runner.scheduling.ledger.fence import Fence

MODEL_INPUT = "model_input"
"""Rejection reason of records that the model rejects."""
MOST_EARLIER = 24
"""Number of earlier executions in the report of one without a verdict."""
Files = Mapping[str, bytes | IO[bytes]]
"""Contents of files by name."""


@dataclass(frozen=True)
class ResultWriter:
    """Writer of result directories.

    Attributes:
        report: renderer of the report.
        provenance: parts of the manifest that do not depend on the data.
    """

    report: Report
    provenance: Provenance

    def write(
        self,
        target: Path,
        manifest: Manifest,
        files: Files,
        stopwatch: Stopwatch,
        attributions: GlobalAttributions | None = None,
        drift: DriftDocument | None = None,
        check: Callable[[], object] | None = None,
    ) -> Manifest:
        """Write a result into its directory, and return the manifest with the timings and notes on failed report parts.

        An earlier result in the directory is replaced.

        Args:
            target: directory.
            manifest: manifest without timings.
            files: documents by name.
            stopwatch: durations of the steps so far.
            attributions: global attributions for the report; None after a failure.
            drift: drift statistics for the report; None without a comparison.
            check: function that checks before the replacement that no other process has taken over.

        Raises:
            OccupiedTarget: if the directory contains files that no execution writes.
            ClaimLost: if another process has taken over.
        """
        with stopwatch.step("report"):
            reports, failures = self.report.attempt(manifest, attributions, drift)
        manifest = replace(manifest, notes=(*manifest.notes, *failures), timings=stopwatch.seconds)
        documents = {**files, **manifest_file.common_files(manifest, reports, self.provenance)}
        directory.commit(target, documents, check)
        return manifest


@dataclass(frozen=True)
class ExecutionSlot:
    """Window and scheduled time of an execution, and the directory of its result.

    Attributes:
        replaced: earlier result in the same directory; None without one.
    """

    window: Window
    scheduled: datetime
    target: Path
    replaced: manifest_file.Published | None = None


@dataclass(frozen=True)
class Findings:
    """Result of the analysis of a window.

    Attributes:
        headline, sentence: verdict in two or three words, and in a sentence.
        notes: notes for readers of the report.
        captured: analysed records; a sample if the analysis did not need all of them.
        explanation, comparison: sections of the manifest.
        documents: documents by file name.
        local_files: context manager that yields large documents as open temporary files, by file name.
        attributions, drift: global attributions and drift statistics for the report.
        ndcg: nDCG by label.
    """

    status: Status
    headline: str
    sentence: str
    notes: Sequence[str]
    captured: Captured
    explanation: Explanation
    comparison: Comparison
    documents: Mapping[str, bytes]
    attributions: GlobalAttributions
    ndcg: Mapping[str, float]
    drift: DriftDocument
    local_files: AbstractContextManager[Mapping[str, IO[bytes]]] = field(default_factory=lambda: nullcontext({}))


class RecordsRejected(Exception):
    """The model rejects some of the records.

    Attributes:
        problems: message for each rejected record, by its index in the table.
    """

    def __init__(self, problems: Mapping[int, str]) -> None:
        super().__init__(f"the model rejects {len(problems)} records")
        self.problems = problems


def rejected_records(
    captured: Captured, model: Model, order_n: NDArray[np.intp], allowed: float, error: ShapwatchError
) -> dict[int, str]:
    """Return a message for each record that the model rejects, by its index in the table.

    Args:
        captured: records of a window.
        model: model that raised the error for several of them.
        order_n: indices of the records to examine, in random order.
        allowed: largest accepted share of rejected records.
        error: the error.

    Raises:
        ShapwatchError: the error, if no record is rejected alone, or too many are rejected.
    """
    rows_n = np.sort(order_n)
    features, event_n = captured.features()[rows_n], captured.event_table()["event"].to_numpy()[rows_n]
    screening = Screening(model, features, event_n, np.searchsorted(rows_n, order_n), allowed)
    return {int(rows_n[i]): f"the model rejects it: {problem}" for i, problem in screening.rejected(error).items()}


class Analysis(Protocol):
    """Interface of the analysis of a window, such as `AttributionAnalysis`."""

    def prepare(self, slot: ExecutionSlot) -> Callable[[Captured, Stopwatch], Findings]:
        """Read the reference of a window, and return the function that analyses its records.

        The function raises `RecordsRejected` to receive the records without some of them.

        Raises:
            ShapwatchError: if the window cannot be analysed.
        """
        ...

    def inputs(self, window: Window) -> Iterator[SearchedPlace]:
        """Yield the inputs of the analysis other than the records, such as the reference and the model."""
        ...


@dataclass(frozen=True)
class Monitor:
    """A monitor of an endpoint.

    Attributes:
        name, endpoint: parts of the directory of an execution, `{root}/{endpoint}/{name}/yyyy/mm/dd/hh`.
        source: source of the records.
        analysis: analysis of each window.
        writer: writer of the results.
        root: directory of all executions.
        publish: function that publishes a result, and returns a message for each sink that failed.
        base_url: address of `root`, for links to reports; None for paths.
        skips_empty: whether an execution without captured events completes without a verdict instead of failing. One
            with invalid captures always fails.
        fence: claim in the ledger under which this process runs; None without a ledger.
    """

    name: str
    endpoint: str
    source: WindowReader
    analysis: Analysis
    writer: ResultWriter
    root: Path
    publish: Callable[[Publication], Sequence[str]]
    base_url: str | None = None
    skips_empty: bool = False
    fence: Fence | None = None

    @property
    def _claim_digest(self) -> str | None:
        return self.fence.claim.digest if self.fence else None

    def run(self, window: Window, scheduled: datetime | None = None) -> Execution:
        """Execute the monitor over a window, and return the result.

        The result is written to the directory of the scheduled time, also after a failure.

        Args:
            window: window to analyse.
            scheduled: scheduled time in UTC; None for the first full hour at or after the end of the window.

        Raises:
            ClaimLost: if another process has taken over; nothing is written or published.
        """
        slot, captured = self._slot(window, scheduled), None
        with ExitStack() as stack:
            try:
                _claim(slot)
                slot = replace(slot, replaced=manifest_file.published(slot.target))
                analyse = self.analysis.prepare(slot)
                captured = stack.enter_context(self.source.read(window))
                stopwatch = Stopwatch(self.writer.provenance.clock)
                try:
                    with stopwatch.step("read"):
                        self.source.check(captured, window)
                except NoData as error:
                    if self.skips_empty and not captured.rejected:
                        return self._skip(slot, error, captured, stopwatch)
                    raise
                findings = None
                while findings is None:
                    try:
                        findings = analyse(captured, stopwatch)
                    except RecordsRejected as error:
                        captured = without(captured, MODEL_INPUT, error.problems)
                        self.source.check(captured, window)
                return self._complete(slot, findings, stopwatch)
            except ClaimLost:
                raise
            except (ShapwatchError, OSError) as error:
                return self._fail(slot, error, captured)

    def publish_recorded(self, recorded: ExecutionRecord) -> Execution:
        """Publish a recorded result that its process could not publish, and return the result.

        Without an output, the process died or was stopped. If it had already written its result, this result is
        recorded instead; otherwise the failure is written.

        Raises:
            ClaimLost: if another process has taken over; nothing is published.
        """
        reason, message = recorded.failure_reason, recorded.exit_message or ""
        execution = Execution(message, True, recorded.output or "", recorded.status, failure_reason=reason)
        self._record(execution)
        slot = self._slot(recorded.window, recorded.scheduled)
        try:
            execution, failures = self._publish_again(slot, execution)
        except ClaimLost:
            raise
        except (ShapwatchError, OSError, ValueError) as error:
            failures = [f"not published: {error_message(error)}"]
        lines = [execution.message or f"{recorded.window}: {reason}", *failures] if failures else [execution.message]
        return replace(execution, message="\n  ".join(lines))

    def _publish_again(self, slot: ExecutionSlot, execution: Execution) -> tuple[Execution, Sequence[str]]:
        """Publish a result, and return it with a message for each sink that failed."""
        with directory.opened(slot.target, [MANIFEST, ANALYSIS, DRIFT]) as files:
            contents = {name: file.read() for name, file in files.items()}
        manifest = _loaded(contents)
        if not execution.directory and manifest and self.fence and manifest.claim == self.fence.claim.digest:
            line = _verdict(slot, manifest.status, manifest.headline, manifest.sentence)
            reason = NO_DATA if manifest.is_empty else manifest.failure_reason
            execution = self._written(slot, manifest.status, [line, str(slot.target / REPORT)], reason)
            self.fence.correct(execution)
        if not execution.directory:
            return self._publish_death(slot, execution)
        return execution, self._publish_stored(slot, execution, manifest, contents)

    def _publish_death(self, slot: ExecutionSlot, execution: Execution) -> tuple[Execution, Sequence[str]]:
        """Write and publish the failure of a process that wrote no result; an earlier result stays unchanged."""
        reason, notes = execution.failure_reason or "", list[str]()
        if not manifest_file.is_finished(slot.target):
            try:
                self._write_failure(slot, reason, reason, None, died=True)
                execution = replace(execution, directory=str(slot.target.absolute()))
            except ClaimLost:
                raise
            except (ShapwatchError, OSError) as failure:
                notes = [f"the report could not be written: {error_message(failure)}"]
        written = bool(execution.directory)
        return execution, [*notes, *self._publish(slot, Status.FAILED, reason, written=written, died=True)]

    def _publish_stored(
        self, slot: ExecutionSlot, execution: Execution, manifest: Manifest | None, contents: Mapping[str, bytes]
    ) -> Sequence[str]:
        """Publish a result from the documents in its directory; nothing if they are those of another result."""
        status = execution.status
        is_empty = status is Status.COMPLETED and execution.failure_reason == NO_DATA
        if manifest is None or manifest.status is not status or manifest.is_empty is not is_empty:
            return [f"not published: {slot.target} does not contain this result"]
        comparison = manifest.comparison
        if comparison is None:
            return self._publish(slot, status, manifest.sentence, died=bool(manifest.died))
        drift = load_drift(contents[DRIFT]).result
        return self._publish(
            slot,
            status,
            manifest.sentence,
            words=comparison.words or verdict(manifest.headline, manifest.sentence, drift, comparison.serving_parity),
            attributions=load_analysis(contents[ANALYSIS], str(slot.target / ANALYSIS)),
            ndcg={each.label: each.ndcg for each in comparison.verdict.drifts if each.ndcg is not None},
            drift=drift,
        )

    def _slot(self, window: Window, scheduled: datetime | None) -> ExecutionSlot:
        at = scheduled or window.scheduled
        return ExecutionSlot(window, at, directory.execution_directory(self.root, self.endpoint, self.name, at))

    def _complete(self, slot: ExecutionSlot, findings: Findings, stopwatch: Stopwatch) -> Execution:
        """Write and publish the result of an analysis."""
        manifest = replace(
            self._manifest(slot, findings.status, findings.headline, findings.sentence),
            notes=(*findings.notes, *rejection_notes(findings.captured)),
            counts=CaptureCounts.of(findings.captured),
            explanation=findings.explanation,
            comparison=findings.comparison,
        )
        with findings.local_files as local:
            files: Files = {**findings.documents, **_rejected(findings.captured), **local}
            notes = self._write(slot, manifest, files, stopwatch, findings)
        lines = [
            _verdict(slot, findings.status, findings.headline, findings.sentence),
            *(f"note: {note}" for note in notes),
            str(slot.target / REPORT),
        ]
        execution = self._written(slot, findings.status, lines)
        self._record(execution)
        failures = self._publish(
            slot,
            findings.status,
            findings.sentence,
            words=findings.comparison.words,
            attributions=findings.attributions,
            ndcg=dict(findings.ndcg),
            drift=findings.drift.result,
        )
        return replace(execution, message="\n  ".join([*lines, *failures]))

    def _written(
        self, slot: ExecutionSlot, status: Status, lines: Sequence[str], reason: str | None = None
    ) -> Execution:
        """Return a result that is in its directory."""
        message, output = "\n  ".join(lines), str(slot.target.absolute())
        return Execution(message, status is not Status.FAILED, output, status, failure_reason=reason)

    def _record(self, execution: Execution) -> None:
        """Record a result in the ledger before it is published.

        Raises:
            ClaimLost: if another process has taken over.
        """
        if self.fence:
            self.fence.record(execution)

    def _skip(self, slot: ExecutionSlot, error: NoData, captured: Captured, stopwatch: Stopwatch) -> Execution:
        """Write and publish the result of a window without data; it never replaces a verdict."""
        status, headline = Status.COMPLETED, str(Headline.NO_DATA)
        sentence = f"{error.summary} Nothing was analysed (schedule.on_empty=skip)."
        lines = [_verdict(slot, status, headline, sentence)]
        if unchanged := manifest_file.is_finished(slot.target):
            lines.append(f"the result of the earlier execution in {slot.target} is unchanged")
        else:
            manifest = replace(
                self._manifest(slot, status, headline, sentence),
                counts=CaptureCounts.of(captured),
                searched=tuple(self._searched(slot, captured)),
                history=_earlier(slot),
            )
            notes = self._write(slot, manifest, {}, stopwatch)
            lines += [*(f"note: {note}" for note in notes), str(slot.target / REPORT)]
        execution = Execution("\n  ".join(lines), True, str(slot.target.absolute()), status, error.reason)
        self._record(execution)
        failures = [] if unchanged else self._publish(slot, status, sentence)
        return replace(execution, message="\n  ".join([*lines, *failures]))

    def _fail(self, slot: ExecutionSlot, error: ShapwatchError | OSError, captured: Captured | None) -> Execution:
        """Write and publish a failure; it never replaces the result of an earlier execution."""
        message = error_message(error)
        reason = error.reason if isinstance(error, ShapwatchError) else message
        lines = [f"Failed, {slot.window}: {message}"]
        output = str(slot.target.absolute())
        if unchanged := manifest_file.is_finished(slot.target):
            lines.append(f"the result of the earlier execution in {slot.target} is unchanged")
        else:
            try:
                self._write_failure(slot, message, reason, captured)
                lines.append(str(slot.target / REPORT))
            except ClaimLost:
                raise
            except (ShapwatchError, OSError) as failure:
                output = ""
                lines.append(f"the report could not be written: {error_message(failure)}")
        execution = Execution("\n  ".join(lines), False, output, Status.FAILED, failure_reason=reason)
        self._record(execution)
        failures = [] if unchanged else self._publish(slot, Status.FAILED, message, written=bool(output))
        return replace(execution, message="\n  ".join([*lines, *failures]))

    def _write_failure(
        self, slot: ExecutionSlot, message: str, reason: str, captured: Captured | None, died: bool = False
    ) -> None:
        manifest = replace(
            self._manifest(slot, Status.FAILED, "Failed", message),
            failure_reason=reason,
            claim=None if died else self._claim_digest,
            died=died or None,
            counts=CaptureCounts.of(captured) if captured else None,
            searched=tuple(self._searched(slot, captured)),
            history=_earlier(slot),
        )
        files = _rejected(captured) if captured else {}
        self._write(slot, manifest, files, Stopwatch(self.writer.provenance.clock))

    def _searched(self, slot: ExecutionSlot, captured: Captured | None) -> Iterator[SearchedPlace]:
        """Yield the inputs of an execution with what was found there."""
        found = "not read"
        if captured:
            events = plural(captured.events, "event")
            found = f"{plural(len(captured.files), 'file')}, {events} in the window, {captured.outside:,} outside"
        yield SearchedPlace("captures", first_to_last(self.source.source.folders(slot.window)), found)
        yield from self.analysis.inputs(slot.window)

    def _manifest(self, slot: ExecutionSlot, status: Status, headline: str, sentence: str) -> Manifest:
        window = f"{slot.window.start:%FT%TZ}/{slot.window.end:%FT%TZ}"
        stage = {"window": window, "scheduled": f"{slot.scheduled:%FT%TZ}", "attached": "false"}
        return Manifest(
            stage="monitor",
            status=status,
            headline=headline,
            sentence=sentence,
            monitor=self.name,
            versions=self.writer.provenance.versions,
            command=self.writer.provenance.command(kind="monitor", **stage),
            time=ExecutionTime(self.endpoint, slot.window, slot.scheduled),
            claim=self._claim_digest,
        )

    def _write(
        self,
        slot: ExecutionSlot,
        manifest: Manifest,
        files: Files,
        stopwatch: Stopwatch,
        findings: Findings | None = None,
    ) -> list[str]:
        """Write the result and the index page of the monitor, and return the notes."""
        written = self.writer.write(
            slot.target,
            manifest,
            files,
            stopwatch,
            attributions=findings.attributions if findings else None,
            drift=findings.drift if findings else None,
            check=self.fence.check if self.fence else None,
        )
        return [*written.notes, *self.writer.report.put_index(self.root / self.endpoint / self.name)]

    def _address(self, report: Path) -> str:
        """Return the address of a report, or its path without `base_url`."""
        if self.base_url is None:
            return str(report.absolute())
        return f"{self.base_url}/{report.relative_to(self.root).as_posix()}"

    def _publish(
        self,
        slot: ExecutionSlot,
        status: Status,
        sentence: str,
        words: Verdict | None = None,
        written: bool = True,
        died: bool = False,
        attributions: GlobalAttributions | None = None,
        ndcg: dict[str, float] | None = None,
        drift: DriftResult | None = None,
    ) -> Sequence[str]:
        """Publish the result, and return a message for each sink that failed."""
        headline = Headline.FAILED if status is Status.FAILED else Headline.NO_DATA
        return self.publish(
            Publication(
                monitor=self.name,
                endpoint=self.endpoint,
                window=slot.window,
                scheduled=slot.scheduled,
                status=status,
                sentence=sentence,
                words=words or verdict(headline, sentence, None, None),
                report=self._address(slot.target / REPORT) if written else "",
                directory=slot.target if written else None,
                attributions=attributions,
                ndcg=ndcg or {},
                drift=drift,
                history=manifest_file.alert_history(slot.target, slot.replaced),
                died=died,
            )
        )


def _verdict(slot: ExecutionSlot, status: Status, headline: str, sentence: str) -> str:
    """Return the first line of a message: status and window, then the verdict."""
    return f"{status}, {slot.window}: {headline}. {capitalize(sentence)}"


def _claim(slot: ExecutionSlot) -> None:
    """Check that the directory contains only files of executions, and no finished execution over another window."""
    directory.claim(slot.target)
    stored = manifest_file.stored_window(slot.target)
    if manifest_file.is_finished(slot.target) and stored not in {None, slot.window}:
        raise OccupiedTarget(slot.target, f"contains an execution over {stored}")


def _earlier(slot: ExecutionSlot) -> tuple[HistoryPoint, ...]:
    """Return the results of earlier executions, without the changes by feature."""
    points = manifest_file.earlier_points(slot.target, MOST_EARLIER)
    return tuple(replace(point, share_changes={}) for point in points)


def _loaded(contents: Mapping[str, bytes]) -> Manifest | None:
    """Return the manifest among the documents of a directory, None if it is missing or damaged."""
    with suppress(ValueError):
        return manifest_file.load_manifest(contents[MANIFEST]) if MANIFEST in contents else None
    return None


def _rejected(captured: Captured) -> dict[str, IO[bytes]]:
    captured.rejections.seek(0)  # a failed attempt to write the result may have read the file
    return {REJECTED: captured.rejections} if captured.rejected else {}


def rejection_notes(captured: Captured) -> list[str]:
    """Return a note for each rejection reason: the number of rejected records, and an example."""
    counts = captured.rejected
    total = captured.records + sum(counts.values())
    return [
        f"{counts[example.kind]} of {total} records rejected ({example.kind}), for example {example}"
        for example in captured.examples
    ]
