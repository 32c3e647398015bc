"""Where features and scores stand in the documents of a body: JMESPath expressions, and column numbers in a CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from runner.domain.records import Payload
from runner.domain.text import plural
from runner.errors import RecordError, snippet
from runner.records import payloads
from runner.records.expressions import compiled, finder
from runner.records.payloads import Format, Scalar


@dataclass(frozen=True)
class Fields:
    """Locates the features in a request and the scores in a response.

    Attributes:
        features: JMESPath to the feature values: of one record (JSON Lines), or a list of them for each record (JSON).
            Not asked for a CSV, whose cells they are.
        score: JMESPath to the score, likewise: a number, a list of class probabilities, or either inside a text;
            the number of a CSV's column. None: the whole document, all columns.
        headers: the names of the features, or None for `column_0`, `column_1`, …
        content_type, accept_type: formats of requests and responses whose encoding does not decide it.
        columnar: whether `features` finds a list for each feature instead of one for each record (JSON).
    """

    features: str | None
    score: str | None
    headers: tuple[str, ...] | None = None
    content_type: Format = "application/jsonlines"
    accept_type: Format = "application/jsonlines"
    columnar: bool = False

    def request_rows(self, payload: Payload) -> list[list[Scalar]]:
        """Return the feature values of each record of a request, each in the type it was captured in.

        Raises:
            RecordError: `encoding`, `payload`, `not_finite`, `features_not_found` or `feature_type`.
        """
        layout = payloads.layout(payload, self.content_type)
        return self.rows(payloads.documents(payloads.text(payload), layout), layout)

    def rows(self, documents: Sequence[Any], layout: Format) -> list[list[Scalar]]:
        """Return the feature values of each record of a request's or dataset's documents.

        Raises:
            RecordError: `features_not_found` or `feature_type`.
        """
        return [self.scalars(row) for row in self.located_rows(documents, layout)]

    def located_rows(self, documents: Sequence[Any], layout: Format) -> list[list[Any]]:
        """Return what stands where the feature values of each record should be, whatever it is.

        Raises:
            RecordError: `features_not_found`.
        """
        if layout == "text/csv":
            return list(documents)
        if layout == "application/jsonlines":
            return [self._one_row(document) for document in documents]
        return [row for document in documents for row in self._many_rows(document)]

    def response_scores(self, payload: Payload, count: int) -> list[list[float]]:
        """Return the L scores of each of the `count` records of a response.

        Raises:
            RecordError: `encoding`, `payload`, `not_finite`, `row_count` or `score_not_found`.
        """
        layout = payloads.layout(payload, self.accept_type)
        documents = payloads.documents(payloads.text(payload), layout)
        return [self._numbers(found, documents) for found in self.located_scores(documents, layout, count)]

    def located_scores(self, documents: Sequence[Any], layout: Format, count: int) -> list[Any]:
        """Return what stands where the scores of each record should be, whatever it is.

        Raises:
            RecordError: `row_count` or `score_not_found`.
        """
        if layout == "text/csv":
            found = self._cells(documents, count)
        elif self.score is not None and self.score.isdecimal():
            problem = f"data.score={self.score!r} is the number of a column, but the response is no CSV"
            raise RecordError("score_not_found", f"{problem}: {_json(list(documents))}")
        elif layout == "application/jsonlines":
            found = [self._score(document) for document in documents]
        else:
            (document,) = documents or (None,)
            found = self._score(document)
            if not isinstance(found, list) or (count == 1 and len(found) != 1):
                found = [found]
        if len(found) != count:
            raise RecordError("row_count", f"{plural(count, 'record')} in the request, {len(found)} in the response")
        return list(found)

    def feature_values(self, document: Any) -> list[Scalar]:
        """Return the feature values of a document that holds one record.

        Raises:
            RecordError: `features_not_found` or `feature_type`.
        """
        (row, *others) = (
            self._many_rows(document) if self.content_type == "application/json" else [self._one_row(document)]
        )
        if others:
            problem = f"data.features={self.features!r} finds {plural(1 + len(others), 'record')}, expected one"
            raise RecordError("features_not_found", f"{problem}: {_json(document)}")
        return self.scalars(row)

    def name(self, i: int) -> str:
        """Return the name of the i-th feature."""
        return self.headers[i] if self.headers and i < len(self.headers) else f"column_{i}"

    def names(self, width: int) -> tuple[str, ...]:
        """Return the names of all features of a record that has `width` of them."""
        return tuple(self.name(i) for i in range(width))

    @cached_property
    def _find_features(self) -> Callable[[Any], Any]:
        return finder(self.features)

    @cached_property
    def _kind(self) -> str | None:
        """The kind of the features' expression: of a projection or a selection, nothing but nulls means nothing."""
        return None if self.features is None else str(compiled(self.features).parsed["type"])

    @cached_property
    def _score(self) -> Callable[[Any], Any]:
        return finder(self.score)

    def _one_row(self, document: Any) -> list[Any]:
        values = self._find_features(document)
        if not isinstance(values, list) or not values or (self._kind == "multi_select_list" and _is_bare(values)):
            raise self._not_found(values, document, "a list of values")
        return values

    def _many_rows(self, document: Any) -> list[list[Any]]:
        found = self._find_features(document)
        if self.columnar:
            return self._transposed(found, document)
        if isinstance(found, list) and self._kind == "projection" and _is_bare(found):
            found = None
        if isinstance(found, list) and found and not any(isinstance(row, list) for row in found):
            return [found]
        if not isinstance(found, list) or not found or not all(isinstance(row, list) and row for row in found):
            raise self._not_found(found, document, "a list of values for each record")
        return found

    def _transposed(self, found: Any, document: Any) -> list[list[Any]]:
        columns = self._in_order(found) if isinstance(found, dict) else found
        if not isinstance(columns, list) or not columns:
            raise self._not_found(found, document, "a list of values for each feature")
        if all(isinstance(column, dict) for column in columns):
            if any(column.keys() != columns[0].keys() for column in columns):
                raise RecordError("row_count", f"the columns have different rows: {_json(document)}")
            columns = [[column[row] for row in columns[0]] for column in columns]
        if not all(isinstance(column, list) and column for column in columns):
            raise self._not_found(found, document, "a list of values for each feature")
        if len({len(column) for column in columns}) > 1:
            lengths = [len(column) for column in columns]
            raise RecordError("row_count", f"the columns have different lengths, {lengths}: {_json(document)}")
        return [list(row) for row in zip(*columns, strict=True)]

    def _in_order(self, columns: dict[str, Any]) -> list[Any]:
        named = self.headers if self.headers and set(self.headers) == columns.keys() else columns
        return [columns[name] for name in named]

    def _not_found(self, found: Any, document: Any, expected: str) -> RecordError:
        what = "nothing" if found is None else f"{_json(found)}, which is not {expected},"
        return RecordError("features_not_found", f"data.features={self.features!r} finds {what} in {_json(document)}")

    def scalars(self, values: list[Any]) -> list[Scalar]:
        """Return feature values, sure to be texts, numbers, booleans and nulls.

        Raises:
            RecordError: `feature_type`.
        """
        for i, value in enumerate(values):
            if isinstance(value, list | dict):
                problem = f"feature {self.name(i)!r} holds {_json(value)}, expected a number, a text, a boolean or null"
                raise RecordError("feature_type", problem)
        return values

    def _cells(self, rows: Sequence[list[Any]], count: int) -> list[Any]:
        """Return the cells of each record of a CSV; the scores of several records may share one line."""
        if len(rows) == 1 and count > 1 and len(rows[0]) == count and self.score in {None, "0"}:
            return rows[0]
        if self.score is None:
            return list(rows)
        if not self.score.isdecimal():
            problem = f"the response is a CSV, so data.score={self.score!r} should be the number of a column, from 0"
            raise RecordError("score_not_found", problem)
        column = int(self.score)
        return [row[column] if column < len(row) else None for row in rows]

    def _numbers(self, found: Any, documents: Sequence[Any]) -> list[float]:
        values = _unpacked(found)
        if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            what = "nothing" if found is None else f"{_json(found)}, which is no number,"
            where = _json(documents[0] if len(documents) == 1 else list(documents))
            raise RecordError("score_not_found", f"data.score={self.score!r} finds {what} in {where}")
        return [float(value) for value in values]


def _unpacked(found: Any) -> list[Any]:
    """Return the scores of a record as a list; a text may hold a number or a list, as in a CSV's quoted cell."""
    while isinstance(found, str) or (isinstance(found, list) and len(found) == 1 and isinstance(found[0], str | list)):
        try:
            found = orjson.loads(found) if isinstance(found, str) else found[0]
        except orjson.JSONDecodeError:
            return []
    return found if isinstance(found, list) else [found]


def _is_bare(values: list[Any]) -> bool:
    return all(value is None for value in values)


def _json(value: Any) -> str:
    try:
        return snippet(orjson.dumps(value))
    except TypeError:
        return "a deeply nested document"
