"""What an execution leaves behind: whole directories, manifests."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.domain.drift import Level
from runner.domain.executions import Status, utc
from runner.domain.publication import AlertHistory
from runner.errors import OccupiedTarget
from runner.results.directories import (
    ANALYSIS,
    BASELINE_ROWS,
    LOCAL_ATTRIBUTIONS,
    MANIFEST,
    REPORT,
    VIOLATIONS,
    Stopwatch,
    alert_history,
    amend,
    claim,
    commit,
    earlier_executions,
    execution_directory,
    is_being_written,
    is_finished,
    mark_unpublished,
    read_manifest,
    remove,
    sha256,
    writing,
)
from tests.cli_runner import CHECKOUT
from tests.golden import Golden

INFORMED = (Status.COMPLETED, Level.INFO)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder, hidden ones included."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
def test_directory_is_the_scheduled_time(scheduled: str, folder: str) -> None:
    """On the full hour that is its folder; otherwise minutes, and seconds where there are any, tell it apart."""
    assert execution_directory(Path("runs"), "endpoint", "monitor", utc(scheduled)) == Path(
        f"runs/endpoint/monitor/{folder}"
    )


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
        commit(tmp_path / "06", {ANALYSIS: b"new", "absent/further/y": b"new"})
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
    assert is_finished(tmp_path / "06") is done


@pytest.mark.parametrize("data", [b"", b"torn {", b"\xff"])
def test_a_damaged_manifest_is_an_error_and_its_execution_is_kept(tmp_path: Path, data: bytes, golden: Golden) -> None:
    """What cannot be read may have been a finished execution."""
    commit(tmp_path / "06", {MANIFEST: data})
    with golden.raises(ValueError):
        read_manifest(tmp_path / "06")
    assert is_finished(tmp_path / "06")


def test_missing_manifest_is_none(tmp_path: Path) -> None:
    """An absent folder and a folder without a manifest are no execution."""
    for target in (tmp_path / "absent", tmp_path):
        assert read_manifest(target) is None
        assert not is_finished(target)


HISTORY = (
    "2025/12/31/23",
    "2026/01/04/05-41-23",
    "2026/01/05/08",
    "2026/01/05/08-30",
    "2026/01/05/09",
    "2026/02/01/00",
)


def test_earlier_executions_come_newest_first(tmp_path: Path) -> None:
    """Hours, minutes and seconds have their order, over the ends of days and years; what is none is passed by."""
    for name in (*HISTORY, "2026/01/05/.08~0a1b2c3d", "2026/01/05/notes", "2026/01/x/07", "notes/01/05/07"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "2026/01/03").write_text("a file where a folder belongs")
    target = tmp_path / "2026/01/05/09"
    found = [path.relative_to(tmp_path).as_posix() for path in earlier_executions(target)]
    assert found == ["2026/01/05/08-30", "2026/01/05/08", "2026/01/04/05-41-23", "2025/12/31/23"]
    assert list(earlier_executions(tmp_path / "2025/12/31/23")) == []
    assert list(earlier_executions(tmp_path / "nowhere/2025/12/31/23")) == []


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        ('{"status": "Failed"}', AlertHistory(INFORMED, failing=True)),
        ('{"status": "Completed", "level": "warning"}', AlertHistory((Status.COMPLETED, Level.WARNING))),
        ('{"status": "Completed", "level": null}', AlertHistory((Status.COMPLETED, Level.NONE))),
        ('{"status": "Completed", "level": "insufficient_data"}', AlertHistory(INFORMED)),
        ("no JSON", AlertHistory(INFORMED)),
        ('{"status": "Splendid"}', AlertHistory(INFORMED)),
        ('{"status": "Completed", "level": ["?"]}', AlertHistory(INFORMED)),
        (None, AlertHistory(INFORMED)),
    ],
)
def test_what_is_known_is_what_the_newest_that_judged_said(
    tmp_path: Path, newest: str | None, expected: AlertHistory
) -> None:
    """Status and level come from its manifest; one that is damaged, missing or could not judge is passed by."""
    documents = {"2026/01/05/08": newest, "2026/01/04/23": '{"status": "Completed", "level": "info"}'}
    for name, document in documents.items():
        (tmp_path / name).mkdir(parents=True)
        if document is not None:
            (tmp_path / name / MANIFEST).write_text(document)
    assert alert_history(tmp_path / "2026/01/05/09") == expected
    assert alert_history(tmp_path / "2026/01/04/23") == AlertHistory()


def test_news_that_reached_nobody_is_not_known(tmp_path: Path) -> None:
    """Its execution is passed by until somebody was reached; the note goes with the directory."""
    for hour, level in (("07", "none"), ("08", "violation")):
        commit(tmp_path / f"2026/01/05/{hour}", {MANIFEST: f'{{"status": "Completed", "level": "{level}"}}'.encode()})
    target = tmp_path / "2026/01/05/08"
    mark_unpublished(target, untold=True)
    assert alert_history(tmp_path / "2026/01/05/09") == AlertHistory((Status.COMPLETED, Level.NONE))
    mark_unpublished(target, untold=False)
    assert alert_history(tmp_path / "2026/01/05/09") == AlertHistory((Status.COMPLETED, Level.VIOLATION))
    mark_unpublished(target, untold=True)
    assert remove(target, tmp_path)
    assert contents(tmp_path).keys() == {"2026/01/05/07/manifest.json"}


def test_a_note_that_cannot_be_made_is_none(tmp_path: Path) -> None:
    """Where the folder is gone nothing is raised, and nothing made."""
    for untold in (True, False):
        mark_unpublished(tmp_path / "gone/08", untold)
    assert not list(tmp_path.iterdir())


def test_a_long_silence_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many failures it is known that it fails, and nothing of what was before."""
    monkeypatch.setattr("runner.results.directories.MAX_HISTORY", 3)
    for hour, status in enumerate(["Completed", *["Failed"] * 3]):
        (folder := tmp_path / f"2026/01/05/{hour:02d}").mkdir(parents=True)
        (folder / MANIFEST).write_text(f'{{"status": "{status}"}}')
    assert alert_history(tmp_path / "2026/01/05/03") == AlertHistory((Status.COMPLETED, Level.NONE), failing=True)
    assert alert_history(tmp_path / "2026/01/05/04") == AlertHistory(None, failing=True)


def test_nothing_of_others_is_replaced(tmp_path: Path, golden: Golden) -> None:
    """A folder with anything that no execution wrote, or a file, stays as it is."""
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
def test_nothing_of_others_in_a_folder_of_ours_is_lost(tmp_path: Path, other: str, golden: Golden) -> None:
    """A folder of the same name, and what lies in it beside our files, is neither replaced, amended nor removed."""
    (path := tmp_path / "09" / other).parent.mkdir(parents=True)
    path.write_bytes(b"precious")
    for act in (commit, amend):
        with golden.raises(OccupiedTarget):
            act(tmp_path / "09", {REPORT: b"new", LOCAL_ATTRIBUTIONS: b"new"})
    assert not remove(tmp_path / "09", tmp_path)
    assert contents(tmp_path) == {f"09/{other}": b"precious"}


@pytest.mark.parametrize("other", ["file", "link"])
def test_what_only_has_the_name_of_our_folder_stays(tmp_path: Path, other: str, golden: Golden) -> None:
    """A file is no folder of ours, nor is a link to somebody else's."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "09").mkdir()
    path = tmp_path / "09/explanations_shap"
    path.write_bytes(b"") if other == "file" else path.symlink_to(tmp_path / "elsewhere")
    with golden.raises(OccupiedTarget):
        commit(tmp_path / "09", {REPORT: b"new"})


def test_a_folder_of_ours_goes_with_the_directory(tmp_path: Path) -> None:
    """It is replaced, amended and removed like all else."""
    target = tmp_path / "09"
    commit(target, {ANALYSIS: b"1", LOCAL_ATTRIBUTIONS: b"2", BASELINE_ROWS: b"3"})
    amend(target, {ANALYSIS: b"4"})
    assert contents(target) == {ANALYSIS: b"4", LOCAL_ATTRIBUTIONS: b"2", BASELINE_ROWS: b"3"}
    amend(target, {LOCAL_ATTRIBUTIONS: b"5"})
    assert contents(target) == {ANALYSIS: b"4", LOCAL_ATTRIBUTIONS: b"5", BASELINE_ROWS: b"3"}
    commit(target, {ANALYSIS: b"6"})
    assert contents(tmp_path) == {"09/analysis.json": b"6"}
    assert not (target / "explanations_shap").exists()
    commit(target, {LOCAL_ATTRIBUTIONS: b"7"})
    assert remove(target, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_put_aside_comes_back(tmp_path: Path) -> None:
    """Between the two renames the old directory is aside; the next writer finds it first, and nothing hidden stays."""
    commit(tmp_path / "06", {ANALYSIS: b"old"})
    (tmp_path / ".06~0123abcd").mkdir()
    (tmp_path / "06").rename(tmp_path / ".06~0123abcd/old")
    claim(tmp_path / "06")
    assert contents(tmp_path) == {"06/analysis.json": b"old"}
    assert list(tmp_path.iterdir()) == [tmp_path / "06"]


def test_writers_that_are_killed_leave_a_whole_directory_and_nothing_else(tmp_path: Path) -> None:
    """Killed between any two system calls, or several at once at random, they leave no trace after the next commit."""
    command = [sys.executable, "-m", "tests.killed_writers", str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=CHECKOUT, timeout=60).stdout)
    for points in (new := found["new"], again := found["again"], gone := found["gone"]):
        assert len(points) > 8
        assert {last for *_, last in points} == {"last"}
    assert {tuple(point[:2]) for point in new} == {("nothing", "nothing"), ("new", "new")}
    assert {tuple(point[:2]) for point in gone} == {("old", "old"), ("nothing", "nothing")}
    assert Counter(tuple(point[:2]) for point in again)["nothing", "old"] == 1
    assert {tuple(point[:2]) for point in again} == {("old", "old"), ("nothing", "old"), ("new", "new")}
    assert (found["row"], found["random"]) == ("last", "last")


def test_the_folder_of_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    """Somebody who claims the same directory in the midst of writing changes nothing."""

    class Meddled(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            claim(tmp_path / "06")
            remove(tmp_path / "06", tmp_path)
            return super().read(size)

    commit(tmp_path / "06", {ANALYSIS: Meddled(b"new"), REPORT: Meddled(b"page")})
    assert contents(tmp_path) == {"06/analysis.json": b"new", "06/report.html": b"page"}


@pytest.mark.parametrize(
    "other", [".05-41~0123abcd", ".05~41~0123abcd", ".05-", ".05~short", ".05.lock", ".5]~0123abcd"]
)
def test_what_belongs_to_neighbours_is_left_alone(tmp_path: Path, other: str) -> None:
    """Hidden folders of directories whose names begin alike, and all else that is hidden, are not touched."""
    (tmp_path / other).mkdir()
    for name in ("05", "[05]", "05~41~"):
        commit(tmp_path / name, {ANALYSIS: b"new"})
    assert (tmp_path / other).is_dir()


def test_a_folder_nobody_writes_in_goes(tmp_path: Path) -> None:
    """Also one whose writer was killed before it had a lock."""
    (tmp_path / ".[05]~0123abcd").mkdir()
    claim(tmp_path / "[05]")
    assert not list(tmp_path.iterdir())


def test_what_is_removed_leaves_no_empty_folders(tmp_path: Path) -> None:
    """Folders that become empty go too, up to the root, which stays; neighbours stay."""
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


def test_what_is_gone_already_counts_as_removed(tmp_path: Path) -> None:
    """Removing twice is fine, and so is what never was."""
    assert remove(tmp_path / "e/m/2026/01/05/09", tmp_path)
    assert not list(tmp_path.iterdir())


def test_nothing_of_others_is_removed(tmp_path: Path) -> None:
    """A directory that somebody has put something into stays as it is."""
    commit(tmp_path / "09", {ANALYSIS: b"1"})
    (tmp_path / "09/notes.txt").write_bytes(b"precious")
    assert not remove(tmp_path / "09", tmp_path)
    assert contents(tmp_path) == {"09/analysis.json": b"1", "09/notes.txt": b"precious"}


def test_folders_above_the_root_stay(tmp_path: Path) -> None:
    """A root that the directory is not below keeps all folders."""
    commit(tmp_path / "a/09", {ANALYSIS: b"1"})
    assert remove(tmp_path / "a/09", tmp_path / "b")
    assert (tmp_path / "a").is_dir()


def test_who_writes_is_known_until_the_end(tmp_path: Path) -> None:
    """Several may write one directory; it is being written until the last one ends, and nothing hidden is left."""
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


def test_a_killed_process_writes_no_more(tmp_path: Path) -> None:
    """Another process is seen writing until it is killed; what it leaves goes with the next writer."""
    code = f"""
import pathlib, time
from runner.results.directories import writing
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


def test_what_is_amended_leaves_the_rest(tmp_path: Path, golden: Golden) -> None:
    """Files of the same names are replaced, others stay; a directory that holds more is refused and stays as it is."""
    target = tmp_path / "05"
    commit(target, {ANALYSIS: b"kept", REPORT: b"old"})
    amend(target, {REPORT: b"new"})
    assert contents(tmp_path) == {"05/analysis.json": b"kept", "05/report.html": b"new"}
    (target / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with golden.raises(OccupiedTarget):
        amend(target, {REPORT: b"newer"})
    assert contents(tmp_path) == before
