"""When the records seen are enough: how often the verdict on all of them is another one."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.domain.drift import Level
from runner.drift.detect import Detector
from runner.drift.ranking import rank_labels
from runner.drift.sequential import FIRST, SequentialStopping
from tests.drift.samples import HOUR, POLICY, SCALES, local, summed

REFERENCE = local(600, 0)
CLOSE = local(600, 0, np.array([5.0, 4.9, 4.8, 1.0, 0.9]))
"""Features that are nearly as large as others, so that their order is a matter of chance."""
QUICK = replace(POLICY, permutations=19)


def head(attributions: Attributions, rows: int) -> Attributions:
    """Return the first records."""
    return replace(attributions, phi_NDL=attributions.phi_NDL[:rows], scores_NL=attributions.scores_NL[:rows])


def verdict(certainty: SequentialStopping, reference: Attributions, live: Attributions) -> tuple[object, ...]:
    """Return what alarms, of some records."""
    level = Detector(certainty.policy).find(reference, live, "mean_abs", HOUR).level
    drifts = rank_labels(summed(reference), summed(live), certainty.policy.threshold).violations
    return level if level.order >= Level.WARNING.order else None, len(drifts)


def seen(certainty: SequentialStopping, reference: Attributions, window: Attributions) -> int:
    """Return how many records of a window it takes."""
    looks = list(certainty.sample_sizes(len(window.phi_NDL)))
    for look, rows in enumerate(looks, 1):
        live = head(window, rows)
        finding = Detector(certainty.policy).find(reference, live, "mean_abs", HOUR)
        told = certainty.error_probability(summed(reference), reference, live, finding, "mean_abs", len(window.phi_NDL))
        if certainty.should_stop(look, told):
            return rows
    return looks[-1]


def test_looks_double() -> None:
    """From a thousand records on, until all are seen; without a probability all are at once."""
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
def test_the_verdict_is_that_of_the_whole_window(reference: Attributions, scales: np.ndarray) -> None:
    """As often as was promised, or more, within binomial error."""
    certainty, windows, same = SequentialStopping(0.9, replace(QUICK, threshold=0.97)), 12, 0
    for seed in range(windows):
        window = local(6_000, 100 + seed, scales)
        part = head(window, seen(certainty, reference, window))
        same += verdict(certainty, reference, part) == verdict(certainty, reference, window)
    assert same / windows >= 0.9 - 2 * sqrt(0.9 * 0.1 / windows)


def test_a_clear_case_takes_few_records() -> None:
    """Nothing, and what is far beyond the limits, is told from the first look on; a close one takes more."""
    certainty = SequentialStopping(0.99, POLICY)
    assert seen(certainty, REFERENCE, local(50_000, 1)) == FIRST
    assert seen(certainty, REFERENCE, local(50_000, 1, SCALES * [1, 1, 1, 8, 1])) == FIRST
    assert seen(certainty, REFERENCE, local(50_000, 1, SCALES * [1, 1.6, 1, 1, 1])) > FIRST


def test_all_records_leave_no_doubt() -> None:
    """There are no others."""
    live = local(500, 3)
    certainty = SequentialStopping(0.99, POLICY)
    finding = Detector(POLICY).find(REFERENCE, live, "mean_abs", HOUR)
    assert certainty.error_probability(summed(REFERENCE), REFERENCE, live, finding, "mean_abs", 500) == 0


def test_a_bare_analysis_is_judged_by_its_order() -> None:
    """Where the reference keeps no records, nDCG alone is the verdict."""
    certainty = SequentialStopping(0.99, POLICY)
    assert certainty.error_probability(summed(REFERENCE), None, local(1000, 3), None, "mean_abs", 10**6) == 0
