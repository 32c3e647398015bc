"""Rows of feature values → the bodies of requests."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.records.payloads import Scalar
from runner.records.templates import Template
from tests.golden import Golden

LINES, JSON, CSV = "application/jsonlines", "application/json", "text/csv"
HEADERS = ("A", "B")
ROWS = [[0, 1], [3, 4]]
HOSTILE = ["$features", "${A}", '"${A}"', 'say "hi"', "back\\slash", "two\nlines", "tab\t", "🦔 é", "\u2028", "", "=x"]

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.sampled_from(HOSTILE)
)  # fmt: skip
names = st.text(min_size=1) | st.sampled_from(HOSTILE[:-2])
tables = st.integers(1, 5).flatmap(
    lambda width: st.tuples(
        st.lists(names, min_size=width, max_size=width, unique=True),
        st.lists(st.lists(scalars, min_size=width, max_size=width), min_size=1, max_size=5),
    )
)


columns = {
    pl.Int64: st.integers(-(2**63), 2**63 - 1),
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Int128: st.integers(-(2**127), 2**127 - 1),
    pl.Float64: st.floats(allow_nan=False, allow_infinity=False),
    pl.Float32: st.floats(width=32, allow_nan=False, allow_infinity=False),
    pl.Boolean: st.booleans(),
    pl.String: st.text() | st.sampled_from(HOSTILE),
    pl.Null: st.none(),
}
frames = st.tuples(st.lists(names, min_size=1, max_size=6, unique=True), st.integers(1, 8), st.data()).map(
    lambda drawn: frame(*drawn)
)


def frame(headers: list[str], rows: int, data: st.DataObject) -> pl.DataFrame:
    """Return a table with columns of any type, nulls among their values."""
    table = {}
    for name in headers:
        dtype = data.draw(st.sampled_from(list(columns)))
        values = data.draw(st.lists(st.none() | columns[dtype], min_size=rows, max_size=rows))
        table[name] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(table)


def bodies(
    content_type: str, content: str | None, record: str | None, rows: Any = ROWS, headers: Any = HEADERS
) -> list[str]:
    """Return the bodies for the published example's records, or for others."""
    return Template(content_type, content, record, headers).bodies(rows)


def typed(value: Any) -> Any:
    """Return a value with its type, so that 1, 1.0 and true differ, and so do 0.0 and -0.0."""
    if isinstance(value, list):
        return [typed(inner) for inner in value]
    if isinstance(value, dict):
        return {name: typed(inner) for name, inner in value.items()}
    return type(value), repr(value)


@pytest.mark.parametrize(
    ("content_type", "content", "record", "sent"),
    [
        (LINES, '{"features": $features}', None, ['{"features":[0,1]}\n{"features":[3,4]}']),
        (LINES, None, None, ['{"features":[0,1]}\n{"features":[3,4]}']),
        (JSON, '{"instances": $records}', "$features", ['{"instances":[[0,1],[3,4]]}']),
        (
            JSON,
            '{"instances":$records}',
            '{"features":$features}',
            ['{"instances":[{"features":[0,1]},{"features":[3,4]}]}'],
        ),
        (
            JSON,
            '{"instances": $records, "feature_names": $feature_names}',
            "$features",
            ['{"instances":[[0,1],[3,4]],"feature_names":["A","B"]}'],
        ),
        (JSON, "$records", "$features_kvp", ['[{"A":0,"B":1},{"A":3,"B":4}]']),
        (JSON, "$records", '{"a": "${A}", "b": "${B}"}', ['[{"a":0,"b":1},{"a":3,"b":4}]']),
        (JSON, "$record", "$features_kvp", ['{"A":0,"B":1}', '{"A":3,"B":4}']),
        (JSON, "$record", "$features", ["[0,1]", "[3,4]"]),
        (JSON, "$record", '{"features":$features}', ['{"features":[0,1]}', '{"features":[3,4]}']),
        (JSON, "$record", '{"a": "${A}", "b": "${B}"}', ['{"a":0,"b":1}', '{"a":3,"b":4}']),
        (CSV, None, None, ["0,1\n3,4"]),
    ],
)
def test_published_requests(content_type: str, content: str | None, record: str | None, sent: list[str]) -> None:
    """The developer guide's templates give its requests, byte for byte."""
    assert bodies(content_type, content, record) == sent


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("$features", "[0,1]"),
        ("$features_kvp", '{"A":0,"B":1}'),
        ('{"a": "${A}", "id": "x", "n": null}', '{"a":0,"id":"x","n":null}'),
        ('{\n  "b": ["${B}", {"deep": "${B}"}],\n  "all": $features\n}', '{"b":[1,{"deep":1}],"all":[0,1]}'),
        ('{"features":$features,"names":$feature_names}', '{"features":[0,1],"names":["A","B"]}'),
        ('{"v":1.50,"big":18446744073709551616,"x":$features}', '{"v":1.5,"big":18446744073709551616,"x":[0,1]}'),
        ('{"price":"costs $5 or $$","=":"=","x":$features}', '{"price":"costs $5 or $$","=":"=","x":[0,1]}'),
        (r'{"\u0041\n":"\"","x":"\u0024{A}"}', r'{"A\n":"\"","x":0}'),
    ],
)
def test_other_lines(content: str, line: str) -> None:
    """A template may be any JSON with placeholders for values anywhere; what else it holds stays."""
    assert bodies(LINES, content, None, [[0, 1]]) == [line]


def test_names_without_headers_are_numbered() -> None:
    """Without headers the features are column_0, column_1, … as everywhere."""
    assert bodies(LINES, "$features_kvp", None, headers=None) == [
        '{"column_0":0,"column_1":1}\n{"column_0":3,"column_1":4}'
    ]
    assert bodies(JSON, "$record", '{"b":"${column_1}"}', headers=None) == ['{"b":1}', '{"b":4}']


def test_one_by_one() -> None:
    """Only `$record` makes each row a request of its own."""
    assert Template(JSON, "$record", "$features", None).one_by_one
    assert not Template(JSON, "$records", "$features", None).one_by_one
    assert not Template(LINES, None, None, None).one_by_one
    assert not Template(CSV, None, None, None).one_by_one


@pytest.mark.parametrize(
    ("content_type", "content", "record"),
    [(LINES, None, None), (JSON, "$records", "$features"), (JSON, "$record", "$features"), (CSV, None, None)],
)
def test_no_rows_need_no_request(content_type: str, content: str | None, record: str | None) -> None:
    """Nothing is sent for no row."""
    assert bodies(content_type, content, record, []) == []


@given(tables)
def test_json_keeps_every_value_and_name(table: tuple[list[str], list[list[Scalar]]]) -> None:
    """What a reader finds in a JSON body are the values and names, each in its type, whatever they hold."""
    headers, rows = table
    objects = [dict(zip(headers, row, strict=True)) for row in rows]
    (lines,) = bodies(LINES, None, None, rows, tuple(headers))
    assert typed([json.loads(line) for line in lines.split("\n")]) == typed([{"features": row} for row in rows])
    content = '{"names":$feature_names,"rows":$records}'
    (body,) = bodies(JSON, content, "$features_kvp", rows, tuple(headers))
    assert typed(json.loads(body)) == typed({"names": headers, "rows": objects})
    template = json.dumps([f"${{{name}}}" for name in headers])
    sent = bodies(JSON, "$record", template, rows, tuple(headers))
    assert typed([json.loads(body) for body in sent]) == typed(rows)


@given(tables)
def test_csv_keeps_every_value(table: tuple[list[str], list[list[Scalar]]]) -> None:
    """Texts come out of a CSV as they went in, numbers as their JSON."""
    _, rows = table
    rows = [[None, *row] for row in rows]
    (body,) = bodies(CSV, None, None, rows, None)
    found = list(csv.reader(io.StringIO(body, newline="")))
    assert len(found) == len(rows)
    for cells, row in zip(found, rows, strict=True):
        for cell, value in zip(cells, row, strict=True):
            if value is None or isinstance(value, str):
                assert cell == (value or "")
            else:
                assert typed(json.loads(cell)) == typed(value)


@pytest.mark.parametrize("value", HOSTILE)
def test_features_may_be_named_like_anything(value: str) -> None:
    """Even a feature that is named like a placeholder can be named by one."""
    template = '{"x":' + json.dumps("${" + value + "}") + "}"
    assert bodies(LINES, template, None, [[value]], (value,)) == ['{"x":' + json.dumps(value, ensure_ascii=False) + "}"]


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ([None, ""], ',""'),
        ([True, False], "true,false"),
        (["a,b", 'say "hi"'], '"a,b","say ""hi"""'),
        (["two\nlines", "0"], '"two\nlines","0"'),
        ([1, 1.0], "1,1.0"),
        ([0.1, -1e-7], "0.1,-1e-7"),
        ([2**70, None], "1180591620717411303424,"),
        (["Zürich", "🦔"], '"Zürich","🦔"'),
    ],
)
def test_csv_cells(row: list[Scalar], line: str) -> None:
    """Texts are quoted, numbers and booleans not, a null is nothing."""
    assert bodies(CSV, None, None, [row]) == [line]


def test_a_null_alone_is_no_csv(golden: Golden) -> None:
    """A row that would be a blank line is refused."""
    with golden.raises(ValueError):
        bodies(CSV, None, None, [[1], [None]], None)


def test_integers_of_any_size() -> None:
    """Integers beyond 64 bits stay what they are, and other texts unescaped."""
    assert bodies(LINES, None, None, [[2**64, "é"]]) == ['{"features":[18446744073709551616,"é"]}']


def test_rows_may_be_tuples() -> None:
    """Rows as a table returns them are as good."""
    assert bodies(JSON, "$records", "$features", [(0, 1)]) == ["[[0,1]]"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("content_type", [LINES, CSV])
def test_numbers_that_are_none_are_refused(content_type: str, value: float, golden: Golden) -> None:
    """A number that is not finite is told with its place, never sent as null."""
    with golden.raises(ValueError):
        bodies(content_type, None, None, [[0, 1], [2, value]])


def test_other_widths_are_refused(golden: Golden) -> None:
    """A row that does not fit the headers, or a name that no row has, is told."""
    with golden.raises(ValueError):
        bodies(LINES, None, None, [[0, 1], [0, 1, 2]])
    with golden.raises(ValueError):
        bodies(LINES, '["${column_2}"]', None, headers=None)


@pytest.mark.parametrize(
    ("content_type", "content", "record", "said"),
    [
        ("text/plain", None, None, "'text/plain' is no content type for records; expected application/jsonlines"),
        (LINES, None, "$features", "record_template: application/jsonlines takes none; set it to null"),
        (CSV, "$features", None, "content_template: text/csv takes none; set it to null"),
        (CSV, None, "$features", "record_template: text/csv takes none; set it to null"),
        (LINES, "{}", None, 'content_template: holds none of $features, $features_kvp and "${Name}"'),
        (LINES, "$feature_names", None, "content_template: holds none of $features"),
        (LINES, "[$features,$features]", None, "content_template: holds $features more than once"),
        (LINES, "$records", None, "content_template: $records has no meaning there"),
        (LINES, "[$features,$record_count]", None, "content_template: $record_count has no meaning there"),
        (JSON, "$records", "[$features,$feature_count]", "record_template: $feature_count has no meaning there"),
        (JSON, "$record_count", "$features", "content_template: needs exactly one of $records and $record"),
        (JSON, '["a $record_count", $records]', "$features", '"a $record_count" holds one inside a string'),
        (JSON, None, "$features", 'needed for application/json; a right one is {"instances":$records}'),
        (JSON, "$records", None, 'needed for application/json; a right one is {"features":$features}'),
        (JSON, '{"a":1}', "$features", "content_template: needs exactly one of $records and $record"),
        (JSON, "[$records,$record]", "$features", "content_template: needs exactly one of $records and $record"),
        (JSON, "[$records,$features]", "$features", "content_template: $features has no meaning there"),
        (JSON, '[$records,"${A}"]', "$features", "content_template: ${A} has no meaning there"),
        (JSON, "$records", "$record", "record_template: $record has no meaning there"),
        (LINES, '{"features":$features', None, '{"features":$features is no JSON but for its placeholders (Expecting'),
        (LINES, '{"features":x$features}', None, "is no JSON but for its placeholders (Expecting value)"),
        (LINES, '{"features":$features$features}', None, "is no JSON but for its placeholders"),
        (LINES, "", None, "is no JSON but for its placeholders (Expecting value)"),
        (LINES, '"a\nb"', None, "is no JSON but for its placeholders (Invalid control character"),
        (LINES, r'["\x", $features]', None, "is no JSON but for its placeholders (Invalid \\escape"),
        (LINES, '["', None, "is no JSON but for its placeholders (Unterminated string"),
        (LINES, r'["\ud800", $features]', None, "surrogates not allowed"),
        (LINES, "[NaN, $features]", None, "NaN is no number that JSON can hold"),
        (LINES, "[1e999, $features]", None, "1e999 is no number that JSON can hold"),
        (LINES, f"[{'9' * 5000}, $features]", None, "Exceeds the limit"),
        (LINES, "[" * 100_000, None, "is too deeply nested"),
        (LINES, '{"a":1,"a":$features}', None, "a name occurs twice in one object"),
        (LINES, '{"${A}":$features}', None, "${A} is used as the name of one"),
        (LINES, "{$features:1}", None, "$features is used as the name of one"),
        (LINES, '{"id":"id-${A}"}', None, 'placeholders stand alone where a value stands, "id-${A}" holds one inside'),
        (LINES, '{"id":"${A} and ${B}"}', None, '"${A} and ${B}" holds one inside a string'),
        (LINES, '{"features":"$features"}', None, '"$features" holds one inside a string'),
        (LINES, '{"note":"costs $features","x":$features}', None, '"costs $features" holds one inside a string'),
        (LINES, '{"a":${A}}', None, 'the quotes are part of the placeholder: "${A}" instead of ${A}'),
        (LINES, '{"a":$feature}', None, "nobody knows the placeholder $feature; did you mean $features?"),
        (LINES, '{"a":$}', None, 'nobody knows the placeholder $; there are $features, $features_kvp, $feature_names'),
        (LINES, '{"a":"${C}"}', None, 'there is no feature for "${C}"; the features are A, B'),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(content_type: str, content: str | None, record: str | None, said: str) -> None:
    """A template that cannot work is refused when it is made, in a sentence that stays short."""
    with pytest.raises(ValueError, match=r"\A.+\Z") as caught:
        Template(content_type, content, record, HEADERS)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("headers", "text", "said"),
    [
        (("monthly spend", "age"), "${montly spend}", 'did you mean "${monthly spend}"?'),
        (None, "${age}", "without headers they are column_0, column_1, …"),
        (None, "${column_01}", "without headers they are column_0, column_1, …"),
    ],
)
def test_unknown_features_are_told(headers: tuple[str, ...] | None, text: str, said: str, golden: Golden) -> None:
    """A name that no feature has comes with the one that was probably meant, or with all."""
    with golden.raises(ValueError) as caught:
        Template(LINES, f'{{"a":"{text}"}}', None, headers)
    assert said in str(caught.value)


@given(frames)
@pytest.mark.parametrize("settings", [(LINES, None), (JSON, "$features"), (JSON, "$features_kvp"), (CSV, None)])
def test_columns_are_written_as_rows(settings: tuple[str, str | None], table: pl.DataFrame) -> None:
    """What is written a column at a time is what is written row by row, to the byte."""
    content_type, record = settings
    content = (
        '{"n":[$record_count,$feature_count],"of":$feature_names,"rows":$records}' if content_type == JSON else None
    )
    template = Template(content_type, content, record, tuple(table.columns))
    if content_type == CSV and table.width == 1 and table.to_series().null_count():
        with pytest.raises(ValueError, match="only feature is null"):
            template.records(table)
        return
    records = template.records(table)
    assert [template.around(records, table.width)] == template.bodies(table.rows())
    (alone,) = template.bodies(table.rows()[:1])
    assert template.around(records[:1], table.width) == alone
    frame_bytes = template.frame_bytes(table.height, table.width)
    separated = int((records.str.len_bytes() + 1).sum()) - 1
    assert len(template.around(records, table.width).encode()) == frame_bytes + separated


@given(frames)
def test_single_columns_are_written_as_rows(table: pl.DataFrame) -> None:
    """So it is where each feature has its place, one record a request."""
    first = json.dumps(f"${{{table.columns[0]}}}")
    record = f'{{"big":18446744073709551616,"first":{first},"again":[{first},1e16,$feature_names]}}'
    template = Template(JSON, '{"one":$record,"n":$record_count}', record, tuple(table.columns))
    records = template.records(table)
    written = [template.around(records[i : i + 1], table.width) for i in range(table.height)]
    assert written == template.bodies(table.rows())


@pytest.mark.parametrize("content_type", [LINES, CSV])
def test_no_row_is_no_record(content_type: str) -> None:
    """An empty table has no records."""
    records = Template(content_type, None, None, HEADERS).records(pl.DataFrame({"A": [], "B": []}))
    assert records.to_list() == []
    assert records.dtype == pl.String


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_columns_of_numbers_that_are_none_are_refused(value: float, golden: Golden) -> None:
    """A number that is not finite is told with its place, also among nulls."""
    table = pl.DataFrame({"A": [1, 2, 3], "B": [None, 2.0, value]})
    with golden.raises(ValueError):
        Template(LINES, None, None, HEADERS).records(table)


def test_tables_of_other_widths_are_refused(golden: Golden) -> None:
    """A table that does not fit the headers is told, as a row is."""
    with golden.raises(ValueError):
        Template(LINES, None, None, HEADERS).records(pl.DataFrame({"A": [1]}))


def test_the_shape_of_a_request() -> None:
    """A content template may tell how many records and features there are, wherever it likes."""
    content = '{"inputs":[{"shape":[$record_count,$feature_count],"data":$records}]}'
    assert bodies(JSON, content, "$features") == ['{"inputs":[{"shape":[2,2],"data":[[0,1],[3,4]]}]}']
    assert bodies(JSON, "[$record_count,$record]", "$features") == ["[1,[0,1]]", "[1,[3,4]]"]
