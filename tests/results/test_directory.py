"""Result directories: their paths and atomic writes."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import pytest

from runner.domain.executions import EVERYONE, utc
from runner.errors import OccupiedTarget
from runner.results.directory import (
    ANALYSIS,
    BASELINE_ROWS,
    DRIFT,
    LOCAL_ATTRIBUTIONS,
    MANIFEST,
    REPORT,
    SETTINGS,
    VIOLATIONS,
    amend,
    claim,
    commit,
    execution_directory,
    is_being_written,
    mark_unpublished,
    opened,
    remove,
    unpublished,
    writing,
)
from runner.results.locks import EXCLUSIVE, locked
from runner.results.manifest_file import read_manifest
from tests.builders import file_contents
from tests.cli_runner import CHECKOUT, HANG_SECONDS
from tests.golden import Golden


@pytest.mark.parametrize(
    ("scheduled", "folder"),
    [
        ("2023-01-19T06:00:00Z", "2023/01/19/06"),
        ("2024-01-01T00:00:00Z", "2024/01/01/00"),
        ("2023-01-19T05:15:00Z", "2023/01/19/05-15"),
        ("2023-01-19T05:41:23Z", "2023/01/19/05-41-23"),
        ("2023-01-19T05:00:23Z", "2023/01/19/05-00-23"),
    ],
)
def test_execution_directory_is_the_scheduled_time(scheduled: str, folder: str) -> None:
    """The name is the hour, with minutes and seconds unless they are zero."""
    assert execution_directory(Path("runs"), "endpoint", "monitor", utc(scheduled)) == Path(
        f"runs/endpoint/monitor/{folder}"
    )


def test_commit_creates_the_directory(tmp_path: Path) -> None:
    """Parents, directory and files are created, readable for other users, and nothing else is."""
    commit(tmp_path / "a/b/06", {"x": b"1", "y": b""})
    assert file_contents(tmp_path) == {"a/b/06/x": b"1", "a/b/06/y": b""}
    assert list((tmp_path / "a/b").iterdir()) == [tmp_path / "a/b/06"]
    assert (tmp_path / "a/b/06").stat().st_mode & 0o555 == 0o555


def test_commit_replaces_the_whole_directory(tmp_path: Path) -> None:
    """Files that only the former execution wrote are removed."""
    commit(tmp_path / "06", {ANALYSIS: b"old", VIOLATIONS: b"old"})
    commit(tmp_path / "06", {ANALYSIS: b"new"})
    assert file_contents(tmp_path) == {"06/analysis.json": b"new"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


def test_commit_leaves_other_directories_unchanged(tmp_path: Path) -> None:
    """Directories of other hours are unchanged."""
    commit(tmp_path / "05", {"x": b"5"})
    commit(tmp_path / "06", {"x": b"6"})
    assert file_contents(tmp_path) == {"05/x": b"5", "06/x": b"6"}


@pytest.mark.parametrize("before", [{}, {"06/analysis.json": b"old"}])
def test_failure_while_writing_changes_nothing(tmp_path: Path, before: dict[str, bytes]) -> None:
    """If a file cannot be written, the old directory stays and no hidden folder remains."""
    if before:
        commit(tmp_path / "06", {ANALYSIS: b"old"})
    with pytest.raises(FileNotFoundError):
        commit(tmp_path / "06", {ANALYSIS: b"new", "absent/further/y": b"new"})
    assert file_contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == len(before)


def test_failure_while_replacing_restores_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new directory cannot be renamed, the old one is restored and no hidden folder remains."""
    commit(tmp_path / "06", {ANALYSIS: b"old"})
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("disk full")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="disk full"):
        commit(tmp_path / "06", {ANALYSIS: b"new"})
    assert file_contents(tmp_path) == {"06/analysis.json": b"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


def test_foreign_files_are_not_replaced(tmp_path: Path, golden: Golden) -> None:
    """A file, or a folder with files that no execution writes, is unchanged."""
    (tmp_path / "folder/sub").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"precious")
    for target in ("folder", "file"):
        with golden.raises(OccupiedTarget):
            commit(tmp_path / target, {ANALYSIS: b"new"})
    assert (tmp_path / "folder/sub").is_dir()
    assert (tmp_path / "file").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "other", ["explanations_shap/notes.txt", "explanations_shap/out.csv/part-0.csv", "analysis.json/x", "out.csv"]
)
def test_foreign_files_in_an_execution_folder_are_not_lost(tmp_path: Path, other: str, golden: Golden) -> None:
    """A directory with foreign files is not replaced, amended or removed."""
    (path := tmp_path / "09" / other).parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    for act in (commit, amend):
        with golden.raises(OccupiedTarget):
            act(tmp_path / "09", {REPORT: b"new", LOCAL_ATTRIBUTIONS: b"new"})
    assert not remove(tmp_path / "09", tmp_path)
    assert file_contents(tmp_path) == {f"09/{other}": b"precious"}


@pytest.mark.parametrize("other", ["file", "link"])
def test_file_or_link_with_the_name_of_the_folder_is_not_replaced(tmp_path: Path, other: str, golden: Golden) -> None:
    """Neither a file nor a symbolic link counts as the folder of local attributions."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "09").mkdir()
    path = tmp_path / "09/explanations_shap"
    path.write_bytes(b"") if other == "file" else path.symlink_to(tmp_path / "elsewhere")
    with golden.raises(OccupiedTarget):
        commit(tmp_path / "09", {REPORT: b"new"})


def test_local_folder_is_part_of_the_directory(tmp_path: Path) -> None:
    """It is replaced, amended and removed like the other files."""
    target = tmp_path / "09"
    commit(target, {ANALYSIS: b"1", LOCAL_ATTRIBUTIONS: b"2", BASELINE_ROWS: b"3"})
    amend(target, {ANALYSIS: b"4"})
    assert file_contents(target) == {ANALYSIS: b"4", LOCAL_ATTRIBUTIONS: b"2", BASELINE_ROWS: b"3"}
    amend(target, {LOCAL_ATTRIBUTIONS: b"5"})
    assert file_contents(target) == {ANALYSIS: b"4", LOCAL_ATTRIBUTIONS: b"5", BASELINE_ROWS: b"3"}
    commit(target, {ANALYSIS: b"6"})
    assert file_contents(tmp_path) == {"09/analysis.json": b"6"}
    assert not (target / "explanations_shap").exists()
    commit(target, {LOCAL_ATTRIBUTIONS: b"7"})
    assert remove(target, tmp_path)
    assert not list(tmp_path.iterdir())


def test_directory_moved_by_a_killed_writer_is_restored(tmp_path: Path) -> None:
    """The writer was killed between its two renames; the next claim restores the old directory."""
    commit(tmp_path / "06", {ANALYSIS: b"old"})
    (tmp_path / ".06~0123abcd").mkdir()
    (tmp_path / "06").rename(tmp_path / ".06~0123abcd/old")
    claim(tmp_path / "06")
    assert file_contents(tmp_path) == {"06/analysis.json": b"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


def test_killed_writers_leave_no_trace(tmp_path: Path) -> None:
    """Also if several are killed at once, or between any two system calls."""
    command = [sys.executable, "-m", "tests.results.killed_writers", str(tmp_path)]
    found = json.loads(
        subprocess.run(command, capture_output=True, check=True, cwd=CHECKOUT, timeout=HANG_SECONDS).stdout
    )
    for kills in (create := found["create"], replace := found["replace"], delete := found["remove"]):
        assert len(kills) > 8
        assert {last for *_, last in kills} == {"last"}
    assert {(killed, claimed) for killed, claimed, _ in create} == {("nothing", "nothing"), ("new", "new")}
    assert {(killed, claimed) for killed, claimed, _ in delete} == {("old", "old"), ("nothing", "nothing")}
    replaced = Counter((killed, claimed) for killed, claimed, _ in replace)
    assert replaced.keys() == {("old", "old"), ("nothing", "old"), ("new", "new")}
    assert replaced["nothing", "old"] == 1
    assert (found["sequence"], found["random"]) == ("last", "last")


def test_hidden_folder_of_a_live_writer_is_not_removed(tmp_path: Path) -> None:
    """A claim of the same directory during a write changes nothing."""

    class ClaimingReader(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            claim(tmp_path / "06")
            remove(tmp_path / "06", tmp_path)
            return super().read(size)

    commit(tmp_path / "06", {ANALYSIS: ClaimingReader(b"new"), REPORT: ClaimingReader(b"page")})
    assert file_contents(tmp_path) == {"06/analysis.json": b"new", "06/report.html": b"page"}


@pytest.mark.parametrize(
    "other", [".05-41~0123abcd", ".05~41~0123abcd", ".05-", ".05~short", ".05.lock", ".5]~0123abcd"]
)
def test_hidden_files_of_other_directories_are_not_removed(tmp_path: Path, other: str) -> None:
    """Hidden folders of directories with similar names, and other hidden files, are unchanged."""
    (tmp_path / other).mkdir()
    for name in ("05", "[05]", "05~41~"):
        commit(tmp_path / name, {ANALYSIS: b"new"})
    assert (tmp_path / other).is_dir()


def test_unlocked_hidden_folder_is_removed(tmp_path: Path) -> None:
    """Its writer may have been killed before it got the lock."""
    (tmp_path / ".[05]~0123abcd").mkdir()
    claim(tmp_path / "[05]")
    assert not list(tmp_path.iterdir())


def test_remove_deletes_empty_parent_folders(tmp_path: Path) -> None:
    """The root and the directories of other executions stay."""
    root = tmp_path / "monitor"
    for name in ("e/m/2026/01/05/09", "e/m/2026/01/05/09-15", "e/m/2025/12/31/23"):
        commit(root / name, {ANALYSIS: b"1", REPORT: b"2"})
    assert remove(root / "e/m/2026/01/05/09", root)
    assert remove(root / "e/m/2025/12/31/23", root)
    assert sorted(path.relative_to(root).as_posix() for path in root.rglob("*")) == [
        "e",
        "e/m",
        "e/m/2026",
        "e/m/2026/01",
        "e/m/2026/01/05",
        "e/m/2026/01/05/09-15",
        "e/m/2026/01/05/09-15/analysis.json",
        "e/m/2026/01/05/09-15/report.html",
    ]
    assert remove(root / "e/m/2026/01/05/09-15", root)
    assert list(tmp_path.iterdir()) == [root]
    assert not list(root.iterdir())


def test_missing_directory_counts_as_removed(tmp_path: Path) -> None:
    """Removing a missing directory returns True and creates nothing."""
    assert remove(tmp_path / "e/m/2026/01/05/09", tmp_path)
    assert not list(tmp_path.iterdir())


def test_foreign_files_are_not_removed(tmp_path: Path) -> None:
    """A directory with a file that no execution writes is unchanged."""
    commit(tmp_path / "09", {ANALYSIS: b"1"})
    (tmp_path / "09/notes.txt").write_bytes(b"precious")
    assert not remove(tmp_path / "09", tmp_path)
    assert file_contents(tmp_path) == {"09/analysis.json": b"1", "09/notes.txt": b"precious"}


def test_folders_outside_the_root_are_not_removed(tmp_path: Path) -> None:
    """If the directory is not below the root, its parent folders stay."""
    commit(tmp_path / "a/09", {ANALYSIS: b"1"})
    assert remove(tmp_path / "a/09", tmp_path / "b")
    assert (tmp_path / "a").is_dir()


def test_directory_is_being_written_until_the_last_writer_ends(tmp_path: Path) -> None:
    """Several writers may overlap; no hidden file remains."""
    target = tmp_path / "made/reference"
    assert not is_being_written(target)
    with writing(target):
        with writing(target):
            assert is_being_written(target)
            assert not is_being_written(tmp_path / "made")
        assert is_being_written(target)
        assert is_being_written(target / ANALYSIS)
    assert not is_being_written(target)
    assert not list(tmp_path.iterdir())


def test_killed_process_is_no_writer(tmp_path: Path) -> None:
    """The next writer removes the lock file of the killed process."""
    code = f"""
import pathlib, time
from runner.results.directory import writing
with writing(pathlib.Path({str(tmp_path / "reference")!r})):
    print("writing", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=CHECKOUT) as process:
        assert process.stdout
        assert process.stdout.readline() == b"writing\n"
        assert is_being_written(tmp_path / "reference")
        os.kill(process.pid, signal.SIGKILL)
    assert not is_being_written(tmp_path / "reference")
    with writing(tmp_path / "reference"):
        pass
    assert not list(tmp_path.iterdir())


def test_concurrent_writers_leave_one_complete_directory(tmp_path: Path) -> None:
    """Several threads commit to the same path; no hidden folder remains."""
    target = tmp_path / "hour"

    def write(number: int) -> None:
        for _ in range(20):
            commit(target, {ANALYSIS: b"%d" % number, REPORT: b"%d" % number})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert list(tmp_path.iterdir()) == [target]
    assert (target / ANALYSIS).read_bytes() == (target / REPORT).read_bytes()


def test_amend_changes_only_the_given_files(tmp_path: Path, golden: Golden) -> None:
    """A directory with foreign files is refused and unchanged."""
    target = tmp_path / "05"
    commit(target, {ANALYSIS: b"unchanged", REPORT: b"old"})
    amend(target, {REPORT: b"new"})
    assert file_contents(tmp_path) == {"05/analysis.json": b"unchanged", "05/report.html": b"new"}
    (target / "notes.txt").write_text("mine")
    before = file_contents(tmp_path)
    with golden.raises(OccupiedTarget):
        amend(target, {REPORT: b"newer"})
    assert file_contents(tmp_path) == before


def test_amend_copies_no_file_that_a_symbolic_link_names(tmp_path: Path) -> None:
    """The author of a folder could otherwise choose a secret of the reader."""
    (tmp_path / "secret").write_text("secret")
    commit(target := tmp_path / "05", {ANALYSIS: b"unchanged"})
    (target / SETTINGS).symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match=SETTINGS):
        amend(target, {REPORT: b"new"})
    assert (target / SETTINGS).is_symlink()
    assert not (target / REPORT).exists()


def test_symbolic_links_next_to_a_directory_are_not_followed(tmp_path: Path) -> None:
    """Nothing is created, changed or moved at the places that they name."""
    (other := tmp_path / "other").mkdir()
    (other / "old").mkdir()
    (folder := tmp_path / "folder").mkdir()
    (folder / ".05~00000000").symlink_to(other)
    (folder / ".05~11111111").mkdir()
    (folder / ".05~11111111/lock").symlink_to(other / "created")
    (folder / ".05.unpublished~").symlink_to(other / "created")
    commit(folder / "05", {ANALYSIS: b""})
    mark_unpublished(folder / "05", ["a"])
    assert unpublished(folder / "05") == {"a"}
    assert [path.name for path in other.iterdir()] == ["old"]


def test_unreadable_record_of_recipients_stands_for_all(tmp_path: Path) -> None:
    """It may also be nested too deeply."""
    for content in ("", "[1]", "[" * 100_000):
        (tmp_path / ".05.unpublished").write_text(content)
        assert unpublished(tmp_path / "05") == {EVERYONE}


def test_large_document_is_not_read(tmp_path: Path) -> None:
    """A sparse file takes no space on disk."""
    (tmp_path / MANIFEST).touch()
    os.truncate(tmp_path / MANIFEST, 2**40)
    with pytest.raises(OSError, match=MANIFEST), opened(tmp_path, [MANIFEST]):
        pass
    with pytest.raises(ValueError, match=MANIFEST):
        read_manifest(tmp_path)


def test_files_of_one_version_are_opened_while_a_writer_replaces_them(tmp_path: Path) -> None:
    """No version is mixed, none is incomplete, and the directory is never missing."""
    target, end, seen = tmp_path / "reference", Event(), set[bytes]()
    versions = [{name: bytes([version]) * 9 for name in (MANIFEST, ANALYSIS)} for version in range(2)]
    commit(target, versions[0])

    def write() -> None:
        for number in itertools.count(1):
            if end.is_set():
                return
            commit(target, versions[number % 2])

    thread = Thread(target=write)
    thread.start()
    try:
        while len(seen) < 2:
            with opened(target, [ANALYSIS, MANIFEST, DRIFT]) as files:
                assert files.keys() == {ANALYSIS, MANIFEST}
                (content,) = {file.read() for file in files.values()}
            seen.add(content)
        for _ in range(300):
            with opened(target, [ANALYSIS, MANIFEST]) as files:
                assert len({file.read() for file in files.values()}) == 1
    finally:
        end.set()
        thread.join()


def test_directory_that_a_killed_writer_moved_is_opened(tmp_path: Path) -> None:
    """The reader restores it."""
    commit(target := tmp_path / "reference", {MANIFEST: b"{}"})
    (aside := tmp_path / ".reference~0123abcd").mkdir()
    (aside / "lock").touch()
    target.rename(aside / "old")
    with opened(target, [MANIFEST]) as files:
        assert files[MANIFEST].read() == b"{}"


def test_missing_directory_has_no_files(tmp_path: Path) -> None:
    """A file in its place is no directory either."""
    (tmp_path / "file").touch()
    for name in ("missing", "file", "file/below"):
        with opened(tmp_path / name, [MANIFEST]) as files:
            assert files == {}


def test_special_file_is_refused_at_once(tmp_path: Path) -> None:
    """A named pipe would block a reader for ever."""
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(OSError, match=MANIFEST), opened(tmp_path, [MANIFEST]):
        pass


class Overtaken(Exception):
    """The claim of a writer is lost."""


def test_pipes_in_place_of_locks_and_records_do_not_block(tmp_path: Path) -> None:
    """Opening a pipe would otherwise wait for another process."""
    for name in (".09.lock", ".09.unpublished"):
        os.mkfifo(tmp_path / name)
    assert not is_being_written(tmp_path / "09")
    assert unpublished(tmp_path / "09") == {EVERYONE}


def test_a_failed_check_changes_nothing(tmp_path: Path) -> None:
    """Neither the directory nor a hidden folder remains of a writer that has been overtaken."""
    commit(tmp_path / "06", {ANALYSIS: b"newer"})

    def check() -> None:
        raise Overtaken

    with pytest.raises(Overtaken):
        commit(tmp_path / "06", {ANALYSIS: b"older"}, check)
    assert file_contents(tmp_path) == {"06/analysis.json": b"newer"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


@pytest.mark.parametrize("before", [{}, {ANALYSIS: b"oldest"}])
def test_a_writer_suspended_after_its_check_replaces_nothing(tmp_path: Path, before: dict[str, bytes]) -> None:
    """The writer that overtook it takes its files away; it checks again when it continues."""
    target, checks = tmp_path / "06", list[bool]()
    if before:
        commit(target, before)

    def suspended() -> None:
        checks.append(True)
        if len(checks) > 1:
            raise Overtaken
        commit(target, {ANALYSIS: b"newer"}, lambda: None)

    with pytest.raises(Overtaken):
        commit(target, {ANALYSIS: io.BytesIO(b"older")}, suspended)
    assert file_contents(tmp_path) == {"06/analysis.json": b"newer"}
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_suspended_between_two_renames_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has moved the previous directory already; the newer one is in place when it continues."""
    target, rename = tmp_path / "06", Path.rename
    commit(target, {ANALYSIS: b"oldest"})

    def suspend(source: Path, to: Path) -> Path:
        if source.name == "new":
            monkeypatch.setattr(Path, "rename", rename)
            commit(target, {ANALYSIS: b"newer"}, lambda: None)
        return rename(source, to)

    checks = iter([None, Overtaken])

    def check() -> None:
        if error := next(checks):
            raise error

    monkeypatch.setattr(Path, "rename", suspend)
    with pytest.raises(Overtaken):
        commit(target, {ANALYSIS: b"older"}, check)
    assert file_contents(tmp_path) == {"06/analysis.json": b"newer"}


def test_a_valid_writer_whose_files_were_taken_away_writes_again(tmp_path: Path) -> None:
    """An overtaken writer that had passed its check may take them away when it continues."""
    target, checks = tmp_path / "06", list[bool]()

    def check() -> None:
        checks.append(True)
        if len(checks) == 1:
            commit(target, {ANALYSIS: b"older"}, lambda: None)

    commit(target, {ANALYSIS: io.BytesIO(b"newer")}, check)
    assert len(checks) == 2
    assert file_contents(tmp_path) == {"06/analysis.json": b"newer"}


def test_an_unchecked_writer_is_left_alone(tmp_path: Path) -> None:
    """A command without a ledger may write the directory at the same time; the last writer wins."""
    target = tmp_path / "06"
    new = tmp_path / ".06~0123abcd/new"
    new.mkdir(parents=True)
    with locked(new.parent / "lock", EXCLUSIVE):
        commit(target, {ANALYSIS: b"checked"}, lambda: None)
        assert new.exists()


def test_files_taken_away_during_writing_are_written_again(tmp_path: Path) -> None:
    """A valid writer, whose files an overtaken one takes away, never shows an incomplete directory."""
    target = tmp_path / "06"

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if data := super().read(size):
                for new in list(tmp_path.glob(".06~*/new")):
                    if not taken:
                        taken.append(new.rename(tmp_path / "taken"))
            return data

    taken = list[Path]()
    commit(target, {ANALYSIS: b"1", DRIFT: Slow(b"2"), MANIFEST: b"3"}, lambda: None)
    assert taken
    assert file_contents(target) == {"analysis.json": b"1", "drift.json": b"2", "manifest.json": b"3"}
