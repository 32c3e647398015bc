"""Kernel SHAP: budgets, seeds, its error against the truth, and whether it knows that error."""

from __future__ import annotations

from itertools import combinations
from math import sqrt

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.blocks import GameExplainer
from runner.explain.coalitions import all_coalitions
from runner.explain.explainers.clarify import Clarify
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from tests.builders import explain
from tests.explain.games import Table, smooth, stepped
from tests.formula_models import Formula, interacting
from tests.golden import Golden

SEEDS = 200
rng = np.random.default_rng(1)
FEATURES = pl.DataFrame(rng.normal(size=(40, 10)), schema=[f"f{d}" for d in range(10)])
BACKGROUND = pl.DataFrame(np.zeros((1, 10)), schema=FEATURES.columns)


def error(num_samples: int, seed: int = 0) -> float:
    """Return the root mean square error of local attributions against enumeration."""
    model = Formula(interacting)
    ours = explain(Kernel(num_samples, seed), model, features=FEATURES, background=BACKGROUND)
    truth = explain(Exact(), model, features=FEATURES, background=BACKGROUND)
    return float(np.sqrt(((ours.phi_NDL - truth.phi_NDL) ** 2).mean()))


def test_more_samples_come_closer() -> None:
    """The error falls with the budget and vanishes with all coalitions."""
    errors = [error(num_samples) for num_samples in (30, 120, 480, 2000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-12


def test_seeds_draw_different_coalitions() -> None:
    """Another seed gives another estimate, the same seed the same bits."""
    assert error(60, seed=1) != error(60, seed=2)
    assert error(60, seed=1) == error(60, seed=1)


def test_a_budget_beyond_memory_is_refused(golden: Golden) -> None:
    """More samples than the matrix of a design can take are an error that says how many it does."""
    with golden.raises(ExplainerError) as caught:
        Kernel(3_000_000, 0).coalitions(25)
    assert "8192" in str(caught.value)


def test_too_many_features_to_enumerate_are_refused(golden: Golden) -> None:
    """Enumeration beyond 20 features is an error that names the way out."""
    with golden.raises(ExplainerError) as caught:
        Exact().coalitions(21)
    assert "shap.explainer=kernel" in str(caught.value)


def root_mean_square(explainer: GameExplainer, game: Table) -> float:
    """Return the error of an explainer on a game."""
    return float(np.sqrt(((explainer.estimate(game).phi_NPL - Exact().estimate(game).phi_NPL) ** 2).mean()))


@pytest.mark.parametrize("num_samples", [60, 200, 800])
def test_an_additive_classifier_is_explained_exactly(num_samples: int) -> None:
    """Where features add up in log-odds the control variate leaves nothing to estimate."""
    assert root_mean_square(Kernel(num_samples, 0), smooth(30, 10, np.random.default_rng(0))) < 1e-6


@pytest.mark.parametrize(("num_samples", "times"), [(60, 1.2), (200, 1.4), (800, 3)])
def test_trees_are_explained_better_than_by_regression(num_samples: int, times: float) -> None:
    """The regression of Clarify errs more on the same number of coalitions, by far where these are many."""
    game = stepped(40, 10, np.random.default_rng(4))
    theirs = [root_mean_square(Clarify(num_samples, seed), game) for seed in range(6)]
    assert np.mean(theirs) > times * np.mean([root_mean_square(Kernel(num_samples, seed), game) for seed in range(6)])


def focused(records: int, players: int, rng: np.random.Generator) -> Table:
    """Return games like `stepped`, in which a few players of each record do most, also together."""
    masks_KP = all_coalitions(players).astype(np.float64)
    pulls_NP = rng.normal(size=(records, players)) * 0.6 ** rng.permuted(
        np.tile(np.arange(players), (records, 1)), axis=1
    )
    total_NK = 2 * pulls_NP @ masks_KP.T
    for members in combinations(range(players), 3):
        total_NK += 9 * pulls_NP[:, members].prod(axis=1)[:, None] * masks_KP[:, members].prod(axis=1)
    return Table(1 / (1 + np.exp(-total_NK)))


def test_interactions_of_important_players_are_told_first() -> None:
    """Where few players matter, and those also interact, the error is by far smaller than that of the regression."""
    game = focused(40, 12, np.random.default_rng(0))
    assert root_mean_square(Clarify(200, 0), game) > 6 * root_mean_square(Kernel(200, 0), game)


@pytest.mark.parametrize("num_samples", [100, 200, 400])
@pytest.mark.parametrize("scale", [1.0, 10.0], ids=["probabilities", "amounts"])
def test_the_truth_lies_within_the_errors(num_samples: int, scale: float) -> None:
    """Over 200 seeds, the exact value is within 1.96 standard errors in 90 % of the cases or more, and they fit."""
    game = Table(scale * stepped(20, 10, np.random.default_rng(6)).values_NK)
    truth_NPL, hits, ratios = Exact().estimate(game).phi_NPL, [], []
    for seed in range(SEEDS):
        estimate = Kernel(num_samples, seed).estimate(game)
        assert estimate.variance_NPL is not None
        miss_NPL = abs(estimate.phi_NPL - truth_NPL)
        hits.append((miss_NPL <= 1.96 * np.sqrt(estimate.variance_NPL)).mean())
        ratios.append((miss_NPL**2).mean() / estimate.variance_NPL.mean())
    assert np.mean(hits) > 0.90 - 2 * sqrt(0.9 * 0.1 / SEEDS)
    assert 0.7 < sqrt(np.mean(ratios)) < 1.3


def test_probabilities_that_do_not_add_up_are_not_made_worse() -> None:
    """Where the fit of the control variate is no better than chance, it is left out."""
    noise = Table(np.random.default_rng(0).uniform(size=(50, 1024)))
    noise.values_NK[:, 0] = 0.5
    amounts = Table(noise.values_NK * 3)
    with_variate = root_mean_square(Kernel(80, 0), noise)
    assert with_variate < 1.1 * root_mean_square(Kernel(80, 0), amounts) / 3
