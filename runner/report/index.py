"""What the page over all executions of a monitor receives: what each said, newest first, and where its report is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.report.context import state
from runner.report.health import State
from runner.results.directory import MANIFEST, REPORT
from runner.results.history import history_point
from runner.results.manifest_file import read_document

MOST = 1_000
"""Executions that the page lists, the newest."""


def page(folder: Path, directories: Sequence[Path]) -> dict[str, Any]:
    """Return the template's context: a row for each directory, in their order.

    Args:
        folder: of the monitor; links are relative to it.
        directories: of its executions, the newest first.
    """
    rows = [_row(folder, directory) for directory in directories]
    return {
        "monitor": folder.name,
        "endpoint": folder.parent.name,
        "rows": rows,
        "latest": rows[0] if rows else None,
        "most": MOST,
        "points": [row["point"] for row in rows[::-1] if row["point"]],
    }


def _row(folder: Path, directory: Path) -> dict[str, Any]:
    """Return what an execution said; one whose manifest is damaged says that."""
    link = directory.relative_to(folder).as_posix()
    report = f"{link}/{REPORT}" if (directory / REPORT).is_file() else ""
    try:
        manifest = read_document(directory)
        if manifest is None:
            raise ValueError(f"{MANIFEST} is no JSON object")
        return {"directory": link, "report": report, **_told(manifest)}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        problem = str(error) if MANIFEST in str(error) else f"{MANIFEST} is damaged"
        damaged = {"headline": "Not readable", "state": State.WARNING, "status": "unknown", "sentence": f"{problem}."}
        nothing = dict.fromkeys(("window", "level", "ndcg_text", "moved_text"), "")
        return {"directory": link, "report": report, "point": None, **damaged, **nothing}


def _told(manifest: dict[str, Any]) -> dict[str, Any]:
    sentence, told = manifest["sentence"], history_point(manifest)
    return {
        "headline": manifest["headline"],
        "state": state(manifest["headline"]),
        "status": manifest["status"],
        "sentence": sentence[:1].upper() + sentence[1:],
        "window": str(manifest["window"]["text"]),
        "level": str(manifest.get("level") or "").replace("_", " "),
        "ndcg_text": "" if told.ndcg is None else f"{told.ndcg:.4f}",
        "moved_text": "" if told.attribution_shift is None else f"{told.attribution_shift:.1%}",
        "point": asdict(told),
    }
