"""Manifests, attributions and drift results for the tests of reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import (
    Association,
    Canary,
    ChangedRecord,
    Contribution,
    DriftResult,
    Effect,
    FeatureDrift,
    Histogram,
    InputResult,
    LabelRanking,
    LabelResult,
    Level,
    OutputResult,
    Parity,
    RankingResult,
    RecordSample,
    SampledFeature,
    ScoreGroup,
    ScorePairs,
    SegmentResult,
    Value,
)
from runner.domain.executions import HistoryPoint, Status, Window
from runner.drift.effects import rank, share
from runner.explain.preflight import Preflight
from runner.report.render import Report
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST
from runner.results.documents import DriftDocument, dump_analysis, dump_drift
from runner.results.manifest import (
    BackgroundRows,
    CaptureCounts,
    Comparison,
    ExecutionTime,
    Explanation,
    Manifest,
)
from runner.results.manifest_file import dump_manifest

Section = TypeVar("Section", Manifest, Explanation, Comparison)

REPORT = Report("Title <&>", 20, None)
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
"""Names of features that are markup, code or long in some format."""
LABELS = ("yes", "<b>no</b>")
COUNTS = CaptureCounts(files=1, events=12, outside=0, probes=0, records=10, sample=None, rejected={"not_json": 2})
EXPLANATION = Explanation(
    estimator={"explainer": "kernel", "num_samples": 100, "seed": 0, "agg_method": "mean_abs", "use_logit": False},
    evaluations=99,
    efficiency_residual=1e-15,
    standard_errors=None,
    background=BackgroundRows((), ()),
    hashes={"model": "ab" * 32},
    preflight=Preflight(1, 1, 0.0, 1.0, None),
    calls=None,
)
COMPARISON = Comparison(
    level=None,
    level_alone=None,
    effects=None,
    verdict=RankingResult(0.9, tuple(LabelRanking(name, name, 0.8, 0.5, 0.7, ("a <i>note</i>",)) for name in LABELS)),
    material=0.1,
    serving_parity=Parity(0.25, 10),
    quality=None,
    model_changed=True,
)
SCORES = ScorePairs("yes", (0.5, 0.25, 1.0), (0.5, 0.75, 0.0), (ScoreGroup("City = <b>", 2, 4),))
NO_RANKING = RankingResult(0.9, ())
EXECUTION = Manifest(
    stage="monitor",
    status=Status.COMPLETED_WITH_VIOLATIONS,
    headline="Drift",
    sentence="the <b>features</b> do not rank as in the reference.",
    monitor="m",
    versions={"python": "3.11"},
    command="",
    notes=("rejected, for example <u>a:1</u>",),
    counts=COUNTS,
    time=ExecutionTime("e", Window.parse("2026-01-05T09"), datetime(2026, 1, 5, 10, tzinfo=UTC)),
    explanation=EXPLANATION,
    comparison=COMPARISON,
)
BASELINE = replace(EXECUTION, stage="baseline", headline="Reference", time=None, comparison=None)
FAILURE = replace(
    EXECUTION,
    status=Status.FAILED,
    headline="Failed",
    sentence="Job inputs had no data",
    failure_reason="Job inputs had no data",
    notes=(),
    counts=None,
    explanation=None,
    comparison=None,
)


def manifest(**changes: Any) -> Manifest:
    """Return the manifest of an execution with violations, after changes to fields of any of its sections."""
    explanation, comparison = _changed(EXPLANATION, changes), _changed(COMPARISON, changes)
    return _changed(replace(EXECUTION, explanation=explanation, comparison=comparison), changes)


def _changed(section: Section, changes: dict[str, Any]) -> Section:
    names = {field.name for field in fields(section)}
    return replace(section, **{name: value for name, value in changes.items() if name in names})


def attributions(names: list[str], seed: int = 0) -> GlobalAttributions:
    """Return random attributions of some features for two labels."""
    values_DL = np.random.default_rng(seed).random((len(names), 2))
    return GlobalAttributions(tuple(names), LABELS, values_DL, np.array([0.25, 0.75]))


def drift_result(live: GlobalAttributions, reference: GlobalAttributions) -> DriftResult:
    """Return the result of comparing two analyses, with effects and causes."""
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
                cause="another unit",
            )
            for d, name in enumerate(live.names)
        )
        effects = Effect(0.25, 0.125, 0.001), Effect(None, None, None), Effect(0.875, 0.9375, 0.5)
        labels.append(LabelResult(label, label, Level.WARNING, 1e-9, *effects, features))
    return DriftResult(Level.WARNING, Level.WARNING, 600, 300, 1e-4, 0.17, tuple(labels))


def full_drift_result(live: GlobalAttributions, reference: GlobalAttributions) -> DriftResult:
    """Return a result with all optional parts: histograms, classifier test, segments and canary."""
    numbers = Histogram((-0.5, 0.0, 0.25, 1234.5), (), (0.5, 0.25, 0.25), (0.125, 0.375, 0.5))
    categories = Histogram((), ("a <b>", "|", "a long name of all other values"), (0.5, 0.25, 0.25), (0.0, 0.5, 0.5))
    result = drift_result(live, reference)
    labels = []
    for label in result.labels:
        shown = {feature.name for feature in label.top_changes[:5]}
        features = tuple(
            replace(each, attributions=numbers, values=categories if i % 2 else numbers) if each.name in shown else each
            for i, each in enumerate(label.features)
        )
        labels.append(replace(label, features=features))
    few = SegmentResult("City = <i>", Level.INSUFFICIENT_DATA, 12, 3, ())
    segment = SegmentResult("Sex = 1", Level.VIOLATION, 1200, 150, tuple(labels))
    return replace(
        result,
        level_alone=Level.VIOLATION,
        labels=tuple(labels),
        segments=(few, segment),
        separability=Effect(0.875, 0.5625, 0.001),
        association=Association("Age", "City", 0.75, -0.125, 1e-6, Level.WARNING),
        inputs=(
            InputResult("Age", Level.NONE, 1.0, 0.0625, 0.0, 0.0, 0.0, 0.0, constant=False),
            InputResult(
                "City <b>", Level.VIOLATION, 1e-12, 0.5, 0.25, 0.5, 0.125, 0.25, constant=False, cause="'<i>' is new"
            ),
        ),
        outputs=tuple(
            OutputResult(label.label, Level.WARNING, 1e-9, 0.375, 0.25, 0.5, 0.125, 0.375, 1.0, numbers)
            for label in labels
        ),
        canary=Canary(50, False, 3e-16, 0.0),
    )


def record_sample(result: DriftResult) -> RecordSample:
    """Return records for the charts of a result: numbers, categories with markup, missing values and a group."""
    rng = np.random.default_rng(5)
    features = []
    for d, each in enumerate(result.labels[0].features[:12]):
        phi = [tuple(rng.normal(d / 10, 1, 40).round(4).tolist()) for _ in range(2)]
        numbers: list[tuple[Value, ...]] = [(None, *rng.lognormal(d, 1, 39).round(4).tolist()) for _ in range(2)]
        names: list[tuple[Value, ...]] = [("<b>", "a & b", None, "#15181e") * 10, ("'", '"', "x" * 99, "ok") * 10]
        none: list[tuple[Value, ...]] = [(), ()]
        values = (numbers, names, numbers, none)[d % 4]
        features.append(SampledFeature(each.name, phi[0], phi[1], values[0], values[1]))
    first = tuple(
        Contribution(each.name, each.live_values[1] if each.live_values else None, 0.5 - d / 9)
        for d, each in enumerate(features[:7])
    )
    records = (
        ChangedRecord(3, 0.9, 0.25, first, 4, -0.125, "event <i>", "2026-01-05T09:07:00Z"),
        ChangedRecord(0, 0.5, 0.25, first[:1], 0, 0.0),
    )
    return RecordSample(result.labels[0].label, tuple(features), records)


def history(count: int) -> tuple[HistoryPoint, ...]:
    """Return hourly results before 09:00, with a missing window in the middle and a failed second execution."""
    start = datetime(2026, 1, 5, 9, tzinfo=UTC) - timedelta(hours=count + 1)
    points = []
    for i in range(count):
        at = start + timedelta(hours=i + (i >= count // 2))
        figures = 0.99 + i / 10_000, 0.9, 0.03125, 0.0625, 0.125, 0.25
        hours = f"{at:%FT%TZ}", f"{at + timedelta(hours=1):%FT%TZ}"
        if i == 1:
            points.append(HistoryPoint(*hours, Status.FAILED, Level.NONE, Level.NONE, *(None,) * 7))
        else:
            shares = {"<i>moved</i>": 0.05 * i, "other": -0.4} if i > count // 2 else {}
            point = HistoryPoint(*hours, Status.COMPLETED, Level.NONE, Level.INFO, *figures, "ab" * 32, shares)
            points.append(replace(point, mean_score=0.25 + i / 100, mean_score_reference=0.25, records=100 * i))
    return tuple(points)


def drift_document(
    reference: GlobalAttributions,
    result: DriftResult | None = None,
    history: Sequence[HistoryPoint] = (),
    scores: ScorePairs | None = None,
) -> DriftDocument:
    """Return a drift.json; the ranking of a report comes from its manifest."""
    sample = record_sample(result) if result else None
    return DriftDocument(NO_RANKING, result, reference, tuple(history), sample, scores)


def files(
    manifest: Manifest, live: GlobalAttributions | None = None, drift: DriftDocument | None = None
) -> dict[str, bytes]:
    """Return the documents and the reports of a directory."""
    documents = {MANIFEST: dump_manifest(manifest)}
    if live is not None:
        documents[ANALYSIS] = dump_analysis(live)
    if drift is not None:
        documents[DRIFT] = dump_drift(drift)
    return {**documents, **REPORT.render(manifest, live, drift)}


def html(manifest: Manifest, live: GlobalAttributions | None = None, drift: DriftDocument | None = None) -> str:
    """Return the page of a report."""
    return files(manifest, live, drift)["report.html"].decode()


def full_report(names: list[str], manifest: Manifest = EXECUTION, windows: int = 12) -> dict[str, bytes]:
    """Return the files of an execution with all optional parts."""
    live, reference = attributions(names), attributions(names, 1)
    result = full_drift_result(live, reference)
    return files(manifest, live, drift_document(reference, result, history(windows), SCORES))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files to a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder
