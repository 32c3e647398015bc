"""The renderer: a process that draws charts, so that a crash of the drawing library costs a chart, and not a verdict.

The library contains a JavaScript engine, which ends its process if memory is limited or runs out. The process reads one
specification per line, and writes one line of JSON for each; it ends with its standard input.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from threading import Lock, Timer
from typing import IO, Any

from runner import subprocesses

CHART_SECONDS = 120.0
"""Maximum number of seconds to draw one chart, including the starts of processes."""
ATTEMPTS = 3
"""Maximum number of processes that try to draw a chart, within `CHART_SECONDS` in total."""


class Renderer:
    """A process that draws charts; it starts with the first chart, and again after a crash.

    A chart is drawn again after a crash, because a process may also be killed from outside.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._drawing = Lock()
        atexit.register(self.close)

    def svg(self, specification: Mapping[str, Any]) -> str:
        """Return a Vega-Lite specification with data as SVG; any thread may call this method.

        Raises:
            ValueError: if the specification is invalid, or the process crashes or hangs.
        """
        line = json.dumps(specification).encode() + b"\n"
        with self._drawing:
            end = time.monotonic() + CHART_SECONDS
            for _ in range(ATTEMPTS):
                if answer := self._draw(line, end):
                    break
                code = self.close()
            else:
                ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
                raise ValueError(f"the process that draws charts {ended}; check the memory limit (ulimit -v)")
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["svg"]

    def _draw(self, line: bytes, end: float) -> dict[str, str] | None:
        """Return the answer to a specification; None if the process has ended, or is killed at a monotonic time."""
        process = self._process = self._process or _start()
        watchdog = Timer(max(0, end - time.monotonic()), process.kill)
        watchdog.start()
        try:
            return _answer(process, line)
        except BaseException:
            self.close()
            raise
        finally:
            watchdog.cancel()

    def close(self) -> int:
        """End the process, and return its exit code; 0 if there is none."""
        process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe:
                    pipe.close()
        try:
            return process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "runner.report.renderer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=subprocesses.environment(),
    )


def _answer(process: subprocess.Popen[bytes], line: bytes) -> dict[str, str] | None:
    """Send a specification to the process, and return its answer; None if it has ended."""
    assert process.stdin  # noqa: S101
    assert process.stdout  # noqa: S101
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return None
    answer = process.stdout.readline()
    return json.loads(answer) if answer.endswith(b"\n") else None


def serve(specifications: IO[bytes], answers: IO[bytes]) -> None:
    """Draw each specification, and write one line for each: the SVG, or the error."""
    import vl_convert

    for line in specifications:
        try:
            answer = {"svg": vl_convert.vegalite_to_svg(json.loads(line), allowed_base_urls=[])}
        except ValueError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    with os.fdopen(os.dup(1), "wb") as stdout:
        os.dup2(2, 1)  # so that output of the library is not read as an answer
        serve(sys.stdin.buffer, stdout)
