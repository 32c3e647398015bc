"""Encoding of rows as bodies of requests."""

from __future__ import annotations

import csv
import io
import json
import math
import re
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
    lambda drawn: typed_table(*drawn)
)


def typed_table(headers: list[str], rows: int, data: st.DataObject) -> pl.DataFrame:
    """Return a table with columns of any type and nulls."""
    table = {}
    for name in headers:
        dtype = data.draw(st.sampled_from(list(columns)))
        values = data.draw(st.lists(st.none() | columns[dtype], min_size=rows, max_size=rows))
        table[name] = pl.Series(values, dtype=dtype)
    return pl.DataFrame(table)


def bodies(
    content_type: str, content: str | None, record: str | None, rows: Any = ROWS, headers: Any = HEADERS
) -> list[str]:
    """Return the bodies of the published example's records, or of others."""
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
def test_published_templates_give_published_requests(
    content_type: str, content: str | None, record: str | None, sent: list[str]
) -> None:
    """The developer guide's templates give its requests."""
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
def test_templates_may_be_any_json(content: str, line: str) -> None:
    """Placeholders may be anywhere in any JSON; its other parts are unchanged."""
    assert bodies(LINES, content, None, [[0, 1]]) == [line]


def test_names_without_headers_are_numbered() -> None:
    """Without headers the features are column_0, column_1 and so on."""
    assert bodies(LINES, "$features_kvp", None, headers=None) == [
        '{"column_0":0,"column_1":1}\n{"column_0":3,"column_1":4}'
    ]
    assert bodies(JSON, "$record", '{"b":"${column_1}"}', headers=None) == ['{"b":1}', '{"b":4}']


def test_record_placeholder_sends_rows_one_by_one() -> None:
    """Only `$record` makes each row a separate request."""
    assert Template(JSON, "$record", "$features", None).one_by_one
    assert not Template(JSON, "$records", "$features", None).one_by_one
    assert not Template(LINES, None, None, None).one_by_one
    assert not Template(CSV, None, None, None).one_by_one


@pytest.mark.parametrize(
    ("content_type", "content", "record"),
    [(LINES, None, None), (JSON, "$records", "$features"), (JSON, "$record", "$features"), (CSV, None, None)],
)
def test_no_rows_give_no_request(content_type: str, content: str | None, record: str | None) -> None:
    """No rows give no body."""
    assert bodies(content_type, content, record, []) == []


@given(tables)
def test_json_contains_every_value_and_name(table: tuple[list[str], list[list[Scalar]]]) -> None:
    """A JSON body is decoded as the encoded values and names, with their types."""
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
def test_csv_contains_every_value(table: tuple[list[str], list[list[Scalar]]]) -> None:
    """Strings are read from CSV as they are, numbers as JSON."""
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
def test_features_may_have_any_name(value: str) -> None:
    """A feature may have the name of a placeholder."""
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
    """Strings are quoted, numbers and booleans are not, and a null is an empty cell."""
    assert bodies(CSV, None, None, [row]) == [line]


def test_single_null_is_refused_in_csv(golden: Golden) -> None:
    """A row that would be a blank line is refused."""
    with golden.raises(ValueError):
        bodies(CSV, None, None, [[1], [None]], None)


def test_integers_of_any_size() -> None:
    """Integers may exceed 64 bits, and strings are not escaped without need."""
    assert bodies(LINES, None, None, [[2**64, "é"]]) == ['{"features":[18446744073709551616,"é"]}']


def test_rows_may_be_tuples() -> None:
    """Rows may be tuples, as tables return them."""
    assert bodies(JSON, "$records", "$features", [(0, 1)]) == ["[[0,1]]"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("content_type", [LINES, CSV])
def test_numbers_that_are_not_finite_are_refused(content_type: str, value: float, golden: Golden) -> None:
    """The message contains row, feature and number; the number is never sent as null."""
    with golden.raises(ValueError) as caught:
        bodies(content_type, None, None, [[0, 1], [2, value]])
    assert re.findall(r"\d+", str(caught.value))[0] == "1"
    assert {"'B'", f"{value},"} <= set(str(caught.value).split())


def test_rows_of_another_width_are_refused(golden: Golden) -> None:
    """The message on a wrong number of values, or a missing feature, contains both numbers or the feature."""
    with golden.raises(ValueError) as caught:
        bodies(LINES, None, None, [[0, 1], [0, 1, 2]])
    assert re.findall(r"\d+", str(caught.value)) == ["1", "3", "2"]
    with golden.raises(ValueError) as caught:
        bodies(LINES, '["${column_2}"]', None, headers=None)
    assert "${column_2}" in str(caught.value)


@pytest.mark.parametrize(
    ("content_type", "content", "record", "shown"),
    [
        pytest.param("text/plain", None, None, "'text/plain'", id="content type"),
        pytest.param(LINES, None, "$features", "record_template", id="record of JSON Lines"),
        pytest.param(CSV, "$features", None, "content_template", id="content of CSV"),
        pytest.param(CSV, None, "$features", "record_template", id="record of CSV"),
        pytest.param(LINES, "{}", None, "content_template", id="no placeholder"),
        pytest.param(LINES, "$feature_names", None, "content_template", id="names alone"),
        pytest.param(LINES, "[$features,$features]", None, "content_template", id="features twice"),
        pytest.param(LINES, "$records", None, "content_template", id="records of JSON Lines"),
        pytest.param(LINES, "[$features,$record_count]", None, "content_template", id="count of JSON Lines"),
        pytest.param(JSON, "$records", "[$features,$feature_count]", "record_template", id="count in a record"),
        pytest.param(JSON, "$record_count", "$features", "content_template", id="count alone"),
        pytest.param(JSON, '["a $record_count", $records]', "$features", '"a $record_count"', id="count in a string"),
        pytest.param(JSON, None, "$features", "content_template", id="no content"),
        pytest.param(JSON, "$records", None, "record_template", id="no record"),
        pytest.param(JSON, '{"a":1}', "$features", "content_template", id="no records"),
        pytest.param(JSON, "[$records,$record]", "$features", "content_template", id="records and record"),
        pytest.param(JSON, "[$records,$features]", "$features", "content_template", id="features in content"),
        pytest.param(JSON, '[$records,"${A}"]', "$features", "${A}", id="feature in content"),
        pytest.param(JSON, "$records", "$record", "record_template", id="record in a record"),
        pytest.param(LINES, '{"features":$features', None, '{"features":$features', id="torn"),
        pytest.param(LINES, '{"features":x$features}', None, "", id="word"),
        pytest.param(LINES, '{"features":$features$features}', None, "", id="no comma"),
        pytest.param(LINES, "", None, "", id="empty"),
        pytest.param(LINES, '"a\nb"', None, "", id="line end in a string"),
        pytest.param(LINES, r'["\x", $features]', None, "", id="escape"),
        pytest.param(LINES, '["', None, "", id="open string"),
        pytest.param(LINES, r'["\ud800", $features]', None, "", id="surrogate"),
        pytest.param(LINES, "[NaN, $features]", None, "NaN", id="NaN"),
        pytest.param(LINES, "[1e999, $features]", None, "1e999", id="1e999"),
        pytest.param(LINES, f"[{'9' * 5000}, $features]", None, "", id="5000 digits"),
        pytest.param(LINES, "[" * 100_000, None, "", id="deep"),
        pytest.param(LINES, '{"a":1,"a":$features}', None, "", id="member twice"),
        pytest.param(LINES, '{"${A}":$features}', None, "${A}", id="feature as a name"),
        pytest.param(LINES, "{$features:1}", None, "$features", id="features as a name"),
        pytest.param(LINES, '{"id":"id-${A}"}', None, '"id-${A}"', id="feature in a string"),
        pytest.param(LINES, '{"id":"${A} and ${B}"}', None, '"${A} and ${B}"', id="two in a string"),
        pytest.param(LINES, '{"features":"$features"}', None, '"$features"', id="features as a string"),
        pytest.param(LINES, '{"note":"costs $features","x":$features}', None, '"costs $features"', id="twice"),
        pytest.param(LINES, '{"a":${A}}', None, '"${A}"', id="no quotes"),
        pytest.param(LINES, '{"a":$feature}', None, "$features?", id="misspelled"),
        pytest.param(LINES, '{"a":$}', None, "$features", id="dollar alone"),
        pytest.param(LINES, '{"a":"${C}"}', None, '"${C}"', id="unknown feature"),
    ],
)
def test_invalid_template_is_refused(
    content_type: str, content: str | None, record: str | None, shown: str, golden: Golden
) -> None:
    """An invalid template is refused at construction, by a short message of one line."""
    with golden.raises(ValueError) as caught:
        Template(content_type, content, record, HEADERS)
    assert shown in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("headers", "text", "shown"),
    [
        (("monthly spend", "age"), "${montly spend}", '"${monthly spend}"'),
        (None, "${age}", "column_0"),
        (None, "${column_01}", "column_0"),
    ],
    ids=["misspelled", "no headers", "zero before a number"],
)
def test_unknown_feature_is_refused(headers: tuple[str, ...] | None, text: str, shown: str, golden: Golden) -> None:
    """The message contains the most similar feature, or all features."""
    with golden.raises(ValueError) as caught:
        Template(LINES, f'{{"a":"{text}"}}', None, headers)
    assert "content_template" in str(caught.value)
    assert shown in str(caught.value)


@given(frames)
@pytest.mark.parametrize("settings", [(LINES, None), (JSON, "$features"), (JSON, "$features_kvp"), (CSV, None)])
def test_columns_are_encoded_as_rows(settings: tuple[str, str | None], table: pl.DataFrame) -> None:
    """Encoding by columns and by rows gives the same bytes."""
    content_type, record = settings
    content = (
        '{"n":[$record_count,$feature_count],"of":$feature_names,"rows":$records}' if content_type == JSON else None
    )
    template = Template(content_type, content, record, tuple(table.columns))
    if content_type == CSV and table.width == 1 and table.to_series().null_count():
        with pytest.raises(ValueError, match="null"):
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
def test_columns_are_encoded_as_single_records(table: pl.DataFrame) -> None:
    """The same is true for a template with features by name and single records."""
    first = json.dumps(f"${{{table.columns[0]}}}")
    record = f'{{"big":18446744073709551616,"first":{first},"again":[{first},1e16,$feature_names]}}'
    template = Template(JSON, '{"one":$record,"n":$record_count}', record, tuple(table.columns))
    records = template.records(table)
    written = [template.around(records[i : i + 1], table.width) for i in range(table.height)]
    assert written == template.bodies(table.rows())


@pytest.mark.parametrize("content_type", [LINES, CSV])
def test_empty_table_has_no_record(content_type: str) -> None:
    """An empty table gives no records."""
    records = Template(content_type, None, None, HEADERS).records(pl.DataFrame({"A": [], "B": []}))
    assert records.to_list() == []
    assert records.dtype == pl.String


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_columns_of_numbers_that_are_not_finite_are_refused(value: float, golden: Golden) -> None:
    """The message contains row, feature and number, even next to nulls."""
    table = pl.DataFrame({"A": [1, 2, 3], "B": [None, 2.0, value]})
    with golden.raises(ValueError) as caught:
        Template(LINES, None, None, HEADERS).records(table)
    assert re.findall(r"\d+", str(caught.value))[0] == "2"
    assert {"'B'", f"{value},"} <= set(str(caught.value).split())


def test_tables_of_another_width_are_refused(golden: Golden) -> None:
    """A table that does not fit the headers is an error, as a row is."""
    with golden.raises(ValueError) as caught:
        Template(LINES, None, None, HEADERS).records(pl.DataFrame({"A": [1]}))
    assert re.findall(r"\d+", str(caught.value)) == ["1", "2"]


def test_shape_of_a_request_is_encoded() -> None:
    """A content template may contain the numbers of records and features anywhere."""
    content = '{"inputs":[{"shape":[$record_count,$feature_count],"data":$records}]}'
    assert bodies(JSON, content, "$features") == ['{"inputs":[{"shape":[2,2],"data":[[0,1],[3,4]]}]}']
    assert bodies(JSON, "[$record_count,$record]", "$features") == ["[1,[0,1]]", "[1,[3,4]]"]
