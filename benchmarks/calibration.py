"""Rates of false alarms and detected incidents of the calibrated verdict and SageMaker's rule, on the notebook's model.

    python -m benchmarks.calibration [--json] [--windows 1000] [--false-alarms 87.6]

Windows without drift are drawn from the notebook's 1,000 records (validation and test file, with `Country` encoded as
in the validation file). Each has its own reference of 666 records, because the rate holds on average over references.
Incidents are changes of the test file. Fails if there are more false alarms than accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Attributions
from runner.domain.drift import Level
from runner.drift.pairing import segments
from runner.drift.policy import YEAR, AlertPolicy
from runner.drift.ranking import rank_labels
from runner.engine import Engine
from runner.explain.estimator import Estimator
from runner.explain.explainers.exact import Exact
from runner.explain.task import Aggregation
from runner.models.linear_learner import LinearLearner
from tests.drift import samples

ADULT = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
NAMES = [
    *("Age", "Workclass", "fnlwgt", "Education", "Education-Num", "Marital Status", "Occupation", "Relationship"),
    *("Ethnic group", "Sex", "Capital Gain", "Capital Loss", "Hours per week", "Country"),
]
BACKGROUND = [39, 2, 184870, 10, 10, 3, 6, 1, 4, 1, 1597, 61, 41, 37]
HOUR = timedelta(hours=1)
SIZES = (10, 30, 100, 300, 1000)
THRESHOLD = 0.9
ENGINE = Engine(kind="serial", workers=None, address=None)
ESTIMATOR = Estimator(
    explainer=Exact(),
    agg_method=Aggregation.MEAN_ABS,
    groups={},
    use_logit=False,
    max_batch_rows=1_000_000,
    engine=ENGINE,
)
POLICY = replace(samples.POLICY, permutations=999, reference_rows=1000, canary_rows=0)
Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def records(name: str) -> NDArray[np.float64]:
    """Return the features in a file of the notebook."""
    with (ADULT / name).open() as lines:
        return np.array([json.loads(line)["features"] for line in lines], dtype=float)


def changed(rows_ND: NDArray[np.float64], name: str, change: Change) -> NDArray[np.float64]:
    """Return records with one changed feature."""
    rows_ND = rows_ND.copy()
    rows_ND[:, NAMES.index(name)] = change(rows_ND[:, NAMES.index(name)])
    return rows_ND


def explained(rows_ND: NDArray[np.float64]) -> Attributions:
    """Return exact local attributions."""
    model = LinearLearner(
        kind="linear_learner", artifact=ADULT / "ll-adult-prediction-model.tar.gz", label_headers=None, deploy=None
    )
    background = pl.DataFrame([pl.Series(name, [float(v)]) for name, v in zip(NAMES, BACKGROUND, strict=True)])
    return ESTIMATOR.explain(model, pl.DataFrame(rows_ND, schema=NAMES), background, lambda items, *_: items)


def subset(attributions: Attributions, rows: NDArray[np.intp]) -> Attributions:
    """Return the attributions of the records with these indices."""
    return replace(attributions, phi_NDL=attributions.phi_NDL[rows], scores_NL=attributions.scores_NL[rows])


def ndcg(reference: Attributions, live: Attributions) -> float:
    """Return nDCG, the statistic of SageMaker's rule."""
    (drift,) = rank_labels(ESTIMATOR.aggregate(reference), ESTIMATOR.aggregate(live), THRESHOLD).drifts
    return float("nan") if drift.ndcg is None else drift.ndcg


def alarm_limit(windows: int, level: float) -> int:
    """Return the number of alarms that has a probability of at most 0.001 if the level is correct (binomial tail)."""
    tail, alarms = 1.0, 0
    while tail > 1e-3:
        tail -= comb(windows, alarms) * level**alarms * (1 - level) ** (windows - alarms)
        alarms += 1
    return alarms


def pooled() -> NDArray[np.float64]:
    """Return the population of records for windows without drift."""
    return np.concatenate([records("validation-dataset.jsonl"), same_encoding(records("test-dataset.jsonl"))])


def without_drift(windows: int, false_alarms: float) -> Iterator[dict[str, Any]]:
    """Yield the false-alarm rates of the rules for each window size.

    `one_a_year` is the rate at the default level, and `two_of_three` the rate of two significant windows among three
    consecutive ones, at the level that gives the same number of false alarms per year.
    """
    rows_ND, rng = pooled(), np.random.default_rng(1)
    population = explained(rows_ND)
    policy = replace(POLICY, false_alarms_per_year=false_alarms, min_rows=2, permutations=199)
    level, allowed = false_alarms / (YEAR / HOUR), AlertPolicy(false_alarms, 2, 3).significance(HOUR)
    for rows in SIZES:
        warned, ranked, p = 0, 0, []
        for _ in range(windows):
            reference, live = (subset(population, rng.integers(0, len(rows_ND), n)) for n in (666, rows))
            found = samples.compared(policy, reference, live)
            warned += found.level in {Level.WARNING, Level.VIOLATION}
            ranked += ndcg(reference, live) < THRESHOLD
            p.append(found.labels[0].p)
        past = np.array(p) <= allowed
        together = past[:-2].astype(int) + past[1:-1] + past[2:] >= 2
        detected = (np.array(p) <= level).mean()
        yield {
            "rows": rows,
            "accepted": level,
            "detected": float(detected),
            "two_of_three": float(together.mean()),
            "warning_or_worse": warned / windows,
            "one_a_year": float((np.array(p) <= POLICY.significance(HOUR)).mean()),
            "below_0.9": ranked / windows,
            "within_limit": detected * windows < alarm_limit(windows, level),
        }


def divided_level(windows: int, false_alarms: float) -> Iterator[dict[str, Any]]:
    """Yield the false-alarm rates of rules that divide the level among several tests, for windows of 300 records."""
    rows_ND, rng = pooled(), np.random.default_rng(2)
    population = explained(rows_ND)
    plain = replace(POLICY, false_alarms_per_year=false_alarms, permutations=199)
    rules = {
        "features": plain,
        "and segments": replace(plain, segment_by="Sex"),
        "and a classifier": replace(plain, classifier=True),
        "all of them": replace(plain, segment_by="Sex", classifier=True),
    }
    alarms = dict.fromkeys(rules, 0)
    for _ in range(windows):
        indices = [rng.integers(0, len(rows_ND), n) for n in (666, 300)]
        reference, live = (subset(population, chosen) for chosen in indices)
        before, now = (pl.DataFrame(rows_ND[chosen], schema=NAMES) for chosen in indices)
        for name, rule in rules.items():
            parts = segments(rule.segment_by, before, now, rule.min_rows) if rule.segment_by else ()
            alarms[name] += samples.compared(rule, reference, live, "mean_abs", HOUR, parts).level is not Level.NONE
    for name, count in alarms.items():
        level = false_alarms / (YEAR / HOUR)
        yield {
            "rule": name,
            "accepted": level,
            "detected": count / windows,
            "within_limit": count < alarm_limit(windows, level),
        }


def same_encoding(rows_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the records of the test file with `Country` encoded as in the validation file."""
    return changed(rows_ND, "Country", lambda country_N: country_N + (country_N == 37))


def incidents() -> Iterator[dict[str, Any]]:
    """Yield the verdict on each incident for each window size."""
    original = records("test-dataset.jsonl")
    fixed = same_encoding(original)
    windows = {
        "none": fixed,
        "original files: Country one lower": original,
        "Education-Num frozen": changed(fixed, "Education-Num", lambda values_N: np.full_like(values_N, 10)),
        "Hours per week / 10": changed(fixed, "Hours per week", lambda hours_N: hours_N / 10),
        "Sex codes swapped": changed(fixed, "Sex", lambda sex_N: 1 - sex_N),
    }
    reference = explained(records("validation-dataset.jsonl"))
    for name, rows_ND in windows.items():
        live = explained(rows_ND)
        for rows in (30, 100, 300):
            window = subset(live, np.arange(rows))
            found = samples.compared(POLICY, reference, window, "mean_abs", HOUR)
            (label,) = found.labels
            first = min(label.features, key=lambda feature: (feature.p, -feature.distance))
            yield {
                "incident": name,
                "rows": rows,
                "level": str(found.level),
                "first": first.name if found.level != Level.NONE else "",
                "p": label.p,
                "attribution_shift": label.attribution_shift.value,
                "chance": label.attribution_shift.noise,
                "ndcg": ndcg(reference, window),
            }


def speed() -> dict[str, Any]:
    """Return the seconds of the verdict on 10,000 records."""
    reference = explained(records("validation-dataset.jsonl"))
    live = subset(reference, np.random.default_rng(2).integers(0, 666, 10_000))
    start = time.perf_counter()
    first = samples.compared(POLICY, reference, live, "mean_abs", HOUR)
    seconds = time.perf_counter() - start
    return {
        "records": 10_000,
        "seconds": round(seconds, 2),
        "same": first == samples.compared(POLICY, reference, live, "mean_abs", HOUR),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--windows", type=int, default=1000, help="windows without drift per size")
    parser.add_argument("--false-alarms", type=float, default=87.6, help="accepted false alarms per year")
    arguments = parser.parse_args()
    if not ADULT.is_dir():
        raise SystemExit(f"the notebook's model and data are not at {ADULT}; set ADULT_DIR")
    exceeded = False
    drawn = arguments.windows, arguments.false_alarms
    for table in (without_drift(*drawn), divided_level(*drawn), incidents(), iter([speed()])):
        for number, row in enumerate(table):
            exceeded |= row.get("within_limit") is False
            if arguments.json:
                print(json.dumps(row))
                continue
            if not number:
                print("\n" + "  ".join(f"{key:>16}" for key in row))
            print(
                "  ".join(f"{value:>16.4g}" if isinstance(value, float) else f"{value!s:>16}" for value in row.values())
            )
    if exceeded:
        raise SystemExit("more false alarms than accepted")


if __name__ == "__main__":
    main()
