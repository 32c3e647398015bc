"""Says what explaining would cost: rows, calls, bytes, time and money, before anything expensive happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner import storage
from runner.domain.attributions import Calls
from runner.domain.executions import Outcome, Window
from runner.domain.text import plural
from runner.drift.sequential import SequentialStopping
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.preflight import Preflight, preflight, real_rows
from runner.models.dry_run import DryRunModel
from runner.protocols import Model, Track
from runner.results import directories, manifest
from runner.results import reference as references
from runner.results.documents import dump
from runner.results.reference import Reference
from runner.sources.dataset import Dataset
from runner.sources.sample import order
from runner.sources.source import Source

PROBES = (3, 30, 250, 2_000)
"""Rows that are timed, one number after the other, until it took this long:"""
LONG_ENOUGH = 0.5


class Probe(NamedTuple):
    """How many rows, in how many calls, the model answered in how many seconds."""

    rows: int
    calls: int
    seconds: float


class Records(NamedTuple):
    """What is to be explained.

    Attributes:
        first: those of them that are explained first, None where all are explained at once.
        captured_NL: scores that the endpoint gave for the same records, None where there are none.
        canaries: kept records that are explained again.
    """

    features: pl.DataFrame
    first: pl.DataFrame | None
    background: pl.DataFrame
    captured_NL: NDArray[np.float64] | None
    canaries: pl.DataFrame


@dataclass(frozen=True)
class Plan:
    """What a monitor's execution, or baselining, would ask of the model.

    Attributes:
        source, reference: of an execution over a window.
        dataset: the records of baselining.
        background_rows: gives the SHAP baseline, None for the reference's own, or what `summary` makes of the dataset.
        certainty: how sure a verdict has to be before no more records are explained.
        canary_rows: how many of the reference's kept records an execution explains again.
        price: of 1,000 calls, None where it is not known.
        most_per_second: calls a second that the settings allow, None for any number.
        clock: a monotonic clock, in seconds.
        target: the folder that gets the plan as JSON.
    """

    source: Source
    dataset: Dataset
    reference: Path
    model: Model
    estimator: Estimator
    background_rows: Callable[[], Sequence[Sequence[Any]] | None]
    summary: Callable[[pl.DataFrame], pl.DataFrame]
    certainty: SequentialStopping
    canary_rows: int
    price: float | None
    most_per_second: float | None
    clock: Callable[[], float]
    target: Path
    track: Track

    def run(self, window: Window | None) -> Outcome:
        """Return the plan as text, saved as JSON too; the model is shown a few rows, of which the time is taken.

        Args:
            window: of the execution; None for baselining.
        """
        with self._records(window) as records:
            found = self._plan(records)
        path = self.target / f"{_stem(window)}.plan.json"
        storage.write(str(path), dump(found))
        what = f"an execution over {window}" if window else "baselining"
        return Outcome("\n  ".join([f"Plan of {what}", *_told(found), f"saved in {path}"]))

    @contextmanager
    def _records(self, window: Window | None) -> Iterator[Records]:
        """Yield what is to be explained."""
        given = self.background_rows()
        if window is None:
            features, _ = self.dataset.read()
            background = self.summary(features) if given is None else backgrounds.given(given, features.columns)
            yield Records(features, None, background, None, features.clear())
            return
        reference = Reference.read(directories.reference_path(self.reference, window))
        with self.source.read(window) as captured:
            self.source.check(captured, window)
            features = captured.features()
            background = reference.background() if given is None else backgrounds.given(given, features.columns)
            canaries = (
                references.canaries(reference.sample, self.canary_rows).features
                if reference.sample
                else features.clear()
            )
            yield Records(features, self._first(features), background, captured.scores(), canaries)

    def _first(self, features: pl.DataFrame) -> pl.DataFrame | None:
        """Return the records of an execution's first look, None where it looks at all at once."""
        count = next(self.certainty.sample_sizes(features.height))
        return None if count == features.height else features[order(features)[:count]]

    def _plan(self, records: Records) -> dict[str, Any]:
        features, background = records.features, records.background
        before = self.model.calls_made
        checked = preflight(self.model, features, background, self.estimator.use_logit, records.captured_NL)
        rows = checked.rows + self._rows(records)
        first = None if records.first is None else records._replace(features=records.first)
        probe = self._probe(features, rows)
        calls = None if self.model.calls_made is None else self._rehearsed(records, checked)
        return {
            "records": features.height,
            "features": features.width,
            "background_rows": background.height,
            "estimator": self.estimator.settings,
            "rows": rows,
            "first": first and {"records": len(first.features), "rows": checked.rows + self._rows(first)},
            "calls": calls and {"requests": calls.requests, "bytes": calls.bytes},
            "probe": probe._asdict(),
            "shown": manifest.calls(before, self.model.calls_made),
            "seconds": self._seconds(probe, rows, calls),
            "cost": self.price and calls and self.price * calls.requests / 1000,
            "preflight": asdict(checked),
        }

    def _rows(self, records: Records) -> int:
        """Return how many rows explaining records sends to the model."""
        return sum(self.estimator.evaluations(self.model, some, records.background) for some in _explained(records))

    def _rehearsed(self, records: Records, checked: Preflight) -> Calls:
        """Return what a run sends, counted by a run that sends nothing."""
        rehearsal = DryRunModel(self.model, checked.outputs)
        preflight(rehearsal, records.features, records.background, self.estimator.use_logit)
        for some in _explained(records):
            self.estimator.explain(rehearsal, some, records.background, self.track)
        return rehearsal.calls

    def _probe(self, features: pl.DataFrame, rows: int) -> Probe:
        """Return how long the model takes for more and more rows, until that is long enough to tell."""
        for count in PROBES:
            probe = self._timed(features, min(rows, count))
            if probe.seconds > LONG_ENOUGH:
                break
        return probe

    def _timed(self, features: pl.DataFrame, count: int) -> Probe:
        """Return how long the model takes for some rows, real ones over and over."""
        rows = features[np.resize(real_rows(features.height), count)]
        before, start = self.model.calls_made, self.clock()
        self.model.predict(rows)
        sent = manifest.calls(before, self.model.calls_made)
        return Probe(count, sent["requests"] if sent else 0, self.clock() - start)

    def _seconds(self, probe: Probe, rows: int, calls: Calls | None) -> float:
        """Return how long all of it will take, by rows as in the probe, or by calls where there are any."""
        if calls is None:
            return rows / probe.rows * probe.seconds
        probed = calls.requests / probe.calls * probe.seconds
        return max(probed, calls.requests / self.most_per_second) if self.most_per_second else probed


def _explained(records: Records) -> Iterator[pl.DataFrame]:
    """Yield the tables that are explained, one after the other."""
    yield records.features
    if not records.canaries.is_empty():
        yield records.canaries


def _stem(window: Window | None) -> str:
    return f"{window.start:%Y-%m-%dT%H%M}--{window.end:%Y-%m-%dT%H%M}" if window else "baseline"


def _told(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that a person reads before deciding."""
    sizes = plural(found["records"], "record"), plural(found["features"], "feature")
    yield f"{', '.join(sizes)}, {plural(found['background_rows'], 'background row')}"
    yield f"rows   {found['rows']:,} to the model"
    if (first := found["first"]) is not None:
        doubt = "the others only if the verdict is not as sure then as shap.precision asks"
        yield f"first  {first['rows']:,} of them, for {plural(first['records'], 'record')}; {doubt}"
    if (calls := found["calls"]) is None:
        yield "calls  none: the model is in this process"
    else:
        yield f"calls  {calls['requests']:,}, {calls['bytes'] / 1e6:,.1f} MB in all"
    probe = found["probe"]
    yield f"time   about {duration(found['seconds'])} ({probe['rows']:,} rows took {probe['seconds']:.3f} s)"
    if found["cost"] is not None:
        yield f"cost   about {found['cost']:,.2f}"
    if shown := found["shown"]:
        refused = "; batches are refused, so records go one by one" if shown["fallbacks"] else ""
        yield f"shown  {shown['rows']:,} rows in {plural(shown['requests'], 'call')}, for this plan{refused}"
    checked = found["preflight"]
    scores = f"scores from {checked['lowest']:.4g} to {checked['highest']:.4g}"
    yield f"model  {plural(checked['outputs'], 'output')}, {scores} on {plural(checked['rows'], 'row')}"
    if checked["parity"] is not None:
        yield f"parity captured scores differ from the model's by {checked['parity']:.1e} at most"


def duration(seconds: float) -> str:
    """Return a span of time in words.

    >>> duration(0.2), duration(95), duration(7300)
    ('1 s', '95 s', '2.0 h')
    """
    if seconds < 120:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
