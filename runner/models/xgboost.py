"""XGBoost models, loaded from their native files.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Link
from runner.errors import ArtifactError
from runner.models.base import CATEGORICAL, BoostedTrees, installed, reading
from runner.types import NO_OTHER_KEYS

if TYPE_CHECKING:
    import xgboost


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class Xgboost(BoostedTrees):
    """An XGBoost booster; after early stopping, its trees up to the best iteration.

    Attributes:
        kind: `xgboost`.
        artifact: path of the .ubj or .json file written by `save_model`.
    """

    library: ClassVar[str] = "XGBoost"
    links: ClassVar[Mapping[str, Link]] = {
        "binary:logistic": "logistic",
        "reg:logistic": "logistic",
        "reg:squarederror": "identity",
    }
    save_with: ClassVar[str] = "save_model as .ubj or .json"

    kind: Literal["xgboost"]

    @property
    def _width(self) -> int:
        return int(self._booster.num_features())

    @property
    def _names(self) -> Sequence[str]:
        return self._booster.feature_names or ()

    @property
    def _objective(self) -> str:
        return str(json.loads(self._booster.save_config())["learner"]["objective"]["name"])

    def _output(self, x_ND: NDArray[np.float64], contributions: bool) -> NDArray[np.float32]:
        import xgboost

        booster, iterations = self._booster, self._iterations
        rows = xgboost.DMatrix(x_ND, feature_types=booster.feature_types, enable_categorical=True)
        return booster.predict(rows, pred_contribs=contributions, iteration_range=iterations, validate_features=False)

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
            raise ArtifactError(self.artifact, CATEGORICAL)
        return booster
