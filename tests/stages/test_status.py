"""The stage `status` reports daemons, the last and next execution of each schedule, and remarks."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.domain.executions import HOUR, Status
from runner.domain.schedules import Claim, ExecutionRecord, Snapshot
from runner.errors import NO_DATA, NoData
from runner.report.health import Mark
from runner.results.directory import writing
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.ledger import Ledger
from runner.scheduling.timetable import load
from runner.stages.status import CLOCK_TOLERANCE, MOST_CALM, LedgerStatus, StatusStage
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.scheduling.daemon.bench import LEASE, Bench, declaration, result
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, scheduled_times

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NO_LEADER = "no daemon is leading; start one with stage=daemon on this ledger, it will catch up"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Components around a new ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


@pytest.fixture
def led(bench: Bench) -> Bench:
    """Components around a ledger with a leading daemon."""
    beat(bench)
    return bench


@pytest.fixture
def _far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time zone five and a half hours ahead of UTC."""
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def beat(bench: Bench, owner: str = "daemon", leading: bool = True, ago: timedelta = SECOND) -> None:
    """Record the heartbeat of a daemon."""
    bench.ledger.record_daemon(owner, bench.clock() - ago, leading, f"host-of-{owner}", 7)


def message(bench: Bench, layout: Any) -> str:
    """Return the message of the stage."""
    outcome = LedgerStatus(StatusStage("status", layout), lambda: nullcontext(bench.ledger), LEASE, bench.clock).run()
    assert outcome.succeeded
    return outcome.message


def document(bench: Bench) -> Any:
    """Return the JSON document."""
    return orjson.loads(message(bench, "json"))


def lines(bench: Bench) -> list[str]:
    """Return the lines of the text."""
    return message(bench, "table").splitlines()


def status_of(bench: Bench, name: str = "watch") -> Any:
    """Return the JSON document of one schedule."""
    schedules = document(bench)["Schedules"]
    return next(schedule for schedule in schedules if schedule["MonitoringScheduleName"] == name)


def finish(bench: Bench, execution: ExecutionRecord, status: Status, **changes: Any) -> None:
    """Start and end an execution."""
    assert bench.ledger.executions.claim(execution.id, "daemon", bench.clock())
    ended = result(status, **changes)
    assert bench.ledger.executions.finish(Claim(execution.id, "daemon", 1), ended, bench.clock())


def once(start: str, end: str) -> Declaration:
    """Return the declaration of a monitor that is executed once."""
    values = {"kind": "once", "expression": "NOW", "start": start, "end": end, "max_runtime": 60}
    relative = {"data_analysis_start": None, "data_analysis_end": None}
    return replace(declaration(), timetable=load(orjson.dumps(values | relative).decode()))


def test_an_empty_ledger_names_the_commands_to_run(bench: Bench, golden: Golden) -> None:
    """Without daemon and schedule, the text says how to start and create one."""
    golden("\n".join(lines(bench)))
    empty = {"Ledger": bench.ledger.name, "Time": "2026-01-05T12:00:00+00:00", "Daemons": [], "Schedules": []}
    assert document(bench) == empty


def test_daemons_are_leading_standby_or_gone(bench: Bench, golden: Golden) -> None:
    """The leader is listed first; a daemon without heartbeat for longer than the lease is gone."""
    beat(bench, "b", leading=False, ago=LEASE * SECOND)
    beat(bench, "c", leading=False, ago=(LEASE + 1) * SECOND)
    beat(bench, "a", ago=3 * SECOND)
    assert [(daemon["State"], daemon["Host"], daemon["Pid"]) for daemon in document(bench)["Daemons"]] == [
        ("leading", "host-of-a", 7),
        ("gone", "host-of-c", 7),
        ("standby", "host-of-b", 7),
    ]
    assert document(bench)["Daemons"][0]["LastHeard"] == "2026-01-05T11:59:57+00:00"
    golden("\n".join(lines(bench)[1:4]))


def test_a_killed_leader_is_silent_until_its_lease_ends(bench: Bench) -> None:
    """From the start of the next leader it is listed as silent."""
    beat(bench, "killed", ago=10 * SECOND)
    beat(bench, "next")
    assert {daemon["Host"]: daemon["State"] for daemon in document(bench)["Daemons"]} == {
        "host-of-killed": "silent",
        "host-of-next": "leading",
    }


@pytest.mark.parametrize(("ago", "state"), [(-LEASE, "leading"), (-LEASE - 1, "gone")])
def test_a_daemon_with_a_fast_clock_is_alive(bench: Bench, ago: float, state: str, golden: Golden) -> None:
    """A heartbeat in the future, by at most the lease, counts as a heartbeat of now."""
    beat(bench, ago=ago * SECOND)
    golden(lines(bench)[1])


@pytest.mark.parametrize(
    ("leading", "ago"),
    [(True, LEASE + 1), (False, 1), (None, 0)],
    ids=["gone", "standby", "none"],
)
def test_without_leader_each_schedule_has_a_remark(
    bench: Bench, leading: bool | None, ago: float, golden: Golden
) -> None:
    """A suspended leader can be continued, a standby takes over, and without a daemon one is to be started."""
    bench.create()
    if leading is not None:
        beat(bench, leading=leading, ago=ago * SECOND)
    golden(status_of(bench)["Remark"])


def test_with_a_leader_a_schedule_has_no_remark(bench: Bench) -> None:
    """A dead daemon does not matter."""
    bench.create()
    beat(bench)
    beat(bench, "dead", ago=(LEASE + 1) * SECOND)
    assert status_of(bench)["Remark"] is None


@pytest.mark.usefixtures("_far_east")
def test_the_last_and_the_next_execution_are_reported(led: Bench) -> None:
    """The next one in UTC and in local time."""
    led.create(expression="cron(0 0/2 ? * * *)")
    finish(led, led.pending(hours=0), Status.COMPLETED_WITH_VIOLATIONS, message="drift")
    schedule = status_of(led)
    assert schedule["MonitoringScheduleStatus"] == "Scheduled"
    assert schedule["NextExecutionTime"] == "2026-01-05T14:00:00+00:00"
    assert schedule["NextExecutionLocalTime"] == "2026-01-05T19:30:00+05:30"
    last = schedule["LastMonitoringExecutionSummary"]
    assert (last["ScheduledTime"], last["MonitoringExecutionStatus"]) == (
        "2026-01-05T12:00:00+00:00",
        "CompletedWithViolations",
    )
    assert [re.split("  +", line) for line in lines(led)[5:]] == [
        ["LEVEL", "SCHEDULE", "LAST (UTC)", "NEXT (UTC)", "REMARK"],
        [
            "–",
            "watch",
            "2026-01-05 12:00 CompletedWithViolations",
            "2026-01-05 14:00 (19:30 IST)",
            "–",
        ],
    ]


def test_absent_executions_are_null(led: Bench) -> None:
    """There is no last execution before the first one, and no next one after a single one."""
    replace(once("2026-01-04T00:00:00Z", "2026-01-05T00:00:00Z"), name="once").create(led.ledger.schedules, NOON)
    led.create()
    assert status_of(led)["LastMonitoringExecutionSummary"] is None
    assert (status_of(led, "once")["NextExecutionTime"], status_of(led, "once")["NextExecutionLocalTime"]) == (
        None,
        None,
    )
    assert status_of(led, "once")["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Pending"


def test_the_remark_of_a_stopped_schedule_says_how_to_resume_it(bench: Bench, golden: Golden) -> None:
    """This remark precedes all others, and there is no next execution."""
    bench.create()
    bench.ledger.schedules.stop("watch", NOON)
    schedule = status_of(bench)
    golden(schedule["Remark"])
    assert (schedule["MonitoringScheduleStatus"], schedule["NextExecutionTime"]) == ("Stopped", None)


def test_a_clock_that_was_set_back_has_a_remark(led: Bench, golden: Golden) -> None:
    """Differences up to the tolerance have no remark; planned times are not repeated."""
    schedule = led.create()
    assert led.ledger.schedules.plan(schedule, scheduled_times(1, 2), NOON)
    finish(led, led.ledger.executions.newest()[1], Status.COMPLETED)
    finish(led, led.ledger.executions.newest()[0], Status.COMPLETED)
    led.clock.now = NOON + 2 * HOUR - CLOCK_TOLERANCE
    beat(led)
    assert status_of(led)["Remark"] is None
    led.clock.now -= SECOND
    golden(status_of(led)["Remark"])
    assert status_of(led)["NextExecutionTime"] == "2026-01-05T15:00:00+00:00"


def test_the_remark_names_the_start_after_the_buffer(led: Bench, golden: Golden) -> None:
    """The scheduled time does not include the buffer."""
    schedule = led.create(buffer_minutes=20)
    (due,) = scheduled_times(1)
    led.clock.advance(HOUR)
    beat(led)
    assert led.ledger.schedules.plan(schedule, [replace(due, start_at=led.clock() + 7 * MINUTE)], led.clock())
    golden(status_of(led)["Remark"])
    assert status_of(led)["LastMonitoringExecutionSummary"]["ScheduledTime"] == "2026-01-05T13:00:00+00:00"


def test_the_remark_names_the_end_of_the_window(led: Bench) -> None:
    """An execution over a window in the future starts at its end; the remark contains the date."""
    once("2026-01-08T00:00:00Z", "2026-01-09T01:00:00Z").create(led.ledger.schedules, NOON)
    remark = status_of(led)["Remark"]
    assert "buffer" not in remark
    assert "2026-01-09 01:00" in remark


def test_the_remark_names_the_baseline_being_computed(led: Bench, tmp_path: Path, golden: Golden) -> None:
    """After the end of the baseline, the execution waits for a worker."""
    declared = replace(declaration(reference="baselines/new"), snapshot=Snapshot("", str(tmp_path)))
    schedule = declared.create(led.ledger.schedules, NOON)
    led.clock.advance(HOUR)
    beat(led)
    assert led.ledger.schedules.plan(schedule, scheduled_times(1), led.clock())
    with writing(tmp_path / "baselines/new"):
        golden(status_of(led)["Remark"])
    golden(status_of(led)["Remark"])


def test_the_remark_names_the_baseline_of_the_window(led: Bench, tmp_path: Path) -> None:
    """The codes in the path of the reference are replaced."""
    declared = replace(declaration(reference="baselines/%H"), snapshot=Snapshot("", str(tmp_path)))
    schedule = declared.create(led.ledger.schedules, NOON)
    led.clock.advance(HOUR)
    beat(led)
    assert led.ledger.schedules.plan(schedule, scheduled_times(1), led.clock())
    with writing(tmp_path / "baselines/12"):
        assert "baselines/12" in status_of(led)["Remark"]


NO_EVENTS = NoData("2026-01-05 12:00–13:00 UTC", ["s3://bucket/capture/e/AllTraffic/2026/01/05/12"], 0, 0, 0)


@pytest.mark.parametrize(
    ("status", "changes", "remark"),
    [
        (Status.COMPLETED, {"message": "Completed: no drift"}, None),
        (Status.COMPLETED_WITH_VIOLATIONS, {"message": "CompletedWithViolations: drift"}, None),
        (Status.FAILED, {"failure_reason": "its process was ended by SIGSEGV"}, "its process was ended by SIGSEGV"),
        (Status.FAILED, {"failure_reason": "no", "message": "Failed: no\n  /out"}, "Failed: no"),
        (Status.STOPPED, {"failure_reason": "stopped by hand"}, "stopped by hand"),
        (
            Status.FAILED,
            {"failure_reason": NO_DATA, "message": f"Failed: {NO_EVENTS}\n  /out"},
            f"Failed: {NO_EVENTS}",
        ),
    ],
)
def test_the_remark_names_the_failure(
    led: Bench, status: Status, changes: dict[str, str], remark: str | None, golden: Golden
) -> None:
    """It is the failure reason; without data, the message with the searched prefix."""
    led.create()
    led.clock.advance(HOUR)
    beat(led)
    finish(led, led.pending(), status, **changes)
    assert status_of(led)["Remark"] == remark
    if changes.get("failure_reason") == NO_DATA:
        golden(status_of(led)["Remark"])


def test_a_running_execution_has_no_remark(led: Bench) -> None:
    """An earlier failure has no remark either."""
    led.create()
    finish(led, led.pending(), Status.FAILED, failure_reason="no")
    assert led.ledger.executions.claim(led.pending(hours=2).id, "daemon", NOON)
    assert status_of(led)["Remark"] is None


def test_a_multiline_reason_is_cut_to_one_line(led: Bench) -> None:
    """A traceback as failure reason does not break the table."""
    led.create()
    reason = "its process ended with exit code 1: Traceback (most recent call last):\nValueError: no"
    finish(led, led.pending(), Status.FAILED, failure_reason=reason)
    assert lines(led)[-1].startswith("✗ failed  watch ")


def test_a_timetable_of_a_later_version_does_not_affect_others(led: Bench) -> None:
    """The other schedules are reported."""
    unknown = led.create("unknown")
    led.create()
    led.ledger.schedules.update(replace(unknown, timetable='{"kind": "lunar"}'), declaration().snapshot)
    assert status_of(led)["NextExecutionTime"] == "2026-01-05T13:00:00+00:00"


def test_equal_executions_are_one_line(led: Bench, results: dict[Mark, str], golden: Golden) -> None:
    """Newest first; too few records and failures have lines of their own."""
    led.create()
    marks = [Mark.NONE] * 14 + [Mark.FEW] + [Mark.VIOLATION] * 2
    for hours, mark in enumerate(marks, 1):
        finish(led, led.pending(hours=hours), Status.COMPLETED, directory=results[mark])
    for hours in (18, 19):
        finish(led, led.pending(hours=hours), Status.FAILED, failure_reason=f"access denied at {hours}\nmore")
    golden("\n".join(lines(led)[-5:]))


def test_monitors_without_drift_are_one_line(led: Bench, results: dict[Mark, str], golden: Golden) -> None:
    """The others have lines of their own; a few monitors without drift, too."""
    for number in range(MOST_CALM + 2):
        if number == MOST_CALM:
            assert [line[:10] for line in lines(led)].count("○ no drift") == MOST_CALM
        led.create(name := f"calm-{number}")
        finish(led, led.pending(name), Status.COMPLETED, directory=results[Mark.NONE])
    led.create("loud")
    finish(led, led.pending("loud"), Status.COMPLETED_WITH_VIOLATIONS, directory=results[Mark.VIOLATION])
    golden("\n".join(lines(led)[2:]), (r"since .* UTC", "since {time}"), (r"\d\d:\d\d:\d\d UTC", "{time}"))
    assert len(document(led)["Schedules"]) == MOST_CALM + 3


def test_the_command_line_reports_the_status(tmp_path: Path) -> None:
    """As text and as JSON; a missing daemon is not an error."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=schedule", "stage.action=create")
    assert NO_LEADER in shapwatch("stage=status")
    (schedule,) = orjson.loads(shapwatch("stage=status", "stage.format=json"))["Schedules"]
    assert (schedule["MonitoringScheduleName"], schedule["Remark"]) == ("breast-cancer-monitor", NO_LEADER)
