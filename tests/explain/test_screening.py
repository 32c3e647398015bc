"""The search for the records that a model rejects."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from runner.domain.attributions import Additive
from runner.errors import EndpointError, ModelAnswerError, ModelInputError, RequestRejected
from runner.explain.game import MAX_SCORE
from runner.explain.screening import MAX_PROBES, PART_ROWS, Screening
from runner.protocols import Model
from tests.formula_models import AdditiveFormula, Formula

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
