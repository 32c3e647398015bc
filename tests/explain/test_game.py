"""The masking game: types of values, log-odds, and players that are groups of features."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.errors import ExplainerError, ModelAnswerError
from runner.explain.explainers import Explainer
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, Kernel
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.game import MAX_SCORE, build_players, logit, predict_batches, sigmoid
from runner.explain.task import Aggregation, aggregate
from runner.models.linear import LinearModel
from tests.builders import BACKGROUND, FEATURES, explain
from tests.formula_models import Formula, additive, interacting
from tests.golden import Golden

GROUPS = {"first": ("f1", "f0"), "last": ("f5",)}
EXPLAINERS: list[Explainer] = [Exact(), Kernel(10**6, 0), Clarify(10**6, 0)]


def test_values_of_all_types_reach_the_model() -> None:
    """Strings, integers, booleans, floats and nulls are masked; the model gets columns of the same types."""
    features = pl.DataFrame(
        {"t": ["x", "ü<&"], "i": [1, 2**60], "b": [True, False], "f": [0.5, None], "n": [None, None]}
    )
    background = pl.DataFrame({"t": ["base"], "i": [7], "b": [False], "f": [1.5], "n": [None]})
    batches: list[pl.DataFrame] = []

    def record(rows: pl.DataFrame) -> NDArray[np.float64]:
        batches.append(rows)
        return (rows["t"] == "base").to_numpy().astype(float)

    explain(Exact(), Formula(record), features=features, background=background)
    rows = pl.concat(batches)
    assert [str(dtype) for dtype in rows.dtypes] == ["String", "Int64", "Boolean", "Float64", "Null"]
    assert set(rows["i"].to_list()) == {1, 2**60, 7}
    assert set(rows["t"].to_list()) == {"x", "ü<&", "base"}
    assert set(rows["f"].to_list()) == {0.5, None, 1.5}


def test_duplicates_need_no_model_calls() -> None:
    """A record that occurs three times is sent as often as one that occurs once."""
    features = pl.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    background = pl.DataFrame({"x": [0.0], "y": [0.0]})
    once, thrice = Formula(lambda rows: rows["x"].to_numpy()), Formula(lambda rows: rows["x"].to_numpy())
    explain(Exact(), once, features=features, background=background)
    repeated = explain(Exact(), thrice, features=pl.concat([features] * 3), background=background)
    assert sum(thrice.batches) == sum(once.batches)
    assert repeated.phi_NDL.shape == (6, 2, 1)


def test_sigmoid_inverts_logit() -> None:
    """0 and 1 have finite log-odds, as they are clipped by 1e-12."""
    probabilities = np.array([1e-9, 0.25, 0.5, 0.999])
    np.testing.assert_allclose(sigmoid(logit(probabilities)), probabilities)
    np.testing.assert_allclose(logit(np.array([0.0, 0.5, 1.0])), [-np.log(1e12), 0, np.log(1e12)], rtol=1e-4)


def test_logit_needs_probabilities(golden: Golden) -> None:
    """A score outside [0, 1] has no log-odds; the error contains the setting to change."""
    with golden.raises(ExplainerError) as caught:
        logit(np.array([0.3, 1.5]))
    assert "shap.use_logit" in str(caught.value)


def test_a_group_takes_the_place_of_its_first_feature() -> None:
    """All other features are players of their own."""
    players = build_players(FEATURES.columns, GROUPS)
    assert players.names == ("first", "f2", "f3", "f4", "last")
    assert players.player_D.tolist() == [0, 0, 1, 2, 3, 4]
    assert build_players(FEATURES.columns, {}).are_features


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=["exact", "kernel", "clarify"])
def test_a_group_is_one_player(explainer: Explainer) -> None:
    """Its φ is the mean gain of joining over all orders of the players."""
    model, row, background = Formula(interacting), FEATURES[:1], BACKGROUND[:1]
    found = explain(explainer, model, row, background, groups=GROUPS)
    players = build_players(FEATURES.columns, GROUPS)

    def value(coalition: set[int]) -> float:
        members = zip(FEATURES.columns, players.player_D, strict=True)
        own = [name for name, player in members if player in coalition]
        return float(model.predict(background.with_columns(row.select(own)) if own else background)[0, 0])

    phi_G = np.zeros(len(players.names))
    for order in permutations(range(len(players.names))):
        for i, g in enumerate(order):
            phi_G[g] += value({*order[: i + 1]}) - value({*order[:i]})
    np.testing.assert_allclose(found.phi_NDL[0, :, 0], phi_G / factorial(len(phi_G)), atol=1e-9)
    assert found.names == players.names
    assert found.residual < 1e-9


@pytest.mark.parametrize("explainer", [*EXPLAINERS, Kernel(20, 1)], ids=["exact", "kernel", "clarify", "sampled"])
def test_in_an_additive_model_a_group_has_the_sum_of_its_features(explainer: Explainer) -> None:
    """Without interactions, grouping only adds attributions."""
    single = explain(explainer, Formula(additive))
    grouped = explain(explainer, Formula(additive), groups=GROUPS)
    expected = build_players(FEATURES.columns, GROUPS).sum(single.phi_NDL)
    np.testing.assert_allclose(grouped.phi_NDL, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        pytest.param({"g": ("f9",)}, ["g", "f9"], id="unknown feature"),
        pytest.param({"g": ("f0",), "h": ("f0",)}, ["f0", "g", "h"], id="feature in two groups"),
        pytest.param({"f3": ("f0", "f1")}, ["f3"], id="name of a feature"),
    ],
)
def test_groups_that_do_not_fit_are_rejected(
    groups: dict[str, tuple[str, ...]], names: list[str], golden: Golden
) -> None:
    """The error contains the groups and features concerned."""
    with golden.raises(ExplainerError) as caught:
        build_players(FEATURES.columns, groups)
    assert all(repr(name) in str(caught.value) for name in names)


class Outputs(Formula):
    """A model whose number of outputs may differ between calls."""

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return the scores_NL of the function."""
        return self.function(features)


@pytest.mark.parametrize("rows", [2, 20])
@pytest.mark.parametrize("use_logit", [False, True])
@pytest.mark.parametrize("explainer", [Kernel(40, 0), Clarify(40, 0), Exact()], ids=["kernel", "clarify", "exact"])
def test_varying_number_of_outputs_is_an_error(explainer: Explainer, use_logit: bool, rows: int) -> None:
    """A model with another number of outputs for large batches is refused, whatever the explainer sends together."""
    model = Outputs(lambda features: np.full((features.height, 1 + (features.height > rows)), 0.5), label_headers=())
    with pytest.raises(ModelAnswerError, match="outputs"):
        explain(explainer, model, use_logit=use_logit)


def test_error_for_a_number_of_outputs_has_both_numbers(golden: Golden) -> None:
    """It contains the numbers of outputs and of rows."""
    model = Outputs(lambda features: np.ones((features.height, 2 if features.height == 5 else 1)))
    with golden.raises(ModelAnswerError):
        predict_batches(model, FEATURES[:10], use_logit=False, max_batch_rows=5, outputs=1)
    with golden.raises(ModelAnswerError):
        predict_batches(model, FEATURES[:8], use_logit=False, max_batch_rows=5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e51])
def test_scores_that_overflow_are_an_error(value: float, golden: Golden) -> None:
    """Scores that are not finite, or whose powers are not, are refused with their record."""
    with golden.raises(ModelAnswerError):
        explain(Kernel(40, 0), Formula(lambda features: np.where(features["f0"].to_numpy() > 0, value, 0)))


@pytest.mark.parametrize("method", list(Aggregation))
@pytest.mark.parametrize("explainer", [Kernel(20, 0), Clarify(20, 0), Exact()], ids=["kernel", "clarify", "exact"])
def test_largest_scores_have_finite_attributions(explainer: Explainer, method: Aggregation) -> None:
    """Sums, squares and standard errors of the largest scores are finite."""
    model = Formula(lambda features: MAX_SCORE * np.tanh(interacting(features)))
    found = explain(explainer, model, agg_method=method)
    assert np.isfinite(found.phi_NDL).all()
    assert np.isfinite(aggregate(found, method).values_DL).all()
    assert found.errors
    assert method == Aggregation.MEDIAN or np.isfinite(found.errors.global_DL).all()


@pytest.mark.parametrize("use_logit", [False, True])
@pytest.mark.parametrize("value", [1e90, 1e50])
def test_terms_that_overflow_are_an_error(value: float, use_logit: bool) -> None:
    """A feature that is too large after multiplication with its coefficient is refused, also if the score is 0 or 1."""
    model = LinearModel(
        kind="linear",
        link="logistic",
        intercept=(0.0,),
        coefficients={name: (1e10 if name == "f0" else 1.0,) for name in FEATURES.columns},
        label_headers=None,
        deploy=None,
    )
    features = FEATURES.with_columns(f0=pl.Series([1e-3, value] * 6))
    with np.errstate(over="ignore"), pytest.raises(ModelAnswerError):
        explain(LinearExplainer(), model, features, use_logit=use_logit)
