"""A model that talks while it works, as models do."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

print("I am being imported")  # noqa: T201


def predict(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return the first feature, after a lot of talk."""
    print("thinking " * 2_000)  # noqa: T201
    return features.to_numpy()[:, 0]
