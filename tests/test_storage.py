"""Files on the local disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.domain import Window
from runner.errors import MissingInput
from runner.storage import existing, hour_folders, list_captures, read_lines, write

WINDOW = Window.parse("2023-01-19T23:30")


def test_folders_are_utc_hours(tmp_path: Path) -> None:
    """A window has a folder for each hour it touches, across midnight too."""
    assert hour_folders(tmp_path, WINDOW) == [tmp_path / "2023/01/19/23", tmp_path / "2023/01/20/00"]


def test_only_finished_captures_of_the_window_are_listed(tmp_path: Path) -> None:
    """Capture files come in the order of their paths; hidden ones, others and those of other hours do not come."""
    listed = ["2023/01/19/23/05-a.jsonl", "2023/01/19/23/31-b.jsonl", "2023/01/20/00/00-c.jsonl"]
    others = ["2023/01/19/22/a.jsonl", "2023/01/19/23/.31-d.jsonl", "2023/01/19/23/e.json", "2023/01/20/00/x/f.jsonl"]
    for name in [*reversed(listed), *others]:
        write(tmp_path / name, b"")
    assert list_captures(tmp_path, WINDOW) == [tmp_path / name for name in listed]


def test_absent_tree_has_no_captures(tmp_path: Path) -> None:
    """Folders that do not exist hold nothing."""
    assert list_captures(tmp_path / "absent", WINDOW) == []


def test_lines_know_their_place(tmp_path: Path) -> None:
    """Lines are numbered from 1 in each file and keep their bytes, the last one also without its end."""
    write(tmp_path / "a/b.jsonl", b"1\r\n\n\xff")
    write(tmp_path / "c.jsonl", b"2\n")
    found = read_lines([tmp_path / "a/b.jsonl", tmp_path / "c.jsonl"], tmp_path)
    assert [(f"{line.file}:{line.number}", line.data) for line in found] == [
        ("a/b.jsonl:1", b"1\r\n"),
        ("a/b.jsonl:2", b"\n"),
        ("a/b.jsonl:3", b"\xff"),
        ("c.jsonl:1", b"2\n"),
    ]


def test_lines_from_elsewhere_keep_the_whole_path(tmp_path: Path) -> None:
    """A file outside the root is named by its full path."""
    write(tmp_path / "a", b"1")
    assert next(iter(read_lines([tmp_path / "a"], tmp_path / "b"))).file == (tmp_path / "a").as_posix()


def test_existing_path_is_returned(tmp_path: Path) -> None:
    """A path that exists is handed through."""
    assert existing(tmp_path, "the folder", "paths.x", "make it") == tmp_path


def test_missing_path_says_which_setting_names_it(tmp_path: Path) -> None:
    """A path that does not exist is told with its setting and the remedy."""
    with pytest.raises(MissingInput) as caught:
        existing(tmp_path / "absent", "the folder", "paths.x", "make it")
    assert str(caught.value) == f"the folder was not found at {tmp_path / 'absent'} (paths.x): make it"


def test_file_is_written_whole(tmp_path: Path) -> None:
    """A file and its folders appear, readable for others; writing again replaces it; nothing else remains."""
    target = tmp_path / "a/b/c.jsonl"
    for data in (b"first, and longer", b"second"):
        write(target, data)
        assert target.read_bytes() == data
    assert target.stat().st_mode & 0o777 == 0o644
    assert list(target.parent.iterdir()) == [target]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """Where a file cannot be put, what was there stays and nothing hidden remains."""
    write(tmp_path / "target/inside", b"kept")
    with pytest.raises(OSError, match="target"):
        write(tmp_path / "target", b"data")
    assert (tmp_path / "target/inside").read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [tmp_path / "target"]
