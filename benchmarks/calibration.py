"""Rates of false alarms in situations without drift, compared with the promise: `drift.false_alarms_per_year`.

    python -m benchmarks.calibration [--quick] [--json] [--windows N] [--only WORD] [--processes 1]

Each situation has at least 1,000 windows. They are hourly, and 87.6 false alarms per year are 1 % of them, so that
1,000 windows are enough to see a broken promise. An alarm is a warning or worse; the promise also covers windows that
are significant at any level. Windows of a shared reference depend on each other: the benchmark counts them by
reference, and the number of windows is divided by their design effect. Exits with 1 if a rate is significantly above
the promise.

The tests of a window are run twice. The first run replaces the p-values of Kolmogorov-Smirnov tests, which take most of
the time, by lower bounds. If no p-value is significant even then, nor would be any exact one, and the level of the
window is `none`. Otherwise, the verdict is that of the full second run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from multiprocessing import get_context
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import polars as pl

from benchmarks import notebook, portfolio
from benchmarks.incidents import ALERTS, HOUR, POLICY, generator
from benchmarks.portfolio import START, Rng, Vector
from benchmarks.rates import effective_trials, interval, within
from benchmarks.worlds import world
from runner.domain.attributions import Explained
from runner.domain.drift import DriftResult, Level
from runner.drift import detect, inputs, significance
from runner.drift.counts import hypergeometric
from runner.drift.detect import detect_drift
from runner.drift.policy import YEAR, DriftPolicy
from runner.drift.seasons import cycle, stratified

REFERENCES, SHARED = 20, 50
"""Number of references that several windows share, and windows of each."""
WINDOWS = REFERENCES * SHARED
SCREEN_PERMUTATIONS = 99
SEEN = {Level.INFO, *ALERTS}


class Window(NamedTuple):
    """Records of a window, and its start if that matters."""

    records: Explained
    start: datetime | None = None


class Stream(NamedTuple):
    """A reference, and a function that draws the next window."""

    reference: Explained
    window: Callable[[], Window]


@dataclass(frozen=True)
class Situation:
    """A situation without drift.

    Attributes:
        rows: typical number of records of a window.
        stream: function that draws a reference and starts its windows.
        shared: number of windows with the same reference.
        settings: settings of `drift` that differ from their defaults.
        differs: whether windows differ from the reference, but harmlessly: only alarms are compared with the promise.
    """

    name: str
    rows: int
    stream: Callable[[Rng], Stream]
    shared: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    differs: bool = False


Draw = Callable[[Rng, int], Explained]


def applications(rng: Rng, rows: int) -> Explained:
    """Draw applications."""
    return portfolio.explained(portfolio.applications(rng, rows))


def coarse(rng: Rng, rows: int) -> Explained:
    """Draw applications whose numbers have few values, most of them the same."""
    drawn = portfolio.applications(rng, rows)
    few = [((pl.col(name) - middle) / spread).round().clip(-2, 2).alias(name) for name, middle, spread in COARSE]
    features = drawn.with_columns(*few).fill_null(0.0)
    phi_ND = features.select(pl.exclude("channel")).to_numpy() @ np.diag([-0.5, -0.3, 0.4, -0.2])
    return portfolio.explained(features, np.column_stack([phi_ND, portfolio.terms(drawn)[:, -1]]))


COARSE = (("income", 2700, 2400), ("balance", 900, 2200), ("days_late", 0, 12), ("age", 38, 16))


def heavy(rng: Rng, rows: int) -> Explained:
    """Draw applications whose incomes and balances have Pareto tails; half of the ages are missing."""
    tails = [pl.col(name) * pl.Series(1 + rng.pareto(1.5, rows)).round(3) for name in ("income", "balance")]
    features = portfolio.applications(rng, rows).with_columns(*tails)
    ages = pl.when(pl.Series(rng.random(rows) < 0.5)).then(pl.col("age")).alias("age")
    return portfolio.explained(features.with_columns(ages), portfolio.terms(features))


def wide(rng: Rng, rows: int) -> Explained:
    """Draw records with 300 independent features."""
    values_ND = rng.normal(size=(rows, 300))
    weights_D = np.random.default_rng(10).normal(size=300) / 10
    return portfolio.explained(pl.DataFrame(values_ND, schema=[f"f{d}" for d in range(300)]), values_ND * weights_D)


@cache
def _notebook() -> Explained:
    return world("notebook").explained


def adult(rng: Rng, rows: int) -> Explained:
    """Draw records of the notebook's files."""
    return _notebook().rows(rng.integers(0, len(_notebook().features), rows))


def fresh(rows: int, draw: Draw = applications, reference_rows: int = 1000) -> Callable[[Rng], Stream]:
    """Return streams of windows whose records are all different."""
    return lambda rng: Stream(draw(rng, reference_rows), lambda: Window(draw(rng, rows)))


def looped(rng: Rng) -> Stream:
    """Start windows in which each of 334 records occurs 11 times."""
    return Stream(applications(rng, 1000), lambda: Window(applications(rng, 334).rows(np.tile(np.arange(334), 11))))


def resent(rng: Rng) -> Stream:
    """Start windows that all have the same 300 records."""
    reference, live = applications(rng, 1000), Window(applications(rng, 300))
    return Stream(reference, lambda: live)


def skewed(rng: Rng) -> Stream:
    """Start windows whose records occur by Zipf's law."""

    def draw() -> Window:
        return Window(applications(rng, 1000).rows(np.minimum(rng.zipf(1.6, 1000), 1000) - 1))

    return Stream(applications(rng, 1000), draw)


@cache
def _catalogue() -> Explained:
    rng = np.random.default_rng(13)
    features = portfolio.applications(rng, 3000)
    return portfolio.explained(features.sort("income", descending=True))


def popular(rng: Rng, rows: int) -> Explained:
    """Draw records of a catalogue; the most popular ones have the highest incomes."""
    weights = 1 / np.arange(1, 3001)
    return _catalogue().rows(rng.choice(3000, rows, p=weights / weights.sum()))


def overfitted(rng: Rng) -> Stream:
    """Start windows of a model that has learnt the residuals of its training records, which are the reference.

    The term of a value is that of the training record with the nearest value, its own residual included.
    """
    training = portfolio.applications(rng, 1000)
    residual_ND = rng.normal(size=(1000, 4))

    def scored(features: pl.DataFrame) -> Explained:
        phi_ND = portfolio.terms(features)
        for d, name in enumerate(portfolio.NAMES[:4]):
            known, first = np.unique(training[name].fill_null(-1).to_numpy(), return_index=True)
            nearest = np.searchsorted((known[1:] + known[:-1]) / 2, features[name].fill_null(-1).to_numpy())
            phi_ND[:, d] += residual_ND[first[nearest], d]
        return portfolio.explained(features, phi_ND)

    return Stream(scored(training), lambda: Window(scored(portfolio.applications(rng, 300))))


def wobbling(rows: int) -> Callable[[Rng], Stream]:
    """Return streams whose mean income and balance wobble between windows by 0.05 standard deviations."""

    def draw(rng: Rng) -> Window:
        return Window(portfolio.explained(portfolio.applications(rng, rows, 0.05 * rng.normal())))

    return lambda rng: Stream(applications(rng, 1000), lambda: draw(rng))


def cyclic(period: int) -> Callable[[Rng], Stream]:
    """Return streams whose income and balance swing by one standard deviation in a period of hours.

    The reference has 10,000 records of three weeks, with their times. Windows are random hours of the week after it.
    """

    def drawn(rng: Rng, second_N: Vector) -> Explained:
        higher_N = np.sin(second_N * 2 * np.pi / (3600 * period))
        features = portfolio.applications(rng, len(second_N), higher_N)
        return portfolio.explained(features, events=portfolio.times(second_N))

    def stream(rng: Rng) -> Stream:
        captured = drawn(rng, np.sort(rng.uniform(-3 * 168, 0, 60_000)) * 3600)
        stored = stratified(captured, 10_000, cycle(captured, POLICY.seed), POLICY.seed)

        def draw() -> Window:
            hour = int(rng.integers(168))
            return Window(drawn(rng, (hour + np.sort(rng.random(300))) * 3600), START + hour * HOUR)

        return Stream(stored, draw)

    return stream


def clustered(customers: int, requests: int) -> Callable[[Rng], Stream]:
    """Return streams of windows with several requests of each customer, which differ in balance and delay only."""

    def drawn(rng: Rng, customers: int, requests: int) -> Explained:
        people = portfolio.applications(rng, customers)[np.repeat(np.arange(customers), requests)]
        balances = people["balance"] + 50 * pl.Series(rng.normal(size=len(people)))
        names = pl.Series("customer", np.repeat(rng.integers(1 << 40, size=customers), requests)).cast(pl.String)
        late = portfolio.applications(rng, len(people))["days_late"]
        features = people.with_columns(balances.round(2), late)
        phi_ND = np.column_stack([portfolio.terms(features), np.zeros(len(people))])
        return portfolio.explained(features.with_columns(names), phi_ND)

    return lambda rng: Stream(drawn(rng, 1000, 5), lambda: Window(drawn(rng, customers, requests)))


SIZES = (30, 100, 300, 1_000, 3_000, 10_000)
SITUATIONS: tuple[Situation, ...] = (
    Situation("own reference", 10, fresh(10), settings={"min_rows": 2}),
    *(Situation("own reference", rows, fresh(rows)) for rows in SIZES),
    *(Situation("shared reference", rows, fresh(rows), SHARED) for rows in (300, 3_000, 10_000, 100_000)),
    *(
        Situation("shared reference of 10,000", rows, fresh(rows, reference_rows=10_000), SHARED)
        for rows in (300, 10_000)
    ),
    Situation("334 records in a loop", 334 * 11, looped),
    Situation("the same 300 records in each window", 300, resent, 10),
    Situation("repeats by Zipf's law", 1000, skewed),
    *(Situation("3,000 items by popularity", rows, fresh(rows, popular)) for rows in (300, 3_000)),
    Situation("100 customers with 30 requests each", 3000, clustered(100, 30), settings={"unit": "customer"}),
    Situation("40 customers with 10 requests each", 400, clustered(40, 10), settings={"unit": "customer"}),
    Situation("daily cycle of 1 sd", 300, cyclic(24), SHARED),
    Situation("weekly cycle of 1 sd", 300, cyclic(168), SHARED),
    Situation("heavy ties", 300, fresh(300, coarse)),
    Situation("heavy tails, half of a feature missing", 300, fresh(300, heavy)),
    Situation("300 features", 300, fresh(300, wide)),
    Situation("training records of an overfitted model as reference", 300, overfitted),
    Situation("segments", 1000, fresh(1000), settings={"segment_by": "channel"}),
    Situation("notebook's data", 300, fresh(300, adult, 666)),
    Situation("wobble of 0.05 sd, shared reference", 3_000, wobbling(3_000), SHARED, differs=True),
)


def lower_bound(reference: significance.Columns, live: significance.Columns) -> significance.Smirnov:
    """Return a lower bound of the p-value of the Kolmogorov-Smirnov test of each column of sorted values.

    It is the probability that the distance is as large at the value where it is largest, a hypergeometric tail. The
    test counts distances that are as large anywhere.
    """
    N, M = len(reference[0]), len(live[0])
    found = []
    for reference_N, live_M in zip(reference, live, strict=True):
        values_N = np.unique(reference_N)
        before_K = np.concatenate([np.searchsorted(reference_N, values_N, side) for side in ("left", "right")])
        now_K = np.concatenate([np.searchsorted(live_M, values_N, side) for side in ("left", "right")])
        gap_K = abs(before_K / N - now_K / M)
        most = int(gap_K.argmax())
        tail = hypergeometric(int(now_K[most]), int(before_K[most] + now_K[most]), M, N + M) / 2
        found.append((float(gap_K[most]), tail))
    return significance.Smirnov(*np.array(found).T)


@contextmanager
def bounded() -> Iterator[None]:
    """Replace the p-values of Kolmogorov-Smirnov tests by their lower bounds, and omit histograms."""
    with (
        patch.object(significance, "smirnov_sorted", lower_bound),
        patch.object(inputs, "smirnov_sorted", lower_bound),
        patch.object(detect, "with_histograms", lambda result, *_: result),
    ):
        yield


def smallest_p(result: DriftResult) -> float:
    """Return the smallest p-value of all tests, also of those in segments."""
    return min([result.smallest_p, *(label.p for segment in result.segments for label in segment.labels)])


def screened(policy: DriftPolicy, before: Explained, now: Explained, start: datetime | None = None) -> DriftResult:
    """Return the result with lower bounds of p-values: without a significant one, nor has the exact result one."""
    with bounded():
        fewer = replace(policy, permutations=SCREEN_PERMUTATIONS)
        return detect_drift(fewer, before, now, "mean_abs", HOUR, start=start)


def levels(policies: Sequence[DriftPolicy], window: Window, before: Explained) -> list[Level]:
    """Return the level of a window alone by each policy; policies differ in the accepted number of alarms only."""
    found = screened(policies[0], before, window.records, window.start)
    if found.level_alone is Level.INSUFFICIENT_DATA:
        return [found.level_alone] * len(policies)
    return [
        detect_drift(policy, before, window.records, "mean_abs", HOUR, start=window.start).level_alone
        if smallest_p(found) <= policy.significance(HOUR)
        else Level.NONE
        for policy in policies
    ]


class Block(NamedTuple):
    """Alarms and significant windows with one reference, by rule.

    Attributes:
        windows: number of windows.
        alarms, seen: windows at warning or worse, and at any level.
        several: windows with an alarm of two of three windows, whose level is divided accordingly.
        several_seen: the same at any level.
        yearly: windows that are significant at one false alarm a year.
    """

    windows: int
    alarms: int
    seen: int
    several: int
    several_seen: int
    yearly: int


def count(found: Iterable[Level], wanted: Collection[Level]) -> int:
    """Return the number of windows with one of the wanted levels."""
    return sum(level in wanted for level in found)


def judge(index: int, number: int, false_alarms: float, seed: int) -> Block:
    """Return the counts of the windows with one reference."""
    situation = SITUATIONS[index]
    single = replace(POLICY, false_alarms_per_year=false_alarms, **situation.settings)
    several = replace(single, datapoints_to_alert=2, evaluation_period=3)
    yearly = replace(single, false_alarms_per_year=1.0)
    stream = situation.stream(generator(seed, situation.name, situation.rows, number))
    found = [levels((single, several, yearly), stream.window(), stream.reference) for _ in range(situation.shared)]
    alone, of_three, rare = zip(*found, strict=True)
    status = [several.status(of_three[:last], of_three[last]) for last in range(len(of_three))]
    return Block(
        windows=len(found),
        alarms=count(alone, ALERTS),
        seen=count(alone, SEEN),
        several=count(status, ALERTS),
        several_seen=count(status, SEEN),
        yearly=count(rare, SEEN),
    )


def row(situation: Situation, blocks: Sequence[Block], promised: float) -> dict[str, Any]:
    """Return the row of a situation in the table."""
    counts = {name: np.array([getattr(block, name) for block in blocks]) for name in Block._fields}
    windows = int(counts["windows"].sum())
    result: dict[str, Any] = {"situation": situation.name, "rows": situation.rows, "windows": windows}
    result |= {"references": len(blocks), "promised": promised, "yearly": int(counts["yearly"].sum())}
    rules = ["alarms", "seen", *(["several", "several_seen"] if situation.shared > 2 else [])]
    for name in rules:
        total = int(counts[name].sum())
        effective = effective_trials(counts[name], situation.shared)
        ends = interval(total / windows * effective, effective)
        result[name] = {"count": total, "rate": total / windows, "interval": ends}
        result[name]["worst"] = float((counts[name] / counts["windows"]).max())
        judged = not (situation.differs and name in {"seen", "several_seen"})
        result[name]["verdict"] = _verdict(within(counts[name], situation.shared, promised)) if judged else "differs"
    return result


def _verdict(is_within: bool) -> str:
    return "within" if is_within else "above"


def chosen(quick: bool, word: str) -> list[int]:
    """Return the indices of situations with a word in their names; the quick form has none that takes long."""
    return [
        index
        for index, situation in enumerate(SITUATIONS)
        if word in situation.name
        and (notebook.ADULT.is_dir() or situation.name != "notebook's data")
        and not (quick and (situation.rows > 3000 or situation.name == "300 features"))
    ]


def measure(
    indices: Sequence[int], windows: int, false_alarms: float, seed: int, processes: int
) -> Iterator[dict[str, Any]]:
    """Yield the row of each situation."""
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ[variable] = "1"
    promised = false_alarms / (YEAR / HOUR)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for index in indices:
            situation, start = SITUATIONS[index], time.monotonic()
            tasks = [(index, number, false_alarms, seed) for number in range(max(1, windows // situation.shared))]
            blocks = list(pool.map(judge, *zip(*tasks, strict=True), chunksize=max(1, 25 // situation.shared)))
            yield row(situation, blocks, promised) | {"seconds": round(time.monotonic() - start, 1)}


def overall(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of windows of independent references that are significant at one false alarm a year."""
    own = [each for each in rows if each["references"] == each["windows"]]
    count, windows = sum(each["yearly"] for each in own), sum(each["windows"] for each in own)
    promised = HOUR / YEAR
    ends = interval(count, windows) if windows else (0.0, 1.0)
    is_within = not windows or within(np.array([count]), windows, promised)
    return {"windows": windows, "count": count, "interval": ends, "promised": promised, "verdict": _verdict(is_within)}


def cells(result: dict[str, Any] | None) -> str:
    """Return the figures of a rule in a fixed width."""
    if result is None:
        return " " * 42
    low, high = result["interval"]
    figures = f"{result['count']:>5}{result['rate']:>7.1%} ({low:.1%}–{high:.1%})"
    return f"{figures:<28}{result['worst']:>6.0%}{result['verdict']:>8}"


def main() -> int:
    """Run the benchmark, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the windows, without the largest ones")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--windows", type=int, default=None, help=f"windows of each situation (default: {WINDOWS:,})")
    parser.add_argument("--false-alarms", type=float, default=87.6, help="accepted per year")
    parser.add_argument("--only", default="", help="situations with this word in their names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    arguments = parser.parse_args()
    windows = arguments.windows or (WINDOWS // 10 if arguments.quick else WINDOWS)
    found = []
    if not arguments.json:
        rule = f"{'count':>5}{'rate':>7} {'95 % interval':<15}{'worst':>6}{'':>8}"
        print(" " * 80 + f"{'alarms':<42}{'any level':<42}{'two of three, any level':<42}")
        print(f"{'situation':54}{'records':>8}{'windows':>8}{'refs':>7}   " + rule * 3 + f"{'1 a year':>9}{'s':>7}")
    indices = chosen(arguments.quick, arguments.only)
    for each in measure(indices, windows, arguments.false_alarms, arguments.seed, arguments.processes):
        found.append(each)
        if arguments.json:
            print(json.dumps(each, ensure_ascii=False), flush=True)
            continue
        head = f"{each['situation']:54}{each['rows']:>8,}{each['windows']:>8,}{each['references']:>7,}   "
        figures = "".join(cells(each.get(name)) for name in ("alarms", "seen", "several_seen"))
        print(head + figures + f"{each['yearly']:>9}{each['seconds']:>7}", flush=True)
    total = overall(found)
    if arguments.json:
        print(json.dumps(total))
    else:
        low, high = total["interval"]
        print(f"at one false alarm a year, {total['count']} of {total['windows']:,} windows with own references are "
              f"significant ({low:.3%}–{high:.3%}, promised {total['promised']:.3%}): {total['verdict']}")  # fmt: skip
    rules = [each[name] for each in found for name in ("alarms", "seen", "several", "several_seen") if name in each]
    return int(any(each["verdict"] == "above" for each in [*rules, total]))


if __name__ == "__main__":
    sys.exit(main())
