"""Exact Shapley values of additive models in closed form, without coalitions.

Array letters: N records, L labels, P players.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Estimate, Margin
from runner.errors import ExplainerError
from runner.explain.control_variate import LogitAdditive
from runner.explain.game_explainer import GameExplainer
from runner.protocols import Game

ROUNDING = 1e-5
"""Largest difference between the sum of attributions and a score of single precision, relative to 1 + |score|."""


@dataclass(frozen=True)
class LinearExplainer(GameExplainer):
    """Explainer of additive models: φ is a difference of terms, or an integral if the link is logistic."""

    is_exact: ClassVar[bool] = True

    @property
    def settings(self) -> dict[str, object]:
        """Name of the explainer."""
        return {"explainer": "linear"}

    def coalitions(self, players: int) -> int:  # noqa: ARG002  the same for any number
        """Return 0: no coalition is evaluated."""
        return 0

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, without variance.

        Raises:
            ExplainerError: if the model is not known to be additive, or its terms do not add up to its scores.
        """
        margin = game.margin()
        if margin is None:
            supported = "linear_learner, or linear with link=identity or link=logistic"
            raise ExplainerError(
                f"shap.explainer=linear needs an additive model in this process: {supported} "
                "(with shap.use_logit=true, its outputs must be probabilities); use shap.explainer=kernel"
            )
        phi_NPL = _shapley(margin)
        total_NL = game.scores_NL - game.expected_L
        gap_NL = total_NL - phi_NPL.sum(axis=1)
        if (abs(gap_NL) > ROUNDING * (1 + abs(game.scores_NL))).any():
            problem = f"the terms of the model differ from its scores by up to {abs(gap_NL).max():.1e}"
            raise ExplainerError(f"shap.explainer=linear: {problem}; use shap.explainer=kernel")
        return Estimate(phi_NPL + gap_NL[:, None, :] / game.players, variance_NPL=None)


def _shapley(margin: Margin) -> NDArray[np.float64]:
    if margin.link == "identity":
        return margin.slope_NPL
    labels = range(margin.slope_NPL.shape[2])
    games = [LogitAdditive(margin.intercept_NL[:, i], margin.slope_NPL[:, :, i]) for i in labels]
    return np.stack([game.shapley() for game in games], axis=2)
