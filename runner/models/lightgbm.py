"""LightGBM models, loaded from their text files.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Link
from runner.errors import ArtifactError
from runner.models.base import installed, reading
from runner.models.trees import (
    CATEGORICAL,
    BoostedTrees,
    check_each,
    check_length,
    check_range,
    check_tree,
    integers,
    is_division,
)
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    import lightgbm


PER_INNER_NODE = ("split_gain", "internal_value", "internal_weight", "internal_count")
"""Optional keys of a tree with one number per inner node."""
PER_LEAF = ("leaf_weight", "leaf_count")
"""Optional keys of a tree with one number per leaf, if there are several leaves."""
MISSING_TYPES = 3
"""Number of ways to treat missing values; the bits of a decision above the two lowest ones select it."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Lightgbm(BoostedTrees):
    """A LightGBM booster.

    Attributes:
        kind: `lightgbm`.
        artifact: path of the .txt file written by `save_model`.
    """

    library: ClassVar[str] = "LightGBM"
    links: ClassVar[Mapping[str, Link]] = {"binary sigmoid:1": "logistic", "regression": "identity"}
    save_with: ClassVar[str] = "save_model as .txt"

    kind: Literal["lightgbm"]

    @property
    def _width(self) -> int:
        return self._booster.num_feature()

    @property
    def _names(self) -> Sequence[str]:
        return self._booster.feature_name()

    @property
    def _objective(self) -> str:
        found = re.search(rb"^objective=(.*)$", self._bytes, re.MULTILINE)
        return found[1].decode() if found else "none"

    def _output(self, x_ND: NDArray[np.float64], contributions: bool) -> Any:
        return self._booster.predict(x_ND, pred_contrib=contributions, validate_features=False)

    def _renamed(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the features, renamed as in a LightGBM file: with `_` for each space.

        Raises:
            ArtifactError: if two features have the same name in the file.
        """
        names: dict[str, str] = {}
        for name in features.columns:
            written = name.replace(" ", "_")
            if other := names.get(written):
                problem = f"LightGBM writes both features {other!r} and {name!r} as {written!r}"
                raise ArtifactError(self.artifact, f"{problem}; give them distinct names (data.headers)")
            names[written] = name
        return features.rename(dict(zip(features.columns, names, strict=True)))

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        with installed("lightgbm"):
            import lightgbm
        with reading(self.artifact, "a LightGBM model"):
            _check_complete(self._bytes)
            text = self._bytes.decode()
            _check_model(text)
            booster = lightgbm.Booster(model_str=text)
        if booster.pandas_categorical:
            raise ArtifactError(self.artifact, CATEGORICAL)
        return booster


def _check_complete(data: bytes) -> None:
    """Check that every tree is at the position given in the file header; otherwise LightGBM would abort the process.

    Raises:
        ValueError: if a part of the file is missing or misplaced.
    """
    sizes = re.search(rb"^tree_sizes=([\d ]*)$", data, re.MULTILINE)
    offset = data.find(b"Tree=0\n")
    for i, size in enumerate(sizes[1].split() if sizes else ()):
        if not data.startswith(b"Tree=%d\n" % i, offset):
            raise ValueError(f"tree {i} is not at the position given in the file header")
        offset += int(size)
    if not data.startswith(b"end of trees", offset) and (sizes or b"end of trees" not in data):
        raise ValueError("the trees are incomplete")
    if b"\nparameters:" in data and b"\nend of parameters" not in data:
        raise ValueError("the parameters are incomplete")


def _check_model(text: str) -> None:
    """Check all numbers in a model that LightGBM uses as indices or sizes without a check of its own.

    Raises:
        ValueError: if one is missing or wrong.
    """
    first, *trees = re.split(r"^Tree=\d+\n", text.partition("\nend of trees")[0], flags=re.MULTILINE)
    header = _Section(first)
    width = header.size("max_feature_idx") + 1
    for key in ("feature_names", "feature_infos"):
        check_length(key, header.words(key), width)
    outputs = header.size("num_class")
    objective = re.search(r"\bnum_class:\S+", header.values.get("objective", ""))
    if not outputs or header.size("num_tree_per_iteration") != outputs:
        raise ValueError(f"num_class is {outputs}, num_tree_per_iteration {header.values['num_tree_per_iteration']}")
    if objective and objective[0] != f"num_class:{outputs}":
        raise ValueError(f"num_class is {outputs}, but objective contains {objective[0]}")
    if len(trees) % outputs:
        raise ValueError(f"there are {len(trees):,} trees for {outputs:,} outputs")
    check_each(trees, lambda tree: _check_tree(_Section(tree), width))


def _check_tree(tree: _Section, width: int) -> None:
    leaves = tree.size("num_leaves")
    inner = leaves - 1
    if inner < 0:
        raise ValueError("it has no leaf")
    tree.numbers("leaf_value", leaves)
    threshold_M = np.array(tree.numbers("threshold", inner))
    for key in PER_INNER_NODE:
        tree.numbers(key, inner, is_required=False)
    for key in PER_LEAF if inner else ():
        tree.numbers(key, leaves, is_required=False)
    left_M, right_M = (_node_numbers(tree.integers(key, inner), leaves) for key in ("left_child", "right_child"))
    check_tree(left_M, right_M, np.arange(len(left_M)) < inner)
    check_range("split_feature", tree.integers("split_feature", inner), 0, width)
    type_M = tree.integers("decision_type", inner)
    check_range("decision_type", type_M, 0, MISSING_TYPES * 4)
    _check_categories(tree, threshold_M[(type_M & 1) == 1])
    if tree.size("is_linear", "0"):
        _check_linear(tree, leaves, width)


def _node_numbers(children: NDArray[np.int64], leaves: int) -> NDArray[np.int64]:
    """Return the children of all nodes, where leaves have the numbers after the inner nodes, and children of 0."""
    inner = leaves - 1
    check_range("the child of a node", children, -leaves, inner)
    return np.concatenate([np.where(children < 0, inner + ~children, children), np.zeros(leaves, np.int64)])


def _check_categories(tree: _Section, thresholds: NDArray[np.float64]) -> None:
    """Check that the threshold of each split by categories is the number of a set, and that the sets exist."""
    sets = tree.size("num_cat")
    if sets:
        starts = tree.integers("cat_boundaries", sets + 1)
        words = tree.integers("cat_threshold", len(tree.words("cat_threshold")))
        check_range("cat_threshold", words, 0, 2**32)
        if not is_division(starts, len(words)):
            raise ValueError("cat_boundaries does not divide cat_threshold into sets")
    if (thresholds != np.floor(thresholds)).any():
        raise ValueError("the threshold of a split by categories is no integer")
    check_range("the threshold of a split by categories", thresholds, 0, sets)


def _check_linear(tree: _Section, leaves: int, width: int) -> None:
    """Check the linear models of leaves."""
    tree.numbers("leaf_const", leaves)
    counts = tree.integers("num_features", leaves)
    check_range("num_features", counts, 0, width + 1)
    total = int(counts.sum())
    check_range("leaf_features", tree.integers("leaf_features", total), 0, width)
    tree.numbers("leaf_coeff", total)


class _Section:
    """The header of a file, or a tree: lines `key=value` up to the first empty line."""

    def __init__(self, text: str) -> None:
        """Read the lines.

        Raises:
            ValueError: if a key occurs twice.
        """
        lines = [line.partition("=") for line in text.partition("\n\n")[0].splitlines() if "=" in line]
        self.values = {key: value for key, _, value in lines}
        if len(self.values) < len(lines):
            raise ValueError("a key occurs twice")

    def size(self, key: str, default: str = "") -> int:
        """Return a number of things.

        Raises:
            ValueError: if it is missing or not a number.
        """
        text = self.values.get(key, default)
        if not re.fullmatch("[0-9]{1,9}", text):
            raise ValueError(f"{key} is {text!r}, expected a number")
        return int(text)

    def words(self, key: str) -> list[str]:
        """Return the values of a key, which spaces separate."""
        return self.values.get(key, "").split()

    def numbers(self, key: str, length: int, is_required: bool = True) -> list[float]:
        """Return numbers.

        Raises:
            ValueError: if there are not `length` numbers; an optional key may be missing.
        """
        words = self.words(key)
        if is_required or key in self.values:
            check_length(key, words, length)
        return [float(word) for word in words]

    def integers(self, key: str, length: int) -> NDArray[np.int64]:
        """Return integers.

        Raises:
            ValueError: if there are not `length` integers.
        """
        words = self.words(key)
        if not all(re.fullmatch("-?[0-9]{1,18}", word) for word in words):
            raise ValueError(f"{key} should be a list of integers")
        return integers(key, [int(word) for word in words], length)
