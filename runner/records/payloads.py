"""The body of an invocation → its documents: JSON Lines, one JSON document, or the rows of a CSV."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, NoReturn, get_args

import orjson

from runner.domain.records import Payload
from runner.errors import RecordError, snippet

Format = Literal["application/jsonlines", "application/json", "text/csv"]
"""How a body is laid out, by the media types that SageMaker's `dataset_type` knows."""

Scalar = str | int | float | bool | None

BLANK = " \t\r\n"
"""What JSON takes for white space."""

_CELL = re.compile(r'[ \t]*"((?:[^"]++|"")*+)"[ \t\r]*(,|\n|\Z)|(?![ \t]*")([^,\n]*+)(,|\n|\Z)')
_NUMBER = re.compile(r"([+-]?)(?:0+(?=[0-9]))?+([0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(e[+-]?[0-9]++)?+", re.IGNORECASE)
_LOOSE = re.compile(
    rf'("(?:[^"\\]++|\\.)*+"?)|(?<![^\s\[,:]){_NUMBER.pattern}(?![^\s\],}}])', re.IGNORECASE | re.DOTALL
)
_WORDS: dict[str, Scalar] = {"": None, "null": None, "true": True, "True": True, "false": False, "False": False}


def text(payload: Payload) -> str:
    """Return the body as it travelled; the `encoding` field decides how to read it, never the content type.

    Raises:
        RecordError: `encoding`, when the body is not what its encoding says.

    >>> text(Payload("application/jsonlines", "eyJhIjoxfQ==", "BASE64"))
    '{"a":1}'
    """
    if payload.encoding != "BASE64":
        return payload.data
    try:
        return base64.b64decode(payload.data, validate=True).decode("utf-8")
    except ValueError as error:
        raise RecordError("encoding", f"BASE64 that holds no UTF-8 text ({error}): {snippet(payload.data)}") from error


def encoding(content_type: str) -> str:
    """Return how a capture that knows JSON and CSV writes down a body.

    >>> encoding("text/csv; charset=utf-8"), encoding("application/jsonlines")
    ('CSV', 'JSON')
    """
    return "CSV" if content_type.startswith("text/csv") else "JSON"


def layout(payload: Payload, configured: Format) -> Format:
    """Return how a body is laid out: its encoding says whether it is CSV, the settings say what they must.

    >>> layout(Payload("text/html", "1,2", "CSV"), "application/json")
    'text/csv'
    """
    if payload.encoding == "CSV":
        return "text/csv"
    if payload.encoding == "JSON" and configured == "text/csv":
        return "application/jsonlines"
    return configured


def documents(body: str, format_: Format) -> list[Any]:
    r"""Return the documents of a body: one a line of JSON Lines, one a row of a CSV (a list of its cells), or just one.

    Blank lines count for nothing; an empty body has no document.

    Raises:
        RecordError: `payload` or `not_finite`, naming the line of the body.

    >>> documents('{"features":[1,2]}\n{"features":[3,4]}\n', "application/jsonlines")
    [{'features': [1, 2]}, {'features': [3, 4]}]
    >>> documents('1,"x, y"\n2.5,\n', "text/csv")
    [[1, 'x, y'], [2.5, None]]
    """
    if format_ == "application/json":
        return [_parsed(body, None)] if body.strip(BLANK) else []
    if format_ == "text/csv":
        return _rows(body)
    return [_parsed(line, number) for number, line in enumerate(body.split("\n"), 1) if line.strip(BLANK)]


def encode_records(records: Sequence[Mapping[str, Any]], scores_NL: Sequence[Sequence[float]], accept: str) -> str:
    r"""Return the records as JSON Lines or one JSON document, or the scores as CSV.

    Raises:
        ValueError: if the media type is not supported.

    >>> encode_records([{"score": 0.5}], [[0.5]], "application/jsonlines")
    '{"score":0.5}\n'
    """
    match accept:
        case "application/jsonlines":
            return "".join(orjson.dumps(record).decode() + "\n" for record in records)
        case "application/json":
            return json.dumps({"predictions": records})
        case "text/csv":
            return "".join(",".join(map(repr, scores)) + "\n" for scores in scores_NL)
    *others, last = get_args(Format)
    raise ValueError(f"unsupported media type {accept!r}; the model responds in {', '.join(others)} or {last}")


def number(literal: str) -> int | float | None:
    """Return the number a text stands for, None where it is none; leading zeros, a plus and a bare point are forgiven.

    >>> number("007"), number(".5"), number("1e3"), number("1_000"), number("nan")
    (7, 0.5, 1000.0, None, None)
    """
    found = _NUMBER.fullmatch(literal)
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(_canonical(*found.groups())) if found else None
    return None


def _rows(body: str) -> list[list[Scalar]]:
    r"""Return the rows of a CSV; a quoted cell is a text, an unquoted one a number, boolean or null where it can be.

    A cell of nothing is null, a row of nothing no row.
    """
    if '"' not in body:
        return [_unquoted_row(line) for line in body.split("\n") if line.strip(BLANK)]
    rows: list[list[Scalar]] = [[]]
    position = 0
    while position < len(body):
        found = _CELL.match(body, position)
        if found is None:
            rest = body[position:].partition("\n")[0]
            raise RecordError("payload", f"row {len(rows)} of the body is no CSV: {snippet(rest)}")
        quoted, end, plain, plain_end = found.groups()
        rows[-1].append(_unquoted(plain) if quoted is None else quoted.replace('""', '"'))
        position = found.end()
        if (end or plain_end) != ",":
            rows.append([])
        elif position == len(body):
            rows[-1].append(None)
    return [row for row in rows if row not in ([], [None])]


def _unquoted_row(line: str) -> list[Scalar]:
    return [_unquoted(cell) for cell in line.split(",")]


def _unquoted(cell: str) -> Scalar:
    cell = cell.strip(BLANK)
    if cell in _WORDS:
        return _WORDS[cell]
    value = number(cell)
    return cell if value is None else value


def _parsed(line: str, place: int | None) -> Any:
    """Return a JSON document; what strict JSON refuses gets a second reading that forgives how numbers are written."""
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        strict = error
    where = "the body" if place is None else f"line {place} of the body"
    try:
        return orjson.loads(_LOOSE.sub(lambda found: found[1] or _canonical(*found.groups()[1:]), line))
    except orjson.JSONDecodeError:
        _refuse_constants(line, where)
    raise RecordError("payload", f"{where} is not JSON ({strict}): {snippet(line)}") from strict


def _canonical(sign: str, digits: str, exponent: str | None) -> str:
    whole, point, decimals = digits.partition(".")
    fraction = f".{decimals or '0'}" if point else ""
    return f"{sign.strip('+')}{whole.lstrip('0') or '0'}{fraction}{exponent or ''}"


def _refuse_constants(line: str, where: str) -> None:
    """Raise `not_finite` where a document would be JSON but for NaN, Infinity or a number beyond a double."""

    def refuse(constant: str) -> NoReturn:
        raise RecordError("not_finite", f"{where} holds {snippet(constant)}, which is no JSON number: {snippet(line)}")

    def finite(literal: str) -> float:
        value = float(literal)
        return value if abs(value) < float("inf") else refuse(literal)

    try:
        json.loads(line, parse_constant=refuse, parse_float=finite, parse_int=finite)
    except (ValueError, RecursionError):
        return
