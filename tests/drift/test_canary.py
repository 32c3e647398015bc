"""Canary: the same records, explained with the reference's model and with the current one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.drift.canary import canary, summary
from tests.drift.samples import local_attributions
from tests.golden import Golden

REFERENCE = local_attributions(20, 0)


def scaled_scores(attributions: Attributions, factor: float) -> Attributions:
    """Return attributions of a model with multiplied scores, changed by its first feature alone."""
    phi_NDL = attributions.phi_NDL.copy()
    phi_NDL[:, 0] += (factor - 1) * attributions.scores_NL
    return replace(attributions, phi_NDL=phi_NDL, scores_NL=factor * attributions.scores_NL)


def test_same_model_is_unchanged(golden: Golden) -> None:
    """Rounded scores are the same scores."""
    found = canary(REFERENCE, scaled_scores(REFERENCE, 1 + 1e-9), "mean_abs", comparable=True)
    assert not found.changed
    assert found.moved == pytest.approx(0, abs=1e-6)
    golden(summary(found))


def test_changed_model_is_reported(golden: Golden) -> None:
    """The scores decide if the model has changed; the attributions give the attribution shift."""
    found = canary(REFERENCE, scaled_scores(REFERENCE, 1.5), "mean_abs", comparable=True)
    before_D, now_D = (abs(each.phi_NDL[:, :, 0]).mean(axis=0) for each in (REFERENCE, scaled_scores(REFERENCE, 1.5)))
    assert found.changed
    assert found.difference == pytest.approx(abs(REFERENCE.scores_NL).max() / 2)
    assert found.moved == pytest.approx(abs(before_D / before_D.sum() - now_D / now_D.sum()).sum() / 2)
    golden(summary(found))


def test_other_estimator_settings_have_no_attribution_shift() -> None:
    """Only the scores are compared."""
    same, other = (canary(REFERENCE, scaled_scores(REFERENCE, x), "mean_abs", comparable=False) for x in (1, 2))
    assert (same.changed, same.moved) == (False, None)
    assert (other.changed, other.moved) == (True, None)


def test_features_are_matched_by_name() -> None:
    """Another order of the features is no change."""
    order = [3, 1, 4, 0, 2]
    now = replace(REFERENCE, names=tuple(REFERENCE.names[d] for d in order), phi_NDL=REFERENCE.phi_NDL[:, order])
    assert canary(REFERENCE, now, "mean_abs", comparable=True).moved == pytest.approx(0, abs=1e-12)


def test_another_number_of_outputs_is_another_model() -> None:
    """The scores are not compared."""
    two = replace(
        REFERENCE,
        labels=("y", "z"),
        phi_NDL=np.repeat(REFERENCE.phi_NDL, 2, axis=2),
        scores_NL=np.repeat(REFERENCE.scores_NL, 2, axis=1),
        expected_L=np.zeros(2),
    )
    assert canary(REFERENCE, two, "mean_abs", comparable=True).changed
