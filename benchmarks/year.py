"""A year of hourly windows with seven incidents: false alarms per year, delay of detection, and dating of incidents.

    python -m benchmarks.year [--seeds 20] [--json] [--processes 2]

Each seed is a year of 8,760 windows. Traffic is a Poisson process with a daily and a weekly cycle, from 5 to 5,000
records an hour. Incomes, balances and channels have these cycles, too. The reference has the three weeks before, of
which 10,000 records are stored with their times. A year has seven parts of equal length. Each has an incident, which
begins at a random second and lasts two days. The level and the date of each change are those of the default settings.

SageMaker's rule, nDCG below 0.9 in windows with enough records, is counted, too. It has no promise.

Attributions are in closed form, and windows are screened as in benchmarks/calibration.py: a window takes 20 ms. Each
part is printed as soon as it is known. The exit code is 1 if alarms are significantly more frequent than promised.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks import portfolio
from benchmarks.calibration import SEEN, screened, smallest_p
from benchmarks.incidents import ALERTS, HOUR, POLICY
from benchmarks.portfolio import START, Rng, Vector
from benchmarks.rates import alarm_limit, episodes, events_interval
from runner.domain.attributions import Explained
from runner.domain.drift import Change, DriftResult, Level, RankingResult
from runner.drift.detect import detect_drift
from runner.drift.histograms import with_histograms
from runner.drift.onset import MOST_EARLIER, LiveRecords, dated_changes, dated_earlier
from runner.drift.policy import YEAR
from runner.drift.ranking import ndcg
from runner.drift.seasons import cycle, same_hours, stratified

WINDOWS = YEAR // HOUR
PARTS = 7
WEEKS = 3
LEAST, MOST = 5, 5_000
"""Mean number of records in the quietest and in the busiest hour."""
DURATION = timedelta(hours=48)
QUIET = timedelta(hours=200)
"""Minimum time between an incident and the ends of its part."""
NAMES = ("income", "balance", "days_late", "channel")
REFERENCE_ROWS = 10_000
LOOSE = 87.6
"""Accepted false alarms per year of a second rule, whose alarms are frequent enough to be counted in a few years."""
LOOSE_LEVEL = LOOSE / (YEAR / HOUR)


@dataclass(frozen=True)
class Planted:
    """An incident.

    Attributes:
        feature: feature that changes.
        values: new values, given random numbers from 0 to 1.
        factor: factor of the attributions of the feature, if the model changes.
    """

    name: str
    feature: str
    values: Callable[[pl.Expr, pl.Series], pl.Expr]
    factor: float = 1.0


INCIDENTS = (
    Planted("incomes in cents", "income", lambda value, _: value * 100),
    Planted("40 % of the incomes missing", "income", lambda value, u: pl.when(u > 0.4).then(value)),
    Planted("channel `broker` renamed", "channel", lambda value, _: value.replace("broker", "agent")),
    Planted("days_late always 0", "days_late", lambda value, _: value * 0),
    Planted("sign of the balance", "balance", lambda value, _: -value),
    Planted("incomes 30 % lower", "income", lambda value, _: value * 0.7),
    Planted("another model: balance counts three times", "balance", lambda value, _: value, factor=3.0),
)


def rates(hours: NDArray[np.int64]) -> Vector:
    """Return the mean number of records of hours, counted from a Monday."""
    day = np.cos((hours % 24 - 14) * np.pi / 12)
    week = np.where(hours // 24 % 7 < 5, 0.0, -0.4)
    middle, swing = np.log(LEAST * MOST) / 2, np.log(MOST / LEAST) / 2
    return np.asarray(np.exp((middle + swing * (1.15 * day + week)).clip(np.log(LEAST), np.log(MOST))))


def drawn(rng: Rng, first: int, last: int) -> tuple[pl.DataFrame, Vector]:
    """Return the records of hours from START, and their times in seconds, ascending."""
    hours = np.arange(first, last)
    counts = rng.poisson(rates(hours))
    second_N = np.sort(3600 * np.repeat(hours, counts) + rng.random(counts.sum()) * 3600)
    hour_N = second_N / 3600
    weekend_N = (hour_N // 24 % 7 >= 5).astype(np.float64)
    higher_N = 0.5 * np.sin((hour_N % 24 - 8) * np.pi / 12) + 0.3 * weekend_N
    return portfolio.applications(rng, len(hour_N), higher_N, 0.3 * weekend_N).select(NAMES), second_N


class Reference(NamedTuple):
    """Stored records of the three weeks before the year, and the global attributions of all of them."""

    stored: Explained
    gains_D: Vector


@lru_cache(maxsize=1)
def reference(seed: int) -> Reference:
    """Return the reference of a year."""
    features, second_N = drawn(np.random.default_rng([seed, 0]), -168 * WEEKS, 0)
    explained = portfolio.explained(features, events=portfolio.times(second_N))
    stored = stratified(explained, REFERENCE_ROWS, cycle(explained, POLICY.seed), POLICY.seed)
    return Reference(stored, global_attributions(explained))


def global_attributions(explained: Explained) -> Vector:
    """Return the mean absolute attributions of each feature."""
    return np.asarray(abs(explained.attributions.phi_NDL[:, :, 0]).mean(axis=0))


@dataclass(frozen=True)
class Part:
    """A part of a year with its incident, which changes records from one second to another.

    Attributes:
        first, last: hours of the part, the last one excluded.
    """

    planted: Planted
    first: int
    last: int
    begin: float
    end: float

    @classmethod
    def of(cls, seed: int, number: int) -> Part:
        """Return a part of the year of a seed."""
        first, last = (WINDOWS * edge // PARTS for edge in (number, number + 1))
        latest = last - (QUIET + DURATION) // HOUR
        begin = 3600 * float(np.random.default_rng([seed, 1, number]).uniform(first + QUIET // HOUR, latest))
        return cls(INCIDENTS[number], first, last, begin, begin + DURATION.total_seconds())

    def changed(self, features: pl.DataFrame, second_N: Vector, rng: Rng) -> Explained:
        """Return records with the incident, and their attributions."""
        name = self.planted.feature
        inside_N = (second_N >= self.begin) & (second_N < self.end)
        uniform = pl.Series(rng.random(len(second_N)))
        value = pl.when(pl.Series(inside_N)).then(self.planted.values(pl.col(name), uniform)).otherwise(pl.col(name))
        features = features.with_columns(value.alias(name))
        phi_ND = portfolio.terms(features)
        phi_ND[inside_N, NAMES.index(name)] *= self.planted.factor
        return portfolio.explained(features, phi_ND, portfolio.times(second_N))

    def is_inside(self, hour: int) -> bool:
        """Return whether the window of an hour overlaps with the incident."""
        return self.begin < 3600 * (hour + 1) and self.end > 3600 * hour


def windows(seed: int, part: Part) -> Iterator[tuple[int, Explained]]:
    """Yield the hours of a part, and the records of each."""
    for day in range(part.first, part.last, 24):
        rng, last = np.random.default_rng([seed, 2, day]), min(day + 24, part.last)
        features, second_N = drawn(rng, day, last)
        explained = part.changed(features, second_N, rng)
        edges = np.searchsorted(second_N, 3600 * np.arange(day, last + 1))
        for hour in range(day, last):
            yield hour, explained.rows(np.arange(edges[hour - day], edges[hour - day + 1]))


@dataclass
class Judged:
    """Windows of a part that were judged.

    Attributes:
        levels: level of each window at one false alarm a year.
        loose: whether each window is significant by the second rule; None for too few records.
        since: time from which each change of the latest window has lasted.
        ranked: whether nDCG of each window is below its threshold; None with too few records.
        dated: time from which the first change of the first alarm of the incident has lasted.
    """

    levels: list[Level]
    loose: list[bool | None]
    since: dict[tuple[str, str], str]
    ranked: list[bool | None] = field(default_factory=list)
    dated: str | None = None

    def add(self, result: DriftResult, p: float, changes: Sequence[Change], is_inside: bool) -> None:
        """Add a window; a window with too few records neither continues nor interrupts a change."""
        self.levels.append(result.level_alone)
        if result.level_alone is Level.INSUFFICIENT_DATA:
            self.loose.append(None)
            return
        self.loose.append(p <= LOOSE_LEVEL)
        self.since = {(str(change.kind), change.name): change.since for change in changes}
        if is_inside and result.level_alone in ALERTS and self.dated is None:
            self.dated = next(iter(self.since.values()), None)


def judge(seed: int, number: int) -> dict[str, Any]:
    """Return the figures of a part of the year."""
    part = Part.of(seed, number)
    return {"seed": seed, "part": number} | figures(part, judge_part(seed, part))


def judge_part(seed: int, part: Part) -> Judged:
    """Return the levels of the windows of a part."""
    (stored, gains_D), judged = reference(seed), Judged([], [], {})
    past: deque[tuple[datetime, DriftResult, Explained]] = deque(maxlen=MOST_EARLIER)
    for hour, now in windows(seed, part):
        start = START + hour * HOUR
        is_judged = len(now.features) >= POLICY.min_rows
        below = float(ndcg(gains_D, global_attributions(now))) < POLICY.threshold if is_judged else None
        judged.ranked.append(below)
        result, p = screened(POLICY, stored, now, start), 1.0
        if result.level_alone is not Level.INSUFFICIENT_DATA and smallest_p(result) <= LOOSE_LEVEL:
            result = detect_drift(POLICY, stored, now, "mean_abs", HOUR, start=start)
            p = smallest_p(result)
        changes = dates(stored, now, result, start) if result.level_alone in SEEN else ()
        lasting = (replace(each, since=judged.since.get((str(each.kind), each.name), each.since)) for each in changes)
        earlier = ((at, with_bins(stored, records, found, at)) for at, found, records in reversed(past))
        judged.add(result, p, dated_earlier([*lasting], result, start, earlier), part.is_inside(hour))
        if result.level_alone is not Level.INSUFFICIENT_DATA:
            past.append((start, result, now))
    return judged


def with_bins(stored: Explained, now: Explained, result: DriftResult, start: datetime) -> DriftResult:
    """Return the result of a screened window with its histograms."""
    return with_histograms(result, same_hours(stored, start, HOUR, POLICY).records, now)


def dates(stored: Explained, now: Explained, result: DriftResult, start: datetime) -> tuple[Change, ...]:
    """Return the significant changes of a window with their beginnings."""
    assert now.events is not None
    live = LiveRecords(now, now.events["at"].dt.epoch("us").to_numpy(), None, start)
    before = same_hours(stored, start, HOUR, POLICY).records
    return dated_changes(RankingResult(POLICY.threshold, ()), result, None, before, live)


def figures(part: Part, judged: Judged) -> dict[str, Any]:
    """Return the counts outside the incident, and the delays and the error of the date of the incident, in hours.

    `blind` is the time from the beginning of the incident to the first window that has enough records for a verdict.
    The date cannot be earlier; its error is relative to the later one of both.
    """
    hours = range(part.first, part.last)
    inside = [part.is_inside(hour) for hour in hours]
    marks = {
        name: [None if level is Level.INSUFFICIENT_DATA else level in wanted for level in judged.levels]
        for name, wanted in (("alarms", ALERTS), ("seen", SEEN))
    }
    result: dict[str, Any] = {"incident": part.planted.name, "windows": len(hours)}
    result |= {"outside": inside.count(False), "judged": sum(mark is not None for mark in judged.loose)}
    for name, found in (marks | {"loose": judged.loose, "ranked": judged.ranked}).items():
        quiet = [mark and not skip for mark, skip in zip(found, inside, strict=True)]
        result |= {name: sum(map(bool, quiet)), f"{name}_episodes": len(episodes(quiet))}
    for name in ("alarms", "seen"):
        first = next((hour for hour, *both in zip(hours, inside, marks[name], strict=True) if all(both)), None)
        result[f"{name}_delay"] = None if first is None else first - int(part.begin // 3600)
    judged_hours = (
        hour for hour, *both in zip(hours, inside, judged.loose, strict=True) if both[0] and both[1] is not None
    )
    earliest = max(part.begin, 3600 * next(judged_hours, part.first))
    result["blind"] = round((earliest - part.begin) / 3600, 3)
    result["date_error"] = None
    if judged.dated:
        seconds = (datetime.fromisoformat(judged.dated) - START).total_seconds()
        result["date_error"] = round((seconds - earliest) / 3600, 3)
    return result


def summary(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return alarms per year outside incidents with their intervals, and what became of the incidents."""
    hours = sum(part["outside"] for part in parts)
    years = hours / WINDOWS
    result: dict[str, Any] = {"years": round(years, 2), "windows": sum(part["windows"] for part in parts)}
    yearly = POLICY.false_alarms_per_year
    for name, promised in (("alarms", yearly), ("seen", yearly), ("loose", LOOSE), ("ranked", None)):
        count = sum(part[name] for part in parts)
        is_within = promised is None or count < alarm_limit(hours, promised / WINDOWS)
        result[name] = {
            "count": count,
            "episodes": sum(part[f"{name}_episodes"] for part in parts),
            "per_year": count / years,
            "interval": events_interval(count, years),
            "promised": promised,
            "verdict": "not promised" if promised is None else "within" if is_within else "above",
        }
    return result


def incident_rows(parts: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield for each incident how often and how late it raised an alarm, and how exactly it was dated."""
    for planted in INCIDENTS:
        found = [part for part in parts if part["incident"] == planted.name]
        delays = sorted(part["alarms_delay"] for part in found if part["alarms_delay"] is not None)
        seen = sorted(part["seen_delay"] for part in found if part["seen_delay"] is not None)
        errors = [abs(part["date_error"]) for part in found if part["date_error"] is not None]
        yield {
            "incident": planted.name,
            "planted": len(found),
            "alarms": len(delays),
            "median_delay": float(np.median(delays)) if delays else None,
            "longest_delay": max(delays, default=None),
            "longest_delay_seen": max(seen, default=None),
            "longest_blind": max((part["blind"] for part in found), default=None),
            "dated_within_1_h": sum(error <= 1 for error in errors),
            "median_date_error": float(np.median(errors)) if errors else None,
            "largest_date_error": max(errors, default=None),
        }


def main() -> int:
    """Run the benchmark, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="years")
    parser.add_argument("--first", type=int, default=0, help="seed of the first year")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[variable] = "1"
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    parts: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(judge, seed, number) for seed in seeds for number in range(len(INCIDENTS))]
        for future in as_completed(futures):
            parts.append(future.result())
            print(json.dumps(parts[-1]), flush=True, file=sys.stdout if arguments.json else sys.stderr)
    total = summary(parts)
    if arguments.json:
        print(*map(json.dumps, [*incident_rows(parts), total]), sep="\n")
    else:
        print_summary(parts, total)
    return int("above" in {total[name]["verdict"] for name in ("alarms", "seen", "loose")})


def print_summary(parts: Sequence[dict[str, Any]], total: dict[str, Any]) -> None:
    """Print both tables."""
    rows = list(incident_rows(parts))
    print("  ".join(f"{key:>18}" if key != "incident" else f"{key:44}" for key in rows[0]))
    for row in rows:
        print("  ".join(f"{value!s:>18}" if key != "incident" else f"{value:44}" for key, value in row.items()))
    names = {"alarms": "alarms (warning or worse)", "seen": "any level", "loose": f"any level at {LOOSE:g} a year"}
    names["ranked"] = "nDCG below its threshold"
    print(f"\n{total['years']} years without incidents, {total['windows']:,} windows in all")
    for key, name in names.items():
        rate, (low, high) = total[key], total[key]["interval"]
        print(
            f"{name:32}{rate['count']:>6} in {rate['episodes']} episodes: {rate['per_year']:.2f} a year "
            f"({low:.2f}–{high:.2f}, promised {rate['promised']}): {rate['verdict']}"
        )


if __name__ == "__main__":
    sys.exit(main())
