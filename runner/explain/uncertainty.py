"""How far estimated attributions may be from the exact ones, gathered block by block.

Array letters: N records, D features, L labels, J drawn pairs, G designs, H bundles of drawn pairs.
"""

from __future__ import annotations

from itertools import pairwise
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from runner.domain import Errors, Noise
from runner.explain.aggregate import Aggregation

BUNDLES = 32
"""How many sums of draws are held for each design: enough to measure a variance, whatever the number of samples."""


class Uncertainty:
    """Standard errors of the attributions of some records and of their summary.

    A local standard error covers what the draws have done to a value: the exact one lies within ±1.96 of them in 95 %
    of the cases (measured with 50 to 500 samples of 14 features: 94 to 96 %; where few pairs are drawn and a handful
    of coalitions decides, 90 %). That of a global one covers the exact value as well, about as often or more so. It is
    the root of two squares: of the noise that is left in the mean over the records, which does not vanish with their
    number, since those of the same design err alike; and of the lift, by which noise raises a mean of sizes or squares
    however many records there are. For a median no error is known.
    """

    def __init__(self, method: Aggregation, records: int, features: int, labels: int) -> None:
        self._method = method
        self._records = records
        self._squares_L = np.zeros(labels)
        self._lift_DL = np.zeros((features, labels))
        self._moves_LGDH: NDArray[np.float64] | None = None

    def add(self, phi_NDL: NDArray[np.float64], noise: Noise, counts_N: NDArray[np.float64]) -> None:
        """Take records, each of which occurs `counts_N` times."""
        N, D, L = phi_NDL.shape
        G, _, J = noise.influence_GPJ.shape
        if not J:
            return
        if self._moves_LGDH is None:
            self._moves_LGDH = np.zeros((L, G, D, min(J, BUNDLES)))
        order_N = noise.design_N.argsort(kind="stable")
        seen_G, starts_G = np.unique(noise.design_N[order_N], return_index=True)
        alike = [slice(*ends) for ends in pairwise([*starts_G.tolist(), N])]
        influence_GDJ = noise.influence_GPJ[seen_G]
        squares_GJD = (influence_GDJ**2).transpose(0, 2, 1)
        counts_N1 = counts_N[order_N, None]
        for i in range(L):
            phi_ND, residual_NJ = phi_NDL[order_N, :, i], noise.residual_NJL[order_N, :, i]
            variances = [residual_NJ[rows] ** 2 @ of_JD for rows, of_JD in zip(alike, squares_GJD, strict=True)]
            variance_ND = np.concatenate(variances)
            slope_ND, lift_ND = self._summary(phi_ND, variance_ND)
            self._squares_L[i] += (counts_N1 * variance_ND).sum()
            self._lift_DL[:, i] += (counts_N1 * lift_ND).sum(axis=0)
            weight_DN = (counts_N1 * slope_ND).T
            moves_GDJ = np.stack([weight_DN[:, rows] @ residual_NJ[rows] for rows in alike]) * influence_GDJ
            for start in range(0, J, BUNDLES):
                some_GDH = moves_GDJ[:, :, start : start + BUNDLES]
                self._moves_LGDH[i, seen_G, :, : some_GDH.shape[2]] += some_GDH

    def errors(self) -> Errors:
        """Return the standard errors, 0 where nothing was drawn."""
        noise_DL = np.zeros_like(self._lift_DL)
        if self._moves_LGDH is not None:
            noise_DL = np.sqrt(np.einsum("lgdh,lgdh->dl", self._moves_LGDH, self._moves_LGDH))
        global_DL = np.hypot(noise_DL, self._lift_DL) / self._records
        return Errors(np.sqrt(self._squares_L / (self._records * len(self._lift_DL))), global_DL)

    def _summary(
        self, phi_ND: NDArray[np.float64], variance_ND: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how fast each value changes its part of the sum over records, and how far noise lifts that part.

        Noise of standard error s lifts φ² by s². It lifts |φ| by 0.80 s at φ = 0, less elsewhere; as φ itself is not
        known, what is returned has this mean at 0, and one that is no less than the lift elsewhere.
        """
        match self._method:
            case Aggregation.MEAN_SQ:
                return 2 * phi_ND, variance_ND
            case Aggregation.MEAN_ABS:
                error_ND = np.sqrt(variance_ND)
                ratio_ND = np.divide(phi_ND, error_ND, out=np.zeros_like(phi_ND), where=error_ND > 0)
                return np.sign(phi_ND), 2 / sqrt(pi) * error_ND * np.exp(-(ratio_ND**2) / 2)
            case Aggregation.MEDIAN:
                return np.full_like(phi_ND, np.nan), np.full_like(phi_ND, np.nan)
