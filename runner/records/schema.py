"""What the records of a window or dataset agree on: how many features of which kinds, and how many scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TypeVar

from runner.domain import plural
from runner.errors import RecordError, snippet
from runner.records.fields import Fields, Scalar

Value = TypeVar("Value", int, str)

KINDS: dict[type, str] = {NoneType: "null", bool: "boolean", str: "text", int: "number", float: "number"}
"""The kinds of feature values; integers and floats are one."""


@dataclass(frozen=True)
class Schema:
    """What most records have, so that the order of the records does not matter.

    Attributes:
        fields: names the features.
        kinds: of each feature, None where there are nothing but nulls.
        scores: how many scores a record has, None where none has any.
    """

    fields: Fields
    kinds: tuple[str | None, ...]
    scores: int | None

    @classmethod
    def agreed(cls, records: Iterable[tuple[Sequence[Scalar], Sequence[float] | None]], fields: Fields) -> Schema:
        """Return the schema of records, each given by its feature values and its scores."""
        signatures: Counter[tuple[type, ...]] = Counter()
        scores: Counter[int] = Counter()
        for values, found in records:
            signatures[tuple(map(type, values))] += 1
            if found is not None:
                scores[len(found)] += 1
        widths: Counter[int] = Counter()
        for signature, count in signatures.items():
            widths[len(signature)] += count
        width = len(fields.headers) if fields.headers else _majority(widths) or 0
        kinds: list[Counter[str]] = [Counter() for _ in range(width)]
        for signature, count in signatures.items():
            for tally, type_ in zip(kinds, signature if len(signature) == width else (), strict=False):
                if type_ is not NoneType:
                    tally[KINDS[type_]] += count
        return cls(fields, tuple(map(_majority, kinds)), _majority(scores))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        return self.fields.names(len(self.kinds))

    def check(self, values: Sequence[Scalar], scores: Sequence[float] | None) -> None:
        """Compare a record with what the others have.

        Raises:
            RecordError: `feature_count`, `feature_type` or `score_count`.
        """
        self.fields.check_width(values, len(self.kinds))
        for d, (value, expected) in enumerate(zip(values, self.kinds, strict=True)):
            if (kind := KINDS[type(value)]) not in {expected, "null"}:
                problem = f"holds the {kind} {snippet(repr(value))} where the other records have a {expected}"
                raise RecordError("feature_type", f"feature {self.fields.name(d)!r} {problem}")
        if scores is not None and len(scores) != self.scores:
            problem = f"{plural(len(scores), 'score')} where the other records have {self.scores}"
            raise RecordError("score_count", problem)


def _majority(counts: Counter[Value]) -> Value | None:
    """Return the most frequent value, the smallest of equally frequent ones, or None where there is none."""
    return min(counts, key=lambda value: (-counts[value], value)) if counts else None
