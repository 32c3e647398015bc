"""ISO 8601 durations."""

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
def test_durations_are_parsed(written: str, length: timedelta) -> None:
    """Weeks, days, hours, minutes and seconds are supported, with an optional sign."""
    assert duration(written) == length


@pytest.mark.parametrize(
    "written",
    ["", "P", "-P", "PT", "P1DT", "1H", "PT1", "P1H", "PT1D", "P1W2D", "PT1.5H", "--PT1H", "pt1h", "PT1H ", "PT١H"],
)
def test_invalid_durations_are_refused(written: str, golden: Golden) -> None:
    """The error quotes the string."""
    with golden.raises(ValueError):
        duration(written)


@pytest.mark.parametrize("written", ["P1M", "-P1Y", "P1Y2M3D", "P2M3DT4H", "P1M3D"])
def test_months_and_years_are_refused(written: str, golden: Golden) -> None:
    """The error suggests days instead."""
    with golden.raises(ValueError):
        duration(written)


@pytest.mark.parametrize("written", ["P1000000000D", "-PT99999999999999999999H", "P" + "9" * 5000 + "D"])
def test_too_long_durations_are_refused(written: str, golden: Golden) -> None:
    """The error is short even if the string is long."""
    with golden.raises(ValueError) as caught:
        duration(written)
    assert len(str(caught.value)) < 200


@given(st.integers(-(10**10), 10**10))
def test_text_is_the_inverse_of_duration(seconds: int) -> None:
    """A formatted duration is parsed to the same length."""
    length = timedelta(seconds=seconds)
    assert duration(text(length)) == length


@given(st.text("+-PTWDHMSY0123456789", max_size=12))
def test_any_string_is_parsed_or_refused(written: str) -> None:
    """An invalid string raises only ValueError."""
    with suppress(ValueError):
        assert duration(text(duration(written))) == duration(written)


def test_settings_are_strings_in_json() -> None:
    """A setting is parsed from a string or a timedelta, and serialized as a string."""
    assert SETTING.validate_python("-PT90M") == SETTING.validate_python(timedelta(minutes=-90))
    assert SETTING.dump_json(timedelta(minutes=-90)) == b'"-PT1H30M"'
    assert SETTING.validate_json('"-PT1H30M"') == timedelta(minutes=-90)


@pytest.mark.parametrize("value", [3600, 1.5, True, None, ["PT1H"]])
def test_values_other_than_strings_are_refused(value: object, golden: Golden) -> None:
    """A number has no unit."""
    with pytest.raises(ValidationError) as caught:
        SETTING.validate_python(value)
    golden(caught.value.errors()[0]["msg"])
