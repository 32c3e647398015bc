"""Files of records: every layout, labels, quotes, and that nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import storage
from runner.records.payloads import Scalar
from runner.records.templates import Template
from runner.sources.data import Data, FileFormat
from runner.sources.data_file import DataFile
from runner.sources.record_collector import RecordCollector
from tests.golden import Golden
from tests.sources.reading import Taken, data_settings, plain

JSON_LINES: FileFormat = "application/jsonlines"
JSON: FileFormat = "application/json"
CSV: FileFormat = "text/csv"
PARQUET: FileFormat = "application/x-parquet"


def settings_of(layout: FileFormat, **keys: Any) -> Data:
    """Return the section `data` for files of a format."""
    content_type = JSON if layout == JSON else CSV
    return data_settings(**{"dataset_type": layout, "content_type": content_type, "features": None, **keys})


def read(path: Path, layout: FileFormat, **keys: Any) -> Taken:
    """Return the records and rejections of a file with labels."""
    data = settings_of(layout, **keys)
    with RecordCollector(data.fields) as collector:
        DataFile(path, "data", data, labelled=True).read(collector)
        return plain(collector)


def text(folder: Path, data: bytes, layout: FileFormat = CSV, **settings: Any) -> Taken:
    """Return what a file of these bytes holds."""
    (path := folder / "data").write_bytes(data)
    return read(path, layout, **settings)


def parquet(folder: Path, table: pl.DataFrame, **settings: Any) -> Taken:
    """Return what a Parquet file of this table holds."""
    table.write_parquet(path := folder / "data")
    return read(path, PARQUET, **settings)


def test_json_lines(tmp_path: Path) -> None:
    """A record a line; what stands beside the features, such as a label, is not asked for."""
    found = text(
        tmp_path, b'{"features":[1,"x",null],"label":0}\n\n{"features":[2.5,"y",true]}', JSON_LINES, features="features"
    )
    assert found.rows == [(1.0, "x", None), (2.5, "y", True)]
    assert found.origins == [("data", 1, 0), ("data", 3, 0)]
    assert found.events == 2


@pytest.mark.parametrize(
    ("data", "features", "columnar", "rows"),
    [
        (
            b'{"instances":[{"features":[1,"x"]},{"features":[2,null]}]}',
            "instances[*].features",
            False,
            [(1, "x"), (2, None)],
        ),
        (b'[{"A":1,"B h":"x"},{"B h":"y","A":2}]', '[*]["A","B h"]', False, [(1, "x"), (2, "y")]),
        (b'[{"A":1,"B h":"x"}]', '[*].["A","B h"]', False, [(1, "x")]),
        (b"[[1,2],[3,4]]\r\n", "@", False, [(1, 2), (3, 4)]),
        (b'{"A":[1,2],"B":["x","y"]}', "[A,B]", True, [(1, "x"), (2, "y")]),
        (b'\xef\xbb\xbf {"instances":[[1]]}', "instances", False, [(1,)]),
    ],
    ids=["dense", "flat objects", "with a dot", "lists", "columnar", "BOM"],
)
def test_json(tmp_path: Path, data: bytes, features: str, columnar: bool, rows: list[tuple[Any, ...]]) -> None:
    """One document holds all records, which are told apart by their place in it."""
    found = text(tmp_path, data, JSON, features=features, columnar=columnar)
    assert (found.rows, found.rejected, found.events) == (rows, {}, len(rows))
    assert found.origins == [("data", 1, i) for i in range(len(rows))]


def test_csv(tmp_path: Path) -> None:
    """Quoted cells are texts, the others numbers, booleans, nulls or texts; a quoted cell goes over lines."""
    found = text(tmp_path, b'1,"1",true,x\r\n\r\n2.5,"a ""b"",\r\nc",,"y"\r\n3,,False,z')
    assert found.rows == [(1.0, "1", True, "x"), (2.5, 'a "b",\r\nc', None, "y"), (3.0, None, False, "z")]
    assert [line for _, line, _ in found.origins] == [1, 3, 5]
    assert found.events == 3


@pytest.mark.parametrize(
    ("data", "label", "header", "rows"),
    [
        (b"9,1,2\n8,3,4\n", "0", False, [(1, 2), (3, 4)]),
        (b"1,9,2\n3,8,4\n", "1", False, [(1, 2), (3, 4)]),
        (b"1,2,9\n3,4,8\n", "2", False, [(1, 2), (3, 4)]),
        (b'A,B,"the label"\n1,2,9\n3,4,8\n', "the label", True, [(1, 2), (3, 4)]),
        (b"\xef\xbb\xbfy,A,B\r\n9,1,2\r\n8,3,4", "y", True, [(1, 2), (3, 4)]),
        (b"y,A,B\n9,1,2\n8,3,4", "0", True, [(1, 2), (3, 4)]),
        (b"A,B\n1,2\n3,4", "y", True, [(1, 2), (3, 4)]),
        (b'A,"B\nb"\n1,2\n3,4', None, True, [(1, 2), (3, 4)]),
    ],
    ids=["first", "middle", "last", "name", "BOM and CRLF", "number with header", "none", "quoted"],
)
def test_csv_without_its_label(
    tmp_path: Path, data: bytes, label: str | None, header: bool, rows: list[tuple[int, ...]]
) -> None:
    """The label's column is left out, by its number or by its name in the header; the header is no record."""
    found = text(tmp_path, data, label=label, header=header)
    assert (found.rows, found.rejected, found.events) == (rows, {}, 2)


@pytest.mark.parametrize(
    ("data", "places"),
    [
        (b"1,2\n3\n4,5\n", [(2, "feature_count")]),
        (b"1,2\nx,3\n4,5\n", [(2, "feature_type")]),
        (b"1,2\n\xff,3\n4,5\n", [(2, "payload")]),
        (b'1,2\n4,5\n3,"x', [(3, "payload")]),
        (b'1,2\n4,5\n3,"x\n6,7\n8,9\n', [(3, "payload"), (4, "payload"), (5, "payload")]),
        (b'1,2\n4,5\n3,"x\n6,7\n8,"y\n', [(3, "payload"), (4, "payload"), (5, "payload")]),
    ],
    ids=["short", "a text", "not UTF-8", "no end", "no end for long", "wrong quotes"],
)
def test_what_is_lost_of_a_csv(tmp_path: Path, golden: Golden, data: bytes, places: list[tuple[int, str]]) -> None:
    """Every line is a record or a rejection with its own number, also where a quote swallows several."""
    found = text(tmp_path, data)
    assert found.rows == [(1, 2), (4, 5)]
    assert [(line, kind) for _, line, kind in found.places] == places
    golden("\n".join(lost["problem"] for lost in found.lost))
    assert found.events == len(found.rows) + len(found.lost) == len(data.splitlines())


def test_a_quote_that_is_never_closed_costs_no_time(tmp_path: Path) -> None:
    """Sixty thousand lines behind a stray quote are all told, in a moment."""
    found = text(tmp_path, b'1,"2\n' + b"1,2\n" * 60_000)
    assert found.rejected == {"payload": 60_001}


@pytest.mark.parametrize("data", [b"1,2\n3,4\n", b"1\n2\n"], ids=["too far", "nothing else"])
def test_a_label_that_is_no_column_leaves_no_record(tmp_path: Path, golden: Golden, data: bytes) -> None:
    """A label beyond the last column, or as the only one, leaves no record and counts each line once."""
    found = text(tmp_path, data, label="2" if b"," in data else "0")
    assert (found.rows, found.events, found.rejected) == ([], 2, {"feature_count": 2})
    assert "data.label" in found.lost[0]["problem"]
    golden(found.lost[0]["problem"])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{", "payload"),
        (b'{"instances":[[1,NaN]]}', "not_finite"),
        (b'{"instances":[]}', "features_not_found"),
        (b'\xff{"instances":[[1]]}', "payload"),
    ],
    ids=["cut", "NaN", "no record", "not UTF-8"],
)
def test_what_is_lost_of_a_json_document(tmp_path: Path, golden: Golden, data: bytes, kind: str) -> None:
    """A document that cannot be used is one rejection."""
    found = text(tmp_path, data, JSON, features="instances")
    assert (found.rows, found.events, found.places) == ([], 1, [("data", 1, kind)])
    golden(found.lost[0]["problem"])


def test_a_record_of_a_json_document_is_lost_alone(tmp_path: Path, golden: Golden) -> None:
    """The rejection of a record that cannot be used has its number; the others of its document are used."""
    found = text(tmp_path, b'{"instances":[[1],[{}],[3]]}', JSON, features="instances")
    assert (found.rows, found.events, found.places) == ([(1,), (3,)], 3, [("data", 1, "feature_type")])
    assert {"1:", "'column_0'", "{},"} <= set(found.lost[0]["problem"].split())
    golden(found.lost[0]["problem"])


def test_a_header_finds_its_columns(tmp_path: Path, golden: Golden) -> None:
    """With names for both, columns are taken by their names, in whatever order the file has them."""
    found = text(tmp_path, b"B,label,A\n2,0,1\n4,1,3\n5,6\n", header=True, headers=("A", "B"))
    assert (found.rows, found.places) == ([(1, 2), (3, 4)], [("data", 4, "feature_count")])
    missing = text(tmp_path, b"B,C\n2,0\n", header=True, headers=("A", "B"))
    assert "'A'" in missing.lost[0]["problem"]
    assert "data.headers" in missing.lost[0]["problem"]
    golden(missing.lost[0]["problem"])


def test_a_file_that_names_its_columns_names_the_features(tmp_path: Path) -> None:
    """Without names in the settings those of the file hold, the label's not among them."""
    (path := tmp_path / "data.csv").write_bytes(b"A,label,B\n2,0,1\n")
    data = settings_of(CSV, label="label", header=True)
    with RecordCollector(data.fields) as collector:
        DataFile(path, "data", data).read(collector)
        assert collector.captured(["data"]).features().columns == ["A", "B"]
    pl.DataFrame({"label": [1], "x y": [2]}).write_parquet(path)
    data = settings_of(PARQUET, label="label")
    with RecordCollector(data.fields) as collector:
        DataFile(path, "data", data).read(collector)
        assert collector.captured(["data"]).features().columns == ["x y"]


@pytest.mark.parametrize("header", [b'height 5",b', b"a,a,b", b'"a\nb,c'])
def test_a_wrong_header_is_rejected(tmp_path: Path, header: bytes) -> None:
    """A header of several rows, with an open quote or with a name twice is a rejection, not a guess."""
    found = text(tmp_path, header + b"\n1,2\n3,4\n", header=True)
    assert found.lost[0]["kind"] == "payload"


def test_a_parquet_name_is_no_pattern_and_a_broken_page_is_told(tmp_path: Path) -> None:
    """A file is read by its very name, and one whose pages are damaged is one rejection."""
    path = tmp_path / "x[1].parquet"
    pl.DataFrame({"a": list(range(1000))}).write_parquet(path)
    assert len(read(path, PARQUET).rows) == 1000
    data = bytearray(path.read_bytes())
    data[100:150] = bytes(50)
    path.write_bytes(bytes(data))
    found = read(path, PARQUET)
    assert found.rows or [lost["kind"] for lost in found.lost] == ["payload"]


def test_an_empty_file_holds_nothing(tmp_path: Path) -> None:
    """No layout but Parquet makes a record of nothing, or of a header alone."""
    for layout in (JSON_LINES, JSON, CSV):
        found = text(tmp_path, b"", layout, features="features")
        assert (found.events, found.rows, found.lost) == (0, [], [])
    assert text(tmp_path, b"A,B\n", header=True).events == 0


def test_a_line_that_is_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is rejected with its beginning; a quoted cell ends there too."""
    monkeypatch.setattr(storage, "MAX_LINE_BYTES", 50)
    found = text(tmp_path, b"1\n" + b"2" * 60 + b"\n3\n")
    assert (found.rows, found.places) == ([(1,), (3,)], [("data", 2, "too_long")])
    assert found.lost[0]["text"].startswith("222")
    found = text(tmp_path, b'1\n"' + b"2\n" * 30 + b"3\n")
    assert {kind for _, _, kind in found.places} == {"too_long"}
    assert found.events == len(found.rows) + len(found.lost) == 32


def test_parquet(tmp_path: Path) -> None:
    """Columns are features in their own types; texts may be categories, numbers of any width."""
    table = pl.DataFrame(
        {
            "a": pl.Series([1, None], dtype=pl.Int8),
            "b": pl.Series([0.5, 1.5], dtype=pl.Float32),
            "c": pl.Series(["x", None], dtype=pl.Categorical),
            "d": [True, False],
            "e": [None, None],
        }
    )
    found = parquet(tmp_path, table)
    assert found.rows == [(1, 0.5, "x", True, None), (None, 1.5, None, False, None)]
    assert (found.events, found.origins) == (2, [("data", 1, 0), ("data", 2, 0)])


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, [(9, 1, 2), (8, 3, 4)]),
        ({"label": "y"}, [(1, 2), (3, 4)]),
        ({"label": "0"}, [(1, 2), (3, 4)]),
        ({"label": "7"}, [(9, 1, 2), (8, 3, 4)]),
        ({"headers": ("B", "A")}, [(2, 1), (4, 3)]),
        ({"headers": ("B", "A"), "label": "y"}, [(2, 1), (4, 3)]),
    ],
    ids=str,
)
def test_parquet_columns_are_chosen(tmp_path: Path, settings: dict[str, Any], rows: list[tuple[int, ...]]) -> None:
    """Headers choose columns by name and order; without them all but the label's are features."""
    table = pl.DataFrame({"y": [9, 8], "A": [1, 3], "B": [2, 4]})
    assert parquet(tmp_path, table, **settings).rows == rows


def test_a_saved_window_is_a_dataset(tmp_path: Path) -> None:
    """Its records have their features in a column of their own, beside where they are from."""
    table = pl.DataFrame({"line": [1, 2], "features": [{"A": 1, "B": 2}, {"A": 3, "B": 4}], "scores": [[0.1], [0.2]]})
    assert parquet(tmp_path, table).rows == [(1, 2), (3, 4)]
    assert parquet(tmp_path, table, headers=("B",)).rows == [(2,), (4,)]


@pytest.mark.parametrize(
    ("table", "settings", "kind", "shown"),
    [
        (pl.DataFrame({"A": [1]}), {"headers": ("A", "B")}, "features_not_found", "data.headers"),
        (pl.DataFrame({"A": [[1]]}), {}, "feature_type", "List(Int64)"),
        (pl.DataFrame({"A": [1]}), {"label": "A"}, "features_not_found", "data.label"),
    ],
    ids=["missing", "lists", "label alone"],
)
def test_what_cannot_be_used_of_a_parquet_file(
    tmp_path: Path, golden: Golden, table: pl.DataFrame, settings: dict[str, Any], kind: str, shown: str
) -> None:
    """A table that does not fit is one rejection."""
    found = parquet(tmp_path, table, **settings)
    assert (found.rows, found.places) == ([], [("data", 1, kind)])
    assert shown in found.lost[0]["problem"]
    golden(found.lost[0]["problem"])


def test_numbers_that_are_none_are_lost_from_parquet_too(tmp_path: Path) -> None:
    """Rows with NaN or an infinity are rejected with their numbers; nulls are values."""
    table = pl.DataFrame({"a": [1.0, float("nan"), None, 4.0], "b": [1.0, 2.0, 3.0, float("-inf")], "c": [1, 2, 3, 4]})
    found = parquet(tmp_path, table)
    assert found.rows == [(1.0, 1.0, 1), (None, 3.0, 3)]
    assert found.places == [("data", 2, "not_finite"), ("data", 4, "not_finite")]
    assert found.events == 4


def test_a_broken_parquet_file_is_one_rejection(tmp_path: Path, golden: Golden) -> None:
    """A file of another kind, an empty or a torn one is one rejection."""
    pl.DataFrame({"a": range(1000)}).write_parquet(whole := tmp_path / "whole")
    for data in (b"1,2\n", b"", whole.read_bytes()[:-9]):
        found = text(tmp_path, data, PARQUET)
        assert (found.events, found.rejected) == (1, {"payload": 1})
        golden(found.lost[0]["problem"])


TYPED: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
    st.booleans(),
]


@pytest.mark.soak
@given(st.data())
def test_what_a_template_writes_is_what_a_file_reads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Rows of texts, integers, floats, booleans and nulls come back from every layout with values and types."""
    columns = data.draw(st.lists(st.sampled_from(TYPED), min_size=2, max_size=4))
    values = st.tuples(st.integers(0, 9), *(st.none() | column for column in columns))
    rows: list[tuple[Scalar, ...]] = data.draw(st.lists(values, min_size=1, max_size=4))
    folder = tmp_path_factory.getbasetemp()
    forms: list[tuple[FileFormat, str | None, Template]] = [
        (JSON_LINES, "features", Template(JSON_LINES, None, None, None)),
        (JSON, "instances", Template(JSON, '{"instances":$records}', "$features", None)),
        (CSV, None, Template(CSV, None, None, None)),
    ]
    for layout, features, template in forms:
        (body,) = template.bodies(rows)
        found = text(folder, body.encode(), layout, features=features)
        assert [[(type(v), v) for v in row] for row in found.rows] == [[(type(v), v) for v in row] for row in rows]
