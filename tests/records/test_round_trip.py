"""Round trips: rows encoded by a template are read from the capture, in every format."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Event, Payload
from runner.records import capture
from runner.records.fields import Fields
from runner.records.payloads import Format, Scalar
from runner.records.tables import event_records
from runner.records.templates import Template

LINES: Format = "application/jsonlines"
JSON: Format = "application/json"
CSV: Format = "text/csv"
HOSTILE = [
    "$features", "$record", "${A}", '"${A}"', '"', '""', '","', ",", "a,b", ", ", 'say "hi"', "back\\", "two\nlines",
    "\n", "\r\n", "\r", "tab\t", "🦔 é", "\u2028", "", " ", "=x", "007", "1", "NaN", "null", "true", "[1]", '{"a":1}',
    "\ufeff", "\x00",
]  # fmt: skip

texts = st.text() | st.sampled_from(HOSTILE)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
names = st.text(min_size=1) | st.sampled_from([text for text in HOSTILE if text])
tables = st.integers(1, 6).flatmap(
    lambda width: st.tuples(
        st.lists(names, min_size=width, max_size=width, unique=True),
        st.lists(st.lists(scalars, min_size=width, max_size=width), min_size=1, max_size=5),
    )
)
finite = st.floats(allow_nan=False, allow_infinity=False)
scored = st.integers(1, 4).flatmap(
    lambda count: st.lists(st.lists(finite, min_size=count, max_size=count), min_size=1, max_size=5)
)


@dataclass(frozen=True)
class RoundTrip:
    """A template, and the expression that locates its features; `{names}` is a multi-select of the features."""

    format: Format
    content: str | None
    record: str | None
    features: str | None

    def template(self, headers: Sequence[str]) -> Template:
        """Return the template for features with these names."""
        content, record = (text and text.replace("{each}", _each(headers)) for text in (self.content, self.record))
        return Template(self.format, content, record, tuple(headers))

    def fields(self, headers: Sequence[str]) -> Fields:
        """Return the locations of features with these names."""
        selected = ",".join(map(json.dumps, headers))
        numbered = ",".join(f"x{d}" for d in range(len(headers)))
        expression = self.features and self.features.replace("{names}", selected).replace("{numbers}", numbered)
        return Fields(expression, None, content_type=self.format, accept_type=self.format)


def _each(headers: Sequence[str]) -> str:
    return json.dumps({f"x{d}": f"${{{name}}}" for d, name in enumerate(headers)})


WAYS = [
    RoundTrip(LINES, None, None, "features"),
    RoundTrip(LINES, "$features", None, None),
    RoundTrip(LINES, '{"id":7,"data":{"values":$features}}', None, "data.values"),
    RoundTrip(LINES, "$features_kvp", None, "[{names}]"),
    RoundTrip(LINES, '{"record":$features_kvp,"names":$feature_names}', None, "record.[{names}]"),
    RoundTrip(LINES, "{each}", None, "[{numbers}]"),
    RoundTrip(JSON, "$records", "$features", None),
    RoundTrip(JSON, '{"instances":$records}', "$features", "instances"),
    RoundTrip(JSON, '{"instances":$records}', '{"features":$features}', "instances[*].features"),
    RoundTrip(JSON, '{"instances":$records,"feature_names":$feature_names}', "$features", "instances"),
    RoundTrip(JSON, "$records", "$features_kvp", "[*].[{names}]"),
    RoundTrip(JSON, "$records", "{each}", "[*].[{numbers}]"),
    RoundTrip(JSON, "$record", "$features", "@"),
    RoundTrip(JSON, "$record", '{"features":$features}', "features"),
    RoundTrip(JSON, "$record", "$features_kvp", "[{names}]"),
    RoundTrip(JSON, '{"instances":[$record]}', "{each}", "instances[*].[{numbers}]"),
    RoundTrip(CSV, None, None, None),
]


def captured_payload(body: str, format_: Format, in_base64: bool) -> Payload:
    """Return a body as a captured payload."""
    if in_base64:
        return Payload(format_, base64.b64encode(body.encode()).decode(), "BASE64")
    return Payload(format_, body, "CSV" if format_ == CSV else "JSON")


def typed(rows: Sequence[Sequence[Scalar]]) -> list[list[tuple[type, str]]]:
    """Return values with their types, so that 1, 1.0 and true differ, and so do 0.0 and -0.0."""
    return [[(type(value), repr(value)) for value in row] for row in rows]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.format} {way.content} {way.record}")
@given(table=tables, in_base64=st.booleans())
def test_encoded_rows_are_read(way: RoundTrip, table: tuple[list[str], list[list[Scalar]]], in_base64: bool) -> None:
    """Values of any type are read from the capture line in their types and order."""
    headers, rows = table
    if way.format == LINES:  # a record without any value is indistinguishable from one that is not there
        rows = [row for row in rows if row.count(None) < len(row)]
    elif way.format == CSV:  # and so is a blank line
        rows = [row for row in rows if row != [None]]
    found: list[Sequence[Scalar]] = []
    for body in way.template(headers).bodies(rows):
        event = Event("e", datetime(2023, 1, 19, 5, tzinfo=UTC), captured_payload(body, way.format, in_base64), None)
        found += [row.values for row in event_records(1, capture.decode(capture.encode(event)), way.fields(headers))]
    assert typed(found) == typed(rows)


def _lists(headers: Sequence[str], columns: list[list[Scalar]]) -> Any:
    return columns


def _object(headers: Sequence[str], columns: list[list[Scalar]]) -> Any:
    return dict(zip(headers, columns, strict=True))


def _pandas(headers: Sequence[str], columns: list[list[Scalar]]) -> Any:
    numbered = [{str(i): value for i, value in enumerate(column)} for column in columns]
    return dict(zip(headers, numbered, strict=True))


@pytest.mark.parametrize("arranged", [_lists, _object, _pandas])
@given(table=tables, in_base64=st.booleans())
def test_columns_are_read_as_rows(arranged: Any, table: tuple[list[str], list[list[Scalar]]], in_base64: bool) -> None:
    """Values are read from columns: lists, an object of lists, or pandas' object of objects."""
    headers, rows = table
    columns = [list(column) for column in zip(*rows, strict=True)]
    body = orjson.dumps({"data": arranged(headers, columns)}).decode()
    fields = Fields("data", None, content_type=JSON, columnar=True)
    assert typed(fields.request_rows(captured_payload(body, JSON, in_base64))) == typed(rows)


def _dumped(value: Any) -> str:
    return orjson.dumps(value).decode()


def _plain(row: list[float]) -> Any:
    return row[0] if len(row) == 1 else row


def _quoted(row: list[float]) -> str:
    return '"' + _dumped(row) + '"'


SCORES: dict[str, tuple[Format, str | None, Callable[[list[list[float]]], str]]] = {
    "lines": (LINES, "score", lambda rows: "\n".join(_dumped({"score": _plain(row), "label": 1}) for row in rows)),
    "lines of lists": (LINES, "a.b", lambda rows: "".join(_dumped({"a": {"b": row}}) + "\n" for row in rows)),
    "lines of texts": (LINES, "score", lambda rows: "\n".join(_dumped({"score": _dumped(row)}) for row in rows)),
    "bare lines": (LINES, None, lambda rows: "\r\n".join(_dumped(_plain(row)) for row in rows)),
    "objects": (JSON, "all[*].score", lambda rows: _dumped({"all": [{"score": _plain(row)} for row in rows]})),
    "texts": (JSON, "[*].score", lambda rows: _dumped([{"score": _dumped(row)} for row in rows])),
    "a list": (JSON, "[*]", lambda rows: _dumped([_plain(row) for row in rows])),
    "a list of lists": (JSON, None, _dumped),
    "rows": (CSV, None, lambda rows: "\n".join(",".join(map(_dumped, row)) for row in rows)),
    "rows with a last end": (CSV, None, lambda rows: "".join(",".join(map(_dumped, row)) + "\r\n" for row in rows)),
    "a column of lists": (CSV, "1", lambda rows: "\n".join(f'"a, ""b""",{_quoted(row)},7' for row in rows)),
    "cells of lists": (CSV, None, lambda rows: "\n".join(map(_quoted, rows))),
    "one row of lists": (CSV, None, lambda rows: ",".join(map(_quoted, rows))),
}  # fmt: skip


@pytest.mark.parametrize("way", SCORES)
@given(rows=scored, in_base64=st.booleans())
def test_scores_are_read(way: str, rows: list[list[float]], in_base64: bool) -> None:
    """Scores of any number of records and outputs are read as equal doubles, in every arrangement."""
    format_, score, body = SCORES[way]
    fields = Fields(None, score, content_type=format_, accept_type=format_)
    assert typed(fields.response_scores(captured_payload(body(rows), format_, in_base64), len(rows))) == typed(rows)


ONE_SCORE: dict[str, tuple[Format, str | None, Callable[[list[float]], str]]] = {
    "one row": (CSV, None, lambda scores: ",".join(map(_dumped, scores))),
    "a column": (CSV, "1", lambda scores: "\n".join(f"1,{_dumped(score)}" for score in scores)),
    "quoted cells": (CSV, "0", lambda scores: "\n".join(f'"{_dumped(score)}"' for score in scores)),
    "texts": (LINES, "score", lambda scores: "\n".join(_dumped({"score": _dumped(score)}) for score in scores)),
    "a list": (JSON, "scores", lambda scores: _dumped({"scores": scores})),
}  # fmt: skip


@pytest.mark.parametrize("way", ONE_SCORE)
@given(scores=st.lists(finite, min_size=1, max_size=5), in_base64=st.booleans())
def test_single_scores_are_read(way: str, scores: list[float], in_base64: bool) -> None:
    """One score per record is read from arrangements for single scores."""
    format_, score, body = ONE_SCORE[way]
    fields = Fields(None, score, content_type=format_, accept_type=format_)
    found = fields.response_scores(captured_payload(body(scores), format_, in_base64), len(scores))
    assert typed(found) == typed([[score] for score in scores])


@given(probabilities=st.lists(finite, min_size=2, max_size=5), in_base64=st.booleans())
def test_class_probabilities_of_one_record_are_read(probabilities: list[float], in_base64: bool) -> None:
    """A document with one list for one record contains its class probabilities."""
    fields = Fields(None, "probabilities", accept_type=JSON)
    body = _dumped({"probabilities": probabilities})
    assert typed(fields.response_scores(captured_payload(body, JSON, in_base64), 1)) == typed([probabilities])
