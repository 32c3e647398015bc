"""Manifests of a baselining, of an execution with violations, and of a failed execution."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from runner.domain.attributions import Calls
from runner.domain.drift import Effect, LabelRanking, Level, Parity, RankingResult
from runner.domain.executions import Status, Window
from runner.drift.performance import Quality
from runner.explain.background import BaselineScore
from runner.explain.preflight import Preflight
from runner.results.manifest import (
    BackgroundRows,
    CaptureCounts,
    Comparison,
    DatasetCounts,
    Effects,
    ExecutionTime,
    Explanation,
    Manifest,
    StandardErrors,
)

EXPLANATION = Explanation(
    estimator={"explainer": "kernel", "num_samples": 100, "seed": 0, "agg_method": "mean_abs", "use_logit": False},
    evaluations=1234,
    efficiency_residual=1e-15,
    standard_errors={"yes": StandardErrors(0.01, {"age": 0.002, "income": None})},
    background=BackgroundRows(("age", "income"), ((39, "low"), (None, "high"))),
    hashes={"analysis.json": "cd" * 32, "background": "ef" * 32, "model": None},
    preflight=Preflight(5, 1, 0.125, 0.75, None),
    calls=Calls(10, 1234, 56789, retries=1),
)
COMPARISON = Comparison(
    level=Level.WARNING,
    level_alone=Level.VIOLATION,
    effects=Effects(Effect(0.25, 0.125, 0.001), Effect(None, None, None)),
    verdict=RankingResult(0.9, (LabelRanking("yes", "yes", 0.8, 0.5, 0.7, ("a <i>note</i>",)),)),
    material=0.1,
    serving_parity=Parity(0.25, 10),
    quality=Quality(10, 0.5, 0.75, None, ("AUC is undefined",)),
    model_changed=None,
)
SCORES = (BaselineScore("yes", 0.25, 0.75), BaselineScore("no", 0.75, 0.5))
BASELINE = Manifest(
    stage="baseline",
    status=Status.COMPLETED,
    headline="Reference",
    sentence="12 records, 2 features.",
    monitor="m",
    versions={"python": "3.11"},
    command="shapwatch stage=baseline",
    notes=("a note",),
    counts=DatasetCounts(12),
    explanation=replace(EXPLANATION, background=replace(EXPLANATION.background, scores=SCORES)),
    timings={"read": 0.5},
)
WINDOW = Window.parse("2026-01-05T09")
COMPLETED = Manifest(
    stage="monitor",
    status=Status.COMPLETED_WITH_VIOLATIONS,
    headline="Drift",
    sentence="the <b>features</b> no longer rank as in the reference.",
    monitor="m",
    versions={"python": "3.11"},
    command="shapwatch stage=monitor",
    notes=("rejected, for example <u>a:1</u>",),
    counts=CaptureCounts(1, 12, 3, 2, 10, None, {"not_json": 2}),
    time=ExecutionTime("e", WINDOW, datetime(2026, 1, 5, 10, tzinfo=UTC)),
    explanation=EXPLANATION,
    comparison=COMPARISON,
    timings={"read": 0.5, "explain": 1.25},
)
FAILED = Manifest(
    stage="monitor",
    status=Status.FAILED,
    headline="Failed",
    sentence="Job inputs had no data",
    monitor="m",
    versions={"python": "3.11"},
    command="shapwatch stage=monitor",
    time=COMPLETED.time,
    failure_reason="Job inputs had no data",
    timings={},
)
