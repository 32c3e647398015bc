"""What an execution tells the process that started it, and what is concluded when it tells nothing."""

from __future__ import annotations

import os

import pytest

from runner.domain.executions import Execution, Status
from runner.scheduling.daemon.process import End
from runner.scheduling.daemon.result import RUN_AGAIN, STOPPED_BY_HAND, Result, answer, lost, overran, told
from tests.golden import Golden
from tests.scheduling.daemon.execution_samples import entry


@pytest.mark.parametrize(
    "execution",
    [
        Execution("Completed, fine", status=Status.COMPLETED, directory="out/12"),
        Execution("Failed:\nno", False, status=Status.FAILED, failure_reason="Job inputs had no data"),
        Execution("\u2028 'ä' \"", status=Status.COMPLETED_WITH_VIOLATIONS, directory="/a b"),
    ],
)
def test_an_answer_reads_back_whatever_stands_before_it(execution: Execution) -> None:
    """The last line counts; the directory becomes absolute, the memory is what the system says."""
    line = answer(execution).decode()
    assert "\n" not in line.strip()
    result = told(End(0, 5, f"something printed{line}", ""))
    output = os.path.abspath(execution.directory) if execution.directory else None  # noqa: PTH100  independent
    assert result == Result(execution.status, execution.message, execution.failure_reason, output, 5)


@pytest.mark.parametrize("text", ["", "\n", "{", "[]", "1", "null", '{"status": "Done"}', '{"status": 1}', '{"a": 1}'])
def test_what_is_no_answer_is_none(text: str) -> None:
    """Nothing is concluded from a process that was cut short."""
    assert told(End(0, 0, text, "")) is None


def test_a_lost_execution_is_run_again_but_not_for_ever() -> None:
    """Three times at most; one that was told to stop is stopped."""
    assert lost(entry(attempts=1)) is RUN_AGAIN
    assert lost(entry(attempts=2)) is RUN_AGAIN
    assert lost(entry(attempts=3)).status == Status.FAILED
    assert lost(entry(status=Status.STOPPING)) is STOPPED_BY_HAND


def test_an_execution_that_overran_names_the_setting(golden: Golden) -> None:
    """It is stopped, not failed."""
    result = overran(entry(max_runtime=7))
    assert result.status == Status.STOPPED
    golden(result.failure_reason)
