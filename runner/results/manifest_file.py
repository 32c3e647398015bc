"""The file manifest.json: writing a manifest, and reading one of this or an earlier version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from runner.domain.executions import Status, Window, utc
from runner.results.directory import MANIFEST, SETTINGS
from runner.results.documents import damage_as_error, dump_json, rename_effects, validated
from runner.results.manifest import TIME, Comparison, ExecutionTime, Explanation, Manifest
from runner.results.provenance import Provenance

STAGES = {"baseline", "monitor"}
"""Stages that write a manifest."""
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


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the manifest.json."""
    return dump_json(as_document(manifest))


def as_document(manifest: Manifest) -> dict[str, object]:
    """Return the JSON object of a manifest; keys of absent sections are left out."""
    values: dict[str, object] = {name: value for name, value in vars(manifest).items() if value is not None}
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


def _time_values(time: ExecutionTime) -> dict[str, object]:
    window = {"start": f"{time.window.start:{TIME}}", "end": f"{time.window.end:{TIME}}", "text": str(time.window)}
    return {"endpoint": time.endpoint, "window": window, "scheduled": f"{time.scheduled:{TIME}}"}


def _explanation_values(explanation: Explanation) -> dict[str, object]:
    errors = explanation.standard_errors
    return {
        **vars(explanation),
        "standard_errors": errors
        and {label: {"local": each.local, "global": each.by_feature} for label, each in errors.items()},
        "background": vars(explanation.background),
        "preflight": asdict(explanation.preflight),
        "calls": explanation.calls and asdict(explanation.calls),
    }


def _comparison_values(comparison: Comparison) -> dict[str, object]:
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
    with damage_as_error(MANIFEST):
        return validated(Manifest, _sections(document), SECTIONS)


def _sections(document: dict[str, Any]) -> dict[str, object]:
    """Return the values of a manifest's fields: each section reads its keys from the same object."""
    values: dict[str, object] = {"command": "", "counts": None, **document}
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


def _comparison_fields(document: dict[str, Any]) -> dict[str, object]:
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


def common_files(manifest: Manifest, reports: Mapping[str, bytes], provenance: Provenance) -> dict[str, bytes]:
    """Return the files that executions and baselining write in addition to their analysis."""
    return {**reports, SETTINGS: provenance.settings.encode(), MANIFEST: dump_manifest(manifest)}


def is_finished(target: Path) -> bool:
    """Return whether a directory contains an execution that did not fail, or an unreadable manifest."""
    try:
        manifest = read_manifest(target)
    except ValueError:
        return True
    return manifest is not None and manifest.status is not Status.FAILED


def stored_window(target: Path) -> Window | None:
    """Return the window of the execution in a directory, or None if it is unknown."""
    try:
        manifest = read_manifest(target)
    except ValueError:
        return None
    return manifest.time.window if manifest and manifest.time else None
