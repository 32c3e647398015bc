"""What the records of a window or dataset agree on: how many features of which kinds, and how many scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import TypeVar

import orjson
import polars as pl

from runner.domain.text import plural
from runner.errors import snippet
from runner.records.fields import Fields
from runner.records.payloads import Scalar

Value = TypeVar("Value", int, str)

KINDS: dict[type, str] = {bool: "boolean", str: "text", int: "number", float: "number"}
"""The kinds of feature values; integers and floats are one, and null is none."""


@dataclass(frozen=True)
class Tally:
    """Counts what records have, table by table, so that no order of them matters."""

    widths: Counter[int] = field(default_factory=Counter)
    scores: Counter[int] = field(default_factory=Counter)
    kinds: Counter[tuple[int, str]] = field(default_factory=Counter)

    def add(self, width: int, scores: int, frame: pl.DataFrame) -> None:
        """Count a table whose columns `3:number`, `3:text` hold the values of feature 3 of one kind each."""
        self.widths[width] += frame.height
        if scores:
            self.scores[scores] += frame.height
        for column in frame:
            if ":" in column.name:
                self.kinds[width, column.name] += len(column) - column.null_count()

    def agreed(self, fields: Fields) -> Schema:
        """Return what most records have; the settings' headers say how many features that must be."""
        width = len(fields.headers) if fields.headers else _majority(self.widths) or 0
        kinds: list[Counter[str]] = [Counter() for _ in range(width)]
        for (wide, column), count in self.kinds.items():
            d, _, kind = column.partition(":")
            if wide == width and count:
                kinds[int(d)][kind] += count
        return Schema(fields, tuple(map(_majority, kinds)), _majority(self.scores) or 0)


@dataclass(frozen=True)
class Schema:
    """What most records have.

    Attributes:
        fields: names the features.
        kinds: of each feature, None where there are nothing but nulls.
        scores: how many scores a record has, 0 where none has any.
    """

    fields: Fields
    kinds: tuple[str | None, ...]
    scores: int

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return self.fields.names(len(self.kinds))

    def problem(self, values: Sequence[Scalar], scores: int) -> tuple[str, str]:
        """Return the reason and the sentence why a record is not what the others are."""
        if len(values) != len(self.kinds):
            named = "data.headers names" if self.fields.headers else "most records have"
            found = snippet(orjson.dumps(values))
            return "feature_count", f"{plural(len(values), 'feature')} where {named} {len(self.kinds)}: {found}"
        for d, (value, expected) in enumerate(zip(values, self.kinds, strict=True)):
            if not isinstance(value, NoneType) and (kind := KINDS[type(value)]) != expected:
                told = f"holds the {kind} {snippet(repr(value))} where the other records have a {expected}"
                return "feature_type", f"feature {self.fields.name(d)!r} {told}"
        return "score_count", f"{plural(scores, 'score')} where the other records have {self.scores}"


def _majority(counts: Counter[Value]) -> Value | None:
    """Return the most frequent value, the smallest of equally frequent ones, or None where there is none."""
    return min(counts, key=lambda value: (-counts[value], value)) if counts else None
