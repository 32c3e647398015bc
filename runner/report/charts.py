"""Charts: Vega-Lite specifications with the data filled in, rendered to SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CLIP = re.compile(r'((?:id|clip-path)="(?:url\(#)?)clip(\d+)')


def attributions(specification: Path, features: Sequence[dict[str, Any]], most: int, name: str) -> str:
    """Return the SVG of the global attributions of the `most` largest features, reference beside live.

    Args:
        specification: a Vega-Lite file.
        features: rows with `name`, `now` and, where there is a reference, `before`.
        most: the rest is left out.
        name: makes the identifiers inside the SVG unique on the page.
    """
    compared = (
        [("reference", "before"), ("live", "now")] if features and "before" in features[0] else [("reference", "now")]
    )
    largest = sorted(features, key=lambda row: -max(abs(row[key]) for _, key in compared))[:most]
    kept = {row["name"] for row in largest}
    values = [
        {"feature": row["name"], "side": side, "value": row[key]}
        for row in features
        if row["name"] in kept
        for side, key in compared
    ]
    return _svg({**json.loads(specification.read_text("utf-8")), "data": {"values": values}}, name)


def _svg(specification: dict[str, Any], name: str) -> str:
    """Return a specification as SVG; the renderer counts clips over the life of the process, here they start at 0."""
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    numbers = {number: i for i, number in enumerate(dict.fromkeys(clip for _, clip in CLIP.findall(svg)))}
    return CLIP.sub(lambda found: f"{found[1]}{name}-clip{numbers[found[2]]}", svg)
