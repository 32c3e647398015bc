"""Where records come from: capture trees and datasets on disk."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from runner.domain import Event, Payload, Window
from runner.errors import DatasetError, MissingInput, NoData, NothingUsable
from runner.protocols import Item
from runner.records.capture import encode
from runner.records.fields import Fields
from runner.sources import CaptureTree, Dataset
from tests.conftest import untracked

PUBLISHED = (Path(__file__).parent / "expected" / "capture.jsonl").read_bytes()
FIELDS = Fields("features", "score")
HOUR = Window.parse("2023-01-19T05")


def captured(body: str, clock: str = "05:31:46") -> bytes:
    """Return the capture line of a request."""
    at = datetime.fromisoformat(f"2023-01-19T{clock}+00:00")
    return encode(Event("e", at, Payload("application/jsonlines", body, "JSON"), None))


def tree(root: Path, **files: bytes) -> CaptureTree:
    """Return a capture tree whose hour 05 has these files."""
    folder = root / "2023/01/19/05"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / f"{name}.jsonl").write_bytes(data)
    return CaptureTree(root, FIELDS)


def test_files_of_the_window_are_read_in_order(tmp_path: Path) -> None:
    """All files of the hour are read in the order of their names, and named relative to the tree."""
    captures = tree(tmp_path, b=captured('{"features":[2]}'), a=PUBLISHED)
    found = captures.read(Window.parse("2023-01-19T05/2023-01-19T07"), untracked)
    assert found.files == ("2023/01/19/05/a.jsonl", "2023/01/19/05/b.jsonl")
    assert found.events == 3
    assert [str(rejection) for rejection in found.rejections] == [
        "2023/01/19/05/b.jsonl:1: row 0 of the payload: 1 feature where most records have 14: [2]"
    ]


def test_reading_is_tracked_line_by_line(tmp_path: Path) -> None:
    """Progress is told in lines, of all files of the window."""
    told: list[tuple[str, int]] = []

    def track(items: Iterable[Item], what: str, total: int) -> Iterable[Item]:
        told.append((what, total))
        return items

    tree(tmp_path, a=PUBLISHED, b=PUBLISHED).read(HOUR, track)
    assert told == [("reading captures", 4)]


def test_published_capture_is_usable(tmp_path: Path) -> None:
    """The published file is an hour with three records."""
    assert len(tree(tmp_path, a=PUBLISHED).usable(HOUR, untracked).records) == 3


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "files found: 0. Check monitor.endpoint"),
        ({"a": b""}, "files found: 1. Check"),
        ({"a": b"\n \n"}, "files found: 1. Check"),
        ({"a": captured('{"features":[1]}', "04:59:59") * 2}, "files found: 1, 2 events outside the window. Check"),
    ],
)
def test_window_without_events_says_where_it_looked(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    """A window in which nothing was captured names folder, files and events that came too early or late."""
    with pytest.raises(NoData) as caught:
        tree(tmp_path, **files).usable(HOUR, untracked)
    sentence = str(caught.value)
    assert sentence.startswith("Job inputs had no data: no captured event in 2023-01-19 05:00–06:00 UTC; ")
    assert f"looked in {(tmp_path / '2023/01/19/05').as_posix()}, {said}" in sentence
    assert caught.value.reason == "Job inputs had no data"


def test_absent_tree_has_no_data(tmp_path: Path) -> None:
    """A tree that does not exist holds nothing, rather than being an error of its own."""
    captures = CaptureTree(tmp_path / "absent", FIELDS)
    assert captures.read(HOUR, untracked).events == 0
    with pytest.raises(NoData):
        captures.usable(HOUR, untracked)


def test_window_of_rejected_events_says_why(tmp_path: Path) -> None:
    """A window whose events are all rejected counts the reasons and shows the first that is not about time."""
    data = captured("{}", "06:00:00") + b"torn\n" + captured("{}")
    with pytest.raises(NothingUsable) as caught:
        tree(tmp_path, a=data).usable(HOUR, untracked)
    assert str(caught.value).startswith(
        "no usable record in 2023-01-19 05:00–06:00 UTC: all 3 were rejected "
        "(outside_window 1, not_json 1, features_not_found 1); the first: 2023/01/19/05/a.jsonl:2: not JSON"
    )


def test_window_of_empty_bodies_is_not_usable(tmp_path: Path) -> None:
    """Events whose bodies hold no record are events, and still nothing can be used."""
    with pytest.raises(NothingUsable):
        tree(tmp_path, a=captured("")).usable(HOUR, untracked)


def test_one_usable_record_is_enough(tmp_path: Path) -> None:
    """Rejections beside a usable record do not stop anything."""
    found = tree(tmp_path, a=b"torn\n" + captured('{"features":[1]}')).usable(HOUR, untracked)
    assert (len(found.records), found.rejected) == (1, {"not_json": 1})


def test_dataset_is_read(tmp_path: Path) -> None:
    """A dataset has its records, and can be had line by line."""
    (tmp_path / "data.jsonl").write_bytes(b'{"features":[1,"x"]}\n{"features":[2,null]}')
    dataset = Dataset(tmp_path / "data.jsonl", FIELDS, "stage.dataset")
    assert dataset.read(untracked).features.rows() == [(1, "x"), (2, None)]
    assert [line.data for line in dataset.lines()] == [b'{"features":[1,"x"]}\n', b'{"features":[2,null]}']


def test_missing_dataset_names_its_setting(tmp_path: Path) -> None:
    """A dataset that is not there is told with the setting that names it."""
    with pytest.raises(
        MissingInput, match=r"dataset was not found at .+absent\.jsonl \(stage\.dataset\): give the path"
    ):
        Dataset(tmp_path / "absent.jsonl", FIELDS, "stage.dataset").read(untracked)


def test_broken_dataset_names_file_and_line(tmp_path: Path) -> None:
    """A line that cannot be used is named by the path of the file and its number."""
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"features":[1]}\n{"label":1}\n')
    with pytest.raises(DatasetError) as caught:
        Dataset(path, FIELDS, "stage.dataset").read(untracked)
    assert str(caught.value).startswith(f"{path}:2: data.features='features' finds nothing in")


@pytest.mark.parametrize(("name", "rows"), [("validation-dataset", 666), ("test-dataset", 334)])
def test_notebook_datasets_are_read(adult: Path, name: str, rows: int) -> None:
    """The notebook's datasets are whole numbers in 14 columns."""
    features = Dataset(adult / f"{name}.jsonl", FIELDS, "stage.dataset").read(untracked).features
    assert features.shape == (rows, 14)
    assert set(features.dtypes) == {pl.Int64}
