"""What the templates receive: strings, numbers and plain rows, made from the JSON documents of a directory.

The page, the PDF and the notebook show the same strings, for all of them come from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from runner.domain import plural
from runner.drift.shares import rank, share

Document = Mapping[str, Any]

GOOD, WARNING, BAD = "good", "warning", "bad"
PARITY_TOLERANCE = 1e-6
SHORT_HASH = 12
MATERIAL_SHARE = 0.10
"""The largest mover is marked when it moved this much of all attribution."""

STATES = {
    "No drift": GOOD,
    "No material drift": GOOD,
    "Drift": BAD,
    "Severe drift": BAD,
    "No verdict": WARNING,
    "Too few records": WARNING,
    "Failed": BAD,
    "Reference": GOOD,
}


def page(manifest: Document, analysis: Document | None = None, drift: Document | None = None) -> dict[str, Any]:
    """Return the templates' context; a failed execution has no attributions, a baselining only live ones.

    Args:
        manifest: the manifest.json.
        analysis: the analysis.json, None where there is none.
        drift: the drift.json, None where nothing was compared.
    """
    sentence = manifest["sentence"]
    return {
        "headline": manifest["headline"],
        "state": STATES[manifest["headline"]],
        "sentence": sentence[:1].upper() + sentence[1:],
        "facts": _facts(manifest),
        "health": _health(manifest),
        "labels": [] if analysis is None else _labels(manifest, analysis, drift or {}),
        "notes": manifest["notes"],
        "settings": _settings(manifest),
    }


def _facts(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("Status", manifest["status"]), ("Monitor", manifest["monitor"])]
    if manifest["stage"] == "monitor":
        facts += [("Endpoint", manifest["endpoint"]), ("Window", manifest["window"]["text"])]
        facts += [("Scheduled", manifest["scheduled"].replace("T", " ").replace(":00Z", " UTC"))]
    return facts


def _health(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the health strip: for each check a name, a value, a state and an explanation."""
    counts = manifest.get("counts")
    if counts is None:
        return []
    strip = []
    if "events" in counts:
        captured = f"{plural(counts['events'], 'event')} in {plural(counts['files'], 'file')}"
        probes = f"{plural(counts['probes'], 'probe')} of ours left out" if counts.get("probes") else ""
        strip.append(_check("Captured", captured, GOOD if counts["events"] else BAD, probes))
    rejected = counts.get("rejected", {})
    reasons = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in rejected.items())
    strip.append(_check("Explained", plural(counts["records"], "record"), GOOD if counts["records"] else BAD, ""))
    if "rejected" in counts:
        total = sum(rejected.values())
        strip.append(_check("Rejected", f"{total:,}", WARNING if total else GOOD, reasons))
    if "serving_parity" in manifest:
        strip.append(_parity(manifest["serving_parity"]))
    if manifest.get("calls") is not None:
        strip.append(_calls(manifest["calls"]))
    if manifest.get("quality") is not None:
        strip.append(_quality(manifest["quality"]))
    if "estimator" in manifest:
        strip.append(_estimator(manifest))
    if "model_changed" in manifest:
        changed = manifest["model_changed"]
        value = {True: "changed", False: "unchanged", None: "unknown"}[changed]
        state = {True: WARNING, False: GOOD, None: WARNING}[changed]
        model = manifest["hashes"]["model"]
        now = (
            "behind an endpoint, whose model cannot be told from here" if model is None else f"now {model[:SHORT_HASH]}"
        )
        strip.append(_check("Model", value, state, f"since the reference; {now}"))
    return strip


def _check(name: str, value: str, state: str, note: str) -> dict[str, str]:
    return {"name": name, "value": value, "state": state, "note": note}


def _parity(parity: Mapping[str, Any] | None) -> dict[str, str]:
    if parity is None:
        return _check("Serving parity", "not known", WARNING, "no captured score can be compared with the model's")
    same = parity["largest"] <= PARITY_TOLERANCE
    note = f"captured and recomputed scores differ by {parity['largest']:.1e} at most, {parity['records']} compared"
    return _check("Serving parity", "same scores" if same else "scores differ", GOOD if same else BAD, note)


def _calls(calls: Mapping[str, int]) -> dict[str, str]:
    """Return what went over the wire to the model."""
    note = f"{plural(calls['rows'], 'row')}, {calls['bytes'] / 1e6:,.1f} MB"
    note += f"; tried again: {calls['retries']:,}" if calls["retries"] else ""
    note += "; records one by one, since batches were refused" if calls["fallbacks"] else ""
    state = WARNING if calls["retries"] or calls["fallbacks"] else GOOD
    return _check("Calls to the model", f"{calls['requests']:,}", state, note)


def _quality(quality: Mapping[str, Any]) -> dict[str, str]:
    """Return how well the scores agree with the labels that have become known."""
    if "problem" in quality:
        return _check("Model quality", "not known", WARNING, quality["problem"])
    figures = {"log loss": quality["log_loss"], "accuracy": quality["accuracy"]}
    told = [f"{name} {value:.4f}" for name, value in figures.items() if value is not None]
    value = "AUC undefined" if quality["auc"] is None else f"AUC {quality['auc']:.4f}"
    note = f"{', '.join(told)}, on {plural(quality['records'], 'record')} with labels"
    return _check("Model quality", value, GOOD, "; ".join([note, *quality["notes"]]))


def _estimator(manifest: Document) -> dict[str, str]:
    """Return how the attributions were computed, and their standard error: of the label where it is largest."""
    settings, residual = manifest["estimator"], manifest["efficiency_residual"]
    unit = "log-odds" if settings["use_logit"] else "model output"
    note = f"in units of the {unit}, {settings['agg_method']}; Σφ + expected − score: {residual:.0e} at most"
    if settings["explainer"] == "exact":
        return _check("Estimator", "exact", GOOD, note)
    samples = "default" if settings["num_samples"] is None else settings["num_samples"]
    value = f"kernel, {samples} samples"
    errors = [label["local"] for label in (manifest.get("standard_errors") or {}).values()]
    if not errors or None in errors:
        return _check("Estimator", f"{value}; error not known", GOOD, note)
    if not any(errors):
        return _check("Estimator", "kernel, all coalitions: exact", GOOD, note)
    return _check("Estimator", f"{value}; local values ± {max(errors):.2g}", GOOD, f"± one standard error; {note}")


def _labels(manifest: Document, analysis: Document, drift: Document) -> list[dict[str, Any]]:
    verdicts = {label["label"]: label for label in manifest.get("verdict", {}).get("labels", [])}
    found = {each["label"]: each for each in (drift.get("finding") or {}).get("labels", [])}
    references = drift.get("reference") or {}
    sections = []
    for label, live in analysis["explanations"]["kernel_shap"].items():
        now = live["global_shap_values"]
        reference = references.get(verdicts[label]["reference_label"]) if label in verdicts else None
        before = reference and reference["global_shap_values"]
        sections.append(
            {
                "label": label,
                "expected_value": _value(live["expected_value"]),
                "verdict": _verdict(verdicts[label], manifest["verdict"]["threshold"]) if label in verdicts else None,
                "effects": _effects(found[label]) if label in found else [],
                "causes": _causes(found[label]) if label in found else [],
                "features": _tested(_features(now, before), found.get(label)),
                "tested": label in found,
                "compared": before is not None,
            }
        )
    return sections


def _verdict(label: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    numbers = {
        name: "undefined" if label[name] is None else f"{label[name]:.4f}" for name in ("ndcg", "floor", "chance")
    }
    state = BAD if label["violated"] else GOOD
    return {
        **numbers,
        "threshold": f"{threshold:g}",
        "state": state,
        "violated": label["violated"],
        "notes": label["notes"],
    }


def _effects(found: Document) -> list[dict[str, str]]:
    """Return the effects, each beside what chance does to it."""
    rows = [
        ("Share of the attention that moved", found["share_moved"], "{:.1%}", "up to {}"),
        ("All attribution together, log2 of its growth", found["mass"], "{:+.2f}", "up to ±{}"),
        ("nDCG of the kept records", found["ndcg"], "{:.4f}", "down to {}"),
    ]
    return [
        {
            "name": name,
            "value": "undefined" if effect["value"] is None else form.format(effect["value"]),
            "noise": "" if effect["noise"] is None else within.format(form.format(effect["noise"]).lstrip("+")),
            "p": "" if effect["p"] is None else f"{effect['p']:.3g}",
        }
        for name, effect, form, within in rows
    ]


def _causes(found: Document) -> list[tuple[str, str]]:
    """Return what has probably happened to which features, those that have changed most surely first."""
    names: dict[str, list[str]] = {}
    for feature in sorted(found["features"], key=lambda feature: (feature["p"], -feature["distance"])):
        if feature["cause"]:
            names.setdefault(feature["cause"], []).append(feature["name"])
    return [(", ".join(those), cause) for cause, those in names.items()]


def _tested(rows: list[dict[str, Any]], found: Document | None) -> list[dict[str, Any]]:
    """Return rows with the test of each feature's local attributions."""
    tests = {feature["name"]: feature for feature in found["features"]} if found else {}
    for row in rows:
        if feature := tests.get(row["name"]):
            row |= {"distance_text": f"{feature['distance']:.2f}", "p_text": f"{feature['p']:.2g}"}
    return rows


def _features(now: Mapping[str, float], before: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """Return a row per feature, in the order of the reference ranking (of the live one where there is none)."""
    now_D = np.array(list(now.values()))
    columns: dict[str, list[Any]] = {
        "name": list(now),
        "now": now_D.tolist(),
        "rank_now": rank(abs(now_D)).tolist(),
        "share_now": share(now_D).tolist(),
    }
    if before is not None:
        before_D = np.array([before[name] for name in now])
        columns |= {
            "before": before_D.tolist(),
            "rank_before": rank(abs(before_D)).tolist(),
            "share_before": share(before_D).tolist(),
        }
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for row in rows:
        row |= {"now_text": _value(row["now"]), "share_now_text": f"{row['share_now']:.1%}"}
        if before is not None:
            moved = row["share_now"] - row["share_before"]
            row |= {
                "before_text": _value(row["before"]),
                "share_before_text": f"{row['share_before']:.1%}",
                "moved_text": f"{100 * moved:+.1f}",
                "moved": abs(moved),
            }
    largest = max(row.get("moved", 0.0) for row in rows)
    for row in rows:
        row["mover"] = row.get("moved") == largest >= MATERIAL_SHARE
    return sorted(rows, key=lambda row: row["rank_now" if before is None else "rank_before"])


def _settings(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    estimator = manifest.get("estimator", {})
    shown = [(f"shap.{key}", str(value)) for key, value in estimator.items()]
    shown += [(f"sha256 of {name}", digest or "not known") for name, digest in manifest.get("hashes", {}).items()]
    return shown + [(name, version) for name, version in manifest["versions"].items()]


def _value(value: float) -> str:
    return f"{value:.5g}"
