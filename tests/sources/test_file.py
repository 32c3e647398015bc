"""One file of records as a source."""

from __future__ import annotations

import zlib
from base64 import b85decode
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import storage
from runner.errors import MissingInput
from runner.records import payloads
from runner.records.payloads import Scalar
from runner.records.tables import MAX_COLUMNS
from runner.records.templates import Template
from runner.sources import file
from runner.sources.data import Data, FileFormat
from runner.sources.file import DataFile, FileSource
from runner.sources.source import RecordCollector
from tests.golden import Golden
from tests.sources.reading import HOUR, Collected, collected, data_settings, read_window

JSON_LINES: FileFormat = "application/jsonlines"
JSON: FileFormat = "application/json"
CSV: FileFormat = "text/csv"
PARQUET: FileFormat = "application/x-parquet"


def file_settings(format_: FileFormat, **keys: Any) -> Data:
    """Return the section `data` for files of a format."""
    content_type = JSON if format_ == JSON else CSV
    return data_settings(**{"dataset_type": format_, "content_type": content_type, "features": None, **keys})


def read_file(path: Path, format_: FileFormat, **keys: Any) -> Collected:
    """Return the records and rejections of a file with labels."""
    data = file_settings(format_, **keys)
    with RecordCollector(data.fields) as collector:
        DataFile(path, "data", data, labelled=True).read(collector)
        return collected(collector)


def read_bytes(folder: Path, data: bytes, format_: FileFormat = CSV, **settings: Any) -> Collected:
    """Return the records and rejections of a file with this content."""
    (path := folder / "data").write_bytes(data)
    return read_file(path, format_, **settings)


def read_parquet(folder: Path, table: pl.DataFrame, **settings: Any) -> Collected:
    """Return the records and rejections of a Parquet file with this table."""
    table.write_parquet(path := folder / "data")
    return read_file(path, PARQUET, **settings)


def test_json_lines_are_read(tmp_path: Path) -> None:
    """Each line is a record; other members, such as a label, are ignored."""
    result = read_bytes(
        tmp_path, b'{"features":[1,"x",null],"label":0}\n\n{"features":[2.5,"y",true]}', JSON_LINES, features="features"
    )
    assert result.rows == [(1.0, "x", None), (2.5, "y", True)]
    assert result.origins == [("data", 1, 0), ("data", 3, 0)]
    assert result.events == 2


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
def test_json_is_read(tmp_path: Path, data: bytes, features: str, columnar: bool, rows: list[tuple[Any, ...]]) -> None:
    """One document contains all records, with their row numbers."""
    result = read_bytes(tmp_path, data, JSON, features=features, columnar=columnar)
    assert (result.rows, result.rejected, result.events) == (rows, {}, len(rows))
    assert result.origins == [("data", 1, i) for i in range(len(rows))]


def test_csv_is_read(tmp_path: Path) -> None:
    """Quoted cells are strings, others numbers, booleans, nulls or strings; a quoted cell may span lines."""
    result = read_bytes(tmp_path, b'1,"1",true,x\r\n\r\n2.5,"a ""b"",\r\nc",,"y"\r\n3,,False,z')
    assert result.rows == [(1.0, "1", True, "x"), (2.5, 'a "b",\r\nc', None, "y"), (3.0, None, False, "z")]
    assert [line for _, line, _ in result.origins] == [1, 3, 5]
    assert result.events == 3


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
def test_label_column_of_csv_is_removed(
    tmp_path: Path, data: bytes, label: str | None, header: bool, rows: list[tuple[int, ...]]
) -> None:
    """The label's column, by number or by name, is not a feature, and the header is not a record."""
    result = read_bytes(tmp_path, data, label=label, header=header)
    assert (result.rows, result.rejected, result.events) == (rows, {}, 2)


@pytest.mark.parametrize(
    ("data", "rejected"),
    [
        (b"1,2\n3\n4,5\n", [(2, "feature_count")]),
        (b"1,2\nx,3\n4,5\n", [(2, "feature_type")]),
        (b"1,2\n\xff,3\n4,5\n", [(2, "payload")]),
        (b'1,2\n4,5\n3,"x', [(3, "payload")]),
        (b'1,2\n4,5\n3,"x\n6,7\n8,9\n', [(3, "payload"), (4, "payload"), (5, "payload")]),
        (b'1,2\n4,5\n3,"x\n6,7\n8,"y\n', [(3, "payload"), (4, "payload"), (5, "payload")]),
    ],
    ids=["short", "string", "not UTF-8", "no end", "no end for long", "wrong quotes"],
)
def test_invalid_lines_of_csv_are_rejected(
    tmp_path: Path, golden: Golden, data: bytes, rejected: list[tuple[int, str]]
) -> None:
    """Each line is a record or a rejection with its own number, even if an open quote spans several."""
    result = read_bytes(tmp_path, data)
    assert result.rows == [(1, 2), (4, 5)]
    assert [(line, kind) for _, line, kind in result.rejected_lines] == rejected
    golden("\n".join(rejection["problem"] for rejection in result.rejections))
    assert result.events == len(result.rows) + len(result.rejections) == len(data.splitlines())


def test_open_quote_is_rejected_fast(tmp_path: Path) -> None:
    """Sixty thousand lines after an open quote are rejected in linear time."""
    result = read_bytes(tmp_path, b'1,"2\n' + b"1,2\n" * 60_000)
    assert result.rejected == {"payload": 60_001}


@pytest.mark.parametrize("data", [b"1,2\n3,4\n", b"1\n2\n"], ids=["too far", "nothing else"])
def test_missing_label_column_rejects_each_line(tmp_path: Path, golden: Golden, data: bytes) -> None:
    """A label beyond the last column, or as the only column, rejects each line once."""
    result = read_bytes(tmp_path, data, label="2" if b"," in data else "0")
    assert (result.rows, result.events, result.rejected) == ([], 2, {"feature_count": 2})
    assert "data.label" in result.rejections[0]["problem"]
    golden(result.rejections[0]["problem"])


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
def test_invalid_json_document_is_rejected(tmp_path: Path, golden: Golden, data: bytes, kind: str) -> None:
    """An invalid document is one rejection."""
    result = read_bytes(tmp_path, data, JSON, features="instances")
    assert (result.rows, result.events, result.rejected_lines) == ([], 1, [("data", 1, kind)])
    golden(result.rejections[0]["problem"])


def test_invalid_record_of_a_json_document_is_rejected_alone(tmp_path: Path, golden: Golden) -> None:
    """The message contains the number of the record; the other records are valid."""
    result = read_bytes(tmp_path, b'{"instances":[[1],[{}],[3]]}', JSON, features="instances")
    assert (result.rows, result.events, result.rejected_lines) == ([(1,), (3,)], 3, [("data", 1, "feature_type")])
    assert {"1:", "'column_0'", "{},"} <= set(result.rejections[0]["problem"].split())
    golden(result.rejections[0]["problem"])


def test_headers_select_columns_of_csv_by_name(tmp_path: Path, golden: Golden) -> None:
    """With headers in settings and file, columns are selected by name, in any order."""
    result = read_bytes(tmp_path, b"B,label,A\n2,0,1\n4,1,3\n5,6\n", header=True, headers=("A", "B"))
    assert (result.rows, result.rejected_lines) == ([(1, 2), (3, 4)], [("data", 4, "feature_count")])
    missing = read_bytes(tmp_path, b"B,C\n2,0\n", header=True, headers=("A", "B"))
    assert "'A'" in missing.rejections[0]["problem"]
    assert "data.headers" in missing.rejections[0]["problem"]
    golden(missing.rejections[0]["problem"])


def test_names_of_features_come_from_the_file(tmp_path: Path) -> None:
    """Without headers in the settings the features have the names in the file."""
    (path := tmp_path / "data.csv").write_bytes(b"A,label,B\n2,0,1\n")
    data = file_settings(CSV, label="label", header=True)
    with RecordCollector(data.fields) as collector:
        DataFile(path, "data", data).read(collector)
        assert collector.captured(["data"]).features().columns == ["A", "B"]
    pl.DataFrame({"label": [1], "x y": [2]}).write_parquet(path)
    data = file_settings(PARQUET, label="label")
    with RecordCollector(data.fields) as collector:
        DataFile(path, "data", data).read(collector)
        assert collector.captured(["data"]).features().columns == ["x y"]


@pytest.mark.parametrize("header", [b'height 5",b', b"a,a,b", b'"a\nb,c'])
def test_invalid_header_is_rejected(tmp_path: Path, header: bytes) -> None:
    """A header of several rows, with an open quote or with a duplicate name is a rejection."""
    result = read_bytes(tmp_path, header + b"\n1,2\n3,4\n", header=True)
    assert result.rejections[0]["kind"] == "payload"


def test_name_of_a_parquet_file_is_not_a_pattern(tmp_path: Path) -> None:
    """A file is read by its exact name, and one with damaged pages is one rejection."""
    path = tmp_path / "x[1].parquet"
    pl.DataFrame({"a": list(range(1000))}).write_parquet(path)
    assert len(read_file(path, PARQUET).rows) == 1000
    data = bytearray(path.read_bytes())
    data[100:150] = bytes(50)
    path.write_bytes(bytes(data))
    result = read_file(path, PARQUET)
    assert result.rows or [rejection["kind"] for rejection in result.rejections] == ["payload"]


def test_empty_file_has_no_record(tmp_path: Path) -> None:
    """An empty file, or one with a header only, has no records and no rejections."""
    for format_ in (JSON_LINES, JSON, CSV):
        result = read_bytes(tmp_path, b"", format_, features="features")
        assert (result.events, result.rows, result.rejections) == (0, [], [])
    assert read_bytes(tmp_path, b"A,B\n", header=True).events == 0


def test_too_long_line_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the limit is rejected with its beginning; a quoted cell ends there too."""
    monkeypatch.setattr(storage, "MAX_LINE_BYTES", 50)
    result = read_bytes(tmp_path, b"1\n" + b"2" * 60 + b"\n3\n")
    assert (result.rows, result.rejected_lines) == ([(1,), (3,)], [("data", 2, "too_long")])
    assert result.rejections[0]["text"].startswith("222")
    result = read_bytes(tmp_path, b'1\n"' + b"2\n" * 30 + b"3\n")
    assert {kind for _, _, kind in result.rejected_lines} == {"too_long"}
    assert result.events == len(result.rows) + len(result.rejections) == 32


def test_parquet_is_read(tmp_path: Path) -> None:
    """Columns are features in their own types; strings may be categories, numbers may have any width."""
    table = pl.DataFrame(
        {
            "a": pl.Series([1, None], dtype=pl.Int8),
            "b": pl.Series([0.5, 1.5], dtype=pl.Float32),
            "c": pl.Series(["x", None], dtype=pl.Categorical),
            "d": [True, False],
            "e": [None, None],
        }
    )
    result = read_parquet(tmp_path, table)
    assert result.rows == [(1, 0.5, "x", True, None), (None, 1.5, None, False, None)]
    assert (result.events, result.origins) == (2, [("data", 1, 0), ("data", 2, 0)])


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
def test_headers_select_columns_of_parquet(
    tmp_path: Path, settings: dict[str, Any], rows: list[tuple[int, ...]]
) -> None:
    """Headers select columns by name and order; without them all columns except the label are features."""
    table = pl.DataFrame({"y": [9, 8], "A": [1, 3], "B": [2, 4]})
    assert read_parquet(tmp_path, table, **settings).rows == rows


def test_a_saved_window_is_a_dataset(tmp_path: Path) -> None:
    """A file saved by stage=capture has its features in one column of structs."""
    table = pl.DataFrame({"line": [1, 2], "features": [{"A": 1, "B": 2}, {"A": 3, "B": 4}], "scores": [[0.1], [0.2]]})
    assert read_parquet(tmp_path, table).rows == [(1, 2), (3, 4)]
    assert read_parquet(tmp_path, table, headers=("B",)).rows == [(2,), (4,)]


@pytest.mark.parametrize(
    ("table", "settings", "kind", "shown"),
    [
        (pl.DataFrame({"A": [1]}), {"headers": ("A", "B")}, "features_not_found", "data.headers"),
        (pl.DataFrame({"A": [[1]]}), {}, "feature_type", "List(Int64)"),
        (pl.DataFrame({"A": [1]}), {"label": "A"}, "features_not_found", "data.label"),
    ],
    ids=["missing", "lists", "label alone"],
)
def test_parquet_table_that_does_not_fit_is_rejected(
    tmp_path: Path, golden: Golden, table: pl.DataFrame, settings: dict[str, Any], kind: str, shown: str
) -> None:
    """A table that does not fit the settings is one rejection."""
    result = read_parquet(tmp_path, table, **settings)
    assert (result.rows, result.rejected_lines) == ([], [("data", 1, kind)])
    assert shown in result.rejections[0]["problem"]
    golden(result.rejections[0]["problem"])


def test_parquet_rows_with_numbers_that_are_not_finite_are_rejected(tmp_path: Path) -> None:
    """Rows with NaN or infinity are rejected with their numbers; nulls are values."""
    table = pl.DataFrame({"a": [1.0, float("nan"), None, 4.0], "b": [1.0, 2.0, 3.0, float("-inf")], "c": [1, 2, 3, 4]})
    result = read_parquet(tmp_path, table)
    assert result.rows == [(1.0, 1.0, 1), (None, 3.0, 3)]
    assert result.rejected_lines == [("data", 2, "not_finite"), ("data", 4, "not_finite")]
    assert result.events == 4


@pytest.mark.parametrize(("width", "height", "kind"), [(MAX_COLUMNS + 1, 1, "feature_count"), (1, 100_000, "too_long")])
def test_table_that_would_exhaust_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, height: int, kind: str
) -> None:
    """A table with too many columns, or with many more values than bytes, is rejected by its metadata."""
    monkeypatch.setattr(file, "MAX_VALUES", 50_000)
    monkeypatch.setattr(pl, "read_parquet", None)
    column = pl.zeros(height, dtype=pl.Int8, eager=True)
    result = read_parquet(tmp_path, pl.DataFrame([column.alias(f"c{d}") for d in range(width)]))
    assert (result.rows, result.rejected) == ([], {kind: 1})


def test_line_with_too_many_values_is_not_parsed(tmp_path: Path) -> None:
    """A line with millions of values is rejected before it is parsed."""
    result = read_bytes(tmp_path, b"1,2\n" + b"1," * payloads.MAX_VALUES + b"1\n")
    assert (result.rows, result.rejected) == ([(1, 2)], {"too_long": 1})


def test_invalid_parquet_file_is_one_rejection(tmp_path: Path, golden: Golden) -> None:
    """A file of another format, an empty one and a damaged one are one rejection each."""
    pl.DataFrame({"a": range(1000)}).write_parquet(whole := tmp_path / "whole")
    for data in (b"1,2\n", b"", whole.read_bytes()[:-9]):
        result = read_bytes(tmp_path, data, PARQUET)
        assert (result.events, result.rejected) == (1, {"payload": 1})
        golden(result.rejections[0]["problem"])


CRASHING = (
    "c-nQ5!A`<J5QevfG#of^U^i{jLl4kEBnYe6*4tnJi9`#D@mwq`BuEXdKzs2ud<dVwr*n4W!HbjKe=__1Gl!iJ7JXW#4ceGdgAzhC"
    "yeAzc&r7I9QBXqbwBDf~w1yUg5J?S9FEt3QS_5L#EK^%j!VH$N%pJQGV%cm=uNeBMZgp<U`y|Pzj`pUG)+U+Rh?rs7mhFCP_J3p8"
    "mqzOZOT(?OtWI#QS%t;o;psYkUawvw^HV#Q!4tq3N%0R@pXR@{db$Hh;YQ^-oQ24bNBKSlc=_v7;z^z>uHXa|dIZ@#oWfA$k(`I2"
    "d;npAP5wwCd0;XHV%~?zHrl67>n+dL$*%1jR{M05>>S?hcY982`M%l4jwga1U&a?g#M~3Y=W+j%dw$dlA|4Ec;KGYmalqS_Ek7;9"
    "{e-x)AI%(G=>"
)
"""A Parquet file of three rows in which one byte is wrong, compressed and encoded: it ends the process of polars 1."""


def test_parquet_file_that_crashes_polars_is_one_rejection(tmp_path: Path, golden: Golden) -> None:
    """Another process reads the file first."""
    result = read_bytes(tmp_path, zlib.decompress(b85decode(CRASHING)), PARQUET)
    assert (result.events, result.rejected) == (1, {"payload": 1})
    golden(result.rejections[0]["problem"])


def test_failure_of_the_other_process_is_one_rejection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """It may have too little memory, for example."""
    monkeypatch.setattr(file, "TRIAL", "raise MemoryError")
    result = read_parquet(tmp_path, pl.DataFrame({"a": [1]}))
    assert (result.events, result.rejected) == (1, {"payload": 1})
    golden(result.rejections[0]["problem"])


TYPED: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=5),
    st.booleans(),
]


@pytest.mark.soak
@given(st.data())
def test_encoded_rows_are_read_from_files(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Rows encoded by a template are read with their values and types, in every format."""
    columns = data.draw(st.lists(st.sampled_from(TYPED), min_size=2, max_size=4))
    values = st.tuples(st.integers(0, 9), *(st.none() | column for column in columns))
    rows: list[tuple[Scalar, ...]] = data.draw(st.lists(values, min_size=1, max_size=4))
    folder = tmp_path_factory.getbasetemp()
    forms: list[tuple[FileFormat, str | None, Template]] = [
        (JSON_LINES, "features", Template(JSON_LINES, None, None, None)),
        (JSON, "instances", Template(JSON, '{"instances":$records}', "$features", None)),
        (CSV, None, Template(CSV, None, None, None)),
    ]
    for format_, features, template in forms:
        (body,) = template.bodies(rows)
        result = read_bytes(folder, body.encode(), format_, features=features)
        assert [[(type(v), v) for v in row] for row in result.rows] == [[(type(v), v) for v in row] for row in rows]


def test_all_records_belong_to_the_window(tmp_path: Path) -> None:
    """Records without times belong to any window; an invalid line is rejected with its number."""
    (path := tmp_path / "logged.jsonl").write_bytes(b'{"features":[1]}\ntorn\n{"features":[2]}\n')
    result = read_window(FileSource("file", str(path)))
    assert (result.files, result.events, result.outside) == ((str(path),), 3, 0)
    assert (result.rows, result.scores) == ([(1,), (2,)], None)
    assert result.rejected_lines == [(str(path), 2, "payload")]


def test_missing_file_is_an_error_with_its_setting(tmp_path: Path, golden: Golden) -> None:
    """The error contains the path and the setting."""
    source = FileSource("file", str(tmp_path / "absent"))
    assert source.folders(HOUR) == [str(tmp_path / "absent")]
    with golden.raises(MissingInput) as caught:
        source.files(HOUR)
    assert (str(caught.value.path), caught.value.key) == (str(tmp_path / "absent"), "source.path")
