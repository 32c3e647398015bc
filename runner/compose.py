"""Hydra's configuration → validated settings → a stage that is ready to run.

With `cli` the only module that knows Hydra, and the only one that hands settings on; below it there are plain values.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

import runner
from runner.domain import HOUR, Outcome, Window
from runner.errors import BackgroundError, RecordError, SettingsError
from runner.executions import Provenance
from runner.explain.estimator import Estimator
from runner.explain.exact import Exact
from runner.explain.kernel import Kernel
from runner.models.http import Http
from runner.models.remote import Remote
from runner.models.shadow import Shadow
from runner.problems import describe
from runner.protocols import Model, Track
from runner.records.fields import Fields
from runner.records.payloads import Format
from runner.records.templates import Template
from runner.report.render import Report
from runner.serving.data_capture import DataCapture
from runner.settings import (
    BaselineStage,
    CaptureStage,
    Data,
    EndpointSource,
    FileSource,
    LoggerSource,
    MergeStage,
    MonitorStage,
    PlanStage,
    QuickstartStage,
    ReplayStage,
    ServeStage,
    Settings,
    TrafficStage,
    TransformSource,
)
from runner.sources.capture_tree import CaptureTree
from runner.sources.data_file import DataFile, FileFormat
from runner.sources.dataset import Dataset
from runner.sources.logger_tree import LoggerTree
from runner.sources.merged_tree import MergedTree
from runner.sources.single_file import SingleFile
from runner.sources.source import Reader, Source
from runner.sources.transform_tree import TransformTree
from runner.stages.baseline import Baseline
from runner.stages.capture import Capture
from runner.stages.merge import Merge
from runner.stages.monitor import Monitor
from runner.stages.plan import Plan
from runner.stages.quickstart import Quickstart
from runner.stages.replay import Replay
from runner.stages.serve import Serve
from runner.stages.traffic import Traffic

EXPLAINING = {"quickstart", "plan", "baseline", "monitor"}
"""The stages that ask the model on purpose."""
PACKAGE = Path(runner.__file__).parent
DEPENDENCIES = ("numpy", "polars", "hydra-core", "pydantic", "jmespath")


def shipped(folder: str) -> Path:
    """Return a folder that ships with the program: inside the installed package, or beside it in a checkout."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder


def validate(config: DictConfig) -> Settings:
    """Return the settings that a composed configuration holds.

    Raises:
        SettingsError: with every problem at once, each with its full key, the value got and what is allowed.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        raw: Any = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        reason = str(error).splitlines()[0]
        raise SettingsError([f"{key}: {reason}" if key else reason]) from error
    problems = [f"{key}: required, but not set; pass {key}=..." for key in missing]
    try:
        settings = Settings.model_validate(raw)
    except ValidationError as error:
        problems += [told for key, told in describe(error, raw) if key not in missing]
    if problems:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def build(settings: Settings, snapshot: str, track: Track) -> Callable[[], Outcome]:
    """Return what runs the configured stage.

    Args:
        settings: the validated settings.
        snapshot: the resolved configuration as YAML, stored beside each result.
        track: shows progress.
    """
    provenance = Provenance(snapshot, _versions(), time.perf_counter)
    if settings.stage.kind in EXPLAINING and not isinstance(settings.model, Remote) and settings.model.deploy:
        shadow = Shadow(settings.model, _served(snapshot), partial(_loopback, settings.data))
        return partial(_within, shadow, _stage(settings, shadow, provenance, track))
    return _stage(settings, settings.model, provenance, track)


def _within(shadow: Shadow, run: Callable[[], Outcome]) -> Outcome:
    with shadow:
        return run()


def _served(snapshot: str) -> str:
    """Return the configuration of a process that serves the model of a snapshot, on a free port, uncaptured."""
    config = {key: value for key, value in OmegaConf.create(snapshot).items() if key != "stage"}
    stage = OmegaConf.merge(_option("stage/serve"), {"port": 0, "attached": True})
    return OmegaConf.to_yaml(OmegaConf.merge(config, {"stage": stage, "data_capture": {"enable_capture": False}}))


def _loopback(data: Data, url: str) -> Http:
    """Return a model that is served on this machine, asked as the captured endpoint is."""
    config = OmegaConf.merge({"data": data.model_dump(), "model": _option("model/http")}, {"model": {"url": url}})
    values: Any = OmegaConf.to_container(config.model, resolve=True)
    return Http(**values)


def _option(name: str) -> Any:
    return OmegaConf.load(shipped("conf") / f"{name}.yaml")


def _stage(  # noqa: PLR0911  one for each stage
    settings: Settings, model: Model, provenance: Provenance, track: Track
) -> Callable[[], Outcome]:
    stage = settings.stage
    match stage:
        case ReplayStage():
            replay = _replay(settings, stage.rate, stage.batch_rows, stage.count, stage.seed, track)
            return partial(replay.run, stage.start, stage.rescale)
        case ServeStage():
            return _serve(settings, stage).run
        case TrafficStage():
            return partial(_traffic(settings, stage, track).run, stage.rescale)
        case CaptureStage():
            return partial(Capture(_source(settings, track), stage.save, _inspection(settings)).run, stage.window)
        case MergeStage():
            return partial(_merge(settings, stage, track).run, stage.window)
        case PlanStage():
            return partial(_plan(settings, model, track).run, stage.window)
        case BaselineStage():
            return _baseline(settings, model, provenance, track).run
        case MonitorStage():
            return partial(_monitor(settings, model, provenance, track).run, stage.window)
        case QuickstartStage():
            return _quickstart(settings, stage, model, provenance, track).run


def _quickstart(
    settings: Settings, stage: QuickstartStage, model: Model, provenance: Provenance, track: Track
) -> Quickstart:
    """Return three hours of traffic, an incident in the last, with baselining and an execution for each hour."""
    replay = _replay(settings, stage.records / HOUR.total_seconds(), 1, stage.records, 0, track)
    monitor = _monitor(settings, model, provenance, track)
    incidents: list[dict[str, float]] = [{}, {}, stage.rescale]
    starts = [stage.start + i * HOUR for i in range(len(incidents))]
    return Quickstart(
        traffic=[
            partial(replay.run, start, incident, i * stage.records)
            for i, (start, incident) in enumerate(zip(starts, incidents, strict=True))
        ],
        baseline=_baseline(settings, model, provenance, track).run,
        executions=[partial(monitor.run, Window(start, start + HOUR)) for start in starts],
    )


def _replay(settings: Settings, rate: float, batch_rows: int, count: int | None, seed: int, track: Track) -> Replay:
    if not isinstance(settings.source, EndpointSource | TransformSource):
        problem = "only captures of an endpoint or batch_transform can be replayed"
        raise SettingsError([f"source.kind={settings.source.kind}: {problem}"])
    data = settings.data
    return Replay(
        dataset=Dataset(_given(data.traffic), _data_file(settings), "data.traffic"),
        model=settings.model,
        template=_template(data),
        accept=data.accept_type,
        tree=settings.source.root,
        transform=isinstance(settings.source, TransformSource),
        rate=rate,
        batch_rows=batch_rows,
        count=count,
        seed=seed,
        track=track,
    )


def _serve(settings: Settings, stage: ServeStage) -> Serve:
    return Serve(
        model=settings.model,
        fields=_fields(settings),
        endpoint=settings.monitor.endpoint,
        variant=settings.monitor.variant,
        host=stage.host,
        port=stage.port,
        token=os.environ.get(stage.token_env),
        token_env=stage.token_env,
        capture=_capture(settings) if settings.data_capture.enable_capture else None,
        attached=stage.attached,
    )


def _capture(settings: Settings) -> Callable[[Any], DataCapture]:
    if not isinstance(settings.source, EndpointSource):
        problem = "an endpoint captures for source=endpoint; or set data_capture.enable_capture=false"
        raise SettingsError([f"source.kind={settings.source.kind}: {problem}"])
    choices = settings.data_capture.model_dump(exclude={"enable_capture"})
    return partial(DataCapture, root=settings.source.root, **choices)


def _traffic(settings: Settings, stage: TrafficStage, track: Track) -> Traffic:
    data = settings.data
    return Traffic(
        dataset=Dataset(_given(data.traffic), _data_file(settings), "data.traffic"),
        template=_template(data),
        accept=data.accept_type,
        url=stage.url,
        token=os.environ.get(stage.token_env),
        rate=stage.rate,
        batch_rows=stage.batch_rows,
        count=stage.count,
        loop=stage.loop,
        timeout_seconds=stage.timeout_seconds,
        track=track,
    )


def _plan(settings: Settings, model: Model, track: Track) -> Plan:
    remote = settings.model if isinstance(settings.model, Remote) else None
    return Plan(
        source=_source(settings, track),
        dataset=_dataset(settings),
        reference=settings.monitor.reference,
        model=model,
        estimator=_estimator(settings),
        background_rows=partial(_background_rows, settings),
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
        tree=CaptureTree(settings.source.root, _fields(settings), settings.source.neighbours),
        ground_truth=settings.paths.ground_truth,
        late_hours=stage.late_hours,
        target=settings.paths.merge,
        summary=_inspection(settings),
        track=track,
    )


def _baseline(settings: Settings, model: Model, provenance: Provenance, track: Track) -> Baseline:
    return Baseline(
        name=settings.monitor.name,
        dataset=_dataset(settings),
        model=model,
        estimator=_estimator(settings),
        background_rows=partial(_background_rows, settings),
        threshold=settings.drift.threshold,
        report=_report(settings),
        provenance=provenance,
        target=settings.paths.baseline,
        track=track,
    )


def _monitor(settings: Settings, model: Model, provenance: Provenance, track: Track) -> Monitor:
    return Monitor(
        name=settings.monitor.name,
        endpoint=settings.monitor.endpoint,
        source=_source(settings, track),
        merged=MergedTree(
            settings.paths.merge, _fields(settings), settings.data.ground_truth, settings.data.probability_threshold
        ),
        model=model,
        estimator=_estimator(settings),
        background_rows=partial(_background_rows, settings),
        reference=settings.monitor.reference,
        threshold=settings.drift.threshold,
        report=_report(settings),
        provenance=provenance,
        root=settings.paths.monitor,
        track=track,
    )


def _estimator(settings: Settings) -> Estimator:
    shap = settings.shap
    return Estimator(
        explainer=Exact() if shap.explainer == "exact" else Kernel(shap.num_samples, shap.seed),
        agg_method=shap.agg_method,
        use_logit=shap.use_logit,
        max_batch_rows=shap.max_batch_rows,
    )


def _background_rows(settings: Settings) -> Sequence[Sequence[Any]] | None:
    """Return the SHAP baseline as rows of values, None for the mean; rows may have the dataset's own shape."""
    baseline, layout = settings.shap.baseline, settings.data.dataset_type
    if baseline == "mean":
        return None
    if isinstance(baseline, str):
        return Dataset(baseline, _data_file(settings), "shap.baseline", "the SHAP baseline").read()[0].rows()
    try:
        return [
            values
            for row in baseline
            for values in ([row] if isinstance(row, list) else _fields(settings).rows([row], _json(layout)))
        ]
    except RecordError as error:
        raise BackgroundError(str(error)) from error


def _json(layout: FileFormat) -> Format:
    """Return how a row that is a JSON document is to be read."""
    return "application/json" if layout == "application/json" else "application/jsonlines"


def _inspection(settings: Settings) -> Path:
    return settings.paths.inspection / settings.monitor.endpoint / settings.monitor.variant


def _source(settings: Settings, track: Track) -> Source:
    reader: Reader
    match settings.source:
        case EndpointSource(root=root, neighbours=neighbours):
            reader = CaptureTree(root, _fields(settings), neighbours)
        case TransformSource(root=root):
            reader = TransformTree(root, _data_file(settings))
        case FileSource(path=path):
            reader = SingleFile(path, _data_file(settings))
        case LoggerSource(root=root):
            reader = LoggerTree(root, _fields(settings))
    return Source(reader, settings.data.max_rejected_share, track)


def _dataset(settings: Settings) -> Dataset:
    return Dataset(settings.data.dataset or "", _data_file(settings, labelled=True), "data.dataset")


def _template(data: Data) -> Template:
    return Template(data.content_type, data.content_template, data.record_template, data.headers)


def _data_file(settings: Settings, labelled: bool = False) -> DataFile:
    """Return how data files are read; a label given by its column's number is there only where records have labels."""
    data = settings.data
    label = data.label if labelled or not (data.label or "").isdecimal() else None
    return DataFile(Path(), "", _fields(settings), data.dataset_type, label, data.header)


def _fields(settings: Settings) -> Fields:
    data = settings.data
    return Fields(data.features, data.score, data.headers, data.content_type, data.accept_type, data.columnar)


def _report(settings: Settings) -> Report:
    return Report(shipped("reports_templates"), settings.report.title, settings.report.max_bars)


def _given(path: str | None) -> str:
    assert path is not None, "Settings._inputs checks it"  # noqa: S101
    return path


def _versions() -> dict[str, str]:
    packages = {name: metadata.version(name) for name in DEPENDENCIES}
    return {"shapwatch": runner.__version__, "python": platform.python_version(), **packages}
