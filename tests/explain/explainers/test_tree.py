"""TreeSHAP values of tree models, against their definition."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.explainers.tree import QUANTITY, TreeExplainer
from runner.models.lightgbm import Lightgbm
from runner.models.xgboost import Xgboost
from runner.protocols import Model
from tests.builders import make_estimator
from tests.conftest import untracked
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.models.trees import FEATURES, NAMES, booster, lightgbm_file, xgboost_file

SETTINGS: dict[str, Any] = {"columns": None, "label_headers": None, "deploy": None}
ESTIMATOR = make_estimator(TreeExplainer(), use_logit=True)
RECORDS, BACKGROUND = FEATURES[:40], FEATURES[:1]


@pytest.fixture(params=["xgboost", "lightgbm"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    """Boosted trees of either library, from a file."""
    if request.param == "xgboost":
        return Xgboost(kind="xgboost", artifact=xgboost_file(tmp_path), **SETTINGS)
    return Lightgbm(kind="lightgbm", artifact=lightgbm_file(tmp_path), **SETTINGS)


def expected_output(node: dict[str, Any], record: dict[str, float | None], known: set[str]) -> float:
    """Return the expected output of a tree given some features; splits on others are weighted by training records."""
    if "leaf" in node:
        return float(node["leaf"])
    children = {child["nodeid"]: child for child in node["children"]}
    if node["split"] not in known:
        covers = [child["cover"] for child in node["children"]]
        outputs = [expected_output(child, record, known) for child in node["children"]]
        return float(np.dot(covers, outputs) / sum(covers))
    value = record[node["split"]]
    branch = "missing" if value is None else "yes" if np.float32(value) < np.float32(node["split_condition"]) else "no"
    return expected_output(children[node[branch]], record, known)


def test_values_match_the_definition(tmp_path: Path) -> None:
    """φ is the mean gain of knowing a feature over all orders of the features."""
    model = Xgboost(kind="xgboost", artifact=xgboost_file(tmp_path), **SETTINGS)
    found = ESTIMATOR.explain(model, RECORDS[:3], BACKGROUND, untracked)
    trees = [json.loads(tree) for tree in booster().get_dump(with_stats=True, dump_format="json")]
    for n, record in enumerate(RECORDS[:3].iter_rows(named=True)):
        phi = dict.fromkeys(NAMES, 0.0)
        orders = list(permutations(NAMES))
        for order in orders:
            before = sum(expected_output(tree, record, set()) for tree in trees)
            for i, name in enumerate(order):
                after = sum(expected_output(tree, record, {*order[: i + 1]}) for tree in trees)
                phi[name] += (after - before) / len(orders)
                before = after
        np.testing.assert_allclose(found.phi_NDL[n, :, 0], list(phi.values()), atol=1e-4)


def test_values_add_up_to_the_margin(model: Model) -> None:
    """In log-odds. Each record is sent for its score and for its TreeSHAP values."""
    found = ESTIMATOR.explain(model, RECORDS, BACKGROUND, untracked)
    assert found.residual < 1e-9
    np.testing.assert_allclose(1 / (1 + np.exp(-found.scores_NL)), model.predict(RECORDS), atol=1e-5)
    assert found.evaluations == ESTIMATOR.evaluations(model, RECORDS, BACKGROUND) == 80
    assert ESTIMATOR.settings["quantity"] == QUANTITY
    assert found.errors
    assert not found.errors.global_DL.any()


def test_values_follow_the_order_of_features(model: Model) -> None:
    """A feature has the same values in any column."""
    order = ["gain", "age", "years", "hours"]
    found = ESTIMATOR.explain(model, RECORDS.select(order), BACKGROUND.select(order), untracked)
    expected = ESTIMATOR.explain(model, RECORDS, BACKGROUND, untracked)
    np.testing.assert_array_equal(found.phi_NDL, expected.phi_NDL[:, [NAMES.index(name) for name in order]])


def test_a_group_has_the_sum_of_its_features(model: Model) -> None:
    """TreeSHAP values of features are added."""
    groups = {"person": ("age", "years")}
    found = make_estimator(TreeExplainer(), use_logit=True, groups=groups).explain(
        model, RECORDS, BACKGROUND, untracked
    )
    single = ESTIMATOR.explain(model, RECORDS, BACKGROUND, untracked)
    members = [single.names.index(name) for name in groups["person"]]
    person_N = found.phi_NDL[:, found.names.index("person"), 0]
    np.testing.assert_allclose(person_N, single.phi_NDL[:, members, 0].sum(axis=1))


def test_probabilities_are_rejected(model: Model, golden: Golden) -> None:
    """The margin of these models is in log-odds."""
    with golden.raises(ExplainerError) as caught:
        make_estimator(TreeExplainer()).explain(model, RECORDS, BACKGROUND, untracked)
    assert "shap.use_logit=true" in str(caught.value)


def test_other_models_are_rejected(golden: Golden) -> None:
    """The error contains the supported models."""
    features = pl.DataFrame({"x": [1.0]})
    with golden.raises(ExplainerError) as caught:
        ESTIMATOR.explain(Formula(additive), features, features, untracked)
    assert "shap.explainer=tree" in str(caught.value)


def test_several_outputs_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """As well as objectives with another link function."""
    model = Xgboost(kind="xgboost", artifact=xgboost_file(tmp_path), **{**SETTINGS, "columns": (0,)})
    with golden.raises(ExplainerError):
        ESTIMATOR.explain(model, RECORDS, BACKGROUND, untracked)
