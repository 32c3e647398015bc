"""What executions found, as the manifests in their directories say: read again only once they were replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.domain.drift import Level
from runner.results.directory import MANIFEST
from runner.results.manifest import Comparison
from runner.results.manifest_file import read_manifest

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
    """Return the findings in a manifest, or None if it is missing or damaged."""
    with suppress(ValueError):
        if manifest := read_manifest(Path(directory)):
            return _findings(manifest.comparison)
    return None


def _findings(comparison: Comparison | None) -> Found:
    if comparison is None:
        return Found(None, None, {})
    moved = comparison.effects.attribution_shift.value if comparison.effects else None
    ndcg = [(drift.ndcg, drift.label) for drift in comparison.verdict.drifts if drift.ndcg is not None]
    worst = sorted(ndcg, key=lambda pair: pair[0])[:MOST_LABELS]
    return Found(comparison.level, moved, {label: ndcg for ndcg, label in worst})
