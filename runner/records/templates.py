"""Rows of feature values → the body of a request, by SageMaker Clarify's templates.

A template is JSON with placeholders where values stand. It is parsed once, and values are put into the parsed
document, never into its text: whatever a value or a name holds comes out as plain data.

Source: SageMaker developer guide, "Endpoint requests for tabular data", whose examples are this module's tests;
`$record_count` and `$feature_count` are an extension of ours, for protocols that want the shape of what they get.
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

from runner.domain.text import plural
from runner.errors import snippet
from runner.records.payloads import Scalar

JSON_LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
CONTENT_TYPES = (JSON_LINES, JSON, CSV)

LINE = '{"features":$features}'
"""What a record is in JSON Lines where no template says otherwise, and the example for one that does."""
MANY = '{"instances":$records}'
VALUES, OBJECT, NAMES, ALL, EACH = "$features", "$features_kvp", "$feature_names", "$records", "$record"
COUNT, WIDTH = "$record_count", "$feature_count"
PLACEHOLDERS = (VALUES, OBJECT, NAMES, ALL, EACH, COUNT, WIDTH)
AROUND = (NAMES, COUNT, WIDTH)
"""What may stand around records."""

MARK = "\0"
"""Stands in no JSON and no CSV of numbers; what is between two of them is the number of a column."""

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\$\{[^}"]*\}|\$\w*', re.DOTALL)
"""A JSON string, or a placeholder that is in none."""
EMBEDDED = re.compile(
    r"\$(?:features|features_kvp|feature_names|feature_count|records|record|record_count)\b|\$\{.*\}", re.DOTALL
)
"""A placeholder as a part of a string."""


@dataclass(frozen=True)
class Slot:
    """A place in a document that a value takes; `${Name}` is the value of one feature."""

    placeholder: str


@dataclass(frozen=True)
class Document:
    """A parsed template.

    Attributes:
        which: the setting it comes from; `example`: a right one.
        root: plain data with a `Slot` for each placeholder.
    """

    which: str
    example: str
    root: Any

    @classmethod
    def parse(cls, which: str, text: str, example: str, headers: Sequence[str] | None) -> Document:
        """Return the template that stands in `text`.

        Raises:
            ValueError: with a sentence, when it is no JSON, or has a placeholder nobody knows or in a wrong place.
        """
        try:
            raw = json.loads(
                TOKEN.sub(partial(_marked, headers=headers), text),
                object_pairs_hook=_object,
                parse_constant=_number,
                parse_float=_number,
            )
            return cls(which, example, _node(raw))
        except json.JSONDecodeError as error:
            raise refusal(
                which, f"{snippet(text)} is no JSON but for its placeholders ({error.msg})", example
            ) from error
        except RecursionError as error:
            raise refusal(which, f"{snippet(text)} is too deeply nested", example) from error
        except ValueError as error:
            raise refusal(which, str(error), example) from error

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """The placeholders, as often as they occur."""
        return tuple(_placeholders(self.root))

    def refuse_others(self, allowed: Sequence[str]) -> None:
        """Make sure that nothing but some placeholders, and features by their names, occur.

        Raises:
            ValueError: with a sentence.
        """
        for placeholder in self.placeholders:
            if placeholder not in allowed and not (placeholder.startswith("${") and VALUES in allowed):
                raise refusal(self.which, f"{placeholder} has no meaning there", self.example)

    def check_record(self) -> None:
        """Make sure that the template can stand for one record.

        Raises:
            ValueError: with a sentence, when no feature occurs in it, or all of them occur twice.
        """
        self.refuse_others((VALUES, OBJECT, NAMES))
        if not set(self.placeholders) - {NAMES}:
            raise refusal(self.which, f'holds none of {VALUES}, {OBJECT} and "${{Name}}"', self.example)
        if twice := [name for name in (VALUES, OBJECT) if self.placeholders.count(name) > 1]:
            raise refusal(self.which, f"holds {twice[0]} more than once", self.example)

    def check_content(self) -> None:
        """Make sure that the template can stand around records.

        Raises:
            ValueError: with a sentence, unless there is one place for them.
        """
        self.refuse_others((ALL, EACH, *AROUND))
        if len([name for name in self.placeholders if name not in AROUND]) != 1:
            raise refusal(self.which, f"needs exactly one of {ALL} and {EACH}", self.example)


@dataclass(frozen=True)
class Template:
    r"""How rows of feature values become requests; what cannot work is refused when it is made.

    Attributes:
        content_type: `application/jsonlines`, `application/json` or `text/csv`.
        content_template: JSON Lines: a record, None for `{"features":$features}`; JSON: what stands around the records,
            where `$record_count` and `$feature_count` are the shape of the request.
        record_template: JSON: a record.
        headers: the names of the features, None for `column_0`, `column_1`, …

    Raises:
        ValueError: with a sentence that names the template, what is wrong with it, and a right one.

    >>> Template("application/jsonlines", None, None, None).bodies([[0, 1], [3, 4]])
    ['{"features":[0,1]}\n{"features":[3,4]}']
    """

    content_type: str
    content_template: str | None
    record_template: str | None
    headers: tuple[str, ...] | None

    def __post_init__(self) -> None:
        if self.content_type not in CONTENT_TYPES:
            raise ValueError(f"{self.content_type!r} is no content type for records; expected {_or(CONTENT_TYPES)}")
        if self.content_type != JSON:
            self._check_absent("record_template", self.record_template)
        if self.content_type == CSV:
            self._check_absent("content_template", self.content_template)
            return
        self._record.check_record()
        if self.content_type == JSON:
            self._content.check_content()

    def bodies(self, rows: Sequence[Sequence[Scalar]]) -> list[str]:
        """Return the body for all rows, or one a row where the content template holds `$record`; none for no row.

        Raises:
            ValueError: with a sentence, when a row has another number of values than there are names, or a number
                that is not finite.
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
        """Return each row's own part of a body, a column at a time: what `bodies` puts there, to the byte.

        Raises:
            ValueError: with a sentence, as `bodies`.
        """
        names = self._names(features.width)
        _check_table(features, names, self.content_type)
        write = _cell if self.content_type == CSV else _dumps
        cells = pl.DataFrame([_texts(column, write).alias(str(d)) for d, column in enumerate(features)])
        pattern = self._text([orjson.Fragment(f"{MARK}{d}{MARK}") for d in range(features.width)], names)
        parts = [pl.col(part) if i % 2 else pl.lit(part) for i, part in enumerate(pattern.split(MARK))]
        return cells.select(pl.concat_str(parts).alias("records")).to_series()

    def around(self, records: pl.Series, width: int) -> str:
        """Return the body that holds some `records` of `width` features; just one where `one_by_one` says so."""
        return self._body(records.str.join(self._separator).item(), len(records), self._names(width))

    def frame_bytes(self, count: int, width: int) -> int:
        """Return how long a body of `count` records is, not counting the records and what separates them."""
        return len(self._body("", count, self._names(width)).encode())

    @property
    def one_by_one(self) -> bool:
        """Whether each row is a request of its own."""
        return self.content_type == JSON and EACH in self._content.placeholders

    @cached_property
    def _record(self) -> Document:
        if self.content_type == JSON_LINES:
            text = LINE if self.content_template is None else self.content_template
            return Document.parse("content_template", text, LINE, self.headers)
        if self.record_template is None:
            raise refusal("record_template", f"is needed for {JSON}", LINE)
        return Document.parse("record_template", self.record_template, LINE, self.headers)

    @cached_property
    def _content(self) -> Document:
        if self.content_template is None:
            raise refusal("content_template", f"is needed for {JSON}", MANY)
        return Document.parse("content_template", self.content_template, MANY, self.headers)

    @property
    def _separator(self) -> str:
        return "," if self.content_type == JSON else "\n"

    def _names(self, width: int) -> tuple[str, ...]:
        return self.headers or tuple(f"column_{i}" for i in range(width))

    def _text(self, row: Sequence[Any], names: Sequence[str]) -> str:
        """Return the part of a body that is a row's own."""
        if self.content_type == CSV:
            return _csv_row(row)
        places = {name: i for i, name in enumerate(names)}
        return _dumps(_filled(self._record.root, partial(_value, row=row, places=places)))

    def _body(self, records: str, count: int, names: Sequence[str]) -> str:
        """Return the body around the text of some records."""
        if self.content_type != JSON:
            return records
        values = {
            ALL: orjson.Fragment(f"[{records}]"),
            EACH: orjson.Fragment(records),
            NAMES: list(names),
            COUNT: count,
            WIDTH: len(names),
        }
        return _dumps(_filled(self._content.root, values.__getitem__))

    def _check_absent(self, which: str, text: str | None) -> None:
        if text is not None:
            raise ValueError(f"{which}: {self.content_type} takes none; set it to null")


def refusal(which: str, problem: str, example: str) -> ValueError:
    """Return the error that tells what is wrong with a template."""
    return ValueError(f"{which}: {problem}; a right one is {example}")


def _marked(token: re.Match[str], headers: Sequence[str] | None) -> str:
    """Return a token as a JSON string that starts with `$` where it is a placeholder, else with `=`.

    Raises:
        ValueError: with the problem, when the token is neither a placeholder nor a plain string.
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
        raise ValueError(f"placeholders stand alone where a value stands, {snippet(text)} holds one inside a string")
    return f'"={text[1:]}'


def _check_bare(text: str) -> None:
    if text.startswith("${"):
        raise ValueError(f'the quotes are part of the placeholder: "{text}" instead of {text}')
    if text not in PLACEHOLDERS:
        near = difflib.get_close_matches(text, PLACEHOLDERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"""there are {", ".join(PLACEHOLDERS)} and "${{Name}}\""""
        raise ValueError(f"nobody knows the placeholder {text}; {hint}")


def _is_column(string: str, headers: Sequence[str] | None) -> bool:
    """Return whether a string is the placeholder of one feature.

    Raises:
        ValueError: with the problem, when it would be one, but there is no such feature.
    """
    if not (string.startswith("${") and string.endswith("}")):
        return False
    name = string[2:-1]
    if name in headers if headers else re.fullmatch(r"column_(?:0|[1-9]\d*)", name):
        return True
    if "${" in name:
        return False
    known = (
        f"the features are {snippet(', '.join(headers))}"
        if headers
        else "without headers they are column_0, column_1, …"
    )
    near = difflib.get_close_matches(name, headers or (), n=1)
    raise ValueError(f'there is no feature for "{string}"; ' + (f'did you mean "${{{near[0]}}}"?' if near else known))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    for name in members:
        if name.startswith("$"):
            raise ValueError(f"placeholders stand where a value stands, {name} is used as the name of one")
    if len(members) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return members


def _number(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text} is no number that JSON can hold")


def _node(raw: Any) -> Any:
    """Return a parsed template with the marks of its strings taken off."""
    match raw:
        case str():
            return Slot(raw) if raw.startswith("$") else raw[1:]
        case list():
            return [_node(inner) for inner in raw]
        case dict():
            return {name[1:]: _node(inner) for name, inner in raw.items()}
        case _:
            return raw


def _placeholders(node: Any) -> Iterator[str]:
    match node:
        case Slot():
            yield node.placeholder
        case list():
            for inner in node:
                yield from _placeholders(inner)
        case dict():
            for inner in node.values():
                yield from _placeholders(inner)


def _filled(node: Any, value: Callable[[str], Any]) -> Any:
    """Return a document with what `value` gives for each placeholder."""
    match node:
        case Slot():
            return value(node.placeholder)
        case list():
            return [_filled(inner, value) for inner in node]
        case dict():
            return {name: _filled(inner, value) for name, inner in node.items()}
        case _:
            return node


def _value(placeholder: str, row: Sequence[Scalar], places: Mapping[str, int]) -> Any:
    match placeholder:
        case "$features":
            return list(row)
        case "$features_kvp":
            return dict(zip(places, row, strict=True))
        case "$feature_names":
            return list(places)
    if (name := placeholder[2:-1]) not in places:
        raise ValueError(f'a row has {plural(len(row), "value")}, none of them is "{placeholder}"')
    return row[places[name]]


def _check_row(i: int, row: Sequence[Scalar], names: Sequence[str]) -> None:
    if len(row) != len(names):
        raise ValueError(f"row {i} has {plural(len(row), 'value')} for {plural(len(names), 'feature')}")
    for name, value in zip(names, row, strict=True):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"row {i}: feature {name!r} is {value}, which no request can carry")


def _check_table(features: pl.DataFrame, names: Sequence[str], content_type: str) -> None:
    if features.width != len(names):
        raise ValueError(f"a row has {plural(features.width, 'value')} for {plural(len(names), 'feature')}")
    for name, column in zip(names, features, strict=True):
        if column.dtype.is_float() and not column.is_finite().all():
            i = int(column.is_finite().fill_null(value=True).arg_min() or 0)
            raise ValueError(f"row {i}: feature {name!r} is {column[i]}, which no request can carry")
    if content_type == CSV and features.width == 1 and features.to_series().null_count():
        _csv_row([None])


def _texts(column: pl.Series, write: Callable[[Scalar], str]) -> pl.Series:
    """Return what `write` makes of each value; of numbers polars makes the same, much faster."""
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        exact = column.cast(pl.Float64) if column.dtype == pl.Float32 else column
        return exact.cast(pl.String).fill_null(write(None))
    distinct = column.unique().drop_nulls()
    texts = [write(value) for value in distinct]
    return column.replace_strict(distinct, texts, default=None, return_dtype=pl.String).fill_null(write(None))


def _csv_row(row: Sequence[Scalar]) -> str:
    if list(row) == [None]:
        raise ValueError("a row's only feature is null, which a CSV could not tell from no row at all")
    return ",".join(map(_cell, row))


def _cell(value: Scalar) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return _dumps(value)


def _dumps(value: Any) -> str:
    """Return the JSON of a value, which is made of the JSON of its parts, also where an integer is beyond 64 bits."""
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
