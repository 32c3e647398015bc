"""Exact Shapley values from all coalitions.

Array letters: N records, L labels, P players.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from runner.domain.attributions import Estimate
from runner.errors import ExplainerError
from runner.explain.coalitions import by_record, evaluate_differences, rowwise_matmul
from runner.explain.game_explainer import GameExplainer
from runner.explain.gaussian_process import complete
from runner.protocols import Game

MAX_PLAYERS = 20


@dataclass(frozen=True)
class Exact(GameExplainer):
    """Explainer that evaluates all coalitions of the features that differ from the background."""

    is_exact: ClassVar[bool] = True

    @property
    def settings(self) -> dict[str, object]:
        """Name of the explainer."""
        return {"explainer": "exact"}

    def coalitions(self, players: int) -> int:
        """Return 2^P − 2: all coalitions except the empty and the grand coalition.

        Raises:
            ExplainerError: if there are too many players.
        """
        if players > MAX_PLAYERS:
            raise ExplainerError(
                f"shap.explainer=exact: a record with {players} features that differ from the baseline has 2^{players} "
                f"coalitions; the limit is {MAX_PLAYERS} features. Use shap.explainer=kernel"
            )
        return max(0, int(2**players) - 2)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, without variance."""
        design = complete(game.players)
        phi_RP = rowwise_matmul(evaluate_differences(game, design.half_JP), design.solver_MP)
        return Estimate(by_record(phi_RP, len(game.expected_L)), variance_NPL=None)
