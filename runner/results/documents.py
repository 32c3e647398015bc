"""The JSON documents that SageMaker's users know, byte for byte in their shape: analysis and constraint violations."""

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

LARGEST = 1e100
"""Attributions beyond it could not be added up."""


def analysis(attributions: GlobalAttributions) -> bytes:
    """Return the analysis.json of global attributions, features in their own order."""
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
    """Return the global attributions of an analysis.json, ours or SageMaker Clarify's.

    Raises:
        UnusableReference: naming `source`, when it is no such document.
    """
    try:
        explanations: dict[str, Any] = orjson.loads(data)["explanations"]["kernel_shap"]
        labels = tuple(explanations)
        names = tuple(explanations[labels[0]]["global_shap_values"])
        columns = [[_finite(explanations[label]["global_shap_values"][name]) for name in names] for label in labels]
        expected = [_finite(explanations[label]["expected_value"]) for label in labels]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        problem = f"is no analysis.json with explanations.kernel_shap ({type(error).__name__}: {error})"
        raise UnusableReference(source, problem) from error
    if not names or any(len(explanations[label]["global_shap_values"]) != len(names) for label in labels):
        raise UnusableReference(source, "its labels have no features, or different ones")
    return GlobalAttributions(names, labels, np.array(columns).T, np.array(expected))


def constraint_violations(verdict: RankingResult) -> bytes:
    """Return the constraint_violations.json of a verdict; the wording of the description is SageMaker's.

    Notes on how an unusual reference was judged follow the description.
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
    finding: DriftResult | None,
    verdict: RankingResult,
    reference: GlobalAttributions,
    history: Sequence[HistoryPoint] = (),
) -> bytes:
    """Return the drift.json: all that was found, null where a figure is undefined, and what it was compared with.

    Args:
        finding: None where the reference keeps no records.
        verdict: by the nDCG rule.
        reference: the values compared with.
        history: what the executions before said, oldest first.
    """
    rule = [asdict(each) for each in verdict.drifts]
    found = None if finding is None else asdict(finding)
    return dump(
        {
            "version": 1,
            "threshold": verdict.threshold,
            "ndcg": rule,
            "finding": found,
            "reference": _explanations(reference),
            "history": [asdict(point) for point in history],
        }
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LARGEST:
        raise ValueError(f"{value!r} is no attribution")
    return float(value)


def dump(document: dict[str, Any]) -> bytes:
    """Return a document as strict JSON, indented by four spaces, in UTF-8."""
    return (json.dumps(document, indent=4, ensure_ascii=False, allow_nan=False) + "\n").encode()
