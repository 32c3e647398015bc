"""Bodies of requests and responses: parsing of JSON Lines, JSON and CSV."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, NamedTuple, NoReturn, get_args

import numpy as np
import orjson
from numpy.typing import NDArray

from runner.domain.records import Payload
from runner.errors import RecordError, snippet

Format = Literal["application/jsonlines", "application/json", "text/csv"]
"""Formats of a body: the media types of SageMaker's `dataset_type`."""

Scalar = str | int | float | bool | None

BLANK = " \t\r\n"
"""White space characters of JSON."""
MAX_VALUES = 2**21
"""Maximum number of values in a captured line or payload, counted as its commas, line ends and opening brackets."""

MAX_RESPONSE_CHARACTERS = 2**25
"""Maximum number of characters in a response, which a capture line contains."""
SCORES_PER_CALL = 1000
"""Number of scores that are encoded in one call, which does not release the interpreter lock."""

_CELL = re.compile(r'[ \t]*"((?:[^"]++|"")*+)"[ \t\r]*(,|\n|\Z)|(?![ \t]*")([^,\n]*+)(,|\n|\Z)')
"""A cell of a CSV with its delimiter: groups 1 and 2 if it is quoted, groups 3 and 4 otherwise."""
_NUMBER = re.compile(r"([+-]?)(?:0+(?=[0-9]))?+([0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(e[+-]?[0-9]++)?+", re.IGNORECASE)
"""A number that may have leading zeros, a plus sign or a bare decimal point: sign, digits and exponent."""
_LOOSE = re.compile(
    rf'("(?:[^"\\]++|\\.)*+"?)|(?<![^\s\[,:]){_NUMBER.pattern}(?![^\s\],}}])', re.IGNORECASE | re.DOTALL
)
"""A string in a JSON document, or a number that `_NUMBER` matches."""
_WORDS: dict[str, Scalar] = {"": None, "null": None, "true": True, "True": True, "false": False, "False": False}
"""Values of unquoted cells that are neither numbers nor strings."""


class Body(NamedTuple):
    """A parsed body.

    Attributes:
        documents: the document of each line (JSON Lines), the cells of each row (CSV), or the only document (JSON).
        format: format of the body.
    """

    documents: list[Any]
    format: Format


def parse_payload(payload: Payload, configured: Format) -> Body:
    """Return the parsed body of a payload in the configured format, unless the encoding implies another one.

    Raises:
        RecordError: `encoding`, `too_long`, `payload` or `not_finite`.
    """
    text = body_text(payload)
    check_count(text.encode("utf-8", "replace"))
    return parse_body(text, body_format(payload, configured))


def check_count(data: bytes) -> None:
    """Check the number of values in a line or payload before it is parsed: a parsed value can need 30 times its bytes.

    Raises:
        RecordError: `too_long`, for more than `MAX_VALUES` values.
    """
    if has_more_values(data, MAX_VALUES):
        raise RecordError("too_long", f"contains more than {MAX_VALUES:,} values: {snippet(data)}")


def has_more_values(data: bytes, count: int) -> bool:
    """Return whether a line or payload has more values than a count, without parsing it."""
    return len(data) > count and sum(map(data.count, (b",", b"\n", b"[", b"{"))) > count


def body_text(payload: Payload) -> str:
    """Return the body as it was sent, decoded according to `encoding`; the content type is ignored.

    Raises:
        RecordError: `encoding`, if the body is not valid BASE64 or not UTF-8.

    >>> body_text(Payload("application/jsonlines", "eyJhIjoxfQ==", "BASE64"))
    '{"a":1}'
    """
    if payload.encoding != "BASE64":
        return payload.data
    try:
        return base64.b64decode(payload.data, validate=True).decode("utf-8")
    except ValueError as error:
        problem = f"expected UTF-8 text encoded as BASE64 ({error}): {snippet(payload.data)}"
        raise RecordError("encoding", problem) from error


def encoding(content_type: str) -> str:
    """Return the encoding field of a captured body: `JSON` or `CSV`.

    >>> encoding("text/csv; charset=utf-8"), encoding("application/jsonlines")
    ('CSV', 'JSON')
    """
    return "CSV" if content_type.startswith("text/csv") else "JSON"


def body_format(payload: Payload, configured: Format) -> Format:
    """Return the configured format of a body, unless its encoding implies another one.

    The encoding CSV implies CSV. The encoding JSON implies JSON Lines if the configured format is CSV.

    >>> body_format(Payload("text/html", "1,2", "CSV"), "application/json")
    'text/csv'
    """
    if payload.encoding == "CSV":
        return "text/csv"
    if payload.encoding == "JSON" and configured == "text/csv":
        return "application/jsonlines"
    return configured


def parse_body(text: str, format_: Format, name: str | None = None) -> Body:
    r"""Return the parsed body; blank lines are skipped, and an empty body has no document.

    Args:
        text: the body.
        format_: its format.
        name: its name in messages, if it is one line or row; None for the number of the line or row in the body.

    Raises:
        RecordError: `payload` or `not_finite`, with the line or row.

    >>> parse_body('{"features":[1,2]}\n{"features":[3,4]}\n', "application/jsonlines").documents
    [{'features': [1, 2]}, {'features': [3, 4]}]
    >>> parse_body('1,"x, y"\n2.5,\n', "text/csv").documents
    [[1, 'x, y'], [2.5, None]]
    """
    if format_ == "application/json":
        return Body([_parse_json(text, None, name)] if text.strip(BLANK) else [], format_)
    if format_ == "text/csv":
        return Body(_csv_rows(text, name), format_)
    lines = enumerate(text.split("\n"), 1)
    return Body([_parse_json(line, number, name) for number, line in lines if line.strip(BLANK)], format_)


def encode_scores(
    scores_NL: NDArray[np.float64],
    accept: str,
    record: Callable[[list[float]], Mapping[str, Any]],
    line: Callable[[list[float]], str] | None = None,
) -> str:
    r"""Return one record per row of scores as JSON Lines or one JSON document, or the scores as CSV.

    Args:
        scores_NL: scores of N records.
        accept: media type.
        record: function that returns the record of a row.
        line: function that returns the line of a row in JSON Lines; None for the record as JSON.

    Raises:
        ValueError: if the media type is not supported.
        RecordError: `too_long`, for more than `MAX_RESPONSE_CHARACTERS` characters.

    >>> encode_scores(np.array([[0.5]]), "application/jsonlines", lambda scores: {"score": scores[0]})
    '{"score":0.5}\n'
    """
    line = line or (lambda scores: orjson.dumps(record(scores)).decode() + "\n")
    match accept:
        case "application/jsonlines":
            return _joined(scores_NL, lambda rows: "".join(map(line, rows)))
        case "application/json":
            body = _joined(scores_NL, lambda rows: json.dumps(list(map(record, rows)))[1:-1], ", ")
            return f'{{"predictions": [{body}]}}'
        case "text/csv":
            return _joined(scores_NL, lambda rows: "".join([",".join(map(repr, row)) + "\n" for row in rows]))
    *others, last = get_args(Format)
    raise ValueError(f"unsupported media type {accept!r}; the model responds in {', '.join(others)} or {last}")


def _joined(scores_NL: NDArray[np.float64], encode: Callable[[list[list[float]]], str], separator: str = "") -> str:
    """Return the encoded rows; each call for a part of them takes at most some milliseconds."""
    parts, size = [], 0
    count = max(1, SCORES_PER_CALL // scores_NL.shape[1])
    for start in range(0, len(scores_NL), count):
        parts.append(encode(scores_NL[start : start + count].tolist()))
        size += len(parts[-1])
        if size > MAX_RESPONSE_CHARACTERS:
            problem = f"the response has more than {MAX_RESPONSE_CHARACTERS:,} characters"
            raise RecordError("too_long", f"{problem}; send fewer records in a request")
    return separator.join(parts)


def parse_number(literal: str) -> int | float | None:
    """Return the number in a string, None if it is not a number.

    Leading zeros, a plus sign and a bare decimal point are accepted.

    >>> parse_number("007"), parse_number(".5"), parse_number("1e3"), parse_number("1_000"), parse_number("nan")
    (7, 0.5, 1000.0, None, None)
    """
    match = _NUMBER.fullmatch(literal)
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(_canonical(*match.groups())) if match else None
    return None


def _csv_rows(body: str, name: str | None) -> list[list[Scalar]]:
    """Return the rows of a CSV; a quoted cell is a string, an unquoted cell a number, boolean, null or string.

    An empty cell is null, an empty row is skipped.
    """
    if '"' not in body:
        return [[_parse_cell(cell) for cell in line.split(",")] for line in body.split("\n") if line.strip(BLANK)]
    rows: list[list[Scalar]] = [[]]
    position = 0
    while position < len(body):
        match = _CELL.match(body, position)
        if match is None:
            rest = body[position:].partition("\n")[0]
            where = name or f"row {len(rows)} of the body"
            raise RecordError("payload", f"{where} is not CSV: {snippet(rest)}")
        quoted, end, plain, plain_end = match.groups()
        rows[-1].append(_parse_cell(plain) if quoted is None else quoted.replace('""', '"'))
        position = match.end()
        if (end or plain_end) != ",":
            rows.append([])
        elif position == len(body):
            rows[-1].append(None)
    return [row for row in rows if row not in ([], [None])]


def _parse_cell(cell: str) -> Scalar:
    cell = cell.strip(BLANK)
    if cell in _WORDS:
        return _WORDS[cell]
    value = parse_number(cell)
    return cell if value is None else value


def _parse_json(text: str, number: int | None, name: str | None) -> Any:
    """Return the JSON document in line `number` of a body called `name`; numbers may have any notation of `_NUMBER`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        strict = error
    where = name or ("the body" if number is None else f"line {number} of the body")
    try:
        return orjson.loads(_LOOSE.sub(lambda match: match[1] or _canonical(*match.groups()[1:]), text))
    except orjson.JSONDecodeError:
        _refuse_constants(text, where)
    problem = strict if number is None else json_problem(strict)
    raise RecordError("payload", f"{where} is not JSON ({problem}): {snippet(text)}") from strict


def json_problem(error: json.JSONDecodeError) -> str:
    """Return the problem and its position in one line of JSON, without the parser's own line number."""
    return f"character {error.pos + 1}: {error.msg}"


def _canonical(sign: str, digits: str, exponent: str | None) -> str:
    whole, point, decimals = digits.partition(".")
    fraction = f".{decimals or '0'}" if point else ""
    return f"{sign.strip('+')}{whole.lstrip('0') or '0'}{fraction}{exponent or ''}"


def _refuse_constants(text: str, where: str) -> None:
    """Raise `not_finite` at NaN, Infinity or a number too large for a double, if the document is JSON up to there."""

    def refuse(constant: str) -> NoReturn:
        problem = f"{where} contains {snippet(constant)}, which is not a finite number: {snippet(text)}"
        raise RecordError("not_finite", problem)

    def finite(literal: str) -> float:
        value = float(literal)
        return value if abs(value) < float("inf") else refuse(literal)

    try:
        json.loads(text, parse_constant=refuse, parse_float=finite, parse_int=finite)
    except (ValueError, RecursionError):
        return
