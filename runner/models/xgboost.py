"""XGBoost models, loaded from their native files.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import json
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, Link
from runner.errors import ArtifactError, ExplainerError
from runner.models.base import (
    Columns,
    Headers,
    LocalModel,
    at_least_one,
    by_known_name,
    check_width,
    computing,
    file_bytes,
    fingerprint,
    installed,
    matrix,
    reading,
    scores,
    tree_terms,
)

if TYPE_CHECKING:
    import xgboost


LINKS: dict[str, Link] = {
    "binary:logistic": "logistic",
    "reg:logistic": "logistic",
    "reg:squarederror": "identity",
}
"""Objectives supported by `tree_shap`, with the link function of their output."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Xgboost(LocalModel):
    """An XGBoost booster; after early stopping, its trees up to the best iteration.

    Features are matched by the names in the file if the records have the same names, otherwise by order. Nulls are
    missing values.

    Attributes:
        kind: `xgboost`.
        artifact: path of the .ubj or .json file written by `save_model`.
        columns: indices of the score columns to explain, counted from 0; None for all.
        label_headers: names of the outputs, None for `label0`, `label1`, …
        deploy: None to predict in this process, `shadow` to predict through a temporary local endpoint.
    """

    kind: Literal["xgboost"]
    artifact: Path
    columns: Columns | None
    label_headers: Headers | None
    deploy: Literal["shadow"] | None = field()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artifact and `columns`."""
        return fingerprint(self._bytes, self.columns)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL, as `Booster.predict` computes them.

        Raises:
            ArtifactError: if the artifact cannot be read or expects other features.
            MissingInput: if the artifact does not exist.
            ModelInputError: if a feature is a string.
            ModelAnswerError: if XGBoost fails, or `columns` selects a column that does not exist.
        """
        booster = self._booster
        check_width(self.artifact, booster.num_features(), features)
        x_ND = matrix(self.kind, by_known_name(self.artifact, booster.feature_names or (), at_least_one(features)))
        with computing("XGBoost"):
            import xgboost

            rows = xgboost.DMatrix(x_ND, feature_types=booster.feature_types, enable_categorical=True)
            answer = booster.predict(rows, iteration_range=self._iterations, validate_features=False)
        return scores("XGBoost", answer, features.height, self.columns)

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return each feature's contribution to the margin, from XGBoost's path-dependent TreeSHAP.

        Raises:
            ExplainerError: if the model has several outputs, or the link of its objective is not supported.
        """
        booster = self._booster
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        if objective not in LINKS or self.columns is not None:
            raise ExplainerError(
                f"shap.explainer=tree supports one output with objective {' or '.join(LINKS)}, not {objective}; "
                "use shap.explainer=kernel"
            )
        check_width(self.artifact, booster.num_features(), features)
        known = by_known_name(self.artifact, booster.feature_names or (), features)
        with computing("XGBoost"):
            import xgboost

            rows = xgboost.DMatrix(
                matrix(self.kind, known), feature_types=booster.feature_types, enable_categorical=True
            )
            options = {"iteration_range": self._iterations, "validate_features": False}
            answer = booster.predict(rows, pred_contribs=True, **options)
        return tree_terms(answer, LINKS[objective], known, features)

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
            booster.load_model(bytearray(self._bytes))
        if "c" in (booster.feature_types or ()) and not booster.get_categories().empty():
            problem = "was trained on categorical columns of a data frame; the records do not contain their codes"
            raise ArtifactError(self.artifact, f"{problem}; encode categories as numbers before training")
        return booster

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, "save_model as .ubj or .json")
