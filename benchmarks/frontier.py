"""Error and time of SHAP values of shapwatch, shap and shapiq, with the same number of model calls.

    python -m benchmarks.frontier [--quick] [--json]

Local RMSE is measured against exact Shapley values by enumeration. Seconds are those of all records of a case: the
median of several runs after a warm-up run, with newly drawn coalitions each time. Samples are model rows per record.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import polars as pl

from benchmarks import engine
from benchmarks.cases import Case, Matrix, categories, logistic, thirty, trees, untracked
from runner.engine import Engine
from runner.explain.estimator import Estimator
from runner.explain.explainers import Explainer
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, Kernel, regression
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.gaussian_process import complete, posterior
from runner.explain.task import Aggregation
from runner.protocols import Model, as_additive

SAMPLES = (50, 100, 200, 500, 1000, 2000)
QUICK_SAMPLES = (100, 1000)
BATCH_ROWS = 66_600
"""Rows per model call, for all methods with such a setting."""
FEW = 100
"""Maximum number of records for the slower approximators of shapiq."""
ENGINE = Engine(kind="serial", workers=None, address=None)
GROWTH = (1_000, 10_000, 100_000, 1_000_000)

Method = Callable[[Case, int], Matrix]
Row = dict[str, Any]


def shapwatch(explainer: Callable[[int], Explainer]) -> Method:
    """Return a method of shapwatch that clears the caches of earlier runs."""

    def run(case: Case, samples: int) -> Matrix:
        for drawn in (posterior, complete, regression):
            drawn.cache_clear()
        estimator = Estimator(
            explainer=explainer(samples),
            agg_method=Aggregation.MEAN_ABS,
            use_logit=False,
            max_batch_rows=BATCH_ROWS,
            groups={},
            engine=ENGINE,
        )
        return estimator.explain(case.model, case.features, case.background, untracked).phi_NDL[:, :, 0]

    return run


def shap(case: Case, samples: int) -> Matrix:
    """Return the estimates of shap's KernelExplainer without feature selection."""
    import shap as peer

    np.random.seed(0)
    explainer = peer.KernelExplainer(case.function, case.background_D[None])
    return np.asarray(explainer.shap_values(case.x_ND, nsamples=samples, l1_reg=0, silent=True))


def shapiq(name: str, **options: Any) -> Method:
    """Return an approximator of shapiq."""

    def run(case: Case, samples: int) -> Matrix:
        from shapiq import approximator

        phi = []
        for n, x_D in enumerate(case.x_ND):
            approximate = getattr(approximator, name)(n=case.x_ND.shape[1], random_state=n, **options)
            found = approximate.approximate(samples, _game(case, x_D))
            phi.append([found[(d,)] for d in range(case.x_ND.shape[1])])
        return np.array(phi)

    return run


def _game(case: Case, x_D: Matrix) -> Callable[[Any], Matrix]:
    empty = case.function(case.background_D[None])[0]
    return lambda masks_KD: case.function(np.where(np.atleast_2d(masks_KD), x_D, case.background_D)) - empty


SHAPWATCH: dict[str, Method] = {
    "shapwatch kernel": shapwatch(lambda samples: Kernel(samples, 0)),
    "shapwatch kernel, compat=clarify": shapwatch(lambda samples: Clarify(samples, 0)),
}
PEERS: dict[str, Method] = {
    "shap KernelExplainer": shap,
    "shapiq KernelSHAP, paired": shapiq("KernelSHAP", pairing_trick=True),
}
SLOW_PEERS: dict[str, Method] = {
    "shapiq SVARM": shapiq("SVARM"),
    "shapiq PermutationSamplingSV": shapiq("PermutationSamplingSV"),
    "shapiq UnbiasedKernelSHAP": shapiq("UnbiasedKernelSHAP", pairing_trick=True),
}
EXACT: dict[str, Method] = {
    "shapwatch exact": shapwatch(lambda _: Exact()),
    "shapwatch linear": shapwatch(lambda _: LinearExplainer()),
}


@dataclass(frozen=True)
class Effort:
    """The amount of work.

    Attributes:
        cases, samples: measured cases and numbers of samples.
        many: maximum number of records with more than 100 samples.
        repeat, peers_repeat: runs of shapwatch, and of the peers.
        all_peers: whether the slow peers are measured too.
    """

    cases: tuple[Case, ...]
    samples: tuple[int, ...]
    many: int
    repeat: int
    peers_repeat: int
    all_peers: bool


def measured(case: Case, name: str, method: Method, samples: int | None, repeat: int) -> Row:
    """Return the error and the median seconds of a method."""
    seconds, phi_ND = [], np.zeros(0)
    for _ in range(repeat + (repeat > 1)):
        start = time.perf_counter()
        phi_ND = method(case, samples or 0)
        seconds.append(time.perf_counter() - start)
    return {
        "case": case.name,
        "rows": len(case.x_ND),
        "method": name,
        "samples": samples,
        "local_rmse": float(np.sqrt(((phi_ND - case.truth_ND) ** 2).mean())),
        "seconds": statistics.median(seconds[repeat > 1 :]),
    }


def frontier(effort: Effort) -> Iterator[Row]:
    """Yield a row for each case, method and budget."""
    for case in effort.cases:
        for samples in (count for count in effort.samples if count >= 2 * case.x_ND.shape[1]):
            records = case if samples <= 100 else case.first(effort.many)
            for name, method in SHAPWATCH.items():
                yield measured(records, name, method, samples, effort.repeat)
            for name, method in (PEERS | (SLOW_PEERS if effort.all_peers and len(case.x_ND) <= FEW else {})).items():
                yield measured(records, name, method, samples, effort.peers_repeat)
        for name, method in EXACT.items():
            if as_additive(case.model) or (name.endswith("exact") and case.x_ND.shape[1] <= 14):
                yield measured(case, name, method, None, effort.peers_repeat)


@dataclass
class Timed:
    """A model that measures its seconds and counts its rows."""

    model: Model
    seconds: float = 0.0
    rows: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict(self, features: pl.DataFrame) -> Matrix:
        """Return scores_NL."""
        start = time.perf_counter()
        scores_NL = self.model.predict(features)
        self.seconds += time.perf_counter() - start
        self.rows += features.height
        return scores_NL


def overhead(case: Case, samples: int, repeat: int) -> Iterator[Row]:
    """Yield the ratio of the time of explaining to the time of the model alone for the same number of rows.

    The ratio can be below 1 for a method that evaluates identical rows once.
    """
    for name, method in SHAPWATCH.items():
        ratios = []
        for _ in range(repeat + 1):
            timed = Timed(case.model)
            start = time.perf_counter()
            method(replace(case, model=cast(Model, timed)), samples)
            bare = timed.seconds / timed.rows * case.features.height * samples
            ratios.append((time.perf_counter() - start) / bare)
        ratio = statistics.median(ratios[1:])
        yield {"case": case.name, "rows": case.features.height, "method": name, "samples": samples, "overhead": ratio}


def growth(case: Case, samples: int) -> Iterator[Row]:
    """Yield the seconds for increasing numbers of records, and the exponent of growth."""
    seconds = []
    for count in GROWTH:
        more = case.resampled(count)
        start = time.perf_counter()
        estimator = Estimator(
            explainer=Kernel(samples, 0),
            agg_method=Aggregation.MEAN_ABS,
            use_logit=False,
            max_batch_rows=BATCH_ROWS,
            groups={},
            engine=ENGINE,
        )
        estimator.explain(more.model, more.features, more.background, untracked)
        seconds.append(time.perf_counter() - start)
        yield {
            "case": case.name,
            "rows": count,
            "method": "shapwatch kernel",
            "samples": samples,
            "seconds": seconds[-1],
        }
    exponent = float(np.polyfit(np.log(GROWTH[1:]), np.log(seconds[1:]), 1)[0])
    yield {"case": case.name, "method": "shapwatch kernel", "samples": samples, "growth_exponent": exponent}


def verdicts(rows: list[Row]) -> Iterator[Row]:
    """Yield the aims with the ratios measured in this run."""
    found = {(row["case"], row["method"], row["samples"]): row for row in rows if "local_rmse" in row}

    def best(case: str, samples: int) -> float:
        return min(
            float(row["local_rmse"])
            for (of, name, at), row in found.items()
            if (of, at) == (case, samples) and name in PEERS | SLOW_PEERS
        )

    def row(case: str, name: str, samples: int | None) -> Row:
        return next(row for (of, by, at), row in found.items() if (of, by, at) == (case, name, samples))

    logistic_, plain, kernel = "logistic, 14 features", "shapwatch kernel, compat=clarify", "shapwatch kernel"
    peer = row(logistic_, "shap KernelExplainer", 100)
    yield _aim(
        "logistic, 100: compat=clarify, times faster than shap",
        peer["seconds"] / row(logistic_, plain, 100)["seconds"],
        300,
        True,
    )
    yield _aim(
        "logistic, 100: compat=clarify, share of shap's error",
        row(logistic_, plain, 100)["local_rmse"] / peer["local_rmse"],
        1,
        False,
    )
    yield _aim(
        "logistic, 100: kernel, times faster than shap",
        peer["seconds"] / row(logistic_, kernel, 100)["seconds"],
        40,
        True,
    )
    for samples, share in ((100, 1 / 20), (1000, 1 / 10)):
        ratio = row(logistic_, kernel, samples)["local_rmse"] / best(logistic_, samples)
        yield _aim(f"logistic, {samples}: kernel, share of the best peer's error", ratio, share, False)
    yield _aim(
        "logistic: exact, times faster than shap at 100",
        peer["seconds"] / row(logistic_, "shapwatch exact", None)["seconds"],
        1,
        True,
    )
    for case in sorted({of for of, _, _ in found if "trees" in of}):
        for samples, share in ((100, 1.0), (1000, 1 / 3)):
            ratio = row(case, kernel, samples)["local_rmse"] / best(case, samples)
            yield _aim(f"{case}, {samples}: kernel, share of the best peer's error", ratio, share, False)
    for found_row in rows:
        if "overhead" in found_row:
            aim = 4.0 if found_row["case"].startswith("logistic") else 1.1
            of = f"{found_row['case']}, {found_row['rows']:,} records"
            yield _aim(f"{of}: {found_row['method']}, times the model alone", found_row["overhead"], aim, False)
        if "growth_exponent" in found_row:
            yield _aim("growth exponent over 10^4 to 10^6 records", found_row["growth_exponent"], 1.05, False)


def _aim(aim: str, ratio: float, bound: float, at_least: bool) -> Row:
    met = ratio >= bound if at_least else ratio <= bound
    return {"aim": aim, "ratio": ratio, "bound": ("≥ " if at_least else "≤ ") + f"{bound:.3g}", "met": met}


def _line(row: Row) -> str:
    if "aim" in row:
        return f"{'met    ' if row['met'] else 'NOT MET'} {row['aim']:78}{row['ratio']:>12.3g}  {row['bound']}"
    if "engine" in row:
        return engine.line(row)
    start = f"{row['case']:28}{row.get('rows', ''):>9}  {row['method']:34}{row['samples'] or 'all':>6}"
    if "overhead" in row:
        return f"{start}{row['overhead']:>10.2f} times the model alone"
    if "growth_exponent" in row:
        return f"{start}  grows with exponent {row['growth_exponent']:.3f}"
    error = f"{row['local_rmse']:>10.1e}" if "local_rmse" in row else " " * 10
    return f"{start}{error}{row['seconds']:>10.4f} s"


def main() -> None:
    """Print a table, or JSON lines with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--quick", action="store_true", help="fewer budgets and repeats, in less than 50 s")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")  # peers warn about numpy and small budgets
    few = arguments.quick
    first, second = logistic(666), trees(666)
    others = (thirty(8 if few else 30), categories(8 if few else 30))
    effort = Effort(
        cases=(first, second.first(30), *others),
        samples=QUICK_SAMPLES if few else SAMPLES,
        many=FEW if few else first.features.height,
        repeat=5 if few else 15,
        peers_repeat=1 if few else 3,
        all_peers=not few,
    )

    def rows() -> Iterator[Row]:
        yield from frontier(effort)
        yield from overhead(first, 100, 15)
        yield from overhead(first.resampled(6_660), 100, 1 if few else 3)
        yield from overhead(second, 100, 1 if few else 3)
        if not few:
            yield from growth(first, 100)
            yield from engine.measured(20_000, 100, 3)

    shown = []
    for row in rows():
        shown.append(row)
        print(json.dumps(row) if arguments.json else _line(row), flush=True)
    for row in verdicts(shown):
        print(json.dumps(row) if arguments.json else _line(row), flush=True)


if __name__ == "__main__":
    main()
