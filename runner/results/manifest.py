"""The manifest: inputs, settings and results of a baselining or an execution, from which its report is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import orjson
import polars as pl
from pydantic import TypeAdapter, ValidationError

from runner.domain.attributions import Attributions, Calls
from runner.domain.drift import DriftResult, Effect, Level, RankingResult
from runner.domain.executions import Status, Window, utc
from runner.domain.records import Captured
from runner.domain.text import plural
from runner.drift.performance import Quality
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.preflight import Parity, Preflight
from runner.results.directories import ANALYSIS, MANIFEST, SETTINGS, Provenance, sha256
from runner.results.documents import dump_json, rename_effects

DIGITS = 3
"""Significant digits of a standard error."""
STAGES = {"baseline", "monitor"}
"""Stages that write a manifest."""
TIME = "%FT%TZ"
"""Format of times, in UTC."""
HEAD_KEYS = ("stage", "status", "headline", "sentence", "monitor", "versions")
TIME_KEYS = ("endpoint", "window", "scheduled", "command")
KEYS = (
    *(*HEAD_KEYS, *TIME_KEYS),
    *("level", "level_alone", "effects", "counts", "verdict", "material"),
    *("estimator", "evaluations", "efficiency_residual", "standard_errors", "background", "hashes"),
    *("preflight", "calls", "serving_parity", "quality", "model_changed", "notes", "timings"),
)
"""Keys of a manifest, in the order of the file."""
FAILURE_KEYS = (*HEAD_KEYS, *TIME_KEYS, "failure_reason", "notes", "counts", "timings")
"""Keys of the manifest of a failed execution, in the order of the file."""
SECTIONS = {"time", "explanation", "comparison"}
"""Fields whose keys are at the top level of the file."""


@dataclass(frozen=True)
class DatasetCounts:
    """Number of records of a dataset."""

    records: int


@dataclass(frozen=True)
class CaptureCounts:
    """Numbers of files, events and records of a window.

    Attributes:
        files: number of files read.
        events: number of events in the window.
        outside: number of events of other windows in the same files.
        probes: number of events that shapwatch itself caused; they are left out.
        records: number of usable records.
        sample: number of records explained, drawn at random; None for all.
        rejected: number of rejected records by reason.
    """

    files: int
    events: int
    outside: int
    probes: int
    records: int
    sample: int | None
    rejected: Mapping[str, int]

    @classmethod
    def of(cls, captured: Captured) -> CaptureCounts:
        """Return the counts of the records of a window."""
        return cls(
            files=len(captured.files),
            events=captured.events,
            outside=captured.outside,
            probes=captured.probes,
            records=captured.records,
            sample=captured.sample,
            rejected=captured.rejected,
        )


@dataclass(frozen=True)
class ExecutionTime:
    """Endpoint, window and scheduled time of an execution."""

    endpoint: str
    window: Window
    scheduled: datetime


@dataclass(frozen=True)
class StandardErrors:
    """Standard errors of the attributions of one label; None if unknown.

    Attributes:
        local: root mean square over all local attributions.
        by_feature: errors of the global attributions.
    """

    local: float | None
    by_feature: Mapping[str, float | None]


@dataclass(frozen=True)
class BackgroundRows:
    """Rows that replace masked features."""

    names: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Explanation:
    """Origin and cost of attributions.

    Attributes:
        estimator: settings of the estimator.
        evaluations: number of rows sent to the model.
        efficiency_residual: largest violation of efficiency, |Σφ + expected − score|.
        standard_errors: errors by label; None if unknown.
        background: rows that replaced masked features.
        hashes: SHA-256 of analysis.json, background, estimator settings, model and other inputs; None if unknown.
        preflight: responses of the model before the explanation.
        calls: calls made to a remote model; None for a model in this process.
    """

    estimator: Mapping[str, object]
    evaluations: int
    efficiency_residual: float
    standard_errors: Mapping[str, StandardErrors] | None
    background: BackgroundRows
    hashes: Mapping[str, str | None]
    preflight: Preflight
    calls: Calls | None

    @classmethod
    def of(
        cls,
        estimator: Estimator,
        attributions: Attributions,
        background: pl.DataFrame,
        preflight: Preflight,
        calls: Calls | None,
        analysis: bytes,
        inputs: Mapping[str, str | None],
        canary_evaluations: int = 0,
    ) -> Explanation:
        """Describe attributions.

        Args:
            estimator: the estimator that computed them.
            attributions: the attributions.
            background: the rows that replaced masked features.
            preflight: the responses of the model before.
            calls: the calls to a remote model, or None.
            analysis: the analysis.json.
            inputs: the hashes of further inputs by name, such as `model`.
            canary_evaluations: number of rows sent to the model for canary records.
        """
        hashes = {
            ANALYSIS: sha256(analysis),
            "background": backgrounds.identity(background),
            "estimator": sha256(dump_json(estimator.settings)),
            **inputs,
        }
        return cls(
            estimator=estimator.settings,
            evaluations=attributions.evaluations + canary_evaluations,
            efficiency_residual=attributions.residual,
            standard_errors=_standard_errors(attributions),
            background=BackgroundRows(tuple(background.columns), tuple(background.rows())),
            hashes=hashes,
            preflight=preflight,
            calls=calls,
        )


@dataclass(frozen=True)
class Effects:
    """Effects of the label with the largest attribution shift."""

    attribution_shift: Effect
    total_log2_change: Effect

    @classmethod
    def of(cls, result: DriftResult | None) -> Effects | None:
        """Return the effects of a result, or None without tests or labels."""
        if result is None or not result.labels:
            return None
        worst = max(result.labels, key=lambda label: label.attribution_shift.value or 0.0)
        return cls(worst.attribution_shift, worst.total_log2_change)


@dataclass(frozen=True)
class Comparison:
    """Comparison of a window with the reference.

    Attributes:
        level, level_alone: alert level with the previous windows, and level of this window alone; None without tests.
        effects: largest effects; None without tests or labels.
        verdict: result of the nDCG rule; its notes are in the notes of the manifest.
        material: attribution shift from which a change is material; None if unknown.
        serving_parity: comparison of captured and recomputed scores; None if nothing was comparable.
        quality: performance of the model, or the reason why it is missing; None without ground truth.
        model_changed: whether the model differs from the one of the reference; None if unknown.
    """

    level: Level | None
    level_alone: Level | None
    effects: Effects | None
    verdict: RankingResult
    material: float | None
    serving_parity: Parity | None
    quality: Quality | str | None
    model_changed: bool | None


@dataclass(frozen=True)
class Manifest:
    """Inputs, settings and results of a baselining or an execution.

    Attributes:
        headline, sentence: result in two or three words, and in a sentence.
        versions: versions of shapwatch, Python and libraries.
        command: shell command that reproduces the result.
        notes: notes for readers of the report.
        counts: numbers of records; None if none were read.
        time: endpoint, window and scheduled time; None for a baselining.
        failure_reason: None unless the execution failed.
        explanation: origin of the attributions; None if the execution failed.
        comparison: comparison with the reference; None for a baselining and for a failed execution.
        timings: seconds per step.
    """

    stage: Literal["baseline", "monitor"]
    status: Status
    headline: str
    sentence: str
    monitor: str
    versions: Mapping[str, str]
    command: str
    notes: tuple[str, ...] = ()
    counts: DatasetCounts | CaptureCounts | None = None
    time: ExecutionTime | None = None
    failure_reason: str | None = None
    explanation: Explanation | None = None
    comparison: Comparison | None = None
    timings: Mapping[str, float] | None = None


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest.json."""
    return dump_json(as_document(manifest))


def as_document(manifest: Manifest) -> dict[str, Any]:
    """Return the JSON object of a manifest; keys of absent sections are left out."""
    values = {name: value for name, value in vars(manifest).items() if value is not None}
    values["notes"] = list(manifest.notes)
    if manifest.counts is not None:
        values["counts"] = asdict(manifest.counts)
    if manifest.time is not None:
        values |= _time_values(manifest.time)
    if manifest.explanation is not None:
        values |= _explanation_values(manifest.explanation)
    if manifest.comparison is not None:
        values |= _comparison_values(manifest.comparison)
    keys = KEYS if manifest.failure_reason is None else FAILURE_KEYS
    return {key: values[key] for key in keys if key in values}


def _time_values(time: ExecutionTime) -> dict[str, Any]:
    window = {"start": f"{time.window.start:{TIME}}", "end": f"{time.window.end:{TIME}}", "text": str(time.window)}
    return {"endpoint": time.endpoint, "window": window, "scheduled": f"{time.scheduled:{TIME}}"}


def _explanation_values(explanation: Explanation) -> dict[str, Any]:
    errors = explanation.standard_errors
    return {
        **vars(explanation),
        "standard_errors": errors
        and {label: {"local": each.local, "global": each.by_feature} for label, each in errors.items()},
        "background": vars(explanation.background),
        "preflight": asdict(explanation.preflight),
        "calls": explanation.calls and asdict(explanation.calls),
    }


def _comparison_values(comparison: Comparison) -> dict[str, Any]:
    ranking, quality = comparison.verdict, comparison.quality
    labels = [
        {
            "label": drift.label,
            "reference_label": drift.reference_label,
            "ndcg": drift.ndcg,
            "floor": drift.floor,
            "chance": drift.chance,
            "violated": drift in ranking.violations,
            "notes": list(drift.notes),
        }
        for drift in ranking.drifts
    ]
    return {
        **vars(comparison),
        "effects": comparison.effects and asdict(comparison.effects),
        "verdict": {"threshold": ranking.threshold, "labels": labels},
        "serving_parity": comparison.serving_parity and asdict(comparison.serving_parity),
        "quality": {"problem": quality} if isinstance(quality, str) else quality and asdict(quality),
    }


def read_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of a directory, or None if it contains none of shapwatch.

    Raises:
        ValueError: if the manifest cannot be read, or is damaged.
    """
    try:
        return load_manifest((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error.strerror})") from error


def load_manifest(data: bytes) -> Manifest | None:
    """Return a manifest of this or an earlier version, or None for another JSON document.

    Raises:
        ValueError: if the manifest is damaged.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{MANIFEST} is not JSON ({error})") from error
    if not isinstance(document, dict) or document.get("stage") not in STAGES:
        return None
    try:
        return _validator().validate_python(_sections(document))
    except ValidationError as error:
        problem, *_ = error.errors()
        key = ".".join(str(part) for part in problem["loc"] if part not in SECTIONS)
        raise ValueError(f"{MANIFEST} is damaged ({key}: {problem['msg']})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{MANIFEST} is damaged ({type(error).__name__}: {error})") from error


@cache
def _validator() -> TypeAdapter[Manifest]:
    return TypeAdapter(Manifest)


def _sections(document: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a manifest's fields: each section reads its keys from the same object."""
    values = {"command": "", "counts": None, **document}
    if isinstance(counts := values["counts"], dict) and "events" in counts:
        values["counts"] = {"outside": 0, "probes": 0, "sample": None, **counts}
    if "window" in document:
        window = Window(utc(document["window"]["start"]), utc(document["window"]["end"]))
        values["time"] = {**document, "window": window, "scheduled": utc(document["scheduled"])}
    if "estimator" in document:
        errors = document.get("standard_errors")
        values["explanation"] = {
            **document,
            "calls": document.get("calls"),
            "standard_errors": errors
            and {label: {"local": each["local"], "by_feature": each["global"]} for label, each in errors.items()},
        }
    if "verdict" in document:
        values["comparison"] = _comparison_fields(document)
    return values


def _comparison_fields(document: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a comparison's fields, also from a manifest of an earlier version."""
    level, quality, effects = document.get("level"), document.get("quality"), document.get("effects")
    if effects is not None:
        rename_effects(effects)
    return {
        "level": level,
        "level_alone": document.get("level_alone", level),
        "effects": effects,
        "verdict": {"threshold": document["verdict"]["threshold"], "drifts": document["verdict"]["labels"]},
        "material": document.get("material"),
        "serving_parity": document.get("serving_parity"),
        "quality": quality["problem"] if quality and "problem" in quality else quality,
        "model_changed": document.get("model_changed"),
    }


def _standard_errors(attributions: Attributions) -> dict[str, StandardErrors] | None:
    """Return the standard errors by label, or None if they are unknown."""
    errors = attributions.errors
    if errors is None:
        return None
    return {
        label: StandardErrors(
            _rounded(errors.local_L[i]),
            dict(zip(attributions.names, map(_rounded, errors.global_DL[:, i]), strict=True)),
        )
        for i, label in enumerate(attributions.labels)
    }


def _rounded(error: float) -> float | None:
    """Return an error with `DIGITS` digits (further ones depend on the batch size), or None if it is not finite."""
    return float(f"{error:.{DIGITS}g}") if isfinite(error) else None


def common_files(manifest: Manifest, reports: Mapping[str, bytes], provenance: Provenance) -> dict[str, bytes]:
    """Return the files that executions and baselining write in addition to their analysis."""
    return {**reports, SETTINGS: provenance.settings.encode(), MANIFEST: dump_manifest(manifest)}


def calls_between(before: Calls | None, after: Calls | None) -> Calls | None:
    """Return the difference of two counts of model calls, or None for a model in this process."""
    return None if before is None or after is None else after - before


def call_notes(calls: Calls | None) -> list[str]:
    """Return notes on retries and on rejected batches."""
    notes = []
    if calls and calls.retries:
        retries = "1 retry" if calls.retries == 1 else f"{calls.retries:,} retries"
        notes.append(f"{retries} in {plural(calls.requests, 'model call')}")
    if calls and calls.fallbacks:
        notes.append("the endpoint rejected batches, so records were sent one at a time")
    return notes
