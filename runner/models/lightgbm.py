"""LightGBM models, from their text files.

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
    import lightgbm


LINKS: dict[str, Literal["identity", "logistic"]] = {"binary sigmoid:1": "logistic", "regression": "identity"}
"""The objectives whose contributions can be explained, and the links of their outputs."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Lightgbm(Local):
    """A LightGBM booster.

    Features are found by the names that the file holds, where the records have the same, else by their order. Nulls
    are missing values.

    Attributes:
        kind: `lightgbm`.
        artifact: what `save_model` wrote, .txt.
        columns: which columns of the scores to explain, from 0; None for all.
        label_headers: the names of the outputs, or None for `label0`, `label1`, …
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    kind: Literal["lightgbm"]
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
            ArtifactError: when the artefact cannot be read, has other features, or cannot tell two of them apart.
            MissingInput: when it is not there.
            ModelInputError: when a feature is a text.
            ModelAnswerError: when LightGBM fails, or `columns` asks for more than there is.
        """
        booster = self._booster
        check_width(self.artifact, booster.num_feature(), features)
        written = at_least_one(self._as_written(features))
        x_ND = matrix(self.kind, by_known_name(self.artifact, booster.feature_name(), written))
        with computing("LightGBM"):
            answer = booster.predict(x_ND, validate_features=False)
        return scores("LightGBM", answer, features.height, self.columns)

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return what each feature adds to the margin, by LightGBM's own path-dependent TreeSHAP.

        Raises:
            ExplainerError: when there are several outputs, or the objective has another link.
        """
        booster = self._booster
        objective = (re.search(rb"^objective=(.*)$", self._bytes, re.MULTILINE) or [b"", b"none"])[1].decode()
        if objective not in LINKS or self.columns is not None:
            raise ExplainerError(f"shap.explainer=tree explains one output of {', '.join(LINKS)}, not {objective}")
        check_width(self.artifact, booster.num_feature(), features)
        written = self._as_written(features)
        known = by_known_name(self.artifact, booster.feature_name(), written)
        with computing("LightGBM"):
            answer = booster.predict(matrix(self.kind, known), pred_contrib=True, validate_features=False)
        return contributed(answer, LINKS[objective], known, written)

    def _as_written(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return features under the names that LightGBM writes into its files, without blanks."""
        names: dict[str, str] = {}
        for name in features.columns:
            written = name.replace(" ", "_")
            if other := names.get(written):
                problem = f"LightGBM writes the features {other!r} and {name!r} both as {written!r}"
                raise ArtifactError(self.artifact, f"{problem}: name them so that they differ (data.headers)")
            names[written] = name
        return features.rename(dict(zip(features.columns, names, strict=True)))

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        with installed("lightgbm"):
            import lightgbm
        with reading(self.artifact, "LightGBM model"):
            _check_whole(self._bytes)
            booster = lightgbm.Booster(model_str=self._bytes.decode())
        if booster.pandas_categorical:
            problem = "was trained on the categories of a data frame, whose codes the records do not hold"
            raise ArtifactError(self.artifact, f"{problem}; encode them as numbers before training")
        return booster

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, "save_model as .txt")


def _check_whole(data: bytes) -> None:
    """Make sure that every tree stands where the file's head says: LightGBM would end the process.

    Raises:
        ValueError: when something is missing.
    """
    sizes = re.search(rb"^tree_sizes=([\d ]*)$", data, re.MULTILINE)
    at = data.find(b"Tree=0\n")
    for i, size in enumerate(sizes[1].split() if sizes else ()):
        if not data.startswith(b"Tree=%d\n" % i, at):
            raise ValueError(f"tree {i} is not where it should be")
        at += int(size)
    if not data.startswith(b"end of trees", at) and (sizes or b"end of trees" not in data):
        raise ValueError("it does not end where it should")
    if b"\nparameters:" in data and b"\nend of parameters" not in data:
        raise ValueError("it ends in the middle of its parameters")
