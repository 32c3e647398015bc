"""A few figures that must not get worse, as ratios to what was stored when they were last looked at.

    python -m benchmarks.tracked [--json] [--update]

Errors are those of fixed seeds against exact values, as shares of what Clarify's regression errs on equal coalitions.
Times are those of the processor, on one thread, as shares of what plain numpy and polars take for as many numbers, in
turns with them, the least of several, so that a busy machine changes little. Ends with 1 where a figure is more than
1.5 times what it was: find out why, and store the new ones with --update only if they are meant to be so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.cases import untracked
from benchmarks.frontier import HERE
from runner.explain import background
from runner.explain.aggregate import Aggregation
from runner.explain.blocks import GameExplainer
from runner.explain.control_variate import LogitAdditive
from runner.explain.estimator import Estimator
from runner.explain.explainers import Explainer
from runner.explain.explainers.clarify import Clarify, regression
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.explain.gaussian_process import complete, posterior
from runner.models.linear import LinearModel
from tests.explain.games import stepped

STORED = Path(__file__).with_suffix(".json")
WORSE = 1.5
TURNS = 15
SMALL_STEPS = 2_000
"""About as long as the large ones: machines differ in which of the two they are good at."""
PLAYERS, RECORDS = 10, 400


def errors() -> dict[str, float]:
    """Return the errors of kernel SHAP as shares of those of the regression."""
    game = stepped(60, PLAYERS, np.random.default_rng(0))
    truth = Exact().estimate(game).phi_NPL

    def error(explainer: GameExplainer) -> float:
        return float(np.sqrt(((explainer.estimate(game).phi_NPL - truth) ** 2).mean()))

    return {
        f"error at {samples} samples, of the regression's": error(Kernel(samples, 0)) / error(Clarify(samples, 0))
        for samples in (60, 200, 600)
    }


def times() -> dict[str, float]:
    """Return how many times longer than bare arithmetic explaining and its parts take."""
    rng = np.random.default_rng(1)
    x_ND = rng.normal(size=(RECORDS, PLAYERS))
    features = pl.DataFrame(x_ND, schema=[f"f{d}" for d in range(PLAYERS)])
    coefficients = dict.fromkeys(features.columns, (0.3,))
    settings = {"label_headers": None, "deploy": None}
    model = LinearModel(kind="linear", link="logistic", intercept=(0.0,), coefficients=coefficients, **settings)  # type: ignore[arg-type]
    games = LogitAdditive(np.zeros(RECORDS), x_ND)
    rows_RD = rng.normal(size=(RECORDS * 100, PLAYERS))

    def bare() -> object:
        """Do what costs time in explaining: one large product, one table, many small steps."""
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
            engine=HERE,
        )
        return lambda: estimator.explain(model, features, features[:1], untracked)

    def designed() -> object:
        posterior.cache_clear()
        complete.cache_clear()
        regression.cache_clear()
        return posterior(PLAYERS, 100, 0)

    parts = {
        "kernel at 100 samples": explained(Kernel(100, 0)),
        "clarify at 100 samples": explained(Clarify(100, 0)),
        "exact": explained(Exact()),
        "Shapley values of log-odds": games.shapley,
        "a design": designed,
        "clusters": lambda: background.representatives(features, 4, 0),
    }
    return {f"time of {name}, of bare arithmetic": _ratio(part, bare) for name, part in parts.items()}


def _ratio(work: Callable[[], object], bare: Callable[[], object]) -> float:
    taken: dict[Callable[[], object], list[float]] = {work: [], bare: []}
    for _ in range(TURNS):
        for each, seconds in taken.items():
            start = time.process_time()
            each()
            seconds.append(time.process_time() - start)
    return min(taken[work]) / min(taken[bare])


def main() -> None:
    """Compare with what is stored, or store."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--update", action="store_true", help="store the figures of this run")
    arguments = parser.parse_args()
    found = errors() | times()
    if arguments.update:
        STORED.write_text(json.dumps({name: float(f"{value:.3g}") for name, value in found.items()}, indent=2) + "\n")
    stored = json.loads(STORED.read_text())
    rows = [
        {"figure": name, "now": now, "then": stored[name], "loss": now / stored[name]} for name, now in found.items()
    ]
    for row in rows:
        told = f"{row['figure']:58}{row['now']:>10.3g}{row['then']:>10.3g}{row['loss']:>8.2f}"
        print(json.dumps(row) if arguments.json else told)
    worse = [row["figure"] for row in rows if row["loss"] > WORSE]
    if worse:
        sys.exit(f"more than {WORSE} times what it was: {'; '.join(worse)}")


if __name__ == "__main__":
    main()
