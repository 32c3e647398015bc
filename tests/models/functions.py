"""Functions for `model.kind=python`."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

NO_FUNCTION = 3


def chance(features: pl.DataFrame) -> pl.Series:
    """Return N probabilities, with 0 for nulls; changes the data frame in place."""
    features.drop_in_place("plan")
    return 1 / (1 + (-features["use"].fill_null(0) + 0.01 * features["age"]).exp())


def half(features: pl.DataFrame) -> pl.Series:
    """Return half of the probabilities."""
    return chance(features) / 2


def shares(features: pl.DataFrame) -> NDArray[np.float32]:
    """Return N x 2 scores in single precision."""
    chance_N = chance(features).to_numpy()
    return np.stack([chance_N, 2 * chance_N], axis=1).astype(np.float32)


def failing(features: pl.DataFrame) -> list[float]:
    """Raise a KeyError."""
    raise KeyError("tenure")


def exiting(features: pl.DataFrame) -> list[float]:
    """End the process as if nothing was wrong."""
    raise SystemExit(0)


def panicking(features: pl.DataFrame) -> list[float]:
    """Raise an error that is no `Exception`, as extensions in Rust do when they panic."""
    raise type("PanicException", (BaseException,), {})("index out of bounds")


def interrupted(features: pl.DataFrame) -> list[float]:
    """Be interrupted."""
    raise KeyboardInterrupt


def short(features: pl.DataFrame) -> list[float]:
    """Return one score too few."""
    return [0.5] * (features.height - 1)


def strings(features: pl.DataFrame) -> list[str]:
    """Return strings."""
    return ["high"] * features.height


def ragged(features: pl.DataFrame) -> list[list[float]]:
    """Return rows of different lengths."""
    return [[0.5] * n for n in range(features.height)]
