"""Explanation of records: a model, an estimator and the background of masked features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from runner.domain.attributions import Attributions
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.protocols import Model, Track


@dataclass(frozen=True)
class Explaining:
    """A model with an estimator of its attributions.

    Attributes:
        background_rows: function that returns the rows of `shap.baseline`; None for its value `mean`.
        summary: function that returns the background of a dataset.
        track: progress display.
    """

    model: Model
    estimator: Estimator
    background_rows: Callable[[], Sequence[Sequence[Any]] | None]
    summary: Callable[[pl.DataFrame], pl.DataFrame]
    track: Track

    def background(self, features: pl.DataFrame, reference: Callable[[], pl.DataFrame] | None = None) -> pl.DataFrame:
        """Return the background rows.

        Args:
            features: records to explain.
            reference: function that returns the background of the reference; None computes a summary of the records.
        """
        given = self.background_rows()
        if given is not None:
            return backgrounds.given(given, features.columns)
        return self.summary(features) if reference is None else reference()

    def explain(self, features: pl.DataFrame, background: pl.DataFrame) -> Attributions:
        """Return the attributions of records."""
        return self.estimator.explain(self.model, features, background, self.track)
