"""An incident to rehearse: a feature whose values arrive multiplied by a factor, as after a change of unit."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from runner.errors import SettingsError


def rescale(features: pl.DataFrame, factors: Mapping[str, float]) -> pl.DataFrame:
    """Return features with the numbers of some of them multiplied.

    Raises:
        SettingsError: when a feature is unknown or holds no numbers.
    """
    for name in factors:
        if name not in features.columns:
            problem = f"no feature {name!r}; the features are {', '.join(features.columns)}"
            raise SettingsError([f"stage.rescale: {problem}"])
        if not features.schema[name].is_numeric():
            raise SettingsError([f"stage.rescale: feature {name!r} holds no numbers"])
    return features.with_columns(features[name] * factor for name, factor in factors.items())
