"""XGBoost models, loaded from their native files, which are JSON or Universal Binary JSON.

Array letters: N records, D features, L labels (outputs).

Source: the specification at ubjson.org, draft 12. The length of a name or string may have any integer type, even if a
shorter type is sufficient.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
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
    import xgboost

LEAF = -1
"""Left child of a leaf."""
NO_PARENT = (-1, 2**31 - 1)
"""Parent of the root, and of nodes that were removed."""
PER_NODE = ("split_conditions", "default_left", "loss_changes", "sum_hessian")
"""Keys of a tree with one value per node."""
MAX_CATEGORIES = 2**24
"""Maximum number of categories in XGBoost."""
MAX_SIZE = 2**31
"""Upper bound of sizes, which XGBoost stores in 32 bits."""
NUMBERS = {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
"""Types of numbers in Universal Binary JSON, as numpy types."""
CONSTANTS: dict[str, bool | None] = {"Z": None, "T": True, "F": False}
"""Other types, with their values."""
MAX_DEPTH = 64
"""Maximum depth of nested arrays and objects."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Xgboost(BoostedTrees):
    """An XGBoost booster; after early stopping, its trees up to the best iteration.

    Attributes:
        kind: `xgboost`.
        artifact: path of the .ubj or .json file written by `save_model`.
    """

    library: ClassVar[str] = "XGBoost"
    links: ClassVar[Mapping[str, Link]] = {
        "binary:logistic": "logistic",
        "reg:logistic": "logistic",
        "reg:squarederror": "identity",
    }
    save_with: ClassVar[str] = "save_model as .ubj or .json"

    kind: Literal["xgboost"]

    @property
    def _width(self) -> int:
        return int(self._booster.num_features())

    @property
    def _names(self) -> Sequence[str]:
        return self._booster.feature_names or ()

    @property
    def _objective(self) -> str:
        return str(json.loads(self._booster.save_config())["learner"]["objective"]["name"])

    def _output(self, x_ND: NDArray[np.float64], contributions: bool) -> NDArray[np.float32]:
        import xgboost

        booster, iterations = self._booster, self._iterations
        rows = xgboost.DMatrix(x_ND, feature_types=booster.feature_types, enable_categorical=True)
        return booster.predict(rows, pred_contribs=contributions, iteration_range=iterations, validate_features=False)

    @property
    def _iterations(self) -> tuple[int, int]:
        """The range of iterations to use, in the form of `xgboost.XGBModel`; (0, 0) means all."""
        best = self._booster.attr("best_iteration")
        return (0, 0) if best is None else (0, int(best) + 1)

    @cached_property
    def _booster(self) -> xgboost.Booster:
        with installed("xgboost"):
            import xgboost
        booster = xgboost.Booster()
        with reading(self.artifact, "an XGBoost model (.ubj or .json)"):
            learner = _parse(self._bytes)["learner"]
            if _has_categories(learner["gradient_booster"]):
                raise ArtifactError(self.artifact, CATEGORICAL)
            _check_learner(learner)
            booster.load_model(bytearray(self._bytes))
            booster.save_config()  # checks the parameters, which XGBoost otherwise does at their first use
        return booster


def _parse(data: bytes) -> Any:
    """Return the document of a model file; XGBoost distinguishes its formats by the first two bytes, too.

    Raises:
        ValueError: if it is neither JSON nor Universal Binary JSON, or has duplicate names.
    """
    if not data.startswith(b"{"):
        raise ValueError("it is neither JSON nor Universal Binary JSON")
    return parse_ubjson(data) if data[1:2].isalpha() else json.loads(data, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice in an object")
    return members


def _has_categories(booster: Mapping[str, Any]) -> bool:
    """Return whether the model was trained on categorical columns of a data frame."""
    model = booster.get("gbtree", booster)["model"]
    return any(len(each["values"]) for each in model.get("cats", {}).get("enc", ()))


def _check_learner(learner: Mapping[str, Any]) -> None:
    """Check all numbers in a model that XGBoost uses as indices or sizes without a check of its own.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: if one is missing or wrong.
    """
    parameters = learner["learner_model_param"]
    width = _size("num_feature", parameters)
    groups = max(1, _size("num_class", parameters)) * max(1, _size("num_target", parameters, "1"))
    for key in ("feature_names", "feature_types"):
        check_length(key, names := learner.get(key, ()), width if len(names) else 0)
    booster = learner["gradient_booster"]
    if booster["name"] == "gblinear":
        check_length("weights", booster["model"]["weights"], (width + 1) * groups)
        return
    model = booster.get("gbtree", booster)["model"]
    _check_forest(model, width, groups)
    if booster["name"] == "dart":
        check_length("weight_drop", booster["weight_drop"], len(model["trees"]))


def _check_forest(model: Mapping[str, Any], width: int, groups: int) -> None:
    trees = model["trees"]
    parameters = model["gbtree_model_param"]
    if _size("num_trees", parameters) != len(trees):
        raise ValueError(f"num_trees is {parameters['num_trees']}, but there are {len(trees):,} trees")
    if not _size("num_parallel_tree", parameters, "1"):
        raise ValueError("num_parallel_tree is 0, expected at least 1")
    if groups > max(1, sum(max(1, _size("size_leaf_vector", tree["tree_param"])) for tree in trees)):
        raise ValueError(f"there are {groups:,} outputs, but only {len(trees):,} trees")
    check_range("tree_info", integers("tree_info", model["tree_info"], len(trees)), 0, groups)
    starts = model.get("iteration_indptr", ())
    starts = integers("iteration_indptr", starts, len(starts))
    if len(starts) and not is_division(starts, len(trees)):
        raise ValueError("iteration_indptr does not divide the trees into iterations")
    if [tree["id"] for tree in trees] != list(range(len(trees))):
        raise ValueError("the trees are not numbered from 0")
    check_each(trees, lambda tree: _check_tree(tree, width, groups))


def _check_tree(tree: Mapping[str, Any], width: int, groups: int) -> None:
    parameters = tree["tree_param"]
    count = _size("num_nodes", parameters)
    if not count:
        raise ValueError("it has no node")
    left_M, right_M, feature_M = (
        integers(key, tree[key], count) for key in ("left_children", "right_children", "split_indices")
    )
    is_inner_M = left_M != LEAF
    check_tree(left_M, right_M, is_inner_M)
    check_range("split_indices", feature_M[is_inner_M], 0, width)
    _check_parents(integers("parents", tree["parents"], count), left_M, right_M, is_inner_M)
    if _size("num_feature", parameters) != width:
        raise ValueError(f"num_feature is {parameters['num_feature']}, expected {width}")
    outputs = max(1, _size("size_leaf_vector", parameters))
    for key in PER_NODE:
        check_length(key, tree[key], count)
    _check_leaves(tree, right_M[~is_inner_M], count, outputs, groups)
    _check_categories(tree, is_inner_M)


def _check_parents(
    parent_M: NDArray[np.int64], left_M: NDArray[np.int64], right_M: NDArray[np.int64], is_inner_M: NDArray[np.bool_]
) -> None:
    expected_M = np.where(np.isin(parent_M, NO_PARENT), parent_M, NO_PARENT[0])
    for child_M in (left_M, right_M):
        expected_M[child_M[is_inner_M]] = np.flatnonzero(is_inner_M)
    if not np.array_equal(parent_M, expected_M):
        raise ValueError("parents does not match the children")


def _check_leaves(tree: Mapping[str, Any], leaves: NDArray[np.int64], count: int, outputs: int, groups: int) -> None:
    """Check the values of leaves; with several outputs, the right child of a leaf is its position in `leaf_weights`."""
    if outputs == 1:
        check_length("base_weights", tree["base_weights"], count)
        return
    if outputs != groups:
        raise ValueError(f"size_leaf_vector is {outputs}, expected {groups}")
    if "leaf_weights" in tree:
        check_length("leaf_weights", tree["leaf_weights"], outputs * len(leaves))
        check_range("the position of a leaf", leaves, 0, len(leaves))
    check_length("base_weights", tree["base_weights"], outputs * count)


def _check_categories(tree: Mapping[str, Any], is_inner_M: NDArray[np.bool_]) -> None:
    """Check that each split by categories has its categories."""
    type_M = integers("split_type", tree.get("split_type", np.zeros_like(is_inner_M)), len(is_inner_M))
    check_range("split_type", type_M, 0, 2)
    nodes, starts, sizes, categories = (
        integers(key, values := tree.get(key, ()), len(values))
        for key in ("categories_nodes", "categories_segments", "categories_sizes", "categories")
    )
    check_length("categories_segments", starts, len(nodes))
    check_length("categories_sizes", sizes, len(nodes))
    check_range("categories_nodes", nodes, 0, len(is_inner_M))
    check_range("categories_sizes", sizes, 0, len(categories) + 1)
    check_range("categories_segments", starts, 0, len(categories) + 1)
    check_range("the end of a segment of categories", starts + sizes, 0, len(categories) + 1)
    check_range("categories", categories, 0, MAX_CATEGORIES)
    if (np.diff(nodes) <= 0).any() or not np.array_equal(nodes, np.flatnonzero((type_M == 1) & is_inner_M)):
        raise ValueError("categories_nodes does not list the splits by categories")


def _size(key: str, parameters: Mapping[str, Any], default: str | None = None) -> int:
    text = parameters.get(key, default)
    if not isinstance(text, str) or not re.fullmatch("[0-9]{1,10}", text) or int(text) >= MAX_SIZE:
        raise ValueError(f"{key} is {text!r}, expected a number less than {MAX_SIZE:,} as a string")
    return int(text)


def parse_ubjson(data: bytes) -> Any:
    """Return the document in Universal Binary JSON; arrays of numbers of one type are numpy arrays.

    Raises:
        ValueError: if the document is truncated or malformed, has duplicate names, or is nested too deeply.
    """
    reader = _Reader(data)
    document = reader.value(reader.marker(), 0)
    if reader.position != len(data):
        raise ValueError(f"{len(data) - reader.position:,} bytes after the end of the document")
    return document


class _Reader:
    """Reader of Universal Binary JSON."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def marker(self) -> str:
        return self.take(1).decode("latin-1")

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.position:
            raise ValueError("the file is truncated")
        self.position += size
        return self.data[self.position - size : self.position]

    def value(self, marker: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("the document is nested too deeply")
        if marker in CONSTANTS:
            return CONSTANTS[marker]
        if marker in NUMBERS:
            return self.numbers(marker, 1)[0].item()
        match marker:
            case "S":
                return self.string()
            case "[":
                return self.array(depth)
            case "{":
                return self.object(depth)
        raise ValueError(f"unknown type {marker!r} at byte {self.position:,}")

    def numbers(self, marker: str, count: int) -> Any:
        dtype = np.dtype(NUMBERS[marker])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def size(self) -> int:
        marker = self.marker()
        if marker not in "iUIlL":
            raise ValueError(f"expected a length at byte {self.position:,}, got type {marker!r}")
        return int(self.numbers(marker, 1)[0])

    def string(self) -> str:
        return self.take(self.size()).decode()

    def array(self, depth: int) -> Any:
        marker = self.marker()
        if marker == "$":
            kind = self.marker()
            if kind not in NUMBERS or self.marker() != "#":
                raise ValueError(f"expected an array of numbers with its size at byte {self.position:,}")
            return self.numbers(kind, self.size())
        if marker == "#":
            count = self.size()
            if not 0 <= count <= len(self.data):
                raise ValueError("the file is truncated")
            return [self.value(self.marker(), depth + 1) for _ in range(count)]
        values = []
        while marker != "]":
            values.append(self.value(marker, depth + 1))
            marker = self.marker()
        return values

    def object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while self.data[self.position : self.position + 1] != b"}":
            name = self.string()
            if name in members:
                raise ValueError(f"the name {name!r} occurs twice in an object")
            members[name] = self.value(self.marker(), depth + 1)
        self.position += 1
        return members
