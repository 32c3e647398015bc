"""The origin of attributions in the manifest."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.explain.aggregate import Aggregation
from runner.explain.estimator import Estimator
from runner.explain.explainers.clarify import Clarify
from runner.results import manifest
from runner.results.documents import dump
from tests.conftest import HERE, untracked
from tests.formula_models import Formula, interacting


@pytest.mark.parametrize(
    ("num_samples", "method", "local", "each"),
    [
        (10, Aggregation.MEAN_ABS, None, None),
        (14, Aggregation.MEAN_ABS, 1, 1),
        (14, Aggregation.MEDIAN, 1, None),
        (30, Aggregation.MEDIAN, 0, 0),
    ],
)
def test_standard_errors_are_listed_by_label(
    num_samples: int, method: Aggregation, local: int | None, each: int | None
) -> None:
    """Local and global errors: null if unknown, 0 if all coalitions were evaluated."""
    features = pl.DataFrame(np.random.default_rng(0).normal(size=(5, 5)), schema=list("abcde"))
    estimator = Estimator(Clarify(num_samples, 0), method, use_logit=False, max_batch_rows=100, engine=HERE)
    attributions = estimator.explain(Formula(interacting), features, features[:1], untracked)
    errors = manifest.explanation(estimator, attributions, features[:1], b"")["standard_errors"]

    def sign(error: float | None) -> int | None:
        return None if error is None else int(np.sign(error))

    assert list(errors) == ["label0"]
    assert sign(errors["label0"]["local"]) == local
    assert {name: sign(error) for name, error in errors["label0"]["global"].items()} == dict.fromkeys("abcde", each)
    assert all(error is None or error == float(f"{error:.3g}") for error in errors["label0"]["global"].values())
    assert b"NaN" not in dump(errors)
