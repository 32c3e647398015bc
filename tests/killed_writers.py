"""Kills writers of a directory at every point between two of their system calls, and at random ones; run by tests.

Prints one JSON document: how many points there are, and what was found that should not be.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runner.results.directory import ANALYSIS, LOCAL_ATTRIBUTIONS, REPORT, claim, commit, remove

CALLS = {"open", "fcntl.flock", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}
ROUNDS = 60
WRITERS = 3


def files(what: bytes) -> dict[str, bytes]:
    """Return what a writer writes; all files say the same, the one in a folder too."""
    return {ANALYSIS: what, REPORT: what, LOCAL_ATTRIBUTIONS: what}


def started(act: Callable[[], object], point: int | None = None) -> int:
    """Return the number of a process that acts, and is killed right before a system call, counted from 1."""
    if pid := os.fork():
        return pid
    os.fsync = lambda _: None  # type: ignore[assignment]  # the disk is not what is killed
    count = itertools.count(1)

    def audit(event: str, _: object) -> None:
        if event in CALLS and next(count) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    try:
        act()
    except OSError:
        os._exit(1)
    os._exit(0)


def killed(act: Callable[[], object], point: int) -> bool:
    """Return whether acting came to that point."""
    _, status = os.waitpid(started(act, point), 0)
    return os.WIFSIGNALED(status)


def found(target: Path) -> str:
    """Return what a directory holds, as one word."""
    if not target.exists():
        return "nothing"
    held = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    return held[ANALYSIS].decode() if held == files(held.get(ANALYSIS, b"")) else "torn"


def every_point(folder: Path, before: bytes | None, act: Callable[[Path], object]) -> Iterator[tuple[str, str, str]]:
    """Yield, for each point, what is there after the kill, after the next claim, and after the next commit."""
    for point in itertools.count(1):
        target = folder / str(point) / "05"
        target.parent.mkdir(parents=True)
        if before:
            commit(target, files(before))
        more = killed(lambda: act(target), point)  # noqa: B023  it ends within the round
        after = found(target)
        claim(target)
        claimed = found(target)
        commit(target, files(b"last"))
        hidden = [path.name for path in target.parent.iterdir() if path != target]
        yield after, claimed, ",".join([found(target), *hidden])
        if not more:
            return


def in_a_row(folder: Path, points: int) -> str:
    """Return what is left after one kill after the other, without anybody to tidy up but the next writer."""
    target = folder / "05"
    for point in range(1, points + 1):
        killed(lambda: commit(target, files(b"new")), point)
    commit(target, files(b"last"))
    return ",".join([found(target), *(path.name for path in folder.iterdir() if path != target)])


def at_random(folder: Path) -> str:
    """Return what is left after writers, several at once, were killed at random moments."""
    target, chance = folder / "05", random.Random(5)

    def write() -> None:
        while True:
            commit(target, files(b"%d" % os.getpid() * 1000))

    for _ in range(ROUNDS):
        pids = [started(write) for _ in range(WRITERS)]
        for pid in pids:
            time.sleep(chance.uniform(0, 0.008))
            os.kill(pid, signal.SIGKILL)
        endings = [os.waitpid(pid, 0)[1] for pid in pids]
        if any(not os.WIFSIGNALED(status) for status in endings):
            return "a writer failed"
    commit(target, files(b"last"))
    return ",".join([found(target), *(path.name for path in folder.iterdir() if path != target)])


def main(folder: Path) -> None:
    """Do all of that."""
    new = list(every_point(folder / "new", None, lambda target: commit(target, files(b"new"))))
    again = list(every_point(folder / "again", b"old", lambda target: commit(target, files(b"new"))))
    gone = list(every_point(folder / "gone", b"old", lambda target: remove(target, folder)))
    row = in_a_row(folder / "row", len(again) * 2)
    print(json.dumps({"new": new, "again": again, "gone": gone, "row": row, "random": at_random(folder / "random")}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
