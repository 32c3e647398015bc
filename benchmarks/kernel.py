"""Kernel SHAP and enumeration against shap.KernelExplainer: same model, same records, same number of samples.

    python -m benchmarks.kernel [--json] [--rows 666] [--samples 100] [--repeat 21]

Prints the median of several runs each, the ratio of the medians, and the root mean square error of the local
attributions against enumeration.
With the notebook's files in ADULT_DIR it uses those; else the quickstart's model and rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.engine import Engine
from runner.explain import background as backgrounds
from runner.explain.aggregate import Aggregation
from runner.explain.estimator import Estimator
from runner.explain.exact import Exact
from runner.explain.kernel import Kernel
from runner.explain.posterior import complete, posterior
from runner.models.linear_learner import LinearLearner
from runner.protocols import Explainer, Item
from runner.records.fields import Fields
from runner.sources.data_file import DataFile
from runner.sources.dataset import Dataset

DEMO = Path(__file__).parents[1] / "runner" / "demo"
ADULT = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
ADULT_BASELINE = [[39, 2, 184870, 10, 10, 3, 6, 1, 4, 1, 1597, 61, 41, 37]]
BATCH_ROWS = 16_000
HERE = Engine(kind="serial", workers=None, address=None)


def untracked(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:  # noqa: ARG001
    """Pass the items through."""
    return items


def inputs(rows: int) -> tuple[str, LinearLearner, pl.DataFrame, pl.DataFrame]:
    """Return the name of the case, its model, at most `rows` of its records, and its background."""
    name, folder, data = (
        ("adult", ADULT, "validation-dataset.jsonl") if ADULT.is_dir() else ("demo", DEMO, "baseline.jsonl")
    )
    (artifact,) = folder.glob("*.tar.gz")
    model = LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)
    reader = DataFile(Path(), "", Fields("features", "score"), "application/jsonlines", None, header=False)
    features, _ = Dataset(str(folder / data), reader, "data.dataset").read()
    given = backgrounds.given(ADULT_BASELINE, features.columns) if name == "adult" else backgrounds.mean(features)
    return name, model, features[:rows], given


def timed(work: Callable[[], NDArray[np.float64]], repeat: int) -> tuple[float, NDArray[np.float64]]:
    """Return the median seconds and what the last run returned; designs are drawn anew each time."""
    seconds = []
    for _ in range(repeat):
        posterior.cache_clear()
        complete.cache_clear()
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def compare(rows: int, samples: int, repeat: int) -> list[dict[str, Any]]:
    """Return one row per method: seconds, ratio to shap, error."""
    import shap

    name, model, features, background = inputs(rows)
    weights_D, bias, _, _ = model.parameters
    x_ND, background_BD = features.to_numpy().astype(np.float32), background.to_numpy().astype(np.float32)

    def peer() -> NDArray[np.float64]:
        explainer = shap.KernelExplainer(lambda z_ND: 1 / (1 + np.exp(-(z_ND @ weights_D + bias))), background_BD)
        np.random.seed(0)
        return np.asarray(explainer.shap_values(x_ND, nsamples=samples, l1_reg=0, silent=True))

    def ours(explainer: Explainer) -> Callable[[], NDArray[np.float64]]:
        estimator = Estimator(explainer, Aggregation.MEAN_ABS, use_logit=False, max_batch_rows=BATCH_ROWS, engine=HERE)
        return lambda: estimator.explain(model, features, background, untracked).phi_NDL[:, :, 0]

    methods = {
        f"shap {shap.__version__} KernelExplainer": (peer, max(1, repeat // 7)),
        "shapwatch kernel": (ours(Kernel(samples, 0)), repeat),
        "shapwatch exact": (ours(Exact()), repeat),
    }
    measured = {method: timed(*work) for method, work in methods.items()}
    truth_ND = measured["shapwatch exact"][1]
    slowest = next(iter(measured.values()))[0]
    return [
        {
            "case": name,
            "method": method,
            "rows": features.height,
            "samples": "all" if method.endswith("exact") else samples,
            "seconds": seconds,
            "times_faster": slowest / seconds,
            "local_rmse": float(np.sqrt(((phi_ND - truth_ND) ** 2).mean())),
        }
        for method, (seconds, phi_ND) in measured.items()
    ]


def main() -> None:
    """Print the comparison as a table, or as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--rows", type=int, default=666)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=21)
    arguments = parser.parse_args()
    rows = compare(arguments.rows, arguments.samples, arguments.repeat)
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{'method':34}{'rows':>6}{'samples':>9}{'seconds':>10}{'faster':>9}{'local RMSE':>12}")
    for row in rows:
        print(
            f"{row['method']:34}{row['rows']:>6}{row['samples']:>9}{row['seconds']:>10.4f}"
            f"{row['times_faster']:>8.0f}x{row['local_rmse']:>12.1e}"
        )


if __name__ == "__main__":
    main()
