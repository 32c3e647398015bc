"""A model that writes to standard output while it is imported and while it predicts."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

print("importing the model")  # noqa: T201


def predict(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return the first feature, and print a long line."""
    print("thinking " * 2_000)  # noqa: T201
    return features.to_numpy()[:, 0]
