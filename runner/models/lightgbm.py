"""LightGBM models, loaded from their text files.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Link
from runner.errors import ArtifactError
from runner.models.base import CATEGORICAL, BoostedTrees, installed, reading
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    import lightgbm


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Lightgbm(BoostedTrees):
    """A LightGBM booster.

    Attributes:
        kind: `lightgbm`.
        artifact: path of the .txt file written by `save_model`.
    """

    library: ClassVar[str] = "LightGBM"
    links: ClassVar[Mapping[str, Link]] = {"binary sigmoid:1": "logistic", "regression": "identity"}
    save_with: ClassVar[str] = "save_model as .txt"

    kind: Literal["lightgbm"]

    @property
    def _width(self) -> int:
        return self._booster.num_feature()

    @property
    def _names(self) -> Sequence[str]:
        return self._booster.feature_name()

    @property
    def _objective(self) -> str:
        found = re.search(rb"^objective=(.*)$", self._bytes, re.MULTILINE)
        return found[1].decode() if found else "none"

    def _output(self, x_ND: NDArray[np.float64], contributions: bool) -> Any:
        return self._booster.predict(x_ND, pred_contrib=contributions, validate_features=False)

    def _renamed(self, features: pl.DataFrame) -> pl.DataFrame:
        """Return the features, renamed as in a LightGBM file: with `_` for each space.

        Raises:
            ArtifactError: if two features have the same name in the file.
        """
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
            raise ArtifactError(self.artifact, CATEGORICAL)
        return booster


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
