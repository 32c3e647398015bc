"""Processes of executions: real ones, polite and stubborn."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from runner import subprocesses
from runner.scheduling.daemon.process import Child, bytes_of
from tests.golden import Golden

PYTHON = [sys.executable, "-c"]


def started(code: str, folder: Path = Path("/")) -> Child:
    """Return a process that runs Python code; what it says is told to nobody."""
    return Child(lambda _: [*PYTHON, code], str(folder), subprocesses.environment(), lambda _: None)


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text() if Path("/proc").exists() else True
    return False


def gone(pid: int, seconds: float = 5) -> bool:
    """Return whether a process ends within some seconds."""
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not alive(pid)


def test_a_process_tells_its_answer_its_last_words_and_its_memory(golden: Golden) -> None:
    """What is written to standard output is the answer, the end of standard error what it said."""
    code = "import sys; b = bytearray(80_000_000); print('one'); print('two'); sys.exit('the end')"
    end = started(code).wait()
    assert end is not None
    assert (end.code, end.answer, end.said) == (1, "one\ntwo\n", "the end")
    ours = bytes_of(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert 80_000_000 < end.peak_memory < max(300_000_000, ours * 1.1)
    golden(end.reason)


def test_a_process_that_takes_longer_is_still_running() -> None:
    """Waiting gives up after its time; stopping ends a polite process by SIGTERM."""
    child = started("import time; time.sleep(60)")
    assert child.wait(0.05) is None
    assert child.stop(5).code == -signal.SIGTERM
    assert gone(child.pid)


def test_a_stubborn_process_is_killed(golden: Golden) -> None:
    """One that ignores SIGTERM gets SIGKILL after its grace."""
    child = started("import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)")
    while not child._answer:
        time.sleep(0.01)
    end = child.stop(0.1)
    assert end.code == -signal.SIGKILL
    golden(end.reason)


@pytest.mark.parametrize("ending", ["", "time.sleep(60)"])
def test_what_a_process_started_goes_with_it(ending: str, tmp_path: Path) -> None:
    """Neither a process that ends nor one that is stopped leaves processes behind."""
    grandchild = "import time; time.sleep(60)"
    code = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {grandchild!r}], "
    code += f"stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid, flush=True); {ending}"
    child = started(code)
    end = child.stop(5) if ending and not child.wait(0.5) else child.wait()
    assert end is not None
    assert gone(int(end.answer))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "its process was ended by SIGSEGV"),
        ("x = bytearray(1 << 60)", "its process ran out of memory: Traceback"),
        (
            "import sys; sys.stderr.write('x' * 5000); sys.exit(3)",
            "its process ended with exit code 3, without a result: xxx",
        ),
    ],
)
def test_the_reason_says_how_a_process_died(code: str, reason: str) -> None:
    """A signal has its name, memory is called memory, and last words are cut."""
    end = started(code).wait()
    assert end is not None
    assert end.reason.startswith(reason)
    assert len(end.reason) < 1024


def test_a_scratch_folder_lives_as_long_as_its_process() -> None:
    """The folder is there for the process, and it is where its temporary files go."""
    code = "import os, sys, tempfile; d = sys.argv[1]; print(tempfile.gettempdir() == d and os.path.isdir(d), d)"
    child = Child(lambda scratch: [*PYTHON, code, scratch], "/", subprocesses.environment())
    end = child.wait()
    assert end is not None
    answer, folder = end.answer.split()
    assert answer == "True"
    assert not Path(folder).exists()


def test_a_folder_that_is_gone_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """The error names the folder."""
    with pytest.raises(FileNotFoundError) as caught:
        started("", tmp_path / "gone")
    assert caught.value.filename == str(tmp_path / "gone")


def holding() -> Sequence[str]:
    """Return a command whose process starts an attached child, says its number, and stays."""
    attached = "import os, time; from runner.scheduling.daemon.process import end_with_parent; "
    attached += "end_with_parent(os.environ['TMPDIR']); time.sleep(60)"
    code = f"""
import time
from runner import subprocesses
from runner.scheduling.daemon.process import Child, bytes_of
child = Child(lambda _: {[*PYTHON, attached]!r}, '/', subprocesses.environment())
print(child.pid, child._scratch.name, flush=True)
time.sleep(60)
"""
    return [*PYTHON, code]


def test_a_killed_process_takes_its_children_along() -> None:
    """The leash: an attached child ends when who started it is killed by SIGKILL, and leaves no folder behind."""
    with subprocess.Popen(holding(), stdout=subprocess.PIPE, text=True, env=subprocesses.environment()) as parent:
        assert parent.stdout
        number, scratch = parent.stdout.readline().split()
        pid = int(number)
        time.sleep(0.3)
        assert alive(pid)
        parent.kill()
    assert gone(pid)
    assert not Path(scratch).exists()
