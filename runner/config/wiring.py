"""Settings → a stage that is ready to run: the only place that hands settings on; below it there are plain values."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.settings import (
    BackfillStage,
    DaemonStage,
    ScheduleStage,
    Settings,
    StatusStage,
)
from runner.domain.executions import HOUR, Execution, Outcome, Window
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.drift.sequential import SequentialStopping
from runner.errors import BackgroundError, RecordError, SettingsError
from runner.explain import background as backgrounds
from runner.explain.clusters import representatives
from runner.explain.estimator import Estimator
from runner.explain.explainers.clarify import Clarify
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.explain.explainers.linear import Linear
from runner.explain.explainers.tree import Trees
from runner.models.remote import Remote
from runner.paths import resource
from runner.protocols import Explainer, Model, Track, as_additive
from runner.publish.dispatch import tell
from runner.records.payloads import Format
from runner.report.render import Report
from runner.results.directories import Provenance
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.daemon.launch import launch, log_context
from runner.scheduling.daemon.process import end_with_parent
from runner.scheduling.daemon.pulse import HeartbeatMonitor
from runner.scheduling.daemon.result import answer
from runner.sources.batch_transform import BatchTransformSource
from runner.sources.data import Data, FileFormat
from runner.sources.dataset import Dataset
from runner.sources.endpoint import EndpointSource
from runner.sources.merged import MergedReader
from runner.sources.source import WindowReader
from runner.stages.backfill import Backfill
from runner.stages.baseline import Baseline, BaselineStage
from runner.stages.capture import Capture, CaptureStage
from runner.stages.daemon import Daemon
from runner.stages.merge import Merge, MergeStage
from runner.stages.monitor import Monitor, MonitorStage
from runner.stages.plan import Plan, PlanStage
from runner.stages.quickstart import Quickstart, QuickstartStage
from runner.stages.replay import Replay, ReplayStage
from runner.stages.report import Rendering, ReportStage
from runner.stages.schedule import Schedules
from runner.stages.serve import Serve, ServeStage
from runner.stages.status import State
from runner.stages.traffic import Traffic, TrafficStage
from runner.urls import bearer

if TYPE_CHECKING:
    import polars as pl

    from runner.scheduling.daemon.supervisor import Supervisor
    from runner.scheduling.ledger.ledger import Ledger
    from runner.serving.data_capture import DataCapture

STDOUT, STDERR = 1, 2
GRACE_SECONDS = 5.0
"""That the process of an execution has to end after SIGTERM."""


@dataclass(frozen=True)
class Others:
    """What is composed for other processes and other times.

    Attributes:
        declared: gives what these settings declare to the ledger.
        monitors: gives what other experiments declare.
        executing: gives the configuration of the process that runs an execution, as YAML.
        keeping: gives how long results are kept that come from some settings.
    """

    declared: Callable[[], Declaration]
    monitors: Callable[[Sequence[str]], list[Declaration]]
    executing: Callable[[Snapshot, ExecutionRecord], str]
    keeping: Callable[[Snapshot], timedelta | None]


def assemble(  # noqa: PLR0911, PLR0912  one for each stage
    settings: Settings, model: Model, provenance: Provenance, track: Track, others: Others
) -> Callable[[], Outcome]:
    """Return what runs the configured stage.

    Args:
        settings: the validated settings.
        model: what is explained; it may live elsewhere than `settings.model`.
        provenance: what is stored beside each result.
        track: shows progress.
        others: composes what is not run here and now.

    Raises:
        SettingsError: when the stage cannot work with that source.
    """
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
            execute = partial(_monitor(settings, model, provenance, track).run, stage.window, stage.scheduled)
            return partial(_attached, execute) if stage.attached else execute
        case ReportStage():
            return Rendering(_report(settings), stage.directory).run
        case ScheduleStage():
            return _schedules(settings, stage, others).run
        case DaemonStage():
            return partial(_daemon, settings, stage, others)
        case BackfillStage():
            return _backfill(settings, stage, others, track).run
        case StatusStage():
            lease = timedelta(seconds=settings.ledger.lease_seconds)
            return State(partial(_ledger, settings), stage.format, lease, _now).run
        case QuickstartStage():
            return _quickstart(settings, stage, model, provenance, track).run


def _attached(run: Callable[[], Execution]) -> Outcome:
    """Tell the outcome to the process that started this one, and end with that.

    Standard output is for the answer alone: what a model of the user's own prints goes to standard error.
    """
    told = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    end_with_parent(os.environ.get("TMPDIR") if log_context(os.environ) else None)
    execution = run()
    os.write(told, answer(execution))
    return Outcome("", execution.succeeded)


def _now() -> datetime:
    return datetime.now(UTC)


def _ledger(settings: Settings) -> Ledger:
    from runner.scheduling.ledger.ledger import Ledger

    return Ledger(settings.ledger.url, settings.ledger.busy_seconds)


def _schedules(settings: Settings, stage: ScheduleStage, others: Others) -> Schedules:
    return Schedules(
        ledger=partial(_ledger, settings),
        action=stage.action,
        format=stage.format,
        name=settings.monitor.name,
        declared=others.declared,
        running=stage.running,
        limit=stage.limit,
        clock=_now,
    )


def _backfill(settings: Settings, stage: BackfillStage, others: Others, track: Track) -> Backfill:
    """Return a backfill; where windows are judged together with those before them, it takes one after another."""
    workers = stage.workers if settings.drift.evaluation_period == 1 else 1
    return Backfill(
        ledger=partial(_ledger, settings),
        supervisor=partial(_supervisor, settings, others, workers),
        declaration=others.declared(),
        start=stage.start,
        end=stage.end,
        step=stage.step,
        redo=stage.redo,
        lease_seconds=settings.ledger.lease_seconds,
        clock=_now,
        track=track,
    )


def _daemon(settings: Settings, stage: DaemonStage, others: Others) -> Outcome:
    from runner.scheduling.daemon.dispatcher import Dispatcher
    from runner.scheduling.daemon.health import health
    from runner.scheduling.ledger.leadership import Leadership

    monitors = others.monitors(stage.monitors)
    with _ledger(settings) as ledger:
        supervisor = _supervisor(settings, others, stage.workers, ledger)
        daemon = Daemon(
            ledger=ledger,
            leadership=Leadership(ledger),
            supervisor=supervisor,
            create_dispatcher=partial(Dispatcher, ledger, supervisor, _now),
            monitors=monitors,
            health=None if stage.port is None else partial(health, stage.host, stage.port),
            poll_seconds=stage.poll_seconds,
            grace_seconds=stage.grace_seconds,
            lease_seconds=settings.ledger.lease_seconds,
            keep=settings.ledger.keep,
            keep_results=others.keeping,
            clock=_now,
        )
        return daemon.run()


def _supervisor(settings: Settings, others: Others, workers: int, ledger: Ledger) -> Supervisor:
    from runner.scheduling.daemon.supervisor import Supervisor

    return Supervisor(
        ledger=ledger,
        launch=partial(launch, ledger, others.executing),
        owner=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}",
        workers=workers,
        grace_seconds=GRACE_SECONDS,
        pulse=HeartbeatMonitor(settings.ledger.lease_seconds, time.monotonic),
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
        problem = "only captures of an endpoint or batch_transform can be replayed"
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
    """Return the bearer token of an environment variable, None where there is none.

    Raises:
        SettingsError: when it holds what no header can carry.
    """
    text = os.environ.get(variable, "")
    try:
        return bearer(text) if text else None
    except ValueError as error:
        raise SettingsError([f"stage.token_env: the environment variable {variable} {error}"]) from error


def _capture(settings: Settings) -> Callable[[Any], DataCapture]:
    from runner.serving.data_capture import DataCapture

    if not isinstance(settings.source, EndpointSource):
        problem = "an endpoint captures for source=endpoint; or set data_capture.enable_capture=false"
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
        model=model,
        estimator=_estimator(settings, model),
        background_rows=partial(_background_rows, settings),
        summary=_summary(settings),
        certainty=_certainty(settings),
        canary_rows=settings.drift.canary_rows,
        price=remote.price_per_1k_calls if remote else None,
        most_per_second=remote.max_requests_per_second if remote else None,
        clock=time.perf_counter,
        target=_inspection(settings),
        track=track,
    )


def _merge(settings: Settings, stage: MergeStage, track: Track) -> Merge:
    if not isinstance(settings.source, EndpointSource):
        raise SettingsError([f"source.kind={settings.source.kind}: only an endpoint's captures are merged with labels"])
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
        model=model,
        estimator=_estimator(settings, model),
        background_rows=partial(_background_rows, settings),
        summary=_summary(settings),
        policy=settings.drift,
        save_local_shap_values=settings.shap.save_local_shap_values,
        report=_report(settings),
        provenance=provenance,
        target=settings.paths.baseline,
        track=track,
    )


def _monitor(settings: Settings, model: Model, provenance: Provenance, track: Track) -> Monitor:
    return Monitor(
        name=settings.monitor.name,
        endpoint=settings.monitor.endpoint,
        source=WindowReader(settings.source, settings.data, track),
        merged=MergedReader(settings.paths.merge, settings.data),
        model=model,
        estimator=_estimator(settings, model),
        background_rows=partial(_background_rows, settings),
        reference=settings.monitor.reference,
        policy=settings.drift,
        certainty=_certainty(settings),
        save_local_shap_values=settings.shap.save_local_shap_values,
        report=_report(settings),
        provenance=provenance,
        root=settings.paths.monitor,
        tell=partial(tell, settings.publish.sinks, sleep=time.sleep),
        track=track,
    )


def _certainty(settings: Settings) -> SequentialStopping:
    return SequentialStopping(settings.shap.precision, settings.drift)


def _estimator(settings: Settings, model: Model) -> Estimator:
    shap = settings.shap
    return Estimator(
        explainer=_explainer(settings, model),
        agg_method=shap.agg_method,
        use_logit=shap.use_logit,
        max_batch_rows=shap.max_batch_rows,
        engine=settings.engine,
        groups=shap.groups,
    )


def _explainer(settings: Settings, model: Model) -> Explainer | Trees:
    """Return what `shap.explainer` names; `auto` is the closed form where there is one."""
    shap = settings.shap
    if shap.explainer == "exact":
        return Exact()
    if shap.explainer == "tree":
        return Trees()
    if shap.explainer == "linear" or (shap.explainer == "auto" and as_additive(model)):
        return Linear()
    return (Clarify if shap.compat == "clarify" else Kernel)(shap.num_samples, shap.seed)


def _summary(settings: Settings) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return what makes background rows of a dataset."""
    clusters, seed = settings.shap.num_clusters, settings.shap.seed
    if clusters is None:
        return backgrounds.mean
    return partial(representatives, clusters=None if clusters == "auto" else clusters, seed=seed)


def _background_rows(settings: Settings) -> Sequence[Sequence[Any]] | None:
    """Return the SHAP baseline as rows of values, None for the mean; rows may have the dataset's own shape."""
    baseline, layout = settings.shap.baseline, settings.data.dataset_type
    if baseline == "mean":
        return None
    if isinstance(baseline, str):
        return Dataset(baseline, settings.data, "shap.baseline", "the SHAP baseline").read()[0].rows()
    try:
        return [
            values
            for row in baseline
            for values in ([row] if isinstance(row, list) else settings.data.fields.rows([row], _json(layout)))
        ]
    except RecordError as error:
        raise BackgroundError(str(error)) from error


def _json(layout: FileFormat) -> Format:
    """Return how a row that is a JSON document is to be read."""
    return "application/json" if layout == "application/json" else "application/jsonlines"


def _inspection(settings: Settings) -> Path:
    return settings.paths.inspection / settings.monitor.endpoint / settings.monitor.variant


def _dataset(data: Data) -> Dataset:
    return Dataset(data.dataset or "", data, "data.dataset", labelled=True, max_records=data.max_records)


def _report(settings: Settings) -> Report:
    report = settings.report
    return Report(resource("reports_templates"), report.title, report.max_bars, report.templates)


def _given(path: str | None) -> str:
    assert path is not None, "Settings._inputs checks it"  # noqa: S101
    return path
