"""The control variate: the part of each game that an additive game in log-odds explains, whose φ are known exactly.

Array letters: R games, P players, K coalitions, M differences, H of them.

Source: Glasserman (2004), section 4.1: the weight that minimises the variance of what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.explain.log_odds import fit
from runner.explain.pairs import differences, each
from runner.explain.posterior import Posterior

MOST_PLAYERS = 40
"""Games with more players are left as they are."""
ROUNDING = 2.0**-25
"""The standard error that probabilities of single precision leave in φ."""


@dataclass(frozen=True)
class Control:
    """What is taken out of the differences of R games before they are explained, and put back as its own φ.

    Attributes:
        differences_RM, phi_RP: of what is taken out; 0 where nothing is.
        variance_inflation_R1: how many times larger the variance of what is left is than it looks.
        rounding_R1: a standard error that no precision of the estimate goes below.
    """

    differences_RM: NDArray[np.float64]
    phi_RP: NDArray[np.float64]
    variance_inflation_R1: NDArray[np.float64]
    rounding_R1: NDArray[np.float64]


def control_variate(values_RK: NDArray[np.float64], design: Posterior) -> Control:
    """Return the control variate: none where values are no probabilities, or where it would not help."""
    R, (J, P) = len(values_RK), design.half_JP.shape
    control = Control(np.zeros((R, J + 1)), np.zeros((R, P)), np.ones((R, 1)), np.zeros((R, 1)))
    spare = J - 2 * P
    fits = np.flatnonzero(((values_RK >= 0) & (values_RK <= 1)).all(axis=1))
    if P > MOST_PLAYERS or spare <= 0 or not len(fits):
        return control
    additive = fit(values_RK[fits], design)
    theirs_RM = differences(additive.value(design.members_PK))
    weight_R = _weight(differences(values_RK[fits]), theirs_RM, design, spare / J)
    helps = np.flatnonzero(weight_R)
    rows, weight_R1 = fits[helps], weight_R[helps, None]
    control.differences_RM[rows] = weight_R1 * theirs_RM[helps]
    control.phi_RP[rows] = weight_R1 * additive.some(helps).shapley()
    control.variance_inflation_R1[rows] = J / spare
    control.rounding_R1[rows] = ROUNDING
    return control


def _weight(
    ours_RM: NDArray[np.float64], theirs_RM: NDArray[np.float64], design: Posterior, spare: float
) -> NDArray[np.float64]:
    """Return with which weight the additive games leave the least that the other differences do not predict.

    The weights are shrunk, to 0 where the success is no larger than chance: 2·P of the differences served to fit. They
    stay within 0 and 1 where nothing is left to predict, so that rounding decides.

    Args:
        ours_RM: differences of the games.
        theirs_RM: those of the additive games.
        design: leaves differences out.
        spare: the share of the differences that the fit had not to adapt to.
    """
    ours_RH, theirs_RH = each(ours_RM, design.left_out_MH), each(theirs_RM, design.left_out_MH)
    ours_R, theirs_R = (ours_RH**2).sum(axis=1), (theirs_RH**2).sum(axis=1)
    both_R = (ours_RH * theirs_RH).sum(axis=1)
    share_R = _ratio(both_R**2, ours_R * theirs_R)
    real_R = np.maximum(0, 1 - (1 - share_R) / spare)
    return np.clip(_ratio(both_R, theirs_R) * _ratio(real_R, share_R), 0, 1)


def _ratio(over: NDArray[np.float64], under: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return over / under, 0 where that is undefined."""
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)
