"""Schedules and executions as SageMaker's API describes them, and as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord, Schedule, first_line
from runner.errors import NO_DATA

ARN = "arn:aws-shapwatch:sagemaker:local:000000000000"
"""What the names of our resources start with where an ARN is asked for: of the form that AWS's own have."""
LONGEST_NAME = 63
"""Of a resource of SageMaker."""


def schedule_summary(schedule: Schedule) -> dict[str, Any]:
    """Return an element of ListMonitoringSchedules' `MonitoringScheduleSummaries`."""
    return {
        "MonitoringScheduleName": schedule.name,
        "MonitoringScheduleArn": f"{ARN}:monitoring-schedule/{schedule.name}",
        "CreationTime": schedule.created,
        "LastModifiedTime": schedule.modified,
        "MonitoringScheduleStatus": schedule.status,
        "EndpointName": schedule.endpoint,
        "MonitoringJobDefinitionName": job_definition(schedule.name, schedule.revision),
        "MonitoringType": "ModelExplainability",
    }


def schedule_description(schedule: Schedule, config: Mapping[str, Any], last: ExecutionRecord | None) -> dict[str, Any]:
    """Return what DescribeMonitoringSchedule answers; there is no last execution before the first.

    Args:
        schedule: the schedule.
        config: its `ScheduleConfig`.
        last: its execution with the latest scheduled time.
    """
    summary = schedule_summary(schedule)
    definition, kind = summary.pop("MonitoringJobDefinitionName"), summary.pop("MonitoringType")
    described = {
        **summary,
        "MonitoringType": kind,
        "MonitoringScheduleConfig": {
            "ScheduleConfig": dict(config),
            "MonitoringJobDefinitionName": definition,
            "MonitoringType": kind,
        },
    }
    return described if last is None else {**described, "LastMonitoringExecutionSummary": execution_summary(last)}


def execution_summary(entry: ExecutionRecord) -> dict[str, Any]:
    """Return an element of ListMonitoringExecutions' `MonitoringExecutionSummaries`.

    What the service tells through the processing job (`ExitMessage`, the output) and what is ours (`Window`,
    `PeakMemoryInBytes`) comes last. As with the service there is no processing job where there were no data.
    """
    ran = entry.attempts and entry.failure_reason != NO_DATA
    told = {
        "MonitoringScheduleName": entry.schedule,
        "ScheduledTime": entry.scheduled,
        "CreationTime": entry.created,
        "LastModifiedTime": entry.modified,
        "MonitoringExecutionStatus": entry.status,
        "ProcessingJobArn": f"{ARN}:processing-job/{entry.schedule}-{entry.id}" if ran else None,
        "EndpointName": entry.endpoint,
        "FailureReason": entry.failure_reason,
        "MonitoringJobDefinitionName": job_definition(entry.schedule, entry.revision),
        "MonitoringType": "ModelExplainability",
        "ExitMessage": entry.exit_message,
        "Output": {"Destination": entry.output} if entry.output else None,
        "Window": {"Start": entry.window.start, "End": entry.window.end},
        "PeakMemoryInBytes": entry.peak_memory,
    }
    return {key: value for key, value in told.items() if value is not None}


def job_definition(name: str, revision: int) -> str:
    """Return the name of what a schedule executes; every update makes another one.

    >>> job_definition("adult-monitor", 2)
    'adult-monitor-2'
    """
    ending = f"-{revision}"
    return f"{name[: LONGEST_NAME - len(ending)]}{ending}"


def as_json(value: Any) -> str:
    """Return a document as indented JSON, times in ISO 8601."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows below their headers, in columns.

    >>> print(table(["NAME", "STATUS"], [["adult", "Scheduled"], ["b", None]]))
    NAME   STATUS
    adult  Scheduled
    b      –
    """
    texts = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in texts)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%F %T}"
    return "–" if value is None else str(value)


def reason_or_message(entry: ExecutionRecord) -> str:
    """Return how an execution went, in a sentence."""
    failed = entry.status == Status.FAILED and entry.exit_message
    return first_line(failed or entry.failure_reason or entry.exit_message or "")
