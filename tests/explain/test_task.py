"""Aggregation methods, and the standard errors of local and global attributions."""

from __future__ import annotations

from math import sqrt

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.attributions import Attributions, Errors
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, Kernel
from runner.explain.game_explainer import GameExplainer
from runner.explain.task import Aggregation, aggregate, standard_errors
from tests.builders import explain
from tests.explain.games import TableGame, logistic_games, tree_games
from tests.formula_models import Formula, interacting

PHI_ND = np.array([[0.5, -3.0], [-0.1, 1.0], [0.3, -1.0]])
PLAYERS, SEEDS = 9, 25


def one_label_attributions(phi_ND: NDArray[np.float64]) -> Attributions:
    """Return attributions with one label."""
    N, D = phi_ND.shape
    return Attributions(tuple("xyz"[:D]), ("label0",), phi_ND[:, :, None], np.zeros(1), np.zeros((N, 1)), 0)


def estimated_errors(explainer: GameExplainer, game: TableGame, method: Aggregation) -> Errors:
    """Return the standard errors that an explainer reports for games."""
    estimate = explainer.estimate(game)
    assert estimate.variance_NPL is not None
    counts_N = np.ones(len(estimate.phi_NPL))
    return standard_errors(estimate.phi_NPL, np.sqrt(estimate.variance_NPL), counts_N, method)


@pytest.mark.parametrize(
    ("method", "expected"), [("mean_abs", [0.3, 5 / 3]), ("median", [0.3, -1.0]), ("mean_sq", [0.35 / 3, 11 / 3])]
)
def test_methods_match_their_definitions(method: str, expected: list[float]) -> None:
    """Mean of absolute values, median of signed values, mean of squares."""
    values_DL = aggregate(one_label_attributions(PHI_ND), Aggregation(method)).values_DL
    np.testing.assert_allclose(values_DL[:, 0], expected)


def test_the_order_of_records_does_not_change_a_bit() -> None:
    """Sums are exact before they are rounded."""
    phi_ND = np.random.default_rng(0).normal(size=(1000, 3)) * 10.0 ** np.arange(-8, 1, 4)
    shuffled_ND = np.random.default_rng(1).permutation(phi_ND)
    values_DL, shuffled_DL = (
        aggregate(one_label_attributions(phi), Aggregation.MEAN_ABS).values_DL for phi in (phi_ND, shuffled_ND)
    )
    assert values_DL.tobytes() == shuffled_DL.tobytes()


@pytest.mark.parametrize("method", [Aggregation.MEAN_ABS, Aggregation.MEAN_SQ])
@pytest.mark.parametrize("kind", [Kernel, Clarify])
def test_exact_global_values_are_within_the_errors(method: Aggregation, kind: type[Kernel | Clarify]) -> None:
    """In at least 95 % of the cases, also for weak features, whose values are biased by noise."""
    game = (tree_games if kind is Kernel else logistic_games)(300, PLAYERS, np.random.default_rng(11))
    size = {Aggregation.MEAN_ABS: np.abs, Aggregation.MEAN_SQ: np.square}[method]
    exact_P = size(Exact().estimate(game).phi_NPL[:, :, 0]).mean(axis=0)
    hits_P = np.zeros(PLAYERS)
    for seed in range(SEEDS):
        explainer = kind(60, seed)
        estimated_P = size(explainer.estimate(game).phi_NPL[:, :, 0]).mean(axis=0)
        error_P = estimated_errors(explainer, game, method).global_DL[:, 0]
        hits_P += abs(estimated_P - exact_P) <= 1.96 * error_P
    assert hits_P.mean() / SEEDS > 0.95 - 2 * sqrt(0.95 * 0.05 / SEEDS)


def test_one_record_has_its_own_error() -> None:
    """The mean over one record is as uncertain as the record, except for the common share."""
    phi_NDL, error_NDL = np.full((1, 3, 1), 100.0), np.array([1.0, 2.0, 0.0]).reshape(1, 3, 1)
    errors = standard_errors(phi_NDL, error_NDL, np.ones(1), Aggregation.MEAN_ABS)
    np.testing.assert_allclose(errors.global_DL, error_NDL[0] * sqrt(1 + 0.15**2))
    assert errors.local_L[0] == pytest.approx(sqrt(5 / 3))


def test_the_error_of_a_median_is_unknown() -> None:
    """Errors of local attributions are known."""
    game = tree_games(3, PLAYERS, np.random.default_rng(0))
    errors = estimated_errors(Kernel(60, 0), game, Aggregation.MEDIAN)
    assert np.isnan(errors.global_DL).all()
    assert errors.local_L[0] > 0


def test_batches_and_duplicates_change_errors_only_by_rounding() -> None:
    """A batch size, and records that all occur twice."""
    features = pl.DataFrame(np.random.default_rng(0).normal(size=(30, 7)), schema=[f"f{d}" for d in range(7)])

    def errors_of(rows: pl.DataFrame, max_batch_rows: int) -> Errors:
        model = Formula(interacting)
        errors = explain(Kernel(40, 0), model, rows, features[:1], max_batch_rows=max_batch_rows).errors
        assert errors
        return errors

    expected = errors_of(features, 10_000)
    for errors in (errors_of(features, 40), errors_of(pl.concat([features, features[::-1]]), 100)):
        np.testing.assert_allclose(errors.local_L, expected.local_L)
        np.testing.assert_allclose(errors.global_DL, expected.global_DL)
