"""The JSON documents of results: analysis.json and constraint_violations.json in SageMaker's format, and drift.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import orjson

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, HistoryPoint, RankingResult
from runner.errors import UnusableReference

DRIFT_VERSION = 2
EFFECTS = {
    "share_moved": "attribution_shift",
    "share_moved_noise": "attribution_shift_noise",
    "mass": "total_log2_change",
    "mass_noise": "total_log2_change_noise",
}
"""Keys of effects by their key in version 1."""
LARGEST = 1e100
"""Limit of the magnitude of attributions, so that their sums stay finite."""


def analysis(attributions: GlobalAttributions) -> bytes:
    """Return the analysis.json of global attributions; features keep their order."""
    return dump({"version": "1.0", "explanations": {"kernel_shap": _explanations(attributions)}})


def _explanations(attributions: GlobalAttributions) -> dict[str, Any]:
    return {
        label: {
            "global_shap_values": dict(zip(attributions.names, attributions.values_DL[:, i].tolist(), strict=True)),
            "expected_value": float(attributions.expected_L[i]),
        }
        for i, label in enumerate(attributions.labels)
    }


def read_analysis(data: bytes, source: str) -> GlobalAttributions:
    """Return the global attributions of an analysis.json, also one of SageMaker Clarify.

    Args:
        data: the bytes of the file.
        source: the path that errors name.

    Raises:
        UnusableReference: if the document has another structure.
    """
    try:
        explanations: dict[str, Any] = orjson.loads(data)["explanations"]["kernel_shap"]
        labels = tuple(explanations)
        names = tuple(explanations[labels[0]]["global_shap_values"])
        columns = [[_finite(explanations[label]["global_shap_values"][name]) for name in names] for label in labels]
        expected = [_finite(explanations[label]["expected_value"]) for label in labels]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        problem = f"expected an analysis.json with explanations.kernel_shap ({type(error).__name__}: {error})"
        raise UnusableReference(source, problem) from error
    if not names or any(len(explanations[label]["global_shap_values"]) != len(names) for label in labels):
        raise UnusableReference(source, "expected the same features for every label, and at least one feature")
    return GlobalAttributions(names, labels, np.array(columns).T, np.array(expected))


def constraint_violations(verdict: RankingResult) -> bytes:
    """Return the constraint_violations.json of a verdict, with descriptions worded as SageMaker words them.

    Notes on special cases of the ranking rule follow the description.
    """
    violations = [
        {
            "label": drift.label,
            "metric_name": "shap",
            "constraint_check_type": "feature_attribution_drift_check",
            "description": "; ".join(
                [f"Feature attribution drift {drift.ndcg} exceeds threshold {verdict.threshold}", *drift.notes]
            ),
        }
        for drift in verdict.violations
    ]
    return dump({"version": "1.0", "violations": violations})


def drift(
    result: DriftResult | None,
    verdict: RankingResult,
    reference: GlobalAttributions,
    history: Sequence[HistoryPoint] = (),
) -> bytes:
    """Return the drift.json: all drift statistics (null if undefined) and the reference values.

    Args:
        result: the statistical tests, None if the reference has no stored records.
        verdict: the result of the nDCG rule.
        reference: the global attributions of the reference.
        history: the results of earlier executions, oldest first.
    """
    return dump(
        {
            "version": DRIFT_VERSION,
            "threshold": verdict.threshold,
            "ndcg": [asdict(drift) for drift in verdict.drifts],
            "finding": None if result is None else asdict(result),
            "reference": _explanations(reference),
            "history": [asdict(point) for point in history],
        }
    )


def read_drift(data: bytes) -> dict[str, Any]:
    """Return a drift.json of this or an earlier version, with the keys of this version."""
    document: dict[str, Any] = json.loads(data)
    if document.get("version") == 1:
        result = document.get("finding") or {}
        labels = [*result.get("labels", ()), *(each for part in result.get("segments", ()) for each in part["labels"])]
        for holder in [*labels, *document.get("history", ())]:
            rename_effects(holder)
    return document


def rename_effects(holder: dict[str, Any]) -> None:
    """Give the effects in a document of version 1 the keys of this version."""
    for former, key in EFFECTS.items():
        if former in holder:
            holder[key] = holder.pop(former)


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError(f"{value!r} is not a finite number below {LARGEST:g}")
    return float(value)


def dump(document: dict[str, Any]) -> bytes:
    """Return a document as strict JSON, indented by four spaces, in UTF-8."""
    return (json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False) + "\n").encode()
