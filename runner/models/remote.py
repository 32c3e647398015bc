"""Models behind a wire: rows become requests, requests are tried until they are answered, answers become scores.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from threading import Event
from typing import Annotated, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat, model_validator
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, Calls
from runner.domain.records import Payload
from runner.domain.text import plural
from runner.errors import NO_TREES, EndpointError, ExplainerError, ModelAnswerError, RecordError, snippet
from runner.models.base import Headers
from runner.models.transport import Call, Transport, in_order
from runner.records.fields import Fields
from runner.records.payloads import Format, documents, encoding
from runner.records.templates import Template
from runner.types import Count, Rate, Score, Seconds

NON_RETRYABLE = {
    401: "check the credentials it is given",
    403: "check the credentials it is given, and what they allow",
    404: "check its address",
    405: "check its address: what is there takes no POST",
    407: "check the proxy's credentials",
}
"""Refusals that have nothing to do with what a request holds, and what to do about them."""

Few = Annotated[int, Field(strict=True, gt=0, le=1_000)]


class RequestRejected(EndpointError):
    """An endpoint refuses a request for what it holds."""


class RowCountMismatch(ModelAnswerError):
    """An answer has scores for more or fewer records than were sent."""


class Request(NamedTuple):
    """The texts of some records, and how many features they have."""

    records: pl.Series
    width: int


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Remote:
    """A model behind a wire.

    Attributes:
        content_type, accept_type: the media types of requests and answers.
        content_template, record_template: how rows become requests.
        headers: the names of the features, None for `column_0`, `column_1`, …
        score: where the scores stand in an answer.
        label_headers: the names of the L outputs, None for `label0`, `label1`, …
        timeout_seconds: how long to wait for a connection, or for the next byte of an answer.
        attempts: how often a request is tried.
        concurrency: requests under way at a time.
        max_payload_bytes, max_request_rows: the most that one request holds.
        max_requests_per_second: the most tries that are made in a second, None for any number.
        max_failures: after so many failed tries in a row nothing more is sent.
        price_per_1k_calls: what 1,000 requests cost, for planning.
    """

    content_type: Format
    accept_type: Format
    content_template: str | None
    record_template: str | None
    headers: tuple[str, ...] | None
    score: Score | None
    label_headers: Headers | None
    timeout_seconds: Seconds
    attempts: Few
    concurrency: Few
    max_payload_bytes: Count
    max_request_rows: Count
    max_requests_per_second: Rate | None
    max_failures: Count
    price_per_1k_calls: Annotated[FiniteFloat, Field(ge=0)] | None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        """Refuse what cannot work together."""
        Template(self.content_type, self.content_template, self.record_template, self.headers)
        if self.score is not None and self.score.isdecimal() != (self.accept_type == "text/csv"):
            kind = "the number of a column" if self.accept_type == "text/csv" else "a JMESPath"
            raise ValueError(f"score: answers of model.accept_type={self.accept_type} need {kind}, or null")
        return self

    @property
    def where(self) -> str:
        """The endpoint, as messages name it."""
        raise NotImplementedError

    @property
    def identity(self) -> None:
        """None: what runs behind a wire cannot be known from here."""
        return

    @property
    def calls_made(self) -> Calls:
        """What has been sent so far."""
        return self._wire.calls

    @property
    def is_additive(self) -> bool:
        """False: what runs behind a wire cannot be known from here."""
        return False

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Refuse: only answers are known."""
        raise NotImplementedError

    def tree_shap(self, features: pl.DataFrame) -> Additive:  # noqa: ARG002
        """Refuse: only trees have their own.

        Raises:
            ExplainerError: always.
        """
        raise ExplainerError(NO_TREES)

    def planned_calls(self, features: pl.DataFrame) -> Calls:
        """Return what `predict` sends when nothing is refused.

        Raises:
            EndpointError: when a row fits in no request.
        """
        requests = self._requests(features)
        return Calls(len(requests), features.height, sum(len(self._body(request)) for request in requests))

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL; no row gives no score for each of the L outputs that are known, or for one.

        Raises:
            EndpointError: when the endpoint cannot be reached, refuses a record or fails, or a row fits in no request.
            ModelAnswerError: when an answer does not hold L scores for each record.
        """
        work = partial(self._scores, self._call)
        answers = in_order(work, self._requests(features), self.concurrency)
        return self._table([scores for answer in answers for scores in answer])

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the body with which the endpoint answers one request in a media type.

        Raises:
            ValueError: when a request carries one record, and there are several.
            EndpointError: when the endpoint cannot be reached, refuses or fails.
        """
        if self._template.one_by_one and features.height > 1:
            raise ValueError(f"a request carries one record (model.content_template), not {features.height}")
        return self._answered(self._call, Request(self._records(features), features.width), accept, Event())

    def _connect(self) -> Call:
        """Return what sends a body once; it is closed when the model is gone."""
        raise NotImplementedError

    @cached_property
    def _call(self) -> Call:
        return self._connect()

    @cached_property
    def _wire(self) -> Transport:
        return Transport(self.where, self.attempts, self.max_failures, self.max_requests_per_second)

    @cached_property
    def _template(self) -> Template:
        return Template(self.content_type, self.content_template, self.record_template, self.headers)

    @cached_property
    def _fields(self) -> Fields:
        return Fields(None, self.score, self.headers, self.content_type, self.accept_type)

    def _records(self, features: pl.DataFrame) -> pl.Series:
        try:
            return self._template.records(features)
        except ValueError as error:
            raise EndpointError(self.where, None, f"no request can be made, {error}", "nothing was sent") from error

    def _requests(self, features: pl.DataFrame) -> list[Request]:
        """Return the rows as requests, in order, as many in each as the limits allow."""
        most = 1 if self._template.one_by_one or self._wire.one_by_one else self.max_request_rows
        records, width = self._records(features), features.width
        separated_N = records.str.len_bytes().to_numpy().astype(np.int64) + 1
        room = self.max_payload_bytes - self._template.frame_bytes(most, width) + 1
        if (separated_N > room).any():
            i = int((separated_N > room).argmax())
            problem = f"record {i} alone makes a request of more than {self.max_payload_bytes:,} bytes"
            raise EndpointError(self.where, None, problem, "raise model.max_payload_bytes; nothing was sent")
        return [Request(records[first:last], width) for first, last in spans(separated_N, room, most)]

    def _body(self, request: Request) -> bytes:
        return self._template.around(*request).encode()

    def _scores(self, call: Call, request: Request, stopped: Event) -> list[list[float]]:
        """Return the scores of each record; those of a batch that is refused are asked for one by one."""
        count = len(request.records)
        if count == 1 or not self._wire.one_by_one:
            try:
                return self._read(self._answered(call, request, self.accept_type, stopped), count)
            except (RequestRejected, RowCountMismatch) as refusal:
                if count == 1:
                    raise
                self._wire.fall_back(refusal)
        singles = [Request(request.records[i : i + 1], request.width) for i in range(count)]
        return [scores for single in singles for scores in self._scores(call, single, stopped)]

    def _answered(self, call: Call, request: Request, accept: str, stopped: Event) -> str:
        """Return the body of a good answer."""
        status, text, *_ = self._wire.send(call, self._body(request), len(request.records), accept, stopped)
        if status is not None and 200 <= status < 300:
            return text
        if status is not None and 400 <= status < 500 and status not in NON_RETRYABLE:
            raise RequestRejected(
                self.where, status, snippet(text), "compare what it expects with model.content_template"
            )
        raise EndpointError(self.where, status, snippet(text), NON_RETRYABLE.get(status or 0, "check its address"))

    def _read(self, text: str, count: int) -> list[list[float]]:
        """Return the scores of each record of an answer."""
        try:
            return self._fields.response_scores(Payload(self.accept_type, text, encoding(self.accept_type)), count)
        except RecordError as error:
            if error.kind == "row_count" and (rows := self._unflattened(text, count)):
                return rows
            if (harmless := self._redacted(text)) != text:
                return self._read(harmless, count)
            kind = RowCountMismatch if error.kind == "row_count" else ModelAnswerError
            raise kind(f"{self.where}: {error}; compare model.accept_type and model.score with its answers") from error

    def _unflattened(self, text: str, count: int) -> list[list[float]] | None:
        """Return the scores of each record where a JSON answer has them in one list, record after record, else None."""
        L = len(self.label_headers or ())
        if L < 2 or self.accept_type != "application/json":
            return None
        with suppress(RecordError):
            found = self._fields.located_scores(documents(text, self.accept_type), self.accept_type, count * L)
            if all(type(value) in {int, float} for value in found):
                return [[float(value) for value in found[i : i + L]] for i in range(0, count * L, L)]
        return None

    def _redacted(self, text: str) -> str:
        """Return what an endpoint says without what is secret, for a message."""
        return text

    def _table(self, scores_NL: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """Return scores as an array, all of them with the L outputs that are known, or that the first one has."""
        known = len(self.label_headers) if self.label_headers else self._wire.outputs
        L = known or len(next(iter(scores_NL), [0.0]))
        for n, scores in enumerate(scores_NL):
            if len(scores) != L:
                expected = "as model.label_headers names" if self.label_headers else "as before"
                got = f"{plural(len(scores), 'score')} for record {n}"
                raise ModelAnswerError(f"{self.where} answered with {got}, expected {L}, {expected}: check model.score")
        self._wire.outputs = L if scores_NL else known
        return np.array(scores_NL, dtype=np.float64).reshape(len(scores_NL), L)


def spans(sizes_N: NDArray[np.int64], room: int, most: int) -> list[tuple[int, int]]:
    """Return the first and last (exclusive) of consecutive items that share `room`, at most so many together.

    >>> spans(np.array([3, 3, 3, 9, 1]), room=9, most=2)
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    ends_N = np.cumsum(sizes_N)
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(sizes_N):
        taken = ends_N[first] - sizes_N[first]
        last = min(first + most, int(np.searchsorted(ends_N, taken + room, side="right")))
        found.append((first, last))
        first = last
    return found
