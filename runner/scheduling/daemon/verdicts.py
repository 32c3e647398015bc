"""What executions found, as the manifests in their directories say: read again only once they were replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.domain.drift import Level
from runner.results import directories, history
from runner.results.directories import MANIFEST

MOST_LABELS = 10
"""Of an execution, the worst first: what is shown stays bounded, however many outputs a model has."""


@dataclass(frozen=True)
class Version:
    """A manifest in a directory, another one once it was replaced; all but the directory is 0 where it is gone."""

    directory: str
    inode: int = 0
    modified: int = 0
    size: int = 0


@dataclass(frozen=True)
class Found:
    """What an execution found.

    Attributes:
        level: None where the reference keeps no records.
        attribution_shift: of the label where most of the attention moved, in [0, 1].
        ndcg: of the labels that have one, the worst first.
    """

    level: Level | None
    attribution_shift: float | None
    ndcg: Mapping[str, float]


@dataclass
class Verdicts:
    """Reads what executions found, and remembers it as long as it is asked for."""

    _read: Mapping[Version, Found | None] = field(default_factory=dict)

    def of(self, directories: Iterable[str]) -> dict[str, Found]:
        """Return what the executions in directories found, without those whose manifest is gone or damaged."""
        before, versions = self._read, [_version(each) for each in directories]
        self._read = now = {each: before[each] if each in before else _found(each.directory) for each in versions}
        return {version.directory: found for version, found in now.items() if found}


def _version(directory: str) -> Version:
    with suppress(OSError):
        stat = (Path(directory) / MANIFEST).stat()
        return Version(directory, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return Version(directory)


def _found(directory: str) -> Found | None:
    """Return what a manifest says, None where it is damaged."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):
        if manifest := directories.read_manifest(Path(directory)):
            told = history.history_point(manifest)
            moved = None if told.attribution_shift is None else float(told.attribution_shift)
            return Found(told.level if manifest.get("level") else None, moved, _ndcg(manifest))
    return None


def _ndcg(manifest: Mapping[str, Any]) -> dict[str, float]:
    labels = (manifest.get("verdict") or {}).get("labels", [])
    found = [(float(each["ndcg"]), str(each["label"])) for each in labels if each["ndcg"] is not None]
    worst = sorted(found, key=lambda pair: pair[0])[:MOST_LABELS]
    return {label: ndcg for ndcg, label in worst}
