"""Exact Shapley values by enumeration of all coalitions.

Array letters: N records, L labels, P players.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.domain.attributions import Estimate
from runner.errors import ExplainerError
from runner.explain.pairs import ask_differences, by_record, each
from runner.explain.posterior import complete
from runner.protocols import Game

MOST_PLAYERS = 20


@dataclass(frozen=True)
class Exact:
    """Enumerates the coalitions of the features that differ from the background; the others are exactly 0."""

    keeps_unvarying = False

    @property
    def settings(self) -> dict[str, Any]:
        """The explainer's name."""
        return {"explainer": "exact"}

    def coalitions(self, players: int, varying: int) -> int:  # noqa: ARG002  all that play vary
        """Return 2^P − 2, the coalitions of one record besides the empty one and that of all.

        Raises:
            ExplainerError: when there are more features than can be enumerated.
        """
        if players > MOST_PLAYERS:
            raise ExplainerError(
                f"shap.explainer=exact would need 2^{players} coalitions for a record with {players} features that "
                f"differ from the baseline; it takes {MOST_PLAYERS} at most: use shap.explainer=kernel"
            )
        return max(0, int(2**players) - 2)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, without variance."""
        everything = complete(game.players)
        phi_RP = each(ask_differences(game, everything.half_JP), everything.solver_MP)
        return Estimate(by_record(phi_RP, len(game.expected_L)), variance_NPL=None)
