"""Explainers that play games: they evaluate coalitions of players, block by block.

A table is divided into blocks: unique records with games of the same size against the same background row.

Array letters: N records of a table or block, U unique records, L labels, B background rows, G players of a table, P of
them in a game, n records of a group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Estimate
from runner.explain import background as backgrounds
from runner.explain.game import Block, MaskingGame, predict_batches
from runner.explain.masking import GOLDEN_RATIO, Table, Words, hash_rows, mix_bits, slices, tables
from runner.explain.task import Task
from runner.protocols import Game, Model, Track, Workers, as_additive

LAST = np.uint64(2**63)
BATCHES = 4
"""Maximum number of model batches per block; they share the fixed costs of the block."""
MANY = 16
"""Minimum number of blocks in a group whose blocks contain more than one model batch."""


class UniqueRecords(NamedTuple):
    """Records without duplicates.

    Attributes:
        table: the U unique records.
        keys_U: hashes of their values.
        index_N: index of each original record among them.
    """

    table: Table
    keys_U: Words
    index_N: NDArray[np.intp]


def unique_records(table: Table, features: pl.DataFrame) -> UniqueRecords:
    """Return the unique records, sorted by hash; after a collision of hashes, all records."""
    keys_N, checks_N = hash_rows(features)
    keys_U, first_U, index_N = np.unique(keys_N, return_index=True, return_inverse=True)
    if (checks_N != checks_N[first_U][index_N]).any():
        return UniqueRecords(table, keys_N, np.arange(len(table)))
    return UniqueRecords(table.take(first_U), keys_U, index_N)


class GameSize(NamedTuple):
    """Size of the game of one record.

    Attributes:
        players: number of players P.
        varying: number of players that are masked individually; values do not depend on the others.
        coalitions: number of coalitions to evaluate.
    """

    players: int
    varying: int
    coalitions: int


class BlockGroup(NamedTuple):
    """Records with games of the same size against the same background row.

    Attributes:
        replacement: index of the background row.
        rows_n: indices of the records.
        size: size of their games.
        players_nP: players of each game in random order, but varying players first.
    """

    replacement: int
    rows_n: NDArray[np.intp]
    size: GameSize
    players_nP: NDArray[np.intp]

    def block_rows(self, max_batch_rows: int) -> int:
        """Return the largest number of records in a block."""
        batch = max(1, max_batch_rows // max(1, self.size.coalitions))
        return min(BATCHES * batch, max(batch, len(self.rows_n) // MANY))


@dataclass(frozen=True)
class BlockPlan:
    """Groups of records to explain, divided into blocks.

    Attributes:
        task: table and options.
        records: unique records.
        background: background rows.
        groups: records by background row and size of the game.
    """

    task: Task
    records: UniqueRecords
    background: Table
    groups: list[BlockGroup]

    @property
    def evaluations(self) -> int:
        """Number of rows sent to the model."""
        games = sum(len(group.rows_n) * group.size.coalitions for group in self.groups)
        return len(self.records.table) + len(self.background) + games

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return sum(1 for group in self.groups for _ in self._slices(group))

    def divide(self, scores_UL: NDArray[np.float64], expected_BL: NDArray[np.float64]) -> Iterator[Block]:
        """Yield all blocks.

        Args:
            scores_UL: model outputs on the unique records.
            expected_BL: model outputs on the background rows.
        """
        options = self.task.options
        for group in self.groups:
            records, scores_nL = self.records.table.take(group.rows_n), scores_UL[group.rows_n]
            for part in self._slices(group):
                yield Block(
                    rows_N=group.rows_n[part],
                    records=records.part(part),
                    replacement=self.background.part(slice(group.replacement, group.replacement + 1)),
                    table_players=self.task.players,
                    varying=group.size.varying,
                    players_NP=group.players_nP[part],
                    scores_NL=scores_nL[part],
                    expected_L=expected_BL[group.replacement],
                    use_logit=options.use_logit,
                    max_batch_rows=options.max_batch_rows,
                )

    def _slices(self, group: BlockGroup) -> Iterator[slice]:
        return slices(len(group.rows_n), group.block_rows(self.task.options.max_batch_rows))


def plan_blocks(task: Task, game_size: Callable[[int, int, bool], GameSize]) -> BlockPlan:
    """Return the blocks of a task; games without a player that differs from the background row are omitted.

    Args:
        task: table and options.
        game_size: function that returns the size of a game, given the number of varying players, the number of all
            players, and whether the model is additive.

    Raises:
        BackgroundError: if the columns of the background do not fit the features.
        ExplainerError: if the explainer does not support this number of features.
    """
    players, is_additive = task.players, as_additive(task.model) is not None
    background, features = backgrounds.align(task.background, task.features)
    table, rows = tables(features, background)
    records, G = unique_records(table, features), len(players.names)
    groups = []
    for b in range(len(rows)):
        varies_UG = players.any(records.table.differs(rows.part(slice(b, b + 1))))
        order_UG, varying_U = _random_order(records.keys_U, varies_UG, b), varies_UG.sum(axis=1)
        counts = np.unique(varying_U[varying_U > 0]).tolist()
        sizes = {varying: game_size(varying, G, is_additive) for varying in counts}
        for size in dict.fromkeys(sizes.values()):
            same = [varying for varying in counts if sizes[varying] == size]
            rows_n = np.flatnonzero(np.isin(varying_U, same))
            groups.append(BlockGroup(b, rows_n, size, order_UG[rows_n, : size.players]))
    return BlockPlan(task, records, rows, groups)


def _random_order(keys_U: Words, varies_UG: NDArray[np.bool_], salt: int) -> NDArray[np.intp]:
    """Return the players of each record in random order, but varying players first.

    All records of a block use the same coalitions of positions. Each record has its own order, so that the errors of
    records are independent. The order is seeded by the record's values, so it does not depend on other records.
    """
    salt_G: Words = np.arange(1, varies_UG.shape[1] + 1, dtype=np.uint64) * GOLDEN_RATIO
    random_UG = mix_bits(keys_U[:, None] + salt_G + np.uint64(salt)) >> np.uint64(1)
    return np.where(varies_UG, random_UG, random_UG | LAST).argsort(axis=1)


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
        """Return the size of the game of a record; players equal to the background are left out and get 0.

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
        logit, rows = options.use_logit, options.max_batch_rows
        headers = task.model.label_headers
        outputs = len(headers) if headers else None
        scores_UL = predict_batches(task.model, plan.records.table.frame(), logit, rows, outputs)
        expected_BL = predict_batches(task.model, plan.background.frame(), logit, rows, scores_UL.shape[1])
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
