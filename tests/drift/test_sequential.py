"""Sequential stopping: agreement with the verdict on all records."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.domain.drift import Level
from runner.drift.ranking import rank_labels
from runner.drift.sequential import FIRST_SAMPLE, SequentialStopping
from tests.drift.samples import HOUR, POLICY, SCALES, compared, local_attributions, mean_abs

REFERENCE = local_attributions(600, 0)
CLOSE = local_attributions(600, 0, np.array([5.0, 4.9, 4.8, 1.0, 0.9]))
"""Features of nearly equal size, whose order is random."""
QUICK = replace(POLICY, permutations=19)


def head(attributions: Attributions, rows: int) -> Attributions:
    """Return the first records of a window."""
    return replace(attributions, phi_NDL=attributions.phi_NDL[:rows], scores_NL=attributions.scores_NL[:rows])


def verdict(stopping: SequentialStopping, reference: Attributions, live: Attributions) -> tuple[object, ...]:
    """Return the level, if it is at least a warning, and the number of nDCG violations."""
    level = compared(stopping.policy, reference, live, "mean_abs", HOUR).level
    drifts = rank_labels(mean_abs(reference), mean_abs(live), stopping.policy.threshold).violations
    return level if level.order >= Level.WARNING.order else None, len(drifts)


def explained_rows(stopping: SequentialStopping, reference: Attributions, window: Attributions) -> int:
    """Return the number of records of a window that are explained."""
    sizes = list(stopping.sample_sizes(len(window.phi_NDL)))
    for number, rows in enumerate(sizes, 1):
        live = head(window, rows)
        finding = compared(stopping.policy, reference, live, "mean_abs", HOUR)
        error = stopping.error_probability(
            mean_abs(reference), reference, live, finding, "mean_abs", len(window.phi_NDL)
        )
        if stopping.should_stop(number, error):
            return rows
    return sizes[-1]


def test_sample_sizes_double() -> None:
    """They start at 1,000 records and end with all; without a probability there is one sample of all records."""
    assert list(SequentialStopping(0.99, POLICY).sample_sizes(3_500)) == [1000, 2000, 3500]
    assert list(SequentialStopping(0.99, POLICY).sample_sizes(1000)) == [1000]
    assert list(SequentialStopping(None, POLICY).sample_sizes(3_500)) == [3500]


@pytest.mark.soak
@pytest.mark.parametrize(
    ("reference", "scales"),
    [
        (REFERENCE, SCALES * [1, 1.5, 1, 1, 1]),
        (REFERENCE, SCALES * [1, 1.7, 1, 1, 1]),
        (CLOSE, np.array([1.0, 4.9, 4.8, 4.7, 0.9])),
    ],
    ids=["nearly material", "material", "another order"],
)
def test_verdict_equals_that_of_the_whole_window(reference: Attributions, scales: np.ndarray) -> None:
    """The share of equal verdicts is at least the requested probability, within binomial error."""
    stopping, windows, same = SequentialStopping(0.9, replace(QUICK, threshold=0.97)), 12, 0
    for seed in range(windows):
        window = local_attributions(6_000, 100 + seed, scales)
        part = head(window, explained_rows(stopping, reference, window))
        same += verdict(stopping, reference, part) == verdict(stopping, reference, window)
    assert same / windows >= 0.9 - 2 * sqrt(0.9 * 0.1 / windows)


def test_clear_verdict_needs_few_records() -> None:
    """No change and a very large change need the first sample only; a borderline case needs more."""
    stopping = SequentialStopping(0.99, POLICY)
    assert explained_rows(stopping, REFERENCE, local_attributions(50_000, 1)) == FIRST_SAMPLE
    assert explained_rows(stopping, REFERENCE, local_attributions(50_000, 1, SCALES * [1, 1, 1, 8, 1])) == FIRST_SAMPLE
    assert explained_rows(stopping, REFERENCE, local_attributions(50_000, 1, SCALES * [1, 1.6, 1, 1, 1])) > FIRST_SAMPLE


def test_error_probability_of_all_records_is_0() -> None:
    """There are no further records."""
    live = local_attributions(500, 3)
    stopping = SequentialStopping(0.99, POLICY)
    finding = compared(POLICY, REFERENCE, live, "mean_abs", HOUR)
    assert stopping.error_probability(mean_abs(REFERENCE), REFERENCE, live, finding, "mean_abs", 500) == 0


def test_reference_without_records_uses_ndcg_only() -> None:
    """There are no statistical tests."""
    stopping = SequentialStopping(0.99, POLICY)
    assert (
        stopping.error_probability(mean_abs(REFERENCE), None, local_attributions(1000, 3), None, "mean_abs", 10**6) == 0
    )
