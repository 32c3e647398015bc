"""A canary that is still or has moved: the same records, explained then and today."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.drift.canary import canary, summary
from tests.drift.samples import local
from tests.golden import Golden

THEN = local(20, 0)


def scored(attributions: Attributions, times: float) -> Attributions:
    """Return attributions of a model whose answers are so many times as large, all through its first feature."""
    phi_NDL = attributions.phi_NDL.copy()
    phi_NDL[:, 0] += (times - 1) * attributions.scores_NL
    return replace(attributions, phi_NDL=phi_NDL, scores_NL=times * attributions.scores_NL)


def test_the_same_model_is_still(golden: Golden) -> None:
    """Also where its scores are rounded on their way."""
    found = canary(THEN, scored(THEN, 1 + 1e-9), "mean_abs", comparable=True)
    assert not found.changed
    assert found.moved == pytest.approx(0, abs=1e-6)
    golden(summary(found))


def test_another_model_moves_it(golden: Golden) -> None:
    """Told by its scores; how much, by its attributions."""
    found = canary(THEN, scored(THEN, 1.5), "mean_abs", comparable=True)
    before_D, now_D = (abs(each.phi_NDL[:, :, 0]).mean(axis=0) for each in (THEN, scored(THEN, 1.5)))
    assert found.changed
    assert found.difference == pytest.approx(abs(THEN.scores_NL).max() / 2)
    assert found.moved == pytest.approx(abs(before_D / before_D.sum() - now_D / now_D.sum()).sum() / 2)
    golden(summary(found))


def test_another_estimator_says_nothing_of_attributions() -> None:
    """Then the scores alone tell."""
    still, moved = (canary(THEN, scored(THEN, times), "mean_abs", comparable=False) for times in (1, 2))
    assert (still.changed, still.moved) == (False, None)
    assert (moved.changed, moved.moved) == (True, None)


def test_features_in_another_order_are_the_same() -> None:
    """They are matched by name."""
    order = [3, 1, 4, 0, 2]
    now = replace(THEN, names=tuple(THEN.names[d] for d in order), phi_NDL=THEN.phi_NDL[:, order])
    assert canary(THEN, now, "mean_abs", comparable=True).moved == pytest.approx(0, abs=1e-12)


def test_another_number_of_outputs_is_another_model() -> None:
    """Whatever their scores are."""
    two = replace(
        THEN,
        labels=("y", "z"),
        phi_NDL=np.repeat(THEN.phi_NDL, 2, axis=2),
        scores_NL=np.repeat(THEN.scores_NL, 2, axis=1),
        expected_L=np.zeros(2),
    )
    assert canary(THEN, two, "mean_abs", comparable=True).changed
