"""Guards: whatever a program starts ends with it, however the program or its parent ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from runner import guard, subprocesses
from runner.scheduling.daemon.process import Child
from tests.processes import is_running, wait_until

PROGRAM = """
import os, signal, subprocess, sys, time
from pathlib import Path
from runner import guard

if {no_group}:
    guard.control_group = lambda _: None
guard.start(Path(os.environ["SCRATCH"]) if "SCRATCH" in os.environ else None)

def start(detach):
    if os.fork():
        return
    for step in detach:
        if step == "session":
            os.setsid()
        elif step == "orphan" and os.fork():
            os._exit(0)
        elif step == "exec":
            code = "import os, sys, time; os.write(int(sys.argv[1]), b'%d ' % os.getpid()); time.sleep(600)"
            os.set_inheritable(write, True)
            os.execve(sys.executable, [sys.executable, "-S", "-c", code, str(write)], {{}})
        elif step == "ignore":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif step == "stop":
            os.write(write, b"%d " % os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
    os.write(write, b"%d " % os.getpid())
    time.sleep(600)

read, write = os.pipe()
KINDS = ["", "session", "session orphan", "orphan session orphan", "session exec", "ignore", "stop"]
for kind in KINDS:
    start(kind.split())
started = b""
while started.count(b" ") < len(KINDS):
    started += os.read(read, 4096)
os.write(1, b"%d %d %s\\n" % (os.getppid(), os.getpid(), started))
{ending}
"""
STARTED = 7
WAITS = "time.sleep(600)"


@contextmanager
def running(ending: str, no_group: bool = False) -> Iterator[tuple[subprocess.Popen[str], int, list[int]]]:
    """Yield a guarded program that has started processes of every kind: the guard, the program and the processes."""
    command = [sys.executable, "-S", "-c", PROGRAM.format(ending=ending, no_group=no_group)]
    environment = subprocesses.environment()
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout
    assert process.stdin
    number, program, *started = map(int, process.stdout.readline().split())
    assert number == process.pid
    assert len(started) == STARTED
    try:
        yield process, program, started
    finally:
        for pid in (process.pid, program, *started):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("no_group", [False, True], ids=["control group", "process tree"])
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("os._exit(3)", 3),
        ("os.kill(os.getpid(), 9)", -signal.SIGKILL),
        ("os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        ("os.abort()", -signal.SIGABRT),
        ("os.killpg(0, 9)", -signal.SIGKILL),
        ("os.execv('/bin/true', ['true'])", 0),
    ],
)
def test_everything_ends_with_the_program(ending: str, code: int, no_group: bool) -> None:
    """Also processes that are detached, stopped, or ignore SIGTERM; the exit code is the program's."""
    with running(ending, no_group) as (process, program, started):
        assert process.wait(30) == code
        assert [pid for pid in (program, *started) if is_running(pid)] == []
    assert not folder.exists() if (folder := guard.control_group(process.pid)) else True


@pytest.mark.parametrize("no_group", [False, True], ids=["control group", "process tree"])
def test_everything_ends_with_the_end_of_input(no_group: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent has died; the temporary folder is removed, because the parent no longer can."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("SCRATCH", str(scratch))
    with running(WAITS, no_group) as (process, program, started):
        assert process.stdin
        process.stdin.close()
        assert process.wait(30) == -signal.SIGKILL
        assert [pid for pid in (program, *started) if is_running(pid)] == []
        assert not scratch.exists()


def test_a_signal_is_forwarded_to_the_program() -> None:
    """The program ends by it, and the guard as the program."""
    with running(WAITS) as (process, _, started):
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
        assert [pid for pid in started if is_running(pid)] == []


def test_the_program_ends_with_its_guard() -> None:
    """A guard may be killed, too."""
    with running(WAITS) as (process, program, _):
        process.kill()
        wait_until(lambda: not is_running(program))


@pytest.mark.parametrize("way", ["stop", "kill the guard", "pause the guard and stop"])
def test_a_parent_ends_everything(way: str) -> None:
    """No process is left after the end of a child, even if its guard could not end anything."""
    command = [sys.executable, "-S", "-c", PROGRAM.format(ending=WAITS, no_group=False)]
    child = Child(lambda _: command, "/", subprocesses.environment(), lambda _: None)
    wait_until(lambda: child._output.endswith(b"\n"))
    _, program, *started = map(int, child._output.split())
    if way == "kill the guard":
        os.kill(child.pid, signal.SIGKILL)
        assert child.wait(30)
    else:
        if way == "pause the guard and stop":
            os.kill(child.pid, signal.SIGSTOP)
        assert child.stop(0.05).code < 0
    if way == "kill the guard" and guard.control_group(0) is None:
        started = started[:1]  # without a control group, only processes of the same session
    assert [pid for pid in (program, *started) if is_running(pid)] == []


@pytest.mark.skipif(guard.control_group(0) is None, reason="needs cgroup v2")
def test_the_control_group_of_a_killed_guard_is_removed_later() -> None:
    """Its parent was killed as well, so nothing else removes it."""
    with running(WAITS) as (process, program, started):
        folder = guard.control_group(process.pid)
        assert folder
        is_allowed = folder.exists()
    wait_until(lambda: not any(map(is_running, (program, *started))))
    with running(""):
        pass
    assert not folder.exists() or not is_allowed
