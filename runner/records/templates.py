"""Encoding of rows as request bodies, with SageMaker Clarify's templates.

A template is JSON with placeholders for values. It is parsed once, and values are put into the parsed document, never
into its text, so that special characters in values and names are always escaped.

Source of the format: SageMaker developer guide, "Endpoint requests for tabular data", whose examples are tests of this
module. `$record_count` and `$feature_count` are an extension for protocols that need the shape of a request.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import orjson
import polars as pl

from runner.domain.numbers import plural
from runner.errors import listed, snippet
from runner.records.payloads import Scalar

JSON_LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
CONTENT_TYPES = (JSON_LINES, JSON, CSV)

RECORD_EXAMPLE = '{"features":$features}'
"""Default template of a record in JSON Lines, and example in messages."""
BODY_EXAMPLE = '{"instances":$records}'
FEATURES, FEATURES_KVP, FEATURE_NAMES = "$features", "$features_kvp", "$feature_names"
RECORDS, RECORD, RECORD_COUNT, FEATURE_COUNT = "$records", "$record", "$record_count", "$feature_count"
PLACEHOLDERS = (FEATURES, FEATURES_KVP, FEATURE_NAMES, RECORDS, RECORD, RECORD_COUNT, FEATURE_COUNT)
BODY_PLACEHOLDERS = (FEATURE_NAMES, RECORD_COUNT, FEATURE_COUNT)
"""Placeholders that are allowed around records."""

DELIMITER = "\0"
"""Delimiter around a column number; neither JSON nor a CSV of numbers can contain it."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\$\{[^}"]*\}|\$\w*', re.DOTALL)
"""A JSON string, or a placeholder outside strings."""
EMBEDDED = re.compile(
    r"\$(?:features|features_kvp|feature_names|feature_count|records|record|record_count)\b|\$\{.*\}", re.DOTALL
)
"""A placeholder inside a string."""


@dataclass(frozen=True)
class Placeholder:
    """A position in a document for a value; `${Name}` is the value of one feature."""

    name: str


@dataclass(frozen=True)
class ParsedTemplate:
    """A parsed template.

    Attributes:
        key: setting with the template.
        example: a valid template.
        root: the JSON document, with a `Placeholder` object for each placeholder.
    """

    key: str
    example: str
    root: Any

    @classmethod
    def parse(cls, key: str, text: str, example: str, headers: Sequence[str] | None) -> ParsedTemplate:
        """Return the parsed template.

        Raises:
            ValueError: with a message, if the template is not JSON, or a placeholder is unknown or misplaced.
        """
        try:
            raw = json.loads(
                TOKEN.sub(partial(_marked, headers=headers), text),
                object_pairs_hook=_object,
                parse_constant=_number,
                parse_float=_number,
            )
            return cls(key, example, _node(raw))
        except json.JSONDecodeError as error:
            raise template_error(
                key, f"expected JSON with placeholders, got {snippet(text) or repr('')} ({error.msg})", example
            ) from error
        except RecursionError as error:
            raise template_error(key, f"{snippet(text)} is nested too deeply", example) from error
        except UnicodeEncodeError as error:
            raise template_error(key, f"{error.object!r} contains an unpaired surrogate", example) from error
        except ValueError as error:
            raise template_error(key, str(error), example) from error

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The names of all placeholders, duplicates included."""
        return tuple(_placeholders(self.root))

    def check_placeholders(self, allowed: Sequence[str]) -> None:
        """Check that all placeholders are allowed; `${Name}` is allowed if `$features` is.

        Raises:
            ValueError: with a message.
        """
        for name in self.placeholders:
            if name not in allowed and not (name.startswith("${") and FEATURES in allowed):
                raise template_error(self.key, f"{name} is not allowed here", self.example)

    def check_record(self) -> None:
        """Check that the template encodes one record.

        Raises:
            ValueError: with a message, if it contains no feature, or repeats `$features` or `$features_kvp`.
        """
        self.check_placeholders((FEATURES, FEATURES_KVP, FEATURE_NAMES))
        if not set(self.placeholders) - {FEATURE_NAMES}:
            raise template_error(self.key, f'expected {FEATURES}, {FEATURES_KVP} or "${{Name}}"', self.example)
        if duplicates := [name for name in (FEATURES, FEATURES_KVP) if self.placeholders.count(name) > 1]:
            raise template_error(self.key, f"{duplicates[0]} occurs more than once", self.example)

    def check_content(self) -> None:
        """Check that the template encodes a body of records.

        Raises:
            ValueError: with a message, unless there is exactly one position for records.
        """
        self.check_placeholders((RECORDS, RECORD, *BODY_PLACEHOLDERS))
        if len([name for name in self.placeholders if name not in BODY_PLACEHOLDERS]) != 1:
            raise template_error(self.key, f"expected exactly one of {RECORDS} and {RECORD}", self.example)


@dataclass(frozen=True)
class Template:
    r"""An encoder of rows as requests; its templates are checked at construction.

    Attributes:
        content_type: `application/jsonlines`, `application/json` or `text/csv`.
        content_template: template of a record (JSON Lines), None for `{"features":$features}`; or template of a body
            (JSON). In a body, `$record_count` and `$feature_count` are the numbers of records and features.
        record_template: template of a record (JSON).
        headers: names of the features, None for `column_0`, `column_1`, …

    Raises:
        ValueError: with a message that contains the key of the template, the problem and a valid example.

    >>> Template("application/jsonlines", None, None, None).bodies([[0, 1], [3, 4]])
    ['{"features":[0,1]}\n{"features":[3,4]}']
    """

    content_type: str
    content_template: str | None
    record_template: str | None
    headers: tuple[str, ...] | None

    def __post_init__(self) -> None:
        if self.content_type not in CONTENT_TYPES:
            raise ValueError(f"unsupported content type {self.content_type!r}; expected {_or(CONTENT_TYPES)}")
        if self.content_type != JSON:
            self._check_absent("record_template", self.record_template)
        if self.content_type == CSV:
            self._check_absent("content_template", self.content_template)
            return
        self._record.check_record()
        if self.content_type == JSON:
            self._content.check_content()

    def bodies(self, rows: Sequence[Sequence[Scalar]]) -> list[str]:
        """Return one body with all rows, or one body per row for a template with `$record`; no body without rows.

        Raises:
            ValueError: with a message, if a row has a wrong number of values or a number that is not finite.
        """
        if not rows:
            return []
        names = self._names(len(rows[0]))
        for i, row in enumerate(rows):
            _check_row(i, row, names)
        texts = [self._text(row, names) for row in rows]
        if self.one_by_one:
            return [self._body(text, 1, names) for text in texts]
        return [self._body(self._separator.join(texts), len(texts), names)]

    def records(self, features: pl.DataFrame) -> pl.Series:
        """Return the encoding of each row in a body, computed column by column, with the same bytes as in `bodies`.

        Raises:
            ValueError: as `bodies`.
        """
        names = self._names(features.width)
        _check_table(features, names, self.content_type)
        write = _cell if self.content_type == CSV else _dumps
        cells = pl.DataFrame([_texts(column, write).alias(str(d)) for d, column in enumerate(features)])
        pattern = self._text([orjson.Fragment(f"{DELIMITER}{d}{DELIMITER}") for d in range(features.width)], names)
        parts = [pl.col(part) if i % 2 else pl.lit(part) for i, part in enumerate(pattern.split(DELIMITER))]
        return cells.select(pl.concat_str(parts).alias("records")).to_series()

    def around(self, records: pl.Series, width: int) -> str:
        """Return the body with encoded records of `width` features; exactly one record if `one_by_one` is true."""
        return self._body(records.str.join(self._separator).item(), len(records), self._names(width))

    def frame_bytes(self, count: int, width: int) -> int:
        """Return the size in bytes of a body with `count` records, without the records and their separators."""
        return len(self._body("", count, self._names(width)).encode())

    @property
    def one_by_one(self) -> bool:
        """Whether each row is a separate request."""
        return self.content_type == JSON and RECORD in self._content.placeholders

    @cached_property
    def _record(self) -> ParsedTemplate:
        if self.content_type == JSON_LINES:
            text = RECORD_EXAMPLE if self.content_template is None else self.content_template
            return ParsedTemplate.parse("content_template", text, RECORD_EXAMPLE, self.headers)
        if self.record_template is None:
            raise template_error("record_template", f"required for {JSON}", RECORD_EXAMPLE)
        return ParsedTemplate.parse("record_template", self.record_template, RECORD_EXAMPLE, self.headers)

    @cached_property
    def _content(self) -> ParsedTemplate:
        if self.content_template is None:
            raise template_error("content_template", f"required for {JSON}", BODY_EXAMPLE)
        return ParsedTemplate.parse("content_template", self.content_template, BODY_EXAMPLE, self.headers)

    @property
    def _separator(self) -> str:
        return "," if self.content_type == JSON else "\n"

    def _names(self, width: int) -> tuple[str, ...]:
        return self.headers or tuple(f"column_{i}" for i in range(width))

    def _text(self, row: Sequence[Any], names: Sequence[str]) -> str:
        """Return the encoding of a row in a body."""
        if self.content_type == CSV:
            return _csv_row(row)
        indices = {name: i for i, name in enumerate(names)}
        return _dumps(_filled(self._record.root, partial(_value, row=row, indices=indices)))

    def _body(self, records: str, count: int, names: Sequence[str]) -> str:
        """Return the body with encoded records."""
        if self.content_type != JSON:
            return records
        values = {
            RECORDS: orjson.Fragment(f"[{records}]"),
            RECORD: orjson.Fragment(records),
            FEATURE_NAMES: list(names),
            RECORD_COUNT: count,
            FEATURE_COUNT: len(names),
        }
        return _dumps(_filled(self._content.root, values.__getitem__))

    def _check_absent(self, key: str, text: str | None) -> None:
        if text is not None:
            raise ValueError(f"{key}: expected null, because {self.content_type} has no such template")


def template_error(key: str, problem: str, example: str) -> ValueError:
    """Return the error of an invalid template."""
    return ValueError(f"{key}: {problem}; a valid template is {example}")


def _marked(token: re.Match[str], headers: Sequence[str] | None) -> str:
    """Return a token as a JSON string that starts with `$` for a placeholder, else with `=`.

    Raises:
        ValueError: with a message, if the token is neither a placeholder nor a string without placeholders.
    """
    text = token[0]
    if not text.startswith('"'):
        _check_bare(text)
        return f'"{text}"'
    string: str = json.loads(text)
    string.encode()
    if _is_column(string, headers):
        return text
    if EMBEDDED.search(string):
        raise ValueError(f"expected a placeholder as a whole value, not inside a string: {snippet(text)}")
    return f'"={text[1:]}'


def _check_bare(text: str) -> None:
    if text.startswith("${"):
        raise ValueError(f'expected quotes around a feature placeholder: "{text}" instead of {text}')
    if text not in PLACEHOLDERS:
        near = difflib.get_close_matches(text, PLACEHOLDERS, n=1)
        known = f"""expected one of {", ".join(PLACEHOLDERS)} and "${{Name}}\""""
        hint = f"did you mean {near[0]}?" if near else known
        raise ValueError(f"unknown placeholder {text}; {hint}")


def _is_column(string: str, headers: Sequence[str] | None) -> bool:
    """Return whether a string is the placeholder of one feature.

    Raises:
        ValueError: with a message, if the feature is unknown.
    """
    if not (string.startswith("${") and string.endswith("}")):
        return False
    name = string[2:-1]
    if name in headers if headers else re.fullmatch(r"column_(?:0|[1-9]\d*)", name):
        return True
    if "${" in name:
        return False
    known = f"the features are {listed(headers)}" if headers else "the features are column_0, column_1, …"
    near = difflib.get_close_matches(name, headers or (), n=1)
    hint = f'did you mean "${{{near[0]}}}"?' if near else known
    raise ValueError(f'unknown feature "{string}"; {hint}')


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    for name in members:
        if name.startswith("$"):
            raise ValueError(f"expected placeholders as values, not as the name of a member: {name}")
    if len(members) < len(pairs):
        raise ValueError("expected unique names in an object")
    return members


def _number(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is not a finite number")


def _node(raw: Any) -> Any:
    """Return a parsed template without the marks of its strings."""
    match raw:
        case str():
            return Placeholder(raw) if raw.startswith("$") else raw[1:]
        case list():
            return [_node(inner) for inner in raw]
        case dict():
            return {name[1:]: _node(inner) for name, inner in raw.items()}
        case _:
            return raw


def _placeholders(node: Any) -> Iterator[str]:
    match node:
        case Placeholder():
            yield node.name
        case list():
            for inner in node:
                yield from _placeholders(inner)
        case dict():
            for inner in node.values():
                yield from _placeholders(inner)


def _filled(node: Any, value: Callable[[str], Any]) -> Any:
    """Return a document with a value for each placeholder."""
    match node:
        case Placeholder():
            return value(node.name)
        case list():
            return [_filled(inner, value) for inner in node]
        case dict():
            return {name: _filled(inner, value) for name, inner in node.items()}
        case _:
            return node


def _value(placeholder: str, row: Sequence[Scalar], indices: Mapping[str, int]) -> Any:
    match placeholder:
        case "$features":
            return list(row)
        case "$features_kvp":
            return dict(zip(indices, row, strict=True))
        case "$feature_names":
            return list(indices)
    if (name := placeholder[2:-1]) not in indices:
        raise ValueError(f'"{placeholder}" is not one of the {plural(len(row), "feature")} of a row')
    return row[indices[name]]


def _check_row(i: int, row: Sequence[Scalar], names: Sequence[str]) -> None:
    if len(row) != len(names):
        raise ValueError(f"row {i} has {plural(len(row), 'value')}, expected {plural(len(names), 'feature')}")
    for name, value in zip(names, row, strict=True):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"row {i}: feature {name!r} is {value}, expected a finite number")


def _check_table(features: pl.DataFrame, names: Sequence[str], content_type: str) -> None:
    if features.width != len(names):
        raise ValueError(f"a row has {plural(features.width, 'value')}, expected {plural(len(names), 'feature')}")
    for name, column in zip(names, features, strict=True):
        if column.dtype.is_float() and not column.is_finite().all():
            i = int(column.is_finite().fill_null(value=True).arg_min() or 0)
            raise ValueError(f"row {i}: feature {name!r} is {column[i]}, expected a finite number")
    if content_type == CSV and features.width == 1 and features.to_series().null_count():
        _csv_row([None])


def _texts(column: pl.Series, write: Callable[[Scalar], str]) -> pl.Series:
    """Return the encoding of each value; polars encodes numbers and booleans as `write` does, but faster."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        exact = column.cast(pl.Float64) if column.dtype == pl.Float32 else column
        return exact.cast(pl.String).fill_null(write(None))
    unique = column.unique().drop_nulls()
    texts = [write(value) for value in unique]
    return column.replace_strict(unique, texts, default=None, return_dtype=pl.String).fill_null(write(None))


def _csv_row(row: Sequence[Scalar]) -> str:
    if list(row) == [None]:
        raise ValueError("a row's only feature is null; a CSV cannot encode it, because a blank line is no row")
    return ",".join(map(_cell, row))


def _cell(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return _dumps(value)


def _dumps(value: Any) -> str:
    """Return a value as JSON; unlike in orjson, its integers may exceed 64 bits."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        pass
    match value:
        case list():
            return f"[{','.join(map(_dumps, value))}]"
        case dict():
            return f"{{{','.join(f'{_dumps(name)}:{_dumps(inner)}' for name, inner in value.items())}}}"
        case _:
            return json.dumps(value, ensure_ascii=False)


def _or(values: Sequence[str]) -> str:
    return f"{', '.join(values[:-1])} or {values[-1]}"
