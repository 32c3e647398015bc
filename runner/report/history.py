"""What the page over all executions of a monitor receives: what each said, newest first, and where its report is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runner import executions
from runner.executions import MANIFEST, REPORT
from runner.report.context import STATES, WARNING

MOST = 1_000
"""Executions that the page lists, the newest."""
WORDS = {"good": "no drift", "warning": "look", "bad": "drift or failure"}
"""What the timeline calls a state."""


def page(folder: Path, directories: Sequence[Path]) -> dict[str, Any]:
    """Return the template's context: a row for each directory, in their order.

    Args:
        folder: of the monitor; links are relative to it.
        directories: of its executions, the newest first.
    """
    rows = [_row(folder, directory) for directory in directories]
    told = [row for row in rows if row["at"]]
    return {
        "monitor": folder.name,
        "endpoint": folder.parent.name,
        "rows": rows,
        "latest": rows[0] if rows else None,
        "most": MOST,
        "threshold": next((row["threshold"] for row in told if row["threshold"] is not None), None),
        "points": _points(told[::-1]),
    }


def _row(folder: Path, directory: Path) -> dict[str, Any]:
    """Return what an execution said; one whose manifest is damaged says that."""
    link = directory.relative_to(folder).as_posix()
    report = f"{link}/{REPORT}" if (directory / REPORT).is_file() else ""
    try:
        manifest = executions.read_manifest(directory)
        if manifest is None:
            raise ValueError(f"{MANIFEST} is no JSON object")
        return {"directory": link, "report": report, **_told(manifest)}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = str(error) if type(error) is ValueError else f"{MANIFEST} is damaged"
        damaged = {"headline": "Not readable", "state": WARNING, "status": "unknown", "sentence": f"{problem}."}
        nothing = dict.fromkeys(("window", "level", "ndcg_text", "moved_text"), "")
        return {"directory": link, "report": report, "at": "", "threshold": None, **damaged, **nothing}


def _told(manifest: dict[str, Any]) -> dict[str, Any]:
    window, verdict = manifest["window"], manifest.get("verdict", {})
    ndcg = min((label["ndcg"] for label in verdict.get("labels", []) if label["ndcg"] is not None), default=None)
    sentence = manifest["sentence"]
    moved = ((manifest.get("effects") or {}).get("share_moved") or {}).get("value")
    return {
        "headline": manifest["headline"],
        "state": STATES.get(manifest["headline"], WARNING),
        "status": manifest["status"],
        "sentence": sentence[:1].upper() + sentence[1:],
        "window": str(window["text"]),
        "start": str(window["start"]),
        "at": str(window["end"]),
        "level": str(manifest.get("level") or "").replace("_", " "),
        "threshold": verdict.get("threshold"),
        "ndcg": ndcg,
        "ndcg_text": "" if ndcg is None else f"{ndcg:.4f}",
        "moved": moved,
        "moved_text": "" if moved is None else f"{moved:.1%}",
    }


def _points(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the data of the timeline, oldest first: empty points where no execution looked, so that lines break."""
    points: list[dict[str, Any]] = []
    end = ""
    for row in rows:
        if end and row["start"] > end:
            points.append({"at": end, "ndcg": None, "moved": None, "threshold": None, "state": None})
        points.append({key: row[key] for key in ("at", "ndcg", "moved", "threshold")} | {"state": WORDS[row["state"]]})
        end = max(end, row["at"])
    return points
