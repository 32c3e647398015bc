"""Objects that tests of several packages build: a monitor, a baselining, attributions and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from runner.domain.attributions import Attributions
from runner.domain.executions import Window, utc
from runner.domain.records import Event, Payload
from runner.drift.sequential import SequentialStopping
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator, ModelExplainer
from runner.explain.explainers import Explainer
from runner.explain.explainers.exact import Exact
from runner.explain.task import Aggregation
from runner.models.linear import LinearModel
from runner.models.linear_learner import LinearLearner
from runner.monitors import Monitor, ResultWriter
from runner.monitors.attributions import AttributionAnalysis
from runner.protocols import Model
from runner.records.capture import encode
from runner.report.render import Report
from runner.results.manifest_file import Provenance
from runner.sources.dataset import Dataset
from runner.sources.endpoint import EndpointSource, MergedReader
from runner.sources.source import WindowReader
from runner.stages.baseline import Baseline
from tests.conftest import DEMO, SERIAL, untracked
from tests.drift.samples import POLICY
from tests.formula_models import Formula, additive
from tests.sources.reading import data_settings

WINDOW = Window.parse("2026-01-05T09")
"""The window of the monitor below."""
DATA = data_settings(headers=("a", "b", "c"))
REFERENCE_ROWS = ([0, 0, 0], [3, 2, 1], [6, 2, 1])
MODEL_EXPLAINER = ModelExplainer(
    model=Formula(additive),
    estimator=Estimator(
        explainer=Exact(),
        agg_method=Aggregation.MEAN_ABS,
        use_logit=False,
        max_batch_rows=100,
        groups={},
        engine=SERIAL,
    ),
    background_rows=lambda: None,
    summary=backgrounds.mean,
    track=untracked,
)
WRITER = ResultWriter(Report("title", 20, None), Provenance("settings: all\n", {"python": "3"}, lambda: 0.0, ()))

rng = np.random.default_rng(7)
FEATURES = pl.DataFrame(rng.normal(size=(12, 6)).round(3), schema=[f"f{d}" for d in range(6)])
BACKGROUND = pl.DataFrame(rng.normal(size=(2, 6)).round(3), schema=FEATURES.columns)

DEMO_MODEL = LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None)
"""The model of the quickstart."""
PUBLISHED = {
    (28, 2, 133937, 9, 13, 2, 0, 0, 4, 1, 15024, 0, 55, 37): '{"predicted_label":1,"score":0.989977359771728}',
    (43, 2, 72338, 12, 14, 2, 12, 0, 1, 1, 0, 0, 40, 37): '{"predicted_label":1,"score":0.504138827323913}',
}
"""Records and the responses that AWS's notebook shows for them."""


def baseline(root: Path, model: Model, **changes: Any) -> Baseline:
    """Return a baselining of three records."""
    dataset = root / "dataset.jsonl"
    dataset.write_bytes(b"".join(orjson.dumps({"features": row}) + b"\n" for row in REFERENCE_ROWS))
    parts: dict[str, Any] = {
        "model_explainer": replace(MODEL_EXPLAINER, model=model),
        "policy": POLICY,
        "save_local_shap_values": False,
        "writer": WRITER,
        "target": root / "reference",
        "source": WindowReader(EndpointSource("endpoint", str(root / "captures"), 1), DATA, untracked),
        "window": None,
        "dataset": Dataset(str(dataset), DATA, "data.dataset"),
        **changes,
    }
    return Baseline(name="m", **parts)


def monitor(root: Path, rows: list[list[Any]], scores: list[float] | None = None, **changes: Any) -> Monitor:
    """Return a monitor with a reference, and with one captured event of these rows; without rows with no event."""
    baseline(root, MODEL_EXPLAINER.model).run()
    if rows:
        write(root, "09/00-00-000-x.jsonl", event(*rows, scores=scores))
    share = changes.pop("share", 0.05)
    captures = EndpointSource("endpoint", str(root / "captures"), 1)
    analysis = AttributionAnalysis(
        model_explainer=MODEL_EXPLAINER,
        reference=root / "reference",
        policy=POLICY,
        stopping=SequentialStopping(None, POLICY),
        merged=MergedReader(str(root / "merge"), DATA),
        max_records=None,
        max_rejected_share=share,
        save_local_shap_values=False,
    )
    usual = Monitor(
        name="m",
        endpoint="e",
        source=WindowReader(captures, replace(DATA, max_rejected_share=share), untracked),
        analysis=analysis,
        writer=WRITER,
        root=root / "monitor",
        publish=lambda _: (),
    )
    return changed(usual, **changes)


def changed(monitor: Monitor, **changes: Any) -> Monitor:
    """Return a monitor with changed fields: its own, those of its analysis, or those of its explanation."""
    analysis = monitor.analysis
    assert isinstance(analysis, AttributionAnalysis)
    for part in (analysis.model_explainer, analysis, monitor):
        own = {name: changes.pop(name) for name in list(changes) if name in {field.name for field in fields(part)}}
        if isinstance(part, ModelExplainer):
            analysis = replace(analysis, model_explainer=replace(part, **own))
        elif isinstance(part, AttributionAnalysis):
            analysis = replace(analysis, **own)
        else:
            monitor = replace(monitor, analysis=analysis, **own)
    assert not changes, f"no such field: {changes}"
    return monitor


def event(
    *rows: list[Any], scores: list[float] | None = None, clock: str = "09:30:00", body: str | None = None
) -> bytes:
    """Return the capture line of an invocation with these rows, or with this body."""
    request = body or "\n".join(orjson.dumps({"features": row}).decode() for row in rows)
    lines = None if scores is None else "".join(f'{{"score":{score}}}\n' for score in scores)
    response = None if lines is None else Payload("application/jsonlines", lines, "JSON")
    at = utc(f"2026-01-05T{clock}Z")
    return encode(Event("id", at, Payload("application/jsonlines", request, "JSON"), response))


def write(root: Path, name: str, data: bytes) -> None:
    """Write a capture file, such as `09/a.jsonl`, for the monitor."""
    (path := root / "captures/2026/01/05" / name).parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def manifest(root: Path) -> Mapping[str, Any]:
    """Return the manifest of the monitor's execution over its window."""
    document: dict[str, Any] = orjson.loads((root / "monitor/e/m/2026/01/05/10/manifest.json").read_bytes())
    return document


def make_estimator(explainer: Explainer, **options: Any) -> Estimator:
    """Return an estimator with default options, or with others."""
    defaults = {"agg_method": Aggregation.MEAN_ABS, "use_logit": False, "max_batch_rows": 64, "groups": {}}
    return Estimator(explainer=explainer, **{**defaults, "engine": SERIAL, **options})


def explain(
    explainer: Explainer,
    model: Model,
    features: pl.DataFrame = FEATURES,
    background: pl.DataFrame = BACKGROUND,
    **options: Any,
) -> Attributions:
    """Return the attributions of FEATURES against BACKGROUND, or of other records."""
    return make_estimator(explainer, **options).explain(model, features, background, untracked)


def linear_model(link: Any, outputs: int = 1) -> LinearModel:
    """Return a model of `age`, `rate`, `member` and `region` with one or two outputs."""
    factors = (1.0, -0.5)[:outputs]
    return LinearModel(
        kind="linear",
        link=link,
        intercept=factors,
        coefficients={
            "age": tuple(0.05 * factor for factor in factors),
            "rate": factors,
            "member": tuple(-factor for factor in factors),
            "region": {"north": tuple(2 * factor for factor in factors), "south": factors},
        },
        label_headers=None,
        deploy=None,
    )


def file_contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by relative path, hidden files included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
