"""The capture writer: its files, its limits, and failures of the storage."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest

from runner import storage
from runner.serving import capture_writer
from runner.serving.capture_writer import CaptureWriter
from tests.cli_runner import CHECKOUT, HANG_SECONDS
from tests.golden import Golden
from tests.object_store import s3_server
from tests.processes import wait_until
from tests.serving.served import lines

AT = datetime(2026, 1, 5, 9, 30, 12, 345_678, tzinfo=UTC)
NO_FLUSH_SECONDS = 600
NO_THREAD = "can't start new thread"
FILE = r"2026/01/05/09/30-12-345-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.jsonl"


class Usage(NamedTuple):
    """The result of shutil.disk_usage."""

    free: int


class Disk:
    """A disk whose free bytes a test sets."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self, path: Path) -> Usage:
        """Return the free bytes, after a check that the path exists."""
        assert path.exists()
        return Usage(self.free)


def writer(
    root: object, flush_seconds: float = NO_FLUSH_SECONDS, queue_bytes: int = 2**20, **settings: object
) -> CaptureWriter:
    """Return a writer without a limit on free disk space."""
    return CaptureWriter(str(root), flush_seconds, queue_bytes, 0, **settings)  # type: ignore[arg-type]


def names(root: Path) -> list[str]:
    """Return the names of all files below a folder, also hidden ones."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged warnings."""
    return [record.getMessage() for record in caplog.records if record.name == "shapwatch"]


def no_more_threads(_: Thread) -> None:
    """Fail like Thread.start at the limit of a process."""
    raise RuntimeError(NO_THREAD)


@pytest.fixture
def blocked_root(tmp_path: Path) -> Path:
    """A root that cannot be written until its parent, a file, is removed."""
    (tmp_path / "root").write_bytes(b"in the way")
    return tmp_path / "root" / "captures"


def test_flush_writes_one_file_named_after_the_first_event(tmp_path: Path) -> None:
    """Events keep their order of arrival; the name has the time of the earliest."""
    capture = writer(tmp_path)
    capture.put(AT.replace(second=50), b"1\n")
    capture.put(AT, b"2\n")
    capture.close()
    (name,) = names(tmp_path)
    assert re.fullmatch(FILE, name)
    assert lines(tmp_path) == [b"1\n", b"2\n"]
    assert (capture.captured, capture.dropped) == (2, 0)


def test_each_hour_has_its_own_file(tmp_path: Path) -> None:
    """Events of different hours, days and years are in different files."""
    capture = writer(tmp_path)
    for at in (AT, AT.replace(hour=10), AT.replace(day=6), AT.replace(year=2027), AT.replace(minute=59)):
        capture.put(at, b"x\n")
    capture.close()
    folders = [name.rpartition("/")[0] for name in names(tmp_path)]
    assert folders == ["2026/01/05/09", "2026/01/05/10", "2026/01/06/09", "2027/01/05/09"]
    assert capture.captured == 5


def test_files_are_written_after_flush_seconds(tmp_path: Path) -> None:
    """Each flush writes another file."""
    capture = writer(tmp_path, flush_seconds=0.01)
    for count in range(1, 4):
        capture.put(AT, b"x\n")
        wait_until(lambda: capture.captured == len(names(tmp_path)) == count)  # noqa: B023  it is called in this round
    capture.close()


def test_quarter_of_the_queue_starts_a_flush(tmp_path: Path) -> None:
    """The flush does not wait for flush_seconds."""
    capture = writer(tmp_path, queue_bytes=4000)
    for _ in range(10):
        capture.put(AT, b"x" * 99 + b"\n")
    wait_until(lambda: capture.captured == 10)
    capture.close()
    assert len(lines(tmp_path)) == 10


def test_full_queue_drops_and_counts_events(
    blocked_root: Path, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Events that do not fit are dropped; queued ones are written once the storage works."""
    capture = writer(blocked_root, flush_seconds=0.01, queue_bytes=1000)
    for number in range(15):
        capture.put(AT, b"%99d\n" % number)
    assert capture.dropped == 5
    blocked_root.parent.unlink()
    wait_until(lambda: capture.captured == 10)
    capture.put(AT, b"%99d\n" % 15)
    capture.close()
    assert sorted(map(int, lines(blocked_root))) == [*range(10), 15]
    first, *_ = [text for text in warnings(caplog) if "queue_bytes=1000" in text]
    golden(first)


def test_failing_storage_logs_one_warning_and_loses_no_event(
    blocked_root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Only the first failure and the recovery are logged."""
    attempts = []
    replace_file = storage.replace_file

    def record_attempt(location: str) -> AbstractContextManager[Path]:
        attempts.append(location)
        return replace_file(location)

    monkeypatch.setattr(storage, "replace_file", record_attempt)
    capture = writer(blocked_root, flush_seconds=0.01)
    for number in range(4):
        capture.put(AT.replace(hour=number), b"%d\n" % number)
    wait_until(lambda: len(attempts) > 20)
    blocked_root.parent.unlink()
    wait_until(lambda: capture.captured == 4)
    capture.close()
    failure, recovery = warnings(caplog)
    assert str(blocked_root) in failure
    assert str(blocked_root) in recovery
    golden(f"{failure}\n{recovery}")
    assert lines(blocked_root) == [b"0\n", b"1\n", b"2\n", b"3\n"]


def test_events_that_close_cannot_write_are_counted(
    blocked_root: Path, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """A warning contains the number of lost events."""
    capture = writer(blocked_root)
    capture.put(AT, b"1\n")
    capture.put(AT, b"2\n")
    capture.close()
    assert (capture.captured, capture.dropped) == (0, 2)
    golden(warnings(caplog)[-1])


def test_full_disk_stops_capture_until_there_is_space(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """New events are dropped; queued ones are written once there is space."""
    disk = Disk(free=999)
    root = tmp_path / "new" / "folder"
    capture = CaptureWriter(str(root), 0.01, 2**20, 1000, disk_usage=disk)
    capture.put(AT, b"1\n")
    wait_until(lambda: capture.stopped)
    capture.put(AT, b"2\n")
    assert (capture.captured, capture.dropped) == (0, 1)
    assert not root.exists()
    disk.free = 1000
    wait_until(lambda: not capture.stopped)
    capture.put(AT, b"3\n")
    capture.close()
    assert sorted(lines(root)) == [b"1\n", b"3\n"]
    stopped, dropped, resumed = warnings(caplog)
    assert str(root) in stopped
    assert "min_free_bytes=1000" in stopped
    assert "min_free_bytes=1000" in dropped
    golden(f"{stopped}\n{dropped}\n{resumed}")


def test_close_writes_nothing_to_a_full_disk(tmp_path: Path) -> None:
    """The queued events are dropped."""
    capture = CaptureWriter(str(tmp_path), NO_FLUSH_SECONDS, 2**20, 1000, disk_usage=Disk(free=0))
    capture.put(AT, b"1\n")
    capture.close()
    assert (capture.captured, capture.dropped, names(tmp_path)) == (0, 1, [])


def test_disk_of_unknown_size_is_not_full(tmp_path: Path) -> None:
    """Events are written if the free space is unknown."""

    def fail(path: Path) -> Usage:
        raise OSError("stale")

    capture = CaptureWriter(str(tmp_path), NO_FLUSH_SECONDS, 2**20, 2**62, disk_usage=fail)
    capture.put(AT, b"1\n")
    capture.close()
    assert capture.captured == 1


def test_default_disk_usage_is_that_of_the_disk(tmp_path: Path) -> None:
    """No disk has an exabyte of free space."""
    capture = CaptureWriter(str(tmp_path), NO_FLUSH_SECONDS, 2**20, 2**60)
    capture.put(AT, b"1\n")
    capture.close()
    assert (capture.captured, capture.dropped) == (0, 1)


def test_writer_can_be_closed_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture, golden: Golden) -> None:
    """Events after the first call are dropped and counted."""
    capture = writer(tmp_path)
    capture.put(AT, b"1\n")
    capture.close()
    capture.close()
    capture.put(AT, b"2\n")
    assert (capture.captured, capture.dropped, capture.stopped) == (1, 1, True)
    assert lines(tmp_path) == [b"1\n"]
    golden(warnings(caplog)[-1])


def test_writer_without_events_writes_no_file(tmp_path: Path) -> None:
    """Without events, closing writes nothing."""
    writer(tmp_path).close()
    assert names(tmp_path) == []


def test_dropped_events_are_logged_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """Each minute has at most one warning, with the number of events dropped so far."""
    now = 0.0
    capture = writer(tmp_path, seconds=lambda: now)
    for _ in range(1000):
        capture.drop("the queue is full")
    now = 61.0
    capture.drop("the queue is full")
    first, second = warnings(caplog)
    golden(f"{first}\n{second}")
    capture.drop("the queue is full")
    capture.close()
    capture.close()
    assert len(warnings(caplog)) == 3


def test_events_of_many_threads_are_all_written(tmp_path: Path) -> None:
    """Four threads put events while the writer flushes continuously."""
    capture = writer(tmp_path, flush_seconds=0)

    def put_events(number: int) -> None:
        for i in range(1000):
            capture.put(AT, b"%d,%d\n" % (number, i))

    threads = [Thread(target=put_events, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    capture.close()
    assert sorted(lines(tmp_path)) == sorted(b"%d,%d\n" % (number, i) for number in range(4) for i in range(1000))
    assert (capture.captured, capture.dropped) == (4000, 0)


def test_files_are_written_to_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket contains the same files; the free space of a local disk is not checked."""
    with s3_server(monkeypatch) as bucket:
        root = f"{bucket.url}/capture/churn/AllTraffic"
        capture = CaptureWriter(root, NO_FLUSH_SECONDS, 2**20, 2**62)
        capture.put(AT, b"1\n")
        capture.put(AT, b"2\n")
        capture.close()
        (file,) = storage.list_files(root)
        assert re.fullmatch(FILE, file.name)
        assert storage.read(file.location) == b"1\n2\n"


def test_missing_bucket_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """The error of the object store is a warning, and the events are counted as dropped."""
    with s3_server(monkeypatch):
        capture = CaptureWriter("s3://absent/capture", NO_FLUSH_SECONDS, 2**20, 0)
        capture.put(AT, b"1\n")
        capture.close()
    assert capture.dropped == 1
    golden(warnings(caplog)[0], (r"(/30-12-345-)[0-9a-f-]{36}", r"\1{id}"))


@pytest.mark.parametrize("ending", ["pass", "os.fork() and os.wait()", "sys.exit(3)", "raise ValueError"])
def test_exit_of_the_process_writes_the_queue(tmp_path: Path, ending: str) -> None:
    """The queue is written at any exit of the interpreter; a forked process writes its own events."""
    before, after = (ending, "pass") if "fork" in ending else ("pass", ending)
    script = (
        "import os, sys; from datetime import datetime, UTC; from runner.serving.capture_writer import CaptureWriter\n"
        f"capture = CaptureWriter({str(tmp_path)!r}, 600, 2**20, 0); {before}\n"
        f"capture.put(datetime.now(UTC), b'1\\n'); {after}\n"
    )
    subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, stderr=subprocess.DEVNULL, timeout=HANG_SECONDS, check=False
    )
    assert lines(tmp_path) == [b"1\n"] * (2 if "fork" in ending else 1)


def test_close_does_not_wait_for_an_unresponsive_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """close() returns after CLOSE_SECONDS and counts the lost events."""
    released = Event()

    @contextmanager
    def hang(_: str) -> Iterator[Path]:
        released.wait(30)
        yield tmp_path / "late"

    monkeypatch.setattr(storage, "replace_file", hang)
    monkeypatch.setattr(capture_writer, "CLOSE_SECONDS", 0.3)
    capture = writer(tmp_path, flush_seconds=0.01)
    for _ in range(5):
        capture.put(datetime(2026, 1, 5, 9, tzinfo=UTC), b"{}\n")
    start = time.monotonic()
    capture.close()
    assert time.monotonic() - start < 5
    assert (capture.captured, capture.dropped) == (0, 5)
    released.set()


@pytest.mark.parametrize("recovers", [True, False])
def test_events_wait_for_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recovers: bool
) -> None:
    """If the process may start no more threads, a later event starts the writer, or close() writes the events."""
    capture = writer(tmp_path, flush_seconds=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", no_more_threads)
        capture.put(AT, b"1\n")
        capture.put(AT, b"2\n")
    if recovers:
        capture.put(AT, b"3\n")
        wait_until(lambda: capture.captured == 3)
    capture.close()
    capture.close()
    assert lines(tmp_path) == [b"1\n", b"2\n", b"3\n"][: 2 + recovers]
    assert (capture.captured, capture.dropped) == (2 + recovers, 0)
    assert len([text for text in warnings(caplog) if NO_THREAD in text]) == 1


def test_writer_survives_any_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events stay queued, in their order, after an error that no storage declares."""
    capture = writer(tmp_path, flush_seconds=0.01)
    attempts: list[str] = []

    def fail(location: str) -> AbstractContextManager[Path]:
        attempts.append(location)
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(storage, "replace_file", fail)
        for line in (b"1\n", b"2\n"):
            count = len(attempts)
            capture.put(AT, line)
            wait_until(lambda: len(attempts) > count)  # noqa: B023  it is called in this round
    capture.close()
    assert lines(tmp_path) == [b"1\n", b"2\n"]
    assert (capture.captured, capture.dropped) == (2, 0)
