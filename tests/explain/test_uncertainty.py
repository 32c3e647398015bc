"""The standard errors of global attributions."""

from __future__ import annotations

from math import sqrt

import numpy as np
import polars as pl
import pytest

from runner.domain.attributions import Errors
from runner.explain.aggregate import Aggregation, standard_errors
from runner.explain.blocks import GameExplainer
from runner.explain.estimator import Estimator
from runner.explain.explainers.clarify import Clarify
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from tests.conftest import HERE, untracked
from tests.explain.games import Table, smooth, stepped
from tests.formula_models import Formula, interacting

PLAYERS, SEEDS = 9, 25


def measured(explainer: GameExplainer, game: Table, method: Aggregation) -> Errors:
    """Return the errors of an estimate."""
    estimate = explainer.estimate(game)
    assert estimate.variance_NPL is not None
    return standard_errors(estimate.phi_NPL, np.sqrt(estimate.variance_NPL), np.ones(len(estimate.phi_NPL)), method)


@pytest.mark.parametrize("method", [Aggregation.MEAN_ABS, Aggregation.MEAN_SQ])
@pytest.mark.parametrize("kind", [Kernel, Clarify])
def test_the_truth_lies_within_the_global_errors(method: Aggregation, kind: type[Kernel | Clarify]) -> None:
    """In 95 % of the cases or more, also for weak features, whose values noise lifts."""
    game = (stepped if kind is Kernel else smooth)(300, PLAYERS, np.random.default_rng(11))
    size = {Aggregation.MEAN_ABS: np.abs, Aggregation.MEAN_SQ: np.square}[method]
    truth_P = size(Exact().estimate(game).phi_NPL[:, :, 0]).mean(axis=0)
    hits_P = np.zeros(PLAYERS)
    for seed in range(SEEDS):
        explainer = kind(60, seed)
        found_P = size(explainer.estimate(game).phi_NPL[:, :, 0]).mean(axis=0)
        hits_P += abs(found_P - truth_P) <= 1.96 * measured(explainer, game, method).global_DL[:, 0]
    assert hits_P.mean() / SEEDS > 0.95 - 2 * sqrt(0.95 * 0.05 / SEEDS)


def test_the_error_of_a_single_record_is_its_own() -> None:
    """The mean over one record is as uncertain as that record, but for the share that is counted as common."""
    phi_NDL, error_NDL = np.full((1, 3, 1), 100.0), np.array([1.0, 2.0, 0.0]).reshape(1, 3, 1)
    found = standard_errors(phi_NDL, error_NDL, np.ones(1), Aggregation.MEAN_ABS)
    np.testing.assert_allclose(found.global_DL, error_NDL[0] * sqrt(1 + 0.15**2))
    assert found.local_L[0] == pytest.approx(sqrt(5 / 3))


def test_the_error_of_a_median_is_not_known() -> None:
    """That of the local attributions is."""
    found = measured(Kernel(60, 0), stepped(3, PLAYERS, np.random.default_rng(0)), Aggregation.MEDIAN)
    assert np.isnan(found.global_DL).all()
    assert found.local_L[0] > 0


def test_batches_and_copies_change_nothing_but_rounding() -> None:
    """However many rows go to the model at a time, and whether a record comes twice or counts double."""
    features = pl.DataFrame(np.random.default_rng(0).normal(size=(30, 7)), schema=[f"f{d}" for d in range(7)])
    background, model = features[:1], Formula(interacting)

    def told(batch: int, rows: pl.DataFrame) -> Errors:
        estimator = Estimator(
            explainer=Kernel(40, 0),
            agg_method=Aggregation.MEAN_ABS,
            use_logit=False,
            max_batch_rows=batch,
            groups={},
            engine=HERE,
        )
        found = estimator.explain(model, rows, background, untracked).errors
        assert found
        return found

    whole = told(10_000, features)
    for other in (told(40, features), told(100, pl.concat([features, features[::-1]]))):
        np.testing.assert_allclose(other.local_L, whole.local_L)
        np.testing.assert_allclose(other.global_DL, whole.global_DL)
