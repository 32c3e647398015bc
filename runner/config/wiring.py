"""Wiring of a stage: builds its components from the settings."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import runner
from runner.config import compose
from runner.config.settings import (
    Settings,
)
from runner.domain.executions import HOUR, Outcome, Window
from runner.drift.sequential import SequentialStopping
from runner.errors import BackgroundError, RecordError, SettingsError
from runner.models.local_endpoint import LocalEndpoint
from runner.models.remote import Remote
from runner.monitors.attributions import AttributionAnalysis
from runner.monitors.execution import Monitor
from runner.monitors.explaining import Explaining
from runner.monitors.result_writer import ResultWriter
from runner.protocols import Model, Track
from runner.publish.dispatch import publish_all
from runner.records.payloads import Body, Format
from runner.results.provenance import Provenance
from runner.scheduling.daemon.process import launch
from runner.sources.batch_transform import BatchTransformSource
from runner.sources.data import Data, FileFormat
from runner.sources.dataset import Dataset
from runner.sources.endpoint import EndpointSource
from runner.sources.merged import MergedReader
from runner.sources.source import WindowReader
from runner.stages.backfill import Backfill, BackfillStage
from runner.stages.baseline import Baseline, BaselineStage
from runner.stages.capture import Capture, CaptureStage
from runner.stages.daemon import Daemon, DaemonStage
from runner.stages.merge import Merge, MergeStage
from runner.stages.monitor import MonitorStage
from runner.stages.plan import Plan, PlanStage
from runner.stages.quickstart import Quickstart, QuickstartStage
from runner.stages.replay import Replay, ReplayStage
from runner.stages.report import ReportStage
from runner.stages.schedule import Schedules, ScheduleStage
from runner.stages.serve import Serve, ServeStage
from runner.stages.status import LedgerStatus, StatusStage
from runner.stages.traffic import Traffic, TrafficStage
from runner.urls import bearer_token

if TYPE_CHECKING:
    from runner.scheduling.daemon.supervisor import Supervisor
    from runner.scheduling.ledger.ledger import Ledger
    from runner.serving.data_capture import DataCapture

GRACE_SECONDS = 5.0
"""Seconds an execution may take to exit after SIGTERM before it is killed."""
EXPLAINING = {"quickstart", "plan", "baseline", "monitor"}
"""Stages that call the model."""
DEPENDENCIES = ("numpy", "polars", "hydra-core", "pydantic", "jmespath")
"""Packages whose versions are stored with each result."""


def build(settings: Settings, snapshot: str, track: Track) -> Callable[[], Outcome]:
    """Return the function that runs the configured stage.

    Args:
        settings: validated settings.
        snapshot: resolved configuration as YAML, stored with each result.
        track: progress display.

    Raises:
        SettingsError: if the stage does not support the source.
    """
    if settings.stage.kind in EXPLAINING and not isinstance(settings.model, Remote) and settings.model.deploy:
        endpoint = LocalEndpoint(
            settings.model, compose.serving_settings(snapshot), partial(compose.loopback_model, settings.data)
        )
        return partial(_within, endpoint, _stage(settings, snapshot, endpoint, track))
    return _stage(settings, snapshot, settings.model, track)


def _within(endpoint: LocalEndpoint, run: Callable[[], Outcome]) -> Outcome:
    with endpoint:
        return run()


def _stage(  # noqa: PLR0911, PLR0912  one for each stage
    settings: Settings, snapshot: str, model: Model, track: Track
) -> Callable[[], Outcome]:
    provenance = Provenance(snapshot, _versions(), time.perf_counter)
    stage = settings.stage
    match stage:
        case ReplayStage():
            return _replay(settings, stage, track).run
        case ServeStage():
            return _serve(settings, stage).run
        case TrafficStage():
            return _traffic(settings, stage, track).run
        case CaptureStage():
            source = WindowReader(settings.source, replace(settings.data, max_records=None), track)
            return Capture(stage, source, _inspection(settings)).run
        case MergeStage():
            return _merge(settings, stage, track).run
        case PlanStage():
            return _plan(settings, stage, model, track).run
        case BaselineStage():
            return _baseline(settings, model, provenance, track).run
        case MonitorStage():
            return partial(stage.run, _monitor(settings, model, provenance, track))
        case ReportStage():
            return partial(stage.run, settings.report)
        case ScheduleStage():
            return _schedules(settings, stage, snapshot).run
        case DaemonStage():
            return partial(_daemon, settings, stage)
        case BackfillStage():
            return _backfill(settings, stage, snapshot, track).run
        case StatusStage():
            lease = timedelta(seconds=settings.ledger.lease_seconds)
            return LedgerStatus(stage, partial(_ledger, settings), lease, _now).run
        case QuickstartStage():
            return _quickstart(settings, stage, model, provenance, track).run


def _now() -> datetime:
    return datetime.now(UTC)


def _ledger(settings: Settings) -> Ledger:
    from runner.scheduling.ledger.ledger import Ledger

    return Ledger(settings.ledger.url, settings.ledger.busy_seconds)


def _schedules(settings: Settings, stage: ScheduleStage, snapshot: str) -> Schedules:
    return Schedules(
        settings=stage,
        ledger=partial(_ledger, settings),
        name=settings.monitor.name,
        declared=partial(compose.declaration, settings, snapshot),
        clock=_now,
    )


def _backfill(settings: Settings, stage: BackfillStage, snapshot: str, track: Track) -> Backfill:
    """Return a backfill; it runs windows in order if the alert level depends on previous windows."""
    workers = stage.workers if settings.drift.evaluation_period == 1 else 1
    return Backfill(
        settings=stage,
        ledger=partial(_ledger, settings),
        supervisor=partial(_supervisor, settings, workers),
        declaration=compose.declaration(settings, snapshot),
        lease_seconds=settings.ledger.lease_seconds,
        clock=_now,
        track=track,
    )


def _daemon(settings: Settings, stage: DaemonStage) -> Outcome:
    from runner.scheduling.daemon.dispatcher import Dispatcher
    from runner.scheduling.daemon.health import serve_health
    from runner.scheduling.ledger.leadership import Leadership

    monitors = compose.declarations(stage.monitors)
    with _ledger(settings) as ledger:
        supervisor = _supervisor(settings, stage.workers, ledger)
        daemon = Daemon(
            settings=stage,
            ledger=ledger,
            leadership=Leadership(ledger.database),
            supervisor=supervisor,
            create_dispatcher=partial(Dispatcher, ledger, supervisor, _now, time.monotonic),
            monitors=monitors,
            health=None if stage.port is None else partial(serve_health, stage.host, stage.port),
            lease_seconds=settings.ledger.lease_seconds,
            keep=settings.ledger.keep,
            keep_results=compose.results_retention,
            clock=_now,
            stopwatch=time.monotonic,
        )
        return daemon.run()


def _supervisor(settings: Settings, workers: int, ledger: Ledger) -> Supervisor:
    from runner.scheduling.daemon.supervisor import HeartbeatMonitor, Supervisor

    return Supervisor(
        ledger=ledger,
        launch=partial(launch, ledger, compose.execution_settings),
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        workers=workers,
        grace_seconds=GRACE_SECONDS,
        heartbeats=HeartbeatMonitor(settings.ledger.lease_seconds, time.monotonic),
        clock=_now,
    )


def _quickstart(
    settings: Settings, stage: QuickstartStage, model: Model, provenance: Provenance, track: Track
) -> Quickstart:
    hours = stage.hours()
    monitor = _monitor(settings, model, provenance, track)
    return Quickstart(
        traffic=[partial(_replay(settings, hour, track).run, i * stage.records) for i, hour in enumerate(hours)],
        baseline=_baseline(settings, model, provenance, track).run,
        executions=[partial(monitor.run, Window(hour.start, hour.start + HOUR)) for hour in hours],
    )


def _replay(settings: Settings, stage: ReplayStage, track: Track) -> Replay:
    if not isinstance(settings.source, EndpointSource | BatchTransformSource):
        problem = "stage=replay supports source=endpoint and source=batch_transform"
        raise SettingsError([f"source.kind={settings.source.kind}: {problem}"])
    data = settings.data
    return Replay(
        settings=stage,
        dataset=Dataset(_given(data.traffic), data, "data.traffic"),
        model=settings.model,
        template=data.template,
        accept=data.accept_type,
        tree=settings.source.root,
        transform=isinstance(settings.source, BatchTransformSource),
        track=track,
    )


def _serve(settings: Settings, stage: ServeStage) -> Serve:
    return Serve(
        settings=stage,
        model=settings.model,
        fields=settings.data.fields,
        endpoint=settings.monitor.endpoint,
        variant=settings.monitor.variant,
        token=_token(stage.token_env),
        capture=_capture(settings) if settings.data_capture.enable_capture else None,
    )


def _token(variable: str) -> str | None:
    """Return the bearer token in an environment variable; None if it is not set.

    Raises:
        SettingsError: if the token cannot be sent in a header.
    """
    text = os.environ.get(variable, "")
    try:
        return bearer_token(text) if text else None
    except ValueError as error:
        raise SettingsError([f"stage.token_env: the environment variable {variable} {error}"]) from error


def _capture(settings: Settings) -> Callable[[Any], DataCapture]:
    from runner.serving.data_capture import DataCapture

    if not isinstance(settings.source, EndpointSource):
        problem = "data capture needs source=endpoint; otherwise set data_capture.enable_capture=false"
        raise SettingsError([f"source.kind={settings.source.kind}: {problem}"])
    choices = settings.data_capture.model_dump(exclude={"enable_capture"})
    return partial(DataCapture, root=settings.source.root, **choices)


def _traffic(settings: Settings, stage: TrafficStage, track: Track) -> Traffic:
    data = settings.data
    return Traffic(
        settings=stage,
        dataset=Dataset(_given(data.traffic), data, "data.traffic"),
        template=data.template,
        accept=data.accept_type,
        token=_token(stage.token_env),
        track=track,
    )


def _plan(settings: Settings, stage: PlanStage, model: Model, track: Track) -> Plan:
    remote = settings.model if isinstance(settings.model, Remote) else None
    return Plan(
        settings=stage,
        source=WindowReader(settings.source, settings.data, track),
        dataset=_dataset(settings.data),
        reference=settings.monitor.reference,
        explaining=_explaining(settings, model, track),
        certainty=_certainty(settings),
        canary_rows=settings.drift.canary_rows,
        price=remote.price_per_1k_calls if remote else None,
        most_per_second=remote.max_requests_per_second if remote else None,
        clock=time.perf_counter,
        target=_inspection(settings),
    )


def _merge(settings: Settings, stage: MergeStage, track: Track) -> Merge:
    if not isinstance(settings.source, EndpointSource):
        raise SettingsError([f"source.kind={settings.source.kind}: stage=merge supports source=endpoint"])
    return Merge(
        settings=stage,
        tree=settings.source,
        ground_truth=settings.paths.ground_truth,
        target=settings.paths.merge,
        summary=_inspection(settings),
        track=track,
    )


def _baseline(settings: Settings, model: Model, provenance: Provenance, track: Track) -> Baseline:
    return Baseline(
        name=settings.monitor.name,
        dataset=_dataset(settings.data),
        explaining=_explaining(settings, model, track),
        policy=settings.drift,
        save_local_shap_values=settings.shap.save_local_shap_values,
        writer=ResultWriter(settings.report, provenance),
        target=settings.paths.baseline,
    )


def _monitor(settings: Settings, model: Model, provenance: Provenance, track: Track) -> Monitor:
    analysis = AttributionAnalysis(
        explaining=_explaining(settings, model, track),
        reference=settings.monitor.reference,
        policy=settings.drift,
        stopping=_certainty(settings),
        merged=MergedReader(settings.paths.merge, settings.data),
        save_local_shap_values=settings.shap.save_local_shap_values,
    )
    return Monitor(
        name=settings.monitor.name,
        endpoint=settings.monitor.endpoint,
        source=WindowReader(settings.source, settings.data, track),
        analysis=analysis,
        writer=ResultWriter(settings.report, provenance),
        root=settings.paths.monitor,
        publish=partial(publish_all, settings.publish.sinks, sleep=time.sleep),
    )


def _explaining(settings: Settings, model: Model, track: Track) -> Explaining:
    rows = partial(_background_rows, settings)
    return Explaining(model, settings.shap.estimator(model, settings.engine), rows, settings.shap.summarize, track)


def _certainty(settings: Settings) -> SequentialStopping:
    return SequentialStopping(settings.shap.precision, settings.drift)


def _background_rows(settings: Settings) -> Sequence[Sequence[Any]] | None:
    """Return the rows of the SHAP baseline, which may have the shape of the dataset; None for the mean."""
    baseline, layout = settings.shap.baseline, settings.data.dataset_type
    if baseline == "mean":
        return None
    if isinstance(baseline, str):
        return Dataset(baseline, settings.data, "shap.baseline", "the SHAP baseline").read()[0].rows()
    try:
        return [
            values
            for row in baseline
            for values in ([row] if isinstance(row, list) else settings.data.fields.rows(Body([row], _json(layout))))
        ]
    except RecordError as error:
        raise BackgroundError(str(error)) from error


def _json(layout: FileFormat) -> Format:
    """Return the format of a row that is a JSON document."""
    return "application/json" if layout == "application/json" else "application/jsonlines"


def _inspection(settings: Settings) -> Path:
    return settings.paths.inspection / settings.monitor.endpoint / settings.monitor.variant


def _dataset(data: Data) -> Dataset:
    return Dataset(data.dataset or "", data, "data.dataset", labelled=True, max_records=data.max_records)


def _given(path: str | None) -> str:
    assert path is not None, "Settings._inputs checks it"  # noqa: S101
    return path


def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in DEPENDENCIES}
    return {"shapwatch": runner.__version__, "python": platform.python_version(), **packages}
