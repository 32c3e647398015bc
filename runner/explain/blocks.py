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

from runner.explain.hashing import GOLDEN, keys, mix
from runner.explain.masking import Table, slices
from runner.explain.players import Players
from runner.protocols import Explainer

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
    """Records of which equally many players differ from a background row.

    Attributes:
        row: the number of the background row.
        rows_N: the places of the records.
        coalitions: what each record costs.
        varying: how many players differ from it.
        players_NP: those that play, the ones that differ first, in an order that each record's content draws.
    """

    row: int
    rows_N: NDArray[np.intp]
    coalitions: int
    varying: int
    players_NP: NDArray[np.intp]


def groups(records: Distinct, background: Table, players: Players, explainer: Explainer, is_cheap: bool) -> list[Group]:
    """Return who plays against which background row; records in which nothing differs from it are left out.

    With `is_cheap`, records for an explainer that `keeps_unvarying` stay together as if all players differed.
    """
    found, G = [], len(players.names)
    for row in range(len(background)):
        varies_NG = players.any(records.table.differs(background.part(slice(row, row + 1))))
        seats_NG, count_N = _seats(records.keys_N, varies_NG, row), varies_NG.sum(axis=1)
        if explainer.keeps_unvarying and is_cheap:
            count_N[count_N > 0] = G
        for varying in np.unique(count_N[count_N > 0]).tolist():
            rows_N, playing = np.flatnonzero(count_N == varying), G if explainer.keeps_unvarying else varying
            coalitions = explainer.coalitions(playing, varying)
            found.append(Group(row, rows_N, coalitions, varying, seats_NG[rows_N, :playing]))
    return found


def block_size(group: Group, max_batch_rows: int) -> int:
    """Return the most records of a block."""
    batch = max(1, max_batch_rows // max(1, group.coalitions))
    return min(BATCHES * batch, max(batch, len(group.rows_N) // MANY))


def _seats(keys_N: NDArray[np.uint64], varies_NG: NDArray[np.bool_], salt: int) -> NDArray[np.intp]:
    """Return the players of each record in an order that its content draws, those that differ before the others.

    An explainer that asks all records for the same coalitions of seats so asks each one for its own of players, and
    their errors do not line up; a record's order is the same wherever it stands.
    """
    places_G: NDArray[np.uint64] = np.arange(1, varies_NG.shape[1] + 1, dtype=np.uint64) * GOLDEN
    luck_NG = mix(keys_N[:, None] + places_G + np.uint64(salt)) >> np.uint64(1)
    return np.where(varies_NG, luck_NG, luck_NG | LAST).argsort(axis=1)


@dataclass(frozen=True)
class Block:
    """Some records of a group: all that is needed to explain them but the model.

    Attributes:
        varying, players_NP: as in the group.
        records: the records; `replacement`: the background row.
        scores_NL, expected_L: the model's outputs on them.
    """

    varying: int
    players_NP: NDArray[np.intp]
    records: Table
    replacement: Table
    scores_NL: NDArray[np.float64]
    expected_L: NDArray[np.float64]


@dataclass(frozen=True)
class Cut:
    """Groups of records and their scores, cut into blocks.

    Attributes:
        max_batch_rows: the most rows that go to the model in one call.
        scores_NL, replaced_BL: the model's outputs on the records and on the background rows.
    """

    records: Distinct
    background: Table
    groups: list[Group]
    max_batch_rows: int
    scores_NL: NDArray[np.float64]
    replaced_BL: NDArray[np.float64]

    def __len__(self) -> int:
        return sum(1 for group in self.groups for _ in self._slices(group))

    def places(self, players: int) -> Iterator[NDArray[np.intp]]:
        """Yield for each block where its attributions belong, as places_NPL in those of N·G·L, one after another."""
        labels = self.replaced_BL.shape[1]
        for group in self.groups:
            for some in self._slices(group):
                places_NP = group.rows_N[some, None] * players + group.players_NP[some]
                yield places_NP[:, :, None] * labels + np.arange(labels)

    def __iter__(self) -> Iterator[Block]:
        for group in self.groups:
            records, scores_NL = self.records.table.take(group.rows_N), self.scores_NL[group.rows_N]
            for some in self._slices(group):
                yield Block(
                    varying=group.varying,
                    players_NP=group.players_NP[some],
                    records=records.part(some),
                    replacement=self.background.part(slice(group.row, group.row + 1)),
                    scores_NL=scores_NL[some],
                    expected_L=self.replaced_BL[group.row],
                )

    def _slices(self, group: Group) -> Iterator[slice]:
        return slices(len(group.rows_N), block_size(group, self.max_batch_rows))
