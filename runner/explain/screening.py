"""Search for the records that a model rejects, if it rejects the records of a window together.

Array letters: N records, n of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.errors import ModelAnswerError, ModelInputError, RequestRejected, ShapwatchError
from runner.explain.game import predict, usable_terms
from runner.explain.masking import slices
from runner.protocols import Model, as_additive

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
