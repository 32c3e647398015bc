"""Models with formulas, whose Shapley values can be computed exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Additive


@dataclass
class Formula:
    """A model whose outputs are a function of the features; it records the number of rows of each call."""

    function: Callable[[pl.DataFrame], NDArray[np.float64]]
    label_headers: tuple[str, ...] = ("label0",)
    identity: str = "formula"
    batches: list[int] = field(default_factory=list)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL."""
        self.batches.append(features.height)
        return self.function(features).reshape(features.height, len(self.label_headers))


@dataclass
class AdditiveFormula(Formula):
    """A formula that reports its feature values as additive terms, also if its outputs are not their sums."""

    is_additive: bool = True

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the feature values."""
        return Additive("identity", np.zeros(1), features.to_numpy()[:, :, None])


def additive(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return Σ (d + 1) x_d, added feature by feature."""
    return sum(((d + 1) * column.to_numpy() for d, column in enumerate(features)), np.zeros(features.height))


def interacting(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return a sum with products, a threshold and a cosine."""
    x_ND: NDArray[np.float64] = features.to_numpy()
    mixed_N = 3 * x_ND[:, 0] * x_ND[:, 1] - x_ND[:, -1] * (x_ND[:, 0] > 0.5) + np.cos(x_ND.sum(axis=1))
    return np.asarray(additive(features) + mixed_N)
