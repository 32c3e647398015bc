"""A daemon whose disk is full for one hour; run in a mount namespace of its own by a test.

Prints one JSON line: status and reason of the hour that met the full disk, those of the later ones, and what is left
of half-written directories.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import orjson

from runner.domain.executions import Status
from runner.scheduling.ledger.ledger import Ledger
from tests.history_samples import PLACE, AlertHistory, settle
from tests.processes import daemon

SPARE = 16_384
"""Bytes that are left: enough for the log, too little for a report."""


def main(folder: Path) -> None:
    """Fill the disk, let an hour fail, make space, let the others run."""
    root = folder / "small"
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(root)], check=True)
    url = f"sqlite:///{folder}/ledger.sqlite"
    past = AlertHistory(root, 3, (f"ledger.url={url}",))
    past.prepare()
    with Ledger(url, 30) as ledger:
        past.schedule(ledger)
        filler = root / "filler"
        with daemon(root, *past.settings, "stage.poll_seconds=0.5") as running:
            running.wait_for("starting attempt 1")
            fill(filler)
            until = time.monotonic() + 60
            while not (failed := ledger.executions.newest(statuses=[Status.FAILED])) and time.monotonic() < until:
                time.sleep(0.05)
            filler.unlink()
            entries = settle(ledger)
    later = [(entry.status, entry.failure_reason) for entry in entries if entry.id != failed[0].id]
    left = [str(path) for path in (root / PLACE).rglob(".*")]
    print(orjson.dumps([[failed[0].status, failed[0].failure_reason], later, left]).decode())  # noqa: T201


def fill(filler: Path) -> None:
    """Take all space but a little."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            file.truncate(max(0, file.tell() - SPARE))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
