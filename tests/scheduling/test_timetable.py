"""Timetables: what is due, over which window, and what becomes of the times that were missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError
from scipy.stats import chisquare

from runner.domain.executions import HOUR, LONGEST, Window
from runner.domain.schedules import ScheduledTime
from runner.scheduling.timetable import ByExpression, Daily, EveryNHours, Once, Recurring, Timetable, dump, load
from tests.golden import Golden

CONF = Path(__file__).parents[2] / "conf"
ADAPTER: TypeAdapter[Timetable] = TypeAdapter(Timetable)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

HOURLY = {
    "kind": "cron",
    "expression": "cron(0 * ? * * *)",
    "start_offset": None,
    "end_offset": None,
    "buffer_minutes": 0,
    "catch_up": "all",
    "max_catch_up": 24,
    "overlap": "wait",
    "max_runtime": 3600,
}
ONCE = {
    "kind": "once",
    "expression": "NOW",
    "start": None,
    "end": None,
    "data_analysis_start": None,
    "data_analysis_end": None,
    "max_runtime": 3600,
}


def at(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def recurring(**settings: Any) -> Recurring:
    """Return an hourly timetable with other settings."""
    return cast(Recurring, ADAPTER.validate_python({**HOURLY, **settings}))


def once(**settings: Any) -> Once:
    """Return a timetable that comes once."""
    return cast(Once, ADAPTER.validate_python({**ONCE, **settings}))


def shipped(*overrides: str) -> Any:
    """Return what `conf/schedule` says, as plain data."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(overrides=[f"+{overrides[0]}", *overrides[1:]])
    return OmegaConf.to_container(composed.schedule, resolve=True, throw_on_missing=True)


def scheduled(dues: list[ScheduledTime], *, skipped: bool | None = None) -> list[str]:
    """Return the times that are due, all or those that are or are not skipped."""
    return [f"{due.scheduled:%dT%H}" for due in dues if skipped in {None, due.skipped is not None}]


def test_what_is_shipped() -> None:
    """Each choice of conf/schedule is a timetable of its kind."""
    assert shipped("schedule=hourly") == HOURLY
    assert shipped("schedule=once") == ONCE
    assert shipped("schedule=daily", "schedule.hour=3") == {
        **HOURLY,
        "kind": "daily",
        "hour": 3,
        "expression": "cron(0 3 ? * * *)",
    }
    assert isinstance(ADAPTER.validate_python(shipped("schedule=daily")), Daily)
    several = shipped("schedule=every_n_hours", "schedule.first_hour=17")
    assert several["expression"] == "cron(0 17/12 ? * * *)"
    assert isinstance(ADAPTER.validate_python(several), EveryNHours)
    own = shipped("schedule=cron", "schedule.expression='0 9 * * 1-5'")
    assert isinstance(ADAPTER.validate_python(own), ByExpression)
    assert own.keys() == HOURLY.keys()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"buffer_minutes": 21}, "buffer_minutes"),
        ({"buffer_minutes": 1.5}, "buffer_minutes"),
        ({"catch_up": "some"}, "catch_up"),
        ({"max_catch_up": 0}, "max_catch_up"),
        ({"overlap": "queue"}, "overlap"),
        ({"max_runtime": 0}, "max_runtime"),
        ({"max_runtime": 86_401}, "max_runtime"),
        ({"max_runtime": True}, "max_runtime"),
        ({"expression": "NOW"}, "choose schedule=once"),
        ({"expression": "cron(0 25 ? * * *)"}, "hour 25 is not from 0 to 23"),
        ({"start_offset": "PT1H"}, "expected a duration from -P366D to PT0S"),
        ({"start_offset": "-P367D"}, "expected a duration from -P366D to PT0S"),
        ({"start_offset": "-P1M"}, "a month or a year has no fixed length"),
        ({"start_offset": "PT0S"}, "start_offset: PT0S does not lie before the window's end, PT0S"),
        ({"start_offset": "-PT1H", "end_offset": "-PT2H"}, "-PT1H does not lie before the window's end, -PT2H"),
        ({"start_offset": "-PT1H", "end_offset": "-PT60M"}, "does not lie before the window's end"),
        ({"end_offset": "-PT1H"}, "end_offset: -PT1H leaves no window where times are PT1H apart; give a start_offset"),
        ({"expression": "0 0,23 * * *", "end_offset": "-PT2H"}, "-PT2H leaves no window where times are PT1H apart"),
        ({"hour": 3}, "hour"),
        ({"kind": "weekly"}, "kind"),
    ],
)
def test_refusals(settings: dict[str, Any], key: str) -> None:
    """A setting that cannot work is named."""
    with pytest.raises(ValidationError) as caught:
        recurring(**settings)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "time", "window"),
    [
        ({}, "2023-01-19T06", "2023-01-19T05/2023-01-19T06"),
        ({"expression": "cron(0 17/12 ? * * *)"}, "2023-01-19T17", "2023-01-19T05/2023-01-19T17"),
        ({"expression": "0 0 * * *"}, "2028-03-01T00", "2028-02-29T00/2028-03-01T00"),
        ({"expression": "0 0 * * 1"}, "2023-01-23T00", "2023-01-16T00/2023-01-23T00"),
        ({"expression": "0 9 * * 1-5"}, "2023-01-23T09", "2023-01-20T09/2023-01-23T09"),
        ({"expression": "0 0 1 1 *"}, "2025-01-01T00", "2024-01-01T00/2025-01-01T00"),
        ({"expression": "0 0 29 2 *"}, "2028-02-29T00", "2027-02-28T00/2028-02-29T00"),
        ({"expression": "cron(0 0 1 2 ? 2027)"}, "2027-02-01T00", "2026-01-31T00/2027-02-01T00"),
        ({"start_offset": "-P8D", "end_offset": "-P1D"}, "2020-01-09T13", "2020-01-01T13/2020-01-08T13"),
        ({"start_offset": "-PT90M"}, "2023-01-19T06", "2023-01-19T04:30/2023-01-19T06"),
        ({"end_offset": "-PT10M"}, "2023-01-19T06", "2023-01-19T05/2023-01-19T05:50"),
        ({"expression": "0 0 29 2 *", "end_offset": "-P1D"}, "2028-02-29T00", "2027-02-27T00/2028-02-28T00"),
    ],
)
def test_windows(settings: dict[str, Any], time: str, window: str) -> None:
    """A window reaches from the time before to the scheduled time, or as the offsets say, at most 366 days."""
    assert recurring(**settings).window(at(time)) == Window.parse(window)
    assert Window.parse(window).end - Window.parse(window).start <= LONGEST


def test_what_is_on_time_is_run() -> None:
    """A time seen up to 20 minutes late starts after its delay whatever the policy, the one of this moment included."""
    for catch_up in ("none", "last", "all"):
        timetable = recurring(catch_up=catch_up, expression="*/10 * * * *")
        dues = timetable.due("m", at("2023-01-19T05:50"), at("2023-01-19T06:20"))
        assert [due.scheduled for due in dues] == [at(f"2023-01-19T06:{minute}") for minute in ("00", "10", "20")]
        assert all(due.start_at == due.scheduled and due.skipped is None for due in dues)
        assert dues[0].window == Window.parse("2023-01-19T05:50/2023-01-19T06:00")


def test_what_was_missed_starts_at_once() -> None:
    """A time seen more than 20 minutes late has no buffer any more."""
    timetable, now = recurring(buffer_minutes=20), at("2023-01-19T08:20")
    missed, on_time = timetable.due("m", at("2023-01-19T06:00"), now)
    assert (missed.scheduled, missed.start_at) == (at("2023-01-19T07:00"), now)
    assert on_time.start_at == at("2023-01-19T08:00") + timetable.delay("m", at("2023-01-19T08:00"))


@pytest.mark.parametrize(
    ("settings", "now", "run", "skipped"),
    [
        ({"catch_up": "none"}, "05:20", ["19T05"], ["19T02", "19T03", "19T04"]),
        ({"catch_up": "none"}, "05:21", [], ["19T02", "19T03", "19T04", "19T05"]),
        ({"catch_up": "last"}, "05:20", ["19T05"], ["19T02", "19T03", "19T04"]),
        ({"catch_up": "last"}, "05:59", ["19T05"], ["19T02", "19T03", "19T04"]),
        ({"catch_up": "all"}, "05:20", ["19T02", "19T03", "19T04", "19T05"], []),
        ({"max_catch_up": 2}, "05:20", ["19T03", "19T04", "19T05"], ["19T02"]),
        ({"max_catch_up": 2}, "05:21", ["19T04", "19T05"], ["19T02", "19T03"]),
        ({"max_catch_up": 4}, "05:21", ["19T02", "19T03", "19T04", "19T05"], []),
    ],
)
def test_catch_up(settings: dict[str, Any], now: str, run: list[str], skipped: list[str]) -> None:
    """What was missed since 01:30 is run or skipped as the policy says, in ascending order."""
    dues = recurring(**settings).due("m", at("2023-01-19T01:30"), at(f"2023-01-19T{now}"))
    assert scheduled(dues) == sorted(run + skipped)
    assert scheduled(dues, skipped=False) == run
    assert scheduled(dues, skipped=True) == skipped


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"catch_up": "none"}, "schedule.catch_up=none makes up for nothing"),
        ({"catch_up": "last"}, "schedule.catch_up=last makes up for the newest time only"),
        ({"max_catch_up": 1}, "schedule.max_catch_up=1 makes up for the newest time only"),
        ({"max_catch_up": 2}, "schedule.max_catch_up=2 makes up for the newest 2 times only"),
    ],
)
def test_why_a_time_is_skipped(settings: dict[str, Any], rule: str, golden: Golden) -> None:
    """The sentence says when it was due, which rule left it out and what can make up for it."""
    due = recurring(**settings).due("m", at("2023-01-19T01:30"), at("2023-01-19T05:30"))[0]
    golden(due.skipped)


def test_a_year_of_hours() -> None:
    """After an outage of a leap year every hour is there once, and the windows leave nothing out."""
    dues = recurring(max_catch_up=10_000).due("m", at("2027-12-31T23:00"), at("2028-12-31T23:00"))
    assert len(dues) == 8784
    assert not scheduled(dues, skipped=True)
    assert len({due.scheduled for due in dues}) == 8784
    assert Window(dues[0].window.start, dues[-1].window.end) == Window.parse("2027-12-31T23/2028-12-31T23")
    assert all(earlier.window.end == later.window.start for earlier, later in pairwise(dues))


def test_what_lies_too_far_back_is_left_out() -> None:
    """A cursor of 1970, as after a start without a clock, costs no more than 10,000 times, the newest."""
    now = at("2026-11-24T12:00")
    dues = recurring(expression="* * * * *").due("m", at("1970-01-01"), now)
    assert len(dues) == 10_000
    assert dues[-1].scheduled == now
    assert dues[0].scheduled == now - 9_999 * MINUTE


def test_a_clock_that_was_set_back() -> None:
    """Before the cursor nothing is due, and afterwards nothing comes twice."""
    timetable = recurring()
    assert timetable.due("m", at("2023-01-19T06:00"), at("2023-01-19T05:01")) == []
    assert timetable.due("m", at("2023-01-19T06:00"), at("2023-01-19T06:00")) == []
    assert scheduled(timetable.due("m", at("2023-01-19T06:00"), at("2023-01-19T07:00"))) == ["19T07"]


moments = st.datetimes(datetime(2024, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
steps = st.timedeltas(timedelta(), 20 * DAY)
timetables = st.sampled_from(
    [
        recurring(),
        recurring(catch_up="last", expression="*/30 * * * *"),
        recurring(catch_up="none", expression="cron(0 17/5 ? * * *)"),
        recurring(max_catch_up=1, expression="0 9 * * 1-5", buffer_minutes=20),
    ]
)


@settings(max_examples=60)
@given(timetables, moments, steps, steps)
def test_looking_twice_finds_the_same(timetable: Recurring, cursor: datetime, one: timedelta, two: timedelta) -> None:
    """Whenever a daemon looks, every time is found once, and its windows meet."""
    a, b = cursor + one, cursor + one + two
    at_once, in_turn = timetable.due("m", cursor, b), timetable.due("m", cursor, a) + timetable.due("m", a, b)
    assert [(due.scheduled, due.window) for due in in_turn] == [(due.scheduled, due.window) for due in at_once]
    assert all(earlier.window.end == later.window.start for earlier, later in pairwise(at_once))
    assert all(due.window.end == due.scheduled for due in at_once)
    assert all(b >= due.scheduled > cursor for due in at_once)


@settings(max_examples=60)
@given(timetables, moments, steps)
def test_next_is_what_is_due_next(timetable: Recurring, cursor: datetime, step: timedelta) -> None:
    """Nothing is due before the next time, and it is due when it comes."""
    following = timetable.next(cursor)
    assert following is not None
    assert timetable.due("m", cursor, following - timedelta(microseconds=1)) == []
    assert [due.scheduled for due in timetable.due("m", cursor, following)] == [following]
    assert all(due.start_at >= due.scheduled for due in timetable.due("m", cursor, following + step))


def test_delays_are_spread_evenly() -> None:
    """The delays of 1,000 schedules at one time, and of one schedule at 1,000 times, are uniform over 20 minutes."""
    timetable, first = recurring(buffer_minutes=20), at("2023-01-19T05:00")
    by_name = [timetable.delay(f"monitor-{n}", first) for n in range(1000)]
    by_time = [timetable.delay("monitor", first + n * HOUR) for n in range(1000)]
    for delays in (by_name, by_time):
        minutes = [sum(delay // MINUTE == minute for delay in delays) for minute in range(20)]
        assert sum(minutes) == 1000
        assert chisquare(minutes).pvalue > 0.001
        assert all(delay % timedelta(seconds=1) == timedelta() for delay in delays)


def test_a_delay_stays_the_same() -> None:
    """A delay depends on the name and the time alone, and is within the buffer."""
    first = at("2023-01-19T05:00")
    assert recurring(buffer_minutes=20).delay("adult", first) == timedelta(seconds=444)
    assert recurring(buffer_minutes=0).delay("adult", first) == timedelta()
    assert all(recurring(buffer_minutes=1).delay(f"{n}", first) < MINUTE for n in range(200))


def test_once_at_fixed_times() -> None:
    """The window is the one that is given, the execution starts in the second of creation."""
    timetable = once(start="2023-01-19T05:00:00Z", end="2023-01-19T06:00:00Z")
    created = at("2026-11-24T12:00:07.500")
    assert timetable.due(created) == ScheduledTime(
        at("2026-11-24T12:00:07"), Window.parse("2023-01-19T05"), at("2026-11-24T12:00:07")
    )


def test_once_from_its_creation_on() -> None:
    """SageMaker's pair of durations starts from the second of creation."""
    due = once(data_analysis_start="-PT5H", data_analysis_end="-PT1H").due(at("2026-11-24T12:00:07.500"))
    assert due.window == Window.parse("2026-11-24T07:00:07/2026-11-24T11:00:07")
    assert once(data_analysis_start="-P1D", data_analysis_end="PT0S").window(at("2026-11-24T12:00")) == Window.parse(
        "2026-11-23T12:00/2026-11-24T12:00"
    )


def test_once_waits_for_its_window() -> None:
    """A window that has not ended yet is waited for."""
    timetable = once(start="2026-11-24T12:00:00Z", end="2026-11-24T13:00:00Z")
    assert timetable.due(at("2026-11-24T12:30")).start_at == at("2026-11-24T13:00")


FIVE, SIX = "2023-01-19T05:00:00Z", "2023-01-19T06:00:00Z"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({}, "start: give start and end, or data_analysis_start and data_analysis_end, and nothing else"),
        ({"start": FIVE}, "start: give start and end"),
        ({"end": SIX}, "start: give start and end"),
        ({"start": FIVE, "data_analysis_end": "-PT1H"}, "start: give start and end"),
        ({"start": FIVE, "end": SIX, "data_analysis_end": "-PT1H"}, "and nothing else"),
        (
            {"start": FIVE, "end": SIX, "data_analysis_start": "-PT5H", "data_analysis_end": "-PT1H"},
            "and nothing else",
        ),
        ({"start": SIX, "end": FIVE}, "start: expected a time before the window's end"),
        ({"start": FIVE, "end": FIVE}, "start: expected a time before the window's end"),
        ({"start": FIVE, "end": "2024-01-20T05:00:01Z"}, "start: the window is longer than 8,784 hours"),
        ({"start": "noon", "end": FIVE}, "'noon' is no UTC time"),
        ({"data_analysis_start": "-PT1H", "data_analysis_end": "-PT1H"}, "expected a time before the window's end"),
        ({"data_analysis_start": "-PT25H", "data_analysis_end": "PT0S"}, "the window is longer than 24 hours"),
        ({"data_analysis_start": "-PT1H", "data_analysis_end": "PT1H"}, "expected a duration from -P366D to PT0S"),
        ({"start": FIVE, "end": SIX, "expression": "cron(0 * ? * * *)"}, "'NOW'"),
        ({"start": FIVE, "end": SIX, "buffer_minutes": 20}, "buffer_minutes"),
    ],
)
def test_once_refuses(settings: dict[str, Any], sentence: str) -> None:
    """Exactly one pair is needed, in order and of a length that SageMaker or a window allows."""
    with pytest.raises(ValidationError) as caught:
        once(**settings)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "timetable",
    [
        recurring(start_offset="-P8D", end_offset="-P1D", buffer_minutes=20, catch_up="last"),
        recurring(kind="daily", hour=3, expression="cron(0 3 ? * * *)"),
        recurring(kind="every_n_hours", hours=12, first_hour=17, expression="cron(0 17/12 ? * * *)"),
        once(start=FIVE, end=SIX),
        once(data_analysis_start="-PT5H", data_analysis_end="-PT1H"),
    ],
)
def test_what_is_dumped_is_loaded(timetable: Timetable) -> None:
    """A timetable goes through JSON unchanged, whether it has been used or not."""
    assert load(dump(timetable)) == timetable
    timetable.window(at("2026-11-24T12:00"))
    assert load(dump(timetable)) == timetable
    assert dump(load(dump(timetable))) == dump(timetable)


def test_durations_are_dumped_as_text() -> None:
    """The JSON reads like the YAML."""
    assert '"start_offset":"-P8D","end_offset":null' in dump(cast(Timetable, recurring(start_offset="-P8D")))
    assert '"start":"2023-01-19T05:00:00Z"' in dump(once(start=FIVE, end=SIX))


def test_what_is_no_timetable_is_not_loaded() -> None:
    """A text of another kind is an error."""
    with pytest.raises(ValueError, match="kind"):
        load('{"kind": "weekly"}')
