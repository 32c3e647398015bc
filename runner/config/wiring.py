"""Wiring of a stage: builds its components from the settings."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config import compose, settings_file
from runner.config.settings import Settings
from runner.domain.executions import HOUR, Outcome, Window
from runner.drift.sequential import SequentialStopping
from runner.errors import SettingsError
from runner.explain.estimator import ModelExplainer
from runner.models.remote import LocalEndpoint, Remote
from runner.monitors import Monitor, ResultWriter
from runner.monitors.attributions import AttributionAnalysis
from runner.protocols import Model, Track
from runner.publish import publish_all
from runner.results.manifest_file import Provenance, versions
from runner.scheduling.daemon.process import launch
from runner.sources.batch_transform import BatchTransformSource
from runner.sources.dataset import Dataset, baseline_rows
from runner.sources.endpoint import EndpointSource, MergedReader
from runner.sources.source import WindowReader
from runner.stages.backfill import Backfill, BackfillStage
from runner.stages.baseline import Baseline, BaselineStage
from runner.stages.capture import Capture, CaptureStage
from runner.stages.daemon import DaemonStage
from runner.stages.merge import Merge, MergeStage
from runner.stages.monitor import MonitorStage
from runner.stages.plan import Plan, PlanStage
from runner.stages.replay import Quickstart, QuickstartStage, Replay, ReplayStage
from runner.stages.report import ReportStage
from runner.stages.schedule import Schedules, ScheduleStage
from runner.stages.serve import Serve, ServeStage
from runner.stages.status import LedgerStatus, StatusStage
from runner.stages.traffic import Traffic, TrafficStage

if TYPE_CHECKING:
    from runner.scheduling.daemon.supervisor import Supervisor
    from runner.scheduling.ledger import Ledger
    from runner.serving.data_capture import DataCapture

GRACE_SECONDS = 5.0
"""Seconds an execution may take to exit after SIGTERM before it is killed."""


def build(settings: Settings, snapshot: str, track: Track) -> Callable[[], Outcome]:
    """Return the function that runs the configured stage.

    Args:
        settings: validated settings.
        snapshot: resolved configuration as YAML, stored with each result.
        track: progress display.

    Raises:
        SettingsError: if the stage does not support the source.
    """
    model = settings.model
    explains = isinstance(settings.stage, QuickstartStage | PlanStage | BaselineStage | MonitorStage)
    if isinstance(model, Remote) or not model.deploy or not explains:
        return Wiring(settings, snapshot, model, track).stage()
    connect = partial(compose.loopback_model, settings.data)
    endpoint = LocalEndpoint(model, compose.serving_settings(snapshot), connect)
    return partial(_run_within, endpoint, Wiring(settings, snapshot, endpoint, track).stage())


def _run_within(endpoint: LocalEndpoint, run: Callable[[], Outcome]) -> Outcome:
    with endpoint:
        return run()


@dataclass(frozen=True)
class Wiring:
    """The components of a stage.

    Attributes:
        settings: validated settings.
        snapshot: resolved configuration as YAML.
        model: model to explain; with `model.deploy`, a temporary endpoint that serves the configured model.
        track: progress display.
    """

    settings: Settings
    snapshot: str
    model: Model
    track: Track

    def stage(self) -> Callable[[], Outcome]:  # noqa: PLR0911, PLR0912  one case for each stage
        """Return the function that runs the configured stage."""
        stage = self.settings.stage
        match stage:
            case QuickstartStage():
                return self._quickstart(stage).run
            case ReplayStage():
                return self._replay(stage).run
            case ServeStage():
                return self._serve(stage).run
            case TrafficStage():
                return self._traffic(stage).run
            case CaptureStage():
                source = replace(self._source, data=replace(self.settings.data, max_records=None))
                return Capture(stage, source, self._inspection).run
            case MergeStage():
                return self._merge(stage).run
            case PlanStage():
                return self._plan(stage).run
            case BaselineStage():
                return self._baseline(stage.window).run
            case MonitorStage():
                return partial(stage.run, self._monitor(), self.settings.monitor.reference)
            case ReportStage():
                return partial(stage.run, self.settings.report)
            case ScheduleStage():
                return self._schedules(stage).run
            case DaemonStage():
                return partial(self._run_daemon, stage)
            case BackfillStage():
                return self._backfill(stage).run
            case StatusStage():
                return LedgerStatus(stage, self._ledger, self.settings.ledger.lease_seconds, _now).run

    def _quickstart(self, stage: QuickstartStage) -> Quickstart:
        hours, monitor = stage.hours(), self._monitor()
        return Quickstart(
            traffic=[partial(self._replay(hour).run, i * stage.records) for i, hour in enumerate(hours)],
            baseline=self._baseline().run,
            executions=[partial(monitor.run, Window(hour.start, hour.start + HOUR)) for hour in hours],
        )

    def _replay(self, stage: ReplayStage) -> Replay:
        source, data, model = self.settings.source, self.settings.data, self.settings.model
        if not isinstance(source, EndpointSource | BatchTransformSource):
            raise _unsupported(source.kind, "stage=replay supports source=endpoint and source=batch_transform")
        dataset, transform = self._traffic_dataset, isinstance(source, BatchTransformSource)
        return Replay(stage, dataset, model, data.template, data.accept_type, source.root, transform, self.track)

    def _traffic(self, stage: TrafficStage) -> Traffic:
        data = self.settings.data
        return Traffic(stage, self._traffic_dataset, data.template, data.accept_type, stage.token, self.track)

    def _serve(self, stage: ServeStage) -> Serve:
        monitor, fields = self.settings.monitor, self.settings.data.fields
        capture = self._data_capture() if self.settings.data_capture.enable_capture else None
        return Serve(stage, self.settings.model, fields, monitor.endpoint, monitor.variant, stage.token, capture)

    def _data_capture(self) -> Callable[[Any], DataCapture]:
        from runner.serving.data_capture import DataCapture

        problem = "data capture needs source=endpoint; otherwise set data_capture.enable_capture=false"
        return partial(DataCapture, root=self._endpoint_source(problem).root, **asdict(self.settings.data_capture))

    def _endpoint_source(self, problem: str) -> EndpointSource:
        source = self.settings.source
        if not isinstance(source, EndpointSource):
            raise _unsupported(source.kind, problem)
        return source

    def _merge(self, stage: MergeStage) -> Merge:
        source, paths = self._endpoint_source("stage=merge supports source=endpoint"), self.settings.paths
        return Merge(stage, source, paths.ground_truth, paths.merge, self._inspection, self.track)

    def _plan(self, stage: PlanStage) -> Plan:
        return Plan(
            settings=stage,
            source=self._source,
            dataset=self._dataset,
            analysis=self._analysis,
            remote=self.settings.model if isinstance(self.settings.model, Remote) else None,
            clock=time.perf_counter,
            target=self._inspection,
        )

    def _baseline(self, window: Window | None = None) -> Baseline:
        return Baseline(
            name=self.settings.monitor.name,
            dataset=self._dataset,
            source=self._source,
            window=window,
            model_explainer=self._model_explainer,
            policy=self.settings.drift,
            save_local_shap_values=self.settings.shap.save_local_shap_values,
            writer=self._writer,
            target=self.settings.paths.baseline,
        )

    def _monitor(self) -> Monitor:
        return Monitor(
            name=self.settings.monitor.name,
            endpoint=self.settings.monitor.endpoint,
            source=replace(self._source, data=replace(self.settings.data, max_records=None)),
            analysis=self._analysis,
            writer=self._writer,
            root=self.settings.paths.monitor,
            publish=partial(publish_all, self.settings.publish.sinks, sleep=time.sleep),
            base_url=self.settings.publish.base_url,
            skips_empty=self.settings.schedule is not None and self.settings.schedule.on_empty == "skip",
        )

    def _schedules(self, stage: ScheduleStage) -> Schedules:
        declared = partial(compose.declaration, self.settings, self.snapshot)
        return Schedules(stage, self._ledger, self.settings.monitor.name, declared, _now)

    def _backfill(self, stage: BackfillStage) -> Backfill:
        """Return a backfill; it runs one window after another if alert levels depend on previous windows."""
        workers = stage.workers if self.settings.drift.evaluation_period == 1 else 1
        return Backfill(
            settings=stage,
            ledger=self._ledger,
            supervisor=partial(self._supervisor, workers),
            declaration=compose.declaration(self.settings, self.snapshot),
            lease_seconds=self.settings.ledger.lease_seconds,
            clock=_now,
            stopwatch=time.monotonic,
            track=self.track,
        )

    def _run_daemon(self, stage: DaemonStage) -> Outcome:
        monitors, settings = compose.declarations(stage.monitors), self.settings.ledger
        with self._ledger() as ledger:
            supervisor, keep_results = self._supervisor(stage.workers, ledger), compose.results_retention
            return stage.run(ledger, supervisor, monitors, settings.lease_seconds, settings.keep, keep_results, _now)

    def _supervisor(self, workers: int, ledger: Ledger) -> Supervisor:
        from runner.scheduling.daemon.supervisor import HeartbeatMonitor, Supervisor

        return Supervisor(
            executions=ledger.executions,
            launch=partial(launch, ledger, compose.execution_settings),
            owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
            workers=workers,
            grace_seconds=GRACE_SECONDS,
            heartbeats=HeartbeatMonitor(self.settings.ledger.lease_seconds, time.monotonic),
            clock=_now,
        )

    def _ledger(self) -> Ledger:
        from runner.scheduling.ledger import Ledger

        return Ledger(self.settings.ledger.url, self.settings.ledger.busy_seconds)

    @property
    def _model_explainer(self) -> ModelExplainer:
        shap, data = self.settings.shap, self.settings.data
        estimator = shap.estimator(self.model, self.settings.engine)
        return ModelExplainer(
            self.model, estimator, partial(baseline_rows, shap.baseline, data), shap.summarize, self.track
        )

    @property
    def _analysis(self) -> AttributionAnalysis:
        return AttributionAnalysis(
            model_explainer=self._model_explainer,
            reference=self.settings.monitor.reference,
            policy=self.settings.drift,
            stopping=SequentialStopping(self.settings.shap.precision, self.settings.drift),
            merged=MergedReader(self.settings.paths.merge, self.settings.data),
            max_records=self.settings.data.max_records,
            max_rejected_share=self.settings.data.max_rejected_share,
            save_local_shap_values=self.settings.shap.save_local_shap_values,
        )

    @property
    def _writer(self) -> ResultWriter:
        confirmed = settings_file.confirmations(self.settings)
        return ResultWriter(self.settings.report, Provenance(self.snapshot, versions(), time.perf_counter, confirmed))

    @property
    def _source(self) -> WindowReader:
        return WindowReader(self.settings.source, self.settings.data, self.track)

    @property
    def _dataset(self) -> Dataset:
        data = self.settings.data
        return Dataset(data.dataset or "", data, "data.dataset", labelled=True, max_records=data.max_records)

    @property
    def _traffic_dataset(self) -> Dataset:
        return Dataset(self.settings.data.traffic or "", self.settings.data, "data.traffic")

    @property
    def _inspection(self) -> Path:
        """Folder for the output of the stages capture, plan and merge."""
        return self.settings.paths.inspection / self.settings.monitor.endpoint / self.settings.monitor.variant


def _now() -> datetime:
    return datetime.now(UTC)


def _unsupported(source: str, problem: str) -> SettingsError:
    return SettingsError([f"source.kind={source}: {problem}"])
