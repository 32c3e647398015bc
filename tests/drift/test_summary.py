"""Headline and sentence of the verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Attributions, Explained
from runner.domain.drift import Canary, Headline, Level, Parity
from runner.drift.detect import detect_drift
from runner.drift.ranking import rank_labels
from runner.drift.summary import detectable_changes, headline, minimum_detectable, sentence
from tests.drift.samples import HOUR, POLICY, SCALES, compared, local_attributions, mean_abs
from tests.golden import Golden

REFERENCE = local_attributions(600, 0)


def verdict(live: Attributions, reference: Attributions = REFERENCE) -> str:
    """Return headline and sentence of a window."""
    rule = rank_labels(mean_abs(reference), mean_abs(live), 0.9)
    finding = compared(POLICY, reference, live, "mean_abs", HOUR)
    return f"{headline(rule, finding)}: {sentence(rule, finding, mean_abs(reference), mean_abs(live))}"


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
    """The sentence states the attribution shift, the shift expected by chance and nDCG."""
    golden(verdict(local_attributions(rows, 1, SCALES * times)))


def test_ndcg_violation_is_drift_also_with_too_few_records(golden: Golden) -> None:
    """The nDCG rule needs no minimum number of records."""
    live = replace(local_attributions(20, 1), phi_NDL=local_attributions(20, 1).phi_NDL[:, ::-1])
    golden(verdict(live))


def test_sentence_names_the_worst_label() -> None:
    """It is named if there are several labels."""
    reference, live = local_attributions(600, 0, labels=("y", "z")), local_attributions(300, 1, labels=("y", "z"))
    live.phi_NDL[:, 2, 1] *= 5
    assert " z " in verdict(live, reference)


def test_few_records_state_that_no_change_is_detectable(golden: Golden) -> None:
    """The absence of a finding is no evidence of no drift."""
    few = replace(POLICY, min_rows=2)
    rule = rank_labels(mean_abs(REFERENCE), mean_abs(local_attributions(5, 1)), 0.9)
    finding = compared(few, REFERENCE, local_attributions(5, 1), "mean_abs", HOUR)
    golden(sentence(rule, finding, mean_abs(REFERENCE), mean_abs(local_attributions(5, 1))))


def test_minimum_detectable_change_of_a_reference(golden: Golden) -> None:
    """It depends on both numbers of records, the number of tests and the accepted false alarms."""
    golden(minimum_detectable(POLICY, 666, 14))
    golden(minimum_detectable(POLICY, 5, 14))


def test_more_records_detect_smaller_changes() -> None:
    """Below drift.min_rows, nothing is detectable; the curve agrees with the note."""
    changes = {each.records: each.change for each in detectable_changes(replace(POLICY, min_rows=50), 666, 14)}
    assert [changes[rows] for rows in (10, 30)] == [1.0, 1.0]
    assert list(changes.values()) == sorted(changes.values(), reverse=True)
    assert f"{changes[1000]:.0%} of 1,000" in minimum_detectable(POLICY, 666, 14)
    assert {each.change for each in detectable_changes(POLICY, 5, 14)} == {1.0}


def test_zero_attributions_have_a_sentence(golden: Golden) -> None:
    """The model ignores its inputs, or they equal the SHAP baseline."""
    golden(verdict(replace(local_attributions(300, 1), phi_NDL=np.zeros((300, 5, 1)))))


@pytest.mark.parametrize(("level", "alone"), [(Level.NONE, Level.VIOLATION), (Level.WARNING, Level.NONE)])
def test_level_that_differs_from_the_headline_is_explained_first(level: Level, alone: Level, golden: Golden) -> None:
    """The headline states the alert level, which depends on earlier windows."""
    live = local_attributions(300, 1, SCALES * ([1, 1, 1, 8, 1] if alone is Level.VIOLATION else [1, 1, 1, 1, 1]))
    ranking = rank_labels(mean_abs(REFERENCE), mean_abs(live), 0.5)
    result = replace(compared(POLICY, REFERENCE, live, "mean_abs", HOUR), level=level, level_alone=alone)
    golden(f"{headline(ranking, result)}: {sentence(ranking, result, mean_abs(REFERENCE), mean_abs(live))}")


WINDOWS: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "same": lambda values: values,
    "missing": lambda values: values.with_columns(a=pl.lit(None, dtype=pl.Float64)),
    "scaled": lambda values: values.with_columns(b=pl.col("b") * 100),
    "few": lambda values: values.head(20),
    "shuffled": lambda values: values.with_columns(c=pl.col("c").shuffle(seed=1)),
    "small": lambda values: values.with_columns(e=pl.col("e") + 0.3),
}


@pytest.mark.parametrize("change", WINDOWS)
@pytest.mark.parametrize("canary", [None, Canary(20, True, 0.5, None)], ids=["no canary", "changed model"])
@pytest.mark.parametrize("parity", [None, Parity(0.0, 9), Parity(0.5, 9, 1e-6, 4)], ids=["unknown", "same", "other"])
@pytest.mark.parametrize("past", [(), (Level.WARNING,) * 2], ids=["first", "alert"])
def test_headline_sentence_and_level_agree(
    change: str, canary: Canary | None, parity: Parity | None, past: tuple[Level, ...]
) -> None:
    """No window with a significant change, or with another model, is free of drift."""
    sides = []
    for rows, seed, function in ((600, 0, WINDOWS["same"]), (300, 1, WINDOWS[change])):
        values = function(pl.DataFrame(local_attributions(rows, seed).phi_NDL[:, :, 0], schema=list("abcde")))
        phi_NDL = values.fill_null(0.0).to_numpy()[:, :, None]
        attributions = Attributions(tuple("abcde"), ("y",), phi_NDL, np.zeros(1), phi_NDL.sum(axis=1), 0)
        sides.append(Explained(values, attributions))
    policy = replace(POLICY, datapoints_to_alert=2 if past else 1, evaluation_period=3 if past else 1)
    result = detect_drift(policy, sides[0], sides[1], "mean_abs", HOUR, canary, parity, past)
    before, now = (mean_abs(side.attributions) for side in sides)
    ranking = rank_labels(before, now, 0.5)
    shown = headline(ranking, result, parity)
    text = sentence(ranking, result, before, now, parity)
    differs = parity is not None and not parity.same
    alert = result.level in {Level.WARNING, Level.VIOLATION}
    quiet = result.smallest_p > result.significance and not alert and result.level is not Level.INSUFFICIENT_DATA
    assert (shown is Headline.NO_DRIFT) == (quiet and not differs and not canary)
    assert (shown in {Headline.MODEL_MISMATCH, Headline.MODEL_CHANGED}) == (differs or canary is not None)
    assert alert == (shown in {Headline.MODEL_MISMATCH, Headline.MODEL_CHANGED, Headline.DRIFT, Headline.SEVERE_DRIFT})
    if result.labels:
        assert ("more than by chance" in text) == (result.smallest_p > result.significance)
    assert result.level.order >= Level.WARNING.order or not (differs or canary)
