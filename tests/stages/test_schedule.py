"""The stage `schedule` creates, updates, shows and deletes schedules with the semantics of SageMaker's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import orjson
import pytest
from omegaconf import OmegaConf

from runner import cli
from runner.domain.executions import HOUR, Status, Window
from runner.domain.schedules import Claim, ExecutionRecord, Snapshot
from runner.errors import NO_DATA, ScheduleExists, UnknownSchedule
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.ledger import Ledger
from runner.scheduling.timetable import Timetable, load
from runner.stages.schedule import Action, Schedules, ScheduleStage
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.golden import Golden
from tests.scheduling.daemon.bench import Bench, declaration, result
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, scheduled_times

ADDITIONAL_KEYS = {"ExitMessage", "Output", "Window", "PeakMemoryInBytes"}
OPERATIONS: dict[Action, str] = {
    "describe": "DescribeMonitoringSchedule",
    "list": "ListMonitoringSchedules",
    "executions": "ListMonitoringExecutions",
}
HOURLY, EVERY_TWO = "cron(0 * ? * * *)", "cron(0 0/2 ? * * *)"
FIXED = {"start": "2026-01-04T09:00:00Z", "end": "2026-01-05T09:00:00Z"}
RELATIVE = {"data_analysis_start": "-PT5H", "data_analysis_end": "-PT1H"}
AT_ONCE = "one execution over"
NOW = (r"\d{4}-\d\d-\d\d |\d\d:\d\d:\d\d", "")
"""Patterns of the current date and time, for the golden files."""
MINUTE = timedelta(minutes=1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Components around a new ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


@pytest.fixture
def shapwatch(tmp_path: Path) -> Shapwatch:
    """The command line with the quickstart experiment."""
    return Shapwatch(tmp_path)


def schedules(bench: Bench, action: Action, declared: Declaration | None = None, **changes: Any) -> Schedules:
    """Return a stage with an action on the schedule `watch`, or on that of a declaration."""
    options: dict[str, Any] = {"format": "json", "running": False, "limit": 10, **changes}
    return Schedules(
        settings=ScheduleStage("schedule", action, **options),
        ledger=lambda: nullcontext(bench.ledger),
        name=(declared or declaration()).name,
        declared=lambda: declared or declaration(),
        clock=bench.clock,
    )


def document(bench: Bench, action: Action, declared: Declaration | None = None, **changes: Any) -> Any:
    """Return the JSON document of an action."""
    return orjson.loads(schedules(bench, action, declared, **changes).run().message)


def text(bench: Bench, action: Action, declared: Declaration | None = None, **changes: Any) -> str:
    """Return the text of an action."""
    outcome = schedules(bench, action, declared, format="table", **changes).run()
    assert outcome.succeeded
    return outcome.message


def lines(bench: Bench, name: str = "watch") -> dict[str, str]:
    """Return the fields of the text of `describe`."""
    description = text(bench, "describe", declaration(name)).splitlines()
    return {line[:15].strip(): line[16:] for line in description}


def without_timetable(**changes: Any) -> Declaration:
    """Return a declaration in which no timetable was chosen, with changed fields."""
    return replace(declaration(), changes={}, **changes)


def once(**changes: Any) -> Timetable:
    """Return a timetable with one execution."""
    keys = ("start", "end", "data_analysis_start", "data_analysis_end")
    values = {"kind": "once", "expression": "NOW", "max_runtime": 60, **dict.fromkeys(keys), **changes}
    return load(orjson.dumps(values).decode())


def single_execution(**changes: Any) -> Declaration:
    """Return the declaration of a monitor that is executed once."""
    return replace(declaration(), timetable=once(**changes))


def finish(bench: Bench, execution: ExecutionRecord, status: Status = Status.COMPLETED, **changes: Any) -> None:
    """Start and end an execution."""
    assert bench.ledger.executions.claim(execution.id, "a", bench.clock())
    ended = result(status, **changes)
    assert bench.ledger.executions.finish(Claim(execution.id, "a", 1), ended, bench.clock(), 2**31)


def expression(bench: Bench) -> str:
    """Return the cron expression of the schedule."""
    config: str = document(bench, "describe")["MonitoringScheduleConfig"]["ScheduleConfig"]["ScheduleExpression"]
    return config


def test_a_created_schedule_is_scheduled(bench: Bench, golden: Golden) -> None:
    """Creation starts the schedule and reports its first execution."""
    golden(text(bench, "create"))
    assert lines(bench) == {
        "schedule": "watch",
        "status": "Scheduled",
        "endpoint": "e",
        "expression": HOURLY,
        "next": "2026-01-05 13:00",
        "reference": "reference",
        "created": "2026-01-05 12:00:00 UTC",
        "modified": "2026-01-05 12:00:00 UTC, revision 1",
        "last execution": "none",
    }


def test_the_last_execution_is_absent_before_the_first_one(bench: Bench) -> None:
    """The key is absent rather than null; later it contains the execution with the latest scheduled time."""
    document(bench, "create")
    assert "LastMonitoringExecutionSummary" not in document(bench, "describe")
    for hours in (2, 1):
        finish(bench, bench.pending(hours=hours), message=f"Completed, {hours}\nmore")
    last = document(bench, "describe")["LastMonitoringExecutionSummary"]
    assert (last["MonitoringExecutionStatus"], last["ScheduledTime"]) == ("Completed", "2026-01-05T14:00:00+00:00")
    assert lines(bench)["last execution"] == "scheduled 2026-01-05 14:00:00 UTC: Completed, 2"


def test_creating_an_existing_schedule_is_refused(bench: Bench, golden: Golden) -> None:
    """The error is ResourceInUse, and the schedule is unchanged."""
    text(bench, "create")
    before = document(bench, "describe")
    with golden.raises(ScheduleExists):
        text(bench, "create", declaration(expression=EVERY_TWO))
    assert document(bench, "describe") == before


@pytest.mark.parametrize("action", ["describe", "update", "start", "stop", "delete", "executions"])
def test_an_unknown_schedule_is_not_found(bench: Bench, action: Action, golden: Golden) -> None:
    """Each action names the schedules in the ledger."""
    bench.create("other")
    with golden.raises(UnknownSchedule):
        text(bench, action)


def test_stopping_twice_changes_nothing(bench: Bench, golden: Golden) -> None:
    """The second stop succeeds and does not modify the schedule."""
    text(bench, "create")
    golden(text(bench, "stop"))
    bench.clock.advance(HOUR)
    golden(text(bench, "stop"))
    summary = document(bench, "stop")
    assert (summary["MonitoringScheduleStatus"], summary["LastModifiedTime"]) == (
        "Stopped",
        "2026-01-05T12:00:00+00:00",
    )
    assert lines(bench)["status"] == "Stopped"


def test_starting_twice_changes_nothing(bench: Bench, golden: Golden) -> None:
    """The second start succeeds and does not modify the schedule."""
    text(bench, "create")
    text(bench, "stop")
    bench.clock.advance(HOUR)
    golden(text(bench, "start"))
    bench.clock.advance(MINUTE)
    golden(text(bench, "start"))
    assert lines(bench)["modified"] == "2026-01-05 13:00:00 UTC, revision 1"


def test_stopping_skips_pending_executions_and_ends_running_ones_on_request(bench: Bench, golden: Golden) -> None:
    """Running executions continue unless stage.running=true."""
    text(bench, "create")
    running, pending = bench.pending(), bench.pending(hours=2)
    assert bench.ledger.executions.claim(running.id, "a", NOON)
    golden(text(bench, "stop"))
    assert bench.ledger.executions.get(running.id).status == Status.IN_PROGRESS
    assert bench.ledger.executions.get(pending.id).status == Status.STOPPED
    golden(text(bench, "stop", running=True))
    assert bench.ledger.executions.get(running.id).status == Status.STOPPING


def test_stopping_executions_are_not_counted_as_running(bench: Bench) -> None:
    """A second request to end running executions does not report them as still running."""
    text(bench, "create")
    assert bench.ledger.executions.claim(bench.pending().id, "a", NOON)
    text(bench, "stop", running=True)
    assert "still running" not in text(bench, "stop", running=True)


def test_an_update_without_timetable_keeps_the_timetable(bench: Bench, golden: Golden) -> None:
    """Other settings are replaced, and the name of the job definition changes."""
    text(bench, "create", declaration(expression=EVERY_TWO, max_runtime=77))
    bench.clock.advance(MINUTE)
    golden(text(bench, "update", without_timetable(endpoint="other", reference="elsewhere")))
    description = document(bench, "describe")
    assert expression(bench) == EVERY_TWO
    assert (description["EndpointName"], lines(bench)["reference"]) == ("other", "elsewhere")
    assert description["MonitoringScheduleConfig"]["MonitoringJobDefinitionName"] == "watch-2"
    assert (description["CreationTime"], description["LastModifiedTime"]) == (
        "2026-01-05T12:00:00+00:00",
        "2026-01-05T12:01:00+00:00",
    )
    assert bench.ledger.schedules.get("watch").max_runtime == 77


def test_an_update_with_timetable_replaces_the_timetable(bench: Bench) -> None:
    """The default timetable counts as well if it was chosen."""
    text(bench, "create", declaration(expression=EVERY_TWO))
    text(bench, "update", declaration())
    assert expression(bench) == HOURLY


def test_an_updated_stopped_schedule_has_no_next_execution(bench: Bench) -> None:
    """It stays stopped, and the message announces no time."""
    text(bench, "create")
    text(bench, "stop")
    message = text(bench, "update", declaration(expression=EVERY_TWO))
    assert (lines(bench)["status"], expression(bench)) == ("Stopped", EVERY_TWO)
    assert "next execution at" not in message


def test_deleting_a_schedule_keeps_its_executions(bench: Bench, golden: Golden) -> None:
    """Its executions are still listed, `describe` fails, and the name can be used again."""
    text(bench, "create")
    finish(bench, bench.pending(), directory="/out/13")
    golden(text(bench, "delete"))
    with pytest.raises(UnknownSchedule, match=r"^ResourceNotFound"):
        text(bench, "describe")
    (summary,) = document(bench, "executions")["MonitoringExecutionSummaries"]
    assert (summary["MonitoringExecutionStatus"], summary["Output"]) == ("Completed", {"Destination": "/out/13"})
    text(bench, "create")
    assert document(bench, "executions")["MonitoringExecutionSummaries"] == [summary]


def test_a_running_schedule_can_be_deleted(bench: Bench) -> None:
    """Pending executions are skipped; running ones continue."""
    text(bench, "create")
    running, pending = bench.pending(), bench.pending(hours=2)
    assert bench.ledger.executions.claim(running.id, "a", NOON)
    assert document(bench, "delete")["MonitoringScheduleName"] == "watch"
    assert bench.ledger.executions.get(running.id).status == Status.IN_PROGRESS
    assert bench.ledger.executions.get(pending.id).status == Status.STOPPED


@pytest.mark.parametrize(
    ("given", "window", "config"),
    [
        (
            FIXED,
            Window(NOON - 27 * HOUR, NOON - 3 * HOUR),
            {"DataAnalysisStartTime": FIXED["start"], "DataAnalysisEndTime": FIXED["end"]},
        ),
        (
            RELATIVE,
            Window(NOON - 5 * HOUR, NOON - HOUR),
            {"DataAnalysisStartTime": "-PT5H", "DataAnalysisEndTime": "-PT1H"},
        ),
    ],
    ids=["start", "data_analysis_start"],
)
def test_a_single_execution_is_pending_after_creation(
    bench: Bench, given: dict[str, str], window: Window, config: dict[str, str], golden: Golden
) -> None:
    """Its window is fixed, or relative to the creation."""
    golden(text(bench, "create", single_execution(**given)))
    (execution,) = bench.ledger.executions.newest("watch")
    assert (execution.status, execution.scheduled, execution.start_at, execution.window) == (
        Status.PENDING,
        NOON,
        NOON,
        window,
    )
    description = document(bench, "describe")
    assert description["MonitoringScheduleConfig"]["ScheduleConfig"] == {"ScheduleExpression": "NOW", **config}
    assert description["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Pending"


def test_a_single_execution_starts_at_the_end_of_its_window(bench: Bench, golden: Golden) -> None:
    """The message states that time."""
    golden(text(bench, "create", single_execution(start="2026-01-06T00:00:00Z", end="2026-01-07T00:00:00Z")))
    (execution,) = bench.ledger.executions.newest("watch")
    assert execution.start_at == NOON + 36 * HOUR


def test_none_is_rendered_as_dash(bench: Bench) -> None:
    """The next time of a single execution is a dash, as in the list."""
    text(bench, "create", single_execution(**FIXED))
    assert lines(bench)["next"] == "–"


def test_an_update_adds_an_execution_only_for_another_window(bench: Bench) -> None:
    """With the same timetable, or without one, there is no second execution."""
    text(bench, "create", single_execution(**RELATIVE))
    bench.clock.advance(MINUTE)
    for same in (single_execution(**RELATIVE), without_timetable()):
        text(bench, "update", same)
        assert len(bench.ledger.executions.newest("watch")) == 1
    assert AT_ONCE in text(bench, "update", single_execution(**FIXED))
    newest, first = bench.ledger.executions.newest("watch")
    assert (newest.revision, newest.window) == (4, Window(NOON - 27 * HOUR, NOON - 3 * HOUR))
    assert (first.revision, first.window) == (1, Window(NOON - 5 * HOUR, NOON - HOUR))


def test_no_execution_is_announced_after_the_single_one(bench: Bench) -> None:
    """Neither an update without timetable nor a start announces an execution."""
    text(bench, "create", single_execution(**RELATIVE))
    finish(bench, bench.ledger.executions.newest("watch")[0])
    bench.clock.advance(MINUTE)
    assert AT_ONCE not in text(bench, "update", without_timetable())
    text(bench, "stop")
    assert AT_ONCE not in text(bench, "start")
    assert len(bench.ledger.executions.newest("watch")) == 1


def test_executions_are_listed_newest_first(bench: Bench, golden: Golden) -> None:
    """The list has at most stage.limit executions; an empty list is a message."""
    text(bench, "create")
    golden(text(bench, "executions"))
    assert document(bench, "executions") == {"MonitoringExecutionSummaries": []}
    for hours in (1, 3, 2):
        bench.pending(hours=hours)
    _, second, first = bench.ledger.executions.newest("watch")
    finish(bench, first, message="Completed, 13:00\n  /out/13/report.html", directory="/out/13")
    finish(bench, second, Status.FAILED, failure_reason=NO_DATA, message="Failed, 14:00: looked in /capture")
    summaries = document(bench, "executions", limit=2)["MonitoringExecutionSummaries"]
    assert [summary["ScheduledTime"][11:13] for summary in summaries] == ["15", "14"]
    golden(text(bench, "executions"))


def test_schedules_are_listed_by_name(bench: Bench, golden: Golden) -> None:
    """Stopped schedules and those with a single execution have no next time."""
    golden(text(bench, "list"))
    assert document(bench, "list") == {"MonitoringScheduleSummaries": []}
    for name in ("b", "a"):
        bench.create(name)
    replace(single_execution(**FIXED), name="c").create(bench.ledger.schedules, bench.clock())
    bench.ledger.schedules.stop("b", bench.clock())
    golden(text(bench, "list"))
    summaries = document(bench, "list")["MonitoringScheduleSummaries"]
    assert [summary["MonitoringScheduleName"] for summary in summaries] == ["a", "b", "c"]


def test_the_next_time_is_after_the_cursor(bench: Bench) -> None:
    """After the clock was set back, the next time is the first one that was not planned."""
    schedule = bench.create()
    bench.clock.advance(3 * HOUR)
    assert bench.ledger.schedules.plan(schedule, scheduled_times(1, 2, 3), bench.clock())
    bench.clock.now = NOON
    assert lines(bench)["next"] == "2026-01-05 16:00"


def test_a_timetable_of_a_later_version_does_not_affect_others(bench: Bench) -> None:
    """The list contains the other schedules."""
    unknown = bench.create("unknown")
    bench.create()
    bench.ledger.schedules.update(replace(unknown, timetable='{"kind": "lunar"}'), declaration().snapshot)
    summaries = document(bench, "list")["MonitoringScheduleSummaries"]
    assert "watch" in [summary["MonitoringScheduleName"] for summary in summaries]


@cache
def model() -> Any:
    """Return botocore's model of the SageMaker API."""
    return botocore.session.get_session().get_service_model("sagemaker")


def assert_conforms(value: Any, shape: Any) -> None:
    """Check a value against a shape of the API model; executions may have additional keys."""
    match shape.type_name:
        case "structure":
            assert set(shape.required_members) <= value.keys()
            extra = ADDITIONAL_KEYS if shape.name == "MonitoringExecutionSummary" else set()
            assert value.keys() - shape.members.keys() <= extra
            for key in value.keys() & shape.members.keys():
                assert_conforms(value[key], shape.members[key])
        case "list":
            for element in value:
                assert_conforms(element, shape.member)
        case "timestamp":
            assert datetime.fromisoformat(value).utcoffset() == timedelta()
        case "string":
            assert isinstance(value, str)
            assert not shape.enum or value in shape.enum
            assert shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value))
        case other:
            raise AssertionError(f"{shape.name} is a {other}")


def add_each_status(bench: Bench) -> None:
    """Add an execution in each status; terminal ones have the longest texts."""
    for hours, status in enumerate(Status, 1):
        execution = bench.pending(hours=hours, endpoint="adult")
        if status.terminal:
            finish(bench, execution, status, message="x" * 2000, failure_reason="y" * 2000, directory="/out")
        elif status != Status.PENDING:
            assert bench.ledger.executions.claim(execution.id, "a", NOON)
        if status == Status.STOPPING:
            assert bench.ledger.executions.request_stop(execution.id, NOON)
    finish(bench, bench.pending(hours=100), Status.FAILED, failure_reason=NO_DATA)


def test_documents_conform_to_the_api_model(bench: Bench) -> None:
    """Each required field is present, and each field has the type, enumeration and length of botocore's model."""
    declared = [
        declaration(),
        replace(single_execution(**RELATIVE), name="relative"),
        replace(single_execution(**FIXED), name="f" * 61),
        declaration("stopped", buffer_minutes=20, start_offset="-PT3H", end_offset="-PT1H"),
    ]
    for each in declared:
        text(bench, "create", each)
        assert_conforms(document(bench, "describe", each), model().operation_model(OPERATIONS["describe"]).output_shape)
    text(bench, "stop", declared[-1])
    add_each_status(bench)
    for action, operation in OPERATIONS.items():
        assert_conforms(document(bench, action, limit=100), model().operation_model(operation).output_shape)
    summaries = document(bench, "executions", limit=100)["MonitoringExecutionSummaries"]
    assert {summary["MonitoringExecutionStatus"] for summary in summaries} == set(Status)
    assert [summary["ScheduledTime"] for summary in summaries if "ProcessingJobArn" not in summary] == [
        (NOON + hours * HOUR).isoformat() for hours in (100, 1)
    ]


@pytest.mark.parametrize("action", ["create", "update", "start", "stop", "delete"])
def test_actions_that_change_a_schedule_return_its_summary(bench: Bench, action: Action) -> None:
    """The document has the shape of an element of the list."""
    if action != "create":
        bench.create()
    assert_conforms(document(bench, action), model().shape_for("MonitoringScheduleSummary"))


def described(shapwatch: Shapwatch, *overrides: str) -> Any:
    """Return the description of the schedule on the command line."""
    return orjson.loads(shapwatch("stage=schedule", "stage.action=describe", "stage.format=json", *overrides))


def cron(shapwatch: Shapwatch) -> str:
    """Return the cron expression of the schedule on the command line."""
    text: str = described(shapwatch)["MonitoringScheduleConfig"]["ScheduleConfig"]["ScheduleExpression"]
    return text


def stored_snapshot(shapwatch: Shapwatch) -> Snapshot:
    """Return the snapshot in the ledger."""
    with Ledger(f"sqlite:///{shapwatch.root}/ledger.sqlite", BUSY) as ledger:
        return ledger.snapshot(ledger.schedules.get("breast-cancer-monitor").snapshot)


def read(snapshot: Snapshot) -> Any:
    """Return the settings of a snapshot as an execution reads them."""
    return OmegaConf.to_container(OmegaConf.create(snapshot.settings), resolve=True)


def test_an_update_on_the_command_line_keeps_the_timetable_unless_chosen(shapwatch: Shapwatch) -> None:
    """An update replaces other settings; a chosen schedule replaces the timetable."""
    shapwatch("stage=schedule", "stage.action=create", "schedule=daily", "schedule.hour=5")
    shapwatch("stage=schedule", "stage.action=update", "drift.threshold=0.5")
    assert cron(shapwatch) == "cron(0 5 ? * * *)"
    assert read(stored_snapshot(shapwatch))["drift"]["threshold"] == 0.5
    shapwatch("stage=schedule", "stage.action=update", "schedule=hourly")
    assert cron(shapwatch) == HOURLY


def test_an_update_of_max_runtime_keeps_the_timetable(shapwatch: Shapwatch) -> None:
    """As in SageMaker, a new maximum duration does not change the scheduled times."""
    shapwatch("stage=schedule", "stage.action=create", "schedule=daily", "schedule.hour=5")
    shapwatch("stage=schedule", "stage.action=update", "schedule.max_runtime=600")
    assert cron(shapwatch) == "cron(0 5 ? * * *)"


def test_a_snapshot_contains_neither_stage_nor_schedule_nor_secrets(
    shapwatch: Shapwatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It contains the other settings and the base folder of relative paths."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", secret := "correct-horse-battery")
    shapwatch("stage=schedule", "stage.action=create", r"report.title='costs \${so} much'")
    snapshot = stored_snapshot(shapwatch)
    settings = read(snapshot)
    assert "stage" not in settings
    assert settings["schedule"] is None
    assert (settings["monitor"]["name"], settings["report"]["title"]) == ("breast-cancer-monitor", "costs ${so} much")
    assert settings["paths"]["root"] == str(shapwatch.root)
    assert snapshot.folder == str(CHECKOUT)
    assert not any(secret.encode() in path.read_bytes() for path in shapwatch.root.iterdir())


@pytest.mark.parametrize("action", ["create", "update"])
def test_a_url_with_a_possible_secret_is_refused(shapwatch: Shapwatch, action: str, golden: Golden) -> None:
    """The query string of a URL is neither stored nor printed."""
    url = "model.url='http://127.0.0.1:1/invocations?key=s3cr3t'"
    message = shapwatch(
        "stage=schedule", f"stage.action={action}", "model=http", "~model.artifact", url, code=cli.BAD_INPUT
    )
    golden(message)
    assert "model.token_env" in message
    assert "s3cr3t" not in message
    assert not (shapwatch.root / "ledger.sqlite").exists()


def test_the_lifecycle_of_a_schedule_on_the_command_line(shapwatch: Shapwatch, golden: Golden) -> None:
    """The steps of the SageMaker notebook; an impossible action is a settings error."""
    window = ("schedule.data_analysis_start=-PT5H", "schedule.data_analysis_end=-PT1H")
    message = shapwatch("stage=schedule", "stage.action=create", "schedule=once", *window)
    golden(message, NOW)
    message = shapwatch("stage=schedule", "stage.action=create", "schedule=once", *window, code=cli.BAD_INPUT)
    assert "error: ResourceInUse: " in message
    assert described(shapwatch)["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Pending"
    for _ in range(2):
        shapwatch("stage=schedule", "stage.action=stop")
    shapwatch("stage=schedule", "stage.action=delete")
    message = shapwatch("stage=schedule", "stage.action=describe", code=cli.BAD_INPUT)
    golden(message, NOW)
    golden(shapwatch("stage=schedule", "stage.action=executions"), NOW, (" {2,}", "  "))  # widths depend on the date
