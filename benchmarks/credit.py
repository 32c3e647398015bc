"""A synthetic credit portfolio: applications with customers and event times, and a model of the risk of default.

The model is a scorecard, whose points by feature are learnt by scikit-learn's gradient boosting without interactions.
It is additive in log-odds, so its Shapley values are exact and quick. Values beyond the training data get the points
of the nearest values, as in all models of trees.

Array letters: N records, D features, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Additive

PURPOSES = {"car": 0.3, "furniture": 0.22, "home": 0.22, "business": 0.12, "holiday": 0.08, "education": 0.06}
CHANNELS = {"web": 0.38, "branch": 0.31, "broker": 0.15, "phone": 0.08, "partner": 0.08}
CATEGORIES = {"purpose": PURPOSES, "channel": CHANNELS}
FEATURES = (
    *("income", "age", "employment_years", "balance", "loan_amount", "interest_rate", "bureau_score", "distance_km"),
    *("days_late", "education", "homeowner", "hour", "purpose", "channel"),
)
WEEKS = 3
"""Length of the period of the event times."""
BINS = 64
"""Maximum number of bins of a numeric feature in the scorecard."""
TRAINING_ROWS = 8_000


def sigmoid(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return probabilities from log-odds."""
    return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)


def applications(rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return applications of different customers: the features, and the columns `customer` and `time` (in hours)."""

    def normal() -> NDArray[np.float64]:
        return rng.normal(size=rows)

    ability = normal()
    age = (18 + 50 * rng.beta(2, 3, rows)).round()
    worked = ((age - 17) * rng.beta(2, 2.5, rows)).round(1)
    income = np.exp(7.8 + 0.28 * ability + 0.01 * (age - 38) + 0.32 * normal()).round(2)
    bureau = (650 + 40 * ability + 55 * normal()).round().clip(300, 850)
    rate = (0.09 - 0.0003 * (bureau - 650) + 0.008 * normal()).clip(0.01).round(4)
    late = np.where(rng.random(rows) < 0.2 + 0.2 * (bureau < 620), rng.geometric(0.12, rows), 0)
    hour = np.where(rng.random(rows) < 0.65, 11 + 2.5 * normal(), 19.5 + 1.8 * normal()).round() % 24
    columns = {
        "income": _sparse(income, 0.03, rng),
        "age": age.astype(int),
        "employment_years": _sparse(worked, 0.05, rng),
        "balance": (900 + 700 * ability + 1200 * normal()).round(2),
        "loan_amount": (np.exp(np.log(income) + 0.9 + 0.4 * normal()) / 100).round() * 100,
        "interest_rate": rate,
        "bureau_score": bureau.astype(int),
        "distance_km": rng.exponential(14, rows).round(1),
        "days_late": late,
        "education": (3 + ability + 0.7 * normal()).round().clip(1, 5).astype(int),
        "homeowner": rng.random(rows) < sigmoid(0.09 * (age - 40) + 0.4 * ability),
        "hour": hour.astype(int),
    }
    drawn = {name: rng.choice(list(shares), rows, p=list(shares.values())) for name, shares in CATEGORIES.items()}
    days = rng.integers(0, 7 * WEEKS, rows)
    events = {"customer": rng.permutation(rows), "time": 24 * days + hour.astype(int)}
    return pl.DataFrame({**columns, **drawn, **events})


def _sparse(values_N: NDArray[np.float64], share: float, rng: np.random.Generator) -> pl.Series:
    """Return values with a share of missing ones."""
    return pl.Series(np.where(rng.random(len(values_N)) < share, np.nan, values_N)).fill_nan(None)


def risk(table: pl.DataFrame) -> NDArray[np.float64]:
    """Return the true log-odds of default."""
    income, score, rate, worked, late = (
        table[name].fill_null(table[name].mean()).to_numpy()
        for name in ("income", "bureau_score", "interest_rate", "employment_years", "days_late")
    )
    others = -0.02 * (table["age"] - 38) - 0.5 * table["homeowner"] - 0.2 * (table["education"] - 3)
    others += 0.6 * (table["channel"] == "broker") + 0.8 * (table["purpose"] == "holiday")
    others += 0.9 * (table["purpose"] == "business") - 0.0002 * table["balance"] + 0.4 * (table["hour"] % 22 < 6)
    size = np.log(table["loan_amount"].to_numpy() / 6500)
    odds = -1.0 - 1.2 * np.log(income / 2700) + 0.8 * size - 0.008 * (score - 650) + 25 * (rate - 0.09)
    return np.asarray(odds - 0.05 * worked + 0.09 * late.clip(max=20) + others.to_numpy(), dtype=np.float64)


@dataclass(frozen=True)
class Points:
    """Points of one feature.

    Attributes:
        edges_B: upper ends of all bins but the last, of a number.
        codes: bin of each category; empty for a number.
        points_B: log-odds of each bin; the last value is for a missing, unknown or unreadable value.
    """

    edges_B: NDArray[np.float64]
    codes: Mapping[str, int]
    points_B: NDArray[np.float64]

    def of(self, values: pl.Series) -> NDArray[np.float64]:
        """Return the points of each value."""
        if self.codes:
            names = values.cast(pl.String).to_list()
            return self.points_B[[self.codes.get(name, -1) for name in names]]
        numbers_N = values.cast(pl.Float64, strict=False).fill_null(np.nan).fill_nan(np.nan).to_numpy()
        return self.points_B[np.where(np.isnan(numbers_N), -1, np.searchsorted(self.edges_B, numbers_N))]


@dataclass(frozen=True)
class Scorecard:
    """A model that is additive in log-odds.

    Attributes:
        intercept: log-odds of a record without points.
        points: points by feature.
        identity: name of the version.
    """

    intercept: float
    points: Mapping[str, Points]
    identity: str = "first"
    label_headers: None = None
    is_additive: bool = True

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the points of each record."""
        terms_ND = np.column_stack([self.points[name].of(features[name]) for name in features.columns])
        return Additive("logistic", np.array([self.intercept]), terms_ND[:, :, None])

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return the probability of default of each record."""
        return sigmoid(self.additive_terms(features).sums_NL)

    def with_points(self, feature: str, category: str, more: float) -> Scorecard:
        """Return the model with more points for one category."""
        old = self.points[feature]
        points_B = old.points_B.copy()
        points_B[old.codes[category]] += more
        return replace(self, points={**self.points, feature: replace(old, points_B=points_B)}, identity="changed")

    def without(self, feature: str) -> Scorecard:
        """Return the model that ignores a feature."""
        old = self.points[feature]
        constant_B = np.full_like(old.points_B, old.points_B.mean())
        return replace(self, points={**self.points, feature: replace(old, points_B=constant_B)}, identity="changed")


def scorecard(
    table: pl.DataFrame,
    defaults_N: NDArray[np.bool_],
    *,
    iterations: int = 100,
    leaf: int = 40,
    identity: str = "first",
) -> Scorecard:
    """Return the scorecard of a training table.

    Args:
        table: records with the features only.
        defaults_N: whether each record defaulted.
        iterations: number of trees.
        leaf: minimum number of records of a leaf.
        identity: name of the version.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    ensemble = HistGradientBoostingClassifier(
        max_iter=iterations,
        learning_rate=0.2,
        max_leaf_nodes=8,
        min_samples_leaf=leaf,
        interaction_cst="no_interactions",
        early_stopping=False,
        random_state=0,
    )
    codes = {
        name: {value: i for i, value in enumerate(CATEGORIES[name])} for name in table.columns if name in CATEGORIES
    }
    x_ND = np.column_stack([_numbers(table[name], codes.get(name, {})) for name in table.columns])
    ensemble.fit(x_ND, defaults_N)
    middle_D = np.nanmedian(x_ND, axis=0)
    intercept = float(ensemble.decision_function(middle_D[None])[0])
    points = {}
    for d, name in enumerate(table.columns):
        values_N = x_ND[~np.isnan(x_ND[:, d]), d]
        grid_B = np.unique(np.quantile(values_N, np.linspace(0, 1, BINS), method="nearest"))
        asked_BD = np.tile(middle_D, (len(grid_B) + 1, 1))
        asked_BD[:, d] = [*grid_B, np.nan]
        points_B = ensemble.decision_function(asked_BD) - intercept
        points[name] = Points((grid_B[1:] + grid_B[:-1]) / 2, codes.get(name, {}), points_B)
    return Scorecard(intercept, points, identity)


def _numbers(values: pl.Series, codes: Mapping[str, int]) -> NDArray[np.float64]:
    if codes:
        return np.array([codes[value] for value in values.to_list()], dtype=np.float64)
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


@lru_cache
def trained(seed: int, identity: str = "first") -> Scorecard:
    """Return a scorecard trained on new applications."""
    rng = np.random.default_rng([seed, 77])
    table = applications(TRAINING_ROWS, rng)
    return scorecard(table.select(FEATURES), rng.random(TRAINING_ROWS) < sigmoid(risk(table)), identity=identity)
