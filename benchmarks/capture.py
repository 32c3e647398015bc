"""Reading captures, compared with DuckDB's JSON reader and a json + jmespath loop on the same file in the same run.

    python -m benchmarks.capture [--json] [--events 500000] [--repeat 5] [--no-peers]

Generates events of the notebook's shape (14 integer features, one score). Prints events per second, the ratio to the
slowest method, and peak memory; each method runs in a separate process. All methods produce a table of event id,
inference id, time, one column per feature, and score; shapwatch, and DuckDB where stated, also the line number of each
record. `--no-peers` measures shapwatch only, for large files.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.domain.executions import Window

FEATURES = 14
WINDOW = Window.parse("2023-01-19T05")
LIMITS = (90, 9, 1_500_000, 16, 17, 7, 15, 6, 5, 2, 100_000, 4_400, 100, 42)
"""Upper bound of each feature, exclusive."""


def generate(path: Path, events: int) -> None:
    """Write a capture file with reproducible events."""
    rng = random.Random(0)  # noqa: S311  test data
    with path.open("w") as file:
        for i in range(events):
            file.write(_event(rng, i, events))


def _event(rng: random.Random, i: int, events: int) -> str:
    features = json.dumps({"features": [int(limit * rng.random()) for limit in LIMITS]}, separators=(",", ":"))
    score = rng.random()
    reply = f'{{"predicted_label":{int(score >= 0.463)},"score":{score:.15f}}}\n'
    sides = {"endpointInput": ("INPUT", features), "endpointOutput": ("OUTPUT", reply)}
    second = 3600 * i // events
    document = {
        "captureData": {
            side: {"observedContentType": "application/jsonlines", "mode": mode, "data": data, "encoding": "JSON"}
            for side, (mode, data) in sides.items()
        },
        "eventMetadata": {
            "eventId": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "inferenceId": str(i % 334),
            "inferenceTime": f"2023-01-19T05:{second // 60:02d}:{second % 60:02d}Z",
        },
        "eventVersion": "0",
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def shapwatch(path: Path) -> int:
    """Return the number of records of shapwatch's reader."""
    from runner.records.fields import Fields
    from runner.sources.endpoint import CaptureFile
    from runner.sources.source import RecordCollector

    fields = Fields("features", "score")
    with RecordCollector(fields) as intake:
        CaptureFile(path, path.name, fields, WINDOW).read(intake)
        return intake.captured([path.name]).records


def duckdb(path: Path, line: str = "") -> int:
    """Return the number of records of DuckDB; lines that are not JSON are skipped."""
    import duckdb

    columns = ", ".join(f"features[{d + 1}] AS feature{d}" for d in range(FEATURES))
    side = "STRUCT(data VARCHAR, encoding VARCHAR)"
    with duckdb.connect() as connection:
        connection.execute(
            f"""
            CREATE TABLE records AS
            SELECT * EXCLUDE features, {columns}
            FROM (
                SELECT {line} eventMetadata.eventId AS event_id,
                       eventMetadata.inferenceId AS inference_id,
                       eventMetadata.inferenceTime::TIMESTAMP AS moment,
                       from_json(captureData.endpointInput.data, '{{"features": ["BIGINT"]}}').features AS features,
                       from_json(captureData.endpointOutput.data, '{{"score": "DOUBLE"}}').score AS score
                FROM read_json(?, format = 'newline_delimited', ignore_errors = true, columns = {{
                    captureData: 'STRUCT(endpointInput {side}, endpointOutput {side})',
                    eventMetadata: 'STRUCT(eventId VARCHAR, inferenceId VARCHAR, inferenceTime VARCHAR)'}})
                WHERE captureData.endpointInput.encoding = 'JSON'
            )
            WHERE moment >= TIMESTAMP '{WINDOW.start:%F %T}' AND moment < TIMESTAMP '{WINDOW.end:%F %T}'
            """,  # noqa: S608  contains constants only
            [str(path)],
        )
        (count,) = connection.execute("SELECT count(*) FROM records").fetchall()[0]
    return int(count)


def loop(path: Path) -> int:
    """Return the number of records of a simple loop: json and jmespath, line by line."""
    from datetime import datetime

    import jmespath
    import polars as pl

    features, score = jmespath.compile("features"), jmespath.compile("score")
    rows: list[tuple[Any, ...]] = []
    with path.open() as file:
        for line in file:
            event = json.loads(line)
            metadata, sides = event["eventMetadata"], event["captureData"]
            at = datetime.fromisoformat(metadata["inferenceTime"])
            if at in WINDOW:
                found = features.search(json.loads(sides["endpointInput"]["data"]))
                answer = score.search(json.loads(sides["endpointOutput"]["data"]))
                rows.append((metadata["eventId"], metadata["inferenceId"], at, *found, answer))
    return pl.DataFrame(rows, orient="row").height


def duckdb_lines(path: Path) -> int:
    """Return the same, with the line number of each record."""
    return duckdb(path, "row_number() OVER () AS line,")


METHODS: dict[str, Callable[[Path], int]] = {
    "json + jmespath loop": loop,
    "DuckDB": duckdb,
    "DuckDB, line numbers": duckdb_lines,
    "shapwatch": shapwatch,
}


def measure(method: str, path: Path, repeat: int) -> dict[str, Any]:
    """Return the median seconds of several runs in this process, and the peak memory."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        records = METHODS[method](path)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"method": method, "records": records, "seconds": statistics.median(seconds), "peak_gib": peak}


def compare(path: Path, methods: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return one row per method; methods alternate, so that noise affects all of them."""
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for _ in range(rounds):
        for method in methods:
            command = [sys.executable, "-m", "benchmarks.capture", "--measure", method, "--file", str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
            found[method].append(json.loads(done.stdout))
    rows = [
        {
            **runs[0],
            "seconds": statistics.median(run["seconds"] for run in runs),
            "peak_gib": max(run["peak_gib"] for run in runs),
        }
        for runs in found.values()
    ]
    slowest = max(row["seconds"] for row in rows)
    for row in rows:
        row |= {"per_second": row["records"] / row["seconds"], "times_faster": slowest / row["seconds"]}
    return rows


def main() -> None:
    """Print the comparison as a table, or as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=5, help="rounds with one run per method")
    parser.add_argument("--no-peers", action="store_true", help="measure shapwatch only")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.file, 1 if "loop" in arguments.measure else 3)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "captures.jsonl"
        generate(path, arguments.events)
        methods = ["shapwatch"] if arguments.no_peers else list(METHODS)
        rows = compare(path, methods, arguments.repeat)
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{'method':24}{'events':>10}{'seconds':>9}{'per second':>12}{'faster':>9}{'peak GiB':>10}")
    for row in rows:
        print(
            f"{row['method']:24}{row['records']:>10,}{row['seconds']:>9.2f}{row['per_second']:>12,.0f}"
            f"{row['times_faster']:>8.1f}x{row['peak_gib']:>10.2f}"
        )


if __name__ == "__main__":
    main()
