"""The guard of a process: its parent, which ends everything that the process started, however it ends.

The guard forks, and the program continues in the child. On Linux, the guard adopts all processes that lose their parent
and, if it may create one, puts the program into its own control group. A process therefore cannot escape by starting
its own session or by detaching from its parent. Without /proc, only the process group of the program ends.

Standard input is a pipe from the process that started the guard. It closes when that process dies, even by SIGKILL.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import NoReturn

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
"""Options of Linux's `prctl`: signal after the parent's death, and adoption of orphans."""
END_SECONDS = 10.0
"""Maximum number of seconds to wait for processes to end after SIGKILL."""
PAUSE_SECONDS = 0.005
"""Seconds between two searches for processes that are still running."""
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that the guard forwards to the process group of the program."""


def start(scratch: Path | None = None) -> None:
    """Continue in a new process, and let this one become its guard, which exits as the new process does.

    Call this function before the first thread starts, because only the calling thread exists in the new process.

    Args:
        scratch: temporary folder to remove if the process that started this one dies; None for none.
    """
    guard = os.getpid()
    group = control_group(guard)
    with suppress(OSError):
        if group:
            _remove_stale_groups(group.parent)
            group.mkdir(exist_ok=True)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    program = os.fork()
    if program:
        _guard(program, scratch)
    os.setpgid(0, 0)
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:
        os.kill(os.getpid(), signal.SIGKILL)
    with suppress(OSError):
        if group:
            (group / "cgroup.procs").write_text("0")


def end_members(guard: int) -> None:
    """End all processes that a guard watches, but not the guard itself; its process number must not be free."""
    until, group = time.monotonic() + END_SECONDS, control_group(guard)
    while (_kill_members(guard, group) or not _is_removed(group)) and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)


def control_group(guard: int) -> Path | None:
    """Return the folder of the control group for the processes that a guard watches; None without cgroup v2."""
    with suppress(OSError, StopIteration, ValueError):
        mounts = map(str.split, Path("/proc/self/mountinfo").read_text("utf-8").splitlines())
        root, mount = next(fields[3:5] for fields in mounts if "cgroup2" in fields[fields.index("-") :])
        groups = Path("/proc/self/cgroup").read_text("utf-8").splitlines()
        own = next(line.removeprefix("0::") for line in groups if line.startswith("0::"))
        return Path(mount) / PurePosixPath(own).relative_to(root) / f"shapwatch-{guard}"
    return None


def _remove_stale_groups(folder: Path) -> None:
    """Remove control groups whose guard was killed together with its parent; those in use cannot be removed."""
    for group in folder.glob("shapwatch-*"):
        if not Path("/proc", group.name.rpartition("-")[2]).exists():
            with suppress(OSError):
                group.rmdir()


def members(guard: int) -> set[int]:
    """Return the running descendants of a process, and the other running processes of its session."""
    children: dict[int, list[int]] = defaultdict(list)
    running, found = set[int](), set[int]()
    for pid, state, parent, session in _processes():
        children[parent].append(pid)
        if state not in {"Z", "X"}:
            running.add(pid)
        if session == guard:
            found.add(pid)
    waiting = [guard, *found]
    while waiting:
        descendants = children.pop(waiting.pop(), [])
        found.update(descendants)
        waiting += descendants
    return (found & running) - {guard}


def _processes() -> Iterable[tuple[int, str, int, int]]:
    """Yield process number, state, parent and session of each process; nothing without /proc."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            state, parent, _, session, *_ = path.read_bytes().rpartition(b")")[2].split()
            yield int(path.parent.name), state.decode(), int(parent), int(session)


def _kill_members(guard: int, group: Path | None) -> bool:
    """Send SIGKILL to all processes that a guard watches; return whether some were still running."""
    if group:
        with suppress(OSError):
            (group / "cgroup.kill").write_text("1")
    running = members(guard)
    for pid in running:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(running)


def _is_removed(group: Path | None) -> bool:
    """Remove a control group, and return whether there is none; it is busy until its last process has ended."""
    if group is None:
        return True
    with suppress(OSError):
        group.rmdir()
    return not group.exists()


def _guard(program: int, scratch: Path | None) -> NoReturn:
    """Wait for the end of the program or of standard input, end what the program started, and exit as the program."""
    with suppress(OSError):
        os.setpgid(program, program)
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)

    def forward(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(program, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(0, 0)
    poll.register(read, select.POLLIN)
    is_orphan = False
    while (status := _reap(program)) is None and not is_orphan:
        is_orphan = any(descriptor == 0 for descriptor, _ in poll.poll())
        with suppress(BlockingIOError):
            os.read(read, 4096)
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    end_members(os.getpid())
    status = _reap(program) if status is None else status
    if is_orphan and scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    _exit_as(os.waitstatus_to_exitcode(signal.SIGKILL if status is None else status))


def _reap(program: int) -> int | None:
    """Collect the children that have ended; return the status of the program if it is one of them."""
    status = None
    with suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == program:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(program, signal.SIGKILL)  # while the number cannot belong to another group
                _, status = os.waitpid(program, 0)
            else:
                os.waitpid(ended.si_pid, 0)
    return status


def _exit_as(code: int) -> NoReturn:
    """Exit with a code, or by the signal of a negative one, without a second core dump."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process; do nothing on other systems than Linux."""
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
