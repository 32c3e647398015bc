"""scikit-learn estimators, loaded from skops files, which contain no code.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.errors import ArtifactError, listed
from runner.models.base import (
    FileModel,
    check_width,
    computing,
    default_columns,
    fingerprint,
    in_model_order,
    installed,
    matrix,
    reading,
    scores,
)
from runner.types import NO_OTHER_KEYS


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Sklearn(FileModel):
    """A scikit-learn estimator or pipeline.

    An estimator trained on a data frame gets a data frame: features are matched by name and may be strings. An
    estimator trained on a matrix gets a matrix of floats in the order of the features.

    Attributes:
        kind: `sklearn`.
        artifact: path of the .skops file written by `skops.io.dump`.
        trusted: names of types in the file to trust in addition to skops' own list; loading them may run their code.
        method: the method that returns scores: `predict_proba`, `predict` or `decision_function`.
        columns: as in `FileModel`, except that None selects the second of two probabilities (the positive class).
    """

    save_with: ClassVar[str] = "skops.io.dump"

    kind: Literal["sklearn"]
    trusted: tuple[str, ...]
    method: Literal["predict_proba", "predict", "decision_function"]

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artifact, `method` and `columns`."""
        return fingerprint(self._bytes, self.method, self.columns)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL from the estimator's `method`.

        The method runs on one thread: on several threads, forests add the scores of trees in random order.

        Raises:
            ArtifactError: if the artifact cannot be read, is not trusted, or expects other features.
            MissingInput: if the artifact does not exist.
            ModelInputError: if a feature is a string and the estimator was trained on a matrix.
            ModelAnswerError: if the estimator fails, or `columns` selects a column that does not exist.
        """
        from joblib import parallel_config

        x_ND = self._model_input(features)
        name = f"{type(self._estimator).__name__}.{self.method}"
        with computing(name), parallel_config(backend="sequential"):
            output = (
                np.asarray(getattr(self._estimator, self.method)(x_ND)) if features.height else self._empty_scores()
            )
        columns = default_columns(output, self.columns) if self.method == "predict_proba" else self.columns
        return scores(name, output, features.height, columns)

    def _model_input(self, features: pl.DataFrame) -> pl.DataFrame | NDArray[np.float64]:
        """Return the features as a data frame or matrix, in the type and order of the estimator's training data."""
        check_width(self.artifact, getattr(self._estimator, "n_features_in_", features.width), features)
        names = getattr(self._estimator, "feature_names_in_", None)
        if names is None:
            return matrix(self.kind, features)
        return in_model_order(self.artifact, list(names), features).cast({pl.Null: pl.Float64})

    def _empty_scores(self) -> NDArray[np.float64]:
        """Return an empty array with the estimator's number of columns: scikit-learn rejects input without rows."""
        classes = len(getattr(self._estimator, "classes_", ()))
        several = self.method == "predict_proba" or (self.method == "decision_function" and classes > 2)
        return np.empty((0, max([*(self.columns or ()), classes - 1 if several else 0]) + 1))

    @cached_property
    def _estimator(self) -> Any:
        with installed("sklearn"):
            from skops import io
        with reading(self.artifact, "a skops file"):
            self._check_trust(io.get_untrusted_types(data=self._bytes))
            estimator = io.loads(self._bytes, trusted=list(self.trusted))
        if not hasattr(estimator, self.method):
            problem = f"contains {type(estimator).__name__}, which has no method {self.method}; change model.method"
            raise ArtifactError(self.artifact, problem)
        return estimator

    def _check_trust(self, untrusted: list[str]) -> None:
        unknown = sorted(set(untrusted) - set(self.trusted))
        if unknown:
            problem = f"contains types that skops does not trust, because they could run code: {listed(unknown)}"
            remedy = "if you trust the source of the file, add them to model.trusted"
            raise ArtifactError(self.artifact, f"{problem}; {remedy}")
