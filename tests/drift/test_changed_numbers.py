"""Transformations of numbers: statements are true of the change that was made."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from runner.drift.causes import SAME, likely_cause
from tests.golden import Golden

Values = np.ndarray
FACTOR = re.compile(
    r"about (1/)?([\d.,]+) (?:times|of) the reference values \((1/)?([\d.,]+)(?:–| to )(1/)?([\d.,]+)\)"
)
OFFSET = re.compile(r"about [\d.,]+ (higher|lower) than the reference values \(([\d.,]+)–([\d.,]+)\)")
SHARE = re.compile(r"in (?:about )?(\d+)% of the records")
ROUNDED = 1.006
"""Largest ratio of a number to the one that is shown with three digits."""
POPULATIONS: dict[str, Callable[[np.random.Generator, int], Values]] = {
    "incomes": lambda rng, rows: np.exp(rng.normal(10.3, 0.6, rows)),
    "scores": lambda rng, rows: rng.normal(650, 70, rows),
    "distances": lambda rng, rows: rng.exponential(14, rows),
    "rates": lambda rng, rows: rng.beta(2, 9, rows),
}


def stated(before: Values, now: Values) -> str:
    """Return the text of the likely cause."""
    cause = likely_cause(pl.Series(before), pl.Series(now))
    return cause.text if cause else SAME


def number(inverse: str | None, figure: str) -> float:
    """Return a number in words such as 1/12."""
    value = float(figure.replace(",", ""))
    return 1 / value if inverse else value


def factor_interval(text: str) -> tuple[float, float] | None:
    """Return the interval of the factor; None if none is stated."""
    found = FACTOR.search(text)
    return (number(found[3], found[4]), number(found[5], found[6])) if found else None


@pytest.mark.parametrize("population", POPULATIONS)
def test_true_factor_is_in_its_interval(population: str) -> None:
    """A stated interval has the true factor in at least 95 % of the cases; a factor is stated in almost all of them."""
    draw, inside, cases = POPULATIONS[population], 0, 20
    for seed in range(cases):
        rng = np.random.default_rng([seed, 1])
        factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.4, 4)))
        interval = factor_interval(stated(draw(rng, 800), draw(rng, 300) * factor))
        assert interval is not None
        inside += interval[0] / ROUNDED <= factor <= interval[1] * ROUNDED
    assert inside >= 0.95 * cases


@pytest.mark.parametrize("population", POPULATIONS)
def test_true_offset_is_in_its_interval(population: str) -> None:
    """The same holds for a difference, with its direction; other causes may fit, too."""
    draw, inside, found = POPULATIONS[population], 0, 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 2])
        before, now = draw(rng, 800), draw(rng, 300)
        offset = float(rng.choice([-1, 1]) * rng.uniform(0.7, 3) * before.std())
        if match := OFFSET.search(stated(before, now + offset)):
            found += 1
            low, high = (number(None, end) for end in match.groups()[1:])
            assert (match[1] == "higher") == (offset > 0)
            inside += low / ROUNDED <= abs(offset) <= high * ROUNDED
    assert found >= 17
    assert inside >= 0.9 * found


@pytest.mark.parametrize("factor", [100, 12, 7.8, 1 / 12, 0.01])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_factor_of_a_part_of_the_records(factor: float, share: float) -> None:
    """Records from a source with another unit: their factor, and how many they are."""
    rng = np.random.default_rng(int(share * 10))
    before, now = (POPULATIONS["incomes"](rng, rows) for rows in (1000, 400))
    altered = rng.random(400) < share
    text = stated(before, np.where(altered, now * factor, now))
    interval, part = factor_interval(text), SHARE.search(text)
    assert interval is not None
    assert part is not None
    assert interval[0] <= factor <= interval[1]
    assert int(part[1]) / 100 == pytest.approx(altered.mean(), abs=0.06)


def test_a_mixture_is_not_hidden_by_one_factor_that_hardly_fits() -> None:
    """Three times the incomes in a part of the records resemble a smaller factor of all of them."""
    for seed, share in enumerate((0.4, 0.5, 0.65)):
        rng = np.random.default_rng([seed, 3])
        before, now = (POPULATIONS["incomes"](rng, rows) for rows in (1000, 500))
        text = stated(before, np.where(rng.random(500) < share, now * 3, now))
        assert any(
            interval[0] <= 3 <= interval[1]
            for part in text.split(", or ")
            if "in about" in part and (interval := factor_interval(part))
        ), text


@pytest.mark.parametrize("divisor", [10, 100, 256, 1000])
def test_remainders_have_their_divisor(divisor: int, golden: Golden) -> None:
    """The last digits, or the lowest byte; the digits of other numbers are not called remainders."""
    rng = np.random.default_rng(divisor)
    before, now = (rng.normal(divisor * 2.6, divisor * 0.2, rows).round().clip(divisor) for rows in (1000, 400))
    golden(stated(before, now % divisor))
    others = divisor - 1 - (now % divisor)
    assert "remainders" not in stated(before, others)


def test_reverse_order_is_not_an_offset(golden: Golden) -> None:
    """Both fit a symmetric distribution. The order of the records decides, and nothing is ruled out without it."""
    rng = np.random.default_rng(4)
    before, now = (rng.normal(0.1, 0.02, rows).clip(0.01, 0.5) for rows in (1000, 400))
    sides = pl.Series(before), pl.Series(1 - now)
    orders: list[Callable[[], int]] = [lambda: -1, lambda: 0, lambda: 1]
    texts = [cause.text for order in orders if (cause := likely_cause(*sides, order))]
    golden("\n".join(texts))


@pytest.mark.parametrize(("value", "share"), [(0, 0.05), (0, 0.3), (-1, 0.1), (999, 0.1)])
def test_impossible_value(value: int, share: float) -> None:
    """A value outside the range of whole numbers, with its share; a value inside the range may be possible."""
    rng = np.random.default_rng(5)
    before, now = (rng.integers(18, 60, rows) for rows in (1000, 400))
    altered = rng.random(400) < share
    text = stated(before, np.where(altered, value, now))
    assert text.startswith(
        f"{value} in {altered.mean():.0%} of the records (0% in the reference, with values from 18 to 59)"
    )
    assert text.endswith("missing values replaced?")


def test_codes_that_are_exchanged_or_merged() -> None:
    """Codes are named with their shares, also if the order of the codes hardly shows the change."""
    rng = np.random.default_rng(6)
    shares = [0.1, 0.35, 0.3, 0.15, 0.1]
    before, now = (rng.choice([1, 2, 3, 4, 5], rows, p=shares) for rows in (1000, 400))
    exchanged = np.select([now == 2, now == 4], [4, 2], now)
    fell = [f"{(side == 2).mean():.0%}" for side in (before, exchanged)]
    rose = [f"{(side == 4).mean():.0%}" for side in (before, exchanged)]
    expected = f"2 fell from {fell[0]} to {fell[1]} and 4 rose from {rose[0]} to {rose[1]}: values swapped?"
    assert stated(before, exchanged) == expected
    merged = np.where(now == 5, 4, now)
    rose = [f"{(side == 4).mean():.0%}" for side in (before, merged)]
    gone = f"5 ({(before == 5).mean():.0%} of the reference) no longer occurs"
    assert stated(before, merged) == f"{gone}; 4 rose from {rose[0]} to {rose[1]}: merged, or clipped?"


def test_a_step_that_is_common_by_chance_gives_no_factor() -> None:
    """Mostly 0 and some small numbers: twice the factor fits as well, but halves of the step should occur."""
    rng = np.random.default_rng(7)
    before, now = (np.where(rng.random(rows) < 0.75, 0, rng.geometric(0.12, rows)) for rows in (1000, 300))
    for factor in (24, 10, 1 / 4):
        found = re.match(r"(1/)?([\d.,]+) (?:times|of) the reference values \(multiples", stated(before, now * factor))
        assert found is not None
        assert number(found[1], found[2]) == pytest.approx(factor, rel=0.005)


POWERS = [44, 55, 66, 77, 85, 96, 103, 110, 125, 140, 180, 220]
SHARES = [0.05, 0.1, 0.12, 0.14, 0.13, 0.12, 0.1, 0.09, 0.07, 0.05, 0.02, 0.01]


def powers(seed: int, rows: int) -> Values:
    """Return numbers of few different values."""
    return np.random.default_rng([seed, 8]).choice(POWERS, rows, p=SHARES)


@pytest.mark.parametrize(
    ("change", "beginning"),
    [
        (lambda v: -v, "opposite sign"),
        (lambda v: v + 7, "7 higher than the reference values"),
        (lambda v: v - 44, "44 lower than the reference values"),
        (lambda v: np.searchsorted(POWERS, v), "numbered from 0 in the order of the reference values: "),
        (lambda v: np.searchsorted(POWERS, v) + 1, "numbered from 1 in the order of the reference values: "),
    ],
    ids=["sign", "higher", "lower", "from 0", "from 1"],
)
def test_codes_with_another_sign_offset_or_numbering(change: Callable[[Values], Values], beginning: str) -> None:
    """Numbers of few different values are not called renamed if a change of all of them gives the live ones."""
    assert all(stated(powers(seed, 1000), change(powers(seed + 9, 300))).startswith(beginning) for seed in range(5))


@pytest.mark.parametrize("factor", [1.3596, 2.73, 1 / 3])
def test_factor_of_codes_that_are_rounded(factor: float) -> None:
    """The interval has the true factor; other codes of the same shares are not called rounded."""
    for seed in range(4):
        text = stated(powers(seed, 1000), (powers(seed + 9, 300) * factor).round())
        interval = factor_interval(text)
        assert interval is not None
        assert interval[0] / ROUNDED <= factor <= interval[1] * ROUNDED
        others = dict(zip(POWERS, [1, 30, 2, 40, 7, 9, 21, 12, 14, 33, 17, 5], strict=True))
        assert factor_interval(stated(powers(seed, 1000), np.array([others[v] for v in powers(seed + 9, 300)]))) is None


@pytest.mark.parametrize("value", [-1, 99])
def test_value_in_place_of_all_above_a_limit(value: int) -> None:
    """The new value, its share, the limit and the share of the reference above it."""
    rng = np.random.default_rng(9)
    before, now = (np.minimum(rng.geometric(0.12, rows) - 1, 30) for rows in (1000, 400))
    text = stated(before, np.where(now > 9, value, now))
    share = f"{value} in {(now > 9).mean():.0%} of the records (0% in the reference)"
    gone = f"none above 9 ({(before > 9).mean():.0%} of the reference values are)"
    assert text == f"{share}, and {gone}: replaced?"


@pytest.mark.parametrize("divisor", [7, 30.4375, 365.25])
@pytest.mark.parametrize("function", [np.round, np.floor])
def test_factor_of_values_that_are_rounded(divisor: float, function: Callable[[Values], Values]) -> None:
    """Fewer different values do not hide that they are smaller: days in weeks, months and years."""
    inside, cases = 0, 6
    for seed in range(cases):
        rng = np.random.default_rng([seed, 10])
        before, now = (rng.gamma(2, 1200, rows).round() for rows in (1000, 400))
        text = stated(before, function(now / divisor))
        interval = factor_interval(text)
        assert interval is not None
        assert re.search("(rounded|cut) to whole", text)
        inside += interval[0] / ROUNDED <= 1 / divisor <= interval[1] * ROUNDED
    assert inside >= cases - 1


def test_repeated_values_of_another_size_state_both() -> None:
    """A few values of another column: their size is stated before their number."""
    rng = np.random.default_rng(11)
    before = POPULATIONS["scores"](rng, 1000)
    now = rng.choice([2000.5, 4000.25, 9000.75, 20_000.125], 400)
    found = re.match(
        r"median ([\d.e+]+) \([\d.]+ in the reference\); only 1% of its values differ", stated(before, now)
    )
    assert found is not None
    assert float(found[1]) == pytest.approx(np.median(now), rel=1e-3)
    assert stated(before, rng.choice(before[:8], 400)).startswith("only 2%")


@pytest.mark.parametrize("top", [1, 100])
def test_percentiles(top: int) -> None:
    """Percentiles in place of the values; uniform values of the same range are not called so."""
    rng = np.random.default_rng(12)
    before, now = (POPULATIONS["scores"](rng, rows) for rows in (1000, 300))
    ranks = (now.argsort().argsort() + 1) / len(now) * top
    expected = f"spread evenly from 0 to {top}: percentiles of the reference values?"
    assert stated(before, ranks) == expected
    assert "percentiles" not in stated(rng.uniform(0, top, 1000), ranks)
    assert "percentiles" not in stated(before, rng.beta(2, 3, 300) * top)


FAHRENHEIT = re.compile(
    r"about 1\.8 times the reference values plus 32 \(Fahrenheit for Celsius\)(?: in about (\d+)%)?"
)


def temperatures(rng: np.random.Generator, rows: int) -> Values:
    """Return degrees Celsius."""
    return (11 + 7 * rng.normal(size=rows)).round(1)


@pytest.mark.parametrize("share", [0.3, 0.5, 1])
def test_fahrenheit_for_celsius(share: float) -> None:
    """Another factor and another zero, in all records or in a part of them, are not stated as a factor alone."""
    for seed in range(3):
        rng = np.random.default_rng([seed, 13])
        before, now = temperatures(rng, 1000), temperatures(rng, 300)
        altered = rng.random(300) < share
        text = stated(before, np.where(altered, (now * 1.8 + 32).round(1), now))
        found = FAHRENHEIT.search(text)
        assert found is not None
        assert int(found[1] or 100) == pytest.approx(100 * altered.mean(), abs=6)
        reverse = FAHRENHEIT.search(stated(np.where(altered, now * 1.8 + 32, now), before))
        assert reverse is None


@pytest.mark.parametrize("offset", [273.15, 45.0, -60.0])
def test_difference_of_a_part_of_the_records(offset: float) -> None:
    """The interval has the true difference, with its direction and the share of the records."""
    rng = np.random.default_rng(14)
    before, now = temperatures(rng, 1000), temperatures(rng, 400)
    altered = rng.random(400) < 0.5
    text = stated(before, np.where(altered, now + offset, now))
    found, part = OFFSET.search(text), SHARE.search(text)
    assert found is not None
    assert part is not None
    assert (found[1] == "higher") == (offset > 0)
    assert number(None, found[2]) <= abs(offset) <= number(None, found[3])
    assert int(part[1]) == pytest.approx(100 * altered.mean(), abs=6)


def test_reciprocal_has_no_unit() -> None:
    """A factor that fits the median is no unit if another function fits better, or the order is reversed."""
    for seed in range(4):
        rng = np.random.default_rng([seed, 15])
        before, now = (rng.beta(2, 30, rows) + 0.01 for rows in (1000, 300))
        text = stated(before, 1 / now)
        assert "reciprocal" in text
        assert "unit" not in text
        cause = likely_cause(pl.Series(before), pl.Series(1 / now), lambda: -1)
        assert cause is not None
        assert cause.text.startswith("the reciprocal")


@pytest.mark.parametrize("kind", ["dates", "seconds", "milliseconds"])
def test_dates_in_place_of_numbers(kind: str) -> None:
    """Dates as numbers, and times since 1970; other large numbers are neither."""
    rng = np.random.default_rng(16)
    before, days = (rng.gamma(2, 400, rows).round() for rows in (1000, 300))
    seconds = 1_772_400_000 - 86_400 * days
    if kind == "dates":
        now = np.array([float(f"{datetime.fromtimestamp(each, UTC):%Y%m%d}") for each in seconds])
        others = now + 40
    else:
        now = seconds * (1000 if kind == "milliseconds" else 1)
        others = days * 1e6
    words = {"dates": f"dates such as {now.min():.0f}?"}.get(kind, f"times in {kind} since 1970?")
    assert stated(before, now).endswith(words)
    assert not re.search("dates|times in", stated(before, others))
