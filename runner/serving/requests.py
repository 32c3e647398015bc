"""Conversion of request bodies to rows with one type per column, and of model outputs to response bodies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import NamedTuple, get_args

import polars as pl

from runner.domain.numbers import plural
from runner.errors import RecordError, snippet
from runner.protocols import Model, ResponseEncoder
from runner.records.fields import Fields
from runner.records.payloads import Format, Scalar, check_count, encode_scores, parse_body

FORMATS: tuple[Format, ...] = get_args(Format)
ANY_FORMAT = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
"""The media types of requests and responses, for messages."""
MAX_FEATURES = 10_000
"""Maximum number of values of a record; a table with many more columns takes seconds and gigabytes."""
MAX_CACHED_TYPES = 512
"""Maximum number of columns whose types are cached."""
CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")

Types = tuple[type[pl.DataType] | None, ...]
Kinds = tuple[type, ...]

COLUMN_TYPES: dict[frozenset[type], type[pl.DataType]] = {
    frozenset(): pl.Null,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
    frozenset({str}): pl.String,
    frozenset({bool}): pl.Boolean,
}
"""Column types, by the types of the values other than null."""


class RequestError(Exception):
    """An error response to a request.

    Attributes:
        status: the HTTP status of a model container.
        message: the message for the client.
        kind: the error code of SageMaker's runtime for its own errors, None for errors of the model.
    """

    def __init__(self, status: int, message: str, kind: str | None = None) -> None:
        self.status, self.message, self.kind = status, message, kind
        super().__init__(message)


class ClientDisconnected(Exception):
    """The client has disconnected, so that the request has no response."""


class RequestRecords(NamedTuple):
    """The rows of a request, and the types of their columns."""

    rows: list[list[Scalar]]
    types: Types


@dataclass(frozen=True)
class RequestReader:
    """Parser of request bodies; `fields.content_type` is the default content type.

    Attributes:
        fields: the positions of the feature values.
    """

    fields: Fields

    def read(self, content_type: bytes | None, body: bytes) -> RequestRecords:
        """Return the records of a request.

        Raises:
            RequestError: 415 for an unsupported media type, 400 for an invalid body.
        """
        format_ = self.fields.content_type if content_type is None else _format(content_type)
        try:
            check_count(body)
            rows = self.fields.rows(parse_body(body.decode(), format_))
        except (RecordError, UnicodeDecodeError) as error:
            raise RequestError(400, f"the request cannot be read: {error}") from error
        if not rows:
            raise RequestError(400, "the request's body is empty, expected at least one record")
        return self.with_types(rows)

    def with_types(self, rows: list[list[Scalar]]) -> RequestRecords:
        """Return rows with the types of their columns.

        Raises:
            RequestError: 400 for rows of different lengths, or for columns with values of different types.
        """
        self._check_widths({len(row) for row in rows})
        kinds = {_kinds(row) for row in rows}
        is_cached = len(kinds) == 1 and len(rows[0]) <= MAX_CACHED_TYPES
        types = _types(*kinds) if is_cached else tuple(map(_type, zip(*kinds, strict=True)))
        if None in types:
            name = self.fields.name(types.index(None))
            raise RequestError(
                400,
                f"feature {name!r} has values of different types, expected only numbers, only strings or only booleans",
            )
        return RequestRecords(rows, types)

    def _check_widths(self, widths: set[int]) -> None:
        headers = self.fields.headers
        expected = {len(headers)} if headers else widths
        if len(widths) > 1 or widths != expected:
            others = {1: "", 2: f"{min(widths)} and "}.get(len(widths), f"{min(widths)} to ")
            expected_count = f"{len(headers)} (data.headers)" if headers else "the same number in each record"
            problem = f"the records have {others}{plural(max(widths), 'value')}, expected {expected_count}"
            raise RequestError(400, problem)
        if max(widths) > MAX_FEATURES:
            raise RequestError(400, f"a record has {plural(max(widths), 'value')}, expected at most {MAX_FEATURES:,}")


def as_table(records: RequestRecords, names: Callable[[int], Sequence[str]]) -> pl.DataFrame:
    """Return records as a table; `names` returns the names of a number of features."""
    schema = dict(zip(names(len(records.types)), records.types, strict=True))
    return pl.DataFrame(records.rows, schema, orient="row")


@lru_cache(maxsize=256)
def _format(content_type: bytes) -> Format:
    """Return the format for a content type; its charset, if any, must be a subset of UTF-8."""
    header = content_type.decode("latin-1")
    media_type, *parameters = (part.strip().lower() for part in header.split(";"))
    charsets = [
        value.strip('" ') for name, _, value in (part.partition("=") for part in parameters) if name == "charset"
    ]
    for format_ in FORMATS:
        if format_ == media_type and all(charset in CHARSETS for charset in charsets):
            return format_
    raise RequestError(415, f"unsupported content type {snippet(repr(header))}; expected {ANY_FORMAT}, in UTF-8")


def _kinds(row: Sequence[Scalar]) -> Kinds:
    """Return the types of values; an integer beyond 64 bits counts as a float, as in JSON parsers."""
    return tuple([float if type(v) is int and not -(2**63) <= v < 2**63 else type(v) for v in row])


@lru_cache(maxsize=1024)
def _types(kinds: Kinds) -> Types:
    """Return the column types of rows that all have the same value types."""
    return tuple(_type([kind]) for kind in kinds)


def _type(kinds: Iterable[type]) -> type[pl.DataType] | None:
    """Return the column type for some value types, or None if they differ."""
    return COLUMN_TYPES.get(frozenset(kinds) - {NoneType})


def encode_response(model: Model, features: pl.DataFrame, accept: str) -> str:
    """Return the response body of the model's endpoint: in the model's own format, or with one `score` per record.

    The `score` of a model with several outputs is a list.

    Raises:
        ValueError: if the media type is not supported.
        RecordError: if the response is too large.
    """
    if isinstance(model, ResponseEncoder):
        return model.encode_response(features, accept)
    return encode_scores(
        model.predict(features), accept, lambda scores: {"score": scores if len(scores) > 1 else scores[0]}
    )
