"""Kernel SHAP: Shapley values estimated from the values of sampled coalitions.

Array letters: N records, L labels, R = N·L games, P players, J pairs, K coalitions, M differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Estimate
from runner.explain.coalitions import by_record, coalition_budget, differences, evaluate, rowwise_matmul
from runner.explain.control_variate import control_variate
from runner.explain.explainers.exact import Exact
from runner.explain.game_explainer import GameExplainer, restore_order
from runner.explain.gaussian_process import posterior
from runner.protocols import Game

MAX_SAMPLES = 8192
"""Largest number of coalitions; the matrix of a larger design needs too much memory."""
STEPS = 1e9
"""Number of distinguished levels of importance: players that differ only by rounding errors stay in their order."""


@dataclass(frozen=True)
class Kernel(GameExplainer):
    """The posterior of Shapley values, with a control variate if the model's outputs are probabilities.

    Attributes:
        num_samples: coalitions per record and background row; None for min(2·P + 2^11, 2^P − 2).
        seed: seed of the coalitions.
    """

    num_samples: int | None
    seed: int

    is_exact: ClassVar[bool] = False

    @property
    def settings(self) -> dict[str, object]:
        """Name of the explainer, and the settings that its noise depends on."""
        return {"explainer": "kernel", "compat": None, "num_samples": self.num_samples, "seed": self.seed}

    def coalitions(self, players: int) -> int:
        """Return the number of coalitions, at most 2^P − 2.

        Raises:
            ExplainerError: if `num_samples` is too small for this number of players, or too large.
        """
        return coalition_budget(self.num_samples, players, MAX_SAMPLES)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, and its variance unless all coalitions were evaluated."""
        P, labels = game.players, len(game.expected_L)
        design = posterior(P, self.coalitions(P) // 2, self.seed)
        if design.complete:
            return Exact().estimate(game)
        order_NP, values_RK = evaluate_by_importance(game, design.half_JP)
        differences_RM, control = differences(values_RK), control_variate(values_RK, design)
        residual_RM = differences_RM - control.differences_RM
        phi_RP = control.phi_RP + rowwise_matmul(residual_RM, design.solver_MP)
        phi_RP += (differences_RM[:, -1:] - phi_RP.sum(axis=1, keepdims=True)) / P
        variance_RP = (
            design.variance_ratio(residual_RM) * control.variance_inflation_R1 * design.variance_P
            + control.rounding_R1**2
        )
        return Estimate(*(restore_order(by_record(rows_RP, labels), order_NP) for rows_RP in (phi_RP, variance_RP)))


def evaluate_by_importance(game: Game, half_JP: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return order_NP, the players of each record by importance, and values_RK of coalitions in this order.

    The importance of a player is its effect on the empty coalition and on the grand coalition. These singleton pairs
    are evaluated first, so that the prior of interactions can depend on the order.

    Args:
        game: game to evaluate.
        half_JP: one coalition of each pair; the first P are the singletons, as in `draw_pairs`.
    """
    J, P = half_JP.shape
    singleton_RK = evaluate(game, half_JP[:P])
    order_NP = _order(singleton_RK, len(game.expected_L))
    both_R2P, order_R1P = singleton_RK[:, :-2].reshape(-1, 2, P), order_NP.repeat(len(game.expected_L), axis=0)[:, None]
    single_RP, complement_RP = np.take_along_axis(both_R2P, order_R1P, axis=2).transpose(1, 0, 2)
    other_RK = evaluate(game.reorder(order_NP), half_JP[P:])
    return order_NP, np.concatenate([single_RP, other_RK[:, : J - P], complement_RP, other_RK[:, J - P :]], axis=1)


def _order(singleton_RK: NDArray[np.float64], labels: int) -> NDArray[np.intp]:
    P = singleton_RK.shape[1] // 2 - 1
    gain_RP, loss_RP = singleton_RK[:, :P] - singleton_RK[:, -1:], singleton_RK[:, -2:-1] - singleton_RK[:, P : 2 * P]
    importance_NP = (gain_RP**2 + loss_RP**2).reshape(-1, labels, P).sum(axis=1)
    max_N1 = importance_NP.max(axis=1, keepdims=True)
    steps_NP = np.rint(importance_NP * (STEPS / np.where(max_N1 > 0, max_N1, 1)))
    order_NP: NDArray[np.intp] = (-steps_NP).argsort(axis=1, kind="stable")
    return order_NP
