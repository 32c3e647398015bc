"""The PDF: the figures of the page, accessible, with embedded fonts."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from runner.domain.attributions import GlobalAttributions
from runner.errors import NO_DATA
from tests.report.samples import BASELINE, FAILURE, attributions, files, full_report, write
from tests.report.visible import numbers

NAMES = [f"feature {i}" for i in range(12)]


def poppler(*command: str | Path) -> str:
    """Return the output of a program of poppler-utils."""
    if shutil.which(str(command[0])) is None:
        pytest.skip(f"{command[0]} is not installed: install poppler-utils")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pdf_text(path: Path) -> str:
    """Return the text of a PDF."""
    return poppler("pdftotext", "-layout", path, "-")


def test_the_pdf_contains_the_figures_of_the_page(tmp_path: Path) -> None:
    """All numbers in tables, and the headings in the same order."""
    folder = write(tmp_path, full_report(NAMES))
    page, text = (folder / "report.html").read_text(), pdf_text(folder / "report.pdf")
    assert len(numbers(page)) > 150
    assert {number for number in numbers(page) if number not in text} == set()
    headings = re.findall(r"^<h2>(.*)</h2>$", page, re.MULTILINE)
    positions = [re.search(rf"^\f?{heading}", text, re.MULTILINE).start() for heading in headings]  # type: ignore[union-attr]
    assert positions == sorted(positions)
    assert re.search(r"nDCG 0\.8000\D+0\.9\b", text)


def test_the_pdf_of_a_failure_has_the_reason(tmp_path: Path) -> None:
    """There are no charts."""
    assert NO_DATA in pdf_text(write(tmp_path, files(FAILURE)) / "report.pdf")


def test_the_pdf_of_a_reference_has_no_changes(tmp_path: Path) -> None:
    """There is no second analysis to compare with."""
    folder = write(tmp_path, files(BASELINE, attributions(NAMES)))
    assert re.findall(r"[-+]\d+\.\d%", pdf_text(folder / "report.pdf")) == []


def test_the_pdf_is_accessible_and_embeds_its_fonts(tmp_path: Path) -> None:
    """It claims PDF/UA-1, tables and images are tagged, and no font of this machine is used, also not in charts."""
    folder = write(tmp_path, full_report(NAMES))
    assert b"pdfuaid:part" in (folder / "report.pdf").read_bytes()
    tags = poppler("pdfinfo", "-struct", folder / "report.pdf")
    assert re.findall(r"^ *(H1|Figure|TH)", tags, re.MULTILINE)[0] == "H1"
    assert tags.count("Figure") >= 4
    _, _, *fonts = poppler("pdffonts", folder / "report.pdf").splitlines()
    assert {re.split("[+-]", font)[1] for font in fonts} == {"LibertinusSerif"}


def test_the_pdf_of_many_labels_is_small(tmp_path: Path) -> None:
    """It shows the first three labels and counts the others."""
    labels = tuple(f"label {i}" for i in range(100))
    values_DL = np.random.default_rng(0).random((14, 100))
    live = GlobalAttributions(tuple(f"feature {i}" for i in range(14)), labels, values_DL, np.zeros(100))
    folder = write(tmp_path, files(BASELINE, live))
    page = (folder / "report.html").read_text()
    assert (page.count("<svg"), page.count("<summary>label")) == (6, 100)
    assert len(page) < 1_000_000
    assert (folder / "report.pdf").stat().st_size < 300_000
    assert re.search(r"^\s*97 \w", pdf_text(folder / "report.pdf"), re.MULTILINE)
