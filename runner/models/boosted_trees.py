"""The base class of boosted trees, whose libraries also compute TreeSHAP values.

Array letters: N records, D features, L labels (outputs), C contributions of one output: D features and the base value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, Link
from runner.errors import ExplainerError
from runner.models.base import FileModel, check_width, computing, in_model_order, matrix, non_empty, scores
from runner.types import NO_OTHER_KEYS

CATEGORICAL = (
    "was trained on categorical columns of a data frame; the records do not contain their codes; "
    "encode categories as numbers before training"
)
"""The problem of a model file, for messages."""


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class BoostedTrees(FileModel, ABC):
    """A booster of a library.

    Features are matched by the names in the file if the records have the same names, otherwise by order. Nulls are
    missing values.
    """

    library: ClassVar[str]
    """The library's name, for messages."""

    links: ClassVar[Mapping[str, Link]]
    """Objectives supported by `tree_shap`, with the link function of their output."""

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL, as the library computes them.

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
            ExplainerError: if the model has several outputs, or the link of its objective is not supported.
        """
        check_width(self.artifact, self._width, features)
        objective = self._objective
        if objective not in self.links or self.columns is not None:
            raise ExplainerError(
                f"shap.explainer=tree supports one output with objective {' or '.join(self.links)}, not {objective}; "
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
        """Return the features under the names that the library writes for them."""
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
