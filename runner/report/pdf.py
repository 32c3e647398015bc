"""The report as PDF: a typst document that reads the same strings as the page."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.errors import ReportError

ACCESSIBLE = "ua-1"
UNSHOWN = "could not be displayed with"
"""What typst says of a character that no face has; PDF/UA forbids it."""


def compiled(template: Path, page: Mapping[str, Any]) -> bytes:
    """Return the PDF of a typst template; the strings reach it as JSON, never as source.

    It is PDF/UA-1 in the faces that typst embeds. Where a name needs others, those of the machine are used; where they
    lack it too, a box stands for the character, and the PDF is tagged without claiming more.

    Raises:
        ReportError: naming the file and the line, when the template cannot be compiled.
    """
    import typst

    def attempt(bare: bool, standards: list[Any]) -> bytes:
        done = typst.compile(
            template,
            root=template.parent,
            ignore_system_fonts=bare,
            format="pdf",
            sys_inputs={"page": json.dumps(page, ensure_ascii=False)},
            pdf_standards=standards,
            timestamp=0,
        )
        assert isinstance(done, bytes)  # noqa: S101  a PDF is one file
        return done

    problem: typst.TypstError | None = None
    for bare, standards in ((True, [ACCESSIBLE]), (False, [ACCESSIBLE]), (True, [])):
        try:
            return attempt(bare, standards)
        except typst.TypstError as error:
            problem = error
            if UNSHOWN not in error.diagnostic:
                break
    assert problem is not None  # noqa: S101  or it would have returned
    place = re.search(r"┌─ .*?([^/\s]+):(\d+):\d+", problem.diagnostic)
    where = f"{template.with_name(place[1])}:{place[2]}" if place else str(template)
    raise ReportError(where, " ".join([problem.message, *problem.hints])) from problem
