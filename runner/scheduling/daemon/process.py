"""A process that runs one execution, with all that it starts: a process group of its own, gone when it ends.

Its standard input is a leash: where `stage.attached` is set, the group ends when this process does, even by SIGKILL.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import IO

LAST_LINES = 20
LAST_WORDS = 600
RELAY_SECONDS = 5.0


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        code: its exit code; −9 when signal 9 ended it.
        peak_memory: in bytes, of the largest of its processes; the system counts in what we had when we started it.
        answer: what it wrote to its standard output.
        said: the last lines that it wrote to its standard error.
    """

    code: int
    peak_memory: int
    answer: str
    said: str

    @property
    def reason(self) -> str:
        """Why there is no result, as a sentence."""
        if self.code == -signal.SIGKILL:
            peak = f"{self.peak_memory / 2**20:,.0f} MiB"
            return f"its process was ended by SIGKILL: by hand, or because memory ran out (it had used {peak})"
        if self.code < 0:
            return f"its process was ended by {signal.Signals(-self.code).name}{self._told}"
        if "MemoryError" in self.said:
            return f"its process ran out of memory{self._told}"
        return f"its process ended with exit code {self.code}, without a result{self._told}"

    @property
    def _told(self) -> str:
        return f": {self.said[-LAST_WORDS:]}" if self.said else ""


class Child:
    """A process that was started, in a group of its own."""

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        folder: str,
        environment: Mapping[str, str],
        tell: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        """Start a process.

        Args:
            command: gives what to run, for a scratch folder that is there as long as the process.
            folder: where to run it.
            environment: its variables.
            tell: is given each line of its standard error.

        Raises:
            OSError: when it cannot be started.
        """
        self._scratch = TemporaryDirectory(prefix="shapwatch-", ignore_cleanup_errors=True)
        try:
            self._process = self._start(command(self._scratch.name), folder, environment)
        except OSError:
            self._scratch.cleanup()
            raise
        self._ended = Event()
        self._answer: list[str] = []
        self._said: deque[str] = deque(maxlen=LAST_LINES)
        self._code = self._peak = 0
        self._relays = [
            Thread(target=_relay, args=(self._process.stdout, self._answer.append), daemon=True),
            Thread(target=_relay, args=(self._process.stderr, self._said.append, tell), daemon=True),
        ]
        for thread in (*self._relays, Thread(target=self._watch, daemon=True)):
            thread.start()

    def _start(self, command: Sequence[str], folder: str, environment: Mapping[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603  our own program
            command,
            cwd=folder,
            env={**environment, "TMPDIR": self._scratch.name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The number of the process, and of its group."""
        return self._process.pid

    def wait(self, seconds: float | None = None) -> End | None:
        """Return how it ended, or None when it is still running after so many seconds."""
        if not self._ended.wait(seconds):
            return None
        until = time.monotonic() + RELAY_SECONDS
        for thread in self._relays:
            thread.join(max(0, until - time.monotonic()))
        said = "\n".join(line.strip() for line in self._said)
        return End(self._code, self._peak, "".join(self._answer), said)

    def stop(self, grace: float) -> End:
        """Return how it ended after SIGTERM, or, when it is deaf to that for so many seconds, SIGKILL."""
        for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, None)):
            self._signal(number)
            if end := self.wait(seconds):
                return end
        raise AssertionError("nothing outlives SIGKILL")

    def _watch(self) -> None:
        """Wait for the end; take with it what it leaves behind while its number still is its own."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        self._code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._peak = bytes_of(usage.ru_maxrss)
        if self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()
        self._scratch.cleanup()
        self._ended.set()

    def _signal(self, number: int) -> None:
        if not self._ended.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def bytes_of(maxrss: int) -> int:
    """Return a peak of memory, as the system counts it, in bytes."""
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def _relay(lines: IO[str], *takers: Callable[[str], object]) -> None:
    with lines:
        for line in lines:
            for take in takers:
                take(line)


def end_with_parent(scratch: str | None) -> None:
    """Let this process and its group end when its standard input does: the process that started it is gone then.

    Args:
        scratch: the folder that would have been removed by it.
    """
    Thread(target=_hold, args=[scratch], daemon=True).start()


def _hold(scratch: str | None) -> None:
    with suppress(OSError):
        while os.read(0, 1 << 16):
            pass
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
