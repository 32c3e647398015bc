"""How a report came to be: settings, hashes, formulas, the command that makes it again, and the documents beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.results.directories import ANALYSIS, DRIFT, MANIFEST, SETTINGS, VIOLATIONS

FORMULAS = (
    (
        "nDCG",
        "compares two rankings of the features: gains are the reference attributions, the live ones supply only the "
        "order, each place i counts 1 / log2(i + 1), and the sum is divided by that of the reference's own order.",
    ),
    (
        "Share moved",
        "½ Σ |q − p| over the features, with their shares of all attribution, p in the reference and q live.",
    ),
    ("Growth", "log2 of all live attribution together, divided by all of the reference."),
    ("φ distance", "the largest difference of the two distribution functions of a feature's local attributions."),
    ("p (Holm)", "how often chance alone brings such a distance, corrected for the number of features and labels."),
    ("By chance", "what 99 of 100 divisions stay within, of reference and live records pooled and divided anew."),
)
"""What the figures are."""


def appendix(manifest: Mapping[str, Any], explained: bool, compared: bool) -> dict[str, Any]:
    """Return the appendix.

    Args:
        manifest: the manifest.json.
        explained: whether there is an analysis.json.
        compared: whether there is a drift.json.
    """
    violated = manifest["status"] == "CompletedWithViolations"
    there = {ANALYSIS: explained, DRIFT: compared, VIOLATIONS: violated}
    return {
        "formulas": FORMULAS if compared else (),
        "settings": _settings(manifest),
        "command": manifest.get("command") or "",
        "documents": [name for name in (ANALYSIS, DRIFT, VIOLATIONS, MANIFEST, SETTINGS) if there.get(name, True)],
    }


def _settings(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = [(f"shap.{key}", str(value)) for key, value in manifest.get("estimator", {}).items()]
    shown += [(f"sha256 of {name}", digest or "not known") for name, digest in manifest.get("hashes", {}).items()]
    return shown + [(name, version) for name, version in manifest["versions"].items()]
