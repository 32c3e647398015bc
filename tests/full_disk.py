"""A daemon whose disk is full during one execution; a test runs it in a separate mount namespace.

Prints one JSON line: status and reason of the execution on the full disk, status and reason of the later executions,
and the hidden directories that remain.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import orjson

from runner.domain.executions import Status
from runner.scheduling.ledger import Ledger
from tests.history_samples import MONITOR_FOLDER, TrafficHistory, settle
from tests.processes import daemon, wait_until

SPARE = 16_384
"""Free bytes: enough for the log, too few for a report."""


def main(folder: Path) -> None:
    """Fill the disk, wait for a failed execution, free the space, and wait for the other executions."""
    root = folder / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
    url = f"sqlite:///{folder}/ledger.sqlite"
    history = TrafficHistory(root, 3, (f"ledger.url={url}",))
    history.prepare()
    with Ledger(url, 30) as ledger:
        history.schedule(ledger)
        filler = root / "filler"
        with daemon(root, *history.settings, "stage.poll_seconds=0.5"):
            wait_until(lambda: ledger.executions.newest(statuses=[Status.IN_PROGRESS]))
            fill(filler)
            until = time.monotonic() + 60
            while not (failed := ledger.executions.newest(statuses=[Status.FAILED])) and time.monotonic() < until:
                time.sleep(0.05)
            filler.unlink()
            entries = settle(ledger)
    later = [(entry.status, entry.failure_reason) for entry in entries if entry.id != failed[0].id]
    remaining = [str(path) for path in (root / MONITOR_FOLDER).rglob(".*")]
    print(orjson.dumps([[failed[0].status, failed[0].failure_reason], later, remaining]).decode())  # noqa: T201


def fill(filler: Path) -> None:
    """Fill the disk except for SPARE bytes."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(max(0, filler.stat().st_size - SPARE))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
