"""Where features and scores stand in a document: JMESPath expressions and what they must find."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jmespath
import orjson
from jmespath.parser import ParsedResult

from runner.domain import plural
from runner.errors import RecordError, snippet

Scalar = str | int | float | bool | None


def compiled(expression: str) -> ParsedResult:
    """Return a JMESPath expression ready for searching.

    Raises:
        ValueError: with a sentence, when the expression is malformed or calls an unknown function.
    """
    try:
        parsed = jmespath.compile(expression)
        with suppress(jmespath.exceptions.JMESPathTypeError):
            parsed.search(None)
        return parsed
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{expression!r} is no JMESPath expression: {reason}") from error


@dataclass(frozen=True)
class Fields:
    """Locates the features in a request and the scores in a response.

    Attributes:
        features: JMESPath to the list of feature values of one record.
        score: JMESPath to the score of one record: a number, or a list of class probabilities.
        headers: the names of the features, or None for `column_0`, `column_1`, …
    """

    features: str
    score: str
    headers: tuple[str, ...] | None = None

    @cached_property
    def _features(self) -> ParsedResult:
        return compiled(self.features)

    @cached_property
    def _score(self) -> ParsedResult:
        return compiled(self.score)

    def feature_values(self, document: Any) -> list[Scalar]:
        """Return the feature values of a record, each in the type it was captured in.

        Raises:
            RecordError: `features_not_found` or `feature_type`.
        """
        values = _search(self._features, document)
        if not isinstance(values, list) or not values:
            found = "nothing" if values is None else f"{_json(values)}, which is no list of values,"
            problem = f"data.features={self.features!r} finds {found} in {_json(document)}"
            raise RecordError("features_not_found", problem)
        for i, value in enumerate(values):
            if isinstance(value, list | dict):
                problem = f"feature {self.name(i)!r} holds {_json(value)}, expected a number, a text, a boolean or null"
                raise RecordError("feature_type", problem)
        return values

    def score_values(self, document: Any) -> list[float]:
        """Return the L scores of a record.

        Raises:
            RecordError: `score_not_found`.
        """
        found = _search(self._score, document)
        values = found if isinstance(found, list) else [found]
        if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            what = "nothing" if found is None else f"{_json(found)}, which is no number,"
            problem = f"data.score={self.score!r} finds {what} in {_json(document)}"
            raise RecordError("score_not_found", problem)
        return [float(value) for value in values]

    def name(self, i: int) -> str:
        """Return the name of the i-th feature."""
        return self.headers[i] if self.headers and i < len(self.headers) else f"column_{i}"

    def names(self, width: int) -> tuple[str, ...]:
        """Return the names of all features of a record that has `width` of them."""
        return tuple(self.name(i) for i in range(width))

    def check_width(self, values: Sequence[Scalar], width: int) -> None:
        """Compare a record's number of features with the one expected.

        Raises:
            RecordError: `feature_count`.
        """
        if len(values) != width:
            named = "data.headers names" if self.headers else "most records have"
            raise RecordError(
                "feature_count", f"{plural(len(values), 'feature')} where {named} {width}: {_json(values)}"
            )


def _search(expression: ParsedResult, document: Any) -> Any:
    """Return what an expression finds; a function applied to what it does not fit finds nothing."""
    try:
        return expression.search(document)
    except (jmespath.exceptions.JMESPathError, ValueError):
        return None


def _json(value: Any) -> str:
    try:
        return snippet(orjson.dumps(value))
    except TypeError:
        return "a deeply nested document"
