"""Blocks: how many records are explained together."""

from __future__ import annotations

import numpy as np
import pytest

from runner.explain.blocks import BATCHES, MANY, Group, block_size


@pytest.mark.parametrize(
    ("records", "size"),
    [(5, 100), (100 * MANY, 100), (250 * MANY, 250), (10**6, 100 * BATCHES)],
    ids=["few", "enough", "many", "very many"],
)
def test_blocks_grow_where_there_are_many_records(records: int, size: int) -> None:
    """A block takes one batch of rows while there are few blocks, then more, up to a limit."""
    group = Group(0, np.arange(records), 10, 3, np.zeros((records, 3), dtype=np.intp))
    assert block_size(group, 1000) == size


def test_a_record_is_a_block_where_no_more_fit() -> None:
    """Also where its coalitions are more than a batch of rows, or none at all."""
    group = Group(0, np.arange(7), 5000, 3, np.zeros((7, 3), dtype=np.intp))
    assert block_size(group, 1000) == 1
    assert block_size(group._replace(coalitions=0), 1000) == 1000
