"""The body of a request → records that a model takes, each column of one type."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType
from typing import NamedTuple, get_args

import polars as pl

from runner.domain.text import plural
from runner.errors import RecordError
from runner.records.fields import Fields
from runner.records.payloads import Format, Scalar, documents
from runner.serving.refusals import Refusal

FORMATS: tuple[Format, ...] = get_args(Format)
CHARSETS = ("utf-8", "utf8", "us-ascii", "ascii")

Types = tuple[type[pl.DataType] | None, ...]
Kinds = tuple[type, ...]

COLUMN: dict[frozenset[type], type[pl.DataType]] = {
    frozenset(): pl.Null,
    frozenset({int}): pl.Int64,
    frozenset({float}): pl.Float64,
    frozenset({int, float}): pl.Float64,
    frozenset({str}): pl.String,
    frozenset({bool}): pl.Boolean,
}
"""The type of a column, by the kinds of values in it but for nulls."""


class Records(NamedTuple):
    """The rows of a request, and the types of their columns."""

    rows: list[list[Scalar]]
    types: Types


@dataclass(frozen=True)
class Requests:
    """Reads requests by their content type; one without is read as `fields.request` says.

    Attributes:
        fields: where the feature values stand.
    """

    fields: Fields

    def read(self, content_type: bytes | None, body: bytes) -> Records:
        """Return the records of a request.

        Raises:
            Refusal: 415 for a media type that is none of three, 400 for a body that is not what it should be.
        """
        layout = self.fields.request if content_type is None else _layout(content_type)
        try:
            rows = self.fields.rows(documents(body.decode(), layout), layout)
        except (RecordError, UnicodeDecodeError) as error:
            raise Refusal(400, f"the request cannot be read: {error}") from error
        if not rows:
            raise Refusal(400, "the request's body is empty, expected at least one record")
        return self.typed(rows)

    def typed(self, rows: list[list[Scalar]]) -> Records:
        """Return rows with the types of their columns.

        Raises:
            Refusal: 400 for rows that have different numbers of values, or values of different kinds in a column.
        """
        kinds = {_kinds(row) for row in rows}
        self._check_widths({len(row) for row in kinds})
        types = _types(*kinds) if len(kinds) == 1 else tuple(map(_type, zip(*kinds, strict=True)))
        if None in types:
            name = self.fields.name(types.index(None))
            raise Refusal(400, f"feature {name!r} holds values of several kinds, expected numbers, texts or booleans")
        return Records(rows, types)

    def _check_widths(self, widths: set[int]) -> None:
        headers = self.fields.headers
        expected = {len(headers)} if headers else widths
        if len(widths) > 1 or widths != expected:
            found = " and ".join(map(str, sorted(widths)))
            wanted = plural(len(headers), "value") if headers else "equally many in each"
            raise Refusal(400, f"the records hold {found} values, expected {wanted}")


@lru_cache(maxsize=256)
def _layout(content_type: bytes) -> Format:
    """Return how a body of a content type is laid out; whatever parameters there are, texts are UTF-8."""
    header = content_type.decode("latin-1")
    media_type, *parameters = (part.strip().lower() for part in header.split(";"))
    charsets = [
        value.strip('" ') for name, _, value in (part.partition("=") for part in parameters) if name == "charset"
    ]
    for layout in FORMATS:
        if layout == media_type and all(charset in CHARSETS for charset in charsets):
            return layout
    raise Refusal(415, f"the content type is {header!r}, expected {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, in UTF-8")


def _kinds(row: Sequence[Scalar]) -> Kinds:
    """Return the kinds of values; an integer beyond 64 bits counts as a float, as JSON readers take it."""
    return tuple([float if type(v) is int and not -(2**63) <= v < 2**63 else type(v) for v in row])


@lru_cache(maxsize=1024)
def _types(kinds: Kinds) -> Types:
    """Return the types of the columns of rows that are alike."""
    return tuple(_type([kind]) for kind in kinds)


def _type(kinds: Iterable[type]) -> type[pl.DataType] | None:
    """Return the type of a column by the kinds of its values, None where they have none in common."""
    return COLUMN.get(frozenset(kinds) - {NoneType})
