"""Aggregation: three methods, exact sums."""

from __future__ import annotations

import numpy as np
import pytest

from runner.domain.attributions import Attributions
from runner.explain.aggregate import Aggregation, aggregate

PHI_ND = np.array([[0.5, -3.0], [-0.1, 1.0], [0.3, -1.0]])


def attributions(phi_ND: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Attributions:
    """Return attributions with one label."""
    N, D = phi_ND.shape
    return Attributions(tuple("xyz"[:D]), ("label0",), phi_ND[:, :, None], np.zeros(1), np.zeros((N, 1)), 0)


@pytest.mark.parametrize(
    ("method", "expected"), [("mean_abs", [0.3, 5 / 3]), ("median", [0.3, -1.0]), ("mean_sq", [0.35 / 3, 11 / 3])]
)
def test_methods(method: str, expected: list[float]) -> None:
    """Mean of absolute values, median of signed ones, mean of squares."""
    np.testing.assert_allclose(aggregate(attributions(PHI_ND), Aggregation(method)).values_DL[:, 0], expected)


def test_order_does_not_matter_to_the_last_bit() -> None:
    """Sums are exact before they are rounded."""
    phi_ND = np.random.default_rng(0).normal(size=(1000, 3)) * 10.0 ** np.arange(-8, 1, 4)
    shuffled = np.random.default_rng(1).permutation(phi_ND)
    one, other = (aggregate(attributions(phi), Aggregation.MEAN_ABS).values_DL for phi in (phi_ND, shuffled))
    assert one.tobytes() == other.tobytes()
