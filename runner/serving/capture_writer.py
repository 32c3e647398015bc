"""The writer of capture files: a bounded queue, and one thread that empties it into files."""

from __future__ import annotations

import atexit
import logging
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Condition, Thread
from typing import Protocol

from runner import storage
from runner.domain.text import plural
from runner.errors import StorageError, disk_sentence
from runner.records.capture import file_name

logger = logging.getLogger("shapwatch")

QUIET = 60.0
"""Seconds between two warnings about dropped events."""

PATIENCE = 5.0
"""Seconds that a closing writer waits for its storage; who stops a server does not wait for long."""

MUCH = 2**23
"""So many bytes, or a quarter of what the queue may hold, are written at once."""


@dataclass
class Waiting:
    """The lines of an hour that wait, end to end: as one piece they cost a server a fraction of what many would.

    Attributes:
        first: the time of the first event.
        lines: the lines.
        count: how many there are.
    """

    first: datetime
    lines: bytearray = field(default_factory=bytearray)
    count: int = 0

    def add(self, at: datetime, lines: bytes | bytearray, count: int) -> None:
        """Let more lines wait."""
        self.first = min(self.first, at)
        self.lines += lines
        self.count += count


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
        self._much = min(MUCH, queue_bytes / 4)
        self._min_free_bytes = min_free_bytes
        self._disk_usage = disk_usage
        self._seconds = seconds
        self._changed = Condition()
        self._waiting: dict[int, Waiting] = {}
        self._bytes = 0
        self._thread: Thread | None = None
        self._under_way = 0
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

    def drop(self, why: str, count: int = 1) -> None:
        """Count events that are not captured, and say so at most once a minute."""
        with self._changed:
            self.dropped += count
            quiet = self._seconds() - self._told_at < QUIET
        if not quiet:
            self._tell_dropped(why)

    def close(self) -> None:
        """Write what waits and stop; events that come later are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            atexit.unregister(self.close)
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                self._give_up()
        if self.dropped > self._told:
            self._tell_dropped("it is closed now")

    def _give_up(self) -> None:
        """Drop what a storage that does not answer keeps from being written; the thread ends with the process."""
        with self._changed:
            waiting, self._waiting = self._waiting, {}
            count = self._under_way + sum(each.count for each in waiting.values())
        self.drop("the storage did not answer in time", count)

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
        idle = not self._waiting
        self._keep(at, line, 1)
        self._bytes += len(line)
        if self._thread is None:
            self._start()
        elif idle or self._is_much:
            self._changed.notify()

    def _keep(self, at: datetime, lines: bytes | bytearray, count: int) -> None:
        hour = 24 * at.toordinal() + at.hour
        waiting = self._waiting.get(hour)
        if waiting is None:
            waiting = self._waiting[hour] = Waiting(at)
        waiting.add(at, lines, count)

    def _start(self) -> None:
        atexit.register(self.close)
        self._thread = Thread(target=self._run, name="shapwatch-capture", daemon=True)
        self._thread.start()

    @property
    def _is_much(self) -> bool:
        return self._bytes >= self._much

    def _run(self) -> None:
        open_ = True
        while open_:
            open_ = self._await_flush()
            self._flush()
        for waiting in self._waiting.values():
            self.drop("it had to close before they could be written", waiting.count)

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
            taken, self._waiting = self._waiting, {}
            self._under_way = sum(waiting.count for waiting in taken.values())
        problems = [problem for waiting in taken.values() if (problem := self._attempt(waiting))]
        self._under_way = 0
        self._tell_failing(problems)

    def _attempt(self, waiting: Waiting) -> str | None:
        """Write the events of an hour, or put them back and return what went wrong."""
        try:
            with storage.replacing(self._location(waiting.first)) as path:
                path.write_bytes(waiting.lines)
        except (StorageError, OSError) as error:
            with self._changed:
                later, self._waiting = self._waiting, {}
                self._keep(waiting.first, waiting.lines, waiting.count)
                for more in later.values():
                    self._keep(more.first, more.lines, more.count)
            return disk_sentence(error) if isinstance(error, OSError) else str(error)
        with self._changed:
            self._bytes -= len(waiting.lines)
            self.captured += waiting.count
        return None

    def _location(self, first: datetime) -> str:
        return storage.join(self.root, file_name(first, str(uuid.uuid4())))

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
