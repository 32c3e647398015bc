"""Rows of values → tables of the records that can be used, and why the others cannot."""

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
    Row,
    Schema,
    SchemaCounter,
    event_rows,
    fitting,
    misfits,
    parts,
    table_part,
)
from tests.golden import Golden

PUBLISHED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes().splitlines(keepends=True)
FIELDS = Fields("features", "score")
NAMED = Fields("features", "score", ("Age", "Sex"))
AT = datetime(2023, 1, 19, 5, 31, 46, tzinfo=UTC)
FILE = "2023/01/19/05/a.jsonl"


def body(key: str, values: Iterable[Any]) -> Payload:
    """Return a JSON Lines body with one document for each value."""
    return Payload("application/jsonlines", "\n".join(orjson.dumps({key: value}).decode() for value in values), "JSON")


def event(rows: Sequence[Any], scores: Sequence[Any] | None = None) -> Event:
    """Return an invocation with these rows of features and these scores."""
    return Event("e", AT, body("features", rows), None if scores is None else body("score", scores))


def rows(*records: Sequence[Scalar], scores: Sequence[float] = ()) -> list[Row]:
    """Return records of invocations, one in each line."""
    return [Row(line, 0, "e", None, AT, values, scores) for line, values in enumerate(records, 1)]


def part(*records: Sequence[Scalar], scores: Sequence[float] = ()) -> Part:
    """Return the one table of records of one width."""
    (only,) = parts(rows(*records, scores=scores))
    return only


def values(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of a table that say nothing about where records come from."""
    return frame.drop("file", *ORIGIN, strict=False)


def judged(found: Iterable[Row], fields: Fields = FIELDS) -> tuple[Schema, pl.DataFrame, list[Rejection]]:
    """Return what records agree on, the usable ones as one table, and why the others are none."""
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


def places(rejections: Iterable[Rejection]) -> list[tuple[int, str]]:
    """Return line and kind of rejections."""
    return [(rejection.line, rejection.kind) for rejection in rejections]


def test_published_lines_become_three_records() -> None:
    """Two published invocations, the second of two rows, are three records with their scores and origins."""
    found = [row for line, data in enumerate(PUBLISHED, 1) for row in event_rows(line, decode(data), FIELDS)]
    schema, table, rejections = judged(found)
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


def test_an_invocation_is_its_records() -> None:
    """Each record of an invocation has the invocation's marks, its own place, and its scores if there are any."""
    assert event_rows(7, event([[1, "x"]]), FIELDS) == [Row(7, 0, "e", None, AT, [1, "x"], ())]
    assert event_rows(7, event([[1], [2]], [0.5, [0.25, 0.75]]), FIELDS) == [
        Row(7, 0, "e", None, AT, [1], [0.5]),
        Row(7, 1, "e", None, AT, [2], [0.25, 0.75]),
    ]
    mixed = Event("e", AT, Payload("", "1,x", "CSV"), Payload("", '{"score":1}', "JSON"), "i")
    assert event_rows(7, mixed, FIELDS) == [Row(7, 0, "e", "i", AT, [1, "x"], [1.0])]


@pytest.mark.parametrize(
    ("found", "kind"),
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
def test_an_invocation_that_cannot_be_used_says_why(found: Event, kind: str) -> None:
    """An invocation without a request, with a body that cannot be read, or with unequal sides has its reason."""
    with pytest.raises(RecordError) as caught:
        event_rows(1, found, FIELDS)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("requests", "responses"), [([[1], [2]], [0.5]), ([[1]], [0.5, 0.5]), ([[1]], [])])
def test_numbers_of_rows_differ(requests: list[Any], responses: list[Any], golden: Golden) -> None:
    """A response with another number of rows than the request is not guessed about."""
    with pytest.raises(RecordError) as caught:
        event_rows(1, event(requests, responses), FIELDS)
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
    """A feature has a column of the right type for each kind that occurs; integers become floats only beside floats."""
    frame = values(part(*([value] for value in column)).frame)
    assert {each.name: (each.dtype, each.to_list()) for each in frame} == columns


def test_parts_have_one_width_and_number_of_scores() -> None:
    """Records are in the same table when they have as many features and as many scores, in their order."""
    mixed = rows([1], [2, 3], [4]) + rows([5], scores=[0.5]) + rows([6], scores=[0.25, 0.75]) + rows([])
    found = list(parts(mixed))
    shapes = [(each.width, each.scores, each.frame.height) for each in found]
    assert shapes == [(1, 0, 2), (2, 0, 1), (1, 1, 1), (1, 2, 1), (0, 0, 1)]
    assert found[0].frame["0:number"].to_list() == [1, 4]
    assert values(found[3].frame).to_dicts() == [{"0:number": 6, "score0": 0.25, "score1": 0.75}]
    assert list(parts([])) == []


def test_parts_know_where_records_come_from() -> None:
    """Places and marks are columns of fixed types, also where nothing is known."""
    marked = Row(3, 1, "e", "i", AT, [1])
    unmarked = Row(4, 0, None, None, None, [2])
    (found,) = parts([marked, unmarked])
    assert found.frame.select(*ORIGIN).rows() == [(3, 1, "e", "i", AT), (4, 0, None, None, None)]
    assert dict(found.frame.select(*ORIGIN).schema) == ORIGIN
    (lonely,) = parts([unmarked])
    assert dict(lonely.frame.select(*ORIGIN).schema) == ORIGIN


@pytest.mark.parametrize(
    ("majority", "minority"), [(1, "x"), (1.5, True), ("x", 1), ("x", 2.5), (False, 0), (1, "NaN")]
)
def test_minority_of_another_kind_is_rejected(majority: Scalar, minority: Scalar, golden: Golden) -> None:
    """A value of another kind than most is rejected with the feature's name, the place, and the whole record."""
    found: list[list[Scalar]] = [[7, minority], [7, majority], [7, majority], [7, None]]
    _, table, rejections = judged(rows(*found), NAMED)
    assert table["feature1"].to_list() == [majority, majority, None]
    assert table["line"].to_list() == [2, 3, 4]
    assert places(rejections) == [(1, "feature_type")]
    assert re.findall(r"\d+", rejections[0].problem)[0] == "0"
    assert f"{minority!r}," in rejections[0].problem
    golden(rejections[0].problem)
    assert rejections[0].text == orjson.dumps([7, minority]).decode()


def test_missing_feature_is_rejected(golden: Golden) -> None:
    """A record with 13 of 14 features is rejected, also as the second row of a mini-batch."""
    row = list(range(14))
    found = [*event_rows(1, event([row]), FIELDS), *event_rows(2, event([row, row[:13]]), FIELDS)]
    _, table, rejections = judged(found)
    assert table.height == 2
    assert places(rejections) == [(2, "feature_count")]
    assert re.findall(r"\d+", rejections[0].problem)[0] == "1"
    golden(rejections[0].problem)
    assert rejections[0].text == str(row[:13]).replace(", ", ",")


def test_headers_decide_the_width() -> None:
    """With headers even a majority of another width is rejected."""
    _, table, rejections = judged(rows([1], [1], [1, 2]), NAMED)
    assert values(table).rows() == [(1, 2)]
    assert [rejection.kind for rejection in rejections] == ["feature_count"] * 2


def test_narrower_records_win_a_tie() -> None:
    """Of equally frequent widths the smallest is taken."""
    _, table, _ = judged(rows([1] * 10, [1] * 9))
    assert values(table).width == 9


def test_records_of_a_dataset_have_no_place_in_a_payload(golden: Golden) -> None:
    """Without an event the problem names no row of its payload."""
    column: list[Scalar] = [1, 2, "x"]
    found = [Row(line, 0, None, None, None, [value]) for line, value in enumerate(column, 1)]
    _, _, rejections = judged(found)
    assert places(rejections) == [(3, "feature_type")]
    assert re.findall(r"\b\d+", rejections[0].problem) == []
    golden(rejections[0].problem)


def test_missing_scores_leave_gaps(golden: Golden) -> None:
    """A record without scores is used beside those that have some, one with another number of scores is not."""
    found = rows([1], scores=[0.25, 0.75]) + rows([2], scores=[0.5, 0.5]) + rows([3]) + rows([4], scores=[0.5])
    _, table, rejections = judged(found)
    scores = {tuple(row) for row in table.select("feature0", "score0", "score1").rows()}
    assert scores == {(1, 0.25, 0.75), (2, 0.5, 0.5), (3, None, None)}
    assert places(rejections) == [(1, "score_count")]
    golden(rejections[0].problem)


def test_without_scores_there_are_no_columns_for_them() -> None:
    """Requests alone are enough."""
    assert values(judged(rows([1], [2]))[1]).columns == ["feature0"]


def test_a_feature_of_nulls_is_used() -> None:
    """A feature that nobody knows is a column of nulls, and does not exclude its record."""
    schema, table, rejections = judged(rows([None, 1], [None, 2]))
    assert schema.kinds == (None, "number")
    assert values(table).rows() == [(None, 1), (None, 2)]
    assert table["feature0"].dtype == pl.Null
    assert rejections == []


def test_usable_columns_have_their_order() -> None:
    """Origin, features and scores stand where readers expect them, also where a part lacks a kind's column."""
    frame = part([None, "x"]).frame.with_columns(pl.lit(FILE).alias("file")).lazy()
    found = fitting(frame, Schema(FIELDS, ("number", "string"), 1)).collect()
    assert found.columns == ["file", *ORIGIN, "feature0", "feature1", "score0"]
    assert values(found).rows() == [(None, "x", None)]
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
    """The types of Parquet are the three kinds, in the types that captured values have."""
    width, scores, frame = table_part(pl.DataFrame({"Age": column}))
    assert (width, scores) == (1, 0)
    assert {each.name: (each.dtype, each.to_list()) for each in values(frame)} == {name: (dtype, found)}


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
def test_other_typed_columns_are_refused(column: pl.Series, dtype: str, golden: Golden) -> None:
    """A column that is neither numbers, texts nor booleans is named with its type."""
    with golden.raises(RecordError) as caught:
        table_part(pl.DataFrame({"Age": [1], "When": column}))
    assert caught.value.kind == "feature_type"
    assert "'When'" in str(caught.value)
    assert dtype in str(caught.value)


def test_typed_tables_number_their_records() -> None:
    """The records of a table are lines from 1 without marks, and a column of nulls has no kind."""
    found = table_part(pl.DataFrame({"a": [1, 2], "b": [None, None], "c": ["x", None]}))
    assert found.frame.select(*ORIGIN).rows() == [(1, 0, None, None, None), (2, 0, None, None, None)]
    assert dict(found.frame.select(*ORIGIN).schema) == ORIGIN
    assert values(found.frame).to_dict(as_series=False) == {"0:number": [1, 2], "2:string": ["x", None]}
    counter = SchemaCounter()
    counter.add(found)
    schema = counter.schema(FIELDS)
    assert schema.kinds == ("number", None, "string")
    frame = found.frame.with_columns(pl.lit(FILE).alias("file")).lazy()
    assert values(fitting(frame, schema).collect()).rows() == [(1, None, "x"), (2, None, None)]
    assert list(misfits(frame, 3, 0, schema)) == []


def test_an_empty_typed_table_is_a_part() -> None:
    """A table without records is none."""
    found = table_part(pl.DataFrame(schema={"a": pl.Int32, "b": pl.String}))
    assert (found.width, found.frame.height) == (2, 0)


def test_typed_tables_are_parts_like_others() -> None:
    """The same values give the same table, whether they come as columns or as rows."""
    records: list[list[Scalar]] = [[1, 0.5, "x", True], [2, None, None, False]]
    columns = pl.DataFrame(records, schema=["a", "b", "c", "d"], orient="row")
    (found,) = parts(Row(i, 0, None, None, None, record) for i, record in enumerate(records, 1))
    assert table_part(columns).frame.equals(found.frame)


scalars = st.sampled_from([1, 2, 0.5, "a", True, None])
records = st.tuples(st.lists(scalars, max_size=3), st.lists(st.just(0.5), max_size=2))


@given(
    st.lists(records, max_size=12).flatmap(lambda found: st.tuples(st.just(found), st.permutations(range(len(found)))))
)
def test_no_record_is_lost_and_no_order_matters(both: tuple[list[tuple[list[Scalar], list[float]]], list[int]]) -> None:
    """Each record is used with its values or rejected with them, the same in any order."""
    found, order = both
    lines = [Row(line, 0, "e", None, AT, *record) for line, record in enumerate(found, 1)]
    schema, table, rejections = judged(lines)
    assert sorted([*table["line"].to_list(), *(rejection.line for rejection in rejections)]) == [
        row.line for row in lines
    ]
    for rejection in rejections:
        assert orjson.loads(rejection.text) == list(found[rejection.line - 1][0])
    for record in table.iter_rows(named=True):
        row, scores = found[record["line"] - 1]
        assert [record[f"feature{d}"] for d in range(len(schema.kinds))] == row
        assert [record[f"score{i}"] for i in range(schema.scores)] == (scores or [None] * schema.scores)
    again = judged(lines[i] for i in order)
    assert again[0] == schema
    assert again[1].equals(table)
    assert sorted(map(str, again[2])) == sorted(map(str, rejections))
