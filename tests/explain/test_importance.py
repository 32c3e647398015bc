"""Who comes first: by what players add alone, and by what is lost without them."""

from __future__ import annotations

import numpy as np

from runner.explain.blocks import restore_order
from runner.explain.coalitions import all_coalitions, draw_pairs, evaluate
from runner.explain.explainers.kernel import evaluate_by_importance
from tests.explain.games import Table, stepped


def test_the_most_important_players_come_first() -> None:
    """Additive games have their players by the size of what they add, whatever its sign."""
    pulls_NP = np.array([[0.1, -3.0, 2.0, 0.5, 1.0], [5.0, 4.0, -3.0, 2.0, 1.0]])
    order_NP, _ = evaluate_by_importance(
        Table(pulls_NP @ all_coalitions(5).T), draw_pairs(5, 8, np.random.default_rng(0))
    )
    assert order_NP.tolist() == [[1, 2, 4, 3, 0], [0, 1, 2, 3, 4]]


def test_values_are_those_of_the_ordered_game() -> None:
    """All values are those that a game gives whose players were in this order from the start."""
    game, half_JP = stepped(6, 7, np.random.default_rng(0)), draw_pairs(7, 30, np.random.default_rng(1))
    order_NP, values_RK = evaluate_by_importance(game, half_JP)
    np.testing.assert_array_equal(values_RK, evaluate(game.reorder(order_NP), half_JP))
    assert not (order_NP == np.arange(7)).all()


def test_size_one_alone_is_enough() -> None:
    """With as many pairs as players, nothing else is asked."""
    game, half_JP = stepped(2, 6, np.random.default_rng(0)), draw_pairs(6, 6, np.random.default_rng(1))
    order_NP, values_RK = evaluate_by_importance(game, half_JP)
    np.testing.assert_array_equal(values_RK, evaluate(game.reorder(order_NP), half_JP))


def test_rounding_errors_change_no_order() -> None:
    """Players without effect keep their places, though a model's answers differ in their last bits."""
    pulls_NP = np.zeros((1, 12))
    pulls_NP[0, 7] = 1.0
    values_NK = pulls_NP @ all_coalitions(12).T
    noise_NK = np.random.default_rng(0).normal(size=values_NK.shape) * 1e-16
    noise_NK[:, 0] = 0
    orders = [
        evaluate_by_importance(Table(values), draw_pairs(12, 20, np.random.default_rng(0)))[0].tolist()
        for values in (values_NK, values_NK + noise_NK)
    ]
    assert orders[0] == orders[1] == [[7, *range(7), *range(8, 12)]]


def test_the_labels_of_a_record_share_an_order() -> None:
    """What a player does to all outputs together decides, and every game of a record is asked for the same."""

    class TwoLabels(Table):
        @property
        def scores_NL(self) -> np.ndarray:
            return np.repeat(super().scores_NL, 2, axis=1) * [1, -5]

        @property
        def expected_L(self) -> np.ndarray:
            return np.repeat(super().expected_L, 2) * [1, -5]

        def value(self, masks_KP: np.ndarray) -> np.ndarray:
            return super().value(masks_KP) * [1, -5]

    game, half_JP = stepped(4, 6, np.random.default_rng(2)), draw_pairs(6, 12, np.random.default_rng(1))
    order_NP, values_RK = evaluate_by_importance(game, half_JP)
    both_NP, values_R2K = evaluate_by_importance(TwoLabels(game.values_NK), half_JP)
    assert both_NP.tolist() == order_NP.tolist()
    np.testing.assert_allclose(values_R2K, np.stack([values_RK, -5 * values_RK], axis=1).reshape(8, -1))


def test_the_way_back() -> None:
    """Values in the order go to the seats of their players."""
    order_NP = np.array([[2, 0, 1], [0, 2, 1]])
    back_NPL = restore_order(np.array([[7.0, 8.0, 9.0], [7.0, 8.0, 9.0]])[:, :, None], order_NP)
    assert back_NPL[:, :, 0].tolist() == [[8.0, 9.0, 7.0], [7.0, 9.0, 8.0]]
