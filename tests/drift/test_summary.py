"""The verdict in words, whatever was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.drift.detect import Detector
from runner.drift.ranking import rank_labels
from runner.drift.summary import headline, minimum_detectable, sentence
from tests.drift.samples import HOUR, POLICY, SCALES, local, summed
from tests.golden import Golden

REFERENCE = local(600, 0)


def told(live: Attributions, reference: Attributions = REFERENCE) -> str:
    """Return headline and sentence."""
    rule = rank_labels(summed(reference), summed(live), 0.9)
    finding = Detector(POLICY).find(reference, live, "mean_abs", HOUR)
    return f"{headline(rule, finding)}: {sentence(rule, finding, summed(reference), summed(live))}"


@pytest.mark.parametrize(
    ("times", "rows"),
    [
        ([1, 1, 1, 1, 1], 300),
        ([1, 1, 1, 1, 2], 300),
        ([1, 1, 2, 1, 1], 300),
        ([1, 1, 1, 8, 1], 300),
        ([1, 1, 1, 1, 1], 20),
    ],
    ids=["none", "info", "warning", "violation", "insufficient data"],
)
def test_each_level_has_a_headline_and_a_sentence(times: list[float], rows: int, golden: Golden) -> None:
    """Two words, then what moved beside what chance moves, and the nDCG that SageMaker's users know."""
    text = told(local(rows, 1, SCALES * times))
    golden(text)


def test_a_ranking_that_is_broken_is_drift_whatever_else(golden: Golden) -> None:
    """With too few records the rule of the ranking still rings."""
    live = replace(local(20, 1), phi_NDL=local(20, 1).phi_NDL[:, ::-1])
    golden(told(live))


def test_of_several_labels_the_worst_is_told() -> None:
    """By name."""
    reference, live = local(600, 0, labels=("y", "z")), local(300, 1, labels=("y", "z"))
    live.phi_NDL[:, 2, 1] *= 5
    assert " for z (nDCG " in told(live, reference)


def test_few_records_say_that_they_could_have_seen_nothing(golden: Golden) -> None:
    """So that nobody takes silence for health."""
    few = replace(POLICY, min_rows=2)
    rule = rank_labels(summed(REFERENCE), summed(local(5, 1)), 0.9)
    finding = Detector(few).find(REFERENCE, local(5, 1), "mean_abs", HOUR)
    golden(sentence(rule, finding, summed(REFERENCE), summed(local(5, 1))))


def test_what_can_be_seen_is_told_beforehand(golden: Golden) -> None:
    """From the sizes of both sides, the number of tests, and the false alarms that are accepted."""
    golden(minimum_detectable(POLICY, 666, 14))
    golden(minimum_detectable(POLICY, 5, 14))


def test_attributions_that_are_all_zero_are_told(golden: Golden) -> None:
    """The model ignores its inputs, or they equal the SHAP baseline."""
    golden(told(replace(local(300, 1), phi_NDL=np.zeros((300, 5, 1)))))
