"""Explainers that play games: the order of players."""

from __future__ import annotations

import numpy as np
import pytest

from runner.explain.game_explainer import BATCHES, MANY, BlockGroup, GameSize, restore_order


@pytest.mark.parametrize(
    ("records", "size"),
    [(5, 100), (100 * MANY, 100), (250 * MANY, 250), (10**6, 100 * BATCHES)],
    ids=["few", "enough", "many", "very many"],
)
def test_blocks_are_larger_for_many_records(records: int, size: int) -> None:
    """A block has one batch of rows if there are few blocks, else more, up to a limit."""
    group = BlockGroup(0, np.arange(records), GameSize(3, 3, 10), np.zeros((records, 3), dtype=np.intp))
    assert group.block_rows(1000) == size


@pytest.mark.parametrize(("coalitions", "size"), [(5000, 1), (0, 1000)])
def test_a_block_has_at_least_one_record(coalitions: int, size: int) -> None:
    """Also if the coalitions of one record need more than one batch, or if there are none."""
    group = BlockGroup(0, np.arange(7), GameSize(3, 3, coalitions), np.zeros((7, 3), dtype=np.intp))
    assert group.block_rows(1000) == size


def test_values_return_to_the_original_order_of_players() -> None:
    """Players outside of the game get 0."""
    order_NP = np.array([[2, 0, 1], [0, 2, 1]])
    ordered_NPL = np.array([[7.0, 8.0, 9.0], [7.0, 8.0, 9.0]])[:, :, None]
    assert restore_order(ordered_NPL, order_NP)[:, :, 0].tolist() == [[8.0, 9.0, 7.0], [7.0, 9.0, 8.0]]
    assert restore_order(ordered_NPL[:1], order_NP[:1], 4)[:, :, 0].tolist() == [[8.0, 9.0, 7.0, 0.0]]
