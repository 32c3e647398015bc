"""The writer of capture files: a bounded queue of events, and one thread that writes them to files."""

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
from runner.domain.numbers import plural
from runner.errors import error_message
from runner.records.capture import file_name

logger = logging.getLogger("shapwatch")

WARNING_SECONDS = 60.0
"""Minimum seconds between two warnings about dropped events."""

CLOSE_SECONDS = 5.0
"""Seconds that a closing writer waits for its storage."""

EARLY_FLUSH_BYTES = 2**23
"""Number of queued bytes that starts a flush early; a quarter of the queue's limit if that is less."""


@dataclass
class HourBuffer:
    """The queued lines of one hour, in one buffer because it is much cheaper than many strings.

    Attributes:
        first: the time of the first event.
        lines: the concatenated lines.
        count: the number of lines.
    """

    first: datetime
    lines: bytearray = field(default_factory=bytearray)
    count: int = 0

    def add(self, at: datetime, lines: bytes | bytearray, count: int) -> None:
        """Append lines."""
        self.first = min(self.first, at)
        self.lines += lines
        self.count += count


class DiskUsage(Protocol):
    """The result of `shutil.disk_usage`."""

    @property
    def free(self) -> int:
        """The free bytes of the disk."""
        ...


class CaptureWriter:
    """Writer of capture lines in SageMaker's folder layout; it never blocks a request.

    Each flush writes the queued events to one new file per UTC hour,
    `{root}/yyyy/mm/dd/hh/{MM}-{SS}-{mmm}-{uuid4}.jsonl`, named after the time of its first event. A file is written
    under another name and renamed, so readers never see a truncated line. `kill -9` loses at most the queued events.

    Events that cannot be written stay in the queue for the next flush. If the queue or the local disk is full, new
    events are dropped. The first event starts the thread. A server may therefore fork its workers before the
    first event.

    Attributes:
        root: a local folder or a location in an object store.
        captured: the number of events written.
        dropped: the number of lost events, for example because the queue or the disk was full.
    """

    def __init__(
        self,
        root: str,
        flush_seconds: float,
        queue_bytes: int,
        min_free_bytes: int,
        *,
        disk_usage: Callable[[Path], DiskUsage] = shutil.disk_usage,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.root = root
        self.captured = 0
        self.dropped = 0
        self._flush_seconds = flush_seconds
        self._queue_bytes = queue_bytes
        self._early_flush_bytes = min(EARLY_FLUSH_BYTES, queue_bytes / 4)
        self._min_free_bytes = min_free_bytes
        self._disk_usage = disk_usage
        self._seconds = seconds
        self._changed = Condition()
        self._queued: dict[int, HourBuffer] = {}
        self._bytes = 0
        self._thread: Thread | None = None
        self._in_flight = 0
        self._closed = False
        self._disk_is_full = False
        self._failing = False
        self._warned = 0
        self._warned_at = float("-inf")

    @property
    def stopped(self) -> bool:
        """Whether new events are dropped, because the disk is full or the writer is closed."""
        return self._closed or self._disk_is_full

    def put(self, at: datetime, line: bytes) -> None:
        """Queue the line of an event, or drop it; `at` is the time of the event in UTC."""
        with self._changed:
            reason = self._drop_reason(len(line))
            if reason is None:
                self._accept(at, line)
        if reason is not None:
            self.drop(reason)

    def drop(self, reason: str, count: int = 1) -> None:
        """Count dropped events, and log a warning at most once a minute."""
        with self._changed:
            self.dropped += count
            warns = self._seconds() - self._warned_at >= WARNING_SECONDS
        if warns:
            self._warn_dropped(reason)

    def close(self) -> None:
        """Write the queued events and stop; later events are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        atexit.unregister(self.close)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                self._give_up()
        elif self._queued:
            self._run()
        if self.dropped > self._warned:
            self._warn_dropped("the writer is closed")

    def _give_up(self) -> None:
        """Drop the events that an unresponsive storage has not accepted; the thread ends with the process."""
        with self._changed:
            queued, self._queued = self._queued, {}
            count = self._in_flight + sum(buffer.count for buffer in queued.values())
        self.drop(f"the storage did not respond within {CLOSE_SECONDS:g} s", count)

    def _drop_reason(self, size: int) -> str | None:
        """Return the reason why an event cannot be queued, or None."""
        if self._closed:
            return "the server is stopping"
        if self._disk_is_full:
            return f"the disk is nearly full (min_free_bytes={self._min_free_bytes}); free some space"
        if self._bytes + size > self._queue_bytes:
            return f"the queue is full (queue_bytes={self._queue_bytes}); check the storage"
        return None

    def _accept(self, at: datetime, line: bytes) -> None:
        idle = not self._queued
        self._queue(at, line)
        self._bytes += len(line)
        if self._thread is None:
            self._start()
        if idle or self._flushes_early:
            self._changed.notify()

    def _queue(self, at: datetime, line: bytes) -> None:
        hour = _hour(at)
        buffer = self._queued.get(hour)
        if buffer is None:
            buffer = self._queued[hour] = HourBuffer(at)
        buffer.add(at, line, 1)

    def _queue_again(self, buffer: HourBuffer) -> None:
        """Queue a buffer before newer events of its hour, without a copy of its lines."""
        newer = self._queued.get(_hour(buffer.first))
        if newer is not None:
            buffer.add(newer.first, newer.lines, newer.count)
        self._queued[_hour(buffer.first)] = buffer

    def _start(self) -> None:
        """Start the thread, or try again with the next event if the process may start no more threads."""
        if not self._failing:
            atexit.register(self.close)
        thread = Thread(target=self._run, name="shapwatch-capture", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            self._warn_failing([str(error)])
        else:
            self._thread = thread

    def _is_flush_due(self) -> bool:
        """Return whether to flush before `flush_seconds` have passed; never early while writing fails."""
        return self._closed or (self._flushes_early and not self._failing and not self._disk_is_full)

    @property
    def _flushes_early(self) -> bool:
        return self._bytes >= self._early_flush_bytes

    def _run(self) -> None:
        running = True
        while running:
            running = self._await_flush()
            self._flush()
        unwritten, self._queued = self._queued, {}
        for buffer in unwritten.values():
            self.drop("the writer closed before they could be written", buffer.count)

    def _await_flush(self) -> bool:
        """Wait for an event and then until the flush is due; return False for the last flush."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._queued)
            self._changed.wait_for(self._is_flush_due, self._flush_seconds)
            return not self._closed

    def _flush(self) -> None:
        """Write the queued events; after a failure they stay in the queue."""
        self._check_disk()
        if self._disk_is_full:
            return
        with self._changed:
            buffers, self._queued = self._queued, {}
            self._in_flight = sum(buffer.count for buffer in buffers.values())
        problems = [problem for buffer in buffers.values() if (problem := self._write(buffer))]
        self._in_flight = 0
        self._warn_failing(problems)

    def _write(self, buffer: HourBuffer) -> str | None:
        """Write the events of an hour; after a failure queue them again and return the problem.

        The thread survives any failure: without it, all later events would be lost.
        """
        try:
            with storage.replace_file(self._location(buffer.first)) as path, path.open("wb") as file:
                file.write(buffer.lines)
        except Exception as error:  # noqa: BLE001  the thread must survive; the event stays queued
            with self._changed:
                self._queue_again(buffer)
            return error_message(error) or type(error).__name__
        with self._changed:
            self._bytes -= len(buffer.lines)
            self.captured += buffer.count
        return None

    def _location(self, first: datetime) -> str:
        return storage.join(self.root, file_name(first, str(uuid.uuid4())))

    def _check_disk(self) -> None:
        """Stop capture if the local disk is nearly full, resume it once there is enough space, and log each change."""
        free = self._free_bytes()
        is_full = free is not None and free < self._min_free_bytes
        if is_full == self._disk_is_full:
            return
        self._disk_is_full = is_full
        free_space = f"the disk of {self.root} has {free} free bytes, min_free_bytes={self._min_free_bytes}"
        if is_full:
            logger.warning(
                "data capture has stopped: %s; it resumes automatically once there is enough space", free_space
            )
        else:
            logger.warning("data capture has resumed: %s", free_space)

    def _free_bytes(self) -> int | None:
        """Return the free bytes on the disk of the root, or None if unknown."""
        if storage.is_remote(self.root):
            return None
        root = Path(self.root).absolute()
        with suppress(OSError):
            return self._disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
        return None

    def _warn_failing(self, problems: list[str]) -> None:
        failing = bool(problems)
        if failing and not self._failing:
            logger.warning("data capture cannot write, the events stay queued: %s", problems[0])
        if self._failing and not failing:
            logger.warning("data capture can write to %s again", self.root)
        self._failing = failing

    def _warn_dropped(self, reason: str) -> None:
        self._warned, self._warned_at = self.dropped, self._seconds()
        logger.warning("data capture to %s has dropped %s so far: %s", self.root, plural(self._warned, "event"), reason)


def _hour(at: datetime) -> int:
    return 24 * at.toordinal() + at.hour
