"""A Dask cluster for tests: a scheduler and two worker processes on loopback, started by their commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        address: address of the scheduler.
        processes: the process of the scheduler, and that of the workers if there are any.
    """

    address: str
    processes: Sequence[subprocess.Popen[str]]

    @property
    def scheduler(self) -> int:
        """Process id of the scheduler."""
        return self.processes[0].pid

    def end(self, *, scheduler: bool) -> None:
        """End the scheduler, or all workers."""
        process = self.processes[0 if scheduler else 1]
        process.terminate()
        process.wait(60)


@contextmanager
def dask_cluster(directory: Path, workers: int = 2, options: Sequence[str] = ()) -> Iterator[Cluster]:
    """Yield a scheduler with workers, each a process with one thread."""
    with _running("scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard", cwd=directory) as scheduler:
        address = _logged(scheduler, r"Scheduler at:\s+(tcp://\S+)")
        if not workers:
            yield Cluster(address, [scheduler])
            return
        options = (f"--nworkers={workers}", "--nthreads=1", "--no-dashboard", "--host=127.0.0.1", *options)
        with _running("worker", address, *options, cwd=directory) as worker:
            for _ in range(workers):
                _logged(worker, r"(Registered to:\s+tcp)")
            yield Cluster(address, [scheduler, worker])


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
