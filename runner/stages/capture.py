"""Shows what a window of captures holds, as the notebook's "view captured data" does, and saves it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from runner import storage
from runner.documents import dump
from runner.domain import Captured, Outcome, Window, plural
from runner.protocols import Track
from runner.sources import CaptureTree


@dataclass(frozen=True)
class Capture:
    """Inspects the captures of an endpoint.

    Attributes:
        tree: where they are.
        target: the folder that gets one JSON document per inspected window.
    """

    tree: CaptureTree
    target: Path
    track: Track

    def run(self, window: Window) -> Outcome:
        """Return the listing as text, saved as JSON too.

        Raises:
            NoData: when no event was captured in the window.
            NothingUsable: when every record was rejected.
        """
        captured = self.tree.read(window, self.track)
        found = contents(captured)
        path = self.target / f"{window.start:%Y-%m-%dT%H%M}--{window.end:%Y-%m-%dT%H%M}.json"
        storage.write(path, dump(found))
        self.tree.check(captured)
        return Outcome(f"{describe(found)}\n  saved in {path}")


def contents(captured: Captured) -> dict[str, Any]:
    """Return what a window holds as a JSON document."""
    per_hour = Counter(file.rpartition("/")[0] for file in captured.files)
    features, keys, scores_NL = captured.records.features, captured.records.keys, captured.records.scores_NL
    return {
        "window": {"start": f"{captured.window.start:%FT%TZ}", "end": f"{captured.window.end:%FT%TZ}"},
        "files": list(captured.files),
        "files_per_hour": dict(per_hour),
        "events": captured.events,
        "records": len(captured.records),
        "rejected": captured.rejected,
        "rejections": [str(rejection) for rejection in captured.examples],
        "types": {name: str(dtype) for name, dtype in features.schema.items()},
        "example": None
        if features.is_empty()
        else {
            "file": f"{keys['file'][0]}:{keys['line'][0]}",
            "event_id": keys["event_id"][0],
            "inference_id": keys["inference_id"][0],
            "at": f"{keys['at'][0]:%FT%TZ}",
            "features": features.row(0, named=True),
            "scores": None if scores_NL is None or not np.isfinite(scores_NL[0]).all() else scores_NL[0].tolist(),
        },
    }


def describe(found: dict[str, Any]) -> str:
    """Return the contents of a window as text for a terminal."""
    lines = [f"{found['window']['start']} to {found['window']['end']}"]
    lines += [f"  {folder}: {plural(count, 'file')}" for folder, count in found["files_per_hour"].items()]
    lines.append(f"  {plural(found['events'], 'event')}, {plural(found['records'], 'record')}")
    lines.append(f"  rejected: {', '.join(f'{kind} {count}' for kind, count in found['rejected'].items()) or 'none'}")
    lines += [f"    {rejection}" for rejection in found["rejections"]]
    if found["example"]:
        lines.append(f"  types: {', '.join(f'{name} {dtype}' for name, dtype in found['types'].items())}")
        lines.append(f"  example: {orjson.dumps(found['example']).decode()}")
    return "\n".join(lines)
