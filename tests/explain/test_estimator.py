"""The estimator and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from runner.explain.estimator import EstimatorSettings
from runner.explain.explainers import EXPLAINERS, Explainer, ExplainerName
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, Kernel
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.explainers.tree import TreeExplainer
from runner.explain.task import Aggregation
from tests.builders import FEATURES, explain, make_estimator
from tests.conftest import SERIAL
from tests.formula_models import AdditiveFormula, Formula, additive, interacting

SETTINGS: dict[str, Any] = {
    "explainer": "kernel",
    "compat": None,
    "num_clusters": None,
    "num_samples": 40,
    "seed": 3,
    "agg_method": "mean_abs",
    "use_logit": False,
    "max_batch_rows": 64,
    "groups": {"pair": ["f0", "f1"]},
}


def estimator_settings(**changes: Any) -> EstimatorSettings:
    """Return validated settings."""
    return TypeAdapter(EstimatorSettings).validate_python({**SETTINGS, **changes})


def test_each_explainer_has_a_name() -> None:
    """The names are those of the registry, and auto."""
    assert get_args(ExplainerName) == ("auto", *EXPLAINERS)


@pytest.mark.parametrize("kind", [*EXPLAINERS.values(), Clarify])
def test_fields_of_explainers_are_settings(kind: type[Explainer]) -> None:
    """So that settings can be passed on by name."""
    assert {field.name for field in fields(kind)} <= SETTINGS.keys()


@pytest.mark.parametrize(
    ("changes", "is_additive", "expected"),
    [
        ({}, False, Kernel(40, 3)),
        ({"compat": "clarify"}, True, Clarify(40, 3)),
        ({"explainer": "exact", "compat": "clarify"}, False, Exact()),
        ({"explainer": "linear"}, False, LinearExplainer()),
        ({"explainer": "tree"}, False, TreeExplainer()),
        ({"explainer": "auto"}, False, Kernel(40, 3)),
        ({"explainer": "auto", "compat": "clarify"}, False, Clarify(40, 3)),
        ({"explainer": "auto", "compat": "clarify"}, True, LinearExplainer()),
    ],
)
def test_settings_select_the_explainer(changes: dict[str, Any], is_additive: bool, expected: Explainer) -> None:
    """With auto, it depends on the model."""
    model = AdditiveFormula(additive) if is_additive else Formula(additive)
    estimator = estimator_settings(**changes).estimator(model, SERIAL)
    assert estimator.explainer == expected
    assert (estimator.agg_method, estimator.groups) == (Aggregation.MEAN_ABS, {"pair": ("f0", "f1")})


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"explainer": "shapley", "seed": -1}, {"explainer", "seed"}),
        ({"num_samples": 0, "max_batch_rows": True}, {"num_samples", "max_batch_rows"}),
        ({"groups": {"pair": []}}, {"groups"}),
        ({"groups": {"": ["f0"]}}, {"groups"}),
        ({"samples": 5}, {"samples"}),
    ],
)
def test_all_invalid_settings_are_found(changes: dict[str, Any], keys: set[str]) -> None:
    """One validation reports every key."""
    with pytest.raises(ValidationError) as caught:
        estimator_settings(**changes)
    assert {error["loc"][0] for error in caught.value.errors()} == keys


@pytest.mark.parametrize("parts", [(slice(0, 5), slice(5, 12))])
def test_attributions_of_parts_can_be_joined(parts: Sequence[slice]) -> None:
    """They are those of the whole, except for rounding in errors."""
    estimator = make_estimator(Kernel(40, 3))
    whole = explain(Kernel(40, 3), Formula(interacting))
    joined = None
    for part in parts:
        joined = estimator.join(joined, explain(Kernel(40, 3), Formula(interacting), FEATURES[part]))
    assert joined
    assert joined.phi_NDL.tobytes() == whole.phi_NDL.tobytes()
    assert joined.errors
    assert whole.errors
    np.testing.assert_allclose(joined.errors.global_DL, whole.errors.global_DL)
