"""What an execution leaves behind: whole directories, manifests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from runner.domain import Window
from runner.executions import MANIFEST, Stopwatch, commit, directory, finished, read_manifest, sha256


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
    commit(tmp_path / "06", {"x": b"old", "violations": b"old"})
    commit(tmp_path / "06", {"x": b"new"})
    assert contents(tmp_path) == {"06/x": b"new"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


def test_commit_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    """Other hours stay as they are."""
    commit(tmp_path / "05", {"x": b"5"})
    commit(tmp_path / "06", {"x": b"6"})
    assert contents(tmp_path) == {"05/x": b"5", "06/x": b"6"}


@pytest.mark.parametrize("before", [{}, {"06/x": b"old"}])
def test_failure_while_writing_changes_nothing(tmp_path: Path, before: dict[str, bytes]) -> None:
    """When a file cannot be written, the old directory stays and nothing hidden remains."""
    if before:
        commit(tmp_path / "06", {"x": b"old"})
    with pytest.raises(FileNotFoundError):
        commit(tmp_path / "06", {"x": b"new", "absent/y": b"new"})
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == len(before)


def test_failure_while_replacing_restores_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the new directory cannot be put in place, the old one is put back and nothing hidden remains."""
    commit(tmp_path / "06", {"x": b"old"})
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="disk full"):
        commit(tmp_path / "06", {"x": b"new"})
    assert contents(tmp_path) == {"06/x": b"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


@pytest.mark.parametrize(
    ("data", "manifest", "done"),
    [
        (b'{"status":"Completed"}', {"status": "Completed"}, True),
        (b'{"status":"CompletedWithViolations"}', {"status": "CompletedWithViolations"}, True),
        (b'{"status":"Failed"}', {"status": "Failed"}, False),
        (b"", None, False),
        (b"torn {", None, False),
        (b"\xff", None, False),
        (b"[]", None, False),
        (b"null", None, False),
    ],
)
def test_manifest_is_read_tolerantly(tmp_path: Path, data: bytes, manifest: dict[str, str] | None, done: bool) -> None:
    """Whatever is no manifest is as good as none; one that did not fail is a finished execution."""
    commit(tmp_path / "06", {MANIFEST: data})
    assert read_manifest(tmp_path / "06") == manifest
    assert finished(tmp_path / "06") is done


def test_missing_manifest_is_none(tmp_path: Path) -> None:
    """An absent folder, a folder without a manifest and a file in its place are no execution."""
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / MANIFEST).mkdir(parents=True)
    for target in (tmp_path / "absent", tmp_path, tmp_path / "file", tmp_path / "folder"):
        assert read_manifest(target) is None
        assert not finished(target)


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
            commit(target, {"a": b"%d" % number, "b": b"%d" % number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "a").read_bytes() == (target / "b").read_bytes()
