"""The players of each game in the order of their importance, the most important first.

What a player adds to nobody, and what all lose without it, comes first. So the order is known before other coalitions
are drawn, and what is presumed of interactions can depend on it.

Array letters: N records, L labels, R = N·L games, P players, J pairs, K coalitions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runner.explain.pairs import ask
from runner.protocols import Game

STEPS = 1e9
"""Of importance, up to the largest: players of which only rounding errors are seen stay in the order they had."""


def ask_in_order(game: Game, half_JP: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the players in their order as order_NP, and values_RK of coalitions of players in that order.

    Args:
        game: is asked for each coalition once.
        half_JP: one coalition of each pair, the first P of them of each player alone.
    """
    J, P = half_JP.shape
    alone_RK = ask(game, half_JP[:P])
    order_NP = _order(alone_RK, len(game.expected_L))
    both_R2P, order_R1P = alone_RK[:, :-2].reshape(-1, 2, P), order_NP.repeat(len(game.expected_L), axis=0)[:, None]
    with_RP, without_RP = np.take_along_axis(both_R2P, order_R1P, axis=2).transpose(1, 0, 2)
    others_RK = ask(game.ordered(order_NP), half_JP[P:])
    return order_NP, np.concatenate([with_RP, others_RK[:, : J - P], without_RP, others_RK[:, J - P :]], axis=1)


def _order(alone_RK: NDArray[np.float64], labels: int) -> NDArray[np.intp]:
    P = alone_RK.shape[1] // 2 - 1
    adds_RP, loses_RP = alone_RK[:, :P] - alone_RK[:, -1:], alone_RK[:, -2:-1] - alone_RK[:, P : 2 * P]
    weight_NP = (adds_RP**2 + loses_RP**2).reshape(-1, labels, P).sum(axis=1)
    most_N1 = weight_NP.max(axis=1, keepdims=True)
    steps_NP = np.rint(weight_NP * (STEPS / np.where(most_N1 > 0, most_N1, 1)))
    order_NP: NDArray[np.intp] = (-steps_NP).argsort(axis=1, kind="stable")
    return order_NP


def in_seats(ordered_NPL: NDArray[np.float64], order_NP: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return values of players in their order as values_NPL of players in the seats that they have in the game."""
    values_NPL = np.empty_like(ordered_NPL)
    np.put_along_axis(values_NPL, order_NP[:, :, None], ordered_NPL, axis=1)
    return values_NPL
