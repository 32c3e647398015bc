"""The check before expensive work: rows sent to the model, and models or backgrounds that are rejected."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from runner.errors import BackgroundError, ExplainerError, ModelAnswerError
from runner.explain.preflight import parity, preflight
from tests.formula_models import Formula, additive
from tests.golden import Golden

FEATURES = pl.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 5.0], "y": [0.0, 0.0, 1.0, 0.0, 2.0]})
BACKGROUND = pl.DataFrame({"x": [1], "y": [1]})


def test_three_records_and_the_background_are_sent() -> None:
    """The first, middle and last record; the result is about these rows only."""
    model = Formula(additive)
    captured_NL = additive(FEATURES)[:, None] + np.array([[0.0], [9.0], [0.25], [9.0], [0.5]])
    found = preflight(model, FEATURES, BACKGROUND, False, captured_NL)
    assert model.batches == [3, 1]
    assert (found.rows, found.outputs, found.lowest, found.highest, found.parity) == (4, 1, 1.0, 9.0, 0.5)


@pytest.mark.parametrize(("decimals", "tolerance"), [(2, 0.005), (4, 5e-5), (12, 0.0)])
def test_scores_that_the_service_rounds_are_the_same(decimals: int, tolerance: float) -> None:
    """The tolerance follows from the decimals of the captured scores; a setting replaces it."""
    scores_NL = np.random.default_rng(0).random((200, 1))
    found = parity(scores_NL.round(decimals), scores_NL)
    assert found is not None
    assert (found.same, found.differing) == (True, 0)
    assert found.tolerance == pytest.approx(tolerance, abs=1.1e-6)
    strict = parity(scores_NL.round(2), scores_NL, 1e-6)
    assert strict is not None
    assert (strict.same, strict.differing > 190) == (False, True)


@pytest.mark.parametrize(
    ("captured", "parity"),
    [(None, None), ([[np.nan]] * 5, None), ([[1.0, 2.0]] * 5, None), ([[1.0], [0.0], [np.nan], [0.0], [9.0]], 0.0)],
)
def test_parity_needs_captured_scores_of_the_same_outputs(captured: Any, parity: float | None) -> None:
    """Unknown scores and other numbers of outputs are not compared."""
    scores_NL = None if captured is None else np.array(captured)
    assert preflight(Formula(additive), FEATURES, BACKGROUND, False, scores_NL).parity == parity


def test_scores_in_another_order_are_an_error(golden: Golden) -> None:
    """Captured scores that the model returns for other records are noticed, also if records are repeated."""
    captured_NL = np.random.default_rng(1).normal(size=(60, 2))
    order = np.r_[0:20, 20:40:2, 21:40:2, 40:60]
    for repeats in (1, np.arange(60) % 3 + 1):
        scores_NL = captured_NL[order].repeat(repeats, axis=0)
        assert parity(scores_NL, scores_NL + 1e-9)
        with golden.raises(ModelAnswerError):
            parity(captured_NL.repeat(repeats, axis=0), scores_NL)


def test_other_scores_are_not_in_another_order() -> None:
    """A model whose scores differ, or that returns few different scores, is no endpoint that changes the order."""
    generator = np.random.default_rng(1)
    scores_NL = generator.normal(size=(60, 2))
    changed_NL = scores_NL[::-1].copy()
    changed_NL[7] += 0.01
    assert parity(scores_NL, changed_NL)
    classes_NL = generator.integers(0, 9, size=(60, 1)) / 9
    assert parity(classes_NL, classes_NL[::-1])
    assert parity(scores_NL[:2], scores_NL[1::-1])


def test_a_single_record_is_sent_once() -> None:
    """First, middle and last record are the same."""
    model = Formula(additive)
    preflight(model, FEATURES[:1], BACKGROUND, False)
    assert model.batches == [1, 1]


def reject_background(features: pl.DataFrame) -> Any:
    """Return sums, but raise an error for the background row."""
    if features["x"].to_list() == [1.0]:
        raise ModelAnswerError("500: no category 'mean'")
    return additive(features)


class OneDimensional(Formula):
    """A model that returns scores without a dimension for outputs."""

    def predict(self, features: pl.DataFrame) -> Any:
        """Return scores_N."""
        return self.function(features)


@pytest.mark.parametrize(
    ("model", "use_logit", "error"),
    [
        pytest.param(Formula(lambda x: x["x"].to_numpy() / 0), False, ModelAnswerError, id="infinite scores"),
        pytest.param(OneDimensional(additive), False, ModelAnswerError, id="wrong shape"),
        pytest.param(Formula(additive), True, ExplainerError, id="no probabilities"),
        pytest.param(Formula(reject_background), False, BackgroundError, id="rejected background"),
    ],
)
def test_models_that_cannot_be_explained_are_rejected(
    model: Formula, use_logit: bool, error: type[Exception], golden: Golden
) -> None:
    """Before any expensive work."""
    with np.errstate(divide="ignore"), golden.raises(error):
        preflight(model, FEATURES, BACKGROUND, use_logit)


def test_each_output_needs_one_name(golden: Golden) -> None:
    """Two names for one output are an error that contains the names."""

    class OneOutput(Formula):
        def predict(self, features: pl.DataFrame) -> Any:
            return self.function(features)[:, None]

    with golden.raises(ModelAnswerError) as caught:
        preflight(OneOutput(additive, ("no", "yes")), FEATURES, BACKGROUND, False)
    assert "model.label_headers" in str(caught.value)
