"""Health checks: whether captured, explained and compared records support the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.domain.attributions import Calls
from runner.domain.drift import Canary, DriftResult, Level, Parity
from runner.domain.numbers import plural
from runner.drift.performance import Quality
from runner.explain.background import BaselineScore, most_unusual
from runner.results.manifest import CaptureCounts, DatasetCounts, Explanation, Manifest, compared

SHORT_HASH = 12
"""Number of characters of a SHA-256 that are shown."""


class State(StrEnum):
    """State of a check or a verdict; the style sheets use the same names."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


class Mark(StrEnum):
    """Mark of a level; style sheets use the same names."""

    VIOLATION = "violation"
    WARNING = "warning"
    INFO = "info"
    NONE = "none"
    DOUBT = "doubt"
    FAILED = "failed"
    FEW = "few"
    OK = "ok"

    @classmethod
    def of(cls, level: Level) -> Mark:
        """Return the mark of a level."""
        return cls.FEW if level is Level.INSUFFICIENT_DATA else cls(level)

    @property
    def words(self) -> str:
        """The mark in words."""
        return WORDS[self]

    @property
    def is_alert(self) -> bool:
        """Whether somebody should look at it."""
        return self in {Mark.VIOLATION, Mark.WARNING, Mark.INFO, Mark.DOUBT}


WORDS = {
    Mark.VIOLATION: "Violation",
    Mark.WARNING: "Warning",
    Mark.INFO: "Info",
    Mark.NONE: "No drift",
    Mark.DOUBT: "In doubt",
    Mark.FAILED: "Failed",
    Mark.FEW: "Too few records",
    Mark.OK: "OK",
}
"""Marks in words."""
GOOD, WARNING, BAD = State
CHANGED = {True: ("changed", WARNING), False: ("unchanged", GOOD), None: ("unknown", WARNING)}


@dataclass(frozen=True)
class Check:
    """Result of a health check; `note` explains it, and may be empty."""

    name: str
    value: str
    state: State
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" + (f" ({self.note})" if self.note else "")


def checks(manifest: Manifest, result: DriftResult | None) -> Iterator[Check]:
    """Yield the checks of an execution or a baselining; `result` is None without statistical tests."""
    comparison, explanation = manifest.comparison, manifest.explanation
    if manifest.counts is not None:
        yield from _counts(manifest.counts, GOOD if manifest.is_empty else BAD)
    if comparison is not None:
        yield _parity(comparison.serving_parity)
    if result is not None and result.canary is not None:
        yield _canary(result.canary)
    if explanation is None:
        return
    if comparison is not None:
        yield _model(comparison.model_changed, explanation.hashes.get("model"))
    if reference := explanation.hashes.get("reference"):
        yield _reference(reference, result)
    if explanation.background.scores:
        yield _baseline(explanation.background.scores)
    yield _estimator(explanation)
    if explanation.calls is not None:
        yield _calls(explanation.calls)
    if comparison is not None and comparison.quality is not None:
        yield _quality(comparison.quality)


def doubt(checks: Sequence[Check]) -> str:
    """Return a sentence on the failed checks, which make the verdict unreliable; empty if none failed."""
    failed = "; ".join(str(check) for check in checks if check.state is BAD)
    return f"This verdict is unreliable. {failed}." if failed else ""


def _counts(counts: CaptureCounts | DatasetCounts, without: State) -> Iterator[Check]:
    """Yield the checks of counts; `without` is the state of a window without events or records."""
    if isinstance(counts, DatasetCounts):
        yield _explained(counts.records, None, without)
        return
    yield _captured(counts, without)
    yield _explained(counts.records, counts.sample, without, counts.random)
    yield _rejected(counts)


def _captured(counts: CaptureCounts, without: State) -> Check:
    notes = [f"{plural(counts.probes, 'call')} by shapwatch itself left out"] if counts.probes else []
    if not counts.events and counts.outside:
        notes.append(f"{plural(counts.outside, 'event')} outside the window")
    captured = f"{plural(counts.events, 'event')}, {plural(counts.files, 'file')} read"
    return Check("Captured", captured, GOOD if counts.events else without, ", ".join(notes))


def _explained(records: int, sample: int | None, without: State, random: int | None = None) -> Check:
    total, state = plural(records, "record"), GOOD if records else without
    if sample is None:
        return Check("Explained", total, state)
    note = "random sample"
    if random is not None:
        note += f" of {random:,}, and {sample - random:,} more with values far outside the reference's range"
    return Check("Explained", f"{sample:,} of {total}", state, note)


def _rejected(counts: CaptureCounts) -> Check:
    reasons = ", ".join(f"{kind.replace('_', ' ')}: {count:,}" for kind, count in counts.rejected.items())
    rejected = plural(sum(counts.rejected.values()), "record")
    return Check("Rejected", rejected, WARNING if counts.rejected else GOOD, reasons)


def _parity(parity: Parity | None) -> Check:
    if parity is None:
        return Check("Serving parity", "unknown", WARNING, "no captured scores to compare with the model's")
    same = parity.same
    records = plural(parity.records, "record")
    note = f"captured and recomputed scores of {records} differ by up to {parity.largest:.2g}"
    return Check("Serving parity", "same scores" if same else "scores differ", GOOD if same else BAD, note)


def _canary(canary: Canary) -> Check:
    """Describe differences between the current model and the model of the reference on the canary records."""
    value, state = CHANGED[canary.changed]
    note = f"{plural(canary.records, 'reference record')} explained again: "
    note += f"scores differ by up to {canary.difference:.2g}"
    note += "" if canary.attribution_shift is None else f", attribution shift {canary.attribution_shift:.1%}"
    return Check("Canary", f"scores {value}", state, note)


def _model(changed: bool | None, identity: str | None) -> Check:
    value, state = CHANGED[changed]
    note = "the model of an endpoint has no hash" if identity is None else f"SHA-256 {identity[:SHORT_HASH]}…"
    return Check("Model", f"{value} since the reference" if changed is not None else value, state, note)


def _reference(identity: str, result: DriftResult | None) -> Check:
    stored = "no stored records" if result is None else plural(result.rows_reference, "stored record")
    return Check("Reference", stored, GOOD, f"SHA-256 {identity[:SHORT_HASH]}…")


def _baseline(scores: Sequence[BaselineScore]) -> Check:
    """Describe the score of the SHAP baseline; of several labels, the most unusual one."""
    worst, is_unusual = most_unusual(scores)
    note = f"of {len(scores):,} labels, {worst.label} is the most unusual" if len(scores) > 1 else ""
    return Check("SHAP baseline", f"score {compared(worst)}", WARNING if is_unusual else GOOD, note)


def _estimator(explanation: Explanation) -> Check:
    """Describe the estimator, and the largest standard error of a label."""
    settings = explanation.estimator
    unit = settings.get("quantity") or ("log-odds" if settings["use_logit"] else "model output")
    samples = f", {settings['num_samples']:,} samples" if isinstance(settings.get("num_samples"), int) else ""
    note = (
        f"shap.explainer={settings['explainer']}{samples}; aggregation: {settings['agg_method']}; "
        f"explained: {unit}; "
        f"largest |Σφ + expected value − score|: {explanation.efficiency_residual:.2g}"
    )
    errors = [label.local for label in (explanation.standard_errors or {}).values()]
    known = [error for error in errors if error is not None]
    if not known or len(known) < len(errors):
        return Check("Estimator", "standard error unknown", GOOD, note)
    if not any(known):
        return Check("Estimator", "exact", GOOD, note)
    return Check("Estimator", f"local values ± {max(known):.2g}", GOOD, f"one standard error; {note}")


def _calls(calls: Calls) -> Check:
    """Describe the requests sent to the model."""
    note = f"{plural(calls.rows, 'row')}, {calls.bytes / 1e6:,.1f} MB"
    note += f"; {calls.retries:,} retried" if calls.retries else ""
    note += "; records sent one at a time because batches were rejected" if calls.fallbacks else ""
    state = WARNING if calls.retries or calls.fallbacks else GOOD
    return Check("Model calls", plural(calls.requests, "request"), state, note)


def _quality(quality: Quality | str) -> Check:
    """Describe the performance of the model on records with ground truth."""
    if isinstance(quality, str):
        return Check("Model quality", "unknown", WARNING, quality)
    figures = {"log loss": quality.log_loss, "accuracy": quality.accuracy}
    known = [f"{name} {value:.4f}" for name, value in figures.items() if value is not None]
    value = "AUC undefined" if quality.auc is None else f"AUC {quality.auc:.4f}"
    labels = f"{plural(quality.records, 'record')} with ground truth"
    return Check("Model quality", value, GOOD, "; ".join([", ".join([*known, labels]), *quality.notes]))
