"""Charts: Vega-Lite specifications with the data filled in, rendered to SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.errors import ReportError

CLIP = re.compile(r'((?:id|clip-path)="(?:url\(#)?)clip(\d+)')
LONGEST_NAME = 48
PRINTED = "Libertinus Serif, Liberation Sans, sans-serif"
"""The face that is embedded in the PDF; where it is not known, what is wider stands for it in the layout."""


def bars(features: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the data of a chart of the global attributions of the `most` largest features, reference beside live.

    Args:
        features: rows with `name`, `now` and, where there is a reference, `before`.
        most: the rest is left out.
    """
    compared = (
        [("reference", "before"), ("live", "now")] if features and "before" in features[0] else [("reference", "now")]
    )
    largest = sorted(features, key=lambda row: -max(abs(row[key]) for _, key in compared))[:most]
    kept = {row["name"] for row in largest}
    return [
        {"feature": _short(row["name"], place), "side": side, "value": row[key]}
        for place, row in enumerate(features, 1)
        if row["name"] in kept
        for side, key in compared
    ]


def _short(name: str, place: int) -> str:
    """Return as much of a name as a chart has room for; its place in the table tells it from others."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}… ({place})"


def filled(specification: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a specification with its data."""
    return {**specification, "data": {"values": list(values)}}


def printed(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification in the face of the PDF."""
    return {**specification, "config": {**specification.get("config", {}), "font": PRINTED}}


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
