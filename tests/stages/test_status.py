"""Whether a daemon is alive, what ran last, what comes next, and why nothing ran."""

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
from runner.domain.schedules import ExecutionRecord, Snapshot
from runner.errors import NO_DATA, NoData
from runner.results.directories import writing
from runner.scheduling.daemon.declaration import Declaration
from runner.scheduling.ledger.ledger import Ledger
from runner.scheduling.timetable import load
from runner.stages.status import SLACK, State
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.scheduling.daemon.supervisor_bench import LEASE, Bench, declaration
from tests.scheduling.ledger.ledger_samples import BUSY, NOON, dues

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NOBODY = "no daemon leads: start one with stage=daemon on this ledger; it makes up for what was missed"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench around a fresh ledger."""
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", BUSY) as ledger:
        yield Bench(ledger)


@pytest.fixture
def led(bench: Bench) -> Bench:
    """A bench whose ledger a daemon leads."""
    beat(bench)
    return bench


@pytest.fixture
def _far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is five and a half hours before UTC."""
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def beat(bench: Bench, owner: str = "daemon", leading: bool = True, ago: timedelta = SECOND) -> None:
    """Let a daemon be heard."""
    bench.ledger.beat(owner, bench.clock() - ago, leading, f"host-of-{owner}", 7)


def told(bench: Bench, form: Any) -> str:
    """Return what there is to say."""
    lease = timedelta(seconds=LEASE)
    outcome = State(lambda: nullcontext(bench.ledger), form, lease, bench.clock).run()
    assert outcome.succeeded
    return outcome.message


def found(bench: Bench) -> Any:
    """Return the answer to a program."""
    return orjson.loads(told(bench, "json"))


def shown(bench: Bench) -> list[str]:
    """Return the lines of the answer to a person."""
    return told(bench, "table").splitlines()


def the(bench: Bench, name: str = "watch") -> Any:
    """Return what is said of one schedule."""
    return next(one for one in found(bench)["Schedules"] if one["MonitoringScheduleName"] == name)


def finish(bench: Bench, entry: ExecutionRecord, status: Status, **result: Any) -> None:
    """Let an execution begin and end."""
    assert bench.ledger.begin(entry.id, "daemon", bench.clock())
    values = {"exit_message": None, "failure_reason": None, "output": None, "peak_memory": None, **result}
    assert bench.ledger.settle(entry.id, "daemon", status, bench.clock(), **values)


def once(start: str, end: str) -> Declaration:
    """Return a monitor that is executed once."""
    values = {"kind": "once", "expression": "NOW", "start": start, "end": end, "max_runtime": 60}
    relative = {"data_analysis_start": None, "data_analysis_end": None}
    return replace(declaration(), timetable=load(orjson.dumps(values | relative).decode()))


def test_an_empty_ledger_says_what_to_do(bench: Bench, golden: Golden) -> None:
    """There is neither a daemon nor a schedule."""
    golden("\n".join(shown(bench)))
    empty = {"Ledger": bench.ledger.name, "Time": "2026-01-05T12:00:00+00:00", "Daemons": [], "Schedules": []}
    assert found(bench) == empty


def test_daemons_lead_stand_by_or_are_gone(bench: Bench, golden: Golden) -> None:
    """The one that leads comes first; one that was not heard for the lease is gone, whatever it was."""
    beat(bench, "b", leading=False, ago=LEASE * SECOND)
    beat(bench, "c", leading=False, ago=(LEASE + 1) * SECOND)
    beat(bench, "a", ago=3 * SECOND)
    assert [(one["State"], one["Host"], one["Pid"]) for one in found(bench)["Daemons"]] == [
        ("leading", "host-of-a", 7),
        ("gone", "host-of-c", 7),
        ("standby", "host-of-b", 7),
    ]
    assert found(bench)["Daemons"][0]["LastHeard"] == "2026-01-05T11:59:57+00:00"
    golden("\n".join(shown(bench)[1:4]))


def test_a_leader_that_was_killed_leads_no_more(bench: Bench) -> None:
    """From when the next one leads it is silent, until its lease is over."""
    beat(bench, "killed", ago=10 * SECOND)
    beat(bench, "next")
    assert {one["Host"]: one["State"] for one in found(bench)["Daemons"]} == {
        "host-of-killed": "silent",
        "host-of-next": "leading",
    }


@pytest.mark.parametrize(("ago", "state"), [(-LEASE, "leading"), (-LEASE - 1, "gone")])
def test_a_daemon_whose_clock_is_ahead_is_there(bench: Bench, ago: float, state: str, golden: Golden) -> None:
    """As long as it is not further ahead than the lease; it was heard just now."""
    beat(bench, ago=ago * SECOND)
    golden(shown(bench)[1])


@pytest.mark.parametrize(
    ("leading", "ago", "remark"),
    [(True, 1, None), (True, LEASE + 1, NOBODY), (False, 1, NOBODY), (None, 0, NOBODY)],
    ids=["leading", "gone", "standby", "none"],
)
def test_without_a_leader_nothing_runs(bench: Bench, leading: bool | None, ago: float, remark: str | None) -> None:
    """Each schedule says so, and what to do."""
    bench.create()
    if leading is not None:
        beat(bench, leading=leading, ago=ago * SECOND)
    assert the(bench)["Remark"] == remark


@pytest.mark.usefixtures("_far_east")
def test_the_last_and_the_next_execution_are_told(led: Bench) -> None:
    """The next one in UTC and on the clock of this machine."""
    led.create(expression="cron(0 0/2 ? * * *)")
    finish(led, led.pending(hours=0), Status.COMPLETED_WITH_VIOLATIONS, exit_message="drift")
    one = the(led)
    assert one["MonitoringScheduleStatus"] == "Scheduled"
    assert one["NextExecutionTime"] == "2026-01-05T14:00:00+00:00"
    assert one["NextExecutionLocalTime"] == "2026-01-05T19:30:00+05:30"
    last = one["LastMonitoringExecutionSummary"]
    assert (last["ScheduledTime"], last["MonitoringExecutionStatus"]) == (
        "2026-01-05T12:00:00+00:00",
        "CompletedWithViolations",
    )
    assert [re.split("  +", line) for line in shown(led)[3:]] == [
        ["SCHEDULE", "STATUS", "LAST (UTC)", "ENDED AS", "NEXT (UTC)", "NEXT (LOCAL)", "REMARK"],
        [
            "watch",
            "Scheduled",
            "2026-01-05 12:00:00",
            "CompletedWithViolations",
            "2026-01-05 14:00:00",
            "2026-01-05 19:30:00 IST",
            "–",
        ],
    ]


def test_nothing_is_told_that_is_not_there(led: Bench) -> None:
    """Neither a last execution before the first, nor a next one of what comes once."""
    replace(once("2026-01-04T00:00:00Z", "2026-01-05T00:00:00Z"), name="once").create(led.ledger, NOON)
    led.create()
    assert the(led)["LastMonitoringExecutionSummary"] is None
    assert (the(led, "once")["NextExecutionTime"], the(led, "once")["NextExecutionLocalTime"]) == (None, None)
    assert the(led, "once")["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Pending"


def test_a_stopped_schedule_says_how_it_goes_on(bench: Bench, golden: Golden) -> None:
    """That comes before anything else, and it has no next execution."""
    bench.create()
    bench.ledger.stop("watch", NOON)
    one = the(bench)
    golden(one["Remark"])
    assert (one["MonitoringScheduleStatus"], one["NextExecutionTime"]) == ("Stopped", None)


def test_a_clock_that_was_set_back_is_told(led: Bench, golden: Golden) -> None:
    """Not the little by which the clocks of machines differ; what was dealt with does not come again."""
    schedule = led.create()
    assert led.ledger.plan(schedule, dues(1, 2), NOON)
    finish(led, led.ledger.entries()[1], Status.COMPLETED)
    finish(led, led.ledger.entries()[0], Status.COMPLETED)
    led.clock.now = NOON + 2 * HOUR - SLACK
    beat(led)
    assert the(led)["Remark"] is None
    led.clock.now -= SECOND
    golden(the(led)["Remark"])
    assert the(led)["NextExecutionTime"] == "2026-01-05T15:00:00+00:00"


def test_what_waits_for_its_buffer_says_until_when(led: Bench, golden: Golden) -> None:
    """The scheduled time stays on the hour."""
    schedule = led.create(buffer_minutes=20)
    (due,) = dues(1)
    led.clock.go_on(HOUR)
    beat(led)
    assert led.ledger.plan(schedule, [replace(due, start_at=led.clock() + 7 * MINUTE)], led.clock())
    golden(the(led)["Remark"])
    assert the(led)["LastMonitoringExecutionSummary"]["ScheduledTime"] == "2026-01-05T13:00:00+00:00"


def test_what_waits_for_its_window_does_not_name_the_buffer(led: Bench) -> None:
    """An execution over days to come begins when they are over; the day belongs to the answer."""
    once("2026-01-08T00:00:00Z", "2026-01-09T01:00:00Z").create(led.ledger, NOON)
    remark = the(led)["Remark"]
    assert "buffer" not in remark
    assert "2026-01-09 01:00" in remark


def test_what_waits_for_its_baseline_says_so(led: Bench, tmp_path: Path, golden: Golden) -> None:
    """As long as somebody computes it; then it waits for nothing but a worker."""
    here = replace(declaration(reference="baselines/new"), snapshot=Snapshot("", str(tmp_path)))
    schedule = here.create(led.ledger, NOON)
    led.clock.go_on(HOUR)
    beat(led)
    assert led.ledger.plan(schedule, dues(1), led.clock())
    with writing(tmp_path / "baselines/new"):
        golden(the(led)["Remark"])
    waits = "waits for the executions before it, or for a free worker (stage.workers of the daemon)"
    assert the(led)["Remark"] == waits


LOOKED = NoData("2026-01-05 12:00–13:00 UTC", ["s3://bucket/capture/e/AllTraffic/2026/01/05/12"], 0, 0, 0)


@pytest.mark.parametrize(
    ("status", "result", "remark"),
    [
        (Status.COMPLETED, {"exit_message": "Completed: no drift"}, None),
        (Status.COMPLETED_WITH_VIOLATIONS, {"exit_message": "CompletedWithViolations: drift"}, None),
        (Status.FAILED, {"failure_reason": "its process was ended by SIGSEGV"}, "its process was ended by SIGSEGV"),
        (Status.FAILED, {"failure_reason": "no", "exit_message": "Failed: no\n  /out"}, "Failed: no"),
        (Status.STOPPED, {"failure_reason": "stopped by hand"}, "stopped by hand"),
        (Status.FAILED, {"failure_reason": NO_DATA, "exit_message": f"Failed: {LOOKED}\n  /out"}, f"Failed: {LOOKED}"),
    ],
)
def test_what_went_wrong_is_told(
    led: Bench, status: Status, result: dict[str, str], remark: str | None, golden: Golden
) -> None:
    """The reason; where there were no data, the prefix that was looked at."""
    led.create()
    led.clock.go_on(HOUR)
    beat(led)
    finish(led, led.pending(), status, **result)
    assert the(led)["Remark"] == remark
    if result.get("failure_reason") == NO_DATA:
        golden(the(led)["Remark"])


def test_what_runs_needs_no_remark(led: Bench) -> None:
    """Nor does a schedule whose last failure is over."""
    led.create()
    finish(led, led.pending(), Status.FAILED, failure_reason="no")
    assert led.ledger.begin(led.pending(hours=2).id, "daemon", NOON)
    assert the(led)["Remark"] is None


def test_last_words_stay_on_their_line(led: Bench) -> None:
    """However many lines a process has said before it died, a schedule has one."""
    led.create()
    said = "its process ended with exit code 1, without a result: Traceback (most recent call last):\nValueError: no"
    finish(led, led.pending(), Status.FAILED, failure_reason=said)
    assert shown(led)[-1].startswith("watch ")


def test_a_timetable_of_a_later_version_harms_no_other(led: Bench) -> None:
    """The others are told of as ever."""
    strange = led.create("strange")
    led.create()
    led.ledger.update(replace(strange, timetable='{"kind": "lunar"}'), declaration().snapshot)
    assert the(led)["NextExecutionTime"] == "2026-01-05T13:00:00+00:00"


def test_the_program_tells_it(tmp_path: Path) -> None:
    """For people and for programs; that no daemon runs is no error."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=schedule", "stage.action=create")
    assert NOBODY in shapwatch("stage=status")
    (one,) = orjson.loads(shapwatch("stage=status", "stage.format=json"))["Schedules"]
    assert (one["MonitoringScheduleName"], one["Remark"]) == ("breast-cancer-monitor", NOBODY)
