"""The typed mirror of `conf/`: what every setting may be. No value is set here; values live in `conf/`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    StringConstraints,
    field_validator,
    model_validator,
)

from runner.domain import Window, utc
from runner.explain.aggregate import Aggregation
from runner.models.linear_learner import LinearLearner
from runner.records.fields import compiled


def _from_text(parse: Callable[[str], Any]) -> BeforeValidator:
    def parsed(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("expected a text")
        return parse(value)

    return BeforeValidator(parsed)


def _checked(expression: str) -> str:
    compiled(expression)
    return expression


def _name(text: str) -> str:
    """Return a name that SageMaker's rule allows; it is safe as a folder and as a metric label."""
    if len(text) > 63 or not re.fullmatch(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?", text):
        raise ValueError("expected 1 to 63 letters, digits and hyphens, no hyphen at either end")
    return text


def _path(text: str) -> Path:
    if not text.strip():
        raise ValueError("expected a path, got an empty text")
    return Path(text)


def _background(value: Any) -> Any:
    """Return the SHAP baseline as the word mean, a path or rows."""
    if isinstance(value, str):
        return value if value == "mean" else _path(value)
    if not isinstance(value, list) or not all(isinstance(row, list | dict) for row in value):
        raise ValueError("expected mean, a list of rows, or the path of a file")
    return value


def _instant(text: str) -> datetime:
    at = utc(text)
    if not 1970 <= at.year < 9000:
        raise ValueError(f"{text!r} is not between the years 1970 and 9000")
    return at


Count = Annotated[int, Field(strict=True, gt=0, lt=2**40)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Instant = Annotated[datetime, _from_text(_instant)]
Interval = Annotated[Window, _from_text(Window.parse)]
JmesPath = Annotated[str, _from_text(_checked)]
Name = Annotated[str, _from_text(_name)]

FeatureName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
FilePath = Annotated[Path, _from_text(_path)]
Background = Annotated[Literal["mean"] | Path | list[list[Any] | dict[Any, Any]], BeforeValidator(_background)]


class Node(BaseModel):
    """A node of the configuration: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class QuickstartStage(Node):
    """`stage=quickstart`."""

    kind: Literal["quickstart"]
    start: Instant
    records: Count
    rescale: dict[str, FiniteFloat]


class TrafficStage(Node):
    """`stage=traffic`."""

    kind: Literal["traffic"]
    start: Instant
    rate: Annotated[float, Field(ge=1e-3, le=1e6)]
    batch_rows: Count
    count: Count | None
    rescale: dict[str, FiniteFloat]
    seed: Seed


class CaptureStage(Node):
    """`stage=capture`."""

    kind: Literal["capture"]
    window: Interval


class BaselineStage(Node):
    """`stage=baseline`."""

    kind: Literal["baseline"]


class MonitorStage(Node):
    """`stage=monitor`."""

    kind: Literal["monitor"]
    window: Interval


class Data(Node):
    """`data`: the files, and where features and scores stand in their records."""

    dataset_type: Literal["application/jsonlines"]
    dataset: FilePath | None
    traffic: FilePath | None
    features: JmesPath
    score: JmesPath
    headers: tuple[FeatureName, ...] | None

    @field_validator("headers")
    @classmethod
    def _unique(cls, headers: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if headers is not None and not headers:
            raise ValueError("expected a name for each feature, or null")
        if twice := sorted({name for name in headers or () if (headers or ()).count(name) > 1}):
            raise ValueError(f"names must be unique, {twice} occur more than once")
        return headers


class Shap(Node):
    """`shap`: the estimator."""

    explainer: Literal["kernel", "exact"]
    baseline: Background
    num_samples: Count | None
    agg_method: Aggregation
    use_logit: bool
    seed: Seed
    max_batch_rows: Count


class Drift(Node):
    """`drift`: the rule of the alarm."""

    threshold: Annotated[FiniteFloat, Field(gt=0, le=1)]


class Monitor(Node):
    """`monitor`: what is watched."""

    name: Name
    endpoint: Name
    variant: Name
    reference: FilePath


class Report(Node):
    """`report`: the page."""

    title: str
    max_bars: Count


class Paths(Node):
    """`paths`: where everything is written."""

    root: FilePath
    capture: FilePath
    baseline: FilePath
    monitor: FilePath
    inspection: FilePath


class Settings(Node):
    """The whole configuration."""

    stage: Annotated[
        QuickstartStage | TrafficStage | CaptureStage | BaselineStage | MonitorStage, Field(discriminator="kind")
    ]
    data: Data
    model: LinearLearner
    shap: Shap
    drift: Drift
    monitor: Monitor
    report: Report
    paths: Paths

    @model_validator(mode="after")
    def _inputs(self) -> Settings:
        needed = {"baseline": ("dataset",), "traffic": ("traffic",), "quickstart": ("dataset", "traffic")}
        missing = [key for key in needed.get(self.stage.kind, ()) if getattr(self.data, key) is None]
        if missing:
            keys = " and ".join(f"data.{key}" for key in missing)
            raise ValueError(f"stage={self.stage.kind} needs {keys}: give the path of a JSON Lines file")
        return self
