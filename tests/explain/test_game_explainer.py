"""Explainers that play games: the order of players."""

from __future__ import annotations

import numpy as np

from runner.explain.game_explainer import restore_order


def test_values_return_to_the_original_order_of_players() -> None:
    """Players outside of the game get 0."""
    order_NP = np.array([[2, 0, 1], [0, 2, 1]])
    ordered_NPL = np.array([[7.0, 8.0, 9.0], [7.0, 8.0, 9.0]])[:, :, None]
    assert restore_order(ordered_NPL, order_NP)[:, :, 0].tolist() == [[8.0, 9.0, 7.0], [7.0, 9.0, 8.0]]
    assert restore_order(ordered_NPL[:1], order_NP[:1], 4)[:, :, 0].tolist() == [[8.0, 9.0, 7.0, 0.0]]
