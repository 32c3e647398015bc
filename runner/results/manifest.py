"""The manifest: inputs, settings and results of a baselining or an execution, from which its report is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from math import isfinite
from typing import Any

import polars as pl

from runner.domain.attributions import Attributions, Calls
from runner.domain.drift import DriftResult, RankingResult
from runner.domain.executions import Status, Window
from runner.domain.records import Captured
from runner.domain.text import plural
from runner.drift.performance import Quality
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.results.directories import ANALYSIS, sha256
from runner.results.documents import dump

DIGITS = 3
"""Significant digits of a standard error."""


def header(
    stage: str, monitor: str, status: Status, summary: tuple[str, str], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the first part of a manifest, also of a failed execution; `summary` is a headline and a sentence."""
    headline, sentence = summary
    return {
        "stage": stage,
        "status": status,
        "headline": headline,
        "sentence": sentence,
        "monitor": monitor,
        "versions": dict(versions),
    }


def time_range(endpoint: str, window: Window, scheduled: datetime) -> dict[str, Any]:
    """Return the endpoint, the window and the scheduled time of an execution."""
    return {
        "endpoint": endpoint,
        "window": {"start": f"{window.start:%FT%TZ}", "end": f"{window.end:%FT%TZ}", "text": str(window)},
        "scheduled": f"{scheduled:%FT%TZ}",
    }


def counts(captured: Captured) -> dict[str, Any]:
    """Return the numbers of files, events and records that were read, used and rejected."""
    return {
        "files": len(captured.files),
        "events": captured.events,
        "outside": captured.outside,
        "probes": captured.probes,
        "records": captured.records,
        "sample": captured.sample,
        "rejected": captured.rejected,
    }


def model_quality(quality: Quality | str | None) -> dict[str, Any] | None:
    """Return the model's performance metrics, or the reason why they are missing; None if no labels were merged."""
    if quality is None or isinstance(quality, str):
        return None if quality is None else {"problem": quality}
    return asdict(quality)


def explanation(
    estimator: Estimator,
    attributions: Attributions,
    background: pl.DataFrame,
    analysis: bytes,
    **identities: str | None,
) -> dict[str, Any]:
    """Return the origin of attributions: estimator settings, background, evaluations, and the hashes of all inputs."""
    hashes = {
        ANALYSIS: sha256(analysis),
        "background": backgrounds.identity(background),
        "estimator": sha256(dump(estimator.settings)),
        **identities,
    }
    return {
        "estimator": estimator.settings,
        "evaluations": attributions.evaluations,
        "efficiency_residual": attributions.residual,
        "standard_errors": _errors(attributions),
        "background": {"names": background.columns, "rows": background.rows()},
        "hashes": hashes,
    }


def _errors(attributions: Attributions) -> dict[str, Any] | None:
    """Return the standard errors by label, for all local and for each global attribution; null if unknown."""
    errors = attributions.errors
    if errors is None:
        return None
    return {
        label: {
            "local": _rounded(errors.local_L[i]),
            "global": dict(zip(attributions.names, map(_rounded, errors.global_DL[:, i]), strict=True)),
        }
        for i, label in enumerate(attributions.labels)
    }


def _rounded(error: float) -> float | None:
    """Return an error with `DIGITS` digits (further ones depend on the batch size), or None if it is not finite."""
    return float(f"{error:.{DIGITS}g}") if isfinite(error) else None


def calls(before: Calls | None, after: Calls | None) -> dict[str, int] | None:
    """Return the difference of two counts of model calls, or None for a model in this process."""
    return None if before is None or after is None else asdict(after - before)


def call_notes(sent: Mapping[str, int] | None) -> list[str]:
    """Return notes on retries and on rejected batches."""
    notes = []
    if sent and sent["retries"]:
        retries = "1 retry" if sent["retries"] == 1 else f"{sent['retries']:,} retries"
        notes.append(f"{retries} in {plural(sent['requests'], 'model call')}")
    if sent and sent["fallbacks"]:
        notes.append("the endpoint rejected batches, so records were sent one at a time")
    return notes


def drift_summary(result: DriftResult | None) -> dict[str, Any]:
    """Return the drift levels, and the effects of the label with the largest attribution shift."""
    if result is None:
        return {"level": None, "level_alone": None, "effects": None}
    levels = {"level": result.level, "level_alone": result.alone}
    if not result.labels:
        return {**levels, "effects": None}
    worst = max(result.labels, key=lambda label: label.attribution_shift.value or 0.0)
    return {
        **levels,
        "effects": {
            "attribution_shift": asdict(worst.attribution_shift),
            "total_log2_change": asdict(worst.total_log2_change),
        },
    }


def ranking(verdict: RankingResult) -> dict[str, Any]:
    """Return the threshold and the nDCG figures of a verdict, by label."""
    labels = [
        {
            "label": drift.label,
            "reference_label": drift.reference_label,
            "ndcg": drift.ndcg,
            "floor": drift.floor,
            "chance": drift.chance,
            "violated": drift in verdict.violations,
            "notes": list(drift.notes),
        }
        for drift in verdict.drifts
    ]
    return {"threshold": verdict.threshold, "labels": labels}
