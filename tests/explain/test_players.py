"""Groups of features that play as one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from math import factorial

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.aggregate import Aggregation
from runner.explain.estimator import Estimator
from runner.explain.explainers import Explainer
from runner.explain.explainers.clarify import Clarify
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.game import build_players
from tests.builders import BACKGROUND, FEATURES, linear_model
from tests.conftest import HERE, untracked
from tests.formula_models import Formula, additive, interacting
from tests.golden import Golden

GROUPS = {"first": ("f1", "f0"), "last": ("f5",)}
EXPLAINERS: list[Explainer] = [Exact(), Kernel(10**6, 0), Clarify(10**6, 0)]


def grouped(explainer: Explainer) -> Estimator:
    """Return an estimator with groups."""
    return Estimator(
        explainer=explainer,
        agg_method=Aggregation.MEAN_ABS,
        use_logit=False,
        max_batch_rows=100,
        groups=GROUPS,
        engine=HERE,
    )


def test_groups_stand_where_their_first_feature_does() -> None:
    """All other features play by themselves."""
    players = build_players(FEATURES.columns, GROUPS)
    assert players.names == ("first", "f2", "f3", "f4", "last")
    assert players.player_D.tolist() == [0, 0, 1, 2, 3, 4]
    assert build_players(FEATURES.columns, {}).are_features


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=["exact", "kernel", "clarify"])
def test_a_group_joins_as_one(explainer: Explainer) -> None:
    """Its φ is the mean gain of joining over all orders of the players."""
    model, row, background = Formula(interacting), FEATURES[:1], BACKGROUND[:1]
    found = grouped(explainer).explain(model, row, background, untracked)
    players = build_players(FEATURES.columns, GROUPS)

    def value(coalition: set[int]) -> float:
        own = [name for name, player in zip(FEATURES.columns, players.player_D, strict=True) if player in coalition]
        return float(model.predict(background.with_columns(row.select(own)) if own else background)[0, 0])

    phi_G = np.zeros(len(players.names))
    for order in permutations(range(len(players.names))):
        for place, g in enumerate(order):
            phi_G[g] += value({*order[: place + 1]}) - value({*order[:place]})
    np.testing.assert_allclose(found.phi_NDL[0, :, 0], phi_G / factorial(len(phi_G)), atol=1e-9)
    assert found.names == players.names
    assert found.residual < 1e-9


@pytest.mark.parametrize("explainer", [*EXPLAINERS, Kernel(20, 1)], ids=["exact", "kernel", "clarify", "some"])
def test_groups_add_up_where_features_do(explainer: Explainer) -> None:
    """Without interactions a group has what its features have together."""
    single = replace(grouped(explainer), groups={}).explain(Formula(additive), FEATURES, BACKGROUND, untracked)
    found = grouped(explainer).explain(Formula(additive), FEATURES, BACKGROUND, untracked)
    together = build_players(FEATURES.columns, GROUPS).sum(single.phi_NDL)
    np.testing.assert_allclose(found.phi_NDL, together, atol=1e-9)


def test_closed_forms_know_groups() -> None:
    """They agree with enumeration."""
    features = pl.DataFrame({"age": [23, 40], "rate": [0.5, -2.0], "member": [True, False], "region": ["north", "x"]})
    background = pl.DataFrame({"age": [30], "rate": [0.0], "member": [False], "region": ["south"]})
    closed, truth = (
        Estimator(
            explainer=explainer,
            agg_method=Aggregation.MEAN_ABS,
            use_logit=False,
            max_batch_rows=100,
            groups={"person": ("age", "member")},
            engine=HERE,
        ).explain(linear_model("logistic"), features, background, untracked)
        for explainer in (LinearExplainer(), Exact())
    )
    assert closed.names == truth.names == ("person", "rate", "region")
    np.testing.assert_allclose(closed.phi_NDL, truth.phi_NDL, atol=1e-6)


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        pytest.param({"g": ("f9",)}, ["g", "f9"], id="unknown feature"),
        pytest.param({"g": ("f0",), "h": ("f0",)}, ["f0", "g", "h"], id="feature in two groups"),
        pytest.param({"f3": ("f0", "f1")}, ["f3"], id="name of a feature"),
    ],
)
def test_groups_that_do_not_fit_are_refused(
    groups: dict[str, tuple[str, ...]], named: list[str], golden: Golden
) -> None:
    """The error names the groups and features at fault."""
    with golden.raises(ExplainerError) as caught:
        build_players(FEATURES.columns, groups)
    assert all(repr(name) in str(caught.value) for name in named)
