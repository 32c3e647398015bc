"""Checks before expensive work: whether the model accepts the rows and returns scores that can be explained.

If the model rejects the records of a window together, a search finds the ones that it rejects alone.

Array letters: N records, L labels, n some records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.drift import Parity
from runner.domain.numbers import plural
from runner.errors import (
    BackgroundError,
    EndpointError,
    ModelAnswerError,
    ModelInputError,
    RequestRejected,
    ShapwatchError,
    listed,
)
from runner.explain import background as backgrounds
from runner.explain.game import check_outputs, logit, predict, usable_terms
from runner.explain.masking import slices
from runner.protocols import Model, as_additive

REJECTED = {400, 406, 409, 415, 422, 424, 500}
"""HTTP statuses of an endpoint that rejects the rows; other statuses have other causes."""

PARITY_TOLERANCE = 1e-6
"""Largest difference between a captured score and a recomputed one that is a rounding error in single precision,
relative to the largest score or to 1 if that is larger."""
MIN_WRITTEN = 10
"""Minimum number of different scores from which the number of written decimals is inferred."""
MOST_DECIMALS = 9
"""Largest number of decimals that is inferred; scores with more of them count as not rounded."""
MIN_PERMUTED = 10
"""Minimum number of different scores in another order that cannot be equal by chance."""
ROUNDING = 1e-6
"""Largest relative difference between two scores of the same record that counts as rounding."""
REJECTIONS = (ModelInputError, ModelAnswerError, RequestRejected)
"""Errors of a model that a record may cause; failures of an endpoint, such as HTTP 500, are not among them."""
PART_ROWS = 1024
"""Number of records that are sent to the model together."""
MAX_PROBES = 64
"""Maximum number of records that are sent alone, to recognize early that the model rejects too many."""
ERROR_PROBABILITY = 1e-6
"""Probability with which the probes may wrongly indicate that too many records are rejected."""
MOST_ALLOWED = 0.8
"""Largest accepted share of rejected records; if the model rejects almost all, the settings are wrong."""


@dataclass(frozen=True)
class Preflight:
    """Result of the check.

    Attributes:
        rows: number of rows sent to the model.
        outputs: number of model outputs, L.
        lowest, highest: range of the scores.
        parity: largest difference from the captured scores of the same records; None without captured scores.
    """

    rows: int
    outputs: int
    lowest: float
    highest: float
    parity: float | None


def preflight(
    model: Model,
    features: pl.DataFrame,
    background: pl.DataFrame,
    use_logit: bool,
    captured_NL: NDArray[np.float64] | None = None,
) -> Preflight:
    """Send up to three records and the background rows to the model, and check its scores; errors as below."""
    return preflight_scores(model, features, background, use_logit, captured_NL)[0]


def preflight_scores(
    model: Model,
    features: pl.DataFrame,
    background: pl.DataFrame,
    use_logit: bool,
    captured_NL: NDArray[np.float64] | None = None,
) -> tuple[Preflight, NDArray[np.float64]]:
    """Send up to three records and the background rows to the model; return the result, and the records' scores_NL.

    Raises:
        ModelAnswerError: if scores are not finite, or their number differs between rows or from that of
            `model.label_headers`.
        BackgroundError: if the model accepts the records, but not the background rows.
        ExplainerError: if log-odds are requested, and scores are not probabilities.
    """
    background, features = backgrounds.align(background, features)
    rows = preflight_rows(features.height)
    real_NL = predict(model, features[rows])
    _check_labels(model, real_NL.shape[1])
    try:
        replaced_NL = predict(model, background)
    except (ModelInputError, ModelAnswerError, EndpointError) as error:
        if isinstance(error, EndpointError) and error.status not in REJECTED:
            raise
        raise BackgroundError(
            f"the model accepted {plural(len(rows), 'record')}, but rejected the background rows ({error}); give rows "
            "that look like real records, such as one of the dataset"
        ) from error
    check_outputs(replaced_NL, real_NL.shape[1])
    scores_NL = np.concatenate([real_NL, replaced_NL])
    if use_logit:
        logit(scores_NL)
    compared = parity(None if captured_NL is None else captured_NL[rows], real_NL)
    checked = Preflight(
        rows=len(scores_NL),
        outputs=scores_NL.shape[1],
        lowest=float(scores_NL.min()),
        highest=float(scores_NL.max()),
        parity=compared.largest if compared else None,
    )
    return checked, real_NL


def noise_notes(first_NL: NDArray[np.float64], second_NL: NDArray[np.float64]) -> list[str]:
    """Return a note if a model gave the same records different scores; empty if they agree up to rounding.

    >>> noise_notes(np.array([[0.5]]), np.array([[0.5]]))
    []
    """
    gap_NL = abs(first_NL - second_NL)
    if (gap_NL <= ROUNDING * (1 + abs(first_NL))).all():
        return []
    problem = f"the model is not deterministic: two scores of the same record differ by up to {gap_NL.max():.2g}"
    return [f"{problem}. This noise hides small changes; set a seed in the model, or remove its random parts"]


def preflight_rows(count: int) -> list[int]:
    """Return the indices of the first, the middle and the last of `count` rows.

    >>> preflight_rows(10), preflight_rows(1)
    ([0, 5, 9], [0])
    """
    return sorted({0, count // 2, count - 1})


def _check_labels(model: Model, outputs: int) -> None:
    names = model.label_headers
    if names and len(names) != outputs:
        raise ModelAnswerError(
            f"the model has {plural(outputs, 'output')}, but model.label_headers has {plural(len(names), 'name')}: "
            f"{listed(map(repr, names))}. Give one name per output, or set model.label_headers=null"
        )


def parity(
    captured_NL: NDArray[np.float64] | None, scores_NL: NDArray[np.float64], tolerance: float | None = None
) -> Parity | None:
    """Compare captured scores with the model's own; return None if no record has captured scores.

    Args:
        captured_NL: captured scores, NaN if unknown.
        scores_NL: scores of the explained model.
        tolerance: largest difference that rounding explains; None to infer it from the captured scores.

    Raises:
        ModelAnswerError: if the model returns the captured scores in another order.
    """
    if captured_NL is None or captured_NL.shape != scores_NL.shape:
        return None
    known_N = np.isfinite(captured_NL).all(axis=1)
    if not known_N.any():
        return None
    captured_NL, scores_NL = captured_NL[known_N], scores_NL[known_N]
    if moved := _permuted(captured_NL, scores_NL):
        problem = f"the model returns the captured scores of {moved:,} records in another order"
        raise ModelAnswerError(f"{problem}; expected the scores of each request in the order of its records")
    allowed = written_tolerance(captured_NL) if tolerance is None else tolerance
    gap_N = abs(captured_NL - scores_NL).max(axis=1)
    return Parity(float(gap_N.max()), len(captured_NL), allowed, int((gap_N > allowed).sum()))


def written_tolerance(captured_NL: NDArray[np.float64]) -> float:
    """Return the largest difference that the precision of written scores explains: half of the last decimal.

    >>> written_tolerance(np.arange(20)[:, None] / 100)
    0.005001
    """
    single = PARITY_TOLERANCE * max(1.0, float(abs(captured_NL).max()))
    values = np.unique(captured_NL)
    if len(values) < MIN_WRITTEN:
        return single
    written = (digits for digits in range(1, MOST_DECIMALS) if (values.round(digits) == values).all())
    decimals = next(written, None)
    return single if decimals is None else round(0.5 * 10.0**-decimals + single, 12)


def _permuted(captured_NL: NDArray[np.float64], scores_NL: NDArray[np.float64]) -> int:
    """Return the number of different records whose scores are the captured ones in another order, 0 if they are not.

    A few scores, such as those of classes or of the leaves of a small tree, may be equal by chance.
    """
    moved_N = (abs(captured_NL - scores_NL) > PARITY_TOLERANCE).any(axis=1)
    captured_nL, scores_nL = np.hsplit(np.unique(np.hstack([captured_NL, scores_NL])[moved_N], axis=0), 2)
    gap_nL = abs(np.sort(captured_nL, axis=0) - np.sort(scores_nL, axis=0))
    if len(np.unique(captured_nL, axis=0)) < MIN_PERMUTED or (gap_nL > PARITY_TOLERANCE).any():
        return 0
    return len(captured_nL)


@dataclass(frozen=True)
class Screening:
    """Search for the records that a model rejects.

    Attributes:
        event_N: number of each record's event; of an event with many records, all may be rejected.
        order_N: indices of the records in random order.
        allowed: largest accepted share of rejected records.
    """

    model: Model
    features: pl.DataFrame
    event_N: NDArray[np.intp]
    order_N: NDArray[np.intp]
    allowed: float

    def rejected(self, error: ShapwatchError) -> dict[int, ShapwatchError]:
        """Return the error of each rejected record by its index.

        Args:
            error: error of the model for all records.

        Raises:
            ShapwatchError: the given error if no record is rejected alone, or too many; another one if the endpoint
                fails.
        """
        first_n = np.unique(self.event_N[self.order_N], return_index=True)[1]
        per_event_n = self.order_N[np.sort(first_n)]
        if self._are_mostly_rejected(self.order_N) and self._are_mostly_rejected(per_event_n):
            raise error
        found: dict[int, ShapwatchError] = {}
        events = set[int]()
        for part in slices(self.features.height, PART_ROWS):
            for i, problem in self._search(np.arange(self.features.height)[part]):
                found[i] = problem
                events.add(int(self.event_N[i]))
                shares = len(found) / self.features.height, len(events) / len(per_event_n)
                if min(shares) > self.allowed or len(found) == self.features.height:
                    raise error
        if not found:
            raise error
        return found

    def _are_mostly_rejected(self, rows_n: NDArray[np.intp]) -> bool:
        """Return whether the first of these records, each sent alone, show that too many of them are rejected."""
        allowed, rejected = min(self.allowed, MOST_ALLOWED), 0
        for count, i in enumerate(rows_n[:MAX_PROBES], 1):
            rejected += self._error(np.array([i])) is not None
            if binomial_tail(rejected, count, allowed) < ERROR_PROBABILITY:
                return True
        everything = len(rows_n) <= MAX_PROBES
        return everything and (rejected == len(rows_n) or rejected > self.allowed * len(rows_n))

    def _search(self, rows_n: NDArray[np.intp]) -> Iterator[tuple[int, ShapwatchError]]:
        """Yield the index and the error of each rejected record among these; halve parts that contain one."""
        pending = [rows_n]
        while pending:
            part_n = pending.pop()
            error = self._error(part_n) if len(part_n) else None
            if error is None:
                continue
            known = error.record if isinstance(error, RequestRejected) else None
            if len(part_n) == 1 or known is not None:
                yield int(part_n[known or 0]), error
                pending += [part_n[(known or 0) + 1 :], part_n[: known or 0]]
            else:
                pending += [part_n[len(part_n) // 2 :], part_n[: len(part_n) // 2]]

    def _error(self, rows_n: NDArray[np.intp]) -> ShapwatchError | None:
        """Return the error of the model for these records together, None if it accepts them."""
        rows, headers, additive = self.features[rows_n], self.model.label_headers, as_additive(self.model)
        try:
            predict(self.model, rows, len(headers) if headers else None)
            if additive:
                usable_terms(additive.additive_terms(rows), rows)
        except REJECTIONS as error:
            return error
        return None


def binomial_tail(hits: int, count: int, probability: float) -> float:
    """Return the probability of at least `hits` hits in `count` independent trials.

    >>> binomial_tail(1, 2, 0.5)
    0.75
    """
    return sum(comb(count, k) * probability**k * (1 - probability) ** (count - k) for k in range(hits, count + 1))
