"""Kernel SHAP: budgets, seeds, and its error against the truth."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.exact import Exact
from runner.explain.kernel import Kernel
from tests.explain.test_contract import explain
from tests.models_by_hand import Formula, interacting

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


@pytest.mark.parametrize(
    ("num_samples", "players", "expected"),
    [(None, 10, 1022), (None, 20, 2088), (100, 14, 100), (101, 14, 100), (100, 5, 30), (100, 2, 2), (28, 14, 28)],
)
def test_the_budget_is_that_of_clarify(num_samples: int | None, players: int, expected: int) -> None:
    """The default is min(2·P + 2^11, 2^P − 2), and there are never more coalitions than exist."""
    assert Kernel(num_samples, 0).coalitions(players) == expected


def test_too_small_a_budget_is_refused() -> None:
    """A budget that cannot determine the attributions is an error that says how many would do."""
    with pytest.raises(ExplainerError, match=r"shap.num_samples=27 cannot determine 14 attributions: use 28 or more"):
        Kernel(27, 0).coalitions(14)


def test_a_budget_beyond_memory_is_refused() -> None:
    """A budget whose designs would not fit is an error that says how many would."""
    with pytest.raises(ExplainerError, match=r"needs too much memory for 25 features: use 335544 at most"):
        Kernel(3_000_000, 0).coalitions(25)


def test_too_many_features_to_enumerate_are_refused() -> None:
    """Enumeration beyond 20 features is an error that names the way out."""
    with pytest.raises(ExplainerError, match=r"2\^21 coalitions.*use shap.explainer=kernel"):
        Exact().coalitions(21)
