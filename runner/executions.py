"""What an execution leaves behind: a directory that is there whole or not at all, with a manifest of its origin."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from runner.documents import dump
from runner.domain import Status, Window
from runner.errors import OccupiedTarget

MANIFEST = "manifest.json"
ANALYSIS = "analysis.json"
VIOLATIONS = "constraint_violations.json"
REPORT = "report.html"
SETTINGS = "settings.yaml"
REJECTED = "rejected.jsonl"
OURS = {MANIFEST, ANALYSIS, VIOLATIONS, REPORT, SETTINGS, REJECTED}


@dataclass(frozen=True)
class Provenance:
    """What does not depend on the data: the resolved settings, the versions at work, a clock in seconds."""

    settings: str
    versions: Mapping[str, str]
    clock: Callable[[], float]


@dataclass(frozen=True)
class Stopwatch:
    """Measures the steps of an execution, in seconds."""

    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        start = self.clock()
        yield
        self.seconds[name] = round(self.clock() - start, 4)


def directory(root: Path, endpoint: str, monitor: str, window: Window) -> Path:
    """Return where the execution over a window belongs: the folder of its scheduled hour."""
    return root / endpoint / monitor / f"{window.scheduled:%Y/%m/%d/%H}"


def claim(target: Path) -> None:
    """Make sure that a directory may be replaced: it is not there, or holds only what an execution writes.

    A directory that a killed writer had put aside comes back first.

    Raises:
        OccupiedTarget: when anything else would be lost.
    """
    if not target.exists():
        for old in sorted(target.parent.glob(f".{target.name}-*/old")):
            with suppress(OSError):
                old.rename(target)
    if target.is_file():
        raise OccupiedTarget(target, "a file")
    foreign = []
    with suppress(FileNotFoundError):
        foreign = sorted(entry.name for entry in target.iterdir() if entry.name not in OURS)
    if foreign:
        raise OccupiedTarget(target, ", ".join(foreign[:3]))


def commit(target: Path, files: Mapping[str, bytes | IO[bytes]]) -> None:
    """Put a directory with these files in place of whatever was there, whole.

    Everything is written to a hidden directory beside it first and reaches the disk before it is renamed into place.
    Of several writers at once the last one stays.

    Raises:
        OccupiedTarget: when something that no execution wrote would be lost.
    """
    claim(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        (new := aside / "new").mkdir()
        for name, data in files.items():
            with (new / name).open("wb") as file:
                shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, file)
                file.flush()
                os.fsync(file.fileno())
        _replace(target, new, aside)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _replace(target: Path, new: Path, aside: Path) -> None:
    """Rename a directory into place; the one that stood there goes aside, and comes back if the new one cannot."""
    old = aside / "old"
    while True:
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            new.rename(target)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                shutil.rmtree(old, ignore_errors=True)
                continue
            if old.exists():
                old.rename(target)
            raise
        return


def finished(target: Path) -> bool:
    """Return whether a directory holds an execution that did not fail, or one whose manifest cannot be read."""
    try:
        manifest = read_manifest(target)
    except ValueError:
        return True
    return manifest is not None and manifest.get("status") != Status.FAILED


def stored_window(target: Path) -> str | None:
    """Return the window of the execution in a directory, None where it does not say."""
    try:
        window = (read_manifest(target) or {}).get("window")
    except ValueError:
        return None
    return window.get("text") if isinstance(window, dict) else None


def read_manifest(target: Path) -> dict[str, Any] | None:
    """Return the manifest of a directory, or None where there is none.

    Raises:
        ValueError: when there is one that cannot be read.
    """
    try:
        manifest = orjson.loads((target / MANIFEST).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{MANIFEST} cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise ValueError(f"{MANIFEST} is not JSON ({error})") from error
    return manifest if isinstance(manifest, dict) else None


def bundle(found: Mapping[str, Any], page: bytes, provenance: Provenance, watch: Stopwatch) -> dict[str, bytes]:
    """Return the files that every execution and baselining leaves beside its analysis."""
    return {
        REPORT: page,
        SETTINGS: provenance.settings.encode(),
        MANIFEST: dump({**found, "timings": watch.seconds}),
    }


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()
