"""Schedules and executions as documents of the SageMaker API and as tables."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import orjson
import pytest

from runner.domain.executions import HOUR, Status
from runner.errors import NO_DATA
from runner.scheduling.api_documents import (
    as_json,
    execution_summary,
    job_definition,
    reason_or_message,
    schedule_description,
    schedule_summary,
    table,
)
from tests.golden import Golden
from tests.scheduling.daemon.execution_samples import NOON, make_execution
from tests.scheduling.ledger.ledger_samples import schedule


def test_an_execution_summary_has_the_keys_of_the_api() -> None:
    """Additional keys come last."""
    done = make_execution(status=Status.COMPLETED, exit_message="fine", output="/out/12", peak_memory=5, ended=NOON)
    assert execution_summary(done) == {
        "MonitoringScheduleName": "adult-monitor",
        "ScheduledTime": NOON,
        "CreationTime": NOON,
        "LastModifiedTime": NOON + timedelta(seconds=1),
        "MonitoringExecutionStatus": "Completed",
        "ProcessingJobArn": "arn:aws-shapwatch:sagemaker:local:000000000000:processing-job/adult-monitor-1",
        "EndpointName": "adult",
        "MonitoringJobDefinitionName": "adult-monitor-2",
        "MonitoringType": "ModelExplainability",
        "ExitMessage": "fine",
        "Output": {"Destination": "/out/12"},
        "Window": {"Start": NOON - HOUR, "End": NOON},
        "PeakMemoryInBytes": 5,
    }
    assert list(execution_summary(done))[-4:] == ["ExitMessage", "Output", "Window", "PeakMemoryInBytes"]


@pytest.mark.parametrize(
    ("changes", "job"),
    [
        ({}, True),
        ({"status": Status.FAILED, "failure_reason": "something else"}, True),
        ({"status": Status.FAILED, "failure_reason": NO_DATA}, False),
        ({"status": Status.COMPLETED, "failure_reason": NO_DATA}, False),
        ({"status": Status.PENDING, "attempts": 0, "started": None}, False),
        ({"status": Status.STOPPED, "attempts": 0, "failure_reason": "not run: stopped before it started"}, False),
    ],
    ids=["in progress", "failed", "no data", "completed without data", "pending", "never started"],
)
def test_started_executions_with_data_have_a_processing_job(changes: dict[str, Any], job: bool) -> None:
    """As in SageMaker, an execution without data, or before its start, has no processing job."""
    assert ("ProcessingJobArn" in execution_summary(make_execution(**changes))) == job


def test_completed_executions_have_no_failure_reason() -> None:
    """Also if they completed without data (schedule.on_empty=skip)."""
    summary = execution_summary(make_execution(status=Status.COMPLETED, failure_reason=NO_DATA))
    assert "FailureReason" not in summary


def test_unknown_values_are_absent() -> None:
    """No value is null, because clients check for the key."""
    summary = execution_summary(make_execution(status=Status.PENDING, attempts=0))
    absent = {"ProcessingJobArn", "FailureReason", "ExitMessage", "Output", "PeakMemoryInBytes"}
    assert not absent & summary.keys()
    assert None not in summary.values()


def test_a_peak_memory_of_zero_is_present() -> None:
    """Zero is a known value."""
    assert execution_summary(make_execution(peak_memory=0))["PeakMemoryInBytes"] == 0


def test_a_schedule_description_contains_its_configuration() -> None:
    """The job definition is in the configuration, and only a summary has it at the top level."""
    watch = schedule("watch", revision=3)
    assert schedule_summary(watch)["MonitoringJobDefinitionName"] == job_definition("watch", 3) == "watch-3"
    description = schedule_description(watch, {"ScheduleExpression": "NOW"}, None)
    assert "MonitoringJobDefinitionName" not in description
    assert description["MonitoringScheduleConfig"] == {
        "ScheduleConfig": {"ScheduleExpression": "NOW"},
        "MonitoringJobDefinitionName": "watch-3",
        "MonitoringType": "ModelExplainability",
    }
    assert "LastMonitoringExecutionSummary" not in description
    last = make_execution()
    description = schedule_description(watch, {}, last)
    assert description["LastMonitoringExecutionSummary"] == execution_summary(last)


def test_documents_are_serialized_as_json() -> None:
    """Times are in ISO 8601 with offset, and non-ASCII characters are not escaped."""
    value = {
        "at": NOON,
        "other_zone": NOON.astimezone(timezone(HOUR)),
        "status": Status.IN_PROGRESS,
        "reason": "näh",
        "n": None,
    }
    text = as_json(value)
    assert text.splitlines()[1] == '  "at": "2026-01-05T12:00:00+00:00",'
    assert "näh" in text
    assert orjson.loads(text) == {
        "at": "2026-01-05T12:00:00+00:00",
        "other_zone": "2026-01-05T13:00:00+01:00",
        "status": "InProgress",
        "reason": "näh",
        "n": None,
    }


def test_table_columns_are_aligned(golden: Golden) -> None:
    """Columns fit their content, and lines have no trailing spaces."""
    rows: list[list[object]] = [["a", NOON, 1], ["longer than its header", None, ""], ["", NOON + HOUR, 20]]
    golden(table(["NAME", "WHEN", "HOW MANY"], rows))
    assert table(["NAME", "WHEN"], []) == "NAME  WHEN"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": Status.PENDING}, ""),
        ({"status": Status.COMPLETED, "exit_message": "Completed: fine\n  /out"}, "Completed: fine"),
        (
            {"status": Status.FAILED, "exit_message": "Failed: looked there\n", "failure_reason": NO_DATA},
            "Failed: looked there",
        ),
        ({"status": Status.FAILED, "failure_reason": "ended by SIGSEGV"}, "ended by SIGSEGV"),
        ({"status": Status.STOPPED, "exit_message": "Completed", "failure_reason": "by hand"}, "by hand"),
    ],
)
def test_the_line_of_an_execution_is_its_reason_or_message(changes: dict[str, Any], message: str) -> None:
    """A failure's message precedes its reason; otherwise the reason precedes the message."""
    assert reason_or_message(make_execution(**changes)) == message


def test_a_multiline_reason_is_cut_to_its_first_line() -> None:
    """A traceback does not break the table."""
    reason = "exit code 1: Traceback (most recent call last):\nValueError: no"
    line = reason_or_message(make_execution(status=Status.FAILED, failure_reason=reason))
    assert line == reason.partition("\n")[0]
