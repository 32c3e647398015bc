"""Kernel SHAP: its errors against enumeration and Clarify's regression, and the order of players by importance."""

from __future__ import annotations

from math import sqrt

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.coalitions import all_coalitions, draw_pairs, evaluate
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, Kernel, evaluate_by_importance
from runner.explain.game_explainer import GameExplainer
from tests.builders import explain
from tests.explain.games import TableGame, focused_games, logistic_games, tree_games
from tests.formula_models import Formula, interacting
from tests.golden import Golden

SEEDS = 200
rng = np.random.default_rng(1)
FEATURES = pl.DataFrame(rng.normal(size=(40, 10)), schema=[f"f{d}" for d in range(10)])
BACKGROUND = pl.DataFrame(np.zeros((1, 10)), schema=FEATURES.columns)


def model_error(num_samples: int, seed: int = 0) -> float:
    """Return the root mean square error of local attributions of a model."""
    model = Formula(interacting)
    estimated = explain(Kernel(num_samples, seed), model, FEATURES, BACKGROUND)
    exact = explain(Exact(), model, FEATURES, BACKGROUND)
    return float(np.sqrt(((estimated.phi_NDL - exact.phi_NDL) ** 2).mean()))


def game_error(explainer: GameExplainer, game: TableGame) -> float:
    """Return the root mean square error of an explainer on games."""
    return float(np.sqrt(((explainer.estimate(game).phi_NPL - Exact().estimate(game).phi_NPL) ** 2).mean()))


def test_more_samples_have_smaller_errors() -> None:
    """The error vanishes if all coalitions are evaluated."""
    errors = [model_error(num_samples) for num_samples in (30, 120, 480, 2000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-12


def test_seeds_draw_different_coalitions() -> None:
    """The same seed gives the same bits."""
    assert model_error(60, seed=1) != model_error(60, seed=2)
    assert model_error(60, seed=1) == model_error(60, seed=1)


def test_a_budget_that_exceeds_memory_is_rejected(golden: Golden) -> None:
    """The error contains the largest budget."""
    with golden.raises(ExplainerError) as caught:
        Kernel(3_000_000, 0).coalitions(25)
    assert "8192" in str(caught.value)


@pytest.mark.parametrize("num_samples", [60, 200, 800])
def test_a_logistic_model_is_explained_exactly(num_samples: int) -> None:
    """The control variate leaves nothing to estimate."""
    assert game_error(Kernel(num_samples, 0), logistic_games(30, 10, np.random.default_rng(0))) < 1e-6


@pytest.mark.parametrize(("num_samples", "ratio"), [(60, 1.2), (200, 1.4), (800, 3)])
def test_trees_are_explained_better_than_by_regression(num_samples: int, ratio: float) -> None:
    """The error of Clarify's regression on the same number of coalitions is larger."""
    game = tree_games(40, 10, np.random.default_rng(4))
    clarify_errors = [game_error(Clarify(num_samples, seed), game) for seed in range(6)]
    kernel_errors = [game_error(Kernel(num_samples, seed), game) for seed in range(6)]
    assert np.mean(clarify_errors) > ratio * np.mean(kernel_errors)


def test_few_important_players_are_explained_much_better() -> None:
    """The prior expects interactions of important players."""
    game = focused_games(40, 12, np.random.default_rng(0))
    assert game_error(Clarify(200, 0), game) > 6 * game_error(Kernel(200, 0), game)


@pytest.mark.parametrize("num_samples", [100, 200, 400])
@pytest.mark.parametrize("scale", [1.0, 10.0], ids=["probabilities", "amounts"])
def test_exact_values_are_within_the_errors(num_samples: int, scale: float) -> None:
    """Within 1.96 standard errors in at least 90 % of the cases over 200 seeds; standard errors have the right size."""
    game = TableGame(scale * tree_games(20, 10, np.random.default_rng(6)).values_NK)
    exact_NPL, hits, ratios = Exact().estimate(game).phi_NPL, [], []
    for seed in range(SEEDS):
        estimate = Kernel(num_samples, seed).estimate(game)
        assert estimate.variance_NPL is not None
        error_NPL = abs(estimate.phi_NPL - exact_NPL)
        hits.append((error_NPL <= 1.96 * np.sqrt(estimate.variance_NPL)).mean())
        ratios.append((error_NPL**2).mean() / estimate.variance_NPL.mean())
    assert np.mean(hits) > 0.90 - 2 * sqrt(0.9 * 0.1 / SEEDS)
    assert 0.7 < sqrt(np.mean(ratios)) < 1.3


def test_a_control_variate_without_benefit_does_no_harm() -> None:
    """It is omitted if the fit is not better than by chance."""
    noise = TableGame(np.random.default_rng(0).uniform(size=(50, 1024)))
    noise.values_NK[:, 0] = 0.5
    amounts = TableGame(noise.values_NK * 3)
    assert game_error(Kernel(80, 0), noise) < 1.1 * game_error(Kernel(80, 0), amounts) / 3


def test_the_most_important_players_come_first() -> None:
    """In additive games, by the absolute value of their effect."""
    effect_NP = np.array([[0.1, -3.0, 2.0, 0.5, 1.0], [5.0, 4.0, -3.0, 2.0, 1.0]])
    game = TableGame(effect_NP @ all_coalitions(5).T)
    order_NP, _ = evaluate_by_importance(game, draw_pairs(5, 8, np.random.default_rng(0)))
    assert order_NP.tolist() == [[1, 2, 4, 3, 0], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("players", "pairs"), [(7, 30), (6, 6)], ids=["all sizes", "singletons"])
def test_values_are_those_of_the_reordered_game(players: int, pairs: int) -> None:
    """As if the players had been in this order from the start."""
    game = tree_games(6, players, np.random.default_rng(0))
    half_JP = draw_pairs(players, pairs, np.random.default_rng(1))
    order_NP, values_RK = evaluate_by_importance(game, half_JP)
    np.testing.assert_array_equal(values_RK, evaluate(game.reorder(order_NP), half_JP))
    assert not (order_NP == np.arange(players)).all()


def test_rounding_errors_do_not_change_the_order() -> None:
    """Players without effect stay in their original order."""
    effect_NP = np.zeros((1, 12))
    effect_NP[0, 7] = 1.0
    values_NK = effect_NP @ all_coalitions(12).T
    noise_NK = np.random.default_rng(0).normal(size=values_NK.shape) * 1e-16
    noise_NK[:, 0] = 0
    orders = [
        evaluate_by_importance(TableGame(values), draw_pairs(12, 20, np.random.default_rng(0)))[0].tolist()
        for values in (values_NK, values_NK + noise_NK)
    ]
    assert orders[0] == orders[1] == [[7, *range(7), *range(8, 12)]]


def test_the_labels_of_a_record_have_one_order() -> None:
    """Importance is the effect on all outputs together."""

    class TwoLabels(TableGame):
        @property
        def scores_NL(self) -> np.ndarray:
            return np.repeat(super().scores_NL, 2, axis=1) * [1, -5]

        @property
        def expected_L(self) -> np.ndarray:
            return np.repeat(super().expected_L, 2) * [1, -5]

        def value(self, masks_KP: np.ndarray) -> np.ndarray:
            return super().value(masks_KP) * [1, -5]

    game, half_JP = tree_games(4, 6, np.random.default_rng(2)), draw_pairs(6, 12, np.random.default_rng(1))
    order_NP, values_RK = evaluate_by_importance(game, half_JP)
    both_order_NP, both_values_RK = evaluate_by_importance(TwoLabels(game.values_NK), half_JP)
    assert both_order_NP.tolist() == order_NP.tolist()
    np.testing.assert_allclose(both_values_RK, np.stack([values_RK, -5 * values_RK], axis=1).reshape(8, -1))
