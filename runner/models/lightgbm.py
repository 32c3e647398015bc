"""LightGBM models, loaded from their text files.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import re
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
    import lightgbm


LINKS: dict[str, Link] = {"binary sigmoid:1": "logistic", "regression": "identity"}
"""Objectives supported by `tree_shap`, with the link function of their output."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Lightgbm(LocalModel):
    """A LightGBM booster.

    Features are matched by the names in the file if the records have the same names, otherwise by order. Nulls are
    missing values.

    Attributes:
        kind: `lightgbm`.
        artifact: path of the .txt file written by `save_model`.
        columns: indices of the score columns to explain, counted from 0; None for all.
        label_headers: names of the outputs, None for `label0`, `label1`, …
        deploy: None to predict in this process, `shadow` to predict through a temporary local endpoint.
    """

    kind: Literal["lightgbm"]
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
            ArtifactError: if the artifact cannot be read, expects other features, or merges two feature names.
            MissingInput: if the artifact does not exist.
            ModelInputError: if a feature is a string.
            ModelAnswerError: if LightGBM fails, or `columns` selects a column that does not exist.
        """
        booster = self._booster
        check_width(self.artifact, booster.num_feature(), features)
        written = at_least_one(self._as_written(features))
        x_ND = matrix(self.kind, by_known_name(self.artifact, booster.feature_name(), written))
        with computing("LightGBM"):
            answer = booster.predict(x_ND, validate_features=False)
        return scores("LightGBM", answer, features.height, self.columns)

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return each feature's contribution to the margin, from LightGBM's path-dependent TreeSHAP.

        Raises:
            ExplainerError: if the model has several outputs, or the link of its objective is not supported.
        """
        booster = self._booster
        objective = (re.search(rb"^objective=(.*)$", self._bytes, re.MULTILINE) or [b"", b"none"])[1].decode()
        if objective not in LINKS or self.columns is not None:
            raise ExplainerError(
                f"shap.explainer=tree supports one output with objective {' or '.join(LINKS)}, not {objective}; "
                "use shap.explainer=kernel"
            )
        check_width(self.artifact, booster.num_feature(), features)
        written = self._as_written(features)
        known = by_known_name(self.artifact, booster.feature_name(), written)
        with computing("LightGBM"):
            answer = booster.predict(matrix(self.kind, known), pred_contrib=True, validate_features=False)
        return tree_terms(answer, LINKS[objective], known, written)

    def _as_written(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the features, renamed as in a LightGBM file: with `_` for each space."""
        names: dict[str, str] = {}
        for name in features.columns:
            written = name.replace(" ", "_")
            if other := names.get(written):
                problem = f"LightGBM writes both features {other!r} and {name!r} as {written!r}"
                raise ArtifactError(self.artifact, f"{problem}; give them distinct names (data.headers)")
            names[written] = name
        return features.rename(dict(zip(features.columns, names, strict=True)))

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        with installed("lightgbm"):
            import lightgbm
        with reading(self.artifact, "a LightGBM model"):
            _check_complete(self._bytes)
            booster = lightgbm.Booster(model_str=self._bytes.decode())
        if booster.pandas_categorical:
            problem = "was trained on categorical columns of a data frame; the records do not contain their codes"
            raise ArtifactError(self.artifact, f"{problem}; encode categories as numbers before training")
        return booster

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, "save_model as .txt")


def _check_complete(data: bytes) -> None:
    """Check that every tree is at the position given in the file header; otherwise LightGBM would abort the process.

    Raises:
        ValueError: if a part of the file is missing or misplaced.
    """
    sizes = re.search(rb"^tree_sizes=([\d ]*)$", data, re.MULTILINE)
    offset = data.find(b"Tree=0\n")
    for i, size in enumerate(sizes[1].split() if sizes else ()):
        if not data.startswith(b"Tree=%d\n" % i, offset):
            raise ValueError(f"tree {i} is not at the position given in the file header")
        offset += int(size)
    if not data.startswith(b"end of trees", offset) and (sizes or b"end of trees" not in data):
        raise ValueError("the trees are incomplete")
    if b"\nparameters:" in data and b"\nend of parameters" not in data:
        raise ValueError("the parameters are incomplete")
