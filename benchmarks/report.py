"""Page, PDF and notebook from their documents, compared with printing the page with Chromium.

    python -m benchmarks.report [--json] [--repeat 5]

Prints the median seconds for the three formats, the ratio to the seconds in which Chromium starts and prints the page,
and sizes; also for the page of a monitor with a thousand executions. Fails if a page is larger than 1 MB, a PDF is
larger than 300 KB, or the three formats take more than three seconds.
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
from typing import Any, NamedTuple

import numpy as np

from runner.domain.attributions import GlobalAttributions
from runner.report.index import MOST_EXECUTIONS
from runner.results.directory import MANIFEST, PDF, REPORT
from runner.results.documents import DriftDocument
from runner.results.manifest import Manifest
from runner.results.manifest_file import dump_manifest
from tests.report import samples

CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
SHAPES = {"14 features": (14, 1), "1,000 features": (1000, 1), "1,000 features of 12 labels": (1000, 12)}
MOST_BYTES, MOST_SECONDS = {REPORT: 1_000_000, PDF: 300_000}, 3.0


def median(call: Callable[[], object], repeat: int) -> float:
    """Return the median seconds of a call, after a warm-up call."""
    call()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


class Documents(NamedTuple):
    """Documents of an execution."""

    manifest: Manifest
    live: GlobalAttributions
    drift: DriftDocument


def documents(features: int, labels: int) -> Documents:
    """Return the documents of an execution with histograms, segments, canary and history."""
    names, labelled = tuple(f"feature {i}" for i in range(features)), tuple(f"label {i}" for i in range(labels))
    live, reference = (
        GlobalAttributions(names, labelled, np.random.default_rng(seed).random((features, labels)), np.zeros(labels))
        for seed in (0, 1)
    )
    drift = samples.drift_document(reference, samples.full_drift_result(live, reference), samples.history(48))
    return Documents(samples.manifest(verdict=samples.NO_RANKING), live, drift)


def printed(page: bytes, folder: Path) -> None:
    """Print a page with Chromium."""
    (folder / REPORT).write_bytes(page)
    command = [*CHROMIUM, f"--print-to-pdf={folder / PDF}", (folder / REPORT).as_uri()]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  a constant and temporary paths


def reports(folder: Path, repeat: int) -> Iterator[dict[str, Any]]:
    """Yield seconds and sizes of the reports of executions of several shapes."""
    for name, shape in SHAPES.items():
        execution = documents(*shape)
        files = samples.files(*execution)
        seconds = median(partial(samples.REPORT.render, *execution), repeat)
        peer = median(partial(printed, files[REPORT], folder), repeat) if shutil.which(CHROMIUM[0]) else None
        yield {
            "report": name,
            "seconds": round(seconds, 2),
            "of_chromium": None if peer is None else round(seconds / peer, 2),
            "html_kb": len(files[REPORT]) // 1000,
            "pdf_kb": len(files[PDF]) // 1000,
            "chromium_pdf_kb": None if peer is None else (folder / PDF).stat().st_size // 1000,
            "passed": seconds <= MOST_SECONDS and all(len(files[form]) <= most for form, most in MOST_BYTES.items()),
        }


def listing(folder: Path, repeat: int) -> Iterator[dict[str, Any]]:
    """Yield seconds and size of the page of a monitor."""
    for i in range(MOST_EXECUTIONS):
        at = folder / f"2026/{i // 644 + 1:02}/{i // 23 % 28 + 1:02}/{i % 23 + 1:02}"
        samples.write(at, {MANIFEST: dump_manifest(samples.EXECUTION)})
    seconds = median(lambda: samples.REPORT.index(folder), repeat)
    size = len(samples.REPORT.index(folder)) // 1000
    yield {"executions": MOST_EXECUTIONS, "seconds": round(seconds, 2), "html_kb": size}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    broken = False
    with tempfile.TemporaryDirectory() as folder:
        for table in (reports(Path(folder), arguments.repeat), listing(Path(folder) / "e/m", arguments.repeat)):
            for number, row in enumerate(table):
                broken |= row.get("passed") is False
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
