"""Lines → a table of records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain import Captured, Event, Line, Payload, Window
from runner.errors import DatasetError
from runner.records.capture import encode
from runner.records.fields import Fields
from runner.records.tables import read_dataset, read_window

PUBLISHED = (Path(__file__).parents[1] / "expected" / "capture.jsonl").read_bytes().splitlines(keepends=True)
FIELDS = Fields("features", "score")
HOUR = Window.parse("2023-01-19T05")
AT = datetime(2023, 1, 19, 5, 31, 46, tzinfo=UTC)
FILE = "2023/01/19/05/a.jsonl"


def body(key: str, values: Iterable[Any]) -> Payload:
    """Return a JSON Lines body with one document for each value."""
    return Payload("application/jsonlines", "\n".join(orjson.dumps({key: value}).decode() for value in values), "JSON")


def captured(rows: Sequence[Any], scores: Sequence[Any] | None = None, at: datetime = AT) -> bytes:
    """Return the capture line of an invocation with these rows of features and these scores."""
    return encode(Event("e", at, body("features", rows), None if scores is None else body("score", scores)))


def numbered(lines: Iterable[bytes]) -> list[Line]:
    """Return lines as they come from one file."""
    return [Line(FILE, number, data) for number, data in enumerate(lines, 1)]


def read(*lines: bytes, fields: Fields = FIELDS) -> Captured:
    """Return what the hour holds when its one file has these lines."""
    return read_window([FILE], numbered(lines), fields, HOUR)


def rejections(found: Captured) -> list[tuple[str, str, str]]:
    """Return the rejections as tuples."""
    return [(f"{rejection.file}:{rejection.line}", rejection.kind, rejection.problem) for rejection in found.rejections]


def test_published_lines_become_three_records() -> None:
    """Two published invocations, the second of two rows, are three records with their scores and origins."""
    found = read(*PUBLISHED)
    first = (28, 2, 133937, 9, 13, 2, 0, 0, 4, 1, 15024, 0, 55, 37)
    assert found.records.features.rows() == [first, first, (43, 2, 72338, 12, 14, 2, 12, 0, 1, 1, 0, 0, 40, 37)]
    assert set(found.records.features.dtypes) == {pl.Int64}
    assert found.records.scores_NL is not None
    assert found.records.scores_NL.tolist() == [[0.989977359771728], [0.989977359771728], [0.504138827323913]]
    assert found.records.keys.rows() == [
        (FILE, 1, 0, "40394cfe-37c3-4abb-b22c-dd7accbe9608", None, AT),
        (FILE, 2, 0, "32aaea1b-1a60-4870-b81d-40271f950c4a", None, AT),
        (FILE, 2, 1, "32aaea1b-1a60-4870-b81d-40271f950c4a", None, AT),
    ]
    assert (found.window, found.files, found.events, found.rejections) == (HOUR, (FILE,), 2, ())


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], pl.Int64),
        ([1, None], pl.Int64),
        ([1, 2.5], pl.Float64),
        ([1, 2.0, None], pl.Float64),
        ([0.5], pl.Float64),
        ([2**63 - 1, -(2**63)], pl.Int64),
        (["a", "", None], pl.String),
        (["1", "2"], pl.String),
        ([True, False, None], pl.Boolean),
        ([None, None], pl.Null),
    ],
)
def test_columns_keep_their_types(values: list[Any], dtype: type[pl.DataType]) -> None:
    """A column has the type of its values, and exactly these values."""
    column = read(*(captured([[value]]) for value in values)).records.features["column_0"]
    assert column.dtype == dtype
    assert column.to_list() == values


def test_integers_beyond_64_bits_become_floats() -> None:
    """An integer that fits no Int64 makes its column a float column."""
    column = read(captured([[2**63], [1]])).records.features["column_0"]
    assert column.to_list() == [2.0**63, 1.0]
    assert column.dtype == pl.Float64


@pytest.mark.parametrize(
    ("majority", "minority", "said"),
    [
        (1, "x", "holds the text 'x' where the other records have a number"),
        (1.5, True, "holds the boolean True where the other records have a number"),
        ("x", 1, "holds the number 1 where the other records have a text"),
        (False, 0, "holds the number 0 where the other records have a boolean"),
    ],
)
def test_minority_of_another_kind_is_rejected(majority: Any, minority: Any, said: str) -> None:
    """A value of another kind than most is rejected with the feature's name and the place."""
    lines = [captured([[7, minority]]), captured([[7, majority]]), captured([[7, majority]]), captured([[7, None]])]
    found = read(*lines, fields=Fields("features", "score", ("Age", "Sex")))
    assert found.records.features["Sex"].to_list() == [majority, majority, None]
    assert rejections(found) == [(f"{FILE}:1", "feature_type", f"row 0 of the payload: feature 'Sex' {said}")]


def test_missing_feature_is_rejected() -> None:
    """A record with 13 of 14 features is rejected, also as the second row of a mini-batch."""
    row = list(range(14))
    found = read(captured([row]), captured([row, row[:13]]))
    assert len(found.records) == 2
    assert rejections(found) == [
        (
            f"{FILE}:2",
            "feature_count",
            f"row 1 of the payload: 13 features where most records have 14: {row[:13]}".replace(", ", ","),
        )
    ]


def test_headers_decide_the_width() -> None:
    """With headers even a majority of another width is rejected."""
    found = read(captured([[1]]), captured([[1]]), captured([[1, 2]]), fields=Fields("features", "score", ("A", "B")))
    assert found.records.features.to_dicts() == [{"A": 1, "B": 2}]
    assert found.rejected == {"feature_count": 2}


def test_narrower_records_win_a_tie() -> None:
    """Of equally frequent widths the smallest is taken."""
    assert read(captured([[1] * 10]), captured([[1] * 9])).records.features.width == 9


@pytest.mark.parametrize(
    ("clock", "inside"), [("04:59:59", False), ("05:00:00", True), ("05:59:59", True), ("06:00:00", False)]
)
def test_window_is_half_open(clock: str, inside: bool) -> None:
    """The start belongs to the window, the end does not."""
    found = read(captured([[1]], at=datetime.fromisoformat(f"2023-01-19T{clock}+00:00")))
    assert len(found.records) == inside
    said = f"event time 2023-01-19T{clock}Z is outside 2023-01-19 05:00–06:00 UTC"
    assert rejections(found) == ([] if inside else [(f"{FILE}:1", "outside_window", said)])
    assert found.events == 1


@pytest.mark.parametrize(("rows", "scores"), [([[1], [2]], [0.5]), ([[1]], [0.5, 0.5]), ([[1]], [])])
def test_numbers_of_rows_differ(rows: list[Any], scores: list[Any]) -> None:
    """A response with another number of rows than the request is not guessed about."""
    said = f"{len(rows)} records in the request, {len(scores)} in the response"
    assert rejections(read(captured(rows, scores))) == [(f"{FILE}:1", "row_count", said)]


def test_missing_responses_leave_no_scores() -> None:
    """Requests alone are enough."""
    found = read(captured([[1], [2]]))
    assert len(found.records) == 2
    assert found.records.scores_NL is None


def test_missing_response_leaves_a_gap() -> None:
    """A record without a response among others that have one has no number as its score."""
    scores_NL = read(captured([[1]], [[0.25, 0.75]]), captured([[2]])).records.scores_NL
    np.testing.assert_array_equal(scores_NL, np.array([[0.25, 0.75], [np.nan, np.nan]]))


def test_minority_of_scores_is_rejected() -> None:
    """A record with another number of scores than most is rejected."""
    found = read(captured([[1], [2]], [[0.5, 0.5], [0.5, 0.5]]), captured([[3]], [0.5]))
    assert rejections(found) == [
        (f"{FILE}:2", "score_count", "row 0 of the payload: 1 score where the other records have 2")
    ]


def test_missing_request_is_rejected() -> None:
    """An event without its request cannot be explained."""
    event = encode(Event("e", AT, None, body("score", [0.5])))
    assert read(event).rejected == {"no_input": 1}


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"torn {", "not_json"),
        (b"{}", "not_a_capture"),
        (encode(Event("e", AT, Payload("text/csv", "1,2", "CSV"), None)), "payload"),
        (encode(Event("e", AT, Payload("", "MSwy", "BASE64"), None)), "payload"),
        (encode(Event("e", AT, Payload("", "é", "BASE64"), None)), "encoding"),
        (encode(Event("e", AT, body("instances", [1]), None)), "features_not_found"),
        (encode(Event("e", AT, body("features", [[1]]), body("label", [1]))), "score_not_found"),
        (captured([[[1]]]), "feature_type"),
    ],
)
def test_broken_line_spares_the_others(line: bytes, kind: str) -> None:
    """A line that cannot be used is counted under its reason, with its place; the next one is read."""
    found = read(captured([[0]]), b"  \n", line, captured([[1]]))
    assert found.records.features["column_0"].to_list() == [0, 1]
    assert found.events == 3
    assert [(rejection.file, rejection.line, rejection.kind) for rejection in found.rejections] == [(FILE, 3, kind)]


def test_event_without_rows_does_not_vanish() -> None:
    """An invocation with an empty body is counted among the rejected, as it gives no record."""
    assert sum(read(captured([])).rejected.values()) == 1


def test_repeated_ids_are_kept() -> None:
    """Ids and contents may repeat, each invocation is a record."""
    assert len(read(*[captured([[1]])] * 3).records) == 3


@pytest.mark.parametrize("fields", [FIELDS, Fields("features", "score", ("A", "B"))])
def test_nothing_read_is_an_empty_table(fields: Fields) -> None:
    """A window without lines has no records."""
    found = read(fields=fields)
    assert (len(found.records), found.events, found.records.keys.height) == (0, 0, 0)


values = st.sampled_from([1, 2, 0.5, "a", True, None])
rows = st.lists(values, min_size=1, max_size=3)
scored = st.tuples(rows, st.sampled_from([0.5, [0.5, 0.5], None]))
batches = st.lists(scored, max_size=3).map(lambda batch: captured([row for row, _ in batch], [s for _, s in batch]))
files = st.lists(batches | rows.map(lambda row: captured([row])) | st.just(b"torn"), max_size=12).map(numbered)


def contents(lines: list[Line]) -> tuple[dict[str, Any], set[str], set[tuple[str, str]]]:
    """Return a window's schema, its records and its rejections, each regardless of order."""
    found = read_window([FILE], lines, FIELDS, HOUR)
    records = found.records
    scores = [None] * len(records) if records.scores_NL is None else records.scores_NL.tolist()
    table = {repr(row) for row in zip(records.keys.rows(), records.features.rows(), scores, strict=True)}
    assert len(table) == len(records)
    return dict(records.features.schema), table, {(str(rejection), rejection.kind) for rejection in found.rejections}


@given(files.flatmap(lambda lines: st.tuples(st.just(lines), st.permutations(lines))))
def test_order_of_lines_changes_nothing(both: tuple[list[Line], list[Line]]) -> None:
    """The lines in any order give the same records and the same rejections."""
    lines, shuffled = both
    assert contents(lines) == contents(shuffled)


def test_dataset_keeps_types_and_places() -> None:
    """A dataset's records have types as captured ones do, ids and times they have not."""
    lines = [b'{"features":[39,"x"],"label":0}\n', b"\n", b'{"features":[40.5,null],"label":1}']
    records = read_dataset(numbered(lines), FIELDS)
    assert dict(records.features.schema) == {"column_0": pl.Float64(), "column_1": pl.String()}
    assert records.features.rows() == [(39.0, "x"), (40.5, None)]
    assert records.keys.rows() == [(FILE, 1, 0, None, None, None), (FILE, 3, 0, None, None, None)]
    assert records.scores_NL is None


GOOD = b'{"features":[1,2]}'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "the dataset: holds no record; expected JSON Lines, one record a line"),
        ([b"\n"], f"{FILE}: holds no record; expected JSON Lines, one record a line"),
        ([GOOD, b"Age,Sex"], f"{FILE}:2: line 1 of the body is not JSON"),
        ([GOOD, b'"\xff"'], f"{FILE}:2: not UTF-8"),
        ([GOOD, b'{"feature":[1,2]}'], f"{FILE}:2: data.features='features' finds nothing in"),
        ([GOOD, GOOD, b'{"features":[1]}'], f"{FILE}:3: 1 feature where most records have 2: [1]"),
        ([GOOD, GOOD, b'{"features":[1,"a"]}'], f"{FILE}:3: feature 'column_1' holds the text 'a'"),
        ([GOOD, "\u00a0\n".encode()], f"{FILE}:2: "),
        ([b"x", GOOD, b"y", b"z"], "; 2 more of its lines cannot be used"),
        ([GOOD, b'{"features":[1]}', GOOD, b"x"], f"{FILE}:2: 1 feature where most records have 2: [1]"),
    ],
)
def test_dataset_stops_at_its_first_problem(lines: list[bytes], said: str) -> None:
    """A dataset that cannot be used says where its first problem stands and how many there are."""
    with pytest.raises(DatasetError) as caught:
        read_dataset(numbered(lines), FIELDS)
    assert said in str(caught.value)
