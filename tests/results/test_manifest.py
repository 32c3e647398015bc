"""The manifest: what it says about the attributions."""

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
def test_standard_errors_are_told_by_label(
    num_samples: int, method: Aggregation, local: int | None, each: int | None
) -> None:
    """One for the local attributions, one for each global one: null where unknown, 0 where all coalitions are there."""
    features = pl.DataFrame(np.random.default_rng(0).normal(size=(5, 5)), schema=list("abcde"))
    estimator = Estimator(Clarify(num_samples, 0), method, use_logit=False, max_batch_rows=100, engine=HERE)
    attributions = estimator.explain(Formula(interacting), features, features[:1], untracked)
    told = manifest.explanation(estimator, attributions, features[:1], b"")["standard_errors"]

    def sign(error: float | None) -> int | None:
        return None if error is None else int(np.sign(error))

    assert list(told) == ["label0"]
    assert sign(told["label0"]["local"]) == local
    assert {name: sign(error) for name, error in told["label0"]["global"].items()} == dict.fromkeys("abcde", each)
    assert all(error is None or error == float(f"{error:.3g}") for error in told["label0"]["global"].values())
    assert b"NaN" not in dump(told)
