"""Applications that are quick to draw, with the Shapley values of an additive model in closed form.

In log-odds, the model is a sum of one term per feature. The Shapley value of a feature is its term less the mean term.

Array letters: N records, D features.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Explained

Rng = np.random.Generator
Vector = NDArray[np.float64]
CHANNELS = pl.Series(["web", "branch", "broker", "phone", "partner"])
SHARES = np.array([0.38, 0.31, 0.15, 0.08, 0.08])
POINTS = np.array([-0.2, 0.0, 0.6, 0.2, -0.4])
NAMES = ("income", "balance", "days_late", "age", "channel")
START = datetime(2026, 1, 5, tzinfo=UTC)
"""A Monday: the end of the reference, and the start of the first window."""
BASE = -1.0
"""Mean log-odds."""
BALANCE_SPREAD = 1390.0
"""Standard deviation of the balance."""


def applications(rng: Rng, rows: int, higher_N: Vector | float = 0.0, weekend_N: Vector | float = 0.0) -> pl.DataFrame:
    """Return applications.

    Args:
        rng: random generator.
        rows: number of applications.
        higher_N: increase of the mean balance and of the mean logarithm of the income, in standard deviations.
        weekend_N: increase of the share of the channel `web`, as a share of the other channels.
    """
    ability = rng.normal(size=rows)
    income = np.exp(7.8 + 0.28 * ability + 0.32 * rng.normal(size=rows) + 0.43 * higher_N).round(2)
    balance = (900 + 700 * ability + 1200 * rng.normal(size=rows) + BALANCE_SPREAD * higher_N).round(2)
    late = np.where(rng.random(rows) < 0.25, rng.geometric(0.12, rows), 0)
    channel = np.searchsorted(SHARES.cumsum()[:-1], rng.random(rows))
    channel[rng.random(rows) < weekend_N] = 0
    columns = {
        "income": pl.Series(np.where(rng.random(rows) < 0.03, np.nan, income)).fill_nan(None),
        "balance": balance,
        "days_late": late,
        "age": (18 + 50 * rng.beta(2, 3, rows)).round().astype(int),
        "channel": CHANNELS[channel],
    }
    return pl.DataFrame(columns)


def terms(features: pl.DataFrame) -> Vector:
    """Return the terms_ND of the model; unknown and missing values have the mean term."""
    middle = float(POINTS @ SHARES)
    of = {
        "income": -1.2 * (pl.col("income").clip(1e-9).log() - 7.8).fill_null(0.0),
        "balance": -0.0003 * (pl.col("balance") - 900),
        "days_late": 0.09 * (pl.col("days_late").clip(0, 20) - 2),
        "age": -0.02 * (pl.col("age") - 38),
        "channel": pl.col("channel").replace_strict(CHANNELS, pl.Series(POINTS - middle), default=0.0),
    }
    return features.select(of[name].alias(name) for name in features.columns).to_numpy().astype(np.float64)


def times(second_N: Vector) -> pl.DataFrame:
    """Return event times in whole seconds, as captures have them, given the time since START."""
    seconds = pl.Series("at", np.floor(second_N).astype(np.int64) + int(START.timestamp()))
    return pl.DataFrame(pl.from_epoch(seconds, time_unit="s").dt.replace_time_zone("UTC").dt.cast_time_unit("us"))


def explained(features: pl.DataFrame, phi_ND: Vector | None = None, events: pl.DataFrame | None = None) -> Explained:
    """Return records with their attributions, those of the portfolio's model by default."""
    phi_ND = terms(features) if phi_ND is None else phi_ND
    scores_N1 = phi_ND.sum(axis=1, keepdims=True) + BASE
    names = tuple(features.columns)
    attributions = Attributions(names, ("label0",), phi_ND[:, :, None], np.array([BASE]), scores_N1, 0)
    return Explained(features, attributions, events)
