"""The writer of capture files: a bounded queue, and one thread that empties it into files."""

from __future__ import annotations

import atexit
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Condition, Thread
from typing import Protocol

from runner import storage
from runner.domain import plural
from runner.errors import StorageError, disk_sentence

logger = logging.getLogger("shapwatch")

QUIET = 60.0
"""Seconds between two warnings about dropped events."""

BUFFER = 2**20
"""Bytes that go to the disk at a time."""

Timed = tuple[datetime, bytes]


class Usage(Protocol):
    """What is known of a disk, as `shutil.disk_usage` tells it."""

    @property
    def free(self) -> int:
        """Its free bytes."""
        ...


class CaptureWriter:
    """Writes capture lines, in the layout of SageMaker, without ever keeping anybody waiting.

    Each flush writes what waits as one new file per UTC hour, `{root}/yyyy/mm/dd/hh/{MM}-{SS}-{mmm}-{uuid4}.jsonl`,
    named after the hour's first event. A file is written aside and renamed, so it is there whole or not at all, and a
    reader never meets half a line: were a file appended to, `kill -9` would tear its last line. That way it costs at
    most what the queue held.

    What cannot be written waits for the next flush, as long as the queue has room. When a local disk is nearly full,
    new events are dropped until there is space again. The thread is started by the first event, after a server has
    forked its workers.

    Attributes:
        root: a local folder or a location in an object store.
        captured: how many events were written.
        dropped: how many events were not: the queue was full, the disk low, the writer closed, or one too large.
    """

    def __init__(
        self,
        root: str,
        flush_seconds: float,
        queue_bytes: int,
        min_free_bytes: int,
        *,
        disk_usage: Callable[[Path], Usage] = shutil.disk_usage,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.captured = 0
        self.dropped = 0
        self._flush_seconds = flush_seconds
        self._queue_bytes = queue_bytes
        self._min_free_bytes = min_free_bytes
        self._disk_usage = disk_usage
        self._seconds = seconds
        self._changed = Condition()
        self._waiting: list[Timed] = []
        self._bytes = 0
        self._thread: Thread | None = None
        self._closed = False
        self._low = False
        self._failing = False
        self._told = 0
        self._told_at = float("-inf")

    @property
    def stopped(self) -> bool:
        """Whether events are being dropped, because the disk is low or the writer closed."""
        return self._closed or self._low

    def put(self, at: datetime, line: bytes) -> None:
        """Let the line of an event wait for the next flush, or drop it; `at` is the event's time in UTC."""
        with self._changed:
            why = self._refusal(len(line))
            if why is None:
                self._accept(at, line)
        if why is not None:
            self.drop(why)

    def drop(self, why: str) -> None:
        """Count an event that is not captured, and say so at most once a minute."""
        with self._changed:
            self.dropped += 1
            quiet = self._seconds() - self._told_at < QUIET
        if not quiet:
            self._tell_dropped(why)

    def close(self) -> None:
        """Write what waits and stop; events that come later are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            atexit.unregister(self.close)
        if self.dropped > self._told:
            self._tell_dropped("it is closed now")

    def _refusal(self, size: int) -> str | None:
        """Return why an event cannot wait, None when it can."""
        if self._closed:
            return "it is closed, as the server is stopping"
        if self._low:
            return f"the disk is low (min_free_bytes={self._min_free_bytes}): free some space"
        if self._bytes + size > self._queue_bytes:
            return f"events come faster than they are written (queue_bytes={self._queue_bytes}): check the storage"
        return None

    def _accept(self, at: datetime, line: bytes) -> None:
        self._waiting.append((at, line))
        self._bytes += len(line)
        if self._thread is None:
            self._start()
        elif len(self._waiting) == 1 or self._is_much:
            self._changed.notify()

    def _start(self) -> None:
        atexit.register(self.close)
        self._thread = Thread(target=self._run, name="shapwatch-capture", daemon=True)
        self._thread.start()

    @property
    def _is_much(self) -> bool:
        return self._bytes >= self._queue_bytes / 4

    def _run(self) -> None:
        open_ = True
        while open_:
            open_ = self._await_flush()
            self._flush()
        for _ in self._waiting:
            self.drop("it had to close before they could be written")

    def _await_flush(self) -> bool:
        """Wait for an event, then for company, after a failure the full time; return False for the last flush."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            self._changed.wait_for(
                lambda: self._closed or (self._is_much and not self._failing and not self._low), self._flush_seconds
            )
            return not self._closed

    def _flush(self) -> None:
        """Write what waits; what cannot be written waits on."""
        self._look_at_disk()
        if self._low:
            return
        with self._changed:
            taken, self._waiting = self._waiting, []
        problems = [problem for events in _by_hour(taken) if (problem := self._attempt(events))]
        self._tell_failing(problems)

    def _attempt(self, events: list[Timed]) -> str | None:
        """Write the events of an hour, or put them back and return what went wrong."""
        lines = [line for _, line in events]
        try:
            _write(self._location(events), lines)
        except (StorageError, OSError) as error:
            with self._changed:
                self._waiting[:0] = events
            return disk_sentence(error) if isinstance(error, OSError) else str(error)
        with self._changed:
            self._bytes -= sum(map(len, lines))
            self.captured += len(lines)
        return None

    def _location(self, events: list[Timed]) -> str:
        first = min(at for at, _ in events)
        name = f"{first:%M-%S}-{first.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
        return storage.join(self.root, f"{first:%Y/%m/%d/%H}", name)

    def _look_at_disk(self) -> None:
        """Stop when the local disk is low, go on when it is not any more, and say so."""
        free = self._free_bytes()
        low = free is not None and free < self._min_free_bytes
        if low == self._low:
            return
        self._low = low
        figures = f"the disk of {self.root} has {free} bytes left, min_free_bytes={self._min_free_bytes}"
        if low:
            logger.warning("data capture has stopped: %s; it goes on by itself when there is more", figures)
        else:
            logger.warning("data capture goes on: %s", figures)

    def _free_bytes(self) -> int | None:
        """Return the space on the disk of the root, None where that is unknown."""
        if storage.is_remote(self.root):
            return None
        root = Path(self.root).absolute()
        with suppress(OSError):
            return self._disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
        return None

    def _tell_failing(self, problems: list[str]) -> None:
        failing = bool(problems)
        if failing and not self._failing:
            logger.warning("data capture cannot write, and keeps its events for another try: %s", problems[0])
        if self._failing and not failing:
            logger.warning("data capture writes to %s again", self.root)
        self._failing = failing

    def _tell_dropped(self, why: str) -> None:
        self._told, self._told_at = self.dropped, self._seconds()
        logger.warning("data capture to %s has dropped %s so far: %s", self.root, plural(self._told, "event"), why)


def _by_hour(events: Iterable[Timed]) -> list[list[Timed]]:
    hours: dict[tuple[object, int], list[Timed]] = {}
    for event in events:
        hours.setdefault((event[0].date(), event[0].hour), []).append(event)
    return list(hours.values())


def _write(location: str, lines: list[bytes]) -> None:
    """Write lines as `storage.write` would, without a second copy of them; a small buffer would mean many a switch."""
    with storage.replacing(location) as path, path.open("wb", buffering=BUFFER) as file:
        file.writelines(lines)
