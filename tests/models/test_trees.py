"""Checks of decision trees, for all libraries."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from runner.models.trees import MAX_DEPTH, check_tree, integers
from tests.golden import Golden


def check(left: ArrayLike, right: ArrayLike) -> None:
    """Check a tree whose leaves have the children -1."""
    check_tree(np.array(left), np.array(right), np.array(left) != -1)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([-1], [-1]),
        ([1, -1, -1], [2, -1, -1]),
        ([3, -1, -1, 1, -1], [4, -1, -1, 2, -1]),
        ([1, -1, -1, -1], [2, -1, -1, -1]),
    ],
)
def test_trees_are_accepted(left: list[int], right: list[int]) -> None:
    """Nodes may be in any order, and some may be unused."""
    check(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([1, -1, -1], [3, -1, -1]),
        ([1, -1, -1], [-7, -1, -1]),
        ([1, 0, -1], [2, 2, -1]),
        ([1, 1, -1], [2, 2, -1]),
        ([1, -1, -1], [1, -1, -1]),
        ([0, -1, -1], [2, -1, -1]),
    ],
    ids=["no such child", "negative child", "root as child", "cycle", "equal children", "root as its own child"],
)
def test_wrong_children_are_an_error(left: list[int], right: list[int], golden: Golden) -> None:
    """Otherwise a library would read foreign memory, or never end."""
    with golden.raises(ValueError):
        check(left, right)


def test_depth_is_limited(golden: Golden) -> None:
    """Libraries follow trees recursively."""

    def chain(depth: int) -> None:
        """Check a tree whose inner nodes have even numbers, each the right child of the one before."""
        nodes = np.arange(2 * depth + 1)
        is_inner = (nodes % 2 == 0) & (nodes < 2 * depth)
        check(np.where(is_inner, nodes + 1, -1), np.where(is_inner, nodes + 2, -1))

    chain(MAX_DEPTH - 1)
    with golden.raises(ValueError):
        chain(MAX_DEPTH)


@pytest.mark.parametrize("values", [[1.0, 2.0], ["1", "2"], [1], [2**63, 1], [[1, 2]], [None, 1]])
def test_other_values_are_no_integers(values: list[object]) -> None:
    """Floats, strings and large integers are refused, and a wrong number of values."""
    with pytest.raises((ValueError, TypeError)):
        integers("x", values, 2)
