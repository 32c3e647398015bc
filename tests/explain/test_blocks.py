"""Blocks: the number of records that are explained together."""

from __future__ import annotations

import numpy as np
import pytest

from runner.explain.blocks import BATCHES, MANY, BlockGroup, GameSize


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
