"""A small scikit-learn pipeline of people: numbers, texts and booleans in, the probability to leave out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

rng = np.random.default_rng(5)
PEOPLE = pl.DataFrame(
    {
        "age": rng.integers(18, 70, 160),
        "plan": rng.choice(["basic", "plus", "pro"], 160),
        "use": rng.normal(size=160).round(3),
        "member": rng.random(160) < 0.4,
    }
)
"""The records the pipelines are trained on."""

LEAVES_N = (PEOPLE["use"] + (PEOPLE["plan"] == "plus") - 0.02 * PEOPLE["age"] + 0.5 > 0).to_numpy()


@cache
def pipeline(strength: float = 1.0) -> Any:
    """Return a logistic regression behind one-hot encoded texts and scaled numbers."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts, numbers = OneHotEncoder(handle_unknown="ignore"), StandardScaler()
    columns = make_column_transformer((texts, ["plan", "member"]), (numbers, ["age", "use"]))
    return make_pipeline(columns, LogisticRegression(C=strength)).fit(PEOPLE, LEAVES_N)


def skops_file(folder: Path, estimator: Any) -> Path:
    """Return the path of an estimator as skops writes it."""
    from skops import io

    path = folder / "model.skops"
    io.dump(estimator, path)
    return path
