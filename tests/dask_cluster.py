"""A Dask cluster for tests: a scheduler and two worker processes on loopback, started by their commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}


@contextmanager
def dask_cluster(directory: Path) -> Iterator[str]:
    """Yield the address of a scheduler with two workers, each a process with one thread."""
    with _running("scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", cwd=directory) as scheduler:
        address = _logged(scheduler, r"Scheduler at:\s+(tcp://\S+)")
        options = ("--nworkers=2", "--nthreads=1", "--no-dashboard", "--host=127.0.0.1")
        with _running("worker", address, *options, cwd=directory) as worker:
            for _ in range(2):
                _logged(worker, r"(Registered to:\s+tcp)")
            yield address


@contextmanager
def _running(*arguments: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | ONE_THREAD,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def _logged(process: subprocess.Popen[str], pattern: str) -> str:
    """Return the first match of a pattern in the log of a process."""
    assert process.stderr
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"{process.args!r} ended without a log line like {pattern}")
