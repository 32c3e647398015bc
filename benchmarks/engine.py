"""The engines on the same records: this process, two processes, and two workers of a Dask cluster.

    python -m benchmarks.engine [--json] [--rows 20000] [--samples 100] [--repeat 3]

The model is boosted trees on the notebook's data. Prints the median of several runs after a first run, in which workers
start and load the model, the ratio to this process, and the overhead of an empty block.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.cases import ADULT_BASELINE, adult, untracked
from runner.engine import Engine
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.explainers.kernel import Kernel
from runner.explain.task import Aggregation
from runner.models.lightgbm import Lightgbm
from runner.protocols import Model
from tests.dask_cluster import dask_cluster

BLOCKS = 500


def trained(folder: Path) -> tuple[Model, pl.DataFrame, pl.DataFrame]:
    """Return boosted trees from a file, records, and the background."""
    import lightgbm

    _, features, _, labels = adult(10**6)
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 0},
        lightgbm.Dataset(features.to_numpy().astype(np.float64), labels),
        num_boost_round=100,
    )
    path = folder / "model.txt"
    booster.save_model(path)
    model = Lightgbm(kind="lightgbm", artifact=path, columns=None, label_headers=None, deploy=None)
    rows = ADULT_BASELINE if features.width == len(ADULT_BASELINE[0]) else [features.row(0)]
    return model, features, backgrounds.given(rows, features.columns)


def resampled(features: pl.DataFrame, rows: int) -> pl.DataFrame:
    """Return `rows` different records."""
    rng = np.random.default_rng(0)
    column = features.columns[2]
    drawn = features[rng.integers(features.height, size=rows)]
    return drawn.with_columns(pl.col(column) + pl.Series(column, rng.integers(0, 100_000, rows)))


def idle(model: Model, item: int) -> int:  # noqa: ARG001
    """Return the item."""
    return item


def measured(rows: int, samples: int, repeat: int) -> Iterator[dict[str, Any]]:
    """Yield one row per engine."""
    with tempfile.TemporaryDirectory() as folder, dask_cluster(Path(folder)) as cluster:
        model, features, background = trained(Path(folder))
        table, serial = resampled(features, rows), 0.0
        for engine in (
            Engine(kind="serial", workers=None, address=None),
            Engine(kind="loky", workers=2, address=None),
            Engine(kind="dask", workers=None, address=cluster.address),
        ):
            estimator = Estimator(
                explainer=Kernel(samples, 0),
                agg_method=Aggregation.MEAN_ABS,
                use_logit=False,
                max_batch_rows=16_000,
                groups={},
                engine=engine,
            )
            seconds, hashes = [], set()
            for _ in range(repeat + 1):
                start = time.perf_counter()
                found = estimator.explain(model, table, background, untracked)
                seconds.append(time.perf_counter() - start)
                hashes.add(found.phi_NDL.tobytes())
            start = time.perf_counter()
            list(engine.map(idle, model, range(BLOCKS)))
            block = (time.perf_counter() - start) / BLOCKS
            median = statistics.median(seconds[1:])
            serial = serial or median
            yield {
                "engine": engine.kind,
                "rows": rows,
                "samples": samples,
                "seconds": median,
                "first_seconds": seconds[0],
                "times_faster": serial / median,
                "microseconds_a_record": median / rows * 1e6,
                "milliseconds_a_block": block * 1e3,
                "runs_agree": len(hashes) == 1,
            }


def main() -> None:
    """Print a table, or JSON lines with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    for row in measured(arguments.rows, arguments.samples, arguments.repeat):
        print(json.dumps(row) if arguments.json else line(row), flush=True)


def line(row: dict[str, Any]) -> str:
    """Return a row as text."""
    start = f"{row['rows']:>9} records, {row['samples']} samples, engine={row['engine']:8}{row['seconds']:>7.2f} s"
    each = f"{row['microseconds_a_record']:.0f} µs per record, {row['milliseconds_a_block']:.2f} ms per block"
    return f"{start} (first {row['first_seconds']:.2f}), {row['times_faster']:.2f} times serial, {each}"


if __name__ == "__main__":
    main()
