"""Processes of executions, each in its own session, and the signal handlers of the daemon that starts them.

The standard input of a process is a pipe from its parent. If the parent dies, even by SIGKILL, the pipe closes, and the
guard of the process ends everything that it started. The last line of standard output is the result as JSON.

A signal handler of the daemon only counts the signal. A pipe then wakes the waiting daemon, which acts on the count.
The handler uses no lock, because it may interrupt code that holds one. Other threads call `request_stop`, which wakes
the daemon and counts the request under a lock. The daemon reads the count only after this lock is released.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock, Thread
from types import FrameType, TracebackType
from typing import IO, TYPE_CHECKING, Self

import orjson

from runner import guard, subprocesses
from runner.domain.executions import Execution, Status
from runner.domain.schedules import ExecutionRecord, Snapshot

if TYPE_CHECKING:
    from runner.scheduling.ledger import Ledger


LAST_LINES = 20
"""Number of lines of standard error in a failure reason."""
MAX_CHARACTERS = 600
"""Maximum number of characters of standard error in a failure reason."""
MAX_LINE_BYTES = 1 << 16
"""Maximum size of a line of output in bytes; a longer line counts as several lines."""
MAX_OUTPUT_BYTES = 1 << 20
"""Number of bytes at the end of standard output that are stored."""
MAX_RESULT_CHARACTERS = 10_000
"""Maximum number of characters of each string in a reported result, so that its line is always stored."""
INVALID = 2
"""Exit code of a process that did not run because of invalid input, with the message as its last lines of output."""
RELAY_SECONDS = 5.0
"""Maximum number of seconds to wait for remaining output after the end of a process."""
VARIABLES = {"execution": "SHAPWATCH_EXECUTION", "schedule": "SHAPWATCH_SCHEDULE"}
"""Environment variables with the execution and schedule of a process, for its log lines."""
FENCE = "SHAPWATCH_FENCE"
"""Environment variable with the claim under which a process runs an execution."""
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class ProcessExit:
    """Exit of a process.

    Attributes:
        code: exit code; −9 after signal 9.
        peak_memory: peak memory of its largest process, in bytes; at least the parent's memory at the start.
        output: standard output; of a long one, its end.
        errors: last lines of standard error.
    """

    code: int
    peak_memory: int
    output: str
    errors: str

    @property
    def result(self) -> Execution | None:
        """Result that the process reported; None if it ended without reporting one."""
        try:
            result = Execution(**orjson.loads(self.output.strip().rpartition("\n")[2]))
            return replace(result, status=Status(result.status))
        except (TypeError, ValueError):
            return None

    @property
    def reason(self) -> str:
        """Reason for the end of a process without result."""
        if self.code == -signal.SIGKILL:
            peak = f"{self.peak_memory / 2**20:,.0f} MiB"
            return f"its process was ended by SIGKILL: manually, or because memory ran out (peak memory {peak})"
        if self.code < 0:
            return f"its process was ended by {signal.Signals(-self.code).name}{self._excerpt}"
        if "MemoryError" in self.errors:
            return f"its process ran out of memory{self._excerpt}"
        if self.code == INVALID and (message := f"\n{self.errors}".rpartition("\nerror: ")[2]):
            return message[:MAX_CHARACTERS]
        return f"its process ended with exit code {self.code}, without a result{self._excerpt}"

    @property
    def _excerpt(self) -> str:
        return f": {self.errors[-MAX_CHARACTERS:]}" if self.errors else ""


class Child:
    """A child process in its own session. Everything that it started ends with it."""

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        folder: str | None,
        environment: Mapping[str, str],
        relay: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        """Start a process.

        Args:
            command: function that returns the command for a temporary folder. The folder is removed after the process.
            folder: working folder; None for the temporary folder.
            environment: environment variables.
            relay: function that receives each line of standard error.

        Raises:
            OSError: if the process cannot be started.
        """
        self._scratch = TemporaryDirectory(prefix="shapwatch-", ignore_cleanup_errors=True)
        try:
            self._process = self._start(command(self._scratch.name), folder, environment)
        except OSError:
            self._scratch.cleanup()
            raise
        self._ended, self._signalling, self._is_reaped = Event(), Lock(), False
        self._output = bytearray()
        self._errors: deque[str] = deque(maxlen=LAST_LINES)
        self._relay = relay
        self._code = self._peak = 0
        self._relays = [
            Thread(target=_relay, args=(self._process.stdout, self._store), daemon=True),
            Thread(target=_relay, args=(self._process.stderr, self._log), daemon=True),
        ]
        for thread in (*self._relays, Thread(target=self._await_end, daemon=True)):
            thread.start()

    def _start(
        self, command: Sequence[str], folder: str | None, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603  our own program
            command,
            cwd=folder or self._scratch.name,
            env={**environment, "TMPDIR": self._scratch.name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Number of the process and of its group."""
        return self._process.pid

    def wait(self, seconds: float | None = None) -> ProcessExit | None:
        """Wait for the end of the process, and return its exit; None if it is still running after `seconds`."""
        if not self._ended.wait(seconds):
            return None
        until = time.monotonic() + RELAY_SECONDS
        for thread in self._relays:
            thread.join(max(0, until - time.monotonic()))
        errors = "\n".join(line.strip() for line in self._errors)
        output = self._output[-MAX_OUTPUT_BYTES:].decode("utf-8", "backslashreplace")
        return ProcessExit(self._code, self._peak, output, errors)

    def stop(self, grace: float) -> ProcessExit:
        """Send SIGTERM, and SIGKILL if the process is still running after `grace` seconds."""
        self._signal(signal.SIGTERM)
        if end := self.wait(grace):
            return end
        self._signal(signal.SIGKILL)
        end = self.wait()
        assert end  # noqa: S101  no process survives SIGKILL
        return end

    def _await_end(self) -> None:
        """Wait for the end of the process; end everything it started before the process number is free again."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        with self._signalling:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            guard.end_members(self.pid)
            _, status, usage = os.wait4(self.pid, 0)
            self._is_reaped = True
        self._code = self._process.returncode = os.waitstatus_to_exitcode(status)
        self._peak = maxrss_bytes(usage.ru_maxrss)
        if self._process.stdin:
            with suppress(OSError):
                self._process.stdin.close()
        self._scratch.cleanup()
        self._ended.set()

    def _store(self, line: bytes) -> None:
        self._output += line
        if len(self._output) > 2 * MAX_OUTPUT_BYTES:
            del self._output[:-MAX_OUTPUT_BYTES]

    def _log(self, line: bytes) -> None:
        text = line.decode("utf-8", "backslashreplace")
        self._errors.append(text)
        with suppress(OSError, ValueError):  # a full disk or a closed stream of the parent must not end the process
            self._relay(text)

    def _signal(self, number: int) -> None:
        with self._signalling:
            if self._is_reaped:
                return
            if number == signal.SIGKILL:
                guard.end_members(self.pid)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)


def launch(ledger: Ledger, configure: Callable[[Snapshot, ExecutionRecord], str], execution: ExecutionRecord) -> Child:
    """Start the process of an execution, or of the publication of its recorded result.

    A publication also starts without the folder of the settings, whose absence may be the failure to publish.

    Args:
        ledger: ledger with the snapshot.
        configure: function that returns the configuration of the process as YAML.
        execution: execution.

    Raises:
        OSError: if the process cannot be started, for example because the folder of its settings is missing.
        LedgerError: if the snapshot cannot be read.
        SettingsError: if the snapshot is damaged.
    """
    from runner.scheduling.ledger.fence import Fence

    snapshot = ledger.snapshot(execution.snapshot)
    settings = configure(snapshot, execution)
    ids = {VARIABLES["execution"]: str(execution.id), VARIABLES["schedule"]: execution.schedule}
    ids[FENCE] = Fence(ledger, execution.claim, is_recorded=execution.status.terminal).dump()
    is_usable = not execution.status.terminal or Path(snapshot.folder).is_dir()
    return Child(
        lambda scratch: subprocesses.command(scratch, settings),
        snapshot.folder if is_usable else None,
        {**subprocesses.environment(), **ids},
    )


def log_context(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the execution and schedule of this process, for its log lines."""
    return {key: environment[name] for key, name in VARIABLES.items() if name in environment}


def result_line(result: Execution) -> bytes:
    """Return the line in which a process reports its result to its parent."""
    short = replace(
        result,
        message=result.message[:MAX_RESULT_CHARACTERS],
        directory=str(Path(result.directory).absolute()) if result.directory else "",
        failure_reason=result.failure_reason and result.failure_reason[:MAX_RESULT_CHARACTERS],
    )
    return b"\n" + orjson.dumps(asdict(short)) + b"\n"


def maxrss_bytes(maxrss: int) -> int:
    """Convert the peak memory in a resource usage to bytes."""
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def _relay(stream: IO[bytes], receive: Callable[[bytes], object]) -> None:
    with stream:
        while line := stream.readline(MAX_LINE_BYTES):
            receive(line)


class Signals:
    """Counter of signals: SIGTERM and SIGINT, which request a stop, and SIGHUP.

    Attributes:
        stop_requests: number of stop requests.
    """

    def __init__(self, on_sighup: Callable[[], object]) -> None:
        """Create counters; the handlers are installed on entry, in the main thread.

        Args:
            on_sighup: function that `wait` calls after a SIGHUP.
        """
        self.stop_requests = 0
        self._on_sighup, self._sighups = on_sighup, 0
        self._requesting = Lock()
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def __enter__(self) -> Self:
        self._handlers = {number: signal.signal(number, self._count_stop) for number in STOP_SIGNALS}
        self._handlers[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._count_sighup)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        for end in (self._read, self._write):
            os.close(end)

    def request_stop(self) -> None:
        """Request a stop, as a signal does; any thread may call this method."""
        with self._requesting:
            os.write(self._write, b"\0")
            self.stop_requests += 1

    def wait(self, seconds: float) -> bool:
        """Wait for `seconds` or a signal, and return whether a stop was requested."""
        if not self.stop_requests and select.select([self._read], [], [], seconds)[0]:
            with self._requesting:
                os.read(self._read, 4096)
        while self._sighups:
            self._sighups -= 1
            self._on_sighup()
        return self.stop_requests > 0

    def _count_stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_requests += 1

    def _count_sighup(self, _number: int, _frame: FrameType | None) -> None:
        self._sighups += 1
