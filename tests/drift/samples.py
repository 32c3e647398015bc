"""Random local attributions and a drift policy."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, GlobalAttributions
from runner.drift.policy import DriftPolicy

HOUR = timedelta(hours=1)
SCALES = np.array([5.0, 3.0, 2.0, 1.0, 0.5])
POLICY = DriftPolicy(
    false_alarms_per_year=1.0,
    threshold=0.9,
    min_rows=30,
    material=0.1,
    severe=0.25,
    material_mass=0.5,
    severe_mass=1.0,
    permutations=199,
    segment_by=None,
    classifier=False,
    unit="record",
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


def mean_abs(attributions: Attributions) -> GlobalAttributions:
    """Return the mean absolute attributions."""
    values_DL = abs(attributions.phi_NDL).mean(axis=0)
    return GlobalAttributions(attributions.names, attributions.labels, values_DL, attributions.expected_L)
