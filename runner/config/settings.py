"""The settings: the types of the sections of `conf/`. Default values are in `conf/` only."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    model_validator,
)
from pydantic.dataclasses import dataclass

from runner.drift.policy import DriftPolicy
from runner.engine import Engine
from runner.explain import background as backgrounds
from runner.explain.background import Summary
from runner.explain.estimator import EstimatorSettings
from runner.explain.task import Aggregation
from runner.models.http import Http
from runner.models.lightgbm import Lightgbm
from runner.models.linear import LinearModel
from runner.models.linear_learner import LinearLearner
from runner.models.onnx import Onnx
from runner.models.python import Python
from runner.models.sagemaker import SageMaker
from runner.models.sklearn import Sklearn
from runner.models.xgboost import Xgboost
from runner.protocols import Sink
from runner.publish.cloudwatch import CloudWatch
from runner.publish.notify import Notify
from runner.publish.otel import Otel
from runner.publish.prometheus import Prometheus
from runner.report.render import Report
from runner.scheduling.timetable import Duration, Recurring, Timetable
from runner.serving import CaptureSettings
from runner.sources.batch_transform import BatchTransformSource
from runner.sources.data import Data
from runner.sources.endpoint import EndpointSource
from runner.sources.file import FileSource
from runner.sources.kserve import KserveSource
from runner.stages.backfill import BackfillStage
from runner.stages.baseline import BaselineStage
from runner.stages.capture import CaptureStage
from runner.stages.daemon import DaemonStage
from runner.stages.merge import MergeStage
from runner.stages.monitor import MonitorStage
from runner.stages.plan import PlanStage
from runner.stages.replay import QuickstartStage, ReplayStage
from runner.stages.report import ReportStage
from runner.stages.schedule import ScheduleStage
from runner.stages.serve import ServeStage
from runner.stages.status import StatusStage
from runner.stages.traffic import TrafficStage
from runner.types import (
    Background,
    BaseUrl,
    FilePath,
    LedgerUrl,
    Location,
    Name,
    Seconds,
)


def _keep(length: timedelta) -> timedelta:
    if length <= timedelta():
        raise ValueError("expected a duration above PT0S, such as P30D; null never removes results")
    return length


Keep = Annotated[Duration, AfterValidator(_keep)]


class Node(BaseModel):
    """A section of the configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Shap(EstimatorSettings):
    """`shap`: the estimator, and its use in executions.

    Attributes:
        baseline: rows whose values replace those of masked features.
        precision: required probability that a sample of records and all records have the same verdict; None explains
            all records.
        save_local_shap_values: whether result directories contain the local attributions.
    """

    baseline: Background
    precision: Annotated[FiniteFloat, Field(ge=0.5, lt=1)] | None
    save_local_shap_values: bool

    def __post_init__(self) -> None:
        """Check that settings do not contradict each other.

        Raises:
            ValueError: if a setting has no effect or is not supported in combination with another one.
        """
        if self.num_clusters is not None and self.baseline != Summary.MEAN:
            raise ValueError("num_clusters: replaces shap.baseline=mean; set only one of them")
        if self.precision is not None and self.agg_method is Aggregation.MEDIAN:
            raise ValueError("precision: does not support shap.agg_method=median; use another one, or null")

    def summarize(self, dataset: pl.DataFrame) -> pl.DataFrame:
        """Return background rows made from a dataset.

        Raises:
            BackgroundError: if the mean of a column is not defined.
        """
        summary = Summary.MEDIAN_MODE if self.baseline == Summary.MEDIAN_MODE else Summary.MEAN
        return backgrounds.summarize(dataset, summary, self.num_clusters, self.seed)


class MonitorSettings(Node):
    """`monitor`: name, endpoint and reference of the monitor."""

    name: Name
    endpoint: Name
    variant: Name
    reference: FilePath
    keep: Keep | None


class LedgerSettings(Node):
    """`ledger`: the database of schedules and executions."""

    url: LedgerUrl
    busy_seconds: Seconds
    lease_seconds: Seconds
    keep: Keep | None


class Publish(Node):
    """`publish`: the selected sinks, each under its name.

    Attributes:
        base_url: address of the folder of all executions, for links in messages; None for paths.
    """

    base_url: BaseUrl | None = None

    cloudwatch: CloudWatch | None = None
    prometheus: Prometheus | None = None
    otel: Otel | None = None
    notify: Notify | None = None

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The selected sinks."""
        return tuple(sink for sink in (self.cloudwatch, self.prometheus, self.otel, self.notify) if sink)


class Paths(Node):
    """`paths`: folders of captures and results."""

    root: FilePath
    capture: Location
    baseline: FilePath
    monitor: FilePath
    inspection: FilePath
    ground_truth: Location
    merge: Location


class Settings(Node):
    """The whole configuration."""

    stage: Annotated[
        QuickstartStage
        | ReplayStage
        | ServeStage
        | TrafficStage
        | CaptureStage
        | MergeStage
        | PlanStage
        | BaselineStage
        | MonitorStage
        | ReportStage
        | ScheduleStage
        | DaemonStage
        | BackfillStage
        | StatusStage,
        Field(discriminator="kind"),
    ]
    source: Annotated[EndpointSource | BatchTransformSource | FileSource | KserveSource, Field(discriminator="kind")]
    data: Data
    data_capture: CaptureSettings
    model: Annotated[
        LinearLearner | LinearModel | Onnx | Sklearn | Xgboost | Lightgbm | Python | Http | SageMaker,
        Field(discriminator="kind"),
    ]
    shap: Shap
    engine: Engine
    drift: DriftPolicy
    monitor: MonitorSettings
    schedule: Timetable | None
    ledger: LedgerSettings
    report: Report
    publish: Publish
    paths: Paths

    @model_validator(mode="after")
    def _inputs(self) -> Settings:
        needed = {"replay": ["traffic"], "traffic": ["traffic"]}
        needed |= {"quickstart": ["dataset", "traffic"]}
        if isinstance(self.stage, PlanStage | BaselineStage) and self.stage.window is None:
            needed[self.stage.kind] = ["dataset"]
        missing = [key for key in needed.get(self.stage.kind, ()) if getattr(self.data, key) is None]
        if missing:
            keys = " and ".join(f"data.{key}" for key in missing)
            raise ValueError(f"stage={self.stage.kind} needs {keys}: give the path of a dataset")
        if self.monitor.keep and self.ledger.keep and self.monitor.keep > self.ledger.keep:
            raise ValueError("monitor.keep is longer than ledger.keep: the ledger finds the directories to remove")
        if self.schedule is None and self.stage.kind in {"schedule", "daemon", "backfill"}:
            raise ValueError(f"stage={self.stage.kind} needs a schedule: choose one, such as schedule=hourly")
        overlaps = isinstance(self.schedule, Recurring) and self.schedule.overlap == "allow"
        if overlaps and self.drift.evaluation_period > 1 and self.stage.kind in {"schedule", "daemon"}:
            both = f"schedule.overlap=allow and drift.evaluation_period={self.drift.evaluation_period}"
            raise ValueError(f"{both}: an alert needs the results of the previous windows; set schedule.overlap=wait")
        return self
