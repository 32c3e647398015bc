"""A stand-in for a model behind a wire, for a run that sends nothing.

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
    """A model that answers nothing and counts what the real one would be sent."""

    model: Model
    outputs: int
    calls: Calls = field(default_factory=Calls)
    identity: None = None
    calls_made: None = None

    @property
    def label_headers(self) -> tuple[str, ...] | None:
        """The real model's."""
        return self.model.label_headers

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return a half for every score."""
        self.calls += self.model.planned_calls(features) or Calls()
        return np.full((features.height, self.outputs), 0.5)

    def planned_calls(self, features: pl.DataFrame) -> Calls | None:
        """Return what the real model would be sent."""
        return self.model.planned_calls(features)

    @property
    def is_additive(self) -> bool:
        """As the real one."""
        return self.model.is_additive

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the real model's terms: that sends nothing."""
        return self.model.additive_terms(features)

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return the real model's: that sends nothing."""
        return self.model.tree_shap(features)

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Refuse: a rehearsal has no endpoint."""
        raise NotImplementedError
