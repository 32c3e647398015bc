"""Bodies of requests and responses: parsing of JSON Lines, JSON and CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Payload
from runner.errors import RecordError
from runner.records import payloads
from runner.records.payloads import (
    Format,
    Scalar,
    body_format,
    body_text,
    encoding,
    parse_body,
    parse_number,
    parse_payload,
)
from tests.golden import Golden

LINES: Format = "application/jsonlines"
JSON: Format = "application/json"
CSV: Format = "text/csv"
DEEP = 100_000

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def documents(body: str, format_: Format) -> list[Any]:
    """Return the documents of a body."""
    return parse_body(body, format_).documents


def typed(values: list[Any]) -> list[Any]:
    """Return values with their types, so that 1, 1.0 and true differ."""
    return [typed(value) if isinstance(value, list) else (type(value), value) for value in values]


@pytest.mark.parametrize("encoding", ["JSON", "CSV", "base64", ""])
@pytest.mark.parametrize("content_type", ["application/jsonlines", "text/csv; charset=utf-8", ""])
def test_only_base64_is_decoded(encoding: str, content_type: str) -> None:
    """A body with another encoding than BASE64 is unchanged, with any content type."""
    assert body_text(Payload(content_type, "eyJhIjoxfQ==", encoding)) == "eyJhIjoxfQ=="


@given(st.text())
def test_base64_is_decoded(body: str) -> None:
    """Any string captured as BASE64 is decoded."""
    data = base64.b64encode(body.encode()).decode()
    assert body_text(Payload("text/csv", data, "BASE64")) == body


@pytest.mark.parametrize(
    "data",
    ["%%%%", "eyJhIjoxfQ", "eyJh IjoxfQ==", "/w==", "é", "eyJhIjoxfQ==☃"],
    ids=["other characters", "no padding", "blank", "not UTF-8", "not ASCII", "more behind"],
)
def test_invalid_base64_is_a_record_error(data: str, golden: Golden) -> None:
    """The message contains the body."""
    with golden.raises(RecordError) as caught:
        body_text(Payload("application/jsonlines", data, "BASE64"))
    assert caught.value.kind == "encoding"
    assert str(caught.value).endswith(f": {data}")


@pytest.mark.parametrize(
    ("content_type", "named"),
    [
        ("text/csv", "CSV"),
        ("text/csv; charset=utf-8", "CSV"),
        ("application/jsonlines", "JSON"),
        ("application/json", "JSON"),
        ("", "JSON"),
    ],
)
def test_content_type_decides_the_encoding(content_type: str, named: str) -> None:
    """CSV, with or without parameters of its type, is captured as CSV, other types as JSON."""
    assert encoding(content_type) == named


@pytest.mark.parametrize(
    ("captured_as", "configured", "expected"),
    [
        ("CSV", LINES, CSV),
        ("CSV", JSON, CSV),
        ("CSV", CSV, CSV),
        ("JSON", LINES, LINES),
        ("JSON", JSON, JSON),
        ("JSON", CSV, LINES),
        ("BASE64", LINES, LINES),
        ("BASE64", JSON, JSON),
        ("BASE64", CSV, CSV),
        ("", CSV, CSV),
    ],
)
@pytest.mark.parametrize("content_type", ["text/csv", "application/json", ""])
def test_encoding_overrides_the_configured_format(
    content_type: str, captured_as: str, configured: Format, expected: Format
) -> None:
    """The encodings CSV and JSON decide the format; for BASE64 the setting does; the content type never does."""
    assert body_format(Payload(content_type, "", captured_as), configured) == expected


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", []),
        ("\n \r\n\n", []),
        ('{"features":[1]}', [{"features": [1]}]),
        ('{"features":[1]}\n', [{"features": [1]}]),
        ('{"features":[1]}\r\n\r\n{"features":[2]}\r\n', [{"features": [1]}, {"features": [2]}]),
        ("1\n[2,3]\nnull", [1, [2, 3], None]),
        ('"a\u2028b"', ["a\u2028b"]),
    ],
)
def test_json_lines_have_one_document_per_line(body: str, found: list[Any]) -> None:
    """Blank lines are skipped, and only a line feed ends a line."""
    assert documents(body, LINES) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("", []),
        (" \r\n\t", []),
        ("null", [None]),
        ('{"instances":[[1,2]]}\n', [{"instances": [[1, 2]]}]),
        ('{\r\n  "instances": [\n    {"features": [1]}\n  ]\n}', [{"instances": [{"features": [1]}]}]),
    ],
)
def test_json_is_one_document(body: str, found: list[Any]) -> None:
    """A JSON body is one document on any number of lines; an empty body has none."""
    assert documents(body, JSON) == found


@given(st.lists(json_values))
def test_any_documents_are_parsed(values: list[Any]) -> None:
    """Any JSON documents are parsed, as lines or as one document."""
    lines = [orjson.dumps(value).decode() for value in values]
    assert documents("\n".join(lines), LINES) == values
    assert documents(f"[{','.join(lines)}]", JSON) == [values]


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        ("", []),
        ("\n \r\n\t\n", []),
        ("1,2.5,x", [[1, 2.5, "x"]]),
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1,2\r\n\r\n3,4\r\n", [[1, 2], [3, 4]]),
        (" 1 ,\tx y ", [[1, "x y"]]),
        ("1,,null,\n,2,,", [[1, None, None, None], [None, 2, None, None]]),
        (",", [[None, None]]),
        ("true,false,True,False,TRUE,yes", [[True, False, True, False, "TRUE", "yes"]]),
        ('"1","true","null","",""""', [["1", "true", "null", "", '"']]),
        ('"a,b",1', [["a,b", 1]]),
        ('"say ""hi""",2', [['say "hi"', 2]]),
        ('"two\nlines",1\n"and\r\nmore",2', [["two\nlines", 1], ["and\r\nmore", 2]]),
        ('"a", "b"\t,\t"c" \n', [["a", "b", "c"]]),
        ('"a",\n,"b"\n"c",', [["a", None], [None, "b"], ["c", None]]),
        ('"a",1\r\n\r\n \n"b",2\r\n', [["a", 1], ["b", 2]]),
        ('"a"\r', [["a"]]),
        ("1,2\r", [[1, 2]]),
        ('""', [[""]]),
        ('it"s,5 o"clock', [['it"s', '5 o"clock']]),
        ("Zürich,🦔,\u2028", [["Zürich", "🦔", "\u2028"]]),
        ("\ufeff1,2", [["\ufeff1", 2]]),
        ("$features,${A},=1+1", [["$features", "${A}", "=1+1"]]),
        ("NaN,nan,inf,-Infinity,1e999", [["NaN", "nan", "inf", "-Infinity", "1e999"]]),
        ("18446744073709551615,-9223372036854775808", [[2**64 - 1, -(2**63)]]),
    ],
)
def test_rows_of_csv(body: str, rows: list[list[Scalar]]) -> None:
    """Quoted cells are strings, others numbers, booleans, nulls or strings; blank lines are skipped."""
    assert typed(documents(body, CSV)) == typed(rows)


@pytest.mark.parametrize("row", ["1,2\r3,4", "a\rb,1", "1 ,2 \r"])
@pytest.mark.parametrize("quoted", ["x", '"x"'])
def test_quoted_cell_changes_no_other_cell(row: str, quoted: str) -> None:
    """The other cells are the same with and without a quoted cell."""
    assert documents(f"{row}\n{quoted}", CSV) == documents(f"{row}\nx", CSV)


@pytest.mark.parametrize(
    ("body", "row", "shown"),
    [
        ('"abc\n1,2', 1, '"abc'),
        ('1,2\n3,"x', 2, '"x'),
        ('1,2\n\n"a"b,3', 3, '"a"b,3'),
        ('"a""', 1, '"a""'),
        ('"', 1, '"'),
        ('"' + "x" * 10_000, 1, "x…"),
    ],
    ids=["no end", "no end in the second row", "more behind a quote", "doubled quote", "quote alone", "long"],
)
def test_invalid_csv_is_an_error_with_its_row(body: str, row: int, shown: str, golden: Golden) -> None:
    """The message on an unclosed quote, or text after a closing quote, contains the row number and the text."""
    with golden.raises(RecordError) as caught:
        documents(body, CSV)
    assert caught.value.kind == "payload"
    assert re.findall(r"\d+", str(caught.value))[0] == str(row)
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.lists(st.lists(st.text(), min_size=2, max_size=4), max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_any_quoted_strings_are_parsed(rows: list[list[str]], end: str) -> None:
    """Strings quoted by the standard library's writer are parsed as they are."""
    file = io.StringIO(newline="")
    csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator=end).writerows(rows)
    assert documents(file.getvalue(), CSV) == rows


@given(st.text(st.sampled_from('",\r\n 1a')) | st.text(), st.sampled_from([LINES, JSON, CSV]))
def test_any_body_is_parsed_or_a_record_error(body: str, format_: Format) -> None:
    """Any body gives documents or a record error."""
    with suppress(RecordError):
        assert isinstance(documents(body, format_), list)


NUMBERS: list[tuple[str, int | float]] = [
    ("0", 0), ("7", 7), ("-7", -7), ("1.5", 1.5), ("-0.5", -0.5), ("1e3", 1000.0), ("1E+3", 1000.0), ("25e-1", 2.5),
    ("007", 7), ("00", 0), ("-007", -7), ("00.5", 0.5), ("01.50e1", 15.0),
    ("+1", 1), ("+1.5", 1.5), ("+007", 7), (".5", 0.5), ("-.5", -0.5), ("+.5", 0.5), (".5e1", 5.0),
    ("1.", 1.0), ("-1.", -1.0), ("1.e5", 100000.0), ("0.", 0.0), ("1e007", 1e7), ("9007199254740993", 2**53 + 1),
]  # fmt: skip
NO_NUMBERS = [
    "12+3", "0x1", "1.2.3", "1_000", "1 000", "--1", "+-1", "1-", "-", "+", ".", "-.", "e5", ".e5", "1e", "1e+",
    "1e1.5", "0b1", "1f", "1,5", "٣", "１", "½",
]  # fmt: skip


@pytest.mark.parametrize(("literal", "value"), NUMBERS)
def test_numbers_in_other_notations_are_parsed(literal: str, value: float) -> None:
    """Leading zeros, a plus and a bare point are accepted, and the type is that of JSON."""
    for body in (literal, f"x,{literal} ", f'"x", {literal}'):
        assert typed([documents(body, CSV)[0][-1]]) == typed([value])
    for body in (f"[{literal}]", f"[ {literal} ]", f'["[007,+1]",{literal}]'):
        assert typed([documents(body, LINES)[0][-1]]) == typed([value])
    assert typed(list(documents(f'{{"a": {literal}}}', JSON)[0].values())) == typed([value])
    assert typed(documents(literal, JSON)) == typed([value])
    assert typed([parse_number(literal)]) == typed([value])


@pytest.mark.parametrize("literal", NO_NUMBERS)
def test_other_literals_are_not_numbers(literal: str, golden: Golden) -> None:
    """Another literal is an error in JSON and a string in CSV."""
    assert parse_number(literal) is None
    for format_ in (LINES, JSON):
        with pytest.raises(RecordError) as caught:
            documents(f'{{"a":{literal}}}', format_)
        assert caught.value.kind == "payload"
        assert literal in str(caught.value)
    if "," not in literal:
        assert documents(f"{literal},1", CSV) == [[literal, 1]]


@pytest.mark.parametrize("text_", ["[007,+1]", " 007 ", r"say \"+1\", 007", r"back\\", ",.5,", "NaN"])
def test_strings_are_unchanged_by_other_notations(text_: str) -> None:
    """The content of a string is unchanged, even next to a number in another notation."""
    assert documents(f'["{text_}",007]', LINES) == [[json.loads(f'"{text_}"'), 7]]


@pytest.mark.parametrize(
    "constant",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1.8e308", "1" * 400, "-" + "9" * 5000],
    ids=["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1.8e308", "400 digits", "5000 digits"],
)
def test_numbers_that_are_not_finite_have_their_own_reason(constant: str, golden: Golden) -> None:
    """The message on NaN, an infinity or a number that exceeds a double contains the line number."""
    for body, format_, line in (
        (f'[1]\n{{"features":[1,{constant}]}}', LINES, True),
        (f'{{"instances":[[1],\n[{constant}]]}}', JSON, False),
    ):
        with golden.raises(RecordError) as caught:
            documents(body, format_)
        assert caught.value.kind == "not_finite"
        assert constant[:50] in str(caught.value)
        assert ("2" in str(caught.value).partition(constant[:50])[0]) is line


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('["NaN","Infinity"]', ["NaN", "Infinity"]),
        ("[1.7976931348623157e308,5e-324]", [1.7976931348623157e308, 5e-324]),
        ("[1e-999]", [0.0]),
    ],
)
def test_finite_numbers_and_strings_are_parsed(body: str, found: list[Any]) -> None:
    """Names of constants in strings are strings, and the largest and smallest doubles are numbers."""
    assert documents(body, JSON) == [found]


@pytest.mark.parametrize(
    ("body", "line", "shown"),
    [
        ("1,2,3", 1, "1,2,3"),
        ('{"features":[1]}\n\n{"features":[', 3, '{"features":['),
        ("[nan]", 1, "[nan]"),
        ("['a']", 1, "['a']"),
        ("[1,]", 1, "[1,]"),
        ("[1 2]", 1, "[1 2]"),
        ("{01:1}", 1, "{01:1}"),
        ("\ufeff{}", 1, "{}"),
        (r'["\ud800"]', 1, r'["\ud800"]'),
        ("\u00a0", 1, ""),
        ("x" * 10_000, 1, "x…"),
    ],
    ids=[
        "CSV", "torn", "nan", "single quotes", "comma at the end", "no comma", "number as a name", "BOM", "surrogate",
        "blank", "long",
    ],
)  # fmt: skip
def test_invalid_json_lines_are_an_error_with_the_line(body: str, line: int, shown: str, golden: Golden) -> None:
    """The message contains the number of the first invalid line and its beginning."""
    with golden.raises(RecordError) as caught:
        documents(body, LINES)
    assert caught.value.kind == "payload"
    assert re.findall(r"\d+", str(caught.value))[0] == str(line)
    assert shown in str(caught.value)
    assert len(str(caught.value)) < 300


def test_two_documents_are_not_json(golden: Golden) -> None:
    """Two documents are invalid JSON, and the message contains no line number."""
    with golden.raises(RecordError) as caught:
        documents('{"a":1}\n{"a":2}', JSON)
    assert caught.value.kind == "payload"


@pytest.mark.parametrize(
    "body", ["[" * DEEP, "[" * DEEP + "NaN" + "]" * DEEP, '{"a":' * DEEP + "007" + "}" * DEEP, "[007," * DEEP]
)
@pytest.mark.parametrize("format_", [LINES, JSON])
def test_deep_nesting_is_a_record_error(body: str, format_: Format, golden: Golden) -> None:
    """A very deeply nested document is a record error."""
    with pytest.raises(RecordError) as caught:
        documents(body, format_)
    assert caught.value.kind == "payload"


@pytest.mark.parametrize(
    ("body", "format_"),
    [
        ("[" + "0" * 200_000 + "x]", LINES),
        ("[" + "1" * 200_000 + "x]", LINES),
        ('["' + '\\"' * 200_000, LINES),
        ('["' + "\\" * 200_001, LINES),
        ('"' + '""' * 200_000 + "x", CSV),
        ('x,"' + "a" * 200_000, CSV),
    ],
    ids=["zeros", "ones", "quotes", "backslashes", "doubled quotes", "unterminated"],
)
def test_hostile_bodies_are_parsed_in_linear_time(body: str, format_: Format) -> None:
    """A long invalid body is refused in linear time; otherwise these tests would not end."""
    with pytest.raises(RecordError):
        documents(body, format_)


@pytest.mark.parametrize("cell", ["0" * 200_000 + "x", "1" * 200_000 + ".x", " " * 200_000 + "x"])
def test_hostile_cells_are_parsed_in_linear_time(cell: str) -> None:
    """A long cell that starts like a number is a string."""
    assert documents(f"{cell},1", CSV) == [[cell.strip(), 1]]


@pytest.mark.parametrize(
    ("format_", "values"),
    [
        (CSV, "1," * 40 + "1"),
        (CSV, "1\n" * 40),
        (CSV, '"a",' * 40 + '"b"'),
        (LINES, "[" + "1," * 40 + "1]"),
        (LINES, "[1]\n" * 20),
        (JSON, "[" + "{}," * 20 + "1]"),
        (JSON, "[" + "[]," * 20 + "1]"),
    ],
)
@pytest.mark.parametrize("in_base64", [False, True])
def test_payload_with_too_many_values_is_not_parsed(
    format_: Format, values: str, in_base64: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of values is limited in each format; a payload with as many values as allowed is parsed."""
    kind = "BASE64" if in_base64 else "CSV" if format_ == CSV else "JSON"
    payload = Payload("", base64.b64encode(values.encode()).decode() if in_base64 else values, kind)
    monkeypatch.setattr(payloads, "MAX_VALUES", 41)
    assert parse_payload(payload, format_).documents
    monkeypatch.setattr(payloads, "MAX_VALUES", 39)
    with pytest.raises(RecordError) as caught:
        parse_payload(payload, format_)
    assert caught.value.kind == "too_long"
