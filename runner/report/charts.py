"""Charts: Vega-Lite specifications with the data filled in, rendered to SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import ReportError

CLIP = re.compile(r'((?:id|clip-path)="(?:url\(#)?)clip(\d+)')
FACE = re.compile(r'font-family="[^"]*"')
PRINTED = "Libertinus Serif"
"""The face that is embedded in the PDF; it is narrower than the one that charts are laid out in."""


def filled(specification: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a specification with its data."""
    return {**specification, "data": {"values": list(values)}}


def printed(svg: str) -> str:
    """Return a chart in the face of the PDF."""
    return FACE.sub(f'font-family="{PRINTED}"', svg)


def svg(specification: Mapping[str, Any], name: str, file: Path) -> str:
    """Return a specification as SVG; the renderer counts clips over the life of the process, here they start at 0.

    Args:
        specification: with its data.
        name: makes the identifiers inside the SVG unique on the page.
        file: where it comes from, for the error.

    Raises:
        ReportError: when it is no Vega-Lite.
    """
    import vl_convert

    try:
        drawn: str = vl_convert.vegalite_to_svg(dict(specification), allowed_base_urls=[])
    except ValueError as error:
        told = [line for line in str(error).splitlines() if line.strip()]
        raise ReportError(file, f"cannot be drawn: {' '.join(told[:2])}") from error
    numbers = {number: i for i, number in enumerate(dict.fromkeys(clip for _, clip in CLIP.findall(drawn)))}
    return CLIP.sub(lambda found: f"{found[1]}{name}-clip{numbers[found[2]]}", drawn)
