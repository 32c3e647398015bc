"""ONNX models, computed by onnxruntime.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.errors import ArtifactError, ModelInputError, listed
from runner.models.base import (
    FileModel,
    check_width,
    computing,
    default_columns,
    fingerprint,
    in_model_order,
    installed,
    matrix,
    non_empty,
    reading,
    scores,
)
from runner.models.trees import check_depth, check_range
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

FLOAT_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
INTEGER_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
STRING_TYPE = "tensor(string)"
MAPS_PREFIX = "seq(map("
"""Prefix of the type of a ZipMap's output: one map per record, from class name to probability."""

EXTERNAL_DATA = re.compile(rb"\x6a[^\x00].?\x0a\x08location\x12", re.DOTALL)
"""Protobuf bytes of a tensor's `external_data` (field 13) whose first key is `location`."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Onnx(FileModel):
    """An ONNX model.

    A single two-dimensional input gets all features in order; otherwise each input gets the feature of the same name.
    Values are cast to the type of the input. Nulls become NaN in floats; in integers and strings they are an error.

    Attributes:
        kind: `onnx`.
        artifact: path of the .onnx file, including its weights.
        output: name of the output with the scores; None if the model has exactly one output of floats.
        columns: as in `FileModel`, except that None selects the second of two columns (the positive class).
    """

    save_with: ClassVar[str] = "the ONNX exporter of the training library"

    kind: Literal["onnx"]
    output: str | None

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artifact, `output` and `columns`."""
        return fingerprint(self._bytes, self.output, self.columns)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL, computed on one thread.

        Raises:
            ArtifactError: if the artifact cannot be read or has other features or outputs.
            MissingInput: if the artifact does not exist.
            ModelInputError: if a feature cannot be cast to the type of its input.
            ModelAnswerError: if onnxruntime fails, or `columns` selects a column that does not exist.
        """
        feeds = self._feeds(non_empty(features))
        with computing("onnxruntime"):
            (output,) = self._session.run([self._output], feeds)
        if isinstance(output, list):
            output = [list(map_.values()) for map_ in output]
        output_NL = np.asarray(output)
        return scores("the model", output_NL, features.height, default_columns(output_NL, self.columns))

    def _feeds(self, features: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """Return the tensors for the inputs, by name."""
        inputs = self._session.get_inputs()
        if len(inputs) == 1 and len(inputs[0].shape) != 1:
            width = inputs[0].shape[1] if len(inputs[0].shape) > 1 else None
            check_width(self.artifact, width if isinstance(width, int) else features.width, features)
            return {inputs[0].name: self._tensor(inputs[0], features)}
        check_width(self.artifact, len(inputs), features)
        features = in_model_order(self.artifact, [node.name for node in inputs], features)
        return {node.name: self._column(node, features[node.name]) for node in inputs}

    def _column(self, node: NodeArg, column: pl.Series) -> NDArray[Any]:
        tensor_N1 = self._tensor(node, column.to_frame())
        return tensor_N1[:, 0] if len(node.shape) == 1 else tensor_N1

    def _tensor(self, node: NodeArg, features: pl.DataFrame) -> NDArray[Any]:
        """Return x_ND, cast to the element type of an input."""
        if node.type == STRING_TYPE:
            return _strings(features)
        if node.type in FLOAT_TYPES:
            with np.errstate(over="ignore"):
                return matrix(self.kind, features).astype(FLOAT_TYPES[node.type])
        if node.type in INTEGER_TYPES:
            return _integers(features, INTEGER_TYPES[node.type])
        supported = ", ".join([*FLOAT_TYPES, *INTEGER_TYPES, STRING_TYPE])
        raise ArtifactError(self.artifact, f"its input {node.name!r} has type {node.type}; expected one of {supported}")

    @cached_property
    def _output(self) -> str:
        """The name of the output with the scores."""
        outputs = self._session.get_outputs()
        names: list[str] = [node.name for node in outputs]
        if self.output is None:
            names = [node.name for node in outputs if node.type in FLOAT_TYPES or node.type.startswith(MAPS_PREFIX)]
        matches = [name for name in names if self.output in {None, name}]
        if len(matches) == 1:
            return matches[0]
        outputs_text = listed(f"{node.name} {node.type}" for node in outputs)
        reason = (
            "model.output=null needs exactly one output of floats"
            if self.output is None
            else f"none is named {self.output!r}"
        )
        problem = f"its outputs are {outputs_text}; {reason}"
        raise ArtifactError(self.artifact, f"{problem}; set model.output to the name of the output with the scores")

    @cached_property
    def _session(self) -> InferenceSession:
        with installed("onnx"):
            import onnxruntime
        if EXTERNAL_DATA.search(self._bytes):
            problem = "stores its weights in another file, which is not supported"
            raise ArtifactError(self.artifact, f"{problem}; save the model as one file, without external data")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        with reading(self.artifact, "an ONNX model"):
            _check_trees(self._bytes)
            return onnxruntime.InferenceSession(self._bytes, options, providers=["CPUExecutionProvider"])


def _check_trees(data: bytes) -> None:
    """Check that no path in a tree returns to a node, because onnxruntime would follow it without end.

    Source: the operators TreeEnsemble, TreeEnsembleClassifier and TreeEnsembleRegressor of ai.onnx.ml.

    Raises:
        ValueError: if a path does, or leads to a node that does not exist.
    """
    if b"TreeEnsemble" not in data:
        return
    with installed("onnx"):
        import onnx
    model = onnx.load_from_string(data)
    for node in _nodes([model.graph, *model.functions]):
        attributes = {each.name: each for each in node.attribute}
        if node.op_type == "TreeEnsemble":
            _check_ensemble(attributes)
        elif node.op_type in {"TreeEnsembleClassifier", "TreeEnsembleRegressor"}:
            _check_numbered_ensemble(attributes)


def _nodes(graphs: Iterable[Any]) -> Iterator[Any]:
    """Yield the nodes of graphs and of the graphs in their attributes."""
    for graph in graphs:
        for node in graph.node:
            yield node
            yield from _nodes(each.g for each in node.attribute if each.HasField("g"))


def _check_ensemble(attributes: Mapping[str, Any]) -> None:
    """Check trees whose children are positions of nodes, or of leaves."""
    roots, true_M, false_M, true_is_leaf_M, false_is_leaf_M = (
        np.array(attributes[name].ints, np.int64)
        for name in ("tree_roots", "nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs", "nodes_falseleafs")
    )
    count = len(true_M)
    left_M, right_M = (
        np.append(np.where(is_leaf_M != 0, count, child_M), 0)  # all leaves have the number after the nodes
        for child_M, is_leaf_M in ((true_M, true_is_leaf_M), (false_M, false_is_leaf_M))
    )
    check_range("the root of a tree", roots, 0, count)
    check_range("the child of a node", np.concatenate([left_M, right_M]), 0, count + 1)
    check_depth(left_M, right_M, np.arange(count + 1) < count, roots)


def _check_numbered_ensemble(attributes: Mapping[str, Any]) -> None:
    """Check trees whose nodes have a number of the tree and a number within the tree."""
    tree_M, number_M, true_M, false_M = (
        attributes[name].ints for name in ("nodes_treeids", "nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids")
    )
    positions = {key: position for position, key in enumerate(zip(tree_M, number_M, strict=True))}
    is_inner_M = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"].strings], np.bool_)

    def position(tree: int, child: int) -> int:
        if (tree, child) not in positions:
            raise ValueError(f"tree {tree} has no node {child}")
        return positions[tree, child]

    left_M, right_M = (
        np.array(
            [
                position(tree, child) if is_inner else 0
                for tree, child, is_inner in zip(tree_M, child_M, is_inner_M, strict=True)
            ],
            np.int64,
        )
        for child_M in (true_M, false_M)
    )
    roots = {tree: position for position, tree in reversed(list(enumerate(tree_M)))}
    check_depth(left_M, right_M, is_inner_M, np.array(list(roots.values()), np.int64))


def _strings(features: pl.DataFrame) -> NDArray[Any]:
    """Return x_ND as strings; numbers and booleans are formatted."""
    for column in features:
        if column.null_count():
            raise ModelInputError("onnx", column.name, None, "strings in this input")
    return features.cast(pl.String).to_numpy().astype(object)


def _integers(features: pl.DataFrame, dtype: type[np.generic]) -> NDArray[Any]:
    """Return x_ND as integers or booleans."""
    x_ND = matrix("onnx", features)
    with np.errstate(invalid="ignore"):
        integer_ND: NDArray[Any] = x_ND.astype(dtype)
    if (changed_ND := integer_ND != x_ND).any():
        n, d = np.argwhere(changed_ND)[0].tolist()
        expected = f"{np.dtype(dtype)} values in this input"
        raise ModelInputError("onnx", features.columns[d], features[n, d], expected)
    return integer_ND
