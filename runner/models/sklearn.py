"""scikit-learn estimators, loaded from skops files, which contain no code.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from functools import cached_property
from io import BytesIO
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
from runner.models.trees import check_length, check_range
from runner.types import NO_OTHER_KEYS

MAX_UNPACKED_BYTES = 256 * 2**20
"""Size in bytes that the content of any file may have."""
MAX_RATIO = 32
"""Maximum size of the content of larger files, as a multiple of the size of the file."""
PER_FEATURE = ("_fit_X", "cluster_centers_", "subcluster_centers_", "support_vectors_")
"""Matrices of estimators with one column per feature; scikit-learn's native code relies on it."""


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
            _check_size(self._bytes)
            self._check_trust(io.get_untrusted_types(data=self._bytes))
            estimator = io.loads(self._bytes, trusted=list(self.trusted))
            for each in _estimators(estimator):
                _check_arrays(each)
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


def _check_size(data: bytes) -> None:
    """Check that a file is not much smaller than its content, which skops reads into memory.

    Raises:
        ValueError: if it is.
        zipfile.BadZipFile: if it is no archive.
    """
    with zipfile.ZipFile(BytesIO(data)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > max(MAX_UNPACKED_BYTES, MAX_RATIO * len(data)):
        raise ValueError(f"its {len(data):,} bytes contain {size:,} bytes")


def _estimators(root: Any) -> Iterator[Any]:
    """Yield all objects of scikit-learn in an estimator, each once."""
    pending, seen = [root], {id(root): root}
    while pending:
        found = pending.pop()
        parts: list[Any] = []
        if type(found).__module__.startswith("sklearn."):
            yield found
            parts = list(getattr(found, "__dict__", {}).values())
        elif isinstance(found, Mapping):
            parts = list(found.values())
        elif isinstance(found, list | tuple) or (isinstance(found, np.ndarray) and found.dtype == object):
            parts = list(np.ravel(found)) if isinstance(found, np.ndarray) else list(found)
        new = {id(part): part for part in parts if id(part) not in seen}
        seen |= new
        pending += new.values()


def _check_arrays(estimator: Any) -> None:
    """Check the shapes of arrays that scikit-learn's native code does not check.

    Raises:
        ValueError: if one is wrong.
        AttributeError, TypeError: if one is missing or has another type.
    """
    from sklearn.svm._base import BaseLibSVM

    width = getattr(estimator, "n_features_in_", None)
    for name in PER_FEATURE:
        values = getattr(estimator, name, None)
        if width is not None and isinstance(values, np.ndarray) and values.size and values.shape[1:] != (width,):
            raise ValueError(f"{name} of {type(estimator).__name__} has shape {values.shape}, expected (…, {width})")
    if isinstance(estimator, BaseLibSVM) and hasattr(estimator, "support_"):
        _check_svm(estimator)


def _check_svm(svm: Any) -> None:
    """Check the numbers of support vectors and coefficients of a support vector machine.

    Source: `svm_predict_values` of libsvm. K classes need K - 1 coefficients per vector, and a bias for each pair.
    """
    is_classifier = svm._impl in {"c_svc", "nu_svc"}
    classes = len(svm.classes_) if is_classifier else 2
    pairs, count = classes * (classes - 1) // 2, len(svm.support_)
    check_range("the index of a support vector", svm.support_, 0, svm.shape_fit_[0])
    check_length("_n_support", svm._n_support, classes)
    check_range("_n_support", svm._n_support, 0, count + 1)
    if (svm._n_support.sum() if is_classifier else svm._n_support.max()) != count:
        raise ValueError("_n_support does not divide the support vectors")
    if svm._dual_coef_.shape != (classes - 1, count):
        raise ValueError(f"_dual_coef_ has shape {svm._dual_coef_.shape}, expected {(classes - 1, count)}")
    check_length("_intercept_", svm._intercept_, pairs)
    for values in (svm._probA, svm._probB):
        check_length("_probA or _probB", values, pairs if len(values) else 0)
    if svm.support_vectors_.size or svm.kernel in {"linear", "poly", "rbf", "sigmoid"}:
        check_length("support_vectors_", svm.support_vectors_, count)
    if svm._impl != type(svm)._impl:
        raise ValueError(f"the type of a support vector machine is {svm._impl!r}")
