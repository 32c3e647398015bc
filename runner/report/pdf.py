"""The report as PDF: a typst document with the same strings as the page."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.errors import ReportError
from runner.report.context import Page

ACCESSIBLE = "ua-1"
"""PDF/UA-1, the standard of accessible PDF."""
MISSING_GLYPH = "could not be displayed with"
"""Part of typst's message about a character that no font contains; PDF/UA forbids it."""


def compile_template(template: Path, page: Page) -> bytes:
    """Return the PDF of a typst template, which receives the page as JSON, never as source.

    The PDF conforms to PDF/UA-1 with typst's embedded fonts. Names with other characters use fonts of the machine. If
    these lack a character too, a box is shown, and the PDF is tagged but does not claim conformance.

    Raises:
        ReportError: if the template cannot be compiled, with file and line.
    """
    import typst

    sys_inputs = {"page": json.dumps(asdict(page), ensure_ascii=False)}

    def attempt(embedded_only: bool, standards: list[Any]) -> bytes:
        document = typst.compile(
            template,
            root=template.parent,
            ignore_system_fonts=embedded_only,
            format="pdf",
            sys_inputs=sys_inputs,
            pdf_standards=standards,
            timestamp=0,
        )
        assert isinstance(document, bytes)  # noqa: S101  a PDF is one file
        return document

    problem: typst.TypstError | None = None
    for embedded_only, standards in ((True, [ACCESSIBLE]), (False, [ACCESSIBLE]), (True, [])):
        try:
            return attempt(embedded_only, standards)
        except typst.TypstError as error:
            problem = error
            if MISSING_GLYPH not in error.diagnostic:
                break
    assert problem is not None  # noqa: S101  otherwise an attempt has returned
    source = re.search(r"┌─ .*?([^/\s]+):(\d+):\d+", problem.diagnostic)
    where = f"{template.with_name(source[1])}:{source[2]}" if source else str(template)
    raise ReportError(where, " ".join([problem.message, *problem.hints])) from problem
