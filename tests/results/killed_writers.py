"""Kills writers of a directory before each of their system calls, and at random times; a test runs it.

Prints the contents of the directory after each kill, as one JSON document.
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
"""Audit events of the system calls before which a writer is killed."""
ROUNDS = 60
WRITERS = 3


def files(content: bytes) -> dict[str, bytes]:
    """Return the files of a directory, all with the same content; one of them is in a folder."""
    return {ANALYSIS: content, REPORT: content, LOCAL_ATTRIBUTIONS: content}


def start_process(act: Callable[[], object], kill_at: int | None = None) -> int:
    """Run `act` in a child process, which kills itself before its `kill_at`-th system call; return its process id."""
    if pid := os.fork():
        return pid
    os.fsync = lambda _: None  # type: ignore[assignment]  # a killed process loses no data that it has written
    count = itertools.count(1)

    def audit(event: str, _: object) -> None:
        if event in CALLS and next(count) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)
    try:
        act()
    except OSError:
        os._exit(1)
    os._exit(0)


def is_killed(act: Callable[[], object], kill_at: int) -> bool:
    """Run `act` in a child process, and return whether it made `kill_at` system calls and was killed."""
    _, status = os.waitpid(start_process(act, kill_at), 0)
    return os.WIFSIGNALED(status)


def content(target: Path) -> str:
    """Return the content of all files in a directory; "nothing" without a directory, "torn" for different files."""
    if not target.exists():
        return "nothing"
    stored = {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    return stored[ANALYSIS].decode() if stored == files(stored.get(ANALYSIS, b"")) else "torn"


def content_and_others(target: Path) -> str:
    """Return the content of a directory and the names of all other entries of its parent folder."""
    return ",".join([content(target), *(path.name for path in target.parent.iterdir() if path != target)])


def kill_at_each_call(
    folder: Path, before: bytes | None, act: Callable[[Path], object]
) -> Iterator[tuple[str, str, str]]:
    """Yield, for a kill before each system call, the content after the kill, after a claim and after a commit."""
    for kill_at in itertools.count(1):
        target = folder / str(kill_at) / "05"
        target.parent.mkdir(parents=True)
        if before:
            commit(target, files(before))
        killed = is_killed(lambda: act(target), kill_at)  # noqa: B023  it ends within the round
        after_kill = content(target)
        claim(target)
        after_claim = content(target)
        commit(target, files(b"last"))
        yield after_kill, after_claim, content_and_others(target)
        if not killed:
            return


def kill_in_sequence(folder: Path, calls: int) -> str:
    """Kill one writer after the other, each one call later; return the content after a last commit."""
    target = folder / "05"
    for kill_at in range(1, calls + 1):
        is_killed(lambda: commit(target, files(b"new")), kill_at)
    commit(target, files(b"last"))
    return content_and_others(target)


def kill_at_random(folder: Path) -> str:
    """Kill concurrent writers at random times; return the content after a last commit."""
    target, chance = folder / "05", random.Random(5)

    def write() -> None:
        while True:
            commit(target, files(b"%d" % os.getpid() * 1000))

    for _ in range(ROUNDS):
        pids = [start_process(write) for _ in range(WRITERS)]
        for pid in pids:
            time.sleep(chance.uniform(0, 0.008))
            os.kill(pid, signal.SIGKILL)
        statuses = [os.waitpid(pid, 0)[1] for pid in pids]
        if any(not os.WIFSIGNALED(status) for status in statuses):
            return "a writer failed"
    commit(target, files(b"last"))
    return content_and_others(target)


def main(folder: Path) -> None:
    """Kill writers that create, replace and remove a directory, and print the contents."""
    create = list(kill_at_each_call(folder / "create", None, lambda target: commit(target, files(b"new"))))
    replace = list(kill_at_each_call(folder / "replace", b"old", lambda target: commit(target, files(b"new"))))
    delete = list(kill_at_each_call(folder / "remove", b"old", lambda target: remove(target, folder)))
    sequence = kill_in_sequence(folder / "sequence", len(replace) * 2)
    contents = {"create": create, "replace": replace, "remove": delete, "sequence": sequence}
    print(json.dumps({**contents, "random": kill_at_random(folder / "random")}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
