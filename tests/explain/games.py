"""Games given by the values of all coalitions: explainers are tested on their values alone, without a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions


@dataclass(frozen=True)
class TableGame:
    """Games of one label: a row per record, a column per coalition in the order of `all_coalitions`.

    Attributes:
        values_NK: values of all coalitions.
        order_NP: present order of each record's players; None for the original order.
    """

    values_NK: NDArray[np.float64]
    order_NP: NDArray[np.intp] | None = None

    @property
    def players(self) -> int:
        """Binary logarithm of the number of coalitions."""
        return int(self.values_NK.shape[1]).bit_length() - 1

    @property
    def scores_NL(self) -> NDArray[np.float64]:
        """Values of the grand coalition: the last column."""
        return self.values_NK[:, -1:]

    @property
    def expected_L(self) -> NDArray[np.float64]:
        """Value of the empty coalition: the first column, equal in all rows."""
        return self.values_NK[0, :1]

    def margin(self) -> None:
        """Return None: the games are not known to be additive."""

    def reorder(self, order_NP: NDArray[np.intp]) -> TableGame:
        """Return the games with reordered players."""
        return replace(self, order_NP=np.take_along_axis(self._order(), order_NP, axis=1))

    def value(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return values_NKL."""
        return np.take_along_axis(self.values_NK, 2 ** self._order() @ masks_KP.T, axis=1)[:, :, None]

    def _order(self) -> NDArray[np.intp]:
        original_P = np.arange(self.players)
        return np.tile(original_P, (len(self.values_NK), 1)) if self.order_NP is None else self.order_NP


def logistic_games(records: int, players: int, rng: np.random.Generator) -> TableGame:
    """Return games that are additive in log-odds; the first two players are weak."""
    slope_NP = rng.normal(size=(records, players))
    slope_NP[:, :2] /= 50
    return TableGame(1 / (1 + np.exp(-(slope_NP @ all_coalitions(players).T - 1))))


def tree_games(records: int, players: int, rng: np.random.Generator) -> TableGame:
    """Return probabilities like those of boosted trees: main effects, and interactions of up to four players."""
    masks_KP = all_coalitions(players).astype(np.float64)
    odds_NK = rng.normal(size=(records, players)) @ masks_KP.T
    for _ in range(3 * players):
        members = rng.permutation(players)[: rng.integers(2, 5)]
        odds_NK += rng.normal(size=(records, 1)) / 2 * masks_KP[:, members].prod(axis=1)
    return TableGame(1 / (1 + np.exp(-odds_NK)))


def focused_games(records: int, players: int, rng: np.random.Generator) -> TableGame:
    """Return probabilities that depend mostly on a few players of each record, and on their interactions."""
    masks_KP = all_coalitions(players).astype(np.float64)
    slope_NP = rng.normal(size=(records, players)) * 0.6 ** rng.permuted(
        np.tile(np.arange(players), (records, 1)), axis=1
    )
    odds_NK = 2 * slope_NP @ masks_KP.T
    for members in combinations(range(players), 3):
        odds_NK += 9 * slope_NP[:, members].prod(axis=1)[:, None] * masks_KP[:, members].prod(axis=1)
    return TableGame(1 / (1 + np.exp(-odds_NK)))
