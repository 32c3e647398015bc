"""The closed form of models that add up, against enumeration."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize(("link", "use_logit"), [("identity", False), ("logistic", False), ("logistic", True)])
def test_it_is_what_enumeration_finds(link: str, use_logit: bool, outputs: int) -> None:
    """Without asking for a coalition: the only rows sent are the records and the background."""
    given: dict[str, Any] = {"features": FEATURES, "background": BACKGROUND, "use_logit": use_logit}
    found = explain(LinearExplainer(), linear_model(link, outputs), **given)
    truth = explain(Exact(), linear_model(link, outputs), **given)
    np.testing.assert_allclose(found.phi_NDL, truth.phi_NDL, atol=1e-6)
    assert found.residual < 1e-9
    assert found.evaluations == 6
    assert found.error_NDL is not None
    assert not found.error_NDL.any()


def test_other_models_are_refused(golden: Golden) -> None:
    """A softmax, and whatever is not known to add up, in a sentence that names the way out."""
    with golden.raises(ExplainerError) as unknown:
        explain(LinearExplainer(), Formula(additive))
    with golden.raises(ExplainerError) as softmax:
        explain(LinearExplainer(), linear_model("softmax", 2), features=FEATURES, background=BACKGROUND)
    assert all("shap.explainer=kernel" in str(caught.value) for caught in (unknown, softmax))


def test_terms_that_do_not_give_the_scores_are_refused(golden: Golden) -> None:
    """What is explained is what the model answers."""
    with golden.raises(ExplainerError):
        explain(LinearExplainer(), AdditiveFormula(additive))


def test_log_odds_of_regressions_are_not_linear(golden: Golden) -> None:
    """A sum that happens to lie between 0 and 1 has no additive log-odds."""
    features = pl.DataFrame({"f0": [0.1, 0.2]})
    with golden.raises(ExplainerError):
        explain(
            LinearExplainer(),
            AdditiveFormula(lambda x: x["f0"].to_numpy()),
            features=features,
            background=features[:1],
            use_logit=True,
        )
