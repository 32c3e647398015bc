"""Processes that run until they are stopped (an endpoint, a daemon), and waiting for a condition."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import orjson

from tests.cli_runner import CHECKOUT, HANG_SECONDS


def in_new_process(function: Callable[..., int], *arguments: object) -> int:
    """Call a function in a new process, where no thread of another test allocates memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        if not Path("/proc").exists():
            return True
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def wait_until(condition: Callable[[], object], seconds: float = HANG_SECONDS) -> None:
    """Wait for a condition, and fail if it does not become true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition was not true within {seconds:g} s"
        time.sleep(0.002)


@dataclass
class Endpoint:
    """A served endpoint.

    Attributes:
        url: URL of its invocations.
        output: its output after the first line, once it has stopped.
    """

    url: str
    process: subprocess.Popen[str]
    output: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host and port: the `endpoint_url` of boto3."""
        return self.url.partition("/endpoints/")[0]


@contextmanager
def served(root: Path, experiment: str, *overrides: str) -> Iterator[Endpoint]:
    """Yield an endpoint for the model of an experiment; SIGTERM stops it at the end, after everything is captured."""
    arguments = [f"experiment={experiment}", f"paths.root={root}", "stage=serve", "stage.port=0", *overrides]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "runner", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=CHECKOUT,
    )
    assert process.stdout
    line = process.stdout.readline()
    endpoint = Endpoint(line.split()[-1] if line else "", process)
    try:
        assert line.startswith("serving "), line + process.stdout.read()
        yield endpoint
    finally:
        process.terminate()
        endpoint.output, _ = process.communicate(timeout=HANG_SECONDS)


@dataclass
class Daemon:
    """A daemon with its log file."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return the log lines so far."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def logged(self, text: str) -> bool:
        """Return whether a log message contains a string."""
        return any(text in line["message"] for line in self.lines())

    def wait_for(self, text: str, seconds: float = HANG_SECONDS) -> None:
        """Wait for a log message that contains a string."""
        deadline = time.monotonic() + seconds
        while not self.logged(text):
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return self.process.wait(HANG_SECONDS)


def start_daemon(root: Path, *overrides: str, options: tuple[str, ...] = ()) -> Daemon:
    """Start a daemon with all files below `root`."""
    arguments = [*options, f"paths.root={root}", "stage=daemon", "stage.poll_seconds=0.1", *overrides]
    root.mkdir(parents=True, exist_ok=True)
    log = root / f"daemon-{time.monotonic_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "runner", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            cwd=CHECKOUT,
        )
    return Daemon(process, log)


@contextmanager
def daemon(root: Path, *overrides: str, options: tuple[str, ...] = (), wait: str = "leading") -> Iterator[Daemon]:
    """Yield a daemon with all files below `root`, after its log contains `wait`; SIGTERM stops it at the end."""
    running = start_daemon(root, *overrides, options=options)
    try:
        running.wait_for(wait)
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
