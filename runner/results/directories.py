"""What an execution leaves behind: a directory that is there whole or not at all, with a manifest of its origin."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson

from runner.domain.drift import Level
from runner.domain.executions import Status, Window
from runner.domain.publication import AlertHistory, State
from runner.errors import OccupiedTarget
from runner.results import locks
from runner.results.documents import dump

MANIFEST = "manifest.json"
ANALYSIS = "analysis.json"
VIOLATIONS = "constraint_violations.json"
REPORT = "report.html"
PDF = "report.pdf"
NOTEBOOK = "report.ipynb"
INDEX = "index.html"
"""In the folder of a monitor, over all of its executions."""
SETTINGS = "settings.yaml"
REJECTED = "rejected.jsonl"
DRIFT = "drift.json"
REFERENCE_SAMPLE = "reference.parquet"
LOCAL_FOLDER = "explanations_shap"
"""The folder that SageMaker Clarify saves local attributions in; it holds nothing but these two."""
LOCAL_ATTRIBUTIONS = f"{LOCAL_FOLDER}/out.csv"
BASELINE_ROWS = f"{LOCAL_FOLDER}/baseline.csv"
EXPLAINED = "explained.csv"
"""Which record of which event each row of the local attributions is about."""
EXECUTION_FILES = {MANIFEST, ANALYSIS, VIOLATIONS, REPORT, PDF, NOTEBOOK, SETTINGS, REJECTED, DRIFT, REFERENCE_SAMPLE}
EXECUTION_FILES |= {LOCAL_ATTRIBUTIONS, BASELINE_ROWS, EXPLAINED}

DATE = re.compile(r"\d{2,4}")
TIME = re.compile(r"\d\d(-\d\d(-\d\d)?)?")
AFTER_ALL = "~"
"""Comes after every name of a folder of a date or a time."""

LOCK = "lock"
"""In the hidden folder of a writer: held as long as the writer lives."""
MAX_ATTEMPTS = 100
"""How often a folder is made again that somebody removes, who finds it empty or without a writer."""


MAX_HISTORY = 1_000
"""An alarm is forgotten after so many executions that could not judge: none has to read a whole history."""


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
        self.seconds[name] = round(self.seconds.get(name, 0.0) + self.clock() - start, 4)


def execution_directory(root: Path, endpoint: str, monitor: str, scheduled: datetime) -> Path:
    """Return where the execution of a scheduled time belongs: a folder of its day.

    >>> from datetime import datetime
    >>> print(execution_directory(Path("."), "e", "m", datetime(2023, 1, 19, 5)))
    e/m/2023/01/19/05
    >>> print(execution_directory(Path("."), "e", "m", datetime(2023, 1, 19, 5, 41, 23)))
    e/m/2023/01/19/05-41-23
    """
    clock = "%H-%M-%S" if scheduled.second else "%H-%M" if scheduled.minute else "%H"
    return root / endpoint / monitor / f"{scheduled:%Y/%m/%d/{clock}}"


def reference_path(path: Path, window: Window) -> Path:
    """Return where the reference of a window is: codes of `strftime` in the path stand for the window's start.

    So each hour of a day, or of a week, has a reference of its own.

    >>> print(reference_path(Path("baseline/adult-%H"), Window.parse("2023-01-19T05")))
    baseline/adult-05
    """
    return Path(f"{window.start:{path}}") if "%" in str(path) else path


def claim(target: Path) -> None:
    """Make sure that a directory may be replaced: it is not there, or holds only what an execution writes.

    What killed writers left beside it goes first; a directory that one of them had put aside comes back.

    Raises:
        OccupiedTarget: when anything else would be lost.
    """
    for aside in _asides(target):
        _clear(aside, target)
    if target.is_file():
        raise OccupiedTarget(target, "a file")
    foreign = []
    with suppress(FileNotFoundError):
        foreign = sorted(_foreign(target))
    if foreign:
        raise OccupiedTarget(target, ", ".join(foreign[:3]))


def _foreign(target: Path) -> Iterator[str]:
    """Yield the names of what no execution writes, those in a folder of ours with its name."""
    for entry in target.iterdir():
        folder = entry.name == LOCAL_FOLDER and entry.is_dir() and not entry.is_symlink()
        for each in entry.iterdir() if folder else [entry]:
            name = each.relative_to(target).as_posix()
            if name not in EXECUTION_FILES or each.is_dir():
                yield name


def commit(target: Path, files: Mapping[str, bytes | IO[bytes]]) -> None:
    """Put a directory with these files in place of whatever was there, whole.

    Everything is written to a hidden directory beside it first and reaches the disk before it is renamed into place.
    Of several writers at once the last one stays. A name may stand in a folder, `folder/name`.

    Raises:
        OccupiedTarget: when something that no execution wrote would be lost.
    """
    claim(target)
    with _aside(target) as aside:
        (new := aside / "new").mkdir()
        for name, data in files.items():
            (new / name).parent.mkdir(exist_ok=True)
            with (new / name).open("wb") as file:
                shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, file)
                file.flush()
                os.fsync(file.fileno())
        _replace(target, new, aside)


def amend(target: Path, files: Mapping[str, bytes]) -> None:
    """Put files in place of those of the same names in a directory, all at once; the others stay to the byte.

    Raises:
        OccupiedTarget: when the directory holds something that no execution wrote.
    """
    claim(target)
    with ExitStack() as stack:
        others = [name for name in sorted(EXECUTION_FILES - files.keys()) if (target / name).exists()]
        kept = {name: stack.enter_context((target / name).open("rb")) for name in others}
        commit(target, {**kept, **files})


def put(target: Path, data: bytes) -> None:
    """Put a file in place of whatever was there, whole; of several writers at once the last one stays."""
    for aside in _asides(target):
        _clear(aside, target)
    with _aside(target) as aside:
        (new := aside / "new").write_bytes(data)
        new.replace(target)


def remove(target: Path, root: Path) -> bool:
    """Return whether the directory of an execution is gone, with the folders below `root` that it leaves empty.

    For others it is gone at once. It stays when it holds anything that no execution wrote.
    """
    try:
        claim(target)
    except OccupiedTarget:
        return False
    with suppress(FileNotFoundError):
        shutil.rmtree(target.rename(_hidden(target)), ignore_errors=True)
    mark_unpublished(target, untold=False)
    _prune([folder for folder in target.parents if root in folder.parents])
    return True


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Let other processes know, as long as this lasts, that a directory is about to be written."""
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locks.locked(sign := _sign(target), locks.SHARED) as file:
            try:
                yield
            finally:
                locks.remove(file, sign)
    finally:
        _prune(made)


def is_being_written(target: Path) -> bool:
    """Return whether a process is about to write a directory, given as that or as the analysis.json in it."""
    return not locks.is_free(_sign(target.parent if target.suffix == ".json" else target))


def _prune(folders: Sequence[Path]) -> None:
    """Remove those of the folders that are empty, given the deepest first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _sign(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _hidden(target: Path) -> Path:
    """Return a name beside a directory that no other directory's hidden folders have."""
    return target.parent / f".{target.name}~{secrets.token_hex(4)}"


def _asides(target: Path) -> list[Path]:
    ours = re.compile(rf"\.{re.escape(target.name)}~[0-9a-f]{{8}}")
    try:
        return sorted(entry for entry in target.parent.iterdir() if ours.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _clear(aside: Path, target: Path) -> None:
    """Remove a hidden folder whose writer was killed; the directory that it had put aside comes back if it is missing.

    The writer of a folder that was made this very moment has no lock yet: it finds its folder gone, and makes another.
    """
    with suppress(OSError), locks.locked(aside / LOCK, locks.EXCLUSIVE | locks.NON_BLOCKING):
        if not target.exists():
            with suppress(OSError):
                (aside / "old").rename(target)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yield a hidden folder beside a directory, that nobody takes for a killed writer's."""
    with ExitStack() as stack:
        aside = _made(target, stack)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # while its lock is held


def _made(target: Path, stack: ExitStack) -> Path:
    for left in reversed(range(MAX_ATTEMPTS)):
        aside = _hidden(target)
        try:
            aside.mkdir(mode=0o700, parents=True)
            stack.callback(shutil.rmtree, aside, ignore_errors=True)
            stack.enter_context(locks.locked(aside / LOCK, locks.EXCLUSIVE))
            return aside
        except FileNotFoundError:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


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


def earlier_executions(target: Path) -> Iterator[Path]:
    """Yield the directories of a monitor's executions that were scheduled before that of a directory, newest first."""
    root = target.parents[3]
    yield from _before(root, target.relative_to(root).parts)


def _before(folder: Path, bound: tuple[str, ...]) -> Iterator[Path]:
    """Yield the directories whose parts come before those of a bound; the order of the names is that of the times."""
    head, *rest = bound
    names = TIME if not rest else DATE
    with suppress(OSError):
        for name in sorted((each.name for each in folder.iterdir() if names.fullmatch(each.name)), reverse=True):
            if rest and name <= head:
                yield from _before(folder / name, tuple(rest) if name == head else (AFTER_ALL,) * len(rest))
            elif name < head:
                yield folder / name


def newest_executions(folder: Path, most: int) -> list[Path]:
    """Return the directories of a monitor's executions, the latest scheduled first, no more than `most`."""
    return list(islice((each for each in _before(folder, (AFTER_ALL,) * 4) if (each / MANIFEST).exists()), most))


def alert_history(target: Path) -> AlertHistory:
    """Return what is known from the executions scheduled before that of a directory, no more than `MAX_HISTORY`."""
    return AlertHistory.of(islice(_states(target), MAX_HISTORY))


def _states(target: Path) -> Iterator[State]:
    """Yield the states of the executions before that of a directory, newest first.

    One that is damaged, or whose news reached nobody, is passed by.
    """
    for directory_ in earlier_executions(target):
        with suppress(ValueError):
            if not _untold(directory_).exists() and (manifest := read_manifest(directory_)):
                yield Status(str(manifest.get("status"))), Level(manifest.get("level") or Level.NONE)


def mark_unpublished(target: Path, untold: bool) -> None:
    """Note beside a directory that there is news of its execution which reached nobody yet, or that there is none."""
    with suppress(OSError):
        if untold:
            _untold(target).touch()
        else:
            _untold(target).unlink(missing_ok=True)


def _untold(target: Path) -> Path:
    return target.parent / f".{target.name}.unpublished"


def is_finished(target: Path) -> bool:
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


def common_files(
    found: Mapping[str, Any], reports: Mapping[str, bytes], provenance: Provenance, watch: Stopwatch
) -> dict[str, bytes]:
    """Return the files that every execution and baselining leaves beside its analysis."""
    return {
        **reports,
        SETTINGS: provenance.settings.encode(),
        MANIFEST: dump({**found, "timings": watch.seconds}),
    }


def sha256(data: bytes) -> str:
    """Return the hexadecimal SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()
