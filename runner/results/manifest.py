"""The manifest: what a baselining or an execution used, did and found, in one document that its report is made from."""

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
"""Significant ones of a standard error."""


def header(
    stage: str, monitor: str, status: Status, told: tuple[str, str], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return what comes first, also of a failure; `told` is the headline and the sentence behind it."""
    headline, sentence = told
    return {
        "stage": stage,
        "status": status,
        "headline": headline,
        "sentence": sentence,
        "monitor": monitor,
        "versions": dict(versions),
    }


def time_range(endpoint: str, window: Window, scheduled: datetime) -> dict[str, Any]:
    """Return where and when an execution looked, and the time it was scheduled for."""
    return {
        "endpoint": endpoint,
        "window": {"start": f"{window.start:%FT%TZ}", "end": f"{window.end:%FT%TZ}", "text": str(window)},
        "scheduled": f"{scheduled:%FT%TZ}",
    }


def counts(captured: Captured) -> dict[str, Any]:
    """Return how much of the window was seen, used and rejected."""
    return {
        "files": len(captured.files),
        "events": captured.events,
        "outside": captured.outside,
        "probes": captured.probes,
        "records": captured.records,
        "sample": captured.sample,
        "rejected": captured.rejected,
    }


def model_quality(found: Quality | str | None) -> dict[str, Any] | None:
    """Return how good the model was, or why that cannot be said; None where no labels were merged."""
    if found is None or isinstance(found, str):
        return None if found is None else {"problem": found}
    return asdict(found)


def explanation(
    estimator: Estimator,
    attributions: Attributions,
    background: pl.DataFrame,
    analysis: bytes,
    **identities: str | None,
) -> dict[str, Any]:
    """Return how the attributions came to be: what a later comparison needs, and the hashes of all that took part."""
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
    """Return the standard errors by label: one for all local attributions, one for each global; null if unknown."""
    errors = attributions.errors
    if errors is None:
        return None
    return {
        label: {
            "local": _digits(errors.local_L[i]),
            "global": dict(zip(attributions.names, map(_digits, errors.global_DL[:, i]), strict=True)),
        }
        for i, label in enumerate(attributions.labels)
    }


def _digits(error: float) -> float | None:
    """Return an error with as many digits as it can have; the rest depends on how records are batched."""
    return float(f"{error:.{DIGITS}g}") if isfinite(error) else None


def calls(before: Calls | None, after: Calls | None) -> dict[str, int] | None:
    """Return what was sent to the model between two counts, None where it is in this process."""
    return None if before is None or after is None else asdict(after - before)


def call_notes(sent: Mapping[str, int] | None) -> list[str]:
    """Return sentences on what did not go smoothly between us and the model."""
    if sent is None:
        return []
    told = [f"{sent['retries']} tries beyond the first were needed for {plural(sent['requests'], 'call')} to the model"]
    alone = "the endpoint refused batches, so that records were sent one by one"
    return told * bool(sent["retries"]) + [alone] * bool(sent["fallbacks"])


def drift_summary(finding: DriftResult | None) -> dict[str, Any]:
    """Return the levels, and the effects of the label where most of the attention moved."""
    if finding is None:
        return {"level": None, "level_alone": None, "effects": None}
    levels = {"level": finding.level, "level_alone": finding.alone}
    if not finding.labels:
        return {**levels, "effects": None}
    worst = max(finding.labels, key=lambda label: label.attribution_shift.value or 0.0)
    return {
        **levels,
        "effects": {
            "attribution_shift": asdict(worst.attribution_shift),
            "total_log2_change": asdict(worst.total_log2_change),
        },
    }


def ranking(verdict: RankingResult) -> dict[str, Any]:
    """Return the verdict with all its figures."""
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
