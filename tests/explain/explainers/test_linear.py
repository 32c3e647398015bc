"""The closed form for additive models, against enumeration."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from runner.errors import ExplainerError
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.linear import LinearExplainer
from tests.builders import explain, linear_model
from tests.formula_models import AdditiveFormula, Formula, additive
from tests.golden import Golden

FEATURES = pl.DataFrame(
    {
        "age": [23, 40, None, 67],
        "rate": [0.5, -2.0, 1.25, 0.0],
        "member": [True, False, True, None],
        "region": ["north", "south", "nowhere", None],
    }
)
BACKGROUND = pl.DataFrame(
    {"age": [30, 50], "rate": [0.0, 1.0], "member": [False, True], "region": ["north", "south"]}, strict=False
)


@pytest.mark.parametrize("groups", [{}, {"person": ("age", "member")}], ids=["single", "grouped"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("link", "use_logit"), [("identity", False), ("logistic", False), ("logistic", True)])
def test_values_match_enumeration(link: str, use_logit: bool, outputs: int, groups: dict[str, tuple[str, ...]]) -> None:
    """Only the records and the background are sent to the model."""
    closed, exact = (
        explain(explainer, linear_model(link, outputs), FEATURES, BACKGROUND, use_logit=use_logit, groups=groups)
        for explainer in (LinearExplainer(), Exact())
    )
    assert closed.names == exact.names
    np.testing.assert_allclose(closed.phi_NDL, exact.phi_NDL, atol=1e-6)
    assert closed.residual < 1e-9
    assert closed.evaluations == 6
    assert closed.error_NDL is not None
    assert not closed.error_NDL.any()


def test_models_that_are_not_additive_are_rejected(golden: Golden) -> None:
    """For example softmax; the error contains an alternative."""
    with golden.raises(ExplainerError) as unknown:
        explain(LinearExplainer(), Formula(additive))
    with golden.raises(ExplainerError) as softmax:
        explain(LinearExplainer(), linear_model("softmax", 2), FEATURES, BACKGROUND)
    assert all("shap.explainer=kernel" in str(caught.value) for caught in (unknown, softmax))


def test_terms_that_do_not_add_up_to_the_scores_are_rejected(golden: Golden) -> None:
    """The terms of this model are its features, its scores are weighted sums."""
    with golden.raises(ExplainerError):
        explain(LinearExplainer(), AdditiveFormula(additive))


def test_regressions_are_not_additive_in_log_odds(golden: Golden) -> None:
    """Even if their scores are between 0 and 1."""
    features, model = pl.DataFrame({"f0": [0.1, 0.2]}), AdditiveFormula(lambda x: x["f0"].to_numpy())
    with golden.raises(ExplainerError):
        explain(LinearExplainer(), model, features, features[:1], use_logit=True)
