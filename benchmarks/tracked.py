"""Errors and times that must not get worse, compared with stored values.

    python -m benchmarks.tracked [--json] [--update]

Errors are measured with fixed seeds against exact values, as ratios to the error of Clarify's regression with the same
number of coalitions. Times are CPU times on one thread, as ratios to numpy and polars on arrays of the same size. Both
are measured alternately, and the minimum of several runs is used, so that a busy machine matters little. Exits with 1
if a value is more than 1.5 times the stored one. Find the cause; use --update only if the new values are intended.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.cases import untracked
from benchmarks.frontier import ENGINE
from runner.domain.attributions import Explained
from runner.drift.detect import detect_drift
from runner.explain import background
from runner.explain.control_variate import LogitAdditive
from runner.explain.estimator import Estimator
from runner.explain.explainers import Explainer
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Clarify, Kernel, regression
from runner.explain.game_explainer import GameExplainer
from runner.explain.gaussian_process import complete, posterior
from runner.explain.task import Aggregation
from runner.models.linear import LinearModel
from tests.drift.samples import POLICY, local_attributions
from tests.explain.games import tree_games

STORED = Path(__file__).with_suffix(".json")
MAX_LOSS = 1.5
TURNS = 15
SMALL_STEPS = 2_000
"""Number of small steps that take as long as the large ones, because machines differ in the ratio of both."""
PLAYERS, RECORDS = 10, 400


def errors() -> dict[str, float]:
    """Return the errors of kernel SHAP as ratios to those of Clarify's regression."""
    game = tree_games(60, PLAYERS, np.random.default_rng(0))
    truth = Exact().estimate(game).phi_NPL

    def error(explainer: GameExplainer) -> float:
        return float(np.sqrt(((explainer.estimate(game).phi_NPL - truth) ** 2).mean()))

    return {
        f"error at {samples} samples / regression": error(Kernel(samples, 0)) / error(Clarify(samples, 0))
        for samples in (60, 200, 600)
    }


def times() -> dict[str, float]:
    """Return the times of explaining, its parts and a verdict as ratios to plain array arithmetic."""
    rng = np.random.default_rng(1)
    x_ND = rng.normal(size=(RECORDS, PLAYERS))
    features = pl.DataFrame(x_ND, schema=[f"f{d}" for d in range(PLAYERS)])
    coefficients = dict.fromkeys(features.columns, (0.3,))
    settings = {"label_headers": None, "deploy": None}
    model = LinearModel(kind="linear", link="logistic", intercept=(0.0,), coefficients=coefficients, **settings)  # type: ignore[arg-type]
    games = LogitAdditive(np.zeros(RECORDS), x_ND)
    rows_RD = rng.normal(size=(RECORDS * 100, PLAYERS))

    def bare() -> object:
        """Do the expensive operations of explaining: one large product, one table, many small steps."""
        pl.DataFrame({name: np.where(rows_RD[:, 0] > 0, rows_RD[:, d], 1.0) for d, name in enumerate(features.columns)})
        for _ in range(SMALL_STEPS):
            np.add(x_ND[:16], 1.0)
        return 1 / (1 + np.exp(-(rows_RD @ np.full(PLAYERS, 0.3))))

    def explained(explainer: Explainer) -> Callable[[], object]:
        estimator = Estimator(
            explainer=explainer,
            agg_method=Aggregation.MEAN_ABS,
            use_logit=False,
            max_batch_rows=40_000,
            groups={},
            engine=ENGINE,
        )
        return lambda: estimator.explain(model, features, features[:1], untracked)

    def designs() -> object:
        posterior.cache_clear()
        complete.cache_clear()
        regression.cache_clear()
        return posterior(PLAYERS, 100, 0)

    sides = [local_attributions(3_000, seed) for seed in (0, 1)]
    tables = [pl.DataFrame(side.phi_NDL[:, :, 0], schema=list(side.names)) for side in sides]
    before, now = map(Explained, tables, sides)
    policy = replace(POLICY, permutations=999, classifier=True)

    def verdict() -> object:
        return detect_drift(policy, before, now, "mean_abs", timedelta(hours=1))

    parts = {
        "kernel at 100 samples": explained(Kernel(100, 0)),
        "clarify at 100 samples": explained(Clarify(100, 0)),
        "exact": explained(Exact()),
        "Shapley values of log-odds": games.shapley,
        "posterior weights": designs,
        "clusters": lambda: background.representatives(features, 4, 0),
        "verdict of 3,000 records": verdict,
    }
    return {f"time of {name} / arithmetic": _ratio(part, bare) for name, part in parts.items()}


def _ratio(work: Callable[[], object], bare: Callable[[], object]) -> float:
    taken: dict[Callable[[], object], list[float]] = {work: [], bare: []}
    for _ in range(TURNS):
        for each, seconds in taken.items():
            start = time.process_time()
            each()
            seconds.append(time.process_time() - start)
    return min(taken[work]) / min(taken[bare])


def main() -> None:
    """Compare with the stored values, or store new ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--update", action="store_true", help="store the values of this run")
    arguments = parser.parse_args()
    found = errors() | times()
    if arguments.update:
        STORED.write_text(json.dumps({name: float(f"{value:.3g}") for name, value in found.items()}, indent=2) + "\n")
    stored = json.loads(STORED.read_text())
    rows = [
        {"figure": name, "now": now, "stored": stored[name], "loss": now / stored[name]} for name, now in found.items()
    ]
    for row in rows:
        line = f"{row['figure']:58}{row['now']:>10.3g}{row['stored']:>10.3g}{row['loss']:>8.2f}"
        print(json.dumps(row) if arguments.json else line)
    worse = [row["figure"] for row in rows if row["loss"] > MAX_LOSS]
    if worse:
        sys.exit(f"more than {MAX_LOSS} times the stored value: {'; '.join(worse)}")


if __name__ == "__main__":
    main()
