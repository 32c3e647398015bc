"""Kernel SHAP: Shapley values estimated by a weighted regression on sampled coalitions.

Array letters: N records, L labels, P players, K coalitions, J = K / 2 pairs, G designs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.domain import Estimate, Noise
from runner.errors import ExplainerError
from runner.explain.coalitions import kernel_designs
from runner.protocols import Game

DESIGNS = 64
"""Alternative designs; a record takes the one that the hash of its content picks."""

LARGEST_DESIGN = 2**23
"""Coalitions times features of all designs together; with larger budgets there are fewer designs."""


@dataclass(frozen=True)
class Kernel:
    """Kernel SHAP without feature selection, on designs that the seed draws.

    Because a record's content picks its design, the result does not depend on the order or batches of the records,
    and because there are many designs their errors do not line up across records.

    Attributes:
        num_samples: coalitions per record and background row; None for min(2·P + 2^11, 2^P − 2).
        seed: draws the designs.
    """

    num_samples: int | None
    seed: int

    keeps_unvarying = True

    @property
    def settings(self) -> dict[str, Any]:
        """The explainer's name and what its noise depends on."""
        return {"explainer": "kernel", "num_samples": self.num_samples, "seed": self.seed}

    def coalitions(self, players: int) -> int:
        """Return the coalitions of one record, never more than the 2^P − 2 there are.

        Raises:
            ExplainerError: when `num_samples` cannot determine the attributions.
        """
        every = int(2**players - 2)
        wanted = 2 * players + 2**11 if self.num_samples is None else self.num_samples
        least = min(2 * players, every)
        if wanted < least:
            raise ExplainerError(
                f"shap.num_samples={wanted} cannot determine {players} attributions: use {least} or more"
            )
        coalitions = min(wanted, every) // 2 * 2
        if coalitions * players > LARGEST_DESIGN:
            most = LARGEST_DESIGN // players // 2 * 2
            raise ExplainerError(
                f"shap.num_samples={wanted} needs too much memory for {players} features: use {most} at most"
            )
        return coalitions

    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL, and the noise of the drawn pairs."""
        total_NL = game.scores_NL - game.expected_L
        if game.players < 2:
            return Estimate(total_NL[:, None, :].repeat(game.players, axis=1), noise=None)
        coalitions = self.coalitions(game.players)
        count = min(DESIGNS, LARGEST_DESIGN // (coalitions * game.players))
        designs = kernel_designs(game.players, coalitions, count, self.seed)
        design_N = (game.keys_N % len(designs.masks_GKP)).astype(np.intp)
        values_NKL = game.value(designs.masks_GKP, design_N)
        coalition_NJL, complement_NJL = np.split(values_NKL, 2, axis=1)
        difference_NJL = coalition_NJL - complement_NJL
        fitted_NPL: NDArray[np.float64] = np.einsum("npj,njl->npl", designs.solver_GPJ[design_N], difference_NJL)
        phi_NPL = fitted_NPL + designs.slack_GP[design_N][:, :, None] * total_NL[:, None, :]
        drawn = slice(difference_NJL.shape[1] - designs.gain_GJ.shape[1], None)
        noise = Noise(
            design_N=design_N,
            influence_GPJ=designs.solver_GPJ[:, :, drawn],
            residual_NJL=designs.residual(difference_NJL[:, drawn], phi_NPL, design_N),
        )
        return Estimate(phi_NPL, noise)
