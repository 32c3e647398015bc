"""What runs until it is told to end, as a process of its own: an endpoint, a daemon."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.cli_runner import CHECKOUT

END_SECONDS = 40
BEGIN_SECONDS = 20


@dataclass
class Endpoint:
    """A served endpoint: where it answers, its process, and what it printed in the end."""

    url: str
    process: subprocess.Popen[str]
    told: str = ""

    @property
    def origin(self) -> str:
        """What boto3 calls the endpoint's URL: scheme, host and port."""
        return self.url.partition("/endpoints/")[0]


@contextmanager
def served(root: Path, experiment: str, *overrides: str) -> Iterator[Endpoint]:
    """Yield an endpoint for an experiment's model; leaving ends it with SIGTERM, so that everything is captured."""
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
        endpoint.told, _ = process.communicate(timeout=END_SECONDS)


@dataclass
class Daemon:
    """A daemon: its process, and the file that it logs into."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged so far."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def said(self, text: str) -> bool:
        """Return whether it has said something."""
        return any(text in line["message"] for line in self.lines())

    def wait_for(self, text: str, seconds: float = BEGIN_SECONDS) -> None:
        """Wait until it says something."""
        until = time.monotonic() + seconds
        while not self.said(text):
            assert time.monotonic() < until, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Return its exit code after a signal."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return self.process.wait(END_SECONDS)


def start_daemon(root: Path, *overrides: str, options: tuple[str, ...] = ()) -> Daemon:
    """Return a daemon with everything below `root`, which has just been started."""
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
    """Yield a daemon with everything below `root`, once it has said something; leaving ends it with SIGTERM."""
    running = start_daemon(root, *overrides, options=options)
    try:
        running.wait_for(wait)
        yield running
    finally:
        if running.process.poll() is None:
            running.end()
