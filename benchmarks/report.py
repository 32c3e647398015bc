"""The three reports from their documents, against printing the page with Chromium; the same reports in both.

    python -m benchmarks.report [--json] [--repeat 5]

Prints the median seconds for all three reports, how many times that is in what Chromium, its start included, takes to
print the page alone, and sizes; and the page over a monitor's newest thousand executions. Fails when a page is
above 1 MB, a PDF above 300 KB, or three reports take more than three seconds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from runner.domain.attributions import GlobalAttributions
from runner.report import index
from runner.results.directory import ANALYSIS, DRIFT, MANIFEST, PDF, REPORT
from tests.report import samples

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
SHAPES = {"14 features": (14, 1), "1,000 features": (1000, 1), "1,000 features of 12 labels": (1000, 12)}
MOST_BYTES, MOST_SECONDS = {REPORT: 1_000_000, PDF: 300_000}, 3.0


def median(call: Callable[[], object], repeat: int) -> float:
    """Return the median seconds of a call, after one to warm up."""
    call()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def documents(features: int, labels: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest and all files of an execution with distributions, segments, canary and history."""
    names, labelled = tuple(f"feature {i}" for i in range(features)), tuple(f"label {i}" for i in range(labels))
    live, reference = (
        GlobalAttributions(names, labelled, np.random.default_rng(seed).random((features, labels)), np.zeros(labels))
        for seed in (0, 1)
    )
    told = {**samples.manifest(), "verdict": {}}
    return told, samples.stored(told, live, reference, samples.whole(live, reference), samples.points(48))


def printed(page: bytes, folder: Path) -> None:
    """Print a page with Chromium."""
    (folder / REPORT).write_bytes(page)
    command = [*CHROMIUM, f"--print-to-pdf={folder / PDF}", (folder / REPORT).as_uri()]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  a constant, and paths of our own


def reports(folder: Path, repeat: int) -> Iterator[dict[str, Any]]:
    """Yield what the reports of executions of several shapes take."""
    for name, shape in SHAPES.items():
        told, files = documents(*shape)
        seconds = median(partial(samples.REPORT.render, told, files[ANALYSIS], files[DRIFT]), repeat)
        peer = median(partial(printed, files[REPORT], folder), repeat) if shutil.which(CHROMIUM[0]) else None
        yield {
            "report": name,
            "seconds": round(seconds, 2),
            "of_chromium": None if peer is None else round(seconds / peer, 2),
            "html_kb": len(files[REPORT]) // 1000,
            "pdf_kb": len(files[PDF]) // 1000,
            "chromium_pdf_kb": None if peer is None else (folder / PDF).stat().st_size // 1000,
            "kept": seconds <= MOST_SECONDS and all(len(files[form]) <= most for form, most in MOST_BYTES.items()),
        }


def listing(folder: Path, repeat: int) -> Iterator[dict[str, Any]]:
    """Yield what the page over all executions of a monitor takes."""
    for i in range(index.MOST):
        at = folder / f"2026/{i // 644 + 1:02}/{i // 23 % 28 + 1:02}/{i % 23 + 1:02}"
        samples.written(at, {MANIFEST: orjson.dumps(samples.manifest())})
    seconds = median(lambda: samples.REPORT.index(folder), repeat)
    yield {"executions": index.MOST, "seconds": round(seconds, 2), "html_kb": len(samples.REPORT.index(folder)) // 1000}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object a row")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        for table in (reports(Path(folder), arguments.repeat), listing(Path(folder) / "e/m", arguments.repeat)):
            for number, row in enumerate(table):
                broken |= row.get("kept") is False
                if arguments.json:
                    print(json.dumps(row))
                    continue
                if not number:
                    print("\n" + "  ".join(f"{key:>28}" for key in row))
                print("  ".join(f"{value!s:>28}" for value in row.values()))
    if broken:
        raise SystemExit("a report is too large or too slow")


if __name__ == "__main__":
    main()
