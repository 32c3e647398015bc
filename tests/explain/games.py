"""Games whose values stand in a table, so that explainers can be tested on all of them at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runner.explain.coalitions import all_coalitions


@dataclass(frozen=True)
class Table:
    """Games of one label: a row for each record, a column for each coalition, in the order of `every`.

    `order_NP` are the players of each record by the seats that are asked for, all in their own seats where it is None.
    """

    values_NK: NDArray[np.float64]
    order_NP: NDArray[np.intp] | None = None

    @property
    def players(self) -> int:
        """The binary logarithm of the number of coalitions."""
        return int(self.values_NK.shape[1]).bit_length() - 1

    @property
    def scores_NL(self) -> NDArray[np.float64]:
        """The last column: of the coalition of all."""
        return self.values_NK[:, -1:]

    @property
    def expected_L(self) -> NDArray[np.float64]:
        """The first column, which is the same in every row: of the empty coalition."""
        return self.values_NK[0, :1]

    def margin(self) -> None:
        """Return None: what the values add up from is not told."""

    def reorder(self, order_NP: NDArray[np.intp]) -> Table:
        """Return the games with the players in another order."""
        return replace(self, order_NP=np.take_along_axis(self._seated(), order_NP, axis=1))

    def value(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return values_NKL."""
        return np.take_along_axis(self.values_NK, 2 ** self._seated() @ masks_KP.T, axis=1)[:, :, None]

    def _seated(self) -> NDArray[np.intp]:
        own_P = np.arange(self.players)
        return np.tile(own_P, (len(self.values_NK), 1)) if self.order_NP is None else self.order_NP


def smooth(records: int, players: int, rng: np.random.Generator) -> Table:
    """Return games with interactions of all orders, which nearly add up in log-odds; the first two players are weak."""
    pulls_NP = rng.normal(size=(records, players))
    pulls_NP[:, :2] /= 50
    return Table(1 / (1 + np.exp(-(pulls_NP @ all_coalitions(players).T - 1))))


def stepped(records: int, players: int, rng: np.random.Generator) -> Table:
    """Return probabilities as of boosted trees: what players add on their own, and products of up to four of them."""
    masks_KP = all_coalitions(players).astype(np.float64)
    total_NK = rng.normal(size=(records, players)) @ masks_KP.T
    for _ in range(3 * players):
        chosen = rng.permutation(players)[: rng.integers(2, 5)]
        total_NK += rng.normal(size=(records, 1)) / 2 * masks_KP[:, chosen].prod(axis=1)
    return Table(1 / (1 + np.exp(-total_NK)))
