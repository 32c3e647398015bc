"""The contract of explainers: what every implementation that `conf/shap` names has to fulfil."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from math import factorial
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from omegaconf import OmegaConf

from runner.config.settings import Shap
from runner.domain.attributions import Attributions
from runner.explain.explainers import Explainer
from runner.explain.explainers.clarify import Clarify
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.protocols import Model
from tests.builders import BACKGROUND, FEATURES, explain, make_estimator
from tests.conftest import untracked
from tests.formula_models import Formula, additive, interacting

Function = Callable[[pl.DataFrame], NDArray[np.float64]]

EXPLAINERS = {"exact": Exact(), "kernel": Kernel(num_samples=40, seed=3), "clarify": Clarify(num_samples=40, seed=3)}
FULL_BUDGET = {"exact": Exact(), "kernel": Kernel(num_samples=10**6, seed=3), "clarify": Clarify(10**6, seed=3)}
ELSEWHERE = {"auto": "chosen by assemble.py", "linear": "test_linear.py", "tree": "plays no games: test_trees.py"}
CONF = Path(__file__).parents[2] / "conf" / "shap"


def shapley(model: Model, record: tuple[float, ...], background: pl.DataFrame) -> NDArray[np.float64]:
    """Return φ by the definition: the mean gain of joining over all orders of arrival."""
    D = len(record)

    def value(coalition: frozenset[int]) -> float:
        rows = background.with_columns(**{background.columns[d]: pl.lit(record[d]) for d in coalition})
        return float(model.predict(rows).mean())

    phi_D = np.zeros(D)
    for order in itertools.permutations(range(D)):
        for place, d in enumerate(order):
            before = frozenset(order[:place])
            phi_D[d] += (value(before | {d}) - value(before)) / factorial(D)
    return phi_D


def test_the_suite_knows_every_configured_explainer() -> None:
    """A new option of conf/shap has to be added here."""
    options = {path.stem: OmegaConf.load(path) for path in CONF.glob("*.yaml")}
    compat = get_args(get_args(get_type_hints(Shap)["compat"])[0])
    known = {*EXPLAINERS, *ELSEWHERE}
    assert {node.explainer for node in options.values()} | {*compat} == known


@pytest.mark.parametrize("explainer", FULL_BUDGET.values(), ids=FULL_BUDGET)
def test_full_budget_is_the_definition(explainer: Explainer) -> None:
    """With every coalition affordable, φ is the mean over all orders of arrival."""
    features, background = FEATURES[:3, :4], BACKGROUND[:, :4]
    model = Formula(interacting)
    phi_NDL = explain(explainer, model, features=features, background=background).phi_NDL
    expected = [shapley(model, row, background) for row in features.rows()]
    np.testing.assert_allclose(phi_NDL[:, :, 0], expected, atol=1e-12)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_efficiency(explainer: Explainer) -> None:
    """Attributions and the expected value add up to the score."""
    attributions = explain(explainer, Formula(interacting))
    np.testing.assert_allclose(attributions.scores_NL[:, 0], interacting(FEATURES))
    assert attributions.residual < 1e-9


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_additive_models_are_explained_exactly(explainer: Explainer) -> None:
    """Where features only add up, φ is each one's own difference, whatever the budget."""
    phi_NDL = explain(explainer, Formula(additive)).phi_NDL
    expected = (FEATURES.to_numpy() - BACKGROUND.to_numpy().mean(axis=0)) * np.arange(1, 7)
    np.testing.assert_allclose(phi_NDL[:, :, 0], expected, atol=1e-12)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_linearity(explainer: Explainer) -> None:
    """The attributions of an output that is a sum of others are the sum of theirs."""

    def outputs(x: pl.DataFrame) -> NDArray[np.float64]:
        one, other = interacting(x), np.sin(additive(x))
        return np.stack([one, other, 2 * one + other], axis=1)

    phi_NDL = explain(explainer, Formula(outputs, label_headers=("a", "b", "c"))).phi_NDL
    np.testing.assert_allclose(phi_NDL[:, :, 2], 2 * phi_NDL[:, :, 0] + phi_NDL[:, :, 1], atol=1e-10)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_linearity_of_models(explainer: Explainer) -> None:
    """So are those of models that are explained one by one, within the errors where a model decides who comes first."""
    one, other = Formula(interacting), Formula(lambda x: np.sin(additive(x)))
    both = Formula(lambda x: 2 * interacting(x) + np.sin(additive(x)))
    found = [explain(explainer, model) for model in (one, other, both)]
    left_NDL = 2 * found[0].phi_NDL + found[1].phi_NDL - found[2].phi_NDL
    assert (abs(left_NDL) < 1e-10 + (explainer == EXPLAINERS["kernel"]) * np.sqrt(between(found))).all()


def between(found: list[Attributions]) -> NDArray[np.float64]:
    """Return the square of six standard errors of all estimates together, for each value."""
    errors = [some.error_NDL for some in found if some.error_NDL is not None]
    return 36 * np.asarray(sum((2 * error_NDL) ** 2 for error_NDL in errors))


@pytest.mark.parametrize("explainer", FULL_BUDGET.values(), ids=FULL_BUDGET)
def test_dummy_and_symmetry(explainer: Explainer) -> None:
    """A feature the model ignores gets 0, and two it cannot tell apart get the same."""
    model = Formula(lambda x: np.exp(x["f0"].to_numpy() + x["f1"].to_numpy()) * x["f3"].to_numpy())
    features = FEATURES.with_columns(f1=pl.col("f0"))
    background = BACKGROUND.with_columns(f1=pl.col("f0"))
    phi_ND = explain(explainer, model, features=features, background=background).phi_NDL[:, :, 0]
    np.testing.assert_allclose(phi_ND[:, [2, 4, 5]], 0, atol=1e-12)
    np.testing.assert_allclose(phi_ND[:, 0], phi_ND[:, 1], atol=1e-12)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_several_outputs(explainer: Explainer) -> None:
    """Every output is explained as if it were the only one, within the errors where all decide who comes first."""
    pair = Formula(lambda x: np.stack([interacting(x), additive(x)], axis=1), label_headers=("a", "b"))
    attributions = explain(explainer, pair)
    assert attributions.labels == ("a", "b")
    for i, function in enumerate((interacting, additive)):
        alone = explain(explainer, Formula(function))
        tolerance_ND = 1e-12 + (explainer == EXPLAINERS["kernel"]) * np.sqrt(between([alone, alone]))[:, :, 0]
        assert (abs(attributions.phi_NDL[:, :, i] - alone.phi_NDL[:, :, 0]) <= tolerance_ND).all()


def probability(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return probabilities, in which explainers may look for log-odds that add up."""
    return np.asarray(1 / (1 + np.exp(-interacting(features) / 10)))


FORMULAS = pytest.mark.parametrize("formula", [interacting, probability], ids=["amounts", "probabilities"])


@FORMULAS
@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
@pytest.mark.parametrize("batch", [1, 7, 40, 10_000])
def test_batches_change_nothing(explainer: Explainer, batch: int, formula: Function) -> None:
    """The same bits come out whatever number of rows goes to the model at a time, and no call is larger."""
    model = Formula(formula)
    attributions = explain(explainer, model, max_batch_rows=batch)
    assert attributions.phi_NDL.tobytes() == explain(explainer, Formula(formula), max_batch_rows=500).phi_NDL.tobytes()
    assert max(model.batches) <= batch
    assert sum(model.batches) == attributions.evaluations


@FORMULAS
@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
@pytest.mark.parametrize("order", [[5, 0, 11, 5], [7]])
def test_order_and_company_change_nothing(explainer: Explainer, order: list[int], formula: Function) -> None:
    """A record has the same attributions to the bit in another order, among other records and alone."""
    whole = explain(explainer, Formula(formula), max_batch_rows=500).phi_NDL
    some = explain(explainer, Formula(formula), max_batch_rows=500, features=FEATURES[order]).phi_NDL
    assert some.tobytes() == whole[order].tobytes()


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
@pytest.mark.parametrize("batch", [1, 9, 10_000])
@pytest.mark.parametrize("groups", [{}, {"two": ("f1", "f4")}], ids=["single", "grouped"])
def test_features_equal_to_the_background(explainer: Explainer, batch: int, groups: dict[str, tuple[str, ...]]) -> None:
    """However many there are, calls are as planned, sums right, and neither batches nor company change a bit."""
    values_ND, same_ND = FEATURES.to_numpy().copy(), np.random.default_rng(1).random(FEATURES.shape) < 0.4
    values_ND[same_ND] = np.broadcast_to(BACKGROUND.to_numpy()[0], FEATURES.shape)[same_ND]
    features = pl.DataFrame(values_ND, schema=FEATURES.columns)
    model, estimator = (
        Formula(interacting),
        make_estimator(explainer, max_batch_rows=batch, groups=groups),
    )
    found = estimator.explain(model, features, BACKGROUND, untracked)
    assert sum(model.batches) == found.evaluations == estimator.evaluations(model, features, BACKGROUND)
    assert max(model.batches) <= batch
    assert found.residual < 1e-9
    whole = replace(estimator, max_batch_rows=64)
    alone = [whole.explain(Formula(interacting), features[n], BACKGROUND, untracked).phi_NDL[0] for n in range(4)]
    assert found.phi_NDL[:4].tobytes() == np.stack(alone).tobytes()


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_inputs_stay_untouched(explainer: Explainer) -> None:
    """Neither the records nor the background change."""
    features, background = FEATURES.clone(), BACKGROUND.clone()
    explain(explainer, Formula(interacting))
    assert features.equals(FEATURES)
    assert background.equals(BACKGROUND)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_a_record_like_the_background_has_no_attributions(explainer: Explainer) -> None:
    """Where nothing differs from the background, nothing is attributed."""
    attributions = explain(explainer, Formula(interacting), features=BACKGROUND[:1], background=BACKGROUND[:1])
    np.testing.assert_allclose(attributions.phi_NDL, 0, atol=1e-12)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
@pytest.mark.parametrize("width", [1, 2, 3])
def test_few_features(explainer: Explainer, width: int) -> None:
    """One, two or three features are explained like any other number."""
    features, background = FEATURES[:, :width], BACKGROUND[:, :width]
    attributions = explain(explainer, Formula(additive), features=features, background=background)
    expected = (features.to_numpy() - background.to_numpy().mean(axis=0)) * np.arange(1, width + 1)
    np.testing.assert_allclose(attributions.phi_NDL[:, :, 0], expected, atol=1e-12)


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_log_odds(explainer: Explainer) -> None:
    """With use_logit a logistic model is additive: φ is weight times difference, in log-odds."""
    model = Formula(lambda x: 1 / (1 + np.exp(-additive(x) / 10)))
    attributions = explain(explainer, model, use_logit=True)
    expected = (FEATURES.to_numpy() - BACKGROUND.to_numpy().mean(axis=0)) * np.arange(1, 7) / 10
    np.testing.assert_allclose(attributions.phi_NDL[:, :, 0], expected, atol=1e-9)


@pytest.mark.parametrize("explainer", FULL_BUDGET.values(), ids=FULL_BUDGET)
def test_full_budget_has_no_error(explainer: Explainer) -> None:
    """With every coalition affordable, the standard errors are 0."""
    errors = explain(explainer, Formula(interacting)).errors
    assert errors
    assert not errors.local_L.any()
    assert not errors.global_DL.any()


@pytest.mark.parametrize("explainer", EXPLAINERS.values(), ids=EXPLAINERS)
def test_errors_are_told_by_label(explainer: Explainer) -> None:
    """Each output has about those it would have alone; an additive one has none, an exact explainer none at all."""
    pair = Formula(lambda x: np.stack([interacting(x), additive(x)], axis=1), label_headers=("a", "b"))
    errors, alone = explain(explainer, pair).errors, explain(explainer, Formula(interacting)).errors
    assert errors
    assert alone
    about = 0.5 * (explainer == EXPLAINERS["kernel"])
    np.testing.assert_allclose(errors.local_L, [alone.local_L[0], 0], rtol=about, atol=1e-12)
    np.testing.assert_allclose(errors.global_DL[:, 0], alone.global_DL[:, 0], rtol=about, atol=1e-12)
    assert (errors.local_L[0] > 1e-3) == (errors.global_DL[:, 0] > 1e-3).all() == (explainer != EXPLAINERS["exact"])
