"""The closed form for models that add up: no coalition is asked for, and nothing is estimated.

Array letters: N records, L labels, P players.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from runner.domain.attributions import Estimate, Margin
from runner.errors import ExplainerError
from runner.explain.log_odds import LogOdds
from runner.protocols import Game

ROUNDING = 1e-5
"""How far the sum of attributions may be from a score of single precision, as a share of it."""


@dataclass(frozen=True)
class Linear:
    """Of a sum, each term less the background's; of a probability, the Shapley values of its log-odds' sigmoid."""

    keeps_unvarying = False

    @property
    def settings(self) -> dict[str, Any]:
        """The explainer's name."""
        return {"explainer": "linear"}

    def coalitions(self, players: int, varying: int) -> int:  # noqa: ARG002  the same for any number of them
        """Return 0."""
        return 0

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, without variance.

        Raises:
            ExplainerError: when the model is not known to add up, or does not answer what its terms add up to.
        """
        margin = game.margin()
        if margin is None:
            needed = "a model in this process that adds up: linear_learner, or linear with another link than softmax"
            raise ExplainerError(f"shap.explainer=linear needs {needed}; use shap.explainer=kernel")
        phi_NPL = _shapley(margin)
        total_NL = game.scores_NL - game.expected_L
        gap_NL = total_NL - phi_NPL.sum(axis=1)
        if (abs(gap_NL) > ROUNDING * (1 + abs(game.scores_NL))).any():
            off = f"the terms of the model add up to scores {abs(gap_NL).max():.1e} away from those it answers"
            raise ExplainerError(f"shap.explainer=linear: {off}; use shap.explainer=kernel")
        return Estimate(phi_NPL + gap_NL[:, None, :] / game.players, variance_NPL=None)


def _shapley(margin: Margin) -> Any:
    if margin.link == "identity":
        return margin.slope_NPL
    labels = range(margin.slope_NPL.shape[2])
    games = [LogOdds(margin.intercept_NL[:, i], margin.slope_NPL[:, :, i]) for i in labels]
    return np.stack([game.shapley() for game in games], axis=2)
