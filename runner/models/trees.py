"""Checks of decision trees in model files: a library that follows a wrong index reads foreign memory, or never ends.

Array letters: M nodes of a tree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runner.domain.numbers import plural

Tree = TypeVar("Tree")

MAX_DEPTH = 4_096
"""Maximum depth of a tree: TreeSHAP needs memory in proportion to the square of the depth."""


def check_tree(left_M: NDArray[np.int64], right_M: NDArray[np.int64], is_inner_M: NDArray[np.bool_]) -> None:
    """Check that the children of inner nodes form a tree below node 0.

    Raises:
        ValueError: if a child does not exist, a node has two parents, or the tree is too deep.
    """
    children = np.concatenate([left_M[is_inner_M], right_M[is_inner_M]])
    check_range("the child of a node", children, 1, len(is_inner_M))
    if len(children) and np.bincount(children).max() > 1:
        raise ValueError("a node has two parents")
    check_depth(left_M, right_M, is_inner_M, np.zeros(min(1, len(is_inner_M)), dtype=np.int64))


def check_depth(
    left_M: NDArray[np.int64], right_M: NDArray[np.int64], is_inner_M: NDArray[np.bool_], roots: NDArray[np.int64]
) -> None:
    """Check that each path from a root ends at a leaf; several paths may lead to a node.

    Raises:
        ValueError: if a path is too long, perhaps because it returns to a node.
    """
    level = roots
    for _ in range(MAX_DEPTH):
        level = level[is_inner_M[level]]
        if not len(level):
            return
        level = np.unique(np.concatenate([left_M[level], right_M[level]]))
    raise ValueError(f"a tree is deeper than {MAX_DEPTH:,} levels, or a path in it returns to a node")


def check_each(trees: Iterable[Tree], check: Callable[[Tree], None]) -> None:
    """Check trees one after another.

    Raises:
        ValueError: the first error, with the number of its tree.
    """
    for i, tree in enumerate(trees):
        try:
            check(tree)
        except ValueError as error:
            raise ValueError(f"tree {i}: {error}") from error


def is_division(starts: NDArray[np.int64], length: int) -> bool:
    """Return whether numbers are the starts of consecutive parts of a list, and finally its length."""
    return starts[0] == 0 and starts[-1] == length and bool((np.diff(starts) >= 0).all())


def check_range(name: str, values: NDArray[Any], low: int, high: int) -> None:
    """Check that all values are at least `low` and less than `high`.

    Raises:
        ValueError: with the first other value.
    """
    outside = values[(values < low) | (values >= high)]
    if len(outside):
        expected = f"from {low:,} to {high - 1:,}" if high > low else "none"
        raise ValueError(f"{name} is {outside[0]}, expected {expected}")


def integers(name: str, values: Any, length: int) -> NDArray[np.int64]:
    """Return an array of integers of this length.

    Raises:
        ValueError: if the values are others, or exceed 64 bits.
    """
    array = np.asarray(values if len(values) else np.empty(0, np.int64))
    if array.dtype.kind not in "iub" or array.dtype == np.uint64 or array.ndim != 1:
        raise ValueError(f"{name} should be a list of integers")
    check_length(name, array, length)
    return array.astype(np.int64)


def check_length(name: str, values: Any, length: int) -> None:
    """Check the number of values.

    Raises:
        ValueError: if it is another one.
    """
    if len(values) != length:
        raise ValueError(f"{name} has {plural(len(values), 'value')}, expected {length:,}")
