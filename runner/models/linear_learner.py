"""SageMaker Linear Learner, read from its artefact with numpy alone.

Array letters: N records, D features, L labels (one).
"""

from __future__ import annotations

import hashlib
from dataclasses import field
from decimal import ROUND_DOWN, Context, Decimal
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive
from runner.errors import ArtifactError, ModelInputError
from runner.models.archives import parse_arrays, unpack_tar, unpack_zip
from runner.models.local import Local, body

PREDICTORS = ("binary_classifier", "regressor")


class Parameters(NamedTuple):
    """What the artefact holds: weights_D and bias in float32, the predictor's type and its label threshold."""

    weights_D: NDArray[np.float32]
    bias: np.float32
    predictor: str
    threshold: float


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LinearLearner(Local):
    """A logistic or linear regression in float32, as the SageMaker container computes it.

    Attributes:
        kind: `linear_learner`.
        artifact: the model.tar.gz.
        label_headers: the name of the one output, or None for `label0`.
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    is_fast: ClassVar[bool] = True
    is_additive: ClassVar[bool] = True

    kind: Literal["linear_learner"]
    artifact: Path
    label_headers: tuple[str] | None
    deploy: Literal["shadow"] | None = field()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artefact."""
        return hashlib.sha256(self._bytes).hexdigest()

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL: probabilities of a classifier, values of a regressor.

        Products are added feature by feature in float32, never by BLAS, so that a row's score is the same to the
        bit whatever batch it travels in.

        Raises:
            ArtifactError: when the artefact cannot be read or has another number of features.
            ModelInputError: when a feature is not a number.
        """
        weights_D, bias, predictor, _ = self._fitting(features)
        margin_N = np.zeros(features.height, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for column, weight in zip(features, weights_D, strict=True):
                margin_N += _numbers(column) * weight
            margin_N += bias
            if not np.isfinite(margin_N).all():
                _refuse_infinite(features)
            if predictor == "binary_classifier":
                margin_N = np.float32(1) / (np.float32(1) + np.exp(-margin_N))
        return margin_N.astype(np.float64)[:, None]

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the terms in float64, of the weights and features as float32 holds them.

        Raises:
            ArtifactError: when the artefact cannot be read or has another number of features.
            ModelInputError: when a feature is not a number.
        """
        weights_D, bias, predictor, _ = self._fitting(features)
        terms = [
            _numbers(column).astype(np.float64) * weight
            for column, weight in zip(features, weights_D.astype(np.float64), strict=True)
        ]
        link: Literal["identity", "logistic"] = "logistic" if predictor == "binary_classifier" else "identity"
        return Additive(link, np.array([float(bias)]), np.stack(terms, axis=1)[:, :, None])

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the body with which the SageMaker endpoint answers, as its container writes it.

        Raises:
            ValueError: with a sentence, when there is no such form of an answer.
        """
        scores_N: list[float] = self.predict(features)[:, 0].tolist()
        if accept == "application/jsonlines":
            return "".join(map(self._line, scores_N))
        answers = [{"score": score, **self._label(score)} for score in scores_N]
        return body(answers, [[score] for score in scores_N], accept)

    def _line(self, score: float) -> str:
        label = "".join(f'"{name}":{value},' for name, value in self._label(score).items())
        return f'{{{label}"score":{_truncated(score)}}}\n'

    def _label(self, score: float) -> dict[str, int]:
        """Return the label that a score leads to, nothing for a regressor."""
        if self.parameters.predictor == "regressor":
            return {}
        return {"predicted_label": int(score >= self.parameters.threshold)}

    def _fitting(self, features: pl.DataFrame) -> Parameters:
        """Return the parameters, if they are of as many features."""
        width = len(self.parameters.weights_D)
        if features.width != width:
            raise ArtifactError(self.artifact, f"the model has {width} features, the records have {features.width}")
        return self.parameters

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters, read once.

        Raises:
            ArtifactError: when the artefact is missing, corrupt, unsafe or of a kind that is not supported.
        """
        archive = unpack_zip(self.artifact, unpack_tar(self.artifact, "model_algo-1"))
        params = [data for name, data in archive.items() if name.endswith(".params")]
        if len(params) != 1 or "additional-params.json" not in archive:
            raise ArtifactError(self.artifact, f"is no Linear Learner model, it holds {sorted(archive)}")
        arrays = parse_arrays(self.artifact, params[0])
        try:
            weights_D = arrays["arg:fc0_weight"]
            (bias,) = arrays["arg:fc0_bias"].ravel()
            extra = orjson.loads(archive["additional-params.json"])
            predictor = extra["predictor_type"]
            threshold = 0.5 if extra.get("threshold") is None else float(extra["threshold"])
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise ArtifactError(self.artifact, f"is no Linear Learner model ({error!r})") from error
        if predictor not in PREDICTORS or weights_D.ndim != 2 or weights_D.shape[1] != 1:
            kind = f"predictor_type {predictor!r}, weights {weights_D.shape}"
            raise ArtifactError(self.artifact, f"{kind} is not supported; expected {' or '.join(PREDICTORS)}, (D, 1)")
        return Parameters(weights_D.ravel(), bias, predictor, threshold)

    @cached_property
    def _bytes(self) -> bytes:
        return self.artifact.read_bytes()


def _numbers(column: pl.Series) -> NDArray[np.float32]:
    if column.null_count():
        raise ModelInputError("linear_learner", column.name, None, "numbers only")
    if not column.dtype.is_numeric():
        value = column[0] if len(column) else None
        raise ModelInputError("linear_learner", column.name, value, "numbers only")
    return column.to_numpy().astype(np.float32)


def _refuse_infinite(features: pl.DataFrame) -> None:
    for column in features:
        outside = column.filter(~np.isfinite(_numbers(column)))
        if len(outside):
            raise ModelInputError("linear_learner", column.name, outside[0], "numbers in the range of float32")
    row = features.row(0)
    raise ModelInputError("linear_learner", features.columns[0], row[0], "numbers whose sum is in the range of float32")


def _truncated(score: float) -> str:
    """Return a score as the container writes it: decimal notation cut, not rounded, after 15 decimals.

    >>> _truncated(0.9899773597717285)
    '0.989977359771728'
    """
    text = repr(float(score))
    if "e" in text:
        text = f"{Decimal(text).quantize(Decimal('1e-15'), ROUND_DOWN, Context(prec=400)):f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals[:15].rstrip('0') or '0'}"
