"""Records of people with numbers, strings and booleans, and models of the probability that they leave."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from runner.models.linear import LinearModel

rng = np.random.default_rng(5)
PEOPLE = pl.DataFrame(
    {
        "age": rng.integers(18, 70, 160),
        "plan": rng.choice(["basic", "plus", "pro"], 160),
        "use": rng.normal(size=160).round(3),
        "member": rng.random(160) < 0.4,
    }
)
"""Features of 160 people."""

LEAVES_N = (PEOPLE["use"] + (PEOPLE["plan"] == "plus") - 0.02 * PEOPLE["age"] + 0.5 > 0).to_numpy()
"""Whether each person leaves."""


def linear_model(number: int = 1) -> LinearModel:
    """Return a logistic regression; another number makes another model."""
    coefficients: Any = {"plan": {"basic": -1, "plus": number}, "age": 0.02, "use": -0.5, "member": 1}
    return LinearModel(
        kind="linear", link="logistic", intercept=(0,), coefficients=coefficients, label_headers=None, deploy=None
    )


@cache
def pipeline(strength: float = 1.0) -> Any:
    """Return a logistic regression of one-hot encoded strings and scaled numbers."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    categories, numbers = OneHotEncoder(handle_unknown="ignore"), StandardScaler()
    columns = make_column_transformer((categories, ["plan", "member"]), (numbers, ["age", "use"]))
    return make_pipeline(columns, LogisticRegression(C=strength)).fit(PEOPLE, LEAVES_N)


def skops_file(folder: Path, estimator: Any) -> Path:
    """Write an estimator with skops, and return the path of the file."""
    from skops import io

    path = folder / "model.skops"
    io.dump(estimator, path)
    return path
