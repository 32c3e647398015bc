"""What an execution leaves behind: whole directories, manifests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.domain import Window
from runner.errors import OccupiedTarget
from runner.executions import (
    ANALYSIS,
    MANIFEST,
    REPORT,
    VIOLATIONS,
    Stopwatch,
    claim,
    commit,
    directory,
    finished,
    read_manifest,
    sha256,
)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("window", "hour"),
    [
        ("2023-01-19T05", "2023/01/19/06"),
        ("2023-01-19T05:30", "2023/01/19/07"),
        ("2023-12-31T23", "2024/01/01/00"),
        ("2023-01-19T00/2023-01-20T00", "2023/01/20/00"),
    ],
)
def test_directory_is_the_scheduled_hour(window: str, hour: str) -> None:
    """An execution over a window lies where the schedule would have put it."""
    assert directory(Path("runs"), "endpoint", "monitor", Window.parse(window)) == Path(f"runs/endpoint/monitor/{hour}")


def test_commit_makes_the_directory(tmp_path: Path) -> None:
    """Parents, directory and files appear, readable for others, and nothing beside them."""
    commit(tmp_path / "a/b/06", {"x": b"1", "y": b""})
    assert contents(tmp_path) == {"a/b/06/x": b"1", "a/b/06/y": b""}
    assert list((tmp_path / "a/b").iterdir()) == [tmp_path / "a/b/06"]
    assert (tmp_path / "a/b/06").stat().st_mode & 0o555 == 0o555


def test_commit_replaces_the_whole_directory(tmp_path: Path) -> None:
    """Files of the former execution that the new one lacks are gone."""
    commit(tmp_path / "06", {ANALYSIS: b"old", VIOLATIONS: b"old"})
    commit(tmp_path / "06", {ANALYSIS: b"new"})
    assert contents(tmp_path) == {"06/analysis.json": b"new"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


def test_commit_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    """Other hours stay as they are."""
    commit(tmp_path / "05", {"x": b"5"})
    commit(tmp_path / "06", {"x": b"6"})
    assert contents(tmp_path) == {"05/x": b"5", "06/x": b"6"}


@pytest.mark.parametrize("before", [{}, {"06/analysis.json": b"old"}])
def test_failure_while_writing_changes_nothing(tmp_path: Path, before: dict[str, bytes]) -> None:
    """When a file cannot be written, the old directory stays and nothing hidden remains."""
    if before:
        commit(tmp_path / "06", {ANALYSIS: b"old"})
    with pytest.raises(FileNotFoundError):
        commit(tmp_path / "06", {ANALYSIS: b"new", "absent/y": b"new"})
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == len(before)


def test_failure_while_replacing_restores_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new directory cannot be put in place, the old one is put back and nothing hidden remains."""
    commit(tmp_path / "06", {ANALYSIS: b"old"})
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="disk full"):
        commit(tmp_path / "06", {ANALYSIS: b"new"})
    assert contents(tmp_path) == {"06/analysis.json": b"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


@pytest.mark.parametrize(
    ("data", "manifest", "done"),
    [
        (b'{"status":"Completed"}', {"status": "Completed"}, True),
        (b'{"status":"CompletedWithViolations"}', {"status": "CompletedWithViolations"}, True),
        (b'{"status":"Failed"}', {"status": "Failed"}, False),
        (b"[]", None, False),
        (b"null", None, False),
    ],
)
def test_manifests_tell_what_is_finished(
    tmp_path: Path, data: bytes, manifest: dict[str, str] | None, done: bool
) -> None:
    """What is no object is no manifest of ours; one that did not fail is a finished execution."""
    commit(tmp_path / "06", {MANIFEST: data})
    assert read_manifest(tmp_path / "06") == manifest
    assert finished(tmp_path / "06") is done


@pytest.mark.parametrize("data", [b"", b"torn {", b"\xff"])
def test_a_damaged_manifest_is_an_error_and_its_execution_is_kept(tmp_path: Path, data: bytes) -> None:
    """What cannot be read may have been a finished execution."""
    commit(tmp_path / "06", {MANIFEST: data})
    with pytest.raises(ValueError, match="is not JSON"):
        read_manifest(tmp_path / "06")
    assert finished(tmp_path / "06")


def test_missing_manifest_is_none(tmp_path: Path) -> None:
    """An absent folder and a folder without a manifest are no execution."""
    for target in (tmp_path / "absent", tmp_path):
        assert read_manifest(target) is None
        assert not finished(target)


def test_nothing_of_others_is_replaced(tmp_path: Path) -> None:
    """A folder with anything that no execution wrote, or a file, stays as it is."""
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"precious")
    for target in ("folder", "file"):
        with pytest.raises(OccupiedTarget, match="which writing there would replace"):
            commit(tmp_path / target, {ANALYSIS: b"new"})
    assert (tmp_path / "folder/sub").is_dir()
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_what_a_killed_writer_put_aside_comes_back(tmp_path: Path) -> None:
    """Between the two renames the old directory is aside; the next writer finds it first."""
    commit(tmp_path / "06", {ANALYSIS: b"old"})
    (tmp_path / ".06-killed").mkdir()
    (tmp_path / "06").rename(tmp_path / ".06-killed/old")
    claim(tmp_path / "06")
    assert contents(tmp_path) == {"06/analysis.json": b"old"}


def test_stopwatch_measures_steps() -> None:
    """Each step is measured by the clock it was given."""
    ticks = iter([1.0, 3.5, 10.0, 10.00004])
    watch = Stopwatch(lambda: next(ticks))
    for name in ("read", "explain"):
        with watch.step(name):
            pass
    assert watch.seconds == {"read": 2.5, "explain": 0.0}


def test_sha256_is_the_standards() -> None:
    """The hash is that of FIPS 180-2's own example."""
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_several_writers_leave_one_whole_directory(tmp_path: Path) -> None:
    """Of threads that commit to the same place at once, one stays, whole, and nothing hidden is left."""
    target = tmp_path / "hour"

    def write(number: int) -> None:
        for _ in range(20):
            commit(target, {ANALYSIS: b"%d" % number, REPORT: b"%d" % number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert list(tmp_path.iterdir()) == [target]
    assert (target / ANALYSIS).read_bytes() == (target / REPORT).read_bytes()
