"""Applications that are quick to draw, with the Shapley values of an additive model in closed form.

In log-odds, the model is a sum of one term per feature. The Shapley value of a feature is its term less the mean term.

Array letters: N records, D features.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    logs = features["income"].clip(1e-9).log() - 7.8
    points = features["channel"].replace_strict(CHANNELS, pl.Series(POINTS), default=float(POINTS @ SHARES))
    columns = [
        -1.2 * logs.fill_null(0.0),
        -0.0003 * (features["balance"] - 900),
        0.09 * (features["days_late"].clip(0, 20) - 2),
        -0.02 * (features["age"] - 38),
        points - float(POINTS @ SHARES),
    ]
    return np.column_stack([column.to_numpy() for column in columns]).astype(np.float64)


def explained(features: pl.DataFrame, phi_ND: Vector | None = None) -> Explained:
    """Return records with their attributions, those of the portfolio's model by default."""
    phi_ND = terms(features) if phi_ND is None else phi_ND
    return Explained(features, _attributions(features.columns, phi_ND))


def _attributions(names: Sequence[str], phi_ND: Vector) -> Attributions:
    scores_N1 = phi_ND.sum(axis=1, keepdims=True) + BASE
    return Attributions(tuple(names), ("label0",), phi_ND[:, :, None], np.array([BASE]), scores_N1, 0)
