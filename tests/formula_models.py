"""Models that are formulas: what explainers are tested on, since their Shapley values can be worked out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Additive
from runner.errors import NO_TREES, ExplainerError


@dataclass
class Formula:
    """A model whose outputs are a function of the table; it counts the rows it was asked for and their batches."""

    function: Callable[[pl.DataFrame], NDArray[np.float64]]
    label_headers: tuple[str, ...] = ("label0",)
    calls_made: None = None
    identity: str = "formula"
    batches: list[int] = field(default_factory=list)

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL."""
        self.batches.append(features.height)
        return self.function(features).reshape(features.height, len(self.label_headers))

    def planned_calls(self, features: pl.DataFrame) -> None:
        """Return None: it is in this process."""

    is_additive: bool = False

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Refuse: a formula is not known to add up."""
        raise NotImplementedError

    def tree_shap(self, features: pl.DataFrame) -> Additive:  # noqa: ARG002
        """Refuse: a formula is no tree."""
        raise ExplainerError(NO_TREES)

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return a JSON line per row; there is no other form."""
        if accept != "application/jsonlines":
            raise ValueError(f"a formula answers in application/jsonlines, not {accept!r}")
        return "".join(f'{{"score":{score}}}\n' for score in self.predict(features)[:, 0])


def additive(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return Σ (d + 1) x_d, added feature by feature."""
    return sum(((d + 1) * column.to_numpy() for d, column in enumerate(features)), np.zeros(features.height))


def interacting(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return a sum with products and a threshold in it."""
    x_ND: NDArray[np.float64] = features.to_numpy()
    mixed_N = 3 * x_ND[:, 0] * x_ND[:, 1] - x_ND[:, -1] * (x_ND[:, 0] > 0.5) + np.cos(x_ND.sum(axis=1))
    return np.asarray(additive(features) + mixed_N)
