"""An additive game in log-odds: its fit to the values of another game, and its own Shapley values, exactly.

Where a probability comes out of features that add up in log-odds, as they nearly do in many a classifier, this game
explains all of it, so that coalitions only have to tell what is left. It serves as a control variate.

Array letters: R or N games, P players, K coalitions, W frequencies.

Source: σ(x) = ½ + ∫₀^∞ sin(ωx) / sinh(πω) dω turns a sigmoid of a sum into products over the players. Owen's integral
(1972) is φ_p = ∫₀¹ E[v(S ∪ p) − v(S)] dt over coalitions S that each other player joins with chance t, so that
φ_p = ∫∫ Im{ e^{iωc} · Π_{q≠p} (1 + t·(e^{iωβ_q} − 1)) · (e^{iωβ_p} − 1) } / sinh(πω) dt dω.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.explain.pairs import differences, each
from runner.explain.posterior import Posterior

SMALLEST = 1e-12
"""Probabilities are moved this far away from 0 and 1 before their log-odds are taken."""
MARGIN = 14.0
"""Frequencies are as many and as high as it takes to leave out no more than exp(−14) = 1e-6."""
HIGHEST = MARGIN / pi + 0.2
STEPS = 4
"""Games whose numbers of frequencies are the same multiple of it are computed together."""
CHUNK = 2**16
"""Players times frequencies times games that are held at once."""
FITTED_TO = 300
"""Values that the second step of the fit takes; more would hardly change it."""
TINY = 1e-300
RIDGE = 1e-9
"""Of the mean weight: what the values do not tell stays as it was."""


class Nodes(NamedTuple):
    """Where Owen's integral is looked at; an even number of them never meets t = ½, where a factor may be 0."""

    t: NDArray[np.float64]
    share: NDArray[np.float64]


def _nodes(count: int) -> Nodes:
    x, weight = np.polynomial.legendre.leggauss(count)
    return Nodes((x + 1) / 2, weight / 2)


FEW, MANY = _nodes(4), _nodes(6)
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
        ends_2N = [self.intercept_N + clip(self.slope_NP, 0).sum(axis=1) for clip in (np.minimum, np.maximum)]
        reach_N = np.abs(ends_2N).max(axis=0)
        steps_N = np.ceil(HIGHEST * (reach_N + MARGIN) / (2 * pi * STEPS)).astype(int)
        phi_NP = np.zeros_like(self.slope_NP)
        for steps, near in np.unique(np.stack([steps_N, reach_N <= NEAR], axis=1), axis=0).tolist():
            alike = np.flatnonzero((steps_N == steps) & ((reach_N <= NEAR) == near))
            size = max(1, CHUNK // (steps * STEPS * phi_NP.shape[1]))
            for some in (alike[lo : lo + size] for lo in range(0, len(alike), size)):
                phi_NP[some] = _integrate(self.some(some), steps * STEPS, FEW if near else MANY)
        return phi_NP


def fit(values_RK: NDArray[np.float64], design: Posterior) -> LogOdds:
    """Return the additive games whose log-odds come closest to those of the probabilities values_RK.

    The posterior mean of their log-odds comes first. Then one step of weighted least squares gives each value the
    weight (p·(1−p))², with which log-odds are as uncertain as probabilities of equal precision make them: those of a
    saturated score, which had to be moved away from 0 or 1, count for nothing.
    """
    odds_RK = logit(values_RK)
    slope_RP = each(differences(odds_RK), design.solver_MP)
    intercept_R = (odds_RK - each(slope_RP, design.members_PK)).mean(axis=1)
    some = np.linspace(0, values_RK.shape[1] - 1, min(FITTED_TO, values_RK.shape[1])).astype(int)
    members_PK, some_RK = design.members_PK[:, some], values_RK[:, some]
    left_RK = odds_RK[:, some] - each(slope_RP, members_PK) - intercept_R[:, None]
    step_RQ = _least_squares((some_RK * (1 - some_RK)) ** 2, left_RK, members_PK)
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
    odds: NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
    return odds


def _integrate(games: LogOdds, count: int, nodes: Nodes) -> NDArray[np.float64]:
    """Return phi_NP by W = `count` midpoints over ω and Gauss' nodes over t.

    With f = 1 + t·r, the factor of a player, r / f = (1 − 1/f) / t spares a complex division. Frequencies lie last in
    memory, so that the order of summation is the same for any number of games.
    """
    slope_PN, step = games.slope_NP.T, HIGHEST / count
    omega_W = (np.arange(count) + 0.5) * step
    turn_PNW = np.exp(1j * step * slope_PN)[:, :, None].repeat(count, axis=2)
    turn_PNW[:, :, 0] = np.exp(0.5j * step * slope_PN)
    turn_PNW = np.multiply.accumulate(turn_PNW, axis=2)
    cosine_PNW, sine_PNW = turn_PNW.real - 1, turn_PNW.imag.copy()
    phase_NW = step / np.sinh(pi * omega_W) * np.exp(1j * omega_W * games.intercept_N[:, None])
    phi_PN = np.zeros(slope_PN.shape)
    for t, share in zip(*nodes, strict=True):
        real_PNW, imag_PNW = 1 + t * cosine_PNW, t * sine_PNW
        whole_NW = np.multiply.reduce(t * turn_PNW + (1 - t), axis=0) * phase_NW * (share / t)
        without_PNW = whole_NW.imag * real_PNW - whole_NW.real * imag_PNW
        without_PNW /= real_PNW**2 + imag_PNW**2
        phi_PN += (whole_NW.imag - without_PNW).sum(axis=2)
    return phi_PN.T
