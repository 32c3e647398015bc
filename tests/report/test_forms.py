"""The PDF and the notebook: the same figures as the page's, accessible, small, and the same bytes every time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from runner.domain.attributions import GlobalAttributions
from runner.errors import NO_DATA
from tests.golden import Golden
from tests.report.samples import HOSTILE, attributions, failed, manifest, points, stored, whole, written
from tests.report.visible import parts, visible

FORMS = ("report.html", "report.pdf", "report.ipynb")
NAMES = [f"feature {i}" for i in range(12)]
RUN = """
import json, sys
for cell in json.load(open("report.ipynb", encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        source = "".join(cell["source"])
        print("\\0" + cell["id"])
        exec(source, globals())
        last = source.splitlines()[-1]
        if last.startswith("Chart("):
            print(json.dumps(eval(last)._repr_mimebundle_(), ensure_ascii=False))
"""


def judged(names: list[str]) -> dict[str, bytes]:
    """Return the files of an execution that was compared."""
    live, reference = attributions(names), attributions(names, 1)
    return stored(manifest(), live, reference, whole(live, reference), points(12))


def figures(page: str) -> set[str]:
    """Return the figures in the tables of a page, with which nothing else stands in a cell."""
    return set(re.findall(r"<td>([-+]?\d[\d.e%-]*)</td>", page))


def poppler(*command: str | Path) -> str:
    """Return what a program of poppler-utils says."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"no {command[0]} on the PATH; install poppler-utils")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def texted(pdf: Path) -> str:
    """Return the text of a PDF."""
    return poppler("pdftotext", "-layout", pdf, "-")


def executed(folder: Path) -> dict[str, str]:
    """Return what the code cells of a notebook print, run in a process of their own without jupyter."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(part.split("\n", 1) for part in done.stdout.split("\0")[1:])


def test_the_pdf_has_the_figures_of_the_page(tmp_path: Path) -> None:
    """Verdict, effects, attributions and tests: whatever stands in a table of the page."""
    folder = written(tmp_path, judged(NAMES))
    text, shown = texted(folder / "report.pdf"), figures((folder / "report.html").read_text())
    assert len(shown) > 150
    assert {each for each in shown if each not in text} == set()
    order = re.findall(r"^<h2>(.*)</h2>$", (folder / "report.html").read_text(), re.MULTILINE)
    places = [re.search(rf"^\f?{heading}", text, re.MULTILINE).start() for heading in order]  # type: ignore[union-attr]
    assert places == sorted(places)
    assert re.search(r"nDCG 0\.8000\D+0\.9\b", text)


@pytest.mark.parametrize("names", [NAMES, ["one"], HOSTILE], ids=["usual", "one", "hostile"])
def test_the_notebook_prints_what_it_stores(tmp_path: Path, names: list[str]) -> None:
    """Its cells read the documents beside it and give out, to the letter, what is stored; it is a valid notebook."""
    folder = written(tmp_path, judged(names))
    notebook = json.loads((folder / "report.ipynb").read_text())
    nbformat.validate(notebook)
    printed = executed(folder)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                assert printed[cell["id"]] == "".join(output["text"])
            else:
                (bundle,) = json.loads(printed[cell["id"]]).items()
                assert output["data"][bundle[0]] == bundle[1]
    page = (folder / "report.html").read_text()
    told = "".join(printed.values())
    assert {each for each in figures(page) if each not in told} == set()
    markdown = [cell["id"] for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    charts = ["quadrant", "timeline", "slope", "histograms"]
    about = [f"about-{name}" for name in ["top-changes", *charts, "labels", "segments"]]
    assert markdown == ["verdict-in-words", "health", *about, "appendix"]
    assert [cell["id"] for cell in notebook["cells"] if cell["source"][-1].startswith("Chart(")] == charts


def test_documents_that_change_are_read_again(tmp_path: Path) -> None:
    """The notebook really reads: another manifest gives another verdict."""
    folder = written(tmp_path, judged(NAMES))
    other = {**manifest(), "headline": "Another", "sentence": "changed."}
    (folder / "manifest.json").write_text(json.dumps(other))
    assert executed(folder)["verdict"].split()[:2] == ["Another.", "Changed."]


def test_a_baselining_has_all_forms(tmp_path: Path, golden: Golden) -> None:
    """There is nothing to compare with: a feature has rank, attribution and share, and nothing that moved."""
    told = {**manifest(stage="baseline", headline="Reference"), "verdict": {}}
    folder = written(tmp_path, stored(told, attributions(NAMES)))
    printed = executed(folder)
    assert {len(re.split("  +", line.strip())) for line in printed["labels"].splitlines()} == {1, 4}
    assert set(printed) >= {"attributions-0", "attributions-1"}
    golden("\n".join(printed["labels"].splitlines()[:3]))
    assert re.findall(r"[-+]\d+\.\d%", texted(folder / "report.pdf")) == []


def test_a_failure_has_all_forms(tmp_path: Path) -> None:
    """Each has the headline and the reason of the manifest; there is nothing to draw."""
    folder = written(tmp_path, stored(failed()))
    assert executed(folder)["verdict"] == f"{failed()['headline']}. {NO_DATA}\n"
    assert NO_DATA in texted(folder / "report.pdf")
    nbformat.validate(json.loads((folder / "report.ipynb").read_text()))


def test_the_same_documents_give_the_same_bytes() -> None:
    """No form holds a date or anything random."""
    first, second = judged(NAMES), judged(NAMES)
    assert first == second


def test_the_pdf_is_accessible_and_brings_its_faces(tmp_path: Path) -> None:
    """It says PDF/UA-1, its tables and pictures are tagged, and it uses no face of this machine, in charts neither."""
    folder = written(tmp_path, judged(NAMES))
    assert b"pdfuaid:part" in (folder / "report.pdf").read_bytes()
    tags = poppler("pdfinfo", "-struct", folder / "report.pdf")
    assert re.findall(r"^ *(H1|Figure|TH)", tags, re.MULTILINE)[0] == "H1"
    assert tags.count("Figure") >= 4
    _, _, *faces = poppler("pdffonts", folder / "report.pdf").splitlines()
    assert {re.split("[+-]", face)[1] for face in faces} == {"LibertinusSerif"}


@pytest.mark.parametrize(
    "names", [["one"], [f"feature {i}" for i in range(1000)], HOSTILE], ids=["one", "thousand", "hostile"]
)
def test_reports_are_small(names: list[str]) -> None:
    """A page of at most 1 MB, a PDF of 300 KB."""
    files = judged(names)
    assert len(files["report.html"]) < 1_000_000
    assert len(files["report.pdf"]) < 300_000
    assert all(files[form] for form in FORMS)


def test_a_hundred_labels_stay_small(tmp_path: Path) -> None:
    """Each has its table, the first ones their charts; the PDF has the first three and counts the others."""
    labels = tuple(f"label {i}" for i in range(100))
    values_DL = np.random.default_rng(0).random((14, 100))
    live = GlobalAttributions(tuple(f"feature {i}" for i in range(14)), labels, values_DL, np.zeros(100))
    folder = written(tmp_path, stored({**manifest(), "verdict": {}}, live))
    page = (folder / "report.html").read_text()
    assert (page.count("<svg"), page.count("<summary>label")) == (6, 100)
    assert len(page) < 1_000_000
    assert (folder / "report.pdf").stat().st_size < 300_000
    assert re.search(r"label 99\b.*\b0$", executed(folder)["labels"], re.MULTILINE)
    assert re.search(r"^\s*97 \w", texted(folder / "report.pdf"), re.MULTILINE)


def test_many_features_of_many_labels_stay_small(golden: Golden) -> None:
    """A thousand features of twelve labels: the rows of all together are bounded, and what is left out is counted."""
    judged = {**manifest(), "verdict": {}}
    names, labels = tuple(f"feature {i}" for i in range(1000)), tuple(f"label {i}" for i in range(12))
    live, reference = (
        GlobalAttributions(names, labels, np.random.default_rng(seed).random((1000, 12)), np.zeros(12))
        for seed in (0, 1)
    )
    documents = stored(judged, live, reference, whole(live, reference), points(48))
    assert len(documents["report.html"]) < 1_000_000
    assert len(documents["report.pdf"]) < 300_000
    counted = [visible(part) for part in parts(documents["report.html"].decode(), "quiet") if part.startswith("834 ")]
    assert len(counted) == len(labels)
    golden(counted[0])
