"""scikit-learn estimators, from skops files, which hold no code.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner.errors import ArtifactError
from runner.models.base import (
    Columns,
    Headers,
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


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Sklearn(Local):
    """A scikit-learn estimator or pipeline.

    One that was trained on a data frame gets one: features are found by their names and may be texts. One that was
    trained on a matrix gets a matrix of floats in the features' order.

    Attributes:
        kind: `sklearn`.
        artifact: what `skops.io.dump` wrote, .skops.
        trusted: the names of types in it that skops does not trust by itself; loading it may run their code.
        method: what gives the scores: `predict_proba`, `predict` or `decision_function`.
        columns: which columns of the scores to explain, from 0; None for all, but of the two probabilities of a binary
            classifier only the second, the positive class.
        label_headers: the names of the outputs, or None for `label0`, `label1`, …
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    kind: Literal["sklearn"]
    artifact: Path
    trusted: tuple[str, ...]
    method: Literal["predict_proba", "predict", "decision_function"]
    columns: Columns | None
    label_headers: Headers | None
    deploy: Literal["shadow"] | None = field()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artefact, `method` and `columns`."""
        return fingerprint(self._bytes, self.method, self.columns)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL by the estimator's `method`, on one thread: on more, forests add up in any order.

        Raises:
            ArtifactError: when the artefact cannot be read, is not trusted, or has other features.
            MissingInput: when it is not there.
            ModelInputError: when a feature is a text and the estimator was trained on a matrix.
            ModelAnswerError: when the estimator fails, or `columns` asks for more than there is.
        """
        from joblib import parallel_config

        x_ND = self._arranged(features)
        what = f"{type(self._estimator).__name__}.{self.method}"
        with computing(what), parallel_config(backend="sequential"):
            answer = np.asarray(getattr(self._estimator, self.method)(x_ND)) if features.height else self._of_none()
        columns = positive(answer, self.columns) if self.method == "predict_proba" else self.columns
        return scores(what, answer, features.height, columns)

    def _arranged(self, features: pl.DataFrame) -> pl.DataFrame | NDArray[np.float64]:
        """Return features as the estimator was trained on them."""
        check_width(self.artifact, getattr(self._estimator, "n_features_in_", features.width), features)
        names = getattr(self._estimator, "feature_names_in_", None)
        if names is None:
            return matrix(self.kind, features)
        return by_name(self.artifact, list(names), features).cast({pl.Null: pl.Float64})

    def _of_none(self) -> NDArray[np.float64]:
        """Return the scores of no row, which scikit-learn refuses to compute."""
        classes = len(getattr(self._estimator, "classes_", ()))
        several = self.method == "predict_proba" or (self.method == "decision_function" and classes > 2)
        return np.empty((0, max([*(self.columns or ()), classes - 1 if several else 0]) + 1))

    @cached_property
    def _estimator(self) -> Any:
        with installed("sklearn"):
            from skops import io
        with reading(self.artifact, "skops file"):
            self._check_trust(io.get_untrusted_types(data=self._bytes))
            estimator = io.loads(self._bytes, trusted=list(self.trusted))
        if not hasattr(estimator, self.method):
            problem = f"holds a {type(estimator).__name__}, which has no {self.method} (model.method)"
            raise ArtifactError(self.artifact, problem)
        return estimator

    def _check_trust(self, untrusted: list[str]) -> None:
        unknown = sorted(set(untrusted) - set(self.trusted))
        if unknown:
            reason = "since they could run code or end the process"
            problem = f"holds types that skops does not trust, {reason}: {', '.join(unknown)}"
            remedy = "if the file comes from where you trust, add them to model.trusted"
            raise ArtifactError(self.artifact, f"{problem}; {remedy}")

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, "skops.io.dump")
