"""The control variate of kernel SHAP: a surrogate game that is additive in log-odds, with computable Shapley values.

The log-odds of many classifiers are nearly additive. The surrogate is fitted to the coalition values of the explained
game. Then only the Shapley values of the residual have to be estimated from these values.

Array letters: R or N games, P players, K coalitions, M differences, H left-out differences, W frequencies,
Q = P + 1 coefficients.

Source: Glasserman (2004), section 4.1: the weight of a control variate that minimizes the variance of the residual.
Shapley values: σ(x) = ½ + ∫₀^∞ sin(ωx) / sinh(πω) dω turns the sigmoid of a sum into products over the players. Owen's
integral (1972) is φ_p = ∫₀¹ E[v(S ∪ p) − v(S)] dt, where each other player is in S with probability t.
Let u = 2t − 1, let m be the mean of the log-odds of the empty and the grand coalition, and let α_q = ωβ_q / 2 for a
player with slope β_q. Then
φ_p = ∫₀¹∫₀^∞ 2 cos(ωm) · sin α_p · Re{ Π_{q≠p} (cos α_q + i·u·sin α_q) } / sinh(πω) dω du; u and −u contribute
equally.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.explain.coalitions import differences, rowwise_matmul
from runner.explain.game import clipped_logit
from runner.explain.gaussian_process import Posterior
from runner.explain.masking import slices

MAX_PLAYERS = 40
"""Maximum number of players of a game with a control variate."""
ROUNDING = 2.0**-25
"""Standard error of φ due to the single precision of probabilities."""
MARGIN = 14.0
"""Negative natural logarithm of the truncation error of the integral over frequencies; exp(−14) is about 1e-6."""
MAX_FREQUENCY = MARGIN / pi + 0.2
STEPS = 4
"""Divisor of all numbers of frequencies, so that many games have equal numbers and are computed together."""
CHUNK = 2**15
"""Largest product of players, frequencies and games in memory."""
FIT_VALUES = 300
"""Maximum number of values per game in the second step of the fit; more values hardly change the result."""
TINY = 1e-300
RIDGE = 1e-9
"""Ridge penalty, relative to the sum of weights: coefficients that the values do not determine stay unchanged."""


class Nodes(NamedTuple):
    """Positive Gauss nodes u of Owen's integral, and their weights; at the excluded node u = 0, a divisor can be 0."""

    u: list[float]
    weight: list[float]


@cache
def _nodes(pairs: int) -> Nodes:
    u, weight = np.polynomial.legendre.leggauss(2 * pairs)
    return Nodes(u[pairs:].tolist(), weight[pairs:].tolist())


FEW, MANY = _nodes(2), _nodes(3)
NEAR = 4.0
"""Largest absolute log-odds for which few nodes are enough."""


MOST_GAP = 3e-6
"""Largest difference between the sum of Shapley values and the value of the grand coalition that is accepted."""


@dataclass(frozen=True)
class LogitAdditive:
    """N games with the value σ(intercept + Σ slopes of the members)."""

    intercept_N: NDArray[np.float64]
    slope_NP: NDArray[np.float64]

    def take(self, rows: NDArray[np.intp]) -> LogitAdditive:
        """Return the games with these indices."""
        return LogitAdditive(self.intercept_N[rows], self.slope_NP[rows])

    def value(self, members_PK: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values_NK of coalitions, given as 1 for members and 0 for non-members."""
        margin_NK = rowwise_matmul(self.slope_NP, members_PK) + self.intercept_N[:, None]
        return 1 / (1 + np.exp(-margin_NK))

    def shapley(self) -> NDArray[np.float64]:
        """Return phi_NP with an error of about 1e-6.

        The integrand is a polynomial in u of degree P − 1. The Shapley values add up to the value of the grand
        coalition; games for which they do not are integrated again, with twice the nodes, up to the exact number.
        """
        phi_NP, pairs = self._shapley(None), len(FEW.u)
        players = self.slope_NP.shape[1]
        total_N = np.diff(self.value(np.repeat([[0.0, 1.0]], players, axis=0)), axis=1)[:, 0]
        while 4 * pairs < players and len(rows := np.flatnonzero(abs(phi_NP.sum(axis=1) - total_N) > MOST_GAP)):
            pairs = min(2 * pairs, -(-players // 4))
            phi_NP[rows] = self.take(rows)._shapley(_nodes(pairs))
        return phi_NP

    def _shapley(self, nodes: Nodes | None) -> NDArray[np.float64]:
        """Return phi_NP with these nodes; None for few nodes for small log-odds, and otherwise many."""
        half_NP = self.slope_NP / 2
        reach_N = abs(self.intercept_N + half_NP.sum(axis=1)) + abs(half_NP).sum(axis=1)
        steps_N = np.ceil(MAX_FREQUENCY * (reach_N + MARGIN) / (2 * pi * STEPS)).astype(int)
        phi_NP = np.zeros_like(self.slope_NP)
        kind_N = np.where(reach_N <= NEAR, -steps_N, steps_N)
        for kind in np.unique(kind_N).tolist():
            same, count = np.flatnonzero(kind_N == kind), abs(kind) * STEPS
            size = max(1, CHUNK // (count * phi_NP.shape[1]))
            for rows in (same[part] for part in slices(len(same), size)):
                phi_NP[rows] = _integrate(self.take(rows), count, nodes or (FEW if kind < 0 else MANY))
        return phi_NP


def fit(values_RK: NDArray[np.float64], design: Posterior) -> LogitAdditive:
    """Return the additive games whose log-odds are closest to those of the probabilities values_RK.

    The first step takes the posterior mean given the log-odds. The second step corrects it by weighted least squares
    with the weights (p·(1−p))². If all probabilities have equal variance, the variance of their log-odds is inversely
    proportional to these weights. Probabilities of 0 and 1, whose log-odds are clipped, have the weight 0.
    """
    odds_RK = clipped_logit(values_RK)
    slope_RP = rowwise_matmul(differences(odds_RK), design.solver_MP)
    residual_RK = odds_RK - rowwise_matmul(slope_RP, design.members_PK)
    intercept_R = residual_RK.mean(axis=1)
    subset = np.linspace(0, values_RK.shape[1] - 1, min(FIT_VALUES, values_RK.shape[1])).astype(int)
    values_RK, residual_RK = values_RK.take(subset, axis=1), residual_RK.take(subset, axis=1) - intercept_R[:, None]
    step_RQ = _least_squares((values_RK * (1 - values_RK)) ** 2, residual_RK, design.members_PK[:, subset])
    return LogitAdditive(intercept_R + step_RQ[:, 0], slope_RP + step_RQ[:, 1:])


def _least_squares(
    weight_RK: NDArray[np.float64], residual_RK: NDArray[np.float64], members_PK: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return step_RQ: the intercept and the slopes that minimize the weighted sum of squared residuals."""
    columns_QK = np.concatenate([np.ones((1, members_PK.shape[1])), members_PK])
    Q = len(columns_QK)
    row, column = np.triu_indices(Q)
    normal_RQQ = np.empty((len(weight_RK), Q, Q))
    normal_RQQ[:, row, column] = rowwise_matmul(weight_RK, (columns_QK[row] * columns_QK[column]).T)
    normal_RQQ[:, column, row] = normal_RQQ[:, row, column]
    diagonal = np.arange(Q)
    normal_RQQ[:, diagonal, diagonal] += RIDGE * weight_RK.sum(axis=1, keepdims=True) + TINY
    right_RQ1 = rowwise_matmul(weight_RK * residual_RK, columns_QK.T)[:, :, None]
    return np.linalg.solve(normal_RQQ, right_RQ1)[:, :, 0].astype(np.float64)


def _integrate(games: LogitAdditive, count: int, nodes: Nodes) -> NDArray[np.float64]:
    """Return phi_NP: integrals by the midpoint rule over W = `count` frequencies ω, and by Gauss quadrature over u.

    Frequencies are the last axis of all arrays, so that the order of summation is the same for any number of games.
    """
    step = MAX_FREQUENCY / count
    omega_W = (np.arange(count) + 0.5) * step
    cosine_PNW, sine_PNW = _half_angles(games.slope_NP.T, step, count)
    middle_N1 = (games.intercept_N + games.slope_NP.sum(axis=1) / 2)[:, None]
    weight_NW = 2 * step * np.cos(omega_W * middle_N1) / np.sinh(pi * omega_W)
    phi_PN = np.zeros(games.slope_NP.T.shape)
    for u, weight in zip(*nodes, strict=True):
        scaled_PNW = u * sine_PNW
        real_NW, imag_NW = weight * weight_NW, np.zeros_like(weight_NW)
        for cosine_NW, scaled_NW in zip(cosine_PNW, scaled_PNW, strict=True):
            next_imag_NW = real_NW * scaled_NW + imag_NW * cosine_NW
            real_NW, imag_NW = real_NW * cosine_NW - imag_NW * scaled_NW, next_imag_NW
        without_PNW = cosine_PNW * real_NW
        without_PNW += scaled_PNW * imag_NW
        scaled_PNW **= 2
        scaled_PNW += cosine_PNW**2
        without_PNW /= scaled_PNW
        phi_PN += np.einsum("pnw,pnw->pn", without_PNW, sine_PNW)
    return phi_PN.T


def _half_angles(
    slope_PN: NDArray[np.float64], step: float, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cosines and sines of ωβ/2 at all frequencies; each rotation doubles the number of known values."""
    unit_PNW = np.empty((*slope_PN.shape, count), dtype=np.complex128)
    unit_PNW[:, :, 0] = np.exp(0.25j * step * slope_PN)
    rotation_PN1, known = np.exp(0.5j * step * slope_PN)[:, :, None], 1
    while known < count:
        more = min(known, count - known)
        np.multiply(unit_PNW[:, :, :more], rotation_PN1, out=unit_PNW[:, :, known : known + more])
        rotation_PN1, known = rotation_PN1**2, known + more
    return unit_PNW.real.copy(), unit_PNW.imag.copy()


@dataclass(frozen=True)
class ControlVariate:
    """The part of R games that a surrogate explains.

    Its differences are subtracted before the estimation, and its φ is added to the estimate.

    Attributes:
        differences_RM: differences of the surrogate times its weight; 0 without a surrogate.
        phi_RP: Shapley values of the surrogate times its weight; 0 without a surrogate.
        variance_inflation_R1: correction factor for the variance of the residual. The estimated variance is too small,
            because the surrogate was fitted to the same differences.
        rounding_R1: smallest possible standard error; 0 without a surrogate.
    """

    differences_RM: NDArray[np.float64]
    phi_RP: NDArray[np.float64]
    variance_inflation_R1: NDArray[np.float64]
    rounding_R1: NDArray[np.float64]


def control_variate(values_RK: NDArray[np.float64], design: Posterior) -> ControlVariate:
    """Return the control variate; games have none if their values are not probabilities, or if it does not help."""
    R, (J, P) = len(values_RK), design.half_JP.shape
    control = ControlVariate(np.zeros((R, J + 1)), np.zeros((R, P)), np.ones((R, 1)), np.zeros((R, 1)))
    spare = J - 2 * P
    probabilities = np.flatnonzero(((values_RK >= 0) & (values_RK <= 1)).all(axis=1))
    if P > MAX_PLAYERS or spare <= 0 or not len(probabilities):
        return control
    surrogate = fit(values_RK[probabilities], design)
    surrogate_RM = differences(surrogate.value(design.members_PK))
    weight_R = _weight(differences(values_RK[probabilities]), surrogate_RM, design, spare / J)
    helps = np.flatnonzero(weight_R)
    rows, weight_R1 = probabilities[helps], weight_R[helps, None]
    control.differences_RM[rows] = weight_R1 * surrogate_RM[helps]
    control.phi_RP[rows] = weight_R1 * surrogate.take(helps).shapley()
    control.variance_inflation_R1[rows] = J / spare
    control.rounding_R1[rows] = ROUNDING
    return control


def _weight(
    game_RM: NDArray[np.float64], surrogate_RM: NDArray[np.float64], design: Posterior, spare: float
) -> NDArray[np.float64]:
    """Return the control-variate weights that minimize the leave-one-out residuals.

    The fit used up 2·P degrees of freedom, so the explained share of the variance is adjusted, like an adjusted R².
    Weights are multiplied by the ratio of the adjusted to the original share: by 0 if no more than chance is explained.
    They are clipped to 0…1, because only rounding errors determine them if nothing is left to predict.

    Args:
        game_RM: differences of the games.
        surrogate_RM: differences of the surrogates.
        design: pairs and leave-one-out residuals.
        spare: share of the degrees of freedom that the fit did not use.
    """
    game_RH = rowwise_matmul(game_RM, design.loo_residual_MH)
    surrogate_RH = rowwise_matmul(surrogate_RM, design.loo_residual_MH)
    game_R, surrogate_R = (game_RH**2).sum(axis=1), (surrogate_RH**2).sum(axis=1)
    both_R = (game_RH * surrogate_RH).sum(axis=1)
    explained_R = _ratio(both_R**2, game_R * surrogate_R)
    adjusted_R = np.maximum(0, 1 - (1 - explained_R) / spare)
    return np.clip(_ratio(both_R, surrogate_R) * _ratio(adjusted_R, explained_R), 0, 1)


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numerator / denominator, 0 where that is undefined."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
