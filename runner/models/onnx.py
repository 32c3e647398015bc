"""ONNX models, computed by onnxruntime.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import re
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner.errors import ArtifactError, ModelInputError
from runner.models.base import (
    Columns,
    Headers,
    at_least_one,
    by_name,
    check_width,
    computing,
    file_bytes,
    fingerprint,
    installed,
    matrix,
    positive,
    reading,
    scores,
)
from runner.models.local import Local

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
WHOLES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
TEXTS = "tensor(string)"
MAPS = "seq(map("
"""What a ZipMap puts out: for each record a map from the name of a class to its probability."""

ELSEWHERE = re.compile(rb"\x6a[^\x00].?\x0a\x08location\x12", re.DOTALL)
"""The entry `external_data` of a tensor (field 13) whose first key is `location`, as protobuf writes it."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Onnx(Local):
    """An ONNX model.

    One input of two dimensions takes all features in their order; otherwise each input takes the feature of its name.
    Values take the input's own type: nulls are NaN in floats, and refused in whole numbers and texts.

    Attributes:
        kind: `onnx`.
        artifact: the .onnx file, weights included.
        output: the name of the output that holds the scores; None for the only one that holds fractions.
        columns: which columns of the scores to explain, from 0; None for all, but of two, the probabilities of a binary
            classifier, only the second, the positive class.
        label_headers: the names of the outputs, or None for `label0`, `label1`, …
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    kind: Literal["onnx"]
    artifact: Path
    output: str | None
    columns: Columns | None
    label_headers: Headers | None
    deploy: Literal["shadow"] | None = field()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artefact, `output` and `columns`."""
        return fingerprint(self._bytes, self.output, self.columns)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL, computed on one thread.

        Raises:
            ArtifactError: when the artefact cannot be read or has other features or outputs.
            MissingInput: when it is not there.
            ModelInputError: when a feature is not of the type of its input.
            ModelAnswerError: when onnxruntime fails, or `columns` asks for more than there is.
        """
        feeds = self._feeds(at_least_one(features))
        with computing("onnxruntime"):
            (answer,) = self._session.run([self._output], feeds)
        if isinstance(answer, list):
            answer = [list(map_.values()) for map_ in answer]
        answer_NL = np.asarray(answer)
        return scores("the model", answer_NL, features.height, positive(answer_NL, self.columns))

    def _feeds(self, features: pl.DataFrame) -> dict[str, NDArray[Any]]:
        """Return what each input gets."""
        inputs = self._session.get_inputs()
        if len(inputs) == 1 and len(inputs[0].shape) != 1:
            width = inputs[0].shape[1] if len(inputs[0].shape) > 1 else None
            check_width(self.artifact, width if isinstance(width, int) else features.width, features)
            return {inputs[0].name: self._tensor(inputs[0], features)}
        check_width(self.artifact, len(inputs), features)
        features = by_name(self.artifact, [each.name for each in inputs], features)
        return {each.name: self._column(each, features[each.name]) for each in inputs}

    def _column(self, into: NodeArg, column: pl.Series) -> NDArray[Any]:
        tensor_N1 = self._tensor(into, column.to_frame())
        return tensor_N1[:, 0] if len(into.shape) == 1 else tensor_N1

    def _tensor(self, into: NodeArg, features: pl.DataFrame) -> NDArray[Any]:
        """Return x_ND in the element type of an input."""
        if into.type == TEXTS:
            return _texts(features)
        if into.type in FLOATS:
            with np.errstate(over="ignore"):
                return matrix(self.kind, features).astype(FLOATS[into.type])
        if into.type in WHOLES:
            return _wholes(features, WHOLES[into.type])
        taken = ", ".join([*FLOATS, *WHOLES, TEXTS])
        raise ArtifactError(self.artifact, f"its input {into.name!r} takes {into.type}; expected one of {taken}")

    @cached_property
    def _output(self) -> str:
        """The name of the output that holds the scores."""
        outputs = self._session.get_outputs()
        names: list[str] = [each.name for each in outputs]
        if self.output is None:
            names = [each.name for each in outputs if each.type in FLOATS or each.type.startswith(MAPS)]
        wanted = [name for name in names if self.output in {None, name}]
        if len(wanted) == 1:
            return wanted[0]
        there = ", ".join(f"{each.name} {each.type}" for each in outputs)
        asked = "model.output=null finds no single one of fractions" if self.output is None else "model.output is none"
        raise ArtifactError(self.artifact, f"its outputs are {there}; {asked}: name the one that holds the scores")

    @cached_property
    def _session(self) -> InferenceSession:
        with installed("onnx"):
            import onnxruntime
        if ELSEWHERE.search(self._bytes):
            problem = "keeps its weights in another file, which is not read"
            raise ArtifactError(self.artifact, f"{problem}; save it as one, without external data")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        with reading(self.artifact, "ONNX model"):
            return onnxruntime.InferenceSession(self._bytes, options, providers=["CPUExecutionProvider"])

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, "the ONNX exporter of its library")


def _texts(features: pl.DataFrame) -> NDArray[Any]:
    """Return x_ND as texts; numbers and booleans are written out."""
    for column in features:
        if column.null_count():
            raise ModelInputError("onnx", column.name, None, "texts there, as its input does")
    return features.cast(pl.String).to_numpy().astype(object)


def _wholes(features: pl.DataFrame, dtype: type[np.generic]) -> NDArray[Any]:
    """Return x_ND as whole numbers or booleans."""
    x_ND = matrix("onnx", features)
    with np.errstate(invalid="ignore"):
        whole_ND: NDArray[Any] = x_ND.astype(dtype)
    if (lost_ND := whole_ND != x_ND).any():
        n, d = np.argwhere(lost_ND)[0].tolist()
        expected = f"{np.dtype(dtype)} values there, as its input does"
        raise ModelInputError("onnx", features.columns[d], features[n, d], expected)
    return whole_ND
