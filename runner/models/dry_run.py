"""A model for dry runs, which count calls to a remote model without making them.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Additive, Calls
from runner.protocols import Model


@dataclass
class DryRunModel:
    """A stand-in that counts the calls that the real model would receive."""

    model: Model
    outputs: int
    calls: Calls = field(default_factory=Calls)
    identity: None = None
    calls_made: None = None

    @property
    def label_headers(self) -> tuple[str, ...] | None:
        """The label headers of the real model."""
        return self.model.label_headers

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return 0.5 for every score and count the calls."""
        self.calls += self.model.planned_calls(features) or Calls()
        return np.full((features.height, self.outputs), 0.5)

    def planned_calls(self, features: pl.DataFrame) -> Calls | None:
        """Return the calls that `predict` of the real model would make."""
        return self.model.planned_calls(features)

    @property
    def is_additive(self) -> bool:
        """Whether the real model is additive."""
        return self.model.is_additive

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the terms of the real model; makes no calls."""
        return self.model.additive_terms(features)

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return the TreeSHAP values of the real model; makes no calls."""
        return self.model.tree_shap(features)

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Refuse: a dry run has no responses."""
        raise NotImplementedError
