"""XGBoost models, from their native files.

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

from runner.domain.attributions import Additive
from runner.errors import ArtifactError, ExplainerError
from runner.models.base import (
    Columns,
    Headers,
    at_least_one,
    by_known_name,
    check_width,
    computing,
    contributed,
    file_bytes,
    fingerprint,
    installed,
    matrix,
    reading,
    scores,
)
from runner.models.local import Local

if TYPE_CHECKING:
    import xgboost


LINKS: dict[str, Literal["identity", "logistic"]] = {
    "binary:logistic": "logistic",
    "reg:logistic": "logistic",
    "reg:squarederror": "identity",
}
"""The objectives whose contributions can be explained, and the links of their outputs."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Xgboost(Local):
    """An XGBoost booster, with the trees up to its best iteration where early stopping has left one.

    Features are found by the names that the file holds, where the records have the same, else by their order. Nulls
    are missing values.

    Attributes:
        kind: `xgboost`.
        artifact: what `save_model` wrote, .ubj or .json.
        columns: which columns of the scores to explain, from 0; None for all.
        label_headers: the names of the outputs, or None for `label0`, `label1`, …
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    kind: Literal["xgboost"]
    artifact: Path
    columns: Columns | None
    label_headers: Headers | None
    deploy: Literal["shadow"] | None = field()

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artefact and `columns`."""
        return fingerprint(self._bytes, self.columns)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL, as `Booster.predict` computes them.

        Raises:
            ArtifactError: when the artefact cannot be read or has other features.
            MissingInput: when it is not there.
            ModelInputError: when a feature is a text.
            ModelAnswerError: when XGBoost fails, or `columns` asks for more than there is.
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
        """Return what each feature adds to the margin, by XGBoost's own path-dependent TreeSHAP.

        Raises:
            ExplainerError: when there are several outputs, or the objective has another link.
        """
        booster = self._booster
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
        if objective not in LINKS or self.columns is not None:
            raise ExplainerError(f"shap.explainer=tree explains one output of {', '.join(LINKS)}, not {objective}")
        check_width(self.artifact, booster.num_features(), features)
        known = by_known_name(self.artifact, booster.feature_names or (), features)
        with computing("XGBoost"):
            import xgboost

            rows = xgboost.DMatrix(
                matrix(self.kind, known), feature_types=booster.feature_types, enable_categorical=True
            )
            options = {"iteration_range": self._iterations, "validate_features": False}
            answer = booster.predict(rows, pred_contribs=True, **options)
        return contributed(answer, LINKS[objective], known, features)

    @property
    def _iterations(self) -> tuple[int, int]:
        """The trees to use, as `xgboost.XGBModel` takes them; (0, 0) stands for all."""
        best = self._booster.attr("best_iteration")
        return (0, 0) if best is None else (0, int(best) + 1)

    @cached_property
    def _booster(self) -> xgboost.Booster:
        with installed("xgboost"):
            import xgboost
        booster = xgboost.Booster()
        with reading(self.artifact, "XGBoost model in .ubj or .json"):
            booster.load_model(bytearray(self._bytes))
        if "c" in (booster.feature_types or ()) and not booster.get_categories().empty():
            problem = "was trained on the categories of a data frame, whose codes the records do not hold"
            raise ArtifactError(self.artifact, f"{problem}; encode them as numbers before training")
        return booster

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, "save_model as .ubj or .json")
