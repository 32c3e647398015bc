"""Serving a model, compared with a Starlette app with a constant response: same uvicorn, same requests, same run.

    python -m benchmarks.serve [--json] [--seconds 5] [--rounds 3]

Requests contain single records of the notebook's shape (14 integers; without its files, 10 numbers of the quickstart),
and come over 64 connections from another process. Prints requests per second, the ratio to the constant app (the
ceiling), and latencies. Fails unless each answered request is in the capture files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

ENDPOINT = "churn"
PATH = f"/endpoints/{ENDPOINT}/invocations"
ADULT = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
DEMO = Path(__file__).parents[1] / "runner" / "demo"
MODEL, TRAFFIC = (
    (ADULT / "ll-adult-prediction-model.tar.gz", ADULT / "test-dataset.jsonl")
    if ADULT.is_dir()
    else (DEMO / "model.tar.gz", DEMO / "traffic.jsonl")
)
SERVERS = ("bare Starlette, a constant", "shapwatch", "shapwatch, capture")


def serve_constant() -> None:
    """Serve an app that reads a request and returns a constant response."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from runner.serving.server import Server, listen

    async def answer(request: Request) -> Response:
        await request.body()
        return Response('{"predicted_label":1,"score":0.989977359771728}\n', media_type="application/jsonlines")

    app = Starlette(routes=[Route("/endpoints/{name}/invocations", answer, methods=["POST"])])
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        Server(app, lambda: print(f"serving at http://127.0.0.1:{port}/", flush=True)).run([listening])


def serve_model(root: str | None) -> None:
    """Serve the model like `stage=serve`, with capture below `root` unless it is None."""
    from runner.models.linear_learner import LinearLearner
    from runner.records.fields import Fields
    from runner.serving.data_capture import DataCapture
    from runner.stages.serve import Serve, ServeStage

    capture = root and partial(
        DataCapture, root=root, json_content_types=["application/json", "application/jsonlines"], min_free_bytes=0
    )
    outcome = Serve(
        ServeStage("serve", "127.0.0.1", 0, "SHAPWATCH_TOKEN", attached=False),
        model=LinearLearner(kind="linear_learner", artifact=MODEL, label_headers=None, deploy=None),
        fields=Fields("features", "score"),
        endpoint=ENDPOINT,
        variant="AllTraffic",
        token=None,
        capture=capture or None,
    ).run()
    print(outcome.message)


def serve(server: str, root: str) -> None:
    """Serve one of the apps until SIGTERM."""
    if server == SERVERS[0]:
        serve_constant()
    else:
        serve_model(root if server == SERVERS[2] else None)


def measure(server: str, seconds: float) -> dict[str, Any]:
    """Return the results of a load test after a check that no event was lost."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "benchmarks.serve", "--serve", server, "--root", root]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
            assert process.stdout is not None
            try:
                port = process.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0]
                load = [sys.executable, "-m", "benchmarks.load", port, PATH, str(seconds)]
                with TRAFFIC.open() as bodies:
                    done = subprocess.run(load, stdin=bodies, capture_output=True, text=True, check=True)  # noqa: S603
            finally:
                process.terminate()
            said = process.stdout.read().strip()
        row: dict[str, Any] = {"server": server, **json.loads(done.stdout)}
        if server != SERVERS[0]:
            check_nothing_lost(row, said, Path(root))
    return row


def check_nothing_lost(row: dict[str, Any], said: str, root: Path) -> None:
    """Fail unless the server counted every response, and captured it if capture is on."""
    expected = f"answered {row['answered']:,} requests"
    if row["server"] == SERVERS[2]:
        row["captured"] = sum(path.read_bytes().count(b"\n") for path in root.rglob("*.jsonl"))
        expected += f", captured {row['answered']:,}, dropped 0"
        if row["captured"] != row["answered"]:
            sys.exit(f"events were lost: {row['answered']} answered, {row['captured']} in the capture files")
    if said != expected:
        sys.exit(f"the server said {said!r}, expected {expected!r}")


def compare(seconds: float, rounds: int) -> list[dict[str, Any]]:
    """Return one row per server with medians and the best rate; servers alternate, so that noise affects all."""
    found: dict[str, list[dict[str, Any]]] = {server: [] for server in SERVERS}
    for _ in range(rounds):
        for server in SERVERS:
            found[server].append(measure(server, seconds))
    rows = [
        {
            "server": server,
            **{key: statistics.median(run[key] for run in runs) for key in ("per_second", "p50_ms", "p99_ms")},
            "best_per_second": max(run["per_second"] for run in runs),
            "answered": sum(run["answered"] for run in runs),
            "captured": sum(run.get("captured", 0) for run in runs),
        }
        for server, runs in found.items()
    ]
    for row in rows:
        row["of_ceiling"] = row["per_second"] / rows[0]["per_second"]
    return rows


def main() -> None:
    """Print the comparison as a table, or as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--seconds", type=float, default=5, help="seconds of load per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="rounds with one measurement per server")
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.root)
        return
    rows = compare(arguments.seconds, arguments.rounds)
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return
    print(f"{'server':28}{'per second':>12}{'best':>9}{'of ceiling':>12}{'p50 ms':>9}{'p99 ms':>9}{'captured':>11}")
    for row in rows:
        print(
            f"{row['server']:28}{row['per_second']:>12,.0f}{row['best_per_second']:>9,.0f}{row['of_ceiling']:>12.0%}"
            f"{row['p50_ms']:>9.1f}{row['p99_ms']:>9.1f}{row['captured']:>11,}"
        )


if __name__ == "__main__":
    main()
