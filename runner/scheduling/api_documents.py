"""Schedules and executions as documents of the SageMaker API and as text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from runner.domain.executions import Status
from runner.domain.schedules import ExecutionRecord, Schedule, first_line
from runner.errors import NO_DATA

ARN = "arn:aws-shapwatch:sagemaker:local:000000000000"
"""Prefix of the ARNs of local resources, in the format of AWS."""
MAX_NAME = 63
"""Maximum length of the name of a SageMaker resource."""


def schedule_summary(schedule: Schedule) -> dict[str, object]:
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


def schedule_description(
    schedule: Schedule, config: Mapping[str, object], last: ExecutionRecord | None
) -> dict[str, object]:
    """Return the response of DescribeMonitoringSchedule.

    Args:
        schedule: schedule.
        config: its `ScheduleConfig`.
        last: its execution with the latest scheduled time; None before the first one.
    """
    summary = schedule_summary(schedule)
    definition, kind = summary.pop("MonitoringJobDefinitionName"), summary.pop("MonitoringType")
    description = {
        **summary,
        "MonitoringType": kind,
        "MonitoringScheduleConfig": {
            "ScheduleConfig": dict(config),
            "MonitoringJobDefinitionName": definition,
            "MonitoringType": kind,
        },
    }
    return description if last is None else {**description, "LastMonitoringExecutionSummary": execution_summary(last)}


def execution_summary(execution: ExecutionRecord) -> dict[str, object]:
    """Return an element of ListMonitoringExecutions' `MonitoringExecutionSummaries`.

    Additional keys come last: those of SageMaker's processing job (`ExitMessage`, `Output`), `Window` and
    `PeakMemoryInBytes`. As in SageMaker, an execution without data has no processing job.
    """
    has_job = execution.attempts and execution.failure_reason != NO_DATA
    failed = execution.status in {Status.FAILED, Status.STOPPED}
    document = {
        "MonitoringScheduleName": execution.schedule,
        "ScheduledTime": execution.scheduled,
        "CreationTime": execution.created,
        "LastModifiedTime": execution.modified,
        "MonitoringExecutionStatus": execution.status,
        "ProcessingJobArn": f"{ARN}:processing-job/{execution.schedule}-{execution.id}" if has_job else None,
        "EndpointName": execution.endpoint,
        "FailureReason": execution.failure_reason if failed else None,
        "MonitoringJobDefinitionName": job_definition(execution.schedule, execution.revision),
        "MonitoringType": "ModelExplainability",
        "ExitMessage": execution.exit_message,
        "Output": {"Destination": execution.output} if execution.output else None,
        "Window": {"Start": execution.window.start, "End": execution.window.end},
        "PeakMemoryInBytes": execution.peak_memory,
    }
    return {key: value for key, value in document.items() if value is not None}


def job_definition(name: str, revision: int) -> str:
    """Return the name of a schedule's job definition, which changes with each update.

    >>> job_definition("adult-monitor", 2)
    'adult-monitor-2'
    """
    suffix = f"-{revision}"
    return f"{name[: MAX_NAME - len(suffix)]}{suffix}"


def as_json(value: Any) -> str:
    """Serialize a document as indented JSON, with times in ISO 8601."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Format rows and their headers in aligned columns.

    >>> print(table(["NAME", "STATUS"], [["adult", "Scheduled"], ["b", None]]))
    NAME   STATUS
    adult  Scheduled
    b      –
    """
    cells = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%F %T}"
    return "–" if value is None else str(value)


def reason_or_message(execution: ExecutionRecord) -> str:
    """Return the first line of the failure reason, or of the exit message if there is no reason.

    The exit message of a failed execution has precedence, because it is more detailed.
    """
    message = execution.exit_message if execution.status == Status.FAILED else None
    return first_line(message or execution.failure_reason or execution.exit_message or "")
