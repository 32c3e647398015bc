"""Explainers that play games: they evaluate coalitions of players, block by block.

Array letters: N records of a block, U unique records, L labels, B background rows, G players of a table, P of them in
a game.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Estimate
from runner.explain.blocks import GameSize, plan_blocks
from runner.explain.game import Block, MaskingGame, predict_batches
from runner.explain.task import Task
from runner.protocols import Game, Model, Track, Workers


@dataclass(frozen=True)
class GameExplainer(ABC):
    """An explainer that evaluates coalitions of players; subclasses decide which ones, and estimate Shapley values."""

    is_exact: ClassVar[bool]

    @property
    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Name of the explainer, and the settings that its results depend on."""

    @abstractmethod
    def coalitions(self, players: int) -> int:
        """Return the number of coalitions for the game of one record.

        Raises:
            ExplainerError: if the explainer does not support this number of players.
        """

    @abstractmethod
    def estimate(self, game: Game) -> Estimate:
        """Return phi_NPL with `phi.sum(1) == scores_NL − expected_L`, and its variance."""

    def game_size(self, varying: int, players: int, is_additive: bool) -> GameSize:  # noqa: ARG002  for subclasses
        """Return the size of the game of a record; features equal to the background get exactly 0 without playing.

        Args:
            varying: number of players that differ from the background row.
            players: number of players of the table.
            is_additive: whether the model is additive.
        """
        return GameSize(varying, varying, self.coalitions(varying))

    def evaluations(self, task: Task) -> int:
        """Return the number of rows that `explain` would send to the model, without a call."""
        return plan_blocks(task, self.game_size).evaluations

    def explain(self, task: Task, engine: Workers, track: Track) -> Attributions:
        """Return the local attributions of all records; duplicates are explained once.

        With several background rows, attributions are averages over them.
        """
        plan = plan_blocks(task, self.game_size)
        options, B = task.options, len(plan.background)
        scores_UL, expected_BL = (
            predict_batches(task.model, table.frame(), options.use_logit, options.max_batch_rows)
            for table in (plan.records.table, plan.background)
        )
        phi_UGL = np.zeros((len(scores_UL), len(task.players.names), expected_BL.shape[1]))
        variance_UGL = np.zeros_like(phi_UGL)
        parts = engine.map(partial(_explain_block, self), task.model, plan.divide(scores_UL, expected_BL))
        for part in track(parts, "explaining", plan.blocks):
            phi_UGL[part.rows_N] += part.phi_NGL / B
            if part.variance_NGL is not None:
                variance_UGL[part.rows_N] += part.variance_NGL / B**2
        return task.attributions(
            phi_UDL=phi_UGL,
            error_UDL=np.sqrt(variance_UGL),
            scores_UL=scores_UL,
            expected_L=expected_BL.mean(axis=0),
            index_N=plan.records.index_N,
            evaluations=plan.evaluations,
        )


class BlockAttributions(NamedTuple):
    """Attributions of the records of a block.

    Attributes:
        rows_N: indices of the records among the unique records.
        phi_NGL: attributions of all players of the table, 0 for players outside of the game.
        variance_NGL: squared standard errors; None if the attributions are exact.
    """

    rows_N: NDArray[np.intp]
    phi_NGL: NDArray[np.float64]
    variance_NGL: NDArray[np.float64] | None


def _explain_block(explainer: GameExplainer, model: Model, block: Block) -> BlockAttributions:
    """Return the attributions of a block; runs in a worker."""
    estimate, players = explainer.estimate(MaskingGame(model, block)), len(block.table_players.names)
    phi_NGL, variance_NGL = restore_order(estimate.phi_NPL, block.players_NP, players), None
    if estimate.variance_NPL is not None:
        variance_NGL = restore_order(estimate.variance_NPL, block.players_NP, players)
    return BlockAttributions(block.rows_N, phi_NGL, variance_NGL)


def restore_order(
    ordered_NPL: NDArray[np.float64], order_NP: NDArray[np.intp], players: int | None = None
) -> NDArray[np.float64]:
    """Return values_NGL in the original order of the players, 0 for players that are not in the order.

    Args:
        ordered_NPL: values of P players.
        order_NP: indices of these players in the original order.
        players: number of original players G; None for P.
    """
    N, P, L = ordered_NPL.shape
    values_NGL = np.zeros((N, P if players is None else players, L))
    np.put_along_axis(values_NGL, order_NP[:, :, None], ordered_NPL, axis=1)
    return values_NGL
