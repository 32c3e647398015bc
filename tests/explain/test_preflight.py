"""Checks before expensive work: rows sent to the model, and models, backgrounds and records that are rejected."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.attributions import Additive
from runner.errors import (
    BackgroundError,
    EndpointError,
    ExplainerError,
    ModelAnswerError,
    ModelInputError,
    RequestRejected,
)
from runner.explain.game import MAX_SCORE
from runner.explain.preflight import MAX_PROBES, PART_ROWS, Screening, parity, preflight
from runner.protocols import Model
from tests.formula_models import AdditiveFormula, Formula, additive
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


ERROR = ModelInputError("linear", "x", None, "numbers")


class Picky(Formula):
    """A model that rejects some values of x, with or without the index of the record."""

    def __init__(self, bad: Collection[int], named: bool = False, status: int | None = None) -> None:
        super().__init__(lambda features: features["x"].to_numpy().astype(float))
        self.bad, self.named, self.status = bad, named, status

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return x, or raise an error."""
        scores_NL = super().predict(features)
        found = [i for i, x in enumerate(features["x"]) if x in self.bad]
        if found and self.status:
            raise EndpointError("http://host", self.status, "down", "wait")
        if found and self.named:
            raise RequestRejected("http://host", 400, "no", "correct it", found[-1])
        if found:
            raise ModelInputError("picky", "x", features["x"][found[0]], "other values")
        return scores_NL


def screening(
    model: Model, count: int, allowed: float = 0.05, events: NDArray[np.intp] | None = None, values: object = None
) -> Screening:
    """Return the search among records whose feature x is their index."""
    order_N = np.random.default_rng(0).permutation(count)
    features = pl.DataFrame({"x": range(count) if values is None else values})
    return Screening(model, features, np.arange(count) if events is None else events, order_N, allowed)


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("bad", [[0], [4_999], [17, 18, 19, 3_000], range(1_000, 1_100)])
def test_rejected_records_are_found_in_few_calls(bad: Collection[int], named: bool) -> None:
    """Exactly these records are found; each costs a few calls, and the others one call per part."""
    model = Picky(bad, named)
    found = screening(model, 5_000).rejected(ERROR)
    assert sorted(found) == list(bad)
    assert all(isinstance(error, RequestRejected if named else ModelInputError) for error in found.values())
    each = 2 if named else 2 * (PART_ROWS.bit_length() + 1)
    assert len(model.batches) - 2 * MAX_PROBES <= -(-5_000 // PART_ROWS) + each * len(bad)


@pytest.mark.parametrize("count", [1, 3, 10_000])
@pytest.mark.parametrize("allowed", [0.0, 0.05, 1.0])
def test_wrong_settings_cost_few_calls(count: int, allowed: float) -> None:
    """If the model rejects everything, the error for all records is raised after few calls."""
    model = Picky(range(count))
    with pytest.raises(ModelInputError) as caught:
        screening(model, count, allowed).rejected(ERROR)
    assert caught.value is ERROR
    assert len(model.batches) <= 2 * MAX_PROBES


def test_too_many_rejected_records_are_the_error_for_all() -> None:
    """The limit is exact, and many more than it are recognized early."""
    for count, allowed in ((50, True), (51, False)):
        model = Picky(range(count))
        if allowed:
            assert len(screening(model, 1_000).rejected(ERROR)) == count
        else:
            with pytest.raises(ModelInputError):
                screening(model, 1_000).rejected(ERROR)
    model = Picky(range(0, 100_000, 2))
    with pytest.raises(ModelInputError):
        screening(model, 100_000).rejected(ERROR)
    assert len(model.batches) <= 2 * MAX_PROBES


def test_event_with_many_rejected_records_is_one_event() -> None:
    """One request with 900 rejected records among 100 requests is 1 % of them."""
    events = np.r_[np.zeros(900, int), np.arange(1, 101)]
    assert sorted(screening(Picky(range(900)), 1_000, events=events).rejected(ERROR)) == list(range(900))


def test_failures_of_an_endpoint_are_no_rejections() -> None:
    """An endpoint that fails at one record fails the search."""
    with pytest.raises(EndpointError) as caught:
        screening(Picky([7], status=503), 100).rejected(ERROR)
    assert caught.value.status == 503


def test_accepted_records_are_the_error_for_all() -> None:
    """If each record is accepted, the cause is another one."""
    with pytest.raises(ModelInputError):
        screening(Picky([]), 100).rejected(ERROR)


def test_additive_terms_and_scores_are_checked() -> None:
    """A record with an infinite score or a huge term cannot be explained."""
    values = [1.0, 2 * MAX_SCORE, *range(98)]
    accepting = AdditiveFormula(lambda features: np.zeros(features.height))
    assert isinstance(accepting.additive_terms(pl.DataFrame({"x": [1.0]})), Additive)
    assert [*screening(accepting, 100, values=values).rejected(ERROR)] == [1]
    infinite = Formula(lambda features: np.where(features["x"].to_numpy() == 5, np.inf, 0))
    (error,) = screening(infinite, 100).rejected(ERROR).values()
    assert isinstance(error, ModelAnswerError)
