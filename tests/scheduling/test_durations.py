"""Durations as ISO 8601 writes them."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from runner.scheduling.durations import Duration, duration, text
from tests.golden import Golden

SETTING: TypeAdapter[timedelta] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("written", "length"),
    [
        ("-PT1H", timedelta(hours=-1)),
        ("-P8D", timedelta(days=-8)),
        ("PT90M", timedelta(minutes=90)),
        ("+PT5S", timedelta(seconds=5)),
        ("P2W", timedelta(days=14)),
        ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("-PT0S", timedelta()),
        ("P1DT30M", timedelta(days=1, minutes=30)),
    ],
)
def test_durations_are_read(written: str, length: timedelta) -> None:
    """Weeks, days and the parts of a day are lengths of time, with or without a sign."""
    assert duration(written) == length


@pytest.mark.parametrize(
    "written",
    ["", "P", "-P", "PT", "P1DT", "1H", "PT1", "P1H", "PT1D", "P1W2D", "PT1.5H", "--PT1H", "pt1h", "PT1H ", "PT١H"],
)
def test_other_texts_are_no_durations(written: str, golden: Golden) -> None:
    """What is none is shown in the sentence."""
    with golden.raises(ValueError):
        duration(written)


@pytest.mark.parametrize("written", ["P1M", "-P1Y", "P1Y2M3D", "P2M3DT4H", "P1M3D"])
def test_months_and_years_are_refused(written: str, golden: Golden) -> None:
    """What has no fixed length is refused with what to write instead."""
    with golden.raises(ValueError):
        duration(written)


@pytest.mark.parametrize("written", ["P1000000000D", "-PT99999999999999999999H", "P" + "9" * 5000 + "D"])
def test_durations_beyond_the_calendar_are_refused(written: str, golden: Golden) -> None:
    """A length that no calendar holds is refused with a short sentence."""
    with golden.raises(ValueError) as caught:
        duration(written)
    assert len(str(caught.value)) < 200


@given(st.integers(-(10**10), 10**10))
def test_text_is_the_inverse(seconds: int) -> None:
    """A length that is written and read is the same."""
    length = timedelta(seconds=seconds)
    assert duration(text(length)) == length


@given(st.text("+-PTWDHMSY0123456789", max_size=12))
def test_any_text_is_read_or_refused(written: str) -> None:
    """Nothing but a length or a sentence comes of a text."""
    with suppress(ValueError):
        assert duration(text(duration(written))) == duration(written)


def test_settings_are_texts_in_json() -> None:
    """A setting is read from a text or a length, and written to JSON as a text."""
    assert SETTING.validate_python("-PT90M") == SETTING.validate_python(timedelta(minutes=-90))
    assert SETTING.dump_json(timedelta(minutes=-90)) == b'"-PT1H30M"'
    assert SETTING.validate_json('"-PT1H30M"') == timedelta(minutes=-90)


@pytest.mark.parametrize("value", [3600, 1.5, True, None, ["PT1H"]])
def test_numbers_are_no_settings(value: object, golden: Golden) -> None:
    """A number does not say its unit."""
    with golden.raises(ValidationError):
        SETTING.validate_python(value)
