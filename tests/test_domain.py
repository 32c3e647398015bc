"""The nouns: times, windows, counts of what a window holds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.attributions import Attributions
from runner.domain.executions import HOUR, Window, utc
from runner.domain.records import Captured, Rejection
from runner.domain.text import plural
from tests.golden import Golden

FIVE = datetime(2023, 1, 19, 5, tzinfo=UTC)

times = st.datetimes(timezones=st.just(UTC)).filter(lambda at: 1 < at.year < 9999)
windows = st.builds(
    lambda start, length: Window(start, start + length), times, st.timedeltas(timedelta(microseconds=1), 50 * HOUR)
)


@pytest.mark.parametrize(
    "text",
    [
        "2023-01-19T05",
        "2023-01-19 05:00",
        "2023-01-19T05:00:00Z",
        "2023-01-19T05:00:00.000000+00:00",
        "2023-01-19T07:00+02:00",
        "2023-01-18T23:30-05:30",
    ],
)
def test_times_are_brought_to_utc(text: str) -> None:
    """A time in any ISO form is the instant in UTC, without an offset it is UTC already."""
    assert utc(text) == FIVE
    assert utc(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noon",
        "2023-01-19",
        "2023-01-19T",
        "20230119T050000",
        "2023-02-30T05:00",
        "2023-01-19T25",
        "2023-01-19T05:00Q",
    ],
)
def test_other_texts_are_no_time(text: str, golden: Golden) -> None:
    """A text that is no date with a time is shown in the sentence."""
    with golden.raises(ValueError) as caught:
        utc(text)
    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:00:00-05:00"])
def test_times_outside_the_calendar_are_no_time(text: str, golden: Golden) -> None:
    """A time that UTC's calendar does not reach is refused as any other."""
    with golden.raises(ValueError):
        utc(text)


@pytest.mark.parametrize(
    ("text", "start", "end", "shown"),
    [
        ("2023-01-19T05", "2023-01-19T05", "2023-01-19T06", "2023-01-19 05:00–06:00 UTC"),
        ("2023-01-19T05:30", "2023-01-19T05:30", "2023-01-19T06:30", "2023-01-19 05:30–06:30 UTC"),
        ("2023-01-19T23:00:00Z", "2023-01-19T23", "2023-01-20T00", "2023-01-19 23:00–00:00 UTC"),
        ("2023-01-19T07:00+02:00", "2023-01-19T05", "2023-01-19T06", "2023-01-19 05:00–06:00 UTC"),
        ("2023-01-19T05/2023-01-19T08", "2023-01-19T05", "2023-01-19T08", "2023-01-19 05:00–08:00 UTC"),
        ("2023-01-19T05/2023-01-21T05", "2023-01-19T05", "2023-01-21T05", "2023-01-19 05:00–2023-01-21 05:00 UTC"),
        ("2023-01-19T05/2023-01-20T05", "2023-01-19T05", "2023-01-20T05", "2023-01-19 05:00–2023-01-20 05:00 UTC"),
        ("2023-01-19T00/2023-01-20T00", "2023-01-19T00", "2023-01-20T00", "2023-01-19 00:00–2023-01-20 00:00 UTC"),
    ],
)
def test_window_is_an_hour_or_an_interval(text: str, start: str, end: str, shown: str) -> None:
    """A window is the hour from a time on, or what lies between two times, and is shown as short as is clear."""
    window = Window.parse(text)
    assert window == Window(utc(start), utc(end))
    assert str(window) == shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yesterday", "'yesterday' is no UTC time"),
        ("2023-01-19", "'2023-01-19' is no UTC time"),
        ("2023-01-19T05/", "'' is no UTC time"),
        ("/2023-01-19T05", "'' is no UTC time"),
        ("2023-01-19T05/PT1H", "'PT1H' is no UTC time"),
        ("2023-01-19T05/2023-01-19T06/2023-01-19T07", "'2023-01-19T06/2023-01-19T07' is no UTC time"),
        ("2023-01-19T05/2023-01-19T05", "the window starts at 2023-01-19T05:00:00Z, not before its end"),
        ("2023-01-19T05/2023-01-19T04", "not before its end 2023-01-19T04:00:00Z"),
        ("9999-12-31T23", "9999-12-31T23"),
    ],
)
def test_other_texts_are_no_window(text: str, said: str) -> None:
    """A text that is no window says which part is wrong."""
    with pytest.raises(ValueError, match=r"window|time") as caught:
        Window.parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hours", "scheduled"),
    [
        ("2023-01-19T05", ["2023-01-19T05"], "2023-01-19T06"),
        ("2023-01-19T05:30", ["2023-01-19T05", "2023-01-19T06"], "2023-01-19T07"),
        ("2023-01-19T05:10/2023-01-19T05:20", ["2023-01-19T05"], "2023-01-19T06"),
        ("2023-01-19T05:10/2023-01-19T06:00", ["2023-01-19T05"], "2023-01-19T06"),
        ("2023-01-19T05:10/2023-01-19T06:00:01", ["2023-01-19T05", "2023-01-19T06"], "2023-01-19T07"),
        ("2023-12-31T23", ["2023-12-31T23"], "2024-01-01T00"),
        (
            "2024-02-28T22:30/2024-02-29T00:30",
            ["2024-02-28T22", "2024-02-28T23", "2024-02-29T00"],
            "2024-02-29T01",
        ),
    ],
)
def test_hours_and_schedule(text: str, hours: list[str], scheduled: str) -> None:
    """A window touches the hours it shares an instant with; the schedule is the full hour at or after its end."""
    window = Window.parse(text)
    assert list(window.hours) == [utc(hour) for hour in hours]
    assert window.scheduled == utc(scheduled)


@given(windows)
def test_hours_cover_the_window(window: Window) -> None:
    """The hours are full, follow each other, and reach from the first instant to the schedule, none too many."""
    first, last = window.hours[0], window.hours[-1]
    assert first <= window.start < first + HOUR
    assert last < window.end <= last + HOUR == window.scheduled
    assert {later - hour for hour, later in zip(window.hours, window.hours[1:], strict=False)} <= {HOUR}
    assert window.start in window
    assert window.end not in window
    assert window.end - timedelta(microseconds=1) in window


@pytest.mark.parametrize(("count", "told"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (12345, "12,345 files")])
def test_plural(count: int, told: str) -> None:
    """Only one is singular."""
    assert plural(count, "file") == told


def captured(
    columns: Mapping[str, Sequence[object]], names: Sequence[str] = (), rejected: Mapping[str, int] | None = None
) -> Captured:
    """Return what a window holds whose table has these columns."""
    table = pl.LazyFrame(dict(columns), strict=False)
    records = table.collect().height
    return Captured(("a",), records, 0, 0, records, tuple(names), table, rejected or {}, (), io.BytesIO())


def test_rejections_say_where_they_stand(golden: Golden) -> None:
    """A rejection is its place and its sentence; the text of what was rejected is not needed."""
    golden(str(Rejection("a.jsonl", 7, "not_json", "not JSON", "torn {")))
    assert Rejection("a.jsonl", 7, "not_json", "not JSON").text == ""


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (("Age", "Sex"), {"feature0": [1, 2], "feature1": ["a", None]}),
        (("feature1", "feature0"), {"feature0": [1, 2], "feature1": ["a", None]}),
        (("score0", "file"), {"feature0": [True, None], "feature1": [0.5, 1.0]}),
        ([f"f{d}" for d in range(12)], {f"feature{d}": [d, None] for d in range(12)}),
        ((), {}),
    ],
)
def test_features_have_their_own_names(names: Sequence[str], columns: Mapping[str, Sequence[object]]) -> None:
    """Features come in their order and types under their names, even where these are names of the table itself."""
    origin: dict[str, Sequence[object]] = {"file": ["a", "a"], "line": [1, 2]}
    features = captured({**origin, **columns, "score0": [0.25, 0.5]}, names).features()
    assert features.columns == list(names)
    assert [features[name].to_list() for name in names] == list(columns.values())


@pytest.mark.parametrize(
    ("scores", "scores_NL"),
    [
        ([[0.25, 0.5]], [[0.25], [0.5]]),
        ([[0.25, None]], [[0.25], [np.nan]]),
        ([[0.25, None], [0.75, None]], [[0.25, 0.75], [np.nan, np.nan]]),
    ],
)
def test_scores_are_one_array(scores: list[list[float | None]], scores_NL: list[list[float]]) -> None:
    """Scores are an array of records by outputs, and where a record has none they are no number."""
    columns: dict[str, Sequence[object]] = {
        "feature0": [1, 2],
        **{f"score{i}": values for i, values in enumerate(scores)},
    }
    found = captured(columns, ["A"]).scores()
    assert found is not None
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, np.array(scores_NL))


def test_without_scores_there_is_no_array() -> None:
    """Where no record has a score, nothing is returned instead of an array without columns."""
    assert captured({"file": ["a"], "feature0": [1]}, ["A"]).scores() is None


@pytest.mark.parametrize(
    ("records", "rejected", "share"),
    [(0, {}, 0.0), (4, {}, 0.0), (3, {"x": 1}, 0.25), (0, {"x": 2}, 1.0), (2, {"x": 1, "y": 1}, 0.5)],
)
def test_share_of_the_rejected(records: int, rejected: Mapping[str, int], share: float) -> None:
    """The share is that of all rejected among all records, none where there is nothing."""
    assert captured({"feature0": [1] * records}, ["A"], rejected).share == share


@pytest.mark.parametrize(("score", "residual"), [(1.0, 0.0), (1.5, 0.5), (0.25, 0.75)])
def test_residual_is_the_gap_of_efficiency(score: float, residual: float) -> None:
    """The residual is how far the sum of attributions and expectation is from the score."""
    phi_NDL = np.array([[[0.5], [0.25]]])
    attributions = Attributions(("a", "b"), ("label0",), phi_NDL, np.array([0.25]), np.array([[score]]), 1)
    assert attributions.residual == residual
