"""Schedules and executions as SageMaker's API describes them, and as tables."""

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
from tests.scheduling.daemon.entries import NOON, entry
from tests.scheduling.ledger.ledger_samples import schedule


def test_an_execution_is_described() -> None:
    """What the API's model lacks comes last."""
    done = entry(status=Status.COMPLETED, exit_message="fine", output="/out/12", peak_memory=5, ended=NOON)
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
        ({"status": Status.PENDING, "attempts": 0, "started": None}, False),
        ({"status": Status.STOPPED, "attempts": 0, "failure_reason": "not run: stopped before it started"}, False),
    ],
    ids=["under way", "failed", "no data", "pending", "never begun"],
)
def test_there_is_a_processing_job_where_something_ran(changes: dict[str, Any], job: bool) -> None:
    """As with SageMaker there is none where there were no data, and of course none before the begin."""
    assert ("ProcessingJobArn" in execution_summary(entry(**changes))) == job


def test_what_is_not_known_is_absent() -> None:
    """No field is null, for clients ask whether it is there."""
    summary = execution_summary(entry(status=Status.PENDING, attempts=0))
    absent = {"ProcessingJobArn", "FailureReason", "ExitMessage", "Output", "PeakMemoryInBytes"}
    assert not absent & summary.keys()
    assert None not in summary.values()


def test_a_peak_of_nothing_is_told() -> None:
    """Zero is a figure."""
    assert execution_summary(entry(peak_memory=0))["PeakMemoryInBytes"] == 0


def test_a_schedule_is_described() -> None:
    """What it executes stands in its configuration, and only in a list at its top."""
    one = schedule("watch", revision=3)
    assert schedule_summary(one)["MonitoringJobDefinitionName"] == job_definition("watch", 3) == "watch-3"
    described = schedule_description(one, {"ScheduleExpression": "NOW"}, None)
    assert "MonitoringJobDefinitionName" not in described
    assert described["MonitoringScheduleConfig"] == {
        "ScheduleConfig": {"ScheduleExpression": "NOW"},
        "MonitoringJobDefinitionName": "watch-3",
        "MonitoringType": "ModelExplainability",
    }
    assert "LastMonitoringExecutionSummary" not in described
    last = entry()
    described = schedule_description(one, {}, last)
    assert described["LastMonitoringExecutionSummary"] == execution_summary(last)


def test_documents_become_json() -> None:
    """Times in ISO 8601 with their offset, statuses as words, letters as they are."""
    value = {
        "at": NOON,
        "there": NOON.astimezone(timezone(HOUR)),
        "status": Status.IN_PROGRESS,
        "why": "näh",
        "n": None,
    }
    text = as_json(value)
    assert text.splitlines()[1] == '  "at": "2026-01-05T12:00:00+00:00",'
    assert "näh" in text
    assert orjson.loads(text) == {
        "at": "2026-01-05T12:00:00+00:00",
        "there": "2026-01-05T13:00:00+01:00",
        "status": "InProgress",
        "why": "näh",
        "n": None,
    }


def test_a_table_has_columns(golden: Golden) -> None:
    """As wide as what is in them, without blanks at the end of a line."""
    rows: list[list[object]] = [["a", NOON, 1], ["longer than its header", None, ""], ["", NOON + HOUR, 20]]
    golden(table(["NAME", "WHEN", "HOW MANY"], rows))
    assert table(["NAME", "WHEN"], []) == "NAME  WHEN"


@pytest.mark.parametrize(
    ("changes", "sentence"),
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
def test_how_an_execution_went_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    """The longer reason where it has failed, else the reason, else what it had to say."""
    assert reason_or_message(entry(**changes)) == sentence


def test_last_words_of_many_lines_become_one(golden: Golden) -> None:
    """A process that died with a traceback does not tear tables apart."""
    said = "its process ended with exit code 1, without a result: Traceback (most recent call last):\nValueError: no"
    told = reason_or_message(entry(status=Status.FAILED, failure_reason=said))
    golden(told)
    assert "\n" not in told
