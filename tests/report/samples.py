"""Manifests, attributions and findings that reports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import (
    Canary,
    DriftResult,
    Effect,
    FeatureDrift,
    Histogram,
    LabelResult,
    Level,
    RankingResult,
    SegmentResult,
)
from runner.domain.executions import HistoryPoint, Status
from runner.drift.shares import rank, share
from runner.report.render import Report
from runner.results import documents
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST
from runner.results.documents import DriftDocument
from tests.cli_runner import CHECKOUT

REPORT = Report(CHECKOUT / "reports_templates", "Title <&>", 20)
HOSTILE = [
    "<script>document.title='owned'</script>",
    "\"quoted\" & 'single'",
    "</style><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "# %% [markdown] fake",
    "*bold* $x^2$ #eval(1) @label",
    "עברית ועוד",
    "🦊 emoji",
    "long " * 100,
    "l" * 500,
    "dots.and[brackets]",
]


def attributions(names: list[str], seed: int = 0) -> GlobalAttributions:
    """Return attributions of these features for two labels."""
    values_DL = np.random.default_rng(seed).random((len(names), 2))
    return GlobalAttributions(tuple(names), ("yes", "<b>no</b>"), values_DL, np.array([0.25, 0.75]))


def finding(live: GlobalAttributions, reference: GlobalAttributions) -> DriftResult:
    """Return a finding over two analyses, with effects and causes."""
    labels = []
    for i, label in enumerate(live.labels):
        before_D, now_D = reference.values_DL[:, i], live.values_DL[:, i]
        shares, ranks = (share(before_D), share(now_D)), (rank(before_D), rank(now_D))
        features = tuple(
            FeatureDrift(
                name=name,
                before=float(before_D[d]),
                now=float(now_D[d]),
                share_before=float(shares[0][d]),
                share_now=float(shares[1][d]),
                rank_before=int(ranks[0][d]),
                rank_now=int(ranks[1][d]),
                median_before=0.1,
                median_now=0.2,
                distance=1 / (d + 3),
                p=10.0**-d,
                cause="moved",
            )
            for d, name in enumerate(live.names)
        )
        effects = Effect(0.25, 0.125, 0.001), Effect(None, None, None), Effect(0.875, 0.9375, 0.5)
        labels.append(LabelResult(label, label, Level.WARNING, 1e-9, *effects, features))
    return DriftResult(Level.WARNING, Level.WARNING, 600, 300, 1e-4, 0.17, tuple(labels))


def whole(live: GlobalAttributions, reference: GlobalAttributions) -> DriftResult:
    """Return a finding with everything that there can be: distributions, separability, segments and a canary."""
    numbers = Histogram((-0.5, 0.0, 0.25, 1234.5), (), (0.5, 0.25, 0.25), (0.125, 0.375, 0.5))
    codes = Histogram((), ("a <b>", "|", "the others, of which there are many"), (0.5, 0.25, 0.25), (0.0, 0.5, 0.5))
    told = finding(live, reference)
    labels = []
    for label in told.labels:
        shown = {feature.name for feature in label.top_changes[:5]}
        features = tuple(
            replace(each, attributions=numbers, values=codes if i % 2 else numbers) if each.name in shown else each
            for i, each in enumerate(label.features)
        )
        labels.append(replace(label, features=features))
    few = SegmentResult("City = <i>", Level.INSUFFICIENT_DATA, 12, 3, ())
    part = SegmentResult("Sex = 1", Level.VIOLATION, 1200, 150, tuple(labels))
    canary = Canary(50, False, 3e-16, 0.0)
    return replace(
        told,
        alone=Level.VIOLATION,
        labels=tuple(labels),
        segments=(few, part),
        separability=Effect(0.875, 0.5625, 0.001),
        canary=canary,
    )


def points(count: int) -> list[HistoryPoint]:
    """Return what the windows before 09:00 said: hour after hour, but for one that is missing and one that failed."""
    start = datetime(2026, 1, 5, 9, tzinfo=UTC) - timedelta(hours=count + 1)
    told = []
    for i in range(count):
        at = start + timedelta(hours=i + (i >= count // 2))
        figures = 0.99 + i / 10_000, 0.9, 0.03125, 0.0625, 0.125, 0.25
        hours = f"{at:%FT%TZ}", f"{at + timedelta(hours=1):%FT%TZ}"
        if i == 1:
            told.append(HistoryPoint(*hours, Status.FAILED, Level.NONE, Level.NONE, *(None,) * 7))
        else:
            told.append(HistoryPoint(*hours, Status.COMPLETED, Level.NONE, Level.INFO, *figures, "ab" * 32))
    return told


def manifest(**changes: Any) -> dict[str, Any]:
    """Return the manifest of an execution with violations."""
    label = {
        "ndcg": 0.8,
        "floor": 0.5,
        "chance": 0.7,
        "violated": True,
        "notes": ["a <i>note</i>"],
    }
    return {
        "stage": "monitor",
        "status": "CompletedWithViolations",
        "headline": "Drift",
        "sentence": "the <b>features</b> no longer rank as in the reference.",
        "monitor": "m",
        "endpoint": "e",
        "window": {
            "start": "2026-01-05T09:00:00Z",
            "end": "2026-01-05T10:00:00Z",
            "text": "2026-01-05 09:00–10:00 UTC",
        },
        "scheduled": "2026-01-05T10:00:00Z",
        "counts": {"files": 1, "events": 12, "records": 10, "rejected": {"not_json": 2}, "evaluations": 99},
        "verdict": {
            "threshold": 0.9,
            "labels": [{"label": name, "reference_label": name, **label} for name in ("yes", "<b>no</b>")],
            "notes": [],
        },
        "material": 0.1,
        "estimator": {
            "explainer": "kernel",
            "num_samples": 100,
            "seed": 0,
            "agg_method": "mean_abs",
            "use_logit": False,
        },
        "efficiency_residual": 1e-15,
        "serving_parity": {"largest": 0.25, "records": 10},
        "model_changed": True,
        "hashes": {"model": "ab" * 32},
        "notes": ["rejected, for example <u>a:1</u>"],
        "versions": {"python": "3.11"},
        **changes,
    }


def failed() -> dict[str, Any]:
    """Return the manifest of an execution that failed."""
    keys = ("stage", "monitor", "endpoint", "window", "scheduled", "versions")
    told = {"status": "Failed", "headline": "Failed", "sentence": "Job inputs had no data", "notes": []}
    return {key: value for key, value in manifest().items() if key in keys} | told


def stored(
    manifest: dict[str, Any],
    live: GlobalAttributions | None = None,
    reference: GlobalAttributions | None = None,
    finding: DriftResult | None = None,
    history: Sequence[HistoryPoint] = (),
) -> dict[str, bytes]:
    """Return the documents of a directory, and the report in all forms."""
    given = {}
    if live is not None:
        given[ANALYSIS] = documents.dump_analysis(live)
    if reference is not None:
        given[DRIFT] = documents.dump_drift(DriftDocument(RankingResult(0.9, ()), finding, reference, tuple(history)))
    reports = REPORT.render(manifest, given.get(ANALYSIS), given.get(DRIFT))
    return {MANIFEST: documents.dump_json(manifest), **given, **reports}


def html(*given: Any) -> str:
    """Return the page of a report."""
    return stored(*given)["report.html"].decode()


def written(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files to a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
