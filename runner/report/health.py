"""The health strip: whether what was seen, explained and compared can carry the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from runner.domain.text import plural

Document = Mapping[str, Any]
Check = dict[str, str]


class State(StrEnum):
    """States of a check or a verdict, as the style sheets name them."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


GOOD, WARNING, BAD = State

PARITY_TOLERANCE = 1e-6
SHORT_HASH = 12
CHANGED = {True: ("changed", WARNING), False: ("unchanged", GOOD), None: ("unknown", WARNING)}
ENDPOINT = "behind an endpoint, whose model cannot be told from here"


def strip(manifest: Document, finding: Document) -> list[Check]:
    """Return for each check a name, a value, a state and an explanation.

    Args:
        manifest: the manifest.json.
        finding: of the drift.json, empty where there is none.
    """
    counts = manifest.get("counts")
    if counts is None:
        return []
    records = counts["records"]
    sample = counts.get("sample")
    told = plural(records, "record") if sample is None else f"{sample:,} of {plural(records, 'record')}, drawn"
    explained = _check("Explained", told, GOOD if records else BAD)
    checks = [*_captured(counts), explained, *_rejected(counts)]
    if "serving_parity" in manifest:
        checks.append(_parity(manifest["serving_parity"]))
    if finding.get("canary"):
        checks.append(_canary(finding["canary"]))
    if "model_changed" in manifest:
        checks.append(_model(manifest["model_changed"], manifest["hashes"]["model"]))
    if reference := manifest.get("hashes", {}).get("reference"):
        checks.append(_reference(reference, finding))
    if "estimator" in manifest:
        checks.append(_estimator(manifest))
    if manifest.get("calls") is not None:
        checks.append(_calls(manifest["calls"]))
    if manifest.get("quality") is not None:
        checks.append(_quality(manifest["quality"]))
    return checks


def doubt(checks: Sequence[Check]) -> str:
    """Return in words which checks put the verdict in doubt, empty where none does."""
    bad = [check for check in checks if check["state"] == BAD]
    told = [f"{check['name']}: {check['value']}" + (f" ({check['note']})" if check["note"] else "") for check in bad]
    return f"This verdict is in doubt. {'; '.join(told)}." if told else ""


def _check(name: str, value: str, state: State, note: str = "") -> Check:
    return {"name": name, "value": value, "state": state, "note": note}


def _captured(counts: Document) -> list[Check]:
    if "events" not in counts:
        return []
    events = counts["events"]
    left_out = [f"{plural(counts['probes'], 'probe')} of ours left out"] if counts.get("probes") else []
    if not events and counts.get("outside"):
        left_out.append(f"{plural(counts['outside'], 'event')} outside the window")
    captured = f"{plural(events, 'event')} in {plural(counts['files'], 'file')}"
    return [_check("Captured", captured, GOOD if events else BAD, ", ".join(left_out))]


def _rejected(counts: Document) -> list[Check]:
    if "rejected" not in counts:
        return []
    rejected = counts["rejected"]
    reasons = ", ".join(f"{kind.replace('_', ' ')} {count}" for kind, count in rejected.items())
    return [_check("Rejected", f"{sum(rejected.values()):,}", WARNING if rejected else GOOD, reasons)]


def _parity(parity: Document | None) -> Check:
    if parity is None:
        return _check("Serving parity", "not known", WARNING, "no captured score can be compared with the model's")
    same = parity["largest"] <= PARITY_TOLERANCE
    note = f"captured and recomputed scores differ by {parity['largest']:.1e} at most, {parity['records']} compared"
    return _check("Serving parity", "same scores" if same else "scores differ", GOOD if same else BAD, note)


def _canary(canary: Document) -> Check:
    """Return whether the model answers as it did on records that were kept."""
    note = f"{plural(canary['records'], 'kept record')} explained again: scores differ by "
    note += f"{canary['difference']:.1e} at most"
    note += "" if canary["moved"] is None else f", {canary['moved']:.1%} of the attention moved"
    value, state = ("moved", WARNING) if canary["changed"] else ("still", GOOD)
    return _check("Canary", value, state, note)


def _model(changed: bool | None, identity: str | None) -> Check:
    value, state = CHANGED[changed]
    now = ENDPOINT if identity is None else f"now {identity[:SHORT_HASH]}"
    return _check("Model", value, state, f"since the reference; {now}")


def _reference(identity: str, finding: Document) -> Check:
    kept = finding.get("rows_reference")
    return _check("Reference", identity[:SHORT_HASH], GOOD, f"keeps {plural(kept, 'record')}" if kept else "")


def _estimator(manifest: Document) -> Check:
    """Return how the attributions were computed, and their standard error: of the label where it is largest."""
    settings, residual = manifest["estimator"], manifest["efficiency_residual"]
    unit = settings.get("quantity") or ("log-odds" if settings["use_logit"] else "model output")
    note = f"in units of the {unit}, {settings['agg_method']}; Σφ + expected − score: {residual:.0e} at most"
    errors = [label["local"] for label in (manifest.get("standard_errors") or {}).values()]
    value = settings["explainer"] + (f" ({settings['compat']} compatible)" if settings.get("compat") else "")
    if errors and not any(errors) and None not in errors:
        return _check("Estimator", f"{value}, exact", GOOD, note)
    if "num_samples" in settings:
        samples = settings["num_samples"]
        value += ", default samples" if samples is None else f", {plural(samples, 'sample')}"
    if not errors or None in errors:
        return _check("Estimator", f"{value}; error unknown", GOOD, note)
    return _check("Estimator", f"{value}; local values ± {max(errors):.2g}", GOOD, f"± one standard error; {note}")


def _calls(calls: Mapping[str, int]) -> Check:
    """Return what went over the wire to the model."""
    note = f"{plural(calls['rows'], 'row')}, {calls['bytes'] / 1e6:,.1f} MB"
    note += f"; tried again: {calls['retries']:,}" if calls["retries"] else ""
    note += "; records one by one, since batches were refused" if calls["fallbacks"] else ""
    state = WARNING if calls["retries"] or calls["fallbacks"] else GOOD
    return _check("Calls to the model", f"{calls['requests']:,}", state, note)


def _quality(quality: Document) -> Check:
    """Return how well the scores agree with the labels that have become known."""
    if "problem" in quality:
        return _check("Model quality", "not known", WARNING, quality["problem"])
    figures = {"log loss": quality["log_loss"], "accuracy": quality["accuracy"]}
    told = [f"{name} {value:.4f}" for name, value in figures.items() if value is not None]
    value = "AUC undefined" if quality["auc"] is None else f"AUC {quality['auc']:.4f}"
    note = f"{', '.join(told)}, on {plural(quality['records'], 'record')} with labels"
    return _check("Model quality", value, GOOD, "; ".join([note, *quality["notes"]]))
