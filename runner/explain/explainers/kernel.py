"""Kernel SHAP: Shapley values estimated from the values of some coalitions.

Array letters: N records, L labels, R = N·L games, P players, J pairs, K coalitions, M differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.domain.attributions import Estimate
from runner.explain.coalitions import coalition_budget
from runner.explain.control import control_variate
from runner.explain.explainers.exact import Exact
from runner.explain.importance import ask_in_order, in_seats
from runner.explain.pairs import by_record, differences, each
from runner.explain.posterior import posterior
from runner.protocols import Game

MOST_SAMPLES = 8192
"""Beyond, the matrix of a design grows too large."""


@dataclass(frozen=True)
class Kernel:
    """The posterior of Shapley values, helped by a control variate where the model's outputs are probabilities.

    Attributes:
        num_samples: coalitions per record and background row; None for min(2·P + 2^11, 2^P − 2).
        seed: draws the coalitions.
    """

    num_samples: int | None
    seed: int

    keeps_unvarying = False

    @property
    def settings(self) -> dict[str, Any]:
        """The explainer's name and what its noise depends on."""
        return {"explainer": "kernel", "compat": None, "num_samples": self.num_samples, "seed": self.seed}

    def coalitions(self, players: int, varying: int) -> int:  # noqa: ARG002  all that play vary
        """Return the coalitions of one record, never more than the 2^P − 2 there are.

        Raises:
            ExplainerError: when `num_samples` is too few for that many players, or too many.
        """
        return coalition_budget(self.num_samples, players, MOST_SAMPLES)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, and its variance unless there was a value for every coalition."""
        P, labels = game.players, len(game.expected_L)
        design = posterior(P, self.coalitions(P, P) // 2, self.seed)
        if design.complete:
            return Exact().estimate(game)
        order_NP, values_RK = ask_in_order(game, design.half_JP)
        differences_RM, control = differences(values_RK), control_variate(values_RK, design)
        left_RM = differences_RM - control.differences_RM
        phi_RP = control.phi_RP + each(left_RM, design.solver_MP)
        phi_RP += (differences_RM[:, -1:] - phi_RP.sum(axis=1, keepdims=True)) / P
        variance_RP = (
            design.variance_ratio(left_RM) * control.variance_inflation_R1 * design.variance_P + control.rounding_R1**2
        )
        return Estimate(*(in_seats(by_record(rows_RP, labels), order_NP) for rows_RP in (phi_RP, variance_RP)))
