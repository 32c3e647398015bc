"""The work of explaining, cut into blocks: records that are explained together, against one background row.

Array letters: N records, D features, L labels, B background rows, G players, P of them that play.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.explain.contents import GOLDEN, keys, mix
from runner.explain.players import Players
from runner.explain.table import Table, slices

LAST = np.uint64(2**63)
BATCHES = 4
"""How many batches of rows the records of a block take, where there are many: they share what a block costs."""
MANY = 16
"""How many blocks a group has, before these take more than one batch each."""


class Distinct(NamedTuple):
    """Records, each content once.

    `keys_N` are hashes of what they hold, and `back_N` leads from every original record to its row here.
    """

    table: Table
    keys_N: NDArray[np.uint64]
    back_N: NDArray[np.intp]


def distinct(table: Table, features: pl.DataFrame) -> Distinct:
    """Return the records of a table in the order of their keys; those with the same two hashes are the same."""
    keys_N, others_N = keys(features)
    distinct_N, first_N, back_N = np.unique(keys_N, return_index=True, return_inverse=True)
    if (others_N != others_N[first_N][back_N]).any():
        return Distinct(table, keys_N, np.arange(len(table)))
    return Distinct(table.take(first_N), distinct_N, back_N)


class Group(NamedTuple):
    """Records with equal numbers of players against a background row.

    Attributes:
        row: the number of the background row.
        rows_N: the places of the records.
        players_NP: those that play, in an order that each record's content draws.
    """

    row: int
    rows_N: NDArray[np.intp]
    players_NP: NDArray[np.intp]

    @property
    def players(self) -> int:
        """P."""
        return int(self.players_NP.shape[1])


def groups(records: Distinct, background: Table, players: Players, keeps_unvarying: bool) -> list[Group]:
    """Return who plays against which background row; records in which nothing differs from it are left out."""
    found = []
    for row in range(len(background)):
        if keeps_unvarying:
            plays_NG = np.ones((len(records.table), len(players.names)), dtype=np.bool_)
        else:
            plays_NG = players.any(records.table.differs(background.part(slice(row, row + 1))))
        seats_NG = _seats(records.keys_N, plays_NG, row)
        count_N = plays_NG.sum(axis=1)
        for count in np.unique(count_N[count_N > 0]).tolist():
            rows_N = np.flatnonzero(count_N == count)
            found.append(Group(row, rows_N, seats_NG[rows_N, :count]))
    return found


def block_size(group: Group, coalitions: int, max_batch_rows: int) -> int:
    """Return the most records of a block, of which each has so many coalitions."""
    batch = max(1, max_batch_rows // max(1, coalitions))
    return min(BATCHES * batch, max(batch, len(group.rows_N) // MANY))


def _seats(keys_N: NDArray[np.uint64], plays_NG: NDArray[np.bool_], salt: int) -> NDArray[np.intp]:
    """Return the players of each record in an order that its content draws, those that play before the others.

    An explainer that asks all records for the same coalitions of seats so asks each one for its own of players, and
    their errors do not line up; a record's order is the same wherever it stands.
    """
    places_G: NDArray[np.uint64] = np.arange(1, plays_NG.shape[1] + 1, dtype=np.uint64) * GOLDEN
    luck_NG = mix(keys_N[:, None] + places_G + np.uint64(salt)) >> np.uint64(1)
    return np.where(plays_NG, luck_NG, LAST).argsort(axis=1)


@dataclass(frozen=True)
class Block:
    """Some records of a group: all that is needed to explain them but the model.

    Attributes:
        players_NP: as in the group.
        records: the records; `replacement`: the background row.
        scores_NL, expected_L: the model's outputs on them.
    """

    players_NP: NDArray[np.intp]
    records: Table
    replacement: Table
    scores_NL: NDArray[np.float64]
    expected_L: NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """Groups of records, their scores, and the most that a block may hold of each group.

    Attributes:
        sizes: for each group the most records of a block.
        scores_NL, replaced_BL: the model's outputs on the records and on the background rows.
    """

    records: Distinct
    background: Table
    groups: list[Group]
    sizes: list[int]
    scores_NL: NDArray[np.float64]
    replaced_BL: NDArray[np.float64]

    def __len__(self) -> int:
        return sum(-(-len(group.rows_N) // size) for group, size in zip(self.groups, self.sizes, strict=True))

    def places(self, players: int) -> Iterator[NDArray[np.intp]]:
        """Yield for each block where its attributions belong, as places_NP in rows of G `players` one after another."""
        for group, size in zip(self.groups, self.sizes, strict=True):
            for some in slices(len(group.rows_N), size):
                yield group.rows_N[some, None] * players + group.players_NP[some]

    def __iter__(self) -> Iterator[Block]:
        for group, size in zip(self.groups, self.sizes, strict=True):
            records, scores_NL = self.records.table.take(group.rows_N), self.scores_NL[group.rows_N]
            for some in slices(len(group.rows_N), size):
                yield Block(
                    players_NP=group.players_NP[some],
                    records=records.part(some),
                    replacement=self.background.part(slice(group.row, group.row + 1)),
                    scores_NL=scores_NL[some],
                    expected_L=self.replaced_BL[group.row],
                )
