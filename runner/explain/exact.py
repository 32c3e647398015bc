"""Exact Shapley values by enumeration of all coalitions.

Array letters: N records, L labels, P players, K coalitions.

Source: Shapley (1953); φ_p = Σ over coalitions S without p of |S|! (P−|S|−1)! / P! · (v(S ∪ p) − v(S)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.domain import Estimate
from runner.errors import ExplainerError
from runner.explain import coalitions
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

    def coalitions(self, players: int) -> int:
        """Return 2^P, the coalitions of one record.

        Raises:
            ExplainerError: when there are more features than can be enumerated.
        """
        if players > MOST_PLAYERS:
            raise ExplainerError(
                f"shap.explainer=exact would need 2^{players} coalitions for a record with {players} features that "
                f"differ from the baseline; it takes {MOST_PLAYERS} at most: use shap.explainer=kernel"
            )
        return int(2**players)

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, without noise."""
        masks_KP, share_PK = _enumeration(game.players)
        values_NKL = game.value(masks_KP[None], np.zeros(len(game.keys_N), dtype=np.intp))
        phi_NPL: NDArray[np.float64] = np.einsum("pk,nkl->npl", share_PK, values_NKL)
        return Estimate(phi_NPL, noise=None)


@lru_cache(maxsize=32)
def _enumeration(players: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return all masks_KP, and share_PK: with which factor each coalition's value enters each player's φ."""
    masks_KP = coalitions.every(players)
    size_K1 = masks_KP.sum(axis=1)[:, None]
    weights = np.array([1 / (players * comb(players - 1, s)) for s in range(players)] or [0.0])
    joining_KP = weights[np.maximum(size_K1 - 1, 0)]
    leaving_KP = weights[np.minimum(size_K1, len(weights) - 1)]
    return masks_KP, np.ascontiguousarray(np.where(masks_KP, joining_KP, -leaving_KP).T)
