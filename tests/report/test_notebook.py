"""The notebook: its cells read the documents and print their stored outputs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DetectableChange
from runner.domain.executions import Status
from runner.errors import NO_DATA
from runner.results.manifest_file import dump_manifest
from tests.golden import Golden
from tests.report.samples import BASELINE, EXECUTION, FAILURE, HOSTILE, attributions, files, full_report, history, write
from tests.report.visible import numbers

SKIPPED = replace(FAILURE, status=Status.COMPLETED, headline="No data", failure_reason=None)
NAMES = [f"feature {i}" for i in range(12)]
RUN = """
import json, sys
for cell in json.load(open("report.ipynb", encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        source = "".join(cell["source"])
        print("\\0" + cell["id"])
        exec(source, globals())
        last = source.splitlines()[-1]
        if last.startswith("Picture("):
            print(json.dumps(eval(last)._repr_mimebundle_(), ensure_ascii=False))
"""
"""Script that runs the code cells of a notebook without jupyter."""


def run_notebook(folder: Path) -> dict[str, str]:
    """Return the output of the code cells of a notebook by name, from another process."""
    process = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN], cwd=folder, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return dict(part.split("\n", 1) for part in process.stdout.split("\0")[1:])


@pytest.mark.parametrize("names", [NAMES, ["one"], HOSTILE], ids=["usual", "one", "hostile"])
def test_cells_print_their_stored_outputs(tmp_path: Path, names: list[str]) -> None:
    """The notebook is valid, contains the numbers of the page, and each chart has a heading."""
    folder = write(tmp_path, full_report(names))
    notebook = json.loads((folder / "report.ipynb").read_text())
    nbformat.validate(notebook)
    printed = run_notebook(folder)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                assert printed[cell["id"]] == "".join(output["text"])
            else:
                ((kind, chart),) = json.loads(printed[cell["id"]]).items()
                stored = output["data"][kind]
                assert ("".join(stored) if kind == "image/svg+xml" else stored) == chart
    page, text = (folder / "report.html").read_text(), "".join(printed.values())
    assert {number for number in numbers(page) if number not in text} == set()
    markdown = [cell["id"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    later = ["shares", "beeswarm", "dependence", "quadrant", "record", "timeline", "heat"]
    later = [name for name in later if name != "dependence" or len(names) > 1]
    shown = ["parity", "top-changes", "histograms", "inputs", "scores", *later, "segments", "segment-chart", "labels"]
    about = [f"about-{name}" for name in shown]
    assert markdown == ["verdict-in-words", "health", *about, "appendix"]
    assert [cell["id"] for cell in notebook["cells"] if cell["source"][-1].startswith("Picture(")] == [
        "parity",
        "histograms",
        "scores",
        *later,
        "segment-chart",
    ]


def test_cells_read_the_documents(tmp_path: Path) -> None:
    """Another manifest gives another verdict."""
    folder = write(tmp_path, full_report(NAMES))
    other = replace(EXECUTION, headline="Another", sentence="changed.")
    (folder / "manifest.json").write_bytes(dump_manifest(other))
    assert run_notebook(folder)["verdict"].split()[:2] == ["Another.", "Changed."]


def test_the_notebook_of_a_reference_has_no_comparison(tmp_path: Path, golden: Golden) -> None:
    """Features have a rank, an attribution and a share."""
    changes = DetectableChange(10, 1.0), DetectableChange(1000, 0.25)
    folder = write(tmp_path, files(replace(BASELINE, detectable=changes), attributions(NAMES)))
    printed = run_notebook(folder)
    assert [line.split() for line in printed["detectable-changes"].splitlines()[1:]] == [
        ["10", "100.0%"],
        ["1,000", "25.0%"],
    ]
    assert {len(re.split("  +", line.strip())) for line in printed["labels"].splitlines()} == {1, 4}
    assert set(printed) >= {"attributions-0", "attributions-1"}
    golden("\n".join(printed["labels"].splitlines()[:3]))


def test_the_notebook_of_a_failure_prints_the_reason(tmp_path: Path) -> None:
    """And the results of earlier executions, if there are any."""
    for document in (FAILURE, replace(FAILURE, history=history(5)), replace(SKIPPED, history=history(5))):
        folder = write(tmp_path, files(document))
        printed, notebook = run_notebook(folder), json.loads((folder / "report.ipynb").read_text())
        assert printed["verdict"] == f"{document.headline}. {NO_DATA}\n"
        assert ("windows" in printed) == (document.history is not None)
        for cell in notebook["cells"]:
            if cell["id"] == "windows":
                assert printed["windows"] == "".join(cell["outputs"][0]["text"])
    nbformat.validate(json.loads((folder / "report.ipynb").read_text()))


def test_the_notebook_of_many_labels_prints_all(tmp_path: Path) -> None:
    """Also of the hundredth label."""
    labels = tuple(f"label {i}" for i in range(100))
    values_DL = np.random.default_rng(0).random((14, 100))
    live = GlobalAttributions(tuple(f"feature {i}" for i in range(14)), labels, values_DL, np.zeros(100))
    folder = write(tmp_path, files(BASELINE, live))
    assert re.search(r"label 99\b.*\b0$", run_notebook(folder)["labels"], re.MULTILINE)
