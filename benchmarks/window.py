"""An execution over a window with many captured invocations.

    python -m benchmarks.window [--json] [--events 10000 100000 1000000]

The captures contain the notebook's records, resampled and slightly changed so that they differ. Each execution is a
separate process with 100 samples per record: of all records, and with shap.precision=0.99. Prints seconds, the
share of drift detection, the peak memory of all its processes together, and the exponents of growth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

CHECKOUT = Path(__file__).parents[1]
ADULT = Path(os.environ.get("ADULT_DIR", "../shared/data/adult")).resolve()
HOUR = "adult/AllTraffic/2026/01/05/09"
RECORDS_PER_FILE = 50_000
METHODS = {
    "all records, serial": (),
    "all records, engine=loky": ("engine=loky", "engine.workers=2"),
    "shap.precision=0.99": ("shap.precision=0.99",),
}


def capture(root: Path, events: int) -> None:
    """Write captures of `events` invocations of one hour."""
    from runner.models.linear_learner import LinearLearner

    (artifact,) = ADULT.glob("*.tar.gz")
    model = LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)
    lines = (ADULT / "validation-dataset.jsonl").read_text().splitlines()
    known_ND = np.array([json.loads(line)["features"] for line in lines])
    rng = np.random.default_rng(0)
    folder = root / HOUR
    folder.mkdir(parents=True)
    for start in range(0, events, RECORDS_PER_FILE):
        rows_ND = known_ND[rng.integers(len(known_ND), size=min(RECORDS_PER_FILE, events - start))]
        rows_ND[:, 2] += rng.integers(0, 100_000, len(rows_ND))
        table = pl.DataFrame(rows_ND, schema=[f"column_{d}" for d in range(rows_ND.shape[1])])
        rows = zip(rows_ND.tolist(), model.predict(table)[:, 0].tolist(), strict=True)
        with (folder / f"{start // RECORDS_PER_FILE:02}-00-000-{start:08x}.jsonl").open("w") as file:
            file.writelines(_event(start + n, *row) for n, row in enumerate(rows))


def _event(number: int, row: list[int], score: float) -> str:
    """Return a line in the format of SageMaker's data capture."""
    seconds = number * 3599 // 1_000_000
    sides = {"endpointInput": ("INPUT", {"features": row}), "endpointOutput": ("OUTPUT", {"score": score})}
    common = {"observedContentType": "application/jsonlines", "encoding": "JSON"}
    data = {side: common | {"mode": mode, "data": json.dumps(body) + "\n"} for side, (mode, body) in sides.items()}
    marks = {"eventId": f"{number:032x}", "inferenceTime": f"2026-01-05T09:{seconds // 60:02}:{seconds % 60:02}Z"}
    return json.dumps({"captureData": data, "eventMetadata": marks, "eventVersion": "0"}) + "\n"


def execution(root: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the seconds of an execution, the peak memory of all its processes together, and its verdict."""
    common = ["experiment=adult", f"paths.root={root}", f"paths.capture={root}", "shap.num_samples=100"]
    stage = ["stage=monitor", "stage.window=2026-01-05T09", "monitor.endpoint=adult", *overrides]
    start, peak = time.perf_counter(), 0.0
    process = subprocess.Popen(  # noqa: S603  this package
        [sys.executable, "-m", "runner", *common, *stage],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"ADULT_DIR": str(ADULT)},
        start_new_session=True,
    )
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(0.05)
    seconds, (output, _) = time.perf_counter() - start, process.communicate()
    if process.returncode not in {0, 3}:
        raise SystemExit(output)
    (path,) = (root / "monitor").rglob("2026/01/05/10/manifest.json")
    manifest = json.loads(path.read_text())
    counts = manifest["counts"]
    return {
        "explained": counts["sample"] or counts["records"],
        "seconds": seconds,
        "timings": manifest["timings"],
        "detect_share": manifest["timings"]["detect"] / seconds,
        "peak_mib": peak,
        "status": manifest["status"],
        "headline": manifest["headline"],
    }


def _resident(session: int) -> float:
    """Return the resident memory of the processes of a session in MiB."""
    pages = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                pages += int(fields[21])
    return pages * resource.getpagesize() / 2**20


def measured(events: list[int]) -> Iterator[dict[str, Any]]:
    """Yield one row per number of events and method, then the exponents of growth."""
    seconds: dict[str, list[float]] = {}
    for count in events:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            capture(root, count)
            baseline = ["stage=baseline", "experiment=adult", f"paths.root={root}", "shap.num_samples=100"]
            command = [sys.executable, "-m", "runner", *baseline]
            subprocess.run(  # noqa: S603  this package
                command, cwd=CHECKOUT, check=True, capture_output=True, env=os.environ | {"ADULT_DIR": str(ADULT)}
            )
            for method, overrides in METHODS.items():
                row = {"events": count, "method": method, **execution(root, overrides)}
                seconds.setdefault(method, []).append(row["seconds"])
                yield row
    for method, taken in seconds.items():
        if len(taken) > 1:
            exponent = float(np.polyfit(np.log(events), np.log(taken), 1)[0])
            yield {"method": method, "growth_exponent": exponent}


def main() -> None:
    """Print a table, or JSON lines with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--events", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    for row in measured(arguments.events):
        print(json.dumps(row) if arguments.json else _line(row), flush=True)


def _line(row: dict[str, Any]) -> str:
    if "growth_exponent" in row:
        return f"{row['method']:28} grows with exponent {row['growth_exponent']:.2f}"
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in row["timings"].items())
    start = f"{row['method']:28}{row['events']:>10}{row['explained']:>10} explained{row['seconds']:>8.1f} s"
    verdict = f"{row['status']}, {row['headline']}"
    return f"{start}{row['peak_mib']:>7.0f} MiB  {verdict} ({steps}; detect {row['detect_share']:.0%})"


if __name__ == "__main__":
    main()
