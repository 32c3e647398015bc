"""An additive game in log-odds: its fit to the values of another game, and its own Shapley values, exactly.

Where a probability comes out of features that add up in log-odds, as they nearly do in many a classifier, this game
explains all of it, so that coalitions only have to tell what is left. It serves as a control variate.

Array letters: R or N games, P players, K coalitions, W frequencies.

Source: σ(x) = ½ + ∫₀^∞ sin(ωx) / sinh(πω) dω turns a sigmoid of a sum into products over the players. Owen's integral
(1972) is φ_p = ∫₀¹ E[v(S ∪ p) − v(S)] dt over coalitions S that each other player joins with chance t. With u = 2t − 1,
the log-odds m in the middle between nobody and all players, and a player's half turn α_q = ωβ_q / 2, this is
φ_p = ∫₀¹∫₀^∞ 2 cos(ωm) · sin α_p · Re{ Π_{q≠p} (cos α_q + i·u·sin α_q) } / sinh(πω) dω du, as u and −u count the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.explain.masking import slices
from runner.explain.pairs import differences, each
from runner.explain.posterior import Posterior

SMALLEST = 1e-12
"""Probabilities are moved this far away from 0 and 1 before their log-odds are taken."""
MARGIN = 14.0
"""Frequencies are as many and as high as it takes to leave out no more than exp(−14) = 1e-6."""
HIGHEST = MARGIN / pi + 0.2
STEPS = 4
"""Games whose numbers of frequencies are the same multiple of it are computed together."""
CHUNK = 2**15
"""Players times frequencies times games that are held at once."""
FITTED_TO = 300
"""Values that the second step of the fit takes; more would hardly change it."""
TINY = 1e-300
RIDGE = 1e-9
"""Of the mean weight: what the values do not tell stays as it was."""


class Nodes(NamedTuple):
    """Gauss' nodes u > 0 of Owen's integral and their weights; u = 0, where a factor may be 0, is none of them."""

    u: list[float]
    weight: list[float]


def _nodes(pairs: int) -> Nodes:
    u, weight = np.polynomial.legendre.leggauss(2 * pairs)
    return Nodes(u[pairs:].tolist(), weight[pairs:].tolist())


FEW, MANY = _nodes(2), _nodes(3)
NEAR = 4.0
"""Games whose log-odds stay within make do with few nodes."""


@dataclass(frozen=True)
class LogOdds:
    """N games with the value σ(intercept + Σ slopes of the members)."""

    intercept_N: NDArray[np.float64]
    slope_NP: NDArray[np.float64]

    def some(self, rows: NDArray[np.intp]) -> LogOdds:
        """Return the games at some places."""
        return LogOdds(self.intercept_N[rows], self.slope_NP[rows])

    def value(self, members_PK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values_NK of coalitions, given as 1 for a member and 0 for an outsider."""
        margin_NK = each(self.slope_NP, members_PK) + self.intercept_N[:, None]
        return 1 / (1 + np.exp(-margin_NK))

    def shapley(self) -> NDArray[np.float64]:
        """Return phi_NP, to within 1e-6."""
        half_NP = self.slope_NP / 2
        reach_N = abs(self.intercept_N + half_NP.sum(axis=1)) + abs(half_NP).sum(axis=1)
        steps_N = np.ceil(HIGHEST * (reach_N + MARGIN) / (2 * pi * STEPS)).astype(int)
        phi_NP = np.zeros_like(self.slope_NP)
        kind_N = np.where(reach_N <= NEAR, -steps_N, steps_N)
        for kind in np.unique(kind_N).tolist():
            alike, count = np.flatnonzero(kind_N == kind), abs(kind) * STEPS
            size = max(1, CHUNK // (count * phi_NP.shape[1]))
            for some in (alike[part] for part in slices(len(alike), size)):
                phi_NP[some] = _integrate(self.some(some), count, FEW if kind < 0 else MANY)
        return phi_NP


def fit(values_RK: NDArray[np.float64], design: Posterior) -> LogOdds:
    """Return the additive games whose log-odds come closest to those of the probabilities values_RK.

    The posterior mean of their log-odds comes first. Then one step of weighted least squares gives each value the
    weight (p·(1−p))², with which log-odds are as uncertain as probabilities of equal precision make them: those of a
    saturated score, which had to be moved away from 0 or 1, count for nothing.
    """
    odds_RK = logit(values_RK)
    slope_RP = each(differences(odds_RK), design.solver_MP)
    left_RK = odds_RK - each(slope_RP, design.members_PK)
    intercept_R = left_RK.mean(axis=1)
    some = np.linspace(0, values_RK.shape[1] - 1, min(FITTED_TO, values_RK.shape[1])).astype(int)
    some_RK, left_RK = values_RK.take(some, axis=1), left_RK.take(some, axis=1) - intercept_R[:, None]
    step_RQ = _least_squares((some_RK * (1 - some_RK)) ** 2, left_RK, design.members_PK[:, some])
    return LogOdds(intercept_R + step_RQ[:, 0], slope_RP + step_RQ[:, 1:])


def _least_squares(
    weight_RK: NDArray[np.float64], left_RK: NDArray[np.float64], members_PK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the Q = P + 1 coefficients of one and the members that explain what is left, as step_RQ."""
    columns_QK = np.concatenate([np.ones((1, members_PK.shape[1])), members_PK])
    Q = len(columns_QK)
    first, second = np.triu_indices(Q)
    normal_RQQ = np.empty((len(weight_RK), Q, Q))
    normal_RQQ[:, first, second] = each(weight_RK, (columns_QK[first] * columns_QK[second]).T)
    normal_RQQ[:, second, first] = normal_RQQ[:, first, second]
    diagonal = np.arange(Q)
    normal_RQQ[:, diagonal, diagonal] += RIDGE * weight_RK.sum(axis=1, keepdims=True) + TINY
    right_RQ1 = each(weight_RK * left_RK, columns_QK.T)[:, :, None]
    return np.linalg.solve(normal_RQQ, right_RQ1)[:, :, 0].astype(np.float64)


def logit(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-odds, of probabilities moved away from 0 and 1 by `SMALLEST`."""
    clipped = np.clip(probabilities, SMALLEST, 1 - SMALLEST)
    odds: NDArray[np.float64] = np.log(clipped / (1 - clipped))
    return odds


def _integrate(games: LogOdds, count: int, nodes: Nodes) -> NDArray[np.float64]:
    """Return phi_NP by W = `count` midpoints over ω and Gauss' nodes over u.

    Frequencies lie last in memory, so that the order of summation is the same for any number of games.
    """
    step = HIGHEST / count
    omega_W = (np.arange(count) + 0.5) * step
    cosine_PNW, sine_PNW = _half_turns(games.slope_NP.T, step, count)
    middle_N1 = (games.intercept_N + games.slope_NP.sum(axis=1) / 2)[:, None]
    share_NW = 2 * step * np.cos(omega_W * middle_N1) / np.sinh(pi * omega_W)
    phi_PN = np.zeros(games.slope_NP.T.shape)
    for u, weight in zip(*nodes, strict=True):
        tilted_PNW = u * sine_PNW
        real_NW, imag_NW = weight * share_NW, np.zeros_like(share_NW)
        for cosine_NW, tilted_NW in zip(cosine_PNW, tilted_PNW, strict=True):
            turned_NW = real_NW * tilted_NW + imag_NW * cosine_NW
            real_NW, imag_NW = real_NW * cosine_NW - imag_NW * tilted_NW, turned_NW
        without_PNW = cosine_PNW * real_NW
        without_PNW += tilted_PNW * imag_NW
        tilted_PNW **= 2
        tilted_PNW += cosine_PNW**2
        without_PNW /= tilted_PNW
        phi_PN += np.einsum("pnw,pnw->pn", without_PNW, sine_PNW)
    return phi_PN.T


def _half_turns(
    slope_PN: NDArray[np.float64], step: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosines and sines of ωβ/2 at all frequencies: those known, turned by as many steps, tell as many more."""
    turn_PNW = np.empty((*slope_PN.shape, count), dtype=np.complex128)
    turn_PNW[:, :, 0] = np.exp(0.25j * step * slope_PN)
    ahead_PN1, known = np.exp(0.5j * step * slope_PN)[:, :, None], 1
    while known < count:
        more = min(known, count - known)
        np.multiply(turn_PNW[:, :, :more], ahead_PN1, out=turn_PNW[:, :, known : known + more])
        ahead_PN1, known = ahead_PN1**2, known + more
    return turn_PNW.real.copy(), turn_PNW.imag.copy()
