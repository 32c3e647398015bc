"""The contract of explainers: requirements on all explainers of any model, found through the registry."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import fields
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from omegaconf import OmegaConf

from runner.domain.attributions import Attributions
from runner.explain.explainers import EXPLAINERS, Explainer
from runner.explain.explainers.kernel import Clarify
from runner.protocols import Model
from tests.builders import BACKGROUND, FEATURES, explain, make_estimator
from tests.conftest import untracked
from tests.formula_models import Formula, additive, interacting

Function = Callable[[pl.DataFrame], NDArray[np.float64]]

SPECIAL = {"linear", "tree"}
"""Explainers of special models, with tests of their own."""
CONF = Path(__file__).parents[2] / "conf" / "shap"


def make_explainers(**settings: Any) -> dict[str, Explainer]:
    """Return all explainers of any model, by name."""
    kinds: dict[str, type[Explainer]] = {"clarify": Clarify}
    kinds |= {name: kind for name, kind in EXPLAINERS.items() if name not in SPECIAL}
    return {name: kind(**{field.name: settings[field.name] for field in fields(kind)}) for name, kind in kinds.items()}


SAMPLED, COMPLETE = make_explainers(num_samples=40, seed=3), make_explainers(num_samples=10**6, seed=3)
explainers = pytest.mark.parametrize("explainer", SAMPLED.values(), ids=SAMPLED)
complete_explainers = pytest.mark.parametrize("explainer", COMPLETE.values(), ids=COMPLETE)


def probability(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return probabilities with nearly additive log-odds."""
    return np.asarray(1 / (1 + np.exp(-interacting(features) / 10)))


functions = pytest.mark.parametrize("function", [interacting, probability], ids=["amounts", "probabilities"])


def shapley(model: Model, record: tuple[float, ...], background: pl.DataFrame) -> NDArray[np.float64]:
    """Return φ by the definition: the mean gain of joining over all orders of the features."""
    D = len(record)

    def value(coalition: frozenset[int]) -> float:
        rows = background.with_columns(**{background.columns[d]: pl.lit(record[d]) for d in coalition})
        return float(model.predict(rows).mean())

    phi_D = np.zeros(D)
    for order in itertools.permutations(range(D)):
        for i, d in enumerate(order):
            before = frozenset(order[:i])
            phi_D[d] += (value(before | {d}) - value(before)) / factorial(D)
    return phi_D


def depends_on_order(explainer: Explainer) -> bool:
    """Return whether coalitions depend on the importance of players, which depends on all outputs of the model."""
    return explainer == SAMPLED["kernel"]


def tolerance(*attributions: Attributions) -> NDArray[np.float64]:
    """Return six standard errors of the sum of all estimates, each multiplied by 2."""
    errors = [found.error_NDL for found in attributions if found.error_NDL is not None]
    tolerance_NDL: NDArray[np.float64] = 6 * np.sqrt(sum((2 * error_NDL) ** 2 for error_NDL in errors))
    return tolerance_NDL


def test_each_explainer_has_a_yaml_option() -> None:
    """Every option of `conf/shap` selects the explainer of its name."""
    options = {path.stem: OmegaConf.load(path) for path in CONF.glob("*.yaml")}
    assert {name: option.explainer for name, option in options.items()} == {n: n for n in ("auto", *EXPLAINERS)}


@complete_explainers
def test_all_coalitions_give_the_definition(explainer: Explainer) -> None:
    """φ is the mean gain over all orders of the features."""
    features, background = FEATURES[:3, :4], BACKGROUND[:, :4]
    model = Formula(interacting)
    phi_NDL = explain(explainer, model, features=features, background=background).phi_NDL
    expected = [shapley(model, row, background) for row in features.rows()]
    np.testing.assert_allclose(phi_NDL[:, :, 0], expected, atol=1e-12)


@explainers
def test_attributions_are_efficient(explainer: Explainer) -> None:
    """Attributions and the expected value add up to the score."""
    attributions = explain(explainer, Formula(interacting))
    np.testing.assert_allclose(attributions.scores_NL[:, 0], interacting(FEATURES))
    assert attributions.residual < 1e-9


@explainers
def test_additive_models_are_explained_exactly(explainer: Explainer) -> None:
    """φ is the difference of each feature's term, for any budget."""
    phi_NDL = explain(explainer, Formula(additive)).phi_NDL
    expected = (FEATURES.to_numpy() - BACKGROUND.to_numpy().mean(axis=0)) * np.arange(1, 7)
    np.testing.assert_allclose(phi_NDL[:, :, 0], expected, atol=1e-12)


@explainers
def test_attributions_are_linear_in_outputs(explainer: Explainer) -> None:
    """If an output is a sum of others, so are its attributions."""

    def outputs(x: pl.DataFrame) -> NDArray[np.float64]:
        first, second = interacting(x), np.sin(additive(x))
        return np.stack([first, second, 2 * first + second], axis=1)

    phi_NDL = explain(explainer, Formula(outputs, label_headers=("a", "b", "c"))).phi_NDL
    np.testing.assert_allclose(phi_NDL[:, :, 2], 2 * phi_NDL[:, :, 0] + phi_NDL[:, :, 1], atol=1e-10)


@explainers
def test_attributions_are_linear_in_models(explainer: Explainer) -> None:
    """Up to the standard errors if the order of players depends on the model."""
    first, second = Formula(interacting), Formula(lambda x: np.sin(additive(x)))
    combined = Formula(lambda x: 2 * interacting(x) + np.sin(additive(x)))
    found = [explain(explainer, model) for model in (first, second, combined)]
    difference_NDL = 2 * found[0].phi_NDL + found[1].phi_NDL - found[2].phi_NDL
    assert (abs(difference_NDL) < 1e-10 + depends_on_order(explainer) * tolerance(*found)).all()


@complete_explainers
def test_dummies_get_nothing_and_symmetric_features_get_the_same(explainer: Explainer) -> None:
    """The model ignores three features, and two are interchangeable."""
    model = Formula(lambda x: np.exp(x["f0"].to_numpy() + x["f1"].to_numpy()) * x["f3"].to_numpy())
    features = FEATURES.with_columns(f1=pl.col("f0"))
    background = BACKGROUND.with_columns(f1=pl.col("f0"))
    phi_ND = explain(explainer, model, features=features, background=background).phi_NDL[:, :, 0]
    np.testing.assert_allclose(phi_ND[:, [2, 4, 5]], 0, atol=1e-12)
    np.testing.assert_allclose(phi_ND[:, 0], phi_ND[:, 1], atol=1e-12)


@explainers
def test_outputs_are_explained_separately(explainer: Explainer) -> None:
    """As if each were the only one; up to the standard errors if the order of players depends on all outputs."""
    both = Formula(lambda x: np.stack([interacting(x), additive(x)], axis=1), label_headers=("a", "b"))
    attributions = explain(explainer, both)
    assert attributions.labels == ("a", "b")
    for i, function in enumerate((interacting, additive)):
        single = explain(explainer, Formula(function))
        tolerance_ND = 1e-12 + depends_on_order(explainer) * tolerance(single, single)[:, :, 0]
        assert (abs(attributions.phi_NDL[:, :, i] - single.phi_NDL[:, :, 0]) <= tolerance_ND).all()


@functions
@explainers
@pytest.mark.parametrize("max_batch_rows", [1, 7, 40, 10_000])
def test_batches_do_not_change_a_bit(explainer: Explainer, max_batch_rows: int, function: Function) -> None:
    """No model call is larger than the limit, and the number of rows is as reported."""
    model = Formula(function)
    attributions = explain(explainer, model, max_batch_rows=max_batch_rows)
    expected = explain(explainer, Formula(function), max_batch_rows=500)
    assert attributions.phi_NDL.tobytes() == expected.phi_NDL.tobytes()
    assert max(model.batches) <= max_batch_rows
    assert sum(model.batches) == attributions.evaluations


@functions
@explainers
@pytest.mark.parametrize("order", [[5, 0, 11, 5], [7]])
def test_other_records_do_not_change_a_bit(explainer: Explainer, order: list[int], function: Function) -> None:
    """A record has the same attributions in another order, among other records and alone."""
    expected_NDL = explain(explainer, Formula(function), max_batch_rows=500).phi_NDL[order]
    found = explain(explainer, Formula(function), max_batch_rows=500, features=FEATURES[order])
    assert found.phi_NDL.tobytes() == expected_NDL.tobytes()


@explainers
@pytest.mark.parametrize("max_batch_rows", [1, 9, 10_000])
@pytest.mark.parametrize("groups", [{}, {"two": ("f1", "f4")}], ids=["single", "grouped"])
def test_features_equal_to_the_background_are_supported(
    explainer: Explainer, max_batch_rows: int, groups: dict[str, tuple[str, ...]]
) -> None:
    """Calls are as planned, sums are right, and neither batches nor other records change a bit."""
    values_ND, is_equal_ND = FEATURES.to_numpy().copy(), np.random.default_rng(1).random(FEATURES.shape) < 0.4
    values_ND[is_equal_ND] = np.broadcast_to(BACKGROUND.to_numpy()[0], FEATURES.shape)[is_equal_ND]
    features, model = pl.DataFrame(values_ND, schema=FEATURES.columns), Formula(interacting)
    estimator = make_estimator(explainer, max_batch_rows=max_batch_rows, groups=groups)
    found = estimator.explain(model, features, BACKGROUND, untracked)
    assert sum(model.batches) == found.evaluations == estimator.evaluations(model, features, BACKGROUND)
    assert max(model.batches) <= max_batch_rows
    assert found.residual < 1e-9
    alone = [explain(explainer, Formula(interacting), features[n], groups=groups).phi_NDL[0] for n in range(4)]
    assert found.phi_NDL[:4].tobytes() == np.stack(alone).tobytes()


@explainers
def test_inputs_do_not_change(explainer: Explainer) -> None:
    """Records and background are the same afterwards."""
    features, background = FEATURES.clone(), BACKGROUND.clone()
    explain(explainer, Formula(interacting))
    assert features.equals(FEATURES)
    assert background.equals(BACKGROUND)


@explainers
def test_a_record_equal_to_the_background_has_no_attributions(explainer: Explainer) -> None:
    """Its score is the expected value."""
    attributions = explain(explainer, Formula(interacting), features=BACKGROUND[:1], background=BACKGROUND[:1])
    np.testing.assert_allclose(attributions.phi_NDL, 0, atol=1e-12)


@explainers
@pytest.mark.parametrize("width", [1, 2, 3])
def test_few_features_are_supported(explainer: Explainer, width: int) -> None:
    """One, two or three features of an additive model have exact attributions."""
    features, background = FEATURES[:, :width], BACKGROUND[:, :width]
    attributions = explain(explainer, Formula(additive), features=features, background=background)
    expected = (features.to_numpy() - background.to_numpy().mean(axis=0)) * np.arange(1, width + 1)
    np.testing.assert_allclose(attributions.phi_NDL[:, :, 0], expected, atol=1e-12)


@explainers
def test_a_logistic_model_is_additive_in_log_odds(explainer: Explainer) -> None:
    """With use_logit, φ is the weight times the difference, in log-odds."""
    model = Formula(lambda x: 1 / (1 + np.exp(-additive(x) / 10)))
    attributions = explain(explainer, model, use_logit=True)
    expected = (FEATURES.to_numpy() - BACKGROUND.to_numpy().mean(axis=0)) * np.arange(1, 7) / 10
    np.testing.assert_allclose(attributions.phi_NDL[:, :, 0], expected, atol=1e-9)


@complete_explainers
def test_all_coalitions_leave_no_error(explainer: Explainer) -> None:
    """The standard errors are 0."""
    errors = explain(explainer, Formula(interacting)).errors
    assert errors
    assert not errors.local_L.any()
    assert not errors.global_DL.any()


@explainers
def test_each_output_has_its_own_errors(explainer: Explainer) -> None:
    """About those of the output alone; an additive output and an exact explainer have none."""
    both = Formula(lambda x: np.stack([interacting(x), additive(x)], axis=1), label_headers=("a", "b"))
    errors, single = explain(explainer, both).errors, explain(explainer, Formula(interacting)).errors
    assert errors
    assert single
    rtol = 0.5 if depends_on_order(explainer) else 0
    np.testing.assert_allclose(errors.local_L, [single.local_L[0], 0], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(errors.global_DL[:, 0], single.global_DL[:, 0], rtol=rtol, atol=1e-12)
    has_errors = bool(errors.local_L[0] > 1e-3)
    assert has_errors == bool((errors.global_DL[:, 0] > 1e-3).all()) == (not explainer.is_exact)
