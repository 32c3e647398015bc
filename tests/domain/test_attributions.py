"""SHAP attributions."""

from __future__ import annotations

import numpy as np
import pytest

from runner.domain.attributions import Attributions


@pytest.mark.parametrize(("score", "residual"), [(1.0, 0.0), (1.5, 0.5), (0.25, 0.75)])
def test_residual_is_the_violation_of_efficiency(score: float, residual: float) -> None:
    """The residual is the distance of the score from the sum of attributions and expected value."""
    phi_NDL = np.array([[[0.5], [0.25]]])
    attributions = Attributions(("a", "b"), ("label0",), phi_NDL, np.array([0.25]), np.array([[score]]), 1)
    assert attributions.residual == residual
