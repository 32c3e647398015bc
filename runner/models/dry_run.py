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
    sent: None = None

    @property
    def label_headers(self) -> tuple[str, ...] | None:
        """The real model's."""
        return self.model.label_headers

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return a half for every score."""
        self.calls += self.model.planned(features) or Calls()
        return np.full((features.height, self.outputs), 0.5)

    def planned(self, features: pl.DataFrame) -> Calls | None:
        """Return what the real model would be sent."""
        return self.model.planned(features)

    @property
    def adds_up(self) -> bool:
        """As the real one."""
        return self.model.adds_up

    def additive(self, features: pl.DataFrame) -> Additive:
        """Return the real model's terms: that sends nothing."""
        return self.model.additive(features)

    def contributions(self, features: pl.DataFrame) -> Additive:
        """Return the real model's: that sends nothing."""
        return self.model.contributions(features)

    def reply(self, features: pl.DataFrame, accept: str) -> str:
        """Refuse: a rehearsal has no endpoint."""
        raise NotImplementedError
