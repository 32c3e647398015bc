"""Likely causes of changed numbers: transformations of the reference values that resemble the live values.

A factor or a difference is stated with the interval of values for which the transformed reference values and the live
values may come from one distribution.

Array letters: N reference records, M live records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.numbers import plural
from runner.drift.changed_categories import CLEAR, MOST_NAMES, NOTABLE, SIGNIFICANCE, ChangedCategories
from runner.drift.counts import hypergeometric
from runner.drift.histograms import format_value
from runner.drift.inputs import MOST_ROUNDING, PLACES, decimals
from runner.drift.significance import critical, distance

MOST_ROWS = 4_000
"""Maximum number of values of each side that are compared, at equal distances in sorted order."""
MOST_CODES = 50
"""Maximum number of distinct whole numbers of a feature that may be codes."""
UNITS = {
    10.0: "",
    100.0: "",
    1000.0: "",
    1e6: "",
    7.0: "days/weeks",
    12.0: "months/years",
    24.0: "hours/days",
    30.4375: "days/months",
    60.0: "minutes/hours",
    365.25: "days/years",
    3600.0: "seconds/hours",
    2.54: "centimetres/inches",
    3.28084: "feet/metres",
    1.609344: "kilometres/miles",
    2.204623: "pounds/kilograms",
}
"""Ratios between units, with an example: the unit with the larger numbers, and the other one."""
UNIT_WIDTH, WIDE_UNIT_WIDTH, WIDE_UNIT = 1.05, 1.25, 20.0
"""Largest ratio between an end of an interval and its centre for which a unit is named; the second one applies to
ratios of at least `WIDE_UNIT`, which growth seldom reaches."""
STEPS = 200
"""Number of factors or differences on each side of the estimate that are tried for an interval."""
ROUNDINGS = (1e6, 1e5, 1e4, 1e3, 100.0, 10.0, 5.0, 1.0, 0.1, 0.01)
"""Units to which values may be rounded."""
PARTIAL_FACTORS = (10.0, 100.0, 1000.0, 12.0, 60.0)
"""Factors that are tried if only part of the values are outside the range of the reference."""
MOST_PARTIAL = 0.25
"""Largest distance between scaled and live values in this case; the affected records may differ from the others."""
MOST_WHOLE = 0.8
"""Largest share of multiples among reference values that are not rounded."""
MODULI = (10.0, 100.0, 256.0, 1000.0, 65536.0)
"""Divisors whose remainders may be live values, such as the last digit, or a byte."""
MIXED = np.geomspace(2, 2000, 80)
"""Factors that are tried for a part of the records; their inverses, too."""
MIXED_STEP = float(MIXED[1] / MIXED[0])
NOTICEABLE = 0.5
"""Smallest noticeable change of a value, in standard deviations of the reference."""
NORMAL_RANGE = 1.3489795003921634
"""Distance between the quartiles of a normal distribution with standard deviation 1."""
REPEATED = 0.1
"""Smallest loss of distinct values, relative to the number of records, that is described."""
MULTIPLES = (1.0, 2.0, 3.0, 4.0, 5.0, 1 / 2, 1 / 3, 1 / 4, 1 / 5)
"""Multiples of the ratio of steps that are tried, since few values may have multiples of the step only."""
EXACT = 1.0001
"""Largest ratio between a factor of steps and the factor that explains it."""
MOST_STEPS = 1e7
"""Largest value in steps; larger ones may be numbers without a step."""
FEWEST_GAPS = 200
"""Number of gaps between values from which their step is computed; it is checked with all values."""
FEWEST_STEPS = 10
"""Smallest number of distinct values that have a step."""
PERIODS = {7.0, 12.0, 24.0, 60.0}
"""Numbers after which cyclic values, such as hours, start again at 0."""
HOURS = 24
HALF, ALL = 0.5, 0.95
"""Smallest share of the records that counts as half of them, and as all of them."""
YEARS = (1950, 2100)
"""Range of the year from which an age may have been subtracted."""
PROBABILITIES = np.linspace(0.1, 0.9, 17)
"""Probabilities of the quantiles whose ratios estimate a factor."""
FITTED = 0.75
"""Largest distance that the best parameter leaves, relative to the limit of a distance without a parameter."""
ROUNDED_FACTORS = np.geomspace(0.8, 1.25, 4001)
"""Factors that are tried for rounded values, relative to the estimate."""
MOST_FACTORS = 201
"""Maximum number of such factors for which the rounded values are compared with the live ones."""
MOST_MISSES = 10
"""Number of parameters in a row that do not fit, after which no further ones are tried."""
FUNCTIONS: Mapping[str, Callable[[Values], Values]] = {
    "natural logarithm": np.log,
    "logarithm to base 10": np.log10,
    "logarithm of 1 plus": np.log1p,
    "square root": np.sqrt,
    "square": np.square,
    "reciprocal": np.reciprocal,
}
"""Monotone functions that may have been applied to positive values."""
AFFINE = {
    (1.8, 32.0): "plus 32 (Fahrenheit for Celsius)",
    (5 / 9, -160 / 9): "minus 17.8 (Celsius for Fahrenheit)",
}
"""Units with another factor and another zero, with the words after the factor."""
OFFSETS = np.geomspace(0.5, 100, 60)
"""Differences in standard deviations that are tried for a part of the records; their opposites, too."""
KELVIN = 273.15
"""Difference between degrees Celsius and Kelvin."""
ALMOST = 1.5
"""Largest ratio of the distance of another explanation to that of the best one for which both are stated."""
DATES = 19_000_101, 21_001_231
"""First and last date as a number."""
TIMES = 946_684_800, 2_208_988_800
"""Seconds from 1970 to the years 2000 and 2040."""
Values = NDArray[np.float64]


class Transformation(NamedTuple):
    """A transformation of all reference values.

    Attributes:
        gap: distance between the transformed reference values and the live ones.
        mirrored: whether it reverses the order of the values.
    """

    gap: float
    text: str
    mirrored: bool = False

    @property
    def with_evidence(self) -> Transformation:
        """The transformation, with the evidence for the order of the values if it is reversed."""
        evident = self.mirrored and not self.text.endswith("?")
        return self._replace(text=f"{self.text}, as its correlations with the other features show") if evident else self


class Likely(NamedTuple):
    """A likely cause.

    Attributes:
        text: description without a full stop.
        altered: share of the records that the cause altered by more than `NOTICEABLE` standard deviations; 0 if
            another population explains the change, too.
    """

    text: str
    altered: float = 0.0


@dataclass(frozen=True)
class ChangedNumbers:
    """Sorted numbers of both sides.

    Attributes:
        allowed: largest distance between distributions that counts as equal.
    """

    before_N: Values
    now_M: Values
    allowed: float

    @classmethod
    def of(cls, before: pl.Series, now: pl.Series) -> ChangedNumbers:
        """Return the numbers of both sides, which are not missing."""
        before_N, now_M = _thinned(before), _thinned(now)
        return cls(before_N, now_M, critical(len(before_N), len(now_M), SIGNIFICANCE))

    def cause(self, order: Callable[[], int] = lambda: 0) -> Likely | None:
        """Return the likely cause; None if it is not clear.

        Args:
            order: returns 1 if the records have the same order by these values as before, -1 if it is reversed, and 0
                if this is unknown.
        """
        initial = ks_distance(self.before_N, self.now_M)
        if (certain := self._rescaled() or self._dates() or self._remainders() or self._encoded()) is not None:
            return certain
        for describe in (self._codes, self._rounded, self._clipped, self._replaced):
            if cause := describe():
                return Likely(cause)
        repeated, changed = self._repeated(), initial > self.allowed
        if repeated and (cause := self._rescaled_and_rounded()):
            return Likely(cause)
        cause = self._percentiles() or (changed and not repeated and self._transformed(initial, order)) or None
        if cause is None and self._is_elsewhere() and (repeated or self._decimals()):
            return Likely(f"{self.quantiles()}; {repeated}" if repeated else self.quantiles())
        cause = cause or repeated or self._decimals() or self._out_of_range()
        if cause or not changed:
            return Likely(cause) if cause else None
        return Likely(self.quantiles())

    def moved_by(self, transformed_N: Values) -> float:
        """Return the share of the reference values that a transformation moves noticeably."""
        low, high = np.quantile(self.before_N, [0.25, 0.75])
        deviation = float(high - low) / NORMAL_RANGE or float(self.before_N.std())
        return float((abs(transformed_N - self.before_N) > NOTICEABLE * deviation).mean())

    def fits(self, before_N: Values) -> bool:
        """Return whether transformed reference values resemble the live ones."""
        return ks_distance(before_N, self.now_M) <= self.allowed

    def resembles(self, before_N: Values) -> bool:
        """Return whether reference values that are transformed without a free parameter resemble the live ones."""
        return ks_distance(before_N, self.now_M) <= critical(len(self.before_N), len(self.now_M), CLEAR)

    @property
    def codes(self) -> Values | None:
        """Distinct values of both sides if they may be codes."""
        pooled = np.union1d(self.before_N, self.now_M)
        return pooled if len(pooled) <= MOST_CODES and (pooled == pooled.round()).all() else None

    def _rescaled(self) -> Likely | None:
        """Return the factor between the steps of the values, such as cents, if the scaled reference values fit."""
        steps = [_step(side) for side in self.sides]
        if not all(steps):
            return None
        ratio = steps[1] / steps[0]
        factors = {
            multiple * ratio: self.before_N * multiple * ratio
            for multiple in MULTIPLES
            if self._may_skip(multiple, steps)
        }
        gaps = {factor: ks_distance(scaled_N, self.now_M) for factor, scaled_N in factors.items()}
        factor = min(gaps, key=lambda factor: (round(gaps[factor], 9), abs(factor - ratio)))
        if gaps[factor] > self.allowed or abs(ratio - 1) < 1 - 1 / EXACT or abs(factor - 1) < 1 - 1 / EXACT:
            return None
        evidence = f"multiples of {_figure(steps[1])} instead of {_figure(steps[0])}"
        text = f"{_times(factor)} the reference values ({evidence})"
        if unit := _unit(factor, factor / EXACT, factor * EXACT):
            text += f": {unit.description}?"
        return Likely(text, self.moved_by(factors[factor]))

    def _may_skip(self, multiple: float, steps: Sequence[float]) -> bool:
        """Return whether one side may have only multiples of its step by chance.

        Args:
            multiple: factor of the values, divided by the ratio of the steps.
            steps: step of each side.
        """
        side, other = (1, 0) if multiple > 1 else (0, 1)
        step = steps[side] * max(multiple, 1 / multiple)
        whole = np.isclose(
            self.sides[side] / step, (self.sides[side] / step).round(), rtol=0, atol=MOST_ROUNDING
        ).mean()
        return bool(whole ** len(self.sides[other]) >= CLEAR)

    def _dates(self) -> Likely | None:
        """Return dates and times since 1970 in place of other numbers, which are smaller."""
        if self.before_N[-1] >= self.now_M[0] or len(np.unique(self.now_M)) < MOST_NAMES:
            return None
        bounds = f"{format_value(float(self.before_N[0]))} to {format_value(float(self.before_N[-1]))}"
        text = f"outside the range of the reference, {bounds}, in 100% of the records"
        months_M, days_M = self.now_M // 100 % 100, self.now_M % 100
        is_date_M = (months_M >= 1) & (months_M <= 12) & np.isin(days_M, np.arange(1, 32))
        if DATES[0] <= self.now_M[0] and self.now_M[-1] <= DATES[1] and is_date_M.all():
            return Likely(f"{text}: dates such as {self.now_M[0]:.0f}?")
        for unit, size in (("seconds", 1), ("milliseconds", 1000)):
            if TIMES[0] * size <= self.now_M[0] and self.now_M[-1] <= TIMES[1] * size:
                return Likely(f"{text}: times in {unit} since 1970?")
        return None

    def _remainders(self) -> Likely | None:
        """Return the divisor whose remainders the values are, such as 10 for the last digit."""
        for divisor in MODULI:
            if self.now_M[0] >= 0 and self.now_M[-1] < divisor < np.quantile(self.before_N, HALF):
                remainders_N = self.before_N % divisor
                if self.resembles(np.sort(remainders_N)):
                    text = f"the remainders of the reference values divided by {divisor:g}"
                    return Likely(text, self.moved_by(remainders_N))
        return None

    def _encoded(self) -> Likely | None:
        """Return another encoding of all codes: a shift of cyclic values, hours of 12, or a step of 1."""
        codes = self.codes
        if codes is None or (len(codes) > 2 and self.fits(self.before_N)):
            return None
        if (cause := self._cyclic()) is not None:
            return cause
        for step, word in ((1, "higher"), (-1, "lower")):
            if self.fits(self.before_N + step) and not self.fits(self.before_N):
                text = f"values 1 {word} than in the reference: another label encoding?"
                return Likely(text, self.moved_by(self.before_N + step))
        return None

    def _codes(self) -> str | None:
        """Describe a change of codes; if their order hardly shows it, only codes that are exchanged or merged."""
        if self.codes is None:
            return None
        if cause := self._impossible() or self._clipped() or self._beyond() or self._recoded():
            return cause
        shares = ChangedCategories.of(pl.Series(self.before_N), pl.Series(self.now_M))
        return shares.exchanged() if len(self.codes) > 2 and self.fits(self.before_N) else shares.moved()

    def _impossible(self) -> str | None:
        """Describe a new value outside the range of the reference, if the other values are unchanged."""
        values, counts = np.unique(self.now_M[~np.isin(self.now_M, self.before_N)], return_counts=True)
        if not len(values):
            return None
        value, count = float(values[counts.argmax()]), int(counts.max())
        low, high = self.before_N[0], self.before_N[-1]
        share, kept_M = count / len(self.now_M), self.now_M[self.now_M != value]
        if low <= value <= high or share < NOTABLE or len(kept_M) < MOST_NAMES:
            return None
        p = hypergeometric(count, count, len(self.now_M), len(self.before_N) + len(self.now_M))
        if p > CLEAR or ks_distance(self.before_N, kept_M) > critical(len(self.before_N), len(kept_M), SIGNIFICANCE):
            return None
        bounds = f"{format_value(float(low))} to {format_value(float(high))}"
        return (
            f"{format_value(value)} in {share:.0%} of the records (0% in the reference, with values from {bounds}): "
            "missing values replaced?"
        )

    def _beyond(self) -> str | None:
        """Describe a new value in place of all values above or below a limit."""
        values, counts = np.unique(self.now_M[~np.isin(self.now_M, self.before_N)], return_counts=True)
        if not len(values):
            return None
        value, share = float(values[counts.argmax()]), int(counts.max()) / len(self.now_M)
        kept_M = self.now_M[self.now_M != value]
        if share < NOTABLE or len(kept_M) < MOST_NAMES:
            return None
        for limit, word, beyond_N in (
            (kept_M[-1], "above", self.before_N > kept_M[-1]),
            (kept_M[0], "below", self.before_N < kept_M[0]),
        ):
            is_single = len(np.unique(self.before_N[beyond_N])) == 1
            if (
                beyond_N.mean() < NOTABLE
                or is_single
                or not self.fits(np.sort(np.where(beyond_N, value, self.before_N)))
            ):
                continue
            gone = f"none {word} {format_value(float(limit))} ({beyond_N.mean():.0%} of the reference values are)"
            return f"{format_value(value)} in {share:.0%} of the records (0% in the reference), and {gone}: replaced?"
        return None

    def _recoded(self) -> str | None:
        """Describe codes with another sign, offset, factor or numbering; None if these do not give the live codes."""
        if self.fits(self.before_N):
            return None
        distinct = np.unique(self.before_N)
        order_N = np.searchsorted(distinct, self.before_N).astype(np.float64)
        for first in (0, 1):
            if self._gives(order_N + first):
                return f"numbered from {first} in the order of the reference values: another label encoding?"
        if self._gives(-self.before_N):
            return "opposite sign"
        for place in (0.0, HALF, 1.0):
            offset = float(np.quantile(self.now_M, place) - np.quantile(self.before_N, place))
            if offset == round(offset) and self._gives(self.before_N + offset):
                word = "higher" if offset > 0 else "lower"
                return f"{_figure(abs(offset))} {word} than the reference values"
        return self._rescaled_and_rounded()

    def _gives(self, codes_N: Values) -> bool:
        """Return whether transformed codes of the reference are the live ones, with their shares."""
        known = np.isin(self.now_M, codes_N).mean(), np.isin(codes_N, self.now_M).mean()
        return min(known) >= ALL and self.fits(np.sort(codes_N))

    def _rescaled_and_rounded(self) -> str | None:
        """Describe another factor of values that are rounded, or cut, to multiples of a larger step."""
        points = [np.quantile(side, PROBABILITIES[PROBABILITIES >= HALF]) for side in self.sides]
        if self.before_N[0] < 0 or not points[0].all() or self.fits(self.before_N):
            return None
        step = 1.0 if (self.now_M == self.now_M.round()).all() else 0.0
        step = max(step, _step(self.now_M))
        ratio = float(np.median(points[1] / points[0]))
        if not step or ratio <= 0 or abs(ratio - 1) < 1 - 1 / UNIT_WIDTH:
            return None
        found = []
        for word, function, shift in (("rounded", np.round, 0.0), ("cut", np.floor, step / 2)):
            factors = float(np.median((points[1] + shift) / points[0])) * ROUNDED_FACTORS
            if self.codes is not None:
                codes, counts = np.unique(self.before_N, return_counts=True)
                known = np.isin(function(np.outer(factors, codes) / step) * step, self.now_M) @ (counts / counts.sum())
                factors = factors[known >= ALL]
            factors = _evenly(factors, min(MOST_FACTORS, len(factors))) if len(factors) else ROUNDED_FACTORS[:1]
            scaled = [function(self.before_N * factor / step) * step for factor in factors]
            gaps = np.array([ks_distance(scaled_N, self.now_M) for scaled_N in scaled])
            fitting = factors[gaps <= self.allowed]
            fits = gaps.min() <= FITTED * self.allowed if self.codes is None else self._gives(scaled[gaps.argmin()])
            if not fits:
                continue
            best = float(np.median(factors[gaps <= gaps.min() * 1.02 + 1e-12]))
            found.append((float(gaps.min()), word, best, float(fitting[0]), float(fitting[-1])))
        if not found:
            return None
        _, word, best, low, high = min(found)
        unit = _unit(best, low, high)
        text = f"about {_times(unit.factor if unit else best)} the reference values ({_range(low, high)})"
        text += f", {word} to {'whole numbers' if step == 1 else f'multiples of {format_value(step)}'}"
        return f"{text}: {unit.description}?" if unit else text

    def _percentiles(self) -> str | None:
        """Describe values that are spread evenly from 0 to 1 or 100, as percentiles are."""
        top = 1.0 if self.now_M[-1] <= 1 else 100.0
        even_M = np.linspace(0, top, len(self.now_M))
        if self.now_M[0] < 0 or not 0.9 * top <= self.now_M[-1] <= top or self.codes is not None:
            return None
        even_N = np.linspace(self.before_N[0], self.before_N[-1], len(self.before_N))
        if ks_distance(even_M, self.now_M) > self.allowed or ks_distance(even_N, self.before_N) <= self.allowed:
            return None
        return f"spread evenly from 0 to {top:g}: percentiles of the reference values?"

    def _is_elsewhere(self) -> bool:
        """Return whether the median is outside the range of most reference values."""
        low, high = np.quantile(self.before_N, [1 - ALL, ALL])
        return not low <= np.median(self.now_M) <= high

    def _cyclic(self) -> Likely | None:
        """Return a shift of values that start again at 0, such as hours, and hours of 12."""
        period = self.before_N[-1] + 1
        if self.before_N[0] != 0 or period not in PERIODS or self.now_M[0] < 0:
            return None
        if period == HOURS and self.now_M[-1] <= HOURS / 2:
            halves = ((self.before_N - first) % (HOURS / 2) + first for first in (0, 1))
            found = [half_N for half_N in halves if self.fits(np.sort(half_N))]
            return Likely("hours of 12 instead of 24", self.moved_by(found[0])) if found else None
        steps = np.arange(1, period)
        gaps = [ks_distance(np.sort((self.before_N + step) % period), self.now_M) for step in steps]
        best = int(steps[int(np.argmin(gaps))])
        if min(gaps) > self.allowed or self.fits(self.before_N):
            return None
        fitting = [int(step) for step, gap in zip(steps, gaps, strict=True) if gap <= self.allowed]
        signed = sorted(step if step <= period / 2 else int(step - period) for step in fitting)
        text = f"shifted by {best if best <= period / 2 else int(best - period):+d}"
        text += "" if len(signed) == 1 else f" ({signed[0]:+d} to {signed[-1]:+d})"
        altered = self.moved_by((self.before_N + best) % period)
        return Likely(f"{text}, starting again at {period:g}: another time zone?", altered)

    def _rounded(self) -> str | None:
        step = _step(self.now_M)
        for unit in dict.fromkeys([*([step] if step else []), *ROUNDINGS]):
            whole = [float(np.isclose(side / unit, (side / unit).round(), atol=1e-9).mean()) for side in self.sides]
            if whole[1] < 1 or whole[0] >= MOST_WHOLE:
                continue
            for word, function in (("rounded", np.round), ("cut", np.floor)):
                if self.fits(function(self.before_N / unit) * unit):
                    return f"{word} to multiples of {format_value(unit)}"
        return None

    @property
    def sides(self) -> tuple[Values, Values]:
        """Values of the reference and of the window."""
        return self.before_N, self.now_M

    def _clipped(self) -> str | None:
        """Describe values that pile up at a limit inside the range of the reference."""
        for at, word, beyond_N in (
            (self.now_M[-1], "above", self.before_N > self.now_M[-1]),
            (self.now_M[0], "below", self.before_N < self.now_M[0]),
        ):
            cut = np.where(beyond_N, at, self.before_N)
            piled = [int((side == at).sum()) for side in self.sides]
            p = hypergeometric(piled[1], sum(piled), len(self.now_M), len(self.before_N) + len(self.now_M))
            more = piled[1] / len(self.now_M) - piled[0] / len(self.before_N)
            expected = beyond_N.mean()
            if p >= CLEAR or expected < 0.01 or not 0.5 < more / expected < 2 or not self.fits(cut):
                continue
            limit, values = format_value(float(at)), np.unique(self.before_N[beyond_N])
            if self.codes is None or len(values) > 1:
                return f"never {word} {limit} ({expected:.0%} of the reference values are): clipped?"
            share = [count / len(side) for count, side in zip(piled, self.sides, strict=True)]
            gone = f"{format_value(float(values[0]))} ({expected:.0%} of the reference) no longer occurs"
            return f"{gone}; {limit} rose from {share[0]:.0%} to {share[1]:.0%}: merged, or clipped?"
        return None

    def _replaced(self) -> str | None:
        """Describe a value that replaces others in part of the records."""
        values, counts = np.unique(self.now_M, return_counts=True)
        before = np.searchsorted(self.before_N, values, "right") - np.searchsorted(self.before_N, values)
        grown = counts / len(self.now_M) - before / len(self.before_N)
        most = int(grown.argmax())
        total = len(self.before_N) + len(self.now_M)
        p = hypergeometric(int(counts[most]), int(counts[most] + before[most]), len(self.now_M), total)
        others = [side[side != values[most]] for side in self.sides]
        if p > CLEAR or grown[most] < NOTABLE or self.codes is not None or min(map(len, others)) < MOST_NAMES:
            return None
        if ks_distance(*others) > critical(len(others[0]), len(others[1]), SIGNIFICANCE):
            return None
        if np.isin(others[0], others[1]).mean() > HALF > np.isin(others[1], others[0]).mean():
            return None
        share = [counts[most] / len(self.now_M), before[most] / len(self.before_N)]
        cause = (
            f"{format_value(float(values[most]))} in {share[0]:.0%} of the records ({share[1]:.0%} in the reference)"
        )
        for name, value in (("mean", self.before_N.mean()), ("median", np.median(self.before_N))):
            if abs(values[most] - value) <= 0.02 * self.before_N.std():
                return f"{cause}, about the {name} of the reference: missing values replaced?"
        return f"{cause}: missing values replaced?"

    def _repeated(self) -> str | None:
        """Describe values that are repeated, if the reference values differ."""
        rows = min(map(len, self.sides))
        distinct = [_distinct(side, rows) for side in self.sides]
        if self.codes is not None or rows < MOST_CODES or distinct[1] > distinct[0] - REPEATED:
            return None
        figures = f"{distinct[1]:.0%} of its values differ from each other ({distinct[0]:.0%} in the reference)"
        return f"only {figures}: values repeated, or of other records?"

    def _decimals(self) -> str | None:
        """Describe numbers with more decimals than almost all of those in the reference."""
        places = [decimals(side) for side in self.sides]
        limit = int(np.quantile(places[0], ALL, method="inverted_cdf"))
        share = [float((side > limit).mean()) for side in places]
        if share[1] - share[0] < HALF or limit < 0:
            return None
        usual = "whole numbers" if limit == 0 else f"up to {plural(limit, 'decimal')}"
        return (
            f"more decimals than in the reference ({usual}) in {share[1]:.0%} of the records: noise, or another unit?"
        )

    def _transformed(self, initial: float, order: Callable[[], int]) -> str | None:
        """Describe the simplest transformation of all values that fits, and the next one that fits, too."""
        close = [found for found in self._transformations() if found.gap <= self.allowed and found.gap < initial / 2]
        if any(found.mirrored for found in close) and (direction := order()):
            close = [found.with_evidence for found in close if found.mirrored == (direction < 0)]
        mixed = self._mixed(initial) if not close or close[0].gap > HALF * self.allowed else None
        if mixed and (not close or mixed.gap < HALF * close[0].gap):
            close[1:] = [mixed]
        if not close:
            return self._spread()
        first, *others = [found.text for found in close]
        return f"{first}, or {others[0]}" if others else first

    def _transformations(self) -> Iterator[Transformation]:
        """Yield the transformations of all values, the simplest first."""
        standard_N = (self.before_N - self.before_N.mean()) / (self.before_N.std() or 1.0)
        if abs(self.now_M.mean()) < 0.3 and abs(self.now_M.std() - 1) < 0.3 and self.before_N.std() > 1.5:
            gap = ks_distance(standard_N, self.now_M)
            yield Transformation(gap, "standardized to mean 0 and standard deviation 1")
        yield from self._mirrored()
        yield from self._scaled()
        yield from self._moved()
        if (self.before_N >= 0).all():
            for name, function in FUNCTIONS.items():
                gap = ks_distance(np.sort(function(self.before_N)), self.now_M)
                yield Transformation(gap, f"the {name} of the reference values", mirrored=name == "reciprocal")
        for (factor, zero), words in AFFINE.items():
            gap = ks_distance(factor * self.before_N + zero, self.now_M)
            yield Transformation(gap, f"about {_times(factor)} the reference values {words}")

    def _mirrored(self) -> Iterator[Transformation]:
        """Yield another sign of all values or of a part of them, and constants minus the values."""
        opposite = ks_distance(-self.before_N[::-1], self.now_M)
        yield Transformation(opposite, "opposite sign", mirrored=True)
        if (self.before_N < 0).mean() >= NOTABLE and self.now_M[0] >= 0:
            yield Transformation(ks_distance(np.sort(abs(self.before_N)), self.now_M), "without their sign")
        if opposite > self.allowed and (flipped := self._flipped()):
            yield Transformation(0.0, flipped)
        year = float(np.median(self.before_N) + np.median(self.now_M))
        if YEARS[0] <= year <= YEARS[1] and YEARS[0] - 150 <= self.now_M[0] and self.now_M[-1] <= YEARS[1]:
            gap = ks_distance(year - self.before_N[::-1], self.now_M)
            yield Transformation(gap, f"about {year:.0f} minus the reference values: years?", mirrored=True)
        if self.before_N[0] >= 0 and self.before_N[-1] < 1 < 2 * self.now_M[-1] and self.now_M[-1] <= 1:
            gap = ks_distance(1 - self.before_N[::-1], self.now_M)
            yield Transformation(gap, "1 minus the reference values: in reverse order", mirrored=True)

    def _scaled(self) -> Iterator[Transformation]:
        """Yield the factor that fits, with its interval, and the unit if only one is plausible."""
        sides = [side[side != 0] for side in self.sides]
        if not all(map(len, sides)):
            return
        points = [np.quantile(side, PROBABILITIES) for side in sides]
        known = (points[0] != 0) & (points[1] != 0)
        ratios = points[1][known] / points[0][known]
        if not len(ratios) or (ratio := float(np.median(ratios))) <= 0:
            return
        if _step(self.before_N) and not _step(self.now_M) and np.median(decimals(self.now_M)) >= PLACES.stop:
            return  # a factor would keep the values multiples of one number
        interval = self._interval(ratio, lambda step: ratio * 1.01**step, lambda value: self.before_N * value)
        if interval is None:
            return
        low, high, best = interval
        text = f"about {_times(best)} the reference values ({_range(low, high)})"
        ends = [np.subtract(*np.quantile(side, [ALL, 1 - ALL])) for side in self.sides]
        is_alike = ends[0] * best / WIDE_UNIT_WIDTH <= ends[1] <= ends[0] * best * WIDE_UNIT_WIDTH
        if is_alike and (unit := _unit(best, low, high)):
            text = f"about {_times(unit.factor)} the reference values ({_range(low, high)}): {unit.description}?"
        yield Transformation(ks_distance(self.before_N * best, self.now_M), text)

    def _moved(self) -> Iterator[Transformation]:
        """Yield the difference that fits, with its interval."""
        change = float(np.median(self.now_M) - np.median(self.before_N))
        width = float(np.subtract(*np.quantile(self.before_N, [0.75, 0.25]))) or float(self.before_N.std())
        if not width:
            return
        interval = self._interval(change, lambda step: change + step * width / 100, lambda value: self.before_N + value)
        if interval is None:
            return
        low, high, best = interval
        word = "higher" if best > 0 else "lower"
        low, high = sorted((abs(low), abs(high)))
        text = f"about {_figure(abs(best))} {word} than the reference values ({_figure(low)}–{_figure(high)})"
        yield Transformation(ks_distance(self.before_N + best, self.now_M), text)

    def _spread(self) -> str | None:
        """Describe another median and another spread around it, with the interval of the factor that fits."""
        centres = [float(np.median(side)) for side in self.sides]
        widths = [float(np.subtract(*np.quantile(side, [0.75, 0.25]))) for side in self.sides]
        if not all(widths):
            return None
        ratio = widths[1] / widths[0]

        def spread(factor: float) -> Values:
            return centres[1] + factor * (self.before_N - centres[0])

        interval = self._interval(ratio, lambda step: ratio * 1.01**step, spread)
        if interval is None or interval[0] <= 1 <= interval[1]:
            return None
        low, high, best = interval
        text = f"the spread of its values is about {_times(best)} that of the reference ({_range(low, high)})"
        return f"{text}, with median {_figure(centres[1])} ({_figure(centres[0])} in the reference)"

    def _interval(
        self, estimate: float, at: Callable[[int], float], transform: Callable[[float], Values]
    ) -> tuple[float, float, float] | None:
        """Return the smallest and the largest parameter for which the transformed values fit, and the best one.

        Args:
            estimate: first parameter tried.
            at: function that returns the parameter for a step from the estimate.
            transform: function that transforms the reference values with a parameter.
        """
        left = {0: ks_distance(np.sort(transform(estimate)), self.now_M)}
        for direction in (1, -1):
            misses = 0
            for step in range(1, STEPS):
                left[direction * step] = ks_distance(np.sort(transform(at(direction * step))), self.now_M)
                misses = misses + 1 if left[direction * step] > self.allowed else 0
                if misses > MOST_MISSES:
                    break
        fitting = [step for step, gap in left.items() if gap <= self.allowed]
        least = min(left.values())
        if least > FITTED * self.allowed:
            return None
        near = [step for step, gap in left.items() if gap <= least * 1.02 + 1e-12]
        return at(min(fitting)), at(max(fitting)), at(round(float(np.median(near))))

    def _flipped(self) -> str | None:
        """Describe an opposite sign in part of the records."""
        same = [float((side > 0).mean()) for side in self.sides]
        sizes = np.sort(abs(self.before_N)), np.sort(abs(self.now_M))
        part = (same[1] - same[0]) / (1 - 2 * same[0]) if same[0] != 0.5 else 0.0
        if abs(same[1] - same[0]) < NOTABLE or not NOTABLE <= part < ALL or ks_distance(*sizes) > self.allowed:
            return None
        return f"opposite sign in about {part:.0%} of the records"

    def _mixed(self, initial: float) -> Transformation | None:
        """Return another factor, difference or unit in part of the records; several if they fit almost equally well."""
        limit = min(self.allowed, initial / 3)
        explained = [self._scaled_in_part(limit), self._moved_in_part(limit), *self._affine_in_part(limit)]
        found = sorted(each for each in explained if each is not None)
        texts = [each.text for each in found if each.gap <= ALMOST * found[0].gap]
        return Transformation(found[0].gap, ", or ".join(texts[:2])) if found else None

    def _parts(self, transformed: Iterable[Values]) -> list[tuple[float, float]]:
        """Return the distance that each transformation leaves if it applies to a part of the records, and this part."""
        points = np.union1d(*self.sides)
        before_P, now_P = (np.searchsorted(side, points, "right") / len(side) for side in self.sides)
        found = []
        for values_N in transformed:
            change_P = np.searchsorted(np.sort(values_N), points, "right") / len(self.before_N) - before_P
            part = float(change_P @ (now_P - before_P) / max(float(change_P @ change_P), 1e-9))
            found.append((float(abs(now_P - before_P - part * change_P).max()), part))
        return found

    def _scaled_in_part(self, limit: float) -> Transformation | None:
        """Return another factor in part of the records, with the interval of factors that fit."""
        factors = np.array([*MIXED, *UNITS, *1 / MIXED, *(1 / unit for unit in UNITS)])
        parts = self._parts(self.before_N * factor for factor in factors)
        (gap, part), factor = min(zip(parts, factors.tolist(), strict=True))
        if gap > limit or not NOTABLE <= part <= ALL:
            return None
        fitting = factors[[each <= self.allowed for each, _ in parts] & ((factors > 1) == (factor > 1))]
        low, high = fitting.min() / MIXED_STEP**HALF, fitting.max() * MIXED_STEP**HALF
        unit = _unit(math.sqrt(low * high), low, high)
        text = f"about {_times(unit.factor if unit else factor)} the reference values ({_range(low, high)})"
        text += f" in about {part:.0%} of the records"
        return Transformation(gap, f"{text}: {unit.description}?" if unit else text)

    def _moved_in_part(self, limit: float) -> Transformation | None:
        """Return a difference in part of the records, with the interval of differences that fit."""
        sizes = np.array([*OFFSETS * self.before_N.std(), KELVIN])
        offsets = np.concatenate([sizes, -sizes])
        parts = self._parts(self.before_N + offset for offset in offsets)
        (gap, part), offset = min(zip(parts, offsets.tolist(), strict=True))
        if gap > limit or not NOTABLE <= part <= ALL:
            return None
        fitting = abs(offsets[[each <= self.allowed for each, _ in parts] & ((offsets > 0) == (offset > 0))])
        step = float(OFFSETS[1] / OFFSETS[0]) ** HALF
        text = f"about {_figure(abs(offset))} {'higher' if offset > 0 else 'lower'} than the reference values"
        ends = f"{_figure(fitting.min() / step)}–{_figure(fitting.max() * step)}"
        return Transformation(gap, f"{text} ({ends}) in about {part:.0%} of the records")

    def _affine_in_part(self, limit: float) -> Iterator[Transformation]:
        """Yield units with another zero in part of the records."""
        parts = self._parts(factor * self.before_N + zero for factor, zero in AFFINE)
        for (gap, part), ((factor, _), words) in zip(parts, AFFINE.items(), strict=True):
            if gap <= limit and NOTABLE <= part <= ALL:
                text = f"about {_times(factor)} the reference values {words} in about {part:.0%} of the records"
                yield Transformation(gap, text)

    def _out_of_range(self) -> str | None:
        """Describe numbers outside the range of the reference, and the factor that explains them."""
        low, high = self.before_N[0], self.before_N[-1]
        outside_M = self.now_M[(self.now_M < low) | (self.now_M > high)]
        share = len(outside_M) / len(self.now_M)
        if share < 0.01 or len(outside_M) < MOST_NAMES:
            return None
        bounds = f"{format_value(float(low))} to {format_value(float(high))}"
        cause = f"outside the range of the reference, {bounds}, in {share:.0%} of the records"
        if outside_M[0] > high > 0:
            middle = float(np.median(self.before_N))
            whole = _nearest_unit(float(np.median(outside_M)) / middle) if middle > 0 else 0.0
            factors = {*PARTIAL_FACTORS, *([whole] if whole > WIDE_UNIT else [])}
            gaps = {factor: self._scaled_part(factor, outside_M) for factor in sorted(factors)}
            factor = min(gaps, key=lambda factor: gaps[factor])
            part = share / max(float((self.before_N * factor > high).mean()), share)
            if gaps[factor] <= MOST_PARTIAL and part < 1:
                return f"{cause}: {factor:g} times too large in about {part:.0%} of the records?"
        return cause

    def _scaled_part(self, factor: float, outside_M: Values) -> float:
        """Return the distance between live values above the range of the reference, and scaled values above it."""
        scaled_N = self.before_N * factor
        above_N = scaled_N[scaled_N > self.before_N[-1]]
        return ks_distance(above_N, outside_M) if len(above_N) else 1.0

    def quantiles(self) -> str:
        """Describe the change by the quantile that moved most."""
        shown = {"10 % quantile": 0.1, "median": 0.5, "90 % quantile": 0.9}
        points = {name: [float(np.quantile(side, at)) for side in self.sides] for name, at in shown.items()}
        most = max(points, key=lambda name: abs(points[name][1] - points[name][0]))
        first = "median" if abs(points["median"][1] - points["median"][0]) >= 0.05 * self.before_N.std() else most
        return f"{first} {points[first][1]:.4g} ({points[first][0]:.4g} in the reference)"


def _thinned(values: pl.Series) -> Values:
    """Return sorted values, at most `MOST_ROWS` of them at equal distances."""
    sorted_N: Values = np.sort(values.cast(pl.Float64).to_numpy())
    return _evenly(sorted_N, min(MOST_ROWS, len(sorted_N)))


def _evenly(values_N: Values, rows: int) -> Values:
    """Return values at equal distances in their order."""
    chosen: Values = values_N[np.linspace(0, len(values_N) - 1, rows).round().astype(int)]
    return chosen


def _step(values_N: Values) -> float:
    """Return the largest common divisor of all values; 0 if there is none."""
    distinct = np.unique(values_N)
    largest = float(abs(distinct).max())
    gaps = np.diff(distinct)
    gaps = gaps[gaps > largest / MOST_STEPS]
    if len(distinct) < FEWEST_STEPS or not len(gaps) or not np.isfinite(largest):
        return 0.0
    step = 0.0
    for gap in _evenly(gaps, min(FEWEST_GAPS, len(gaps))).tolist():
        step = _common_step(step, gap, largest / MOST_STEPS)
    for refining in (gaps, distinct):
        multiples = (refining / step).round()
        step = float((refining * multiples).sum() / (multiples * multiples).sum())
    exact = abs(distinct / step - multiples).max() < MOST_ROUNDING and largest / step < MOST_STEPS
    return step if exact else 0.0


def _distinct(values_N: Values, rows: int) -> float:
    """Return the expected share of distinct values in a random part of the records."""
    _, counts = np.unique(values_N, return_counts=True)
    return float((1 - (1 - rows / len(values_N)) ** counts).sum()) / rows


def _common_step(first: float, second: float, smallest: float) -> float:
    """Return the greatest common divisor of two numbers; remainders below the smallest one are rounding errors.

    >>> _common_step(30.0, 12.0, 1e-6)
    6.0
    """
    while second > smallest:
        first, second = second, abs(first - round(first / second) * second)
    return first


def ks_distance(before_N: Values, now_M: Values) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples."""
    return float(distance(before_N[:, None], now_M[:, None])[0])


def _times(ratio: float) -> str:
    """Return a factor in words.

    >>> _times(100.2), _times(0.0832)
    ('100 times', '1/12 of')
    """
    return f"{_figure(ratio)} times" if ratio >= 1 else f"1/{_figure(1 / ratio)} of"


def _range(low: float, high: float) -> str:
    return f"{_figure(low)}–{_figure(high)}" if high >= 1 else f"1/{_figure(1 / low)} to 1/{_figure(1 / high)}"


class _Unit(NamedTuple):
    """The factor of another unit, and its description."""

    factor: float
    description: str


def _unit(ratio: float, low: float, high: float) -> _Unit | None:
    """Return the unit that explains a ratio, or None unless exactly one is plausible."""
    larger = ratio >= 1
    bounds = (low, high) if larger else (1 / high, 1 / low)
    inside = [each for each in UNITS if bounds[0] <= each <= bounds[1]]
    size = max(ratio, 1 / ratio)
    width = WIDE_UNIT_WIDTH if size >= WIDE_UNIT else UNIT_WIDTH
    if len(inside) != 1 or bounds[1] > size * width or bounds[0] < size / width:
        return None
    factor = inside[0] if larger else 1 / inside[0]
    if not UNITS[inside[0]]:
        return _Unit(factor, "another unit")
    now, before = UNITS[inside[0]].split("/")[:: 1 if larger else -1]
    return _Unit(factor, f"another unit, such as {now} for {before}")


def _nearest_unit(ratio: float) -> float:
    """Return the power of 10 or the unit next to a ratio if it is close to one; otherwise the ratio."""
    known = [*UNITS, 10.0 ** round(math.log10(ratio))]
    nearest = min(known, key=lambda unit: abs(math.log(unit / ratio)))
    return nearest if 1 / WIDE_UNIT_WIDTH < nearest / ratio < WIDE_UNIT_WIDTH else ratio


def _figure(value: float) -> str:
    """Format a number with three digits.

    >>> _figure(1941.2), _figure(0.08333), _figure(1e-5)
    ('1,940', '0.0833', '0.00001')
    """
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 1000:
        return f"{rounded:,.0f}"
    return np.format_float_positional(rounded, trim="-") if abs(rounded) > 1e-6 else f"{rounded:g}"
