"""Formats of payloads: locations of features and scores (JMESPath, or column numbers of a CSV), and templates.

JMESPath expressions are compiled once, and documents are searched with the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jmespath
import orjson
from jmespath.parser import ParsedResult

from runner.domain.numbers import plural
from runner.domain.records import Payload
from runner.errors import RecordError, snippet
from runner.records.payloads import Body, Format, Scalar, parse_payload
from runner.records.templates import Template

MAX_DEPTH = 100
"""Maximum number of levels of an expression, which is parsed and evaluated by recursion."""
Find = Callable[[Any], Any]
"""A function that returns the value of an expression in a document, None if there is none."""


def compiled(expression: str) -> ParsedResult:
    """Return a compiled JMESPath expression.

    Raises:
        ValueError: if the expression is malformed or calls an unknown function.
    """
    try:
        parsed = jmespath.compile(expression)
        if _depth(parsed.parsed) > MAX_DEPTH:
            raise RecursionError
        with suppress(jmespath.exceptions.JMESPathTypeError):
            parsed.search(None)
        return parsed
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{snippet(repr(expression))} is not a JMESPath expression: {snippet(reason)}") from error
    except RecursionError as error:
        problem = f"has more than {MAX_DEPTH} nested terms; use a shorter expression"
        raise ValueError(f"{snippet(repr(expression))} {problem}") from error


def _depth(node: Mapping[str, Any]) -> int:
    """Return the number of levels of an expression, without recursion."""
    depth, level = 0, [node]
    while level:
        depth += 1
        level = [child for each in level for child in each["children"] if isinstance(child, dict)]
    return depth


def is_structural(expression: str) -> bool:
    """Return whether the result of an expression depends on the structure of a document only, never on its values.

    >>> is_structural("instances[*].features"), is_structural("items[?kind=='a']"), is_structural("sort(x)")
    (True, False, False)
    """
    return _function(compiled(expression).parsed) is not None


def finder(expression: str | None) -> Find:
    """Return a function that evaluates an expression in a document; the expression None selects the whole document.

    In a structural expression, a projection returns None for each element without the value. The other values thus stay
    in their positions, unlike in jmespath. The result is None if an argument of a JMESPath function has the wrong type.
    """
    if expression is None:
        return _identity
    parsed = compiled(expression)

    def search(document: Any) -> Any:
        try:
            return parsed.search(document)
        except (jmespath.exceptions.JMESPathError, ValueError, RecursionError):
            return None

    return _function(parsed.parsed) or search


def _function(node: Mapping[str, Any]) -> Find | None:
    """Return a structural expression as a function, None for another expression."""
    if node["type"] in {"identity", "current"}:
        return _identity
    if node["type"] == "field":
        return _field(node["value"])
    if node["type"] == "index":
        return _index(node["value"])
    if node["type"] not in BUILDERS:
        return None
    children = [_function(child) for child in node["children"]]
    return None if None in children else BUILDERS[node["type"]](*filter(None, children))


def _identity(document: Any) -> Any:
    return document


def _field(name: str) -> Find:
    return lambda document: document.get(name) if isinstance(document, dict) else None


def _index(index: int) -> Find:
    def find(document: Any) -> Any:
        exists = isinstance(document, list) and -len(document) <= index < len(document)
        return document[index] if exists else None

    return find


def _chain(*steps: Find) -> Find:
    def find(document: Any) -> Any:
        for step in steps:
            document = step(document)
        return document

    return find


def _multi_select(*finds: Find) -> Find:
    return lambda document: None if document is None else [find(document) for find in finds]


def _projection(base: Find, inner: Find) -> Find:
    def find(document: Any) -> Any:
        elements = base(document)
        return [inner(element) for element in elements] if isinstance(elements, list) else None

    return find


BUILDERS: dict[str, Callable[..., Find]] = {
    "subexpression": _chain,
    "index_expression": _chain,
    "multi_select_list": _multi_select,
    "projection": _projection,
}


@dataclass(frozen=True)
class Fields:
    """Locations of the features in a request and of the scores in a response.

    Attributes:
        features: JMESPath to the feature values of one record (JSON Lines), or to a list of values per record (JSON).
            In a CSV, all cells are feature values.
        score: JMESPath to the scores of one record (JSON Lines) or of all records (JSON), or a column number (CSV);
            None for the whole document or all columns. The scores of a record are a number, a list of class
            probabilities, or a string that contains either.
        headers: names of the features, None for `column_0`, `column_1`, …
        content_type, accept_type: formats of requests and responses, unless the encoding implies another one.
        columnar: whether `features` returns one list per feature instead of one per record (JSON).
    """

    features: str | None
    score: str | None
    headers: tuple[str, ...] | None = None
    content_type: Format = "application/jsonlines"
    accept_type: Format = "application/jsonlines"
    columnar: bool = False

    def request_rows(self, payload: Payload) -> list[list[Scalar]]:
        """Return the feature values of each record of a request, in their captured types.

        Raises:
            RecordError: `encoding`, `payload`, `not_finite`, `features_not_found` or `feature_type`.
        """
        return self.rows(parse_payload(payload, self.content_type))

    def rows(self, body: Body) -> list[list[Scalar]]:
        """Return the feature values of each record of a request or dataset.

        Raises:
            RecordError: `features_not_found` or `feature_type`.
        """
        return [self.scalars(row) for row in self.located_rows(body)]

    def located_rows(self, body: Body) -> list[list[Any]]:
        """Return the values at the location of the features in each record, without a check of their types.

        Raises:
            RecordError: `features_not_found`.
        """
        if body.format == "text/csv":
            return list(body.documents)
        if body.format == "application/jsonlines":
            return [self._one_row(document) for document in body.documents]
        return [row for document in body.documents for row in self._many_rows(document)]

    def response_scores(self, payload: Payload, count: int) -> list[list[float]]:
        """Return the scores of each record in a response with `count` records.

        Raises:
            RecordError: `encoding`, `payload`, `not_finite`, `row_count` or `score_not_found`.
        """
        body = parse_payload(payload, self.accept_type)
        return [self._numbers(found, body) for found in self.located_scores(body, count)]

    def located_scores(self, body: Body, count: int) -> list[Any]:
        """Return the value at the location of the scores for each record, without a check of its type.

        Raises:
            RecordError: `row_count` or `score_not_found`.
        """
        documents = body.documents
        if body.format == "text/csv":
            found = self._cells(documents, count)
        elif self.score is not None and self.score.isdecimal():
            problem = f"data.score={self.score!r} is a column number, but the response is not CSV"
            raise RecordError("score_not_found", f"{problem}: {_json(documents)}")
        elif body.format == "application/jsonlines":
            found = [self._find_score(document) for document in documents]
        else:
            (document,) = documents or (None,)
            found = self._find_score(document)
            if not isinstance(found, list) or (count == 1 and len(found) != 1):
                found = [found]
        if len(found) != count:
            raise RecordError("row_count", f"{plural(count, 'record')} in the request, {len(found)} in the response")
        return list(found)

    def name(self, i: int) -> str:
        """Return the name of the i-th feature."""
        return self.headers[i] if self.headers and i < len(self.headers) else f"column_{i}"

    def names(self, width: int) -> tuple[str, ...]:
        """Return the names of the features of a record with `width` features."""
        return tuple(self.name(i) for i in range(width))

    def scalars(self, values: list[Any]) -> list[Scalar]:
        """Return feature values after a check of their types.

        Raises:
            RecordError: `feature_type`, for lists and objects.
        """
        for i, value in enumerate(values):
            if isinstance(value, list | dict):
                expected = "expected a number, a string, a boolean or null"
                raise RecordError("feature_type", f"feature {self.name(i)!r} is {_json(value)}, {expected}")
        return values

    @cached_property
    def _find_features(self) -> Callable[[Any], Any]:
        return finder(self.features)

    @cached_property
    def _node_type(self) -> str | None:
        """The node type of `features`; a projection or multi-select that returns only nulls finds nothing."""
        return None if self.features is None else str(compiled(self.features).parsed["type"])

    @cached_property
    def _find_score(self) -> Callable[[Any], Any]:
        return finder(self.score)

    def _one_row(self, document: Any) -> list[Any]:
        values = self._find_features(document)
        is_multi_select = self._node_type == "multi_select_list"
        if not isinstance(values, list) or not values or (is_multi_select and _all_null(values)):
            raise self._not_found(values, document, "a list of values")
        return values

    def _many_rows(self, document: Any) -> list[list[Any]]:
        found = self._find_features(document)
        if self.columnar:
            return self._transposed(found, document)
        if isinstance(found, list) and self._node_type == "projection" and _all_null(found):
            found = None
        if isinstance(found, list) and found and not any(isinstance(row, list) for row in found):
            return [found]
        if not isinstance(found, list) or not found or not all(isinstance(row, list) and row for row in found):
            raise self._not_found(found, document, "a list of values per record")
        return found

    def _transposed(self, found: Any, document: Any) -> list[list[Any]]:
        """Return the rows of a table in columns: a list of lists, an object of lists, or pandas' object of objects."""
        columns = self._in_order(found) if isinstance(found, dict) else found
        if not isinstance(columns, list) or not columns:
            raise self._not_found(found, document, "a list of values per feature")
        if all(isinstance(column, dict) for column in columns):
            if any(column.keys() != columns[0].keys() for column in columns):
                raise RecordError("row_count", f"the columns have different rows: {_json(document)}")
            columns = [[column[row] for row in columns[0]] for column in columns]
        if not all(isinstance(column, list) and column for column in columns):
            raise self._not_found(found, document, "a list of values per feature")
        if len({len(column) for column in columns}) > 1:
            lengths = [len(column) for column in columns]
            raise RecordError("row_count", f"the columns have different lengths, {snippet(lengths)}: {_json(document)}")
        return [list(row) for row in zip(*columns, strict=True)]

    def _in_order(self, columns: dict[str, Any]) -> list[Any]:
        names = self.headers if self.headers and set(self.headers) == columns.keys() else columns
        return [columns[name] for name in names]

    def _not_found(self, found: Any, document: Any, expected: str) -> RecordError:
        result = "nothing" if found is None else f"{_json(found)}, which is not {expected},"
        problem = f"data.features={_shown(self.features)} returns {result} in {_json(document)}"
        return RecordError("features_not_found", problem)

    def _cells(self, rows: list[list[Any]], count: int) -> list[Any]:
        """Return the scores of each record in a CSV; one line may contain the scores of all records."""
        if len(rows) == 1 and count > 1 and len(rows[0]) == count and self.score in {None, "0"}:
            return rows[0]
        if self.score is None:
            return list(rows)
        if not self.score.isdecimal():
            problem = f"data.score={self.score!r} is not a column number (counted from 0), but the response is CSV"
            raise RecordError("score_not_found", problem)
        column = int(self.score)
        return [row[column] if column < len(row) else None for row in rows]

    def _numbers(self, found: Any, body: Body) -> list[float]:
        values = _unpacked(found)
        if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            result = "nothing" if found is None else f"{_json(found)}, which is not a number,"
            where = _json(body.documents[0] if len(body.documents) == 1 else body.documents)
            raise RecordError("score_not_found", f"data.score={_shown(self.score)} returns {result} in {where}")
        return [float(value) for value in values]


def _unpacked(found: Any) -> list[Any]:
    """Return the scores of a record as a list; a string, such as a quoted cell, may contain a number or a list."""
    while isinstance(found, str) or (isinstance(found, list) and len(found) == 1 and isinstance(found[0], str | list)):
        try:
            found = orjson.loads(found) if isinstance(found, str) else found[0]
        except orjson.JSONDecodeError:
            return []
    return found if isinstance(found, list) else [found]


def _all_null(values: list[Any]) -> bool:
    return all(value is None for value in values)


def _shown(expression: str | None) -> str:
    return "null" if expression is None else repr(expression)


def _json(value: Any) -> str:
    try:
        return snippet(orjson.dumps(value))
    except TypeError as error:
        return "a deeply nested document" if "Recursion" in str(error) else snippet(value)


@dataclass(frozen=True)
class PayloadFormat:
    """The format of requests and responses, checked at construction.

    Attributes:
        content_type, accept_type: media types of requests and responses.
        content_template, record_template: templates that encode rows as requests.
        headers: names of the features, None for `column_0`, `column_1`, …
        score: location of the scores in a response: a JMESPath, or a column number of a CSV; None for the whole
            response.

    Raises:
        ValueError: if `score` does not fit the media type of responses, or a template is invalid.
    """

    content_type: Format
    accept_type: Format
    content_template: str | None
    record_template: str | None
    headers: tuple[str, ...] | None
    score: str | None

    def __post_init__(self) -> None:
        is_csv = self.accept_type == "text/csv"
        if self.score is not None and self.score.isdecimal() != is_csv:
            expected = "a column number" if is_csv else "a JMESPath"
            raise ValueError(
                f"score: expected {expected} or null with accept_type={self.accept_type} (got {self.score!r})"
            )
        _ = self.template

    @cached_property
    def template(self) -> Template:
        """The encoder of requests."""
        return Template(self.content_type, self.content_template, self.record_template, self.headers)
