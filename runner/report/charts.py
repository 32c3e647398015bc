"""Charts: Vega-Lite specifications with the data filled in, rendered to SVG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def attributions(specification: Path, features: Sequence[dict[str, Any]], most: int) -> str:
    """Return the SVG of the global attributions of the `most` largest features, reference beside live."""
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
    return _svg({**json.loads(specification.read_text("utf-8")), "data": {"values": values}})


def _svg(specification: dict[str, Any]) -> str:
    import vl_convert

    svg: str = vl_convert.vegalite_to_svg(specification, allowed_base_urls=[])
    return svg
