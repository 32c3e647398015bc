"""The contributions of trees, against the definition they claim, and in the order of the records' features."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.aggregate import Aggregation
from runner.explain.estimator import Estimator
from runner.explain.explainers.tree import QUANTITY, TreeExplainer
from runner.models.lightgbm import Lightgbm
from runner.models.xgboost import Xgboost
from runner.protocols import Model
from tests.conftest import HERE, untracked
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.models.trees import FEATURES, NAMES, booster, lightgbm_file, xgboost_file

SETTINGS: dict[str, Any] = {"columns": None, "label_headers": None, "deploy": None}
ESTIMATOR = Estimator(
    explainer=TreeExplainer(),
    agg_method=Aggregation.MEAN_ABS,
    use_logit=True,
    max_batch_rows=1000,
    groups={},
    engine=HERE,
)
SOME = FEATURES[:40]


@pytest.fixture(params=["xgboost", "lightgbm"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """Boosted trees of either library, from a file."""
    if request.param == "xgboost":
        return Xgboost(kind="xgboost", artifact=xgboost_file(tmp_path), **SETTINGS)
    return Lightgbm(kind="lightgbm", artifact=lightgbm_file(tmp_path), **SETTINGS)


def expected(node: dict[str, Any], record: dict[str, float | None], known: set[str]) -> float:
    """Return what a tree makes of some known features; at others it goes both ways, as many as its data did."""
    if "leaf" in node:
        return float(node["leaf"])
    children = {child["nodeid"]: child for child in node["children"]}
    if node["split"] not in known:
        covers = [child["cover"] for child in node["children"]]
        values = [expected(child, record, known) for child in node["children"]]
        return float(np.dot(covers, values) / sum(covers))
    value = record[node["split"]]
    way = "missing" if value is None else "yes" if np.float32(value) < np.float32(node["split_condition"]) else "no"
    return expected(children[node[way]], record, known)


def test_they_are_shapley_values_of_the_trees_expectations(tmp_path: Path) -> None:
    """By the definition: the mean gain of becoming known over all orders of the features."""
    model = Xgboost(kind="xgboost", artifact=xgboost_file(tmp_path), **SETTINGS)
    found = ESTIMATOR.explain(model, SOME[:3], SOME[:1], untracked)
    trees = [json.loads(tree) for tree in booster().get_dump(with_stats=True, dump_format="json")]
    for n, record in enumerate(SOME[:3].iter_rows(named=True)):
        phi = dict.fromkeys(NAMES, 0.0)
        orders = list(permutations(NAMES))
        for order in orders:
            before = sum(expected(tree, record, set()) for tree in trees)
            for place, name in enumerate(order):
                after = sum(expected(tree, record, {*order[: place + 1]}) for tree in trees)
                phi[name] += (after - before) / len(orders)
                before = after
        np.testing.assert_allclose(found.phi_NDL[n, :, 0], list(phi.values()), atol=1e-4)


def test_they_add_up_to_the_margin_the_model_answers(model: Model) -> None:
    """In log-odds, with the mean of the training data as the base; each record is sent for scores and contributions."""
    found = ESTIMATOR.explain(model, SOME, SOME[:1], untracked)
    assert found.residual < 1e-9
    np.testing.assert_allclose(1 / (1 + np.exp(-found.scores_NL)), model.predict(SOME), atol=1e-5)
    assert found.evaluations == ESTIMATOR.evaluations(model, SOME, SOME[:1]) == 80
    assert ESTIMATOR.settings["quantity"] == QUANTITY
    assert found.errors
    assert not found.errors.global_DL.any()


def test_they_follow_the_records_order_of_features(model: Model) -> None:
    """The same contributions under the same names."""
    order = ["gain", "age", "years", "hours"]
    found = ESTIMATOR.explain(model, SOME.select(order), SOME[:1].select(order), untracked)
    straight = ESTIMATOR.explain(model, SOME, SOME[:1], untracked)
    places = [NAMES.index(name) for name in order]
    np.testing.assert_array_equal(found.phi_NDL, straight.phi_NDL[:, places])


def test_probabilities_are_another_quantity(model: Model, golden: Golden) -> None:
    """They have to be asked for as log-odds."""
    with golden.raises(ExplainerError) as caught:
        Estimator(
            explainer=TreeExplainer(),
            agg_method=Aggregation.MEAN_ABS,
            use_logit=False,
            max_batch_rows=1000,
            groups={},
            engine=HERE,
        ).explain(model, SOME, SOME[:1], untracked)
    assert "shap.use_logit=true" in str(caught.value)


def test_other_models_have_none(golden: Golden) -> None:
    """And the error names what has."""
    features = pl.DataFrame({"x": [1.0]})
    with golden.raises(ExplainerError) as caught:
        ESTIMATOR.explain(Formula(additive), features, features, untracked)
    assert "shap.explainer=tree" in str(caught.value)


def test_several_outputs_are_refused(tmp_path: Path, golden: Golden) -> None:
    """As is any objective whose link is another one."""
    model = Xgboost(kind="xgboost", artifact=xgboost_file(tmp_path), **{**SETTINGS, "columns": (0,)})
    with golden.raises(ExplainerError):
        ESTIMATOR.explain(model, SOME, SOME[:1], untracked)
