"""Schedules are created, changed, shown and removed with the semantics of SageMaker's API."""

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
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import NO_DATA, ScheduleExists, UnknownSchedule
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.ledger.ledger import Ledger
from runner.scheduling.timetable import Timetable, load
from runner.stages.schedule import Action, Schedules
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import Bench, declaration
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, dues

OURS = {"ExitMessage", "Output", "Window", "PeakMemoryInBytes"}
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
"""Dates and times of the moment, for the golden files."""
MINUTE = timedelta(minutes=1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench around a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


@pytest.fixture
def shapwatch(tmp_path: Path) -> Shapwatch:
    """The program, with the quickstart's experiment."""
    return Shapwatch(tmp_path)


def schedules(bench: Bench, action: Action, declared: Declaration | None = None, **changes: Any) -> Schedules:
    """Return what does something with the schedules of a bench; it is about `watch` unless said otherwise."""
    parts: dict[str, Any] = {"form": "json", "running": False, "limit": 10, **changes}
    return Schedules(
        ledger=lambda: nullcontext(bench.ledger),
        action=action,
        name=(declared or declaration()).name,
        declared=lambda: declared or declaration(),
        clock=bench.clock,
        **parts,
    )


def document(bench: Bench, action: Action, declared: Declaration | None = None, **changes: Any) -> Any:
    """Return the answer to a program."""
    return orjson.loads(schedules(bench, action, declared, **changes).run().message)


def text(bench: Bench, action: Action, declared: Declaration | None = None, **changes: Any) -> str:
    """Return the answer to a person."""
    outcome = schedules(bench, action, declared, form="table", **changes).run()
    assert outcome.succeeded
    return outcome.message


def lines(bench: Bench, name: str = "watch") -> dict[str, str]:
    """Return what a person is told of a schedule."""
    told = text(bench, "describe", declaration(name)).splitlines()
    return {line[:15].strip(): line[16:] for line in told}


def unsaid(**changes: Any) -> Declaration:
    """Return a declaration whose timetable nobody chose, with some things else."""
    return replace(declaration(), changes={}, **changes)


def once(**changes: Any) -> Timetable:
    """Return a timetable of one execution."""
    keys = ("start", "end", "data_analysis_start", "data_analysis_end")
    values = {"kind": "once", "expression": "NOW", "max_runtime": 60, **dict.fromkeys(keys), **changes}
    return load(orjson.dumps(values).decode())


def at_once(**changes: Any) -> Declaration:
    """Return a monitor that is executed once."""
    return replace(declaration(), timetable=once(**changes))


def finish(bench: Bench, entry: ExecutionRecord, status: Status = Status.COMPLETED, **told: Any) -> None:
    """Let an execution begin and end."""
    assert bench.ledger.begin(entry.id, "us", bench.clock())
    result = {"exit_message": None, "failure_reason": None, "output": None, "peak_memory": 2**31, **told}
    assert bench.ledger.settle(entry.id, "us", status, bench.clock(), **result)


def expression(bench: Bench) -> str:
    """Return the expression of the schedule."""
    config: str = document(bench, "describe")["MonitoringScheduleConfig"]["ScheduleConfig"]["ScheduleExpression"]
    return config


def test_a_schedule_starts_by_itself(bench: Bench, golden: Golden) -> None:
    """As soon as it is created it is Scheduled, and says when it comes first."""
    told = text(bench, "create")
    golden(told)
    assert lines(bench) == {
        "schedule": "watch",
        "status": "Scheduled",
        "endpoint": "e",
        "expression": HOURLY,
        "next": "2026-01-05 13:00",
        "reference": "reference",
        "created": "2026-01-05 12:00:00 UTC",
        "modified": "2026-01-05 12:00:00 UTC, revision 1",
        "last execution": "none so far",
    }


def test_before_the_first_run_there_is_no_last_execution(bench: Bench) -> None:
    """The key is absent, not null; then it is the one that was scheduled last."""
    document(bench, "create")
    assert "LastMonitoringExecutionSummary" not in document(bench, "describe")
    for hours in (2, 1):
        finish(bench, bench.pending(hours=hours), exit_message=f"Completed, {hours}\nmore")
    last = document(bench, "describe")["LastMonitoringExecutionSummary"]
    assert (last["MonitoringExecutionStatus"], last["ScheduledTime"]) == ("Completed", "2026-01-05T14:00:00+00:00")
    told = "scheduled 2026-01-05 14:00:00 UTC: Completed, 2"
    assert lines(bench)["last execution"] == told


def test_a_name_is_taken_once(bench: Bench, golden: Golden) -> None:
    """Creating an existing one is ResourceInUse, and changes nothing."""
    text(bench, "create")
    before = document(bench, "describe")
    with golden.raises(ScheduleExists):
        text(bench, "create", declaration(expression=EVERY_TWO))
    assert document(bench, "describe") == before


@pytest.mark.parametrize("action", ["describe", "update", "start", "stop", "delete", "executions"])
def test_an_unknown_name_is_not_found(bench: Bench, action: Action, golden: Golden) -> None:
    """Whatever is to be done with it; the sentence says which there are."""
    bench.create("other")
    with golden.raises(UnknownSchedule):
        text(bench, action)


def test_stopping_twice_is_fine(bench: Bench, golden: Golden) -> None:
    """The second time there is nothing left to stop; what comes next is nothing."""
    text(bench, "create")
    golden(text(bench, "stop"))
    bench.clock.go_on(HOUR)
    golden(text(bench, "stop"))
    told = document(bench, "stop")
    assert (told["MonitoringScheduleStatus"], told["LastModifiedTime"]) == ("Stopped", "2026-01-05T12:00:00+00:00")
    assert lines(bench)["status"] == "Stopped"


def test_starting_twice_is_fine(bench: Bench, golden: Golden) -> None:
    """It goes on from the first time on."""
    text(bench, "create")
    text(bench, "stop")
    bench.clock.go_on(HOUR)
    golden(text(bench, "start"))
    bench.clock.go_on(MINUTE)
    golden(text(bench, "start"))
    assert lines(bench)["modified"] == "2026-01-05 13:00:00 UTC, revision 1"


def test_stopping_lets_what_runs_go_on(bench: Bench, golden: Golden) -> None:
    """What has not begun is called off; what runs is ended only when that is asked for."""
    text(bench, "create")
    running, pending = bench.pending(), bench.pending(hours=2)
    assert bench.ledger.begin(running.id, "us", NOON)
    golden(text(bench, "stop"))
    assert bench.ledger.entry(running.id).status == Status.IN_PROGRESS
    assert bench.ledger.entry(pending.id).status == Status.STOPPED
    told = text(bench, "stop", running=True)
    golden(told)
    assert bench.ledger.entry(running.id).status == Status.STOPPING


def test_what_was_told_to_end_is_not_called_untouched(bench: Bench) -> None:
    """Asking a second time to end what runs does not say the opposite of what the first time did."""
    text(bench, "create")
    assert bench.ledger.begin(bench.pending().id, "us", NOON)
    text(bench, "stop", running=True)
    assert "not touched" not in text(bench, "stop", running=True)


def test_an_update_keeps_the_timetable_that_nobody_chose(bench: Bench, golden: Golden) -> None:
    """Everything else is replaced, under the name of a new definition."""
    text(bench, "create", declaration(expression=EVERY_TWO, max_runtime=77))
    bench.clock.go_on(MINUTE)
    told = text(bench, "update", unsaid(endpoint="other", reference="elsewhere"))
    golden(told)
    found = document(bench, "describe")
    assert expression(bench) == EVERY_TWO
    assert (found["EndpointName"], lines(bench)["reference"]) == ("other", "elsewhere")
    assert found["MonitoringScheduleConfig"]["MonitoringJobDefinitionName"] == "watch-2"
    assert (found["CreationTime"], found["LastModifiedTime"]) == (
        "2026-01-05T12:00:00+00:00",
        "2026-01-05T12:01:00+00:00",
    )
    assert bench.ledger.schedule("watch").max_runtime == 77


def test_an_update_takes_the_timetable_that_somebody_chose(bench: Bench) -> None:
    """Even when it is the usual one."""
    text(bench, "create", declaration(expression=EVERY_TWO))
    text(bench, "update", declaration())
    assert expression(bench) == HOURLY


def test_an_update_of_a_stopped_schedule_promises_nothing(bench: Bench) -> None:
    """It stays stopped, and nobody is told of a time at which nothing will happen."""
    text(bench, "create")
    text(bench, "stop")
    told = text(bench, "update", declaration(expression=EVERY_TWO))
    assert (lines(bench)["status"], expression(bench)) == ("Stopped", EVERY_TWO)
    assert "next at" not in told


def test_deleting_keeps_history(bench: Bench, golden: Golden) -> None:
    """Its executions are still listed, describing it fails at once, and its name is free."""
    text(bench, "create")
    finish(bench, bench.pending(), output="/out/13")
    golden(text(bench, "delete"))
    with pytest.raises(UnknownSchedule, match=r"^ResourceNotFound"):
        text(bench, "describe")
    (kept,) = document(bench, "executions")["MonitoringExecutionSummaries"]
    assert (kept["MonitoringExecutionStatus"], kept["Output"]) == ("Completed", {"Destination": "/out/13"})
    text(bench, "create")
    assert document(bench, "executions")["MonitoringExecutionSummaries"] == [kept]


def test_deleting_needs_no_stop_before_it(bench: Bench) -> None:
    """What has not begun is called off; what runs goes on."""
    text(bench, "create")
    running, pending = bench.pending(), bench.pending(hours=2)
    assert bench.ledger.begin(running.id, "us", NOON)
    assert document(bench, "delete")["MonitoringScheduleName"] == "watch"
    assert bench.ledger.entry(running.id).status == Status.IN_PROGRESS
    assert bench.ledger.entry(pending.id).status == Status.STOPPED


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
def test_once_has_one_execution_at_once(
    bench: Bench, given: dict[str, str], window: Window, config: dict[str, str], golden: Golden
) -> None:
    """It is pending as soon as there is a schedule, and nothing comes after it."""
    told = text(bench, "create", at_once(**given))
    golden(told)
    (entry,) = bench.ledger.entries("watch")
    assert (entry.status, entry.scheduled, entry.start_at, entry.window) == (Status.PENDING, NOON, NOON, window)
    found = document(bench, "describe")
    assert found["MonitoringScheduleConfig"]["ScheduleConfig"] == {"ScheduleExpression": "NOW", **config}
    assert found["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Pending"


def test_a_window_that_has_not_ended_is_waited_for(bench: Bench, golden: Golden) -> None:
    """The one execution begins when its window ends, and nobody is told that it begins before."""
    told = text(bench, "create", at_once(start="2026-01-06T00:00:00Z", end="2026-01-07T00:00:00Z"))
    (entry,) = bench.ledger.entries("watch")
    assert entry.start_at == NOON + 36 * HOUR
    golden(told)


def test_a_person_is_not_told_none(bench: Bench) -> None:
    """Where nothing comes next there is a dash, as in the list."""
    text(bench, "create", at_once(**FIXED))
    assert lines(bench)["next"] == "–"


def test_an_update_executes_once_more_when_the_window_is_another_one(bench: Bench) -> None:
    """With the same window, or with one that nobody chose, nothing is executed a second time."""
    text(bench, "create", at_once(**RELATIVE))
    bench.clock.go_on(MINUTE)
    for same in (at_once(**RELATIVE), unsaid()):
        text(bench, "update", same)
        assert len(bench.ledger.entries("watch")) == 1
    assert AT_ONCE in text(bench, "update", at_once(**FIXED))
    newest, first = bench.ledger.entries("watch")
    assert (newest.revision, newest.window) == (4, Window(NOON - 27 * HOUR, NOON - 3 * HOUR))
    assert (first.revision, first.window) == (1, Window(NOON - 5 * HOUR, NOON - HOUR))


def test_nothing_is_told_of_an_execution_that_will_not_be(bench: Bench) -> None:
    """Neither an update that executes nothing nor a start after a stop says that there is one to come."""
    text(bench, "create", at_once(**RELATIVE))
    finish(bench, bench.ledger.entries("watch")[0])
    bench.clock.go_on(MINUTE)
    assert AT_ONCE not in text(bench, "update", unsaid())
    text(bench, "stop")
    assert AT_ONCE not in text(bench, "start")
    assert len(bench.ledger.entries("watch")) == 1


def test_executions_come_newest_first(bench: Bench, golden: Golden) -> None:
    """As many as are asked for, with their windows and what happened; none is a sentence, too."""
    text(bench, "create")
    golden(text(bench, "executions"))
    assert document(bench, "executions") == {"MonitoringExecutionSummaries": []}
    for hours in (1, 3, 2):
        bench.pending(hours=hours)
    _, second, first = bench.ledger.entries("watch")
    finish(bench, first, exit_message="Completed, 13:00\n  /out/13/report.html", output="/out/13")
    finish(bench, second, Status.FAILED, failure_reason=NO_DATA, exit_message="Failed, 14:00: looked in /capture")
    told = document(bench, "executions", limit=2)["MonitoringExecutionSummaries"]
    assert [one["ScheduledTime"][11:13] for one in told] == ["15", "14"]
    golden(text(bench, "executions"))


def test_all_schedules_are_listed_by_name(bench: Bench, golden: Golden) -> None:
    """What is stopped, or comes once, has no next time."""
    golden(text(bench, "list"))
    assert document(bench, "list") == {"MonitoringScheduleSummaries": []}
    for name in ("b", "a"):
        bench.create(name)
    replace(at_once(**FIXED), name="c").create(bench.ledger, bench.clock())
    bench.ledger.stop("b", bench.clock())
    golden(text(bench, "list"))
    told = document(bench, "list")["MonitoringScheduleSummaries"]
    assert [one["MonitoringScheduleName"] for one in told] == ["a", "b", "c"]


def test_what_was_dealt_with_does_not_come_again(bench: Bench) -> None:
    """After a clock was set back, the next time is the first one that has not been dealt with."""
    schedule = bench.create()
    bench.clock.go_on(3 * HOUR)
    assert bench.ledger.plan(schedule, dues(1, 2, 3), bench.clock())
    bench.clock.now = NOON
    assert lines(bench)["next"] == "2026-01-05 16:00"


def test_a_timetable_of_a_later_version_harms_no_other(bench: Bench) -> None:
    """The list has the others, as the daemon goes on with the others."""
    strange = bench.create("strange")
    bench.create()
    bench.ledger.update(replace(strange, timetable='{"kind": "lunar"}'), declaration().snapshot)
    told = document(bench, "list")["MonitoringScheduleSummaries"]
    assert "watch" in [one["MonitoringScheduleName"] for one in told]


@cache
def model() -> Any:
    """Return what botocore knows of SageMaker's API."""
    return botocore.session.get_session().get_service_model("sagemaker")


def conforms(value: Any, shape: Any) -> None:
    """Check that a value is what the API's model says, but for what executions tell beyond it."""
    match shape.type_name:
        case "structure":
            assert set(shape.required_members) <= value.keys()
            extra = OURS if shape.name == "MonitoringExecutionSummary" else set()
            assert value.keys() - shape.members.keys() <= extra
            for key in value.keys() & shape.members.keys():
                conforms(value[key], shape.members[key])
        case "list":
            for one in value:
                conforms(one, shape.member)
        case "timestamp":
            assert datetime.fromisoformat(value).utcoffset() == timedelta()
        case "string":
            assert isinstance(value, str)
            assert not shape.enum or value in shape.enum
            assert shape.metadata.get("min", 0) <= len(value) <= shape.metadata.get("max", len(value))
        case other:
            raise AssertionError(f"{shape.name} is a {other}")


def in_every_status(bench: Bench) -> None:
    """Let a schedule have an execution in each status, those that end with everything they can tell."""
    for hours, status in enumerate(Status, 1):
        entry = bench.pending(hours=hours, endpoint="adult")
        if status.terminal:
            told = {"exit_message": "x" * 2000, "failure_reason": "y" * 2000, "output": "/out"}
            finish(bench, entry, status, **told)
        elif status != Status.PENDING:
            assert bench.ledger.begin(entry.id, "us", NOON)
        if status == Status.STOPPING:
            assert bench.ledger.ask_to_stop(entry.id, NOON)
    finish(bench, bench.pending(hours=100), Status.FAILED, failure_reason=NO_DATA)


def test_answers_are_those_of_the_api(bench: Bench) -> None:
    """Every field that SageMaker requires is there, and each has the type and the words that botocore knows."""
    declared = [
        declaration(),
        replace(at_once(**RELATIVE), name="relative"),
        replace(at_once(**FIXED), name="f" * 61),
        declaration("stopped", buffer_minutes=20, start_offset="-PT3H", end_offset="-PT1H"),
    ]
    for each in declared:
        text(bench, "create", each)
        conforms(document(bench, "describe", each), model().operation_model(OPERATIONS["describe"]).output_shape)
    text(bench, "stop", declared[-1])
    in_every_status(bench)
    for action, operation in OPERATIONS.items():
        conforms(document(bench, action, limit=100), model().operation_model(operation).output_shape)
    summaries = document(bench, "executions", limit=100)["MonitoringExecutionSummaries"]
    assert {one["MonitoringExecutionStatus"] for one in summaries} == set(Status)
    assert [one["ScheduledTime"] for one in summaries if "ProcessingJobArn" not in one] == [
        (NOON + hours * HOUR).isoformat() for hours in (100, 1)
    ]


@pytest.mark.parametrize("action", ["create", "update", "start", "stop", "delete"])
def test_what_changes_a_schedule_answers_with_its_summary(bench: Bench, action: Action) -> None:
    """The same that a list has."""
    if action != "create":
        bench.create()
    conforms(document(bench, action), model().shape_for("MonitoringScheduleSummary"))


def described(shapwatch: Shapwatch, *overrides: str) -> Any:
    """Return what the program says of its schedule."""
    return orjson.loads(shapwatch("stage=schedule", "stage.action=describe", "stage.format=json", *overrides))


def cron(shapwatch: Shapwatch) -> str:
    """Return the expression of the program's schedule."""
    found: str = described(shapwatch)["MonitoringScheduleConfig"]["ScheduleConfig"]["ScheduleExpression"]
    return found


def kept(shapwatch: Shapwatch) -> Snapshot:
    """Return the settings that the ledger keeps."""
    with Ledger(f"sqlite:///{shapwatch.root}/ledger.sqlite", BUSY) as ledger:
        return ledger.snapshot(ledger.schedule("breast-cancer-monitor").snapshot)


def read(snapshot: Snapshot) -> Any:
    """Return settings as an execution reads them."""
    return OmegaConf.to_container(OmegaConf.create(snapshot.settings), resolve=True)


def test_the_command_line_keeps_a_timetable_that_it_does_not_choose(shapwatch: Shapwatch) -> None:
    """An update replaces the other settings; choosing a schedule replaces the timetable."""
    shapwatch("stage=schedule", "stage.action=create", "schedule=daily", "schedule.hour=5")
    shapwatch("stage=schedule", "stage.action=update", "drift.threshold=0.5")
    assert cron(shapwatch) == "cron(0 5 ? * * *)"
    assert read(kept(shapwatch))["drift"]["threshold"] == 0.5
    shapwatch("stage=schedule", "stage.action=update", "schedule=hourly")
    assert cron(shapwatch) == HOURLY


def test_another_limit_is_no_other_timetable(shapwatch: Shapwatch) -> None:
    """As with SageMaker, changing only how long executions may take keeps the times."""
    shapwatch("stage=schedule", "stage.action=create", "schedule=daily", "schedule.hour=5")
    shapwatch("stage=schedule", "stage.action=update", "schedule.max_runtime=600")
    assert cron(shapwatch) == "cron(0 5 ? * * *)"


def test_the_ledger_keeps_settings_of_every_stage(shapwatch: Shapwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold no stage, no schedule and no secret, and say in which folder their paths start."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", secret := "correct-horse-battery")
    shapwatch("stage=schedule", "stage.action=create", r"report.title='costs \${so} much'")
    snapshot = kept(shapwatch)
    settings = read(snapshot)
    assert "stage" not in settings
    assert settings["schedule"] is None
    assert (settings["monitor"]["name"], settings["report"]["title"]) == ("breast-cancer-monitor", "costs ${so} much")
    assert settings["paths"]["root"] == str(shapwatch.root)
    assert snapshot.folder == str(CHECKOUT)
    assert not any(secret.encode() in path.read_bytes() for path in shapwatch.root.iterdir())


@pytest.mark.parametrize("action", ["create", "update"])
def test_an_address_that_may_hold_a_secret_is_refused(shapwatch: Shapwatch, action: str, golden: Golden) -> None:
    """What follows a question mark is neither kept nor repeated."""
    url = "model.url='http://127.0.0.1:1/invocations?key=s3cr3t'"
    told = shapwatch(
        "stage=schedule", f"stage.action={action}", "model=http", "~model.artifact", url, code=cli.BAD_INPUT
    )
    golden(told)
    assert "model.token_env" in told
    assert "s3cr3t" not in told
    assert not (shapwatch.root / "ledger.sqlite").exists()


def test_the_whole_life_of_a_schedule(shapwatch: Shapwatch, golden: Golden) -> None:
    """As the notebook goes through it, on the command line; what cannot be done is bad input."""
    window = ("schedule.data_analysis_start=-PT5H", "schedule.data_analysis_end=-PT1H")
    told = shapwatch("stage=schedule", "stage.action=create", "schedule=once", *window)
    golden(told, NOW)
    told = shapwatch("stage=schedule", "stage.action=create", "schedule=once", *window, code=cli.BAD_INPUT)
    assert "error: ResourceInUse: " in told
    assert described(shapwatch)["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Pending"
    for _ in range(2):
        shapwatch("stage=schedule", "stage.action=stop")
    shapwatch("stage=schedule", "stage.action=delete")
    told = shapwatch("stage=schedule", "stage.action=describe", code=cli.BAD_INPUT)
    golden(told, NOW)
    golden(shapwatch("stage=schedule", "stage.action=executions"), NOW)
