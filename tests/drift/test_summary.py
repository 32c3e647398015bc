"""The verdict in words, whatever was found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.drift.ranking import judge
from runner.drift.summary import headline, sentence, sight
from tests.drift.samples import HOUR, SCALES, USUAL, local, summed
from tests.golden import Golden

REFERENCE = local(600, 0)


def told(live: Attributions, reference: Attributions = REFERENCE) -> str:
    """Return headline and sentence."""
    rule = judge(summed(reference), summed(live), 0.9)
    finding = USUAL.find(reference, live, "mean_abs", HOUR)
    return f"{headline(rule, finding)}: {sentence(rule, finding, summed(reference), summed(live))}"


@pytest.mark.parametrize(
    ("times", "rows", "start", "holds"),
    [
        ([1, 1, 1, 1, 1], 300, "No drift: ", "a change in 17% of the records of a feature would have been seen"),
        (
            [1, 1, 1, 1, 2],
            300,
            "No material drift: the attributions of e have changed in ",
            "; that is beyond chance, but ",
        ),
        ([1, 1, 2, 1, 1], 300, "Drift: ", "c moved most, from rank 3 to 2 and from 1"),
        ([1, 1, 1, 8, 1], 300, "Severe drift: ", "and all attribution together is 1.6 times what it was; d moved most"),
        ([1, 1, 1, 1, 1], 20, "Too few records: ", "20 records are too few to tell drift from chance"),
    ],
)
def test_each_level_has_its_words(times: list[float], rows: int, start: str, holds: str) -> None:
    """Two words, then what moved beside what chance moves, and the nDCG that SageMaker's users know."""
    text = told(local(rows, 1, SCALES * times))
    assert text.startswith(start)
    assert holds in text
    assert "(nDCG " in text
    assert "alarm below 0.9)" in text


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
    few = replace(USUAL, min_rows=2)
    rule = judge(summed(REFERENCE), summed(local(5, 1)), 0.9)
    finding = few.find(REFERENCE, local(5, 1), "mean_abs", HOUR)
    golden(sentence(rule, finding, summed(REFERENCE), summed(local(5, 1))))


def test_what_can_be_seen_is_told_beforehand(golden: Golden) -> None:
    """From the sizes of both sides, the number of tests, and the false alarms that are accepted."""
    golden(sight(USUAL, 666, 14))
    golden(sight(USUAL, 5, 14))


def test_attributions_that_are_all_zero_are_told(golden: Golden) -> None:
    """The model ignores its inputs, or they equal the SHAP baseline."""
    golden(told(replace(local(300, 1), phi_NDL=np.zeros((300, 5, 1)))))
