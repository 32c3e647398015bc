"""Processes of executions: their results, their ends, and the program that they run."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread, Timer
from unittest import mock

import pytest
from omegaconf import OmegaConf

from runner import subprocesses
from runner.config import compose
from runner.domain.executions import Execution, Status
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import LedgerError
from runner.scheduling.daemon.process import (
    INVALID,
    MAX_OUTPUT_BYTES,
    Child,
    ProcessExit,
    Signals,
    launch,
    log_context,
    maxrss_bytes,
    result_line,
)
from runner.scheduling.ledger import Ledger
from tests.cli_runner import HANG_SECONDS, Shapwatch
from tests.golden import Golden
from tests.processes import is_running, wait_until
from tests.scheduling.daemon.bench import Bench
from tests.scheduling.daemon.execution_samples import make_execution
from tests.scheduling.ledger.ledger_samples import BUSY, NOON

PYTHON = [sys.executable, "-S", "-c"]
SECRET = "correct-horse-battery"
REMOTE = (
    "model=http",
    "~model.artifact",
    "model.url=http://127.0.0.1:9/invocations",
    "model.token_env=SHAPWATCH_TOKEN",
)
IDS = "${oc.env:SHAPWATCH_SCHEDULE}-${oc.env:SHAPWATCH_EXECUTION}"


def start(code: str, folder: Path = Path("/")) -> Child:
    """Return a process that runs Python code; its standard error is discarded."""
    return Child(lambda _: [*PYTHON, code], str(folder), subprocesses.environment(), lambda _: None)


def test_a_process_exit_has_output_errors_and_peak_memory(golden: Golden) -> None:
    """Standard output is complete; of standard error the last lines are stored."""
    code = "import sys; b = bytearray(80_000_000); print('one'); print('two'); sys.exit('the end')"
    end = start(code).wait()
    assert end is not None
    assert (end.code, end.output, end.errors) == (1, "one\ntwo\n", "the end")
    own_peak = maxrss_bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert 80_000_000 < end.peak_memory < max(300_000_000, own_peak * 1.1)
    golden(end.reason)


def test_stopping_sends_sigterm() -> None:
    """Waiting returns None while the process is running."""
    child = start("import time; time.sleep(60)")
    assert child.wait(0.05) is None
    assert child.stop(5).code == -signal.SIGTERM
    wait_until(lambda: not is_running(child.pid))


def test_a_process_that_ignores_sigterm_is_killed(golden: Golden) -> None:
    """SIGKILL follows after the grace period."""
    child = start("import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)")
    wait_until(lambda: child._output)
    end = child.stop(0.1)
    assert end.code == -signal.SIGKILL
    golden(end.reason)


@pytest.mark.parametrize("ending", ["", "time.sleep(60)"])
def test_the_whole_process_group_ends(ending: str) -> None:
    """Neither a process that exits nor one that is stopped leaves child processes."""
    grandchild = "import time; time.sleep(60)"
    code = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-S', '-c', {grandchild!r}], "
    code += f"stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); print(p.pid, flush=True); {ending}"
    child = start(code)
    wait_until(lambda: child._output)
    end = child.stop(5) if ending else child.wait()
    assert end is not None
    wait_until(lambda: not is_running(int(end.output)))


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
def test_the_reason_names_signal_memory_or_exit_code(code: str, reason: str) -> None:
    """Standard error is cut."""
    end = start(code).wait()
    assert end is not None
    assert end.reason.startswith(reason)
    assert len(end.reason) < 1024


def test_the_temporary_folder_is_removed_after_the_process() -> None:
    """It is the folder for temporary files of the process."""
    code = "import os, sys, tempfile; d = sys.argv[1]; print(tempfile.gettempdir() == d and os.path.isdir(d), d)"
    child = Child(lambda scratch: [*PYTHON, code, scratch], "/", subprocesses.environment())
    end = child.wait()
    assert end is not None
    is_used, folder = end.output.split()
    assert is_used == "True"
    assert not Path(folder).exists()


def test_long_output_takes_little_memory(tmp_path: Path) -> None:
    """Of 100 MiB without a line end, the parent stores the last MiB, which contains the result."""
    noise = f"import os, sys\nfor _ in range(1600): os.write({{}}, b'x' * {1 << 16})\n"
    code = f"{noise.format(1)}{noise.format(2)}print(); print('the result', flush=True)"
    script = f"""
import resource
from runner import subprocesses
from runner.scheduling.daemon.process import Child
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
end = Child(lambda _: {[*PYTHON, code]!r}, '/', subprocesses.environment(), lambda _: None).wait()
growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(len(end.output), end.output.endswith("the result\\n"), len(end.reason), growth)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=subprocesses.environment()
    )
    size, is_complete, length, growth = done.stdout.split()
    assert (int(size), is_complete) == (MAX_OUTPUT_BYTES, "True")
    assert int(length) < 1024
    assert maxrss_bytes(int(growth)) < 20 * MAX_OUTPUT_BYTES


def test_a_failing_relay_does_not_end_the_process() -> None:
    """The disk of the parent's log may be full."""

    def full(_: str) -> None:
        raise OSError(28, "No space left on device")

    code = "import sys\nfor _ in range(3): print('line', file=sys.stderr, flush=True)\nprint('done')"
    end = Child(lambda _: [*PYTHON, code], "/", subprocesses.environment(), full).wait()
    assert end is not None
    assert (end.code, end.output, end.errors) == (0, "done\n", "line\nline\nline")


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    """The error names the folder."""
    with pytest.raises(FileNotFoundError) as caught:
        start("", tmp_path / "missing")
    assert caught.value.filename == str(tmp_path / "missing")


def attached_parent() -> Sequence[str]:
    """Return the command of a process that starts an attached child, prints its number, and sleeps."""
    attached = "import os, time; from pathlib import Path; from runner import guard; "
    attached += "guard.start(Path(os.environ['TMPDIR'])); print(flush=True); time.sleep(60)"
    code = f"""
import time
from runner import subprocesses
from runner.scheduling.daemon.process import Child
child = Child(lambda _: {[sys.executable, "-c", attached]!r}, '/', subprocesses.environment())
while not child._output:
    time.sleep(0.01)
print(child.pid, child._scratch.name, flush=True)
time.sleep(60)
"""
    return [sys.executable, "-c", code]


def test_an_attached_process_ends_with_its_parent() -> None:
    """After SIGKILL of the parent, its temporary folder is removed as well."""
    with subprocess.Popen(
        attached_parent(), stdout=subprocess.PIPE, text=True, env=subprocesses.environment()
    ) as parent:
        assert parent.stdout
        number, scratch = parent.stdout.readline().split()
        pid = int(number)
        assert is_running(pid)
        parent.kill()
    wait_until(lambda: not is_running(pid))
    assert not Path(scratch).exists()


@pytest.mark.parametrize(
    "execution",
    [
        Execution("Completed, fine", status=Status.COMPLETED, directory="out/12"),
        Execution("Failed:\nno", False, status=Status.FAILED, failure_reason="Job inputs had no data"),
        Execution("\u2028 'ä' \"", status=Status.COMPLETED_WITH_VIOLATIONS, directory="/a b"),
    ],
)
def test_a_result_is_the_last_line_of_standard_output(execution: Execution) -> None:
    """Any output may precede it; the directory becomes absolute."""
    line = result_line(execution).decode()
    assert "\n" not in line.strip()
    directory = os.path.abspath(execution.directory) if execution.directory else ""  # noqa: PTH100  independent
    assert ProcessExit(0, 5, f"some output{line}", "").result == replace(execution, directory=directory)


def test_a_result_of_any_length_is_stored() -> None:
    """Its strings are cut, so that the whole line is at the end of the stored output."""
    long = Execution("x" * 3 * MAX_OUTPUT_BYTES, False, status=Status.FAILED, failure_reason="y" * 3 * MAX_OUTPUT_BYTES)
    line = result_line(long).decode()
    assert len(line) < MAX_OUTPUT_BYTES
    stored = ProcessExit(0, 5, line, "").result
    assert stored is not None
    assert (stored.status, stored.message[:1], (stored.failure_reason or "")[:1]) == (Status.FAILED, "x", "y")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "{", "[]", "1", "null", '{"message": "", "status": "Done"}', '{"message": "", "status": 1}', "{}"],
)
def test_other_output_is_no_result(text: str) -> None:
    """A process may end before or while it reports its result."""
    assert ProcessExit(0, 0, text, "").result is None


@dataclass(frozen=True)
class Launched:
    """An execution that has ended.

    Attributes:
        root: folder of all outputs.
        execution: its record.
        settings: configuration of its process.
        result: reported result.
    """

    root: Path
    execution: ExecutionRecord
    settings: str
    result: Execution | None


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Launched:
    """An execution of a real schedule, with a token in the environment and conflicting modules in its folder."""
    root, folder = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("folder")
    for name in ("runner", "hydra", "json", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit('a module of the working folder was imported')\n")
    configurations: list[str] = []

    def configure(snapshot: Snapshot, execution: ExecutionRecord) -> str:
        configurations.append(compose.execution_settings(snapshot, execution))
        return configurations[-1]

    with mock.patch.dict(os.environ, {"SHAPWATCH_TOKEN": SECRET}):
        Shapwatch(root)("stage=schedule", "stage.action=create", *REMOTE)
        with Ledger(f"sqlite:///{root}/ledger.sqlite", BUSY) as ledger:
            stored = ledger.snapshot(ledger.schedules.get("breast-cancer-monitor").snapshot)
            settings = stored.settings.replace("  endpoint: breast-cancer\n", f"  endpoint: {IDS}\n")
            pending = Bench(ledger).pending(snapshot=Snapshot(settings, str(folder)))
            assert ledger.executions.claim(pending.id, "a", NOON)
            execution = ledger.executions.get(pending.id)
            end = launch(ledger, configure, execution).wait()
    assert end is not None
    return Launched(root, execution, configurations[0], end.result)


def test_a_process_writes_to_the_directory_of_its_scheduled_time(launched: Launched, golden: Golden) -> None:
    """Its environment contains the execution and the schedule; here they are part of the endpoint."""
    assert launched.result
    assert launched.result.status == Status.FAILED
    golden(launched.result.failure_reason)
    folder = f"monitor/watch-{launched.execution.id}/breast-cancer-monitor/2026/01/05/13"
    assert launched.result.directory == str(launched.root / folder)
    assert (launched.root / folder / "report.html").exists()


def test_the_configuration_contains_window_and_scheduled_time(launched: Launched) -> None:
    """Other settings are those of the snapshot."""
    settings = OmegaConf.create(launched.settings)
    assert settings.stage == {
        "kind": "monitor",
        "window": "2026-01-05T12:00:00+00:00/2026-01-05T13:00:00+00:00",
        "scheduled": "2026-01-05T13:00:00+00:00",
        "attached": True,
        "fail_on": "none",
    }
    assert settings.schedule is None
    assert settings.model.url == "http://127.0.0.1:9/invocations"


def test_secrets_are_not_written(launched: Launched) -> None:
    """Settings contain the name of the variable, and no file contains its value."""
    assert OmegaConf.create(launched.settings).model.token_env == "SHAPWATCH_TOKEN"
    assert SECRET not in launched.settings
    files = [path for path in launched.root.rglob("*") if path.is_file()]
    assert launched.root / "ledger.sqlite" in files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_a_missing_working_folder_is_an_os_error(bench: Bench, tmp_path: Path) -> None:
    """The error names the folder of the snapshot."""
    missing = str(tmp_path / "missing")
    pending = bench.pending(snapshot=Snapshot("a: 1\n", missing))
    with pytest.raises(FileNotFoundError) as caught:
        launch(bench.ledger, lambda snapshot, _: snapshot.settings, pending)
    assert caught.value.filename == missing


def test_a_publication_needs_no_working_folder(bench: Bench, tmp_path: Path) -> None:
    """Otherwise nobody would receive the failure of an execution whose folder is missing."""
    pending = bench.pending(snapshot=Snapshot("nonsense: 1\n", str(tmp_path / "missing")))
    child = launch(bench.ledger, lambda snapshot, _: snapshot.settings, replace(pending, status=Status.FAILED))
    end = child.wait()
    assert end
    assert (end.code, "nonsense" in end.errors) == (INVALID, True)


def test_a_missing_snapshot_is_a_ledger_error(bench: Bench, golden: Golden) -> None:
    """No process is started."""
    with golden.raises(LedgerError):
        launch(bench.ledger, lambda *_: pytest.fail("a process was configured"), make_execution())


@pytest.mark.parametrize(
    ("environment", "context"),
    [
        ({}, {}),
        ({"PATH": "/bin", "SHAPWATCH_TOKEN": SECRET}, {}),
        ({"SHAPWATCH_EXECUTION": "7"}, {"execution": "7"}),
        ({"SHAPWATCH_SCHEDULE": "watch", "SHAPWATCH_EXECUTION": "7"}, {"execution": "7", "schedule": "watch"}),
    ],
)
def test_the_log_context_is_in_the_environment(environment: dict[str, str], context: dict[str, str]) -> None:
    """It contains the execution and the schedule, and nothing else."""
    assert log_context(environment) == context


MANY_SIGNALS = """
import os, signal, threading, time
from runner.scheduling.daemon.process import Signals
for _ in range(100):
    with Signals(lambda: None) as signals:
        senders = [threading.Thread(target=os.kill, args=(os.getpid(), number)) for number in (15, 2, 1) * 3]
        for sender in senders:
            sender.start()
        while not signals.wait(0.001):
            pass
        for sender in senders:
            sender.join()
        time.sleep(0.001)
print("alive")
"""


def test_a_signal_ends_the_wait() -> None:
    """Later waits end immediately, and the previous handlers are restored."""
    before = signal.getsignal(signal.SIGTERM)
    with Signals(lambda: None) as signals:
        assert not signals.wait(0.001)
        Timer(0.05, os.kill, [os.getpid(), signal.SIGTERM]).start()
        start = time.monotonic()
        assert signals.wait(30)
        assert time.monotonic() - start < 10
        assert signals.wait(30)
        assert signals.stop_requests == 1
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.stop_requests == 2
    assert signal.getsignal(signal.SIGTERM) is before


def test_sighup_calls_its_function_and_requests_no_stop() -> None:
    """Each signal counts."""
    calls: list[str] = []
    with Signals(lambda: calls.append("SIGHUP")) as signals:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert not signals.wait(0.01)
        assert calls == ["SIGHUP", "SIGHUP"]


def test_any_thread_may_request_a_stop() -> None:
    """The woken thread finds the request, whatever the order of the threads."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(300):
            with Signals(lambda: None) as signals:
                Thread(target=signals.request_stop).start()
                assert signals.wait(30)
    finally:
        sys.setswitchinterval(before)


def test_many_signals_cause_no_deadlock() -> None:
    """No lock is taken in a handler."""
    done = subprocess.run(
        [sys.executable, "-c", MANY_SIGNALS], capture_output=True, text=True, timeout=HANG_SECONDS, check=False
    )
    assert done.stdout == "alive\n", done.stderr
