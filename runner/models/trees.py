"""Boosted trees, and checks of the trees in model files.

A library that follows a wrong index reads foreign memory, or never ends.

Array letters: N records, D features, L labels (outputs), M nodes of a tree, C contributions and the base value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, Link
from runner.domain.numbers import plural
from runner.errors import ExplainerError
from runner.models.base import FileModel, check_width, computing, in_model_order, matrix, non_empty, scores
from runner.types import NO_OTHER_KEYS

Tree = TypeVar("Tree")

MAX_DEPTH = 4_096
"""Maximum depth of a tree: TreeSHAP needs memory in proportion to the square of the depth."""
CATEGORICAL = (
    "was trained on categorical columns of a data frame; the records do not contain their codes; "
    "encode categories as numbers before training"
)
"""Problem of a model that was trained on categorical columns, for messages."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class BoostedTrees(FileModel, ABC):
    """A booster of a library for gradient boosting.

    Features are matched by the names in the file if the records have the same names, otherwise by order. Nulls are
    missing values.
    """

    library: ClassVar[str]
    """The library's name, for messages."""

    links: ClassVar[Mapping[str, Link]]
    """Objectives supported by `tree_shap`, with the link function of their output."""

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL of the library.

        Raises:
            ArtifactError: if the artifact cannot be read, or its features do not match those of the records.
            MissingInput: if the artifact does not exist.
            ModelInputError: if a feature is a string.
            ModelAnswerError: if the library fails, or `columns` selects a column that does not exist.
        """
        check_width(self.artifact, self._width, features)
        ordered = self._ordered(non_empty(self._renamed(features)))
        with computing(self.library):
            output = self._output(matrix(self.kind, ordered), contributions=False)
        return scores(self.library, output, features.height, self.columns)

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return each feature's contribution to the margin, from the library's path-dependent TreeSHAP.

        Raises:
            ExplainerError: if `columns` is not None, or the objective is not in `links`.
        """
        check_width(self.artifact, self._width, features)
        objective = self._objective
        if objective not in self.links or self.columns is not None:
            columns = "null" if self.columns is None else list(self.columns)
            raise ExplainerError(
                f"shap.explainer=tree supports model.columns=null and the objectives {', '.join(self.links)}; "
                f"this model has model.columns={columns} and the objective {objective}; "
                "use shap.explainer=kernel"
            )
        renamed = self._renamed(features)
        ordered = self._ordered(renamed)
        with computing(self.library):
            output = self._output(matrix(self.kind, ordered), contributions=True)
        values_NC = np.asarray(output, dtype=np.float64).reshape(len(output), -1)
        order_D = [ordered.columns.index(name) for name in renamed.columns]
        return Additive(self.links[objective], values_NC[0, -1:], values_NC[:, order_D, None])

    def _ordered(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the features in the order of the model's names, or unchanged if no name is the same.

        Raises:
            ArtifactError: if only some names are the same.
        """
        known = not set(self._names).isdisjoint(features.columns)
        return in_model_order(self.artifact, self._names, features) if known else features

    def _renamed(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the features with the names that the library writes to its files."""
        return features

    @property
    @abstractmethod
    def _width(self) -> int:
        """The number of features of the model."""

    @property
    @abstractmethod
    def _names(self) -> Sequence[str]:
        """The feature names in the file, empty if it has none."""

    @property
    @abstractmethod
    def _objective(self) -> str:
        """The objective that the model was trained for."""

    @abstractmethod
    def _output(self, x_ND: NDArray[np.float64], contributions: bool) -> Any:
        """Return the library's scores, or its TreeSHAP values with the base value in the last column."""


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
