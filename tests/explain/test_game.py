"""The masking game: rows that keep every value's type on the way to the model."""

from __future__ import annotations

import numpy as np
import polars as pl

from runner.errors import ExplainerError
from runner.explain.explainers.exact import Exact
from runner.explain.game import logit, sigmoid
from tests.builders import explain
from tests.formula_models import Formula
from tests.golden import Golden


def test_every_type_reaches_the_model() -> None:
    """Texts, integers, booleans, floats and nulls are swapped whole; the model sees columns of the same types."""
    features = pl.DataFrame(
        {"t": ["x", "ü<&"], "i": [1, 2**60], "b": [True, False], "f": [0.5, None], "n": [None, None]}
    )
    background = pl.DataFrame({"t": ["base"], "i": [7], "b": [False], "f": [1.5], "n": [None]})
    seen: list[pl.DataFrame] = []

    def remember(rows: pl.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        seen.append(rows)
        return (rows["t"] == "base").to_numpy().astype(float)

    explain(Exact(), Formula(remember), features=features, background=background)
    rows = pl.concat(seen)
    assert [str(dtype) for dtype in rows.dtypes] == ["String", "Int64", "Boolean", "Float64", "Null"]
    assert set(rows["i"].to_list()) == {1, 2**60, 7}
    assert set(rows["t"].to_list()) == {"x", "ü<&", "base"}
    assert set(rows["f"].to_list()) == {0.5, None, 1.5}


def test_a_repeated_record_costs_nothing() -> None:
    """Records that occur again are not sent to the model again."""
    features = pl.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    background = pl.DataFrame({"x": [0.0], "y": [0.0]})
    once, thrice = Formula(lambda rows: rows["x"].to_numpy()), Formula(lambda rows: rows["x"].to_numpy())
    explain(Exact(), once, features=features, background=background)
    repeated = explain(Exact(), thrice, features=pl.concat([features] * 3), background=background)
    assert sum(thrice.batches) == sum(once.batches)
    assert repeated.phi_NDL.shape == (6, 2, 1)


def test_logit_and_back() -> None:
    """Log-odds invert to the probabilities they came from, and 0 and 1 stay finite."""
    probabilities = np.array([1e-9, 0.25, 0.5, 0.999])
    np.testing.assert_allclose(sigmoid(logit(probabilities)), probabilities)
    np.testing.assert_allclose(logit(np.array([0.0, 1.0])), [-np.log(1e12), np.log(1e12)], rtol=1e-4)


def test_logit_needs_probabilities(golden: Golden) -> None:
    """A score outside [0, 1] has no log-odds, and the error says which setting to change."""
    with golden.raises(ExplainerError) as caught:
        logit(np.array([0.3, 1.5]))
    assert "shap.use_logit" in str(caught.value)
