"""Random local attributions and a drift policy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Explained, GlobalAttributions
from runner.domain.drift import DriftResult
from runner.drift.detect import Detector
from runner.drift.pairing import Segment
from runner.drift.policy import DriftPolicy, Limit, Limits, Weights

HOUR = timedelta(hours=1)
SCALES = np.array([5.0, 3.0, 2.0, 1.0, 0.5])
POLICY = DriftPolicy(
    false_alarms_per_year=1.0,
    threshold=0.9,
    violations="both",
    min_rows=30,
    limits=Limits(
        input_values=Limit(0.3, 0.9),
        input_invalid=Limit(0.1, 0.5),
        mean_score=Limit(0.05, 0.15),
        attribution_shift=Limit(0.1, 0.25),
        total_log2_change=Limit(0.5, 1.0),
        signed_shift=Limit(0.25, 0.75),
        separability=Limit(0.65, 0.95),
        association=Limit(0.3, 0.9),
        unexplained=Limit(0.3, 1.5),
        model_scores=Limit(1e-6, 0.1),
    ),
    weights=Weights(3.0, 2.0, 3.0, 1.0, 3.0),
    permutations=199,
    segment_by=None,
    classifier=False,
    unit="content",
    season="auto",
    parity_tolerance=None,
    reference_rows=500,
    canary_rows=20,
    seed=0,
)


def local_attributions(
    rows: int, seed: int, scales: NDArray[np.float64] = SCALES, labels: tuple[str, ...] = ("y",)
) -> Attributions:
    """Return normal attributions of independent records with the features `a`, `b` and so on."""
    phi_NDL = np.random.default_rng(seed).normal(size=(rows, len(scales), len(labels))) * scales[:, None]
    names = tuple("abcdefghij"[: len(scales)])
    return Attributions(names, labels, phi_NDL, np.zeros(len(labels)), phi_NDL.sum(axis=1), 0)


def compared(
    policy: DriftPolicy,
    reference: Attributions,
    live: Attributions,
    agg_method: str = "mean_abs",
    window: timedelta = HOUR,
    parts: Sequence[Segment] = (),
) -> DriftResult:
    """Compare attributions of records whose values are equal."""
    before, now = (Explained(pl.DataFrame({"input": np.zeros(len(each.phi_NDL))}), each) for each in (reference, live))
    return Detector(policy).find(before, now, agg_method, window, parts)


def mean_abs(attributions: Attributions) -> GlobalAttributions:
    """Return the mean absolute attributions."""
    values_DL = abs(attributions.phi_NDL).mean(axis=0)
    return GlobalAttributions(attributions.names, attributions.labels, values_DL, attributions.expected_L)
