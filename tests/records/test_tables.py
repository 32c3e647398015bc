"""Tables of valid records, and rejections of the others."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.records import Event, Payload, Rejection
from runner.errors import RecordError
from runner.records.capture import decode
from runner.records.fields import Fields
from runner.records.payloads import Scalar
from runner.records.tables import (
    ORIGIN,
    Part,
    Record,
    Schema,
    SchemaCounter,
    by_shape,
    event_records,
    fitting,
    misfits,
    table_part,
)
from runner.records.tables import (
    part as table,
)
from tests.golden import Golden

PUBLISHED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes().splitlines(keepends=True)
FIELDS = Fields("features", "score")
NAMED = Fields("features", "score", ("Age", "Sex"))
AT = datetime(2023, 1, 19, 5, 31, 46, tzinfo=UTC)
FILE = "2023/01/19/05/a.jsonl"


def body(key: str, values: Iterable[Any]) -> Payload:
    """Return a JSON Lines body with one document per value."""
    return Payload("application/jsonlines", "\n".join(orjson.dumps({key: value}).decode() for value in values), "JSON")


def event(rows: Sequence[Any], scores: Sequence[Any] | None = None) -> Event:
    """Return an invocation with these rows of features and these scores."""
    return Event("e", AT, body("features", rows), None if scores is None else body("score", scores))


def rows(*records: Sequence[Scalar], scores: Sequence[float] = ()) -> list[Record]:
    """Return records of invocations, one per line."""
    return [Record(line, 0, "e", None, AT, values, scores) for line, values in enumerate(records, 1)]


def parts(records: Iterable[Record]) -> list[Part]:
    """Return a table for each number of features and scores."""
    return [table(group) for group in by_shape(records)]


def part(*records: Sequence[Scalar], scores: Sequence[float] = ()) -> Part:
    """Return the only table of records of one width."""
    (only,) = parts(rows(*records, scores=scores))
    return only


def value_columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of features and scores."""
    return frame.drop("file", *ORIGIN, strict=False)


def table_and_rejections(
    found: Iterable[Record], fields: Fields = FIELDS
) -> tuple[Schema, pl.DataFrame, list[Rejection]]:
    """Return the schema of records, the table of fitting records, and the rejections of the others."""
    counter = SchemaCounter()
    held: defaultdict[tuple[int, int], list[pl.DataFrame]] = defaultdict(list)
    for each in parts(found):
        counter.add(each)
        held[each.width, each.scores].append(each.frame.with_columns(pl.lit(FILE).alias("file")))
    schema = counter.schema(fields)
    tables: list[pl.LazyFrame] = []
    rejections: list[Rejection] = []
    for (width, scores), frames in held.items():
        frame = pl.concat(frames, how="diagonal_relaxed").lazy()
        rejections += misfits(frame, width, scores, schema)
        if width == len(schema.kinds) and scores in {0, schema.scores}:
            tables.append(fitting(frame, schema))
    table = pl.concat(tables, how="vertical_relaxed").collect() if tables else pl.DataFrame({"line": []})
    return schema, table.sort("line"), rejections


def lines_and_kinds(rejections: Iterable[Rejection]) -> list[tuple[int, str]]:
    """Return line and kind of rejections."""
    return [(rejection.line, rejection.kind) for rejection in rejections]


def test_published_lines_are_three_records() -> None:
    """Two published invocations, the second with two rows, are three records with scores and origins."""
    found = [row for line, data in enumerate(PUBLISHED, 1) for row in event_records(line, decode(data), FIELDS)]
    schema, table, rejections = table_and_rejections(found)
    first = (28, 2, 133937, 9, 13, 2, 0, 0, 4, 1, 15024, 0, 55, 37)
    features = table.select(f"feature{d}" for d in range(14))
    assert features.rows() == [first, first, (43, 2, 72338, 12, 14, 2, 12, 0, 1, 1, 0, 0, 40, 37)]
    assert set(features.dtypes) == {pl.Int64}
    assert table["score0"].to_list() == [0.989977359771728, 0.989977359771728, 0.504138827323913]
    assert table.select("file", *ORIGIN).rows() == [
        (FILE, 1, 0, "40394cfe-37c3-4abb-b22c-dd7accbe9608", None, AT),
        (FILE, 2, 0, "32aaea1b-1a60-4870-b81d-40271f950c4a", None, AT),
        (FILE, 2, 1, "32aaea1b-1a60-4870-b81d-40271f950c4a", None, AT),
    ]
    assert (schema.kinds, schema.scores, rejections) == (("number",) * 14, 1, [])


def test_invocation_is_its_records() -> None:
    """Each record has the ids and time of its invocation, its row number, and its scores if there are any."""
    assert event_records(7, event([[1, "x"]]), FIELDS) == [Record(7, 0, "e", None, AT, [1, "x"], ())]
    assert event_records(7, event([[1], [2]], [0.5, [0.25, 0.75]]), FIELDS) == [
        Record(7, 0, "e", None, AT, [1], [0.5]),
        Record(7, 1, "e", None, AT, [2], [0.25, 0.75]),
    ]
    mixed = Event("e", AT, Payload("", "1,x", "CSV"), Payload("", '{"score":1}', "JSON"), "i")
    assert event_records(7, mixed, FIELDS) == [Record(7, 0, "e", "i", AT, [1, "x"], [1.0])]


@pytest.mark.parametrize(
    ("invocation", "kind"),
    [
        (Event("e", AT, None, body("score", [0.5])), "no_input"),
        (Event("e", AT, None, None), "no_input"),
        (Event("e", AT, Payload("text/csv", '"1,2', "CSV"), None), "payload"),
        (Event("e", AT, Payload("text/csv", "1,2", "JSON"), None), "payload"),
        (Event("e", AT, Payload("", "MSwy", "BASE64"), None), "payload"),
        (Event("e", AT, Payload("", "é", "BASE64"), None), "encoding"),
        (Event("e", AT, Payload("", '{"features":[NaN]}', "JSON"), None), "not_finite"),
        (Event("e", AT, body("instances", [1]), None), "features_not_found"),
        (Event("e", AT, body("features", [[1]]), body("label", [1])), "score_not_found"),
        (Event("e", AT, body("features", [[1]]), Payload("", '{"score":NaN}', "JSON")), "not_finite"),
        (Event("e", AT, body("features", [[1]]), Payload("", "torn {", "JSON")), "payload"),
        (event([[[1]]]), "feature_type"),
        (event([]), "payload"),
        (event([], []), "payload"),
        (event([[1], [2]], [0.5]), "row_count"),
        (event([[1]], [0.5, 0.5]), "row_count"),
        (event([[1]], []), "row_count"),
    ],
)
def test_invalid_invocation_is_an_error(invocation: Event, kind: str) -> None:
    """A missing request, an invalid body and unequal sides have their reasons."""
    with pytest.raises(RecordError) as caught:
        event_records(1, invocation, FIELDS)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("requests", "responses"), [([[1], [2]], [0.5]), ([[1]], [0.5, 0.5]), ([[1]], [])])
def test_unequal_sides_are_an_error(requests: list[Any], responses: list[Any], golden: Golden) -> None:
    """A response with another number of rows than the request is an error with both numbers."""
    with pytest.raises(RecordError) as caught:
        event_records(1, event(requests, responses), FIELDS)
    assert caught.value.kind == "row_count"
    assert re.findall(r"\d+", str(caught.value)) == [str(len(requests)), str(len(responses))]


@pytest.mark.parametrize(
    ("column", "columns"),
    [
        ([1, 2], {"0:number": (pl.Int64, [1, 2])}),
        ([1, None], {"0:number": (pl.Int64, [1, None])}),
        ([1, 2.5], {"0:number": (pl.Float64, [1.0, 2.5])}),
        ([1, 2.0, None], {"0:number": (pl.Float64, [1.0, 2.0, None])}),
        ([0.5], {"0:number": (pl.Float64, [0.5])}),
        ([2**63 - 1, -(2**63)], {"0:number": (pl.Int64, [2**63 - 1, -(2**63)])}),
        ([2**63, None, 1], {"0:number": (pl.Float64, [2.0**63, None, 1.0])}),
        ([1, 2**64 - 1], {"0:number": (pl.Float64, [1.0, 2.0**64])}),
        ([-(2**63) - 1], {"0:number": (pl.Float64, [-(2.0**63)])}),
        ([10**30], {"0:number": (pl.Float64, [1e30])}),
        ([10**50], {"0:number": (pl.Float64, [1e50])}),
        (["a", "", None], {"0:string": (pl.String, ["a", "", None])}),
        (["1", "2"], {"0:string": (pl.String, ["1", "2"])}),
        ([True, False, None], {"0:boolean": (pl.Boolean, [True, False, None])}),
        ([None, None], {}),
        ([1, "1"], {"0:number": (pl.Int64, [1, None]), "0:string": (pl.String, [None, "1"])}),
        ([True, 1], {"0:boolean": (pl.Boolean, [True, None]), "0:number": (pl.Int64, [None, 1])}),
        (
            [True, "x", 0.5, None],
            {
                "0:boolean": (pl.Boolean, [True, None, None, None]),
                "0:number": (pl.Float64, [None, None, 0.5, None]),
                "0:string": (pl.String, [None, "x", None, None]),
            },
        ),
    ],
)
def test_each_kind_of_a_feature_has_a_column(
    column: list[Scalar], columns: dict[str, tuple[Any, list[Scalar]]]
) -> None:
    """A feature has one column per kind; integers are floats only next to floats."""
    frame = value_columns(part(*([value] for value in column)).frame)
    assert {each.name: (each.dtype, each.to_list()) for each in frame} == columns


def test_parts_have_one_width_and_number_of_scores() -> None:
    """Records with equal numbers of features and scores are one table, in their order."""
    mixed = rows([1], [2, 3], [4]) + rows([5], scores=[0.5]) + rows([6], scores=[0.25, 0.75]) + rows([])
    found = parts(mixed)
    shapes = [(each.width, each.scores, each.frame.height) for each in found]
    assert shapes == [(1, 0, 2), (2, 0, 1), (1, 1, 1), (1, 2, 1), (0, 0, 1)]
    assert found[0].frame["0:number"].to_list() == [1, 4]
    assert value_columns(found[3].frame).to_dicts() == [{"0:number": 6, "score0": 0.25, "score1": 0.75}]
    assert parts([]) == []


def test_parts_have_columns_of_the_origin() -> None:
    """Line, row, ids and time are columns of fixed types, even if all are null."""
    marked = Record(3, 1, "e", "i", AT, [1])
    unmarked = Record(4, 0, None, None, None, [2])
    (found,) = parts([marked, unmarked])
    assert found.frame.select(*ORIGIN).rows() == [(3, 1, "e", "i", AT), (4, 0, None, None, None)]
    assert dict(found.frame.select(*ORIGIN).schema) == ORIGIN
    (lonely,) = parts([unmarked])
    assert dict(lonely.frame.select(*ORIGIN).schema) == ORIGIN


@pytest.mark.parametrize(
    ("majority", "minority"), [(1, "x"), (1.5, True), ("x", 1), ("x", 2.5), (False, 0), (1, "NaN")]
)
def test_minority_of_another_kind_is_rejected(majority: Scalar, minority: Scalar, golden: Golden) -> None:
    """The message contains the feature and the row; the rejection contains the whole record."""
    found: list[list[Scalar]] = [[7, minority], [7, majority], [7, majority], [7, None]]
    _, table, rejections = table_and_rejections(rows(*found), NAMED)
    assert table["feature1"].to_list() == [majority, majority, None]
    assert table["line"].to_list() == [2, 3, 4]
    assert lines_and_kinds(rejections) == [(1, "feature_type")]
    assert re.findall(r"\d+", rejections[0].problem)[0] == "0"
    assert f"{minority!r}," in rejections[0].problem
    golden(rejections[0].problem)
    assert rejections[0].text == orjson.dumps([7, minority]).decode()


def test_missing_feature_is_rejected(golden: Golden) -> None:
    """A record with 13 of 14 features is rejected, even as the second row of a mini-batch."""
    row = list(range(14))
    found = [*event_records(1, event([row]), FIELDS), *event_records(2, event([row, row[:13]]), FIELDS)]
    _, table, rejections = table_and_rejections(found)
    assert table.height == 2
    assert lines_and_kinds(rejections) == [(2, "feature_count")]
    assert re.findall(r"\d+", rejections[0].problem)[0] == "1"
    golden(rejections[0].problem)
    assert rejections[0].text == str(row[:13]).replace(", ", ",")


def test_headers_decide_the_number_of_features() -> None:
    """With headers, records of another width are rejected, even if they are most."""
    _, table, rejections = table_and_rejections(rows([1], [1], [1, 2]), NAMED)
    assert value_columns(table).rows() == [(1, 2)]
    assert [rejection.kind for rejection in rejections] == ["feature_count"] * 2


def test_ties_are_broken_by_the_smaller_width() -> None:
    """The smallest of equally frequent widths applies."""
    _, table, _ = table_and_rejections(rows([1] * 10, [1] * 9))
    assert value_columns(table).width == 9


def test_message_on_a_dataset_contains_no_row_of_a_payload(golden: Golden) -> None:
    """Without an event the message contains no row number."""
    column: list[Scalar] = [1, 2, "x"]
    found = [Record(line, 0, None, None, None, [value]) for line, value in enumerate(column, 1)]
    _, _, rejections = table_and_rejections(found)
    assert lines_and_kinds(rejections) == [(3, "feature_type")]
    assert re.findall(r"\b\d+", rejections[0].problem) == []
    golden(rejections[0].problem)


def test_missing_scores_are_null(golden: Golden) -> None:
    """A record without scores is valid; one with another number of scores is rejected."""
    found = rows([1], scores=[0.25, 0.75]) + rows([2], scores=[0.5, 0.5]) + rows([3]) + rows([4], scores=[0.5])
    _, table, rejections = table_and_rejections(found)
    scores = {tuple(row) for row in table.select("feature0", "score0", "score1").rows()}
    assert scores == {(1, 0.25, 0.75), (2, 0.5, 0.5), (3, None, None)}
    assert lines_and_kinds(rejections) == [(1, "score_count")]
    golden(rejections[0].problem)


def test_table_without_scores_has_no_score_columns() -> None:
    """Requests without responses are valid."""
    assert value_columns(table_and_rejections(rows([1], [2]))[1]).columns == ["feature0"]


def test_feature_of_nulls_is_valid() -> None:
    """A feature of nulls is a column of nulls, and its records are valid."""
    schema, table, rejections = table_and_rejections(rows([None, 1], [None, 2]))
    assert schema.kinds == (None, "number")
    assert value_columns(table).rows() == [(None, 1), (None, 2)]
    assert table["feature0"].dtype == pl.Null
    assert rejections == []


def test_columns_have_their_order() -> None:
    """Origin, features and scores have their order, even if a table lacks a column."""
    frame = part([None, "x"]).frame.with_columns(pl.lit(FILE).alias("file")).lazy()
    found = fitting(frame, Schema(FIELDS, ("number", "string"), 1)).collect()
    assert found.columns == ["file", *ORIGIN, "feature0", "feature1", "score0"]
    assert value_columns(found).rows() == [(None, "x", None)]
    assert found["score0"].dtype == pl.Float64


@pytest.mark.parametrize(
    ("column", "name", "dtype", "found"),
    [
        (pl.Series([1, None], dtype=pl.Int8), "0:number", pl.Int64, [1, None]),
        (pl.Series([255], dtype=pl.UInt8), "0:number", pl.Int64, [255]),
        (pl.Series([2**32 - 1], dtype=pl.UInt32), "0:number", pl.Int64, [2**32 - 1]),
        (pl.Series([2**64 - 1], dtype=pl.UInt64), "0:number", pl.Float64, [2.0**64]),
        (pl.Series([2**70], dtype=pl.Int128), "0:number", pl.Float64, [2.0**70]),
        (pl.Series([0.5, None], dtype=pl.Float32), "0:number", pl.Float64, [0.5, None]),
        (pl.Series([0.1], dtype=pl.Float64), "0:number", pl.Float64, [0.1]),
        (pl.Series([Decimal("1.25")]), "0:number", pl.Float64, [1.25]),
        (pl.Series([True, None]), "0:boolean", pl.Boolean, [True, None]),
        (pl.Series(["a", "", None]), "0:string", pl.String, ["a", "", None]),
        (pl.Series(["a", None], dtype=pl.Enum(["a", "b"])), "0:string", pl.String, ["a", None]),
        (pl.Series(["a", None], dtype=pl.Categorical), "0:string", pl.String, ["a", None]),
        (pl.Series(["a"], dtype=pl.Categorical(pl.Categories("mine"))), "0:string", pl.String, ["a"]),
    ],
)
def test_typed_columns_have_a_kind(column: pl.Series, name: str, dtype: pl.DataType, found: list[Scalar]) -> None:
    """The types of Parquet are converted to the three kinds, in the types of captured values."""
    width, scores, frame = table_part(pl.DataFrame({"Age": column}))
    assert (width, scores) == (1, 0)
    assert {each.name: (each.dtype, each.to_list()) for each in value_columns(frame)} == {name: (dtype, found)}


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pl.Series([date(2023, 1, 19)]), "Date"),
        (pl.Series([AT]), "Datetime(time_unit='us', time_zone='UTC')"),
        (pl.Series([AT - AT]), "Duration(time_unit='us')"),
        (pl.Series([AT.time()]), "Time"),
        (pl.Series([b"x"]), "Binary"),
        (pl.Series([[1]]), "List(Int64)"),
        (pl.Series([{"a": 1}]), "Struct({'a': Int64})"),
    ],
    ids=["date", "datetime", "duration", "time", "binary", "list", "struct"],
)
def test_columns_of_other_types_are_an_error(column: pl.Series, dtype: str, golden: Golden) -> None:
    """The message contains the column and its type."""
    with golden.raises(RecordError) as caught:
        table_part(pl.DataFrame({"Age": [1], "When": column}))
    assert caught.value.kind == "feature_type"
    assert "'When'" in str(caught.value)
    assert dtype in str(caught.value)


def test_typed_tables_number_their_records() -> None:
    """The records of a table are lines from 1 without ids, and a column of nulls has no kind."""
    found = table_part(pl.DataFrame({"a": [1, 2], "b": [None, None], "c": ["x", None]}))
    assert found.frame.select(*ORIGIN).rows() == [(1, 0, None, None, None), (2, 0, None, None, None)]
    assert dict(found.frame.select(*ORIGIN).schema) == ORIGIN
    assert value_columns(found.frame).to_dict(as_series=False) == {"0:number": [1, 2], "2:string": ["x", None]}
    counter = SchemaCounter()
    counter.add(found)
    schema = counter.schema(FIELDS)
    assert schema.kinds == ("number", None, "string")
    frame = found.frame.with_columns(pl.lit(FILE).alias("file")).lazy()
    assert value_columns(fitting(frame, schema).collect()).rows() == [(1, None, "x"), (2, None, None)]
    assert list(misfits(frame, 3, 0, schema)) == []


def test_empty_typed_table_is_a_part() -> None:
    """A table without records is an empty part."""
    found = table_part(pl.DataFrame(schema={"a": pl.Int32, "b": pl.String}))
    assert (found.width, found.frame.height) == (2, 0)


def test_parts_of_columns_and_of_rows_are_equal() -> None:
    """The same values as columns and as rows give the same table."""
    records: list[list[Scalar]] = [[1, 0.5, "x", True], [2, None, None, False]]
    columns = pl.DataFrame(records, schema=["a", "b", "c", "d"], orient="row")
    (found,) = parts(Record(i, 0, None, None, None, record) for i, record in enumerate(records, 1))
    assert table_part(columns).frame.equals(found.frame)


scalars = st.sampled_from([1, 2, 0.5, "a", True, None])
records = st.tuples(st.lists(scalars, max_size=3), st.lists(st.just(0.5), max_size=2))


@given(
    st.lists(records, max_size=12).flatmap(lambda found: st.tuples(st.just(found), st.permutations(range(len(found)))))
)
def test_each_record_is_valid_or_rejected_in_any_order(
    both: tuple[list[tuple[list[Scalar], list[float]]], list[int]],
) -> None:
    """Each record is in the table or rejected, with its values, and the result is the same in any order."""
    found, order = both
    lines = [Record(line, 0, "e", None, AT, *record) for line, record in enumerate(found, 1)]
    schema, table, rejections = table_and_rejections(lines)
    assert sorted([*table["line"].to_list(), *(rejection.line for rejection in rejections)]) == [
        row.line for row in lines
    ]
    for rejection in rejections:
        assert orjson.loads(rejection.text) == list(found[rejection.line - 1][0])
    for record in table.iter_rows(named=True):
        row, scores = found[record["line"] - 1]
        assert [record[f"feature{d}"] for d in range(len(schema.kinds))] == row
        assert [record[f"score{i}"] for i in range(schema.scores)] == (scores or [None] * schema.scores)
    permuted = table_and_rejections(lines[i] for i in order)
    assert permuted[0] == schema
    assert permuted[1].equals(table)
    assert sorted(map(str, permuted[2])) == sorted(map(str, rejections))
