"""Estimates the cost of an explanation (rows, calls, bytes, time and money) before it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner import storage
from runner.domain.attributions import Calls
from runner.domain.executions import Outcome, Window
from runner.domain.numbers import plural
from runner.domain.records import Captured
from runner.explain.preflight import REJECTIONS, Preflight, preflight, preflight_rows
from runner.models.remote import DryRunModel, Remote
from runner.monitors import MODEL_INPUT
from runner.monitors.attributions import AttributionAnalysis
from runner.protocols import RemoteModel, calls_made
from runner.results import directory, manifest
from runner.results.documents import dump_json
from runner.results.reference import Reference
from runner.sources.dataset import Dataset
from runner.sources.source import WindowReader, without
from runner.types import NO_OTHER_KEYS, Interval

PROBES = (3, 30, 250, 2_000)
"""Numbers of rows in the timed model calls, from the first call to the last."""
LONG_ENOUGH = 0.5
"""Duration of a model call in seconds that is long enough to measure the speed; no larger call is timed then."""


@dataclass(frozen=True)
class Probe:
    """Timed model call: its number of rows, its number of requests to a remote model, and its duration in seconds."""

    rows: int
    calls: int
    seconds: float


@dataclass(frozen=True)
class FirstSample:
    """First sample under shap.precision: number of its records, and number of rows that they send to the model."""

    records: int
    rows: int


@dataclass(frozen=True)
class PlannedCalls:
    """Planned calls to a remote model: number of requests, and their total size in bytes."""

    requests: int
    bytes: int


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of an explanation, with the keys of the saved JSON file.

    Attributes:
        records, features, background_rows: numbers of records, features and background rows.
        estimator: settings of the estimator.
        rows: number of rows sent to the model.
        first: first sample under shap.precision; None if all records are explained at once.
        calls: calls to a remote model; None for a model in this process.
        probe: timed model call.
        shown: calls made for this estimate; None for a model in this process.
        seconds: expected duration in seconds.
        cost: expected cost; None without a price.
        preflight: responses of the model to the first rows.
    """

    records: int
    features: int
    background_rows: int
    estimator: Mapping[str, object]
    rows: int
    first: FirstSample | None
    calls: PlannedCalls | None
    probe: Probe
    shown: Calls | None
    seconds: float
    cost: float | None
    preflight: Preflight


class Records(NamedTuple):
    """Records to explain.

    Attributes:
        first: records of the first sample under shap.precision; None if all are explained at once.
        captured_NL: captured scores of the same records; None if there are none.
        canaries: features of the canary records; None without canary records.
    """

    features: pl.DataFrame
    first: pl.DataFrame | None
    background: pl.DataFrame
    captured_NL: NDArray[np.float64] | None
    canaries: pl.DataFrame | None


@dataclass(frozen=True)
class PlanStage:
    """`stage=plan`; conf/stage/plan.yaml describes the keys."""

    kind: Literal["plan"]
    window: Interval | None

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Plan:
    """Estimate of the cost of an execution or of baselining.

    Attributes:
        source, analysis: records and analysis of an execution.
        dataset: records of baselining.
        remote: remote model, with the price and the rate limit of its calls; None for a model in this process.
        clock: function that returns monotonic seconds.
        target: folder of the saved plan.
    """

    settings: PlanStage
    source: WindowReader
    dataset: Dataset
    analysis: AttributionAnalysis
    remote: Remote | None
    clock: Callable[[], float]
    target: Path

    def run(self) -> Outcome:
        """Return the estimate as text, and save it as JSON.

        Rows are sent to the model to check its responses and to measure its speed (see `PROBES`).
        """
        window = self.settings.window
        if window is None:
            features, _ = self.dataset.read()
            background = self.analysis.model_explainer.background(features)
            estimate = self._estimate(Records(features, None, background, None, None))
        else:
            with self.source.read(window) as captured:
                estimate = self._window_estimate(window, captured)
        path = self.target / f"{_stem(window)}.plan.json"
        storage.write(str(path), dump_json(asdict(estimate)))
        subject = f"an execution over {window}" if window else "baselining"
        return Outcome("\n  ".join([f"Plan of {subject}", *_lines(estimate), f"saved in {path}"]))

    def _window_estimate(self, window: Window, captured: Captured) -> CostEstimate:
        """Return the estimate for the records of a window except rejected ones."""
        self.source.check(captured, window)
        reference = Reference.read(directory.reference_path(self.analysis.reference, window))
        features = captured.features()
        background = self.analysis.model_explainer.background(features, reference.background)
        canaries, scores_NL = self.analysis.canary_features(reference), captured.scores()
        first = self.analysis.first_sample(reference, features, scores_NL, window)
        records = Records(features, first, background, scores_NL, canaries)
        try:
            return self._estimate(records)
        except REJECTIONS as error:
            rejected = self.analysis.rejected(window, captured, error)
        return self._window_estimate(window, without(captured, MODEL_INPUT, rejected))

    def _estimate(self, records: Records) -> CostEstimate:
        model, estimator = self.analysis.model_explainer.model, self.analysis.model_explainer.estimator
        features, background = records.features, records.background
        before = calls_made(model)
        checked = preflight(model, features, background, estimator.use_logit, records.captured_NL)
        rows = checked.rows + self._rows(records)
        first = None if records.first is None else records._replace(features=records.first)
        probe = self._probe(features, rows)
        sent = manifest.calls_between(before, calls_made(model))
        calls = self._dry_run(model, records, checked) if isinstance(model, RemoteModel) else None
        return CostEstimate(
            records=features.height,
            features=features.width,
            background_rows=background.height,
            estimator=estimator.settings,
            rows=rows,
            first=FirstSample(len(first.features), checked.rows + self._rows(first)) if first else None,
            calls=PlannedCalls(calls.requests, calls.bytes) if calls else None,
            probe=probe,
            shown=sent,
            seconds=self._seconds(probe, rows, calls),
            cost=self._cost(calls),
            preflight=checked,
        )

    def _rows(self, records: Records) -> int:
        """Return the number of rows that the explanation of these records sends to the model."""
        model, estimator = self.analysis.model_explainer.model, self.analysis.model_explainer.estimator
        return sum(estimator.evaluations(model, table, records.background) for table in _explained(records))

    def _dry_run(self, remote: RemoteModel, records: Records, checked: Preflight) -> Calls:
        """Return the calls of an execution, counted by a dry run that sends nothing."""
        model, model_explainer = DryRunModel(remote, checked.outputs), self.analysis.model_explainer
        preflight(model, records.features, records.background, model_explainer.estimator.use_logit)
        for table in _explained(records):
            model_explainer.estimator.explain(model, table, records.background, model_explainer.track)
        return model.calls_made

    def _probe(self, features: pl.DataFrame, rows: int) -> Probe:
        """Time model calls of increasing size; return the first long enough one, or else the largest."""
        for count in PROBES:
            probe = self._timed(features, min(rows, count))
            if probe.seconds > LONG_ENOUGH:
                break
        return probe

    def _timed(self, features: pl.DataFrame, count: int) -> Probe:
        """Time one model call with `count` rows, which repeat a few records."""
        rows, model = features[np.resize(preflight_rows(features.height), count)], self.analysis.model_explainer.model
        before, start = calls_made(model), self.clock()
        model.predict(rows)
        sent = manifest.calls_between(before, calls_made(model))
        return Probe(count, sent.requests if sent else 0, self.clock() - start)

    def _seconds(self, probe: Probe, rows: int, calls: Calls | None) -> float:
        """Return the expected duration in seconds.

        It is proportional to the calls of a remote model and respects its rate limit. Without a remote model, it is
        proportional to the rows.
        """
        if calls is None:
            return rows / probe.rows * probe.seconds
        probed = calls.requests / probe.calls * probe.seconds
        limit = self.remote and self.remote.max_requests_per_second
        return max(probed, calls.requests / limit) if limit else probed

    def _cost(self, calls: Calls | None) -> float | None:
        """Return the price of all calls; None if it is unknown."""
        price = self.remote.price_per_1k_calls if self.remote else None
        return None if price is None or calls is None else price * calls.requests / 1000


def _explained(records: Records) -> Iterator[pl.DataFrame]:
    """Yield the tables to explain, in order."""
    yield records.features
    if records.canaries is not None:
        yield records.canaries


def _stem(window: Window | None) -> str:
    return f"{window.start:%Y-%m-%dT%H%M}--{window.end:%Y-%m-%dT%H%M}" if window else "baseline"


def _lines(estimate: CostEstimate) -> Iterator[str]:
    """Yield the lines of the estimate as text for a terminal."""
    sizes = plural(estimate.records, "record"), plural(estimate.features, "feature")
    yield f"{', '.join(sizes)}, {plural(estimate.background_rows, 'background row')}"
    yield f"rows   {estimate.rows:,} to the model"
    if first := estimate.first:
        condition = "more records only if the verdict is less certain than shap.precision"
        yield f"first  {first.rows:,} of them, for the first {plural(first.records, 'record')}; {condition}"
    if calls := estimate.calls:
        yield f"calls  {calls.requests:,}, {calls.bytes / 1e6:,.1f} MB in total"
    else:
        yield "calls  none: the model runs in this process"
    probe = estimate.probe
    yield f"time   about {duration(estimate.seconds)} ({probe.rows:,} rows took {probe.seconds:.3f} s)"
    if estimate.cost is not None:
        yield f"cost   about {estimate.cost:,.2f}"
    if shown := estimate.shown:
        single = "; the endpoint rejects batches, so records are sent one by one" if shown.fallbacks else ""
        yield f"sent   {shown.rows:,} rows in {plural(shown.requests, 'call')}, to make this plan{single}"
    checked = estimate.preflight
    scores = f"scores from {checked.lowest:.4g} to {checked.highest:.4g}"
    yield f"model  {plural(checked.outputs, 'output')}, {scores} on {plural(checked.rows, 'row')}"
    if checked.parity is not None:
        yield f"parity captured scores differ from the model's by at most {checked.parity:.1e}"


def duration(seconds: float) -> str:
    """Return a rounded duration with its unit.

    >>> duration(0.2), duration(95), duration(7300)
    ('1 s', '95 s', '2.0 h')
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
