"""The standard errors of kernel SHAP: against the truth, and against leaving draws out one by one."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain import Errors
from runner.explain.aggregate import Aggregation
from runner.explain.coalitions import _draw_pairs, every, kernel_designs, size_weights
from runner.explain.estimator import Estimator
from runner.explain.exact import Exact
from runner.explain.kernel import DESIGNS, Kernel
from runner.explain.uncertainty import Uncertainty
from tests.conftest import untracked
from tests.models_by_hand import Formula, interacting

PLAYERS, SEEDS = 9, 25
WITHIN = 1.96
"""Standard errors to either side that hold 95 %."""
rng = np.random.default_rng(11)


@dataclass(frozen=True)
class Table:
    """Games whose values stand in a table: a row for each record, a column for each coalition."""

    values_NK: NDArray[np.float64]
    keys_N: NDArray[np.uint64]
    players: int = PLAYERS

    @property
    def scores_NL(self) -> NDArray[np.float64]:
        """The last column: of the coalition of all."""
        return self.values_NK[:, -1:]

    @property
    def expected_L(self) -> NDArray[np.float64]:
        """The first column, which is the same in every row: of the empty coalition."""
        return self.values_NK[0, :1]

    def value(self, masks_GKP: NDArray[np.bool_], design_N: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return values_NKL."""
        return np.take_along_axis(self.values_NK, (masks_GKP @ 2 ** np.arange(PLAYERS))[design_N], axis=1)[:, :, None]


def games(records: int) -> Table:
    """Return as many smooth games with interactions of all orders, each on a design of its own."""
    pulls_NP = rng.normal(size=(records, PLAYERS))
    pulls_NP[:, :2] /= 50
    values_NK = 1 / (1 + np.exp(-(pulls_NP @ every(PLAYERS).T - 1)))
    return Table(values_NK, np.arange(records, dtype=np.uint64))


def measured(kernel: Kernel, game: Table, method: Aggregation) -> Errors:
    """Return the errors of an estimate."""
    estimate, records = kernel.estimate(game), len(game.keys_N)
    uncertainty = Uncertainty(method, records, PLAYERS, 1)
    assert estimate.noise
    uncertainty.add(estimate.phi_NPL, estimate.noise, np.ones(records))
    return uncertainty.errors()


@pytest.mark.parametrize("num_samples", [240, 400])
def test_the_truth_lies_within_the_local_errors(num_samples: int) -> None:
    """In 95 % of the cases the exact value is no further away than 1.96 standard errors, within binomial error."""
    game = games(DESIGNS)
    truth_NP = Exact().estimate(game).phi_NPL[:, :, 0]
    hits_P = np.zeros(PLAYERS)
    for seed in range(SEEDS):
        estimate = Kernel(num_samples, seed).estimate(game)
        assert estimate.noise
        moves_NPJ = estimate.noise.influence_GPJ[estimate.noise.design_N] * estimate.noise.residual_NJL.mT
        error_NP = np.sqrt((moves_NPJ**2).sum(axis=2))
        hits_P += (abs(estimate.phi_NPL[:, :, 0] - truth_NP) <= WITHIN * error_NP).sum(axis=0)
    trials = DESIGNS * SEEDS
    assert abs(hits_P.mean() / trials - 0.95) < 0.02
    assert abs(hits_P / trials - 0.95).max() < 0.02 + 3 * sqrt(0.95 * 0.05 / trials)


@pytest.mark.parametrize("method", [Aggregation.MEAN_ABS, Aggregation.MEAN_SQ])
def test_the_truth_lies_within_the_global_errors(method: Aggregation) -> None:
    """So it is with global values at least as often, also those of weak features, that noise lifts."""
    game, size = games(300), {Aggregation.MEAN_ABS: np.abs, Aggregation.MEAN_SQ: np.square}[method]
    truth_P = size(Exact().estimate(game).phi_NPL[:, :, 0]).mean(axis=0)
    hits_P = np.zeros(PLAYERS)
    for seed in range(SEEDS):
        kernel = Kernel(60, seed)
        found_P = size(kernel.estimate(game).phi_NPL[:, :, 0]).mean(axis=0)
        hits_P += abs(found_P - truth_P) <= WITHIN * measured(kernel, game, method).global_DL[:, 0]
    assert hits_P.mean() / SEEDS > 0.95 - 2 * sqrt(0.95 * 0.05 / SEEDS)


def regression(
    half_JP: NDArray[np.bool_], weights_J: NDArray[np.float64], difference_J: NDArray[np.float64], total: float
) -> NDArray[np.float64]:
    """Return the weighted least squares φ_P that adds up to a total, by its Lagrange equations."""
    Z, ones = half_JP - 0.5, np.ones((PLAYERS, 1))
    left = np.block([[Z.T * weights_J @ Z, ones], [ones.T, np.zeros((1, 1))]])
    right = np.append(Z.T * weights_J @ difference_J / 2, total)
    return np.linalg.solve(left, right)[:PLAYERS]


def test_an_error_is_what_leaving_draws_out_does() -> None:
    """Each draw's share is by how much the weighted regression moves without it, found by solving that anew."""
    J, budget, game = 35, 2 * (PLAYERS + 35), games(1)
    masks_KP = kernel_designs(PLAYERS, budget, DESIGNS, 5).masks_GKP[:1]
    values_K = game.value(masks_KP, np.zeros(1, dtype=np.intp))[0, :, 0]
    half_JP, difference_J = masks_KP[0, : budget // 2], np.subtract(*np.split(values_K, 2))
    counts_J = _draw_pairs(PLAYERS, 2, J, DESIGNS, np.random.default_rng([5, PLAYERS]))[1][0]
    assert counts_J.max() > 1
    single = size_weights(PLAYERS)[1] / PLAYERS
    weights_J = np.full(PLAYERS + J, single)
    weights_J[PLAYERS:] = counts_J / counts_J.sum() * (0.5 - PLAYERS * single)
    estimate = Kernel(budget, 5).estimate(game)
    assert estimate.noise
    moves_PJ = estimate.noise.influence_GPJ[0] * estimate.noise.residual_NJL[0, :, 0]
    given = difference_J, float((game.scores_NL - game.expected_L)[0, 0])
    phi_P = regression(half_JP, weights_J, *given)
    np.testing.assert_allclose(estimate.phi_NPL[0, :, 0], phi_P, atol=1e-12)
    for j, count in enumerate(counts_J):
        without_J = weights_J.copy()
        without_J[PLAYERS + j] *= 1 - 1 / count
        moved_P = phi_P - regression(half_JP, without_J, *given)
        np.testing.assert_allclose(moves_PJ[:, j], moved_P * sqrt(count * J / (J - 1)), atol=1e-12)


def test_the_error_of_a_single_record_is_its_own() -> None:
    """The mean over one record is as uncertain as that record, where its attributions are large against the noise."""
    game = games(1)
    game.values_NK[:] += 100 * every(PLAYERS).sum(axis=1)
    errors = measured(Kernel(60, 0), game, Aggregation.MEAN_ABS)
    assert errors.local_L[0] == pytest.approx(sqrt((errors.global_DL**2).mean()))
    assert errors.local_L[0] > 0


@pytest.mark.parametrize(("num_samples", "known"), [(18, False), (20, False), (22, True)])
def test_too_few_draws_tell_nothing(num_samples: int, known: bool) -> None:
    """Where fewer than two pairs are drawn but coalitions are missing, the error is not known."""
    errors = measured(Kernel(num_samples, 0), games(3), Aggregation.MEAN_ABS)
    assert np.isfinite(errors.local_L).all() == np.isfinite(errors.global_DL).all() == known


def test_the_error_of_a_median_is_not_known() -> None:
    """That of the local attributions is."""
    errors = measured(Kernel(60, 0), games(3), Aggregation.MEDIAN)
    assert np.isnan(errors.global_DL).all()
    assert errors.local_L[0] > 0


def test_batches_and_copies_change_nothing_but_rounding() -> None:
    """However many rows go to the model at a time, and whether a record comes twice or counts double."""
    features = pl.DataFrame(rng.normal(size=(30, 7)), schema=[f"f{d}" for d in range(7)])
    background, model = features[:1], Formula(interacting)

    def errors(batch: int, rows: pl.DataFrame) -> Errors:
        estimator = Estimator(Kernel(40, 0), Aggregation.MEAN_ABS, False, batch)
        found = estimator.explain(model, rows, background, untracked).errors
        assert found
        return found

    whole = errors(10_000, features)
    for other in (errors(40, features), errors(100, pl.concat([features, features[::-1]]))):
        np.testing.assert_allclose(other.local_L, whole.local_L)
        np.testing.assert_allclose(other.global_DL, whole.global_DL)
