"""The result directory of an execution: its path, its files, and atomic writes."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO

from runner.domain.executions import EVERYONE, Window
from runner.errors import OccupiedTarget
from runner.results import locks

logger = logging.getLogger("shapwatch.results")

MANIFEST = "manifest.json"
ANALYSIS = "analysis.json"
VIOLATIONS = "constraint_violations.json"
REPORT = "report.html"
PDF = "report.pdf"
NOTEBOOK = "report.ipynb"
INDEX = "index.html"
"""Index page of a monitor: lists the executions in the folder of the monitor."""
SETTINGS = "settings.yaml"
REJECTED = "rejected.jsonl"
DRIFT = "drift.json"
REFERENCE_SAMPLE = "reference.parquet"
LOCAL_FOLDER = "explanations_shap"
"""Folder in which SageMaker Clarify saves local attributions; it contains only `LOCAL_ATTRIBUTIONS` and
`BASELINE_ROWS`."""
LOCAL_ATTRIBUTIONS = f"{LOCAL_FOLDER}/out.csv"
BASELINE_ROWS = f"{LOCAL_FOLDER}/baseline.csv"
EXPLAINED = "explained.csv"
"""File with the event and the record of each row of the local attributions."""
EXECUTION_FILES = {MANIFEST, ANALYSIS, VIOLATIONS, REPORT, PDF, NOTEBOOK, SETTINGS, REJECTED, DRIFT, REFERENCE_SAMPLE}
EXECUTION_FILES |= {LOCAL_ATTRIBUTIONS, BASELINE_ROWS, EXPLAINED}
"""Names of all files that an execution may write."""

CHECKED = "checked"
"""File in the hidden folder of a writer that checks its claim before it replaces the directory."""
LOCK = "lock"
"""Lock file in the hidden folder of a writer, locked while the writer is alive."""
MAX_ATTEMPTS = 100
"""Maximum number of attempts to create a hidden folder; another process may remove it before it is locked."""
MAX_DOCUMENT_BYTES = 2**30
"""Maximum size of a JSON document in bytes; it is read into memory."""
WRITING_SECONDS = 0.2
"""Seconds between two checks whether a directory is still being written."""
REPLACEMENT_SECONDS = 0.002
"""Seconds to wait while a writer replaces a directory by another one."""


def execution_directory(root: Path, endpoint: str, monitor: str, scheduled: datetime) -> Path:
    """Return the result directory of the execution at a scheduled time.

    >>> from datetime import datetime
    >>> print(execution_directory(Path("."), "e", "m", datetime(2023, 1, 19, 5)))
    e/m/2023/01/19/05
    >>> print(execution_directory(Path("."), "e", "m", datetime(2023, 1, 19, 5, 41, 23)))
    e/m/2023/01/19/05-41-23
    """
    clock = "%H-%M-%S" if scheduled.second else "%H-%M" if scheduled.minute else "%H"
    return root / endpoint / monitor / f"{scheduled:%Y/%m/%d/{clock}}"


def reference_path(path: Path, window: Window) -> Path:
    """Return the path of the reference of a window: `strftime` codes are replaced by the window's start.

    With them, each hour of a day or of a week can have its own reference.

    >>> print(reference_path(Path("baseline/adult-%H"), Window.parse("2023-01-19T05")))
    baseline/adult-05
    """
    return Path(f"{window.start:{path}}") if "%" in str(path) else path


def claim(target: Path) -> None:
    """Check that a directory may be replaced: it does not exist, or contains only files of executions.

    Before the check, remove the hidden folders of killed writers, and restore a directory that a killed writer moved.

    Raises:
        OccupiedTarget: if the path is a file, or the directory contains other files.
    """
    for aside in _hidden_folders(target):
        _clear(aside, target)
    if target.is_file():
        raise OccupiedTarget(target, "is a file")
    foreign = []
    with suppress(FileNotFoundError):
        foreign = sorted(_foreign(target))
    if foreign:
        raise OccupiedTarget(target, f"contains {', '.join(foreign[:3])}")


def _foreign(target: Path) -> Iterator[str]:
    """Yield the relative names of files that no execution writes."""
    for entry in target.iterdir():
        folder = entry.name == LOCAL_FOLDER and entry.is_dir() and not entry.is_symlink()
        for each in entry.iterdir() if folder else [entry]:
            name = each.relative_to(target).as_posix()
            if name not in EXECUTION_FILES or each.is_dir():
                yield name


def commit(target: Path, files: Mapping[str, bytes | IO[bytes]], check: Callable[[], object] | None = None) -> None:
    """Replace a directory atomically by one with these files.

    The files are written and synced in a hidden directory next to it, which is then renamed. The last of several
    concurrent writers wins. A name may contain one folder, `folder/name`.

    With `check`, a writer that has been overtaken replaces nothing, even if it was suspended after its check: the other
    writer takes its files away. A writer whose files were taken away checks again.

    Args:
        target: directory.
        files: contents by name.
        check: function that raises an error if this writer has been overtaken; None to replace the directory always.

    Raises:
        OccupiedTarget: if a file that no execution writes would be lost.
    """
    while not _commit(target, files, check):
        for data in files.values():
            if not isinstance(data, bytes):
                data.seek(0)


def _commit(target: Path, files: Mapping[str, bytes | IO[bytes]], check: Callable[[], object] | None) -> bool:
    """Replace a directory; return False if another writer has taken the new files away."""
    claim(target)
    with _hidden_folder(target) as aside:
        if check:
            (aside / CHECKED).touch()
        (new := aside / "new").mkdir()
        try:
            _write(new, files)
        except FileNotFoundError:
            if new.exists():
                raise
            return False
        if check:
            check()
            _take_away(target, aside)
        return _replace(target, new, aside)


def _write(folder: Path, files: Mapping[str, bytes | IO[bytes]]) -> None:
    for name, data in files.items():
        if (parent := (folder / name).parent) != folder:  # a folder that was taken away must not be created again
            parent.mkdir(exist_ok=True)
        with (folder / name).open("wb") as file:
            shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, file)
            file.flush()
            os.fsync(file.fileno())


def _take_away(target: Path, aside: Path) -> None:
    """Take the files of other checked writers away; they have been overtaken, unless they check again."""
    for other in _hidden_folders(target):
        if other != aside and (other / CHECKED).exists():
            with suppress(FileNotFoundError):
                (other / "new").rename(aside / other.name)


def amend(target: Path, files: Mapping[str, bytes]) -> None:
    """Replace the given files of a directory atomically; the other files keep their bytes.

    Raises:
        OccupiedTarget: if the directory contains files that no execution writes.
        OSError: if a file is a symbolic link, whose target would otherwise be copied into the directory.
    """
    claim(target)
    with opened(target, sorted(EXECUTION_FILES - files.keys()), os.O_NOFOLLOW) as unchanged:
        commit(target, {**unchanged, **files})


@contextmanager
def opened(target: Path, names: Sequence[str], flags: int = 0) -> Iterator[dict[str, IO[bytes]]]:
    """Open files of one version of a directory, also while writers replace it; missing files are left out.

    Args:
        target: directory.
        names: names of the files.
        flags: further flags for opening each file.

    Raises:
        OSError: if a file cannot be opened, or is no regular file.
    """
    with ExitStack() as stack:
        for _ in range(MAX_ATTEMPTS * 10):
            with suppress(FileNotFoundError, NotADirectoryError), ExitStack() as attempt:
                folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
                attempt.callback(os.close, folder)
                files = {name: file for name in names if (file := _open_file(target, folder, name, flags, attempt))}
                # as long as the directory is at its path, no writer has removed files from it
                if os.path.samestat(os.fstat(folder), target.stat()):
                    stack.enter_context(attempt.pop_all())
                    break
            if not target.is_dir() and not _is_being_replaced(target):
                files = {}
                break
            time.sleep(REPLACEMENT_SECONDS)
        else:
            raise OSError(errno.EBUSY, "the directory is replaced again and again", str(target))
        yield files


def _open_file(target: Path, folder: int, name: str, flags: int, stack: ExitStack) -> IO[bytes] | None:
    """Return an open file of a directory, None if it is missing."""
    try:
        number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = "is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise OSError(error.errno, problem, str(target / name)) from error
    file = stack.enter_context(os.fdopen(number, "rb"))
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(target / name))
    if name.endswith(".json") and status.st_size > MAX_DOCUMENT_BYTES:
        raise OSError(errno.EFBIG, f"is larger than {MAX_DOCUMENT_BYTES / 2**30:g} GiB", str(target / name))
    return file


def _is_being_replaced(target: Path) -> bool:
    """Return whether a writer has moved a missing directory; restore it if the writer was killed."""
    for aside in (folders := _hidden_folders(target)):
        _clear(aside, target)
    return target.is_dir() or any((aside / "old").exists() for aside in folders)


def put(target: Path, data: bytes) -> None:
    """Write a file atomically; the last of several concurrent writers wins."""
    for aside in _hidden_folders(target):
        _clear(aside, target)
    with _hidden_folder(target) as aside:
        (new := aside / "new").write_bytes(data)
        new.replace(target)


def remove(target: Path, root: Path) -> bool:
    """Remove the directory of an execution and its empty parent folders below `root`; return whether it was removed.

    The removal is atomic for other processes. A directory with files that no execution writes is not removed.
    """
    try:
        claim(target)
    except OccupiedTarget:
        return False
    with suppress(FileNotFoundError):
        shutil.rmtree(target.rename(_hidden(target)), ignore_errors=True)
    mark_unpublished(target, ())
    _remove_empty([folder for folder in target.parents if root in folder.parents])
    return True


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Mark a directory as being written while the block runs; `is_being_written` is true in other processes."""
    created = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locks.locked(path := _lock_path(target), locks.SHARED) as file:
            try:
                yield
            finally:
                locks.remove(file, path)
    finally:
        _remove_empty(created)


def wait_until_written(target: Path) -> None:
    """Wait as long as other processes write a directory, given by its path or by the path of its analysis.json."""
    if is_being_written(target):
        logger.info("waiting until %s is written by another process", target)
    while is_being_written(target):
        time.sleep(WRITING_SECONDS)


def is_being_written(target: Path) -> bool:
    """Return whether a process is writing a directory, given by its path or by the path of its analysis.json."""
    return not locks.is_free(_lock_path(target.parent if target.suffix == ".json" else target))


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove the empty folders of a sequence, given deepest first."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _lock_path(target: Path) -> Path:
    return target.parent / f".{target.name}.lock"


def _hidden(target: Path) -> Path:
    """Return a unique path for a hidden folder next to a directory."""
    return target.parent / f".{target.name}~{secrets.token_hex(4)}"


def _hidden_folders(target: Path) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(target.name)}~[0-9a-f]{{8}}")
    try:
        entries = (entry for entry in target.parent.iterdir() if pattern.fullmatch(entry.name))
        return sorted(entry for entry in entries if not entry.is_symlink())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _clear(aside: Path, target: Path) -> None:
    """Remove the hidden folder of a killed writer; restore the directory that it had moved, if that is missing.

    A writer that has just created its folder has no lock yet. If its folder is removed, it creates another one.
    """
    with suppress(OSError), locks.locked(aside / LOCK, locks.EXCLUSIVE | locks.NON_BLOCKING):
        if not target.exists():
            with suppress(OSError):
                (aside / "old").rename(target)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _hidden_folder(target: Path) -> Iterator[Path]:
    """Yield a new hidden folder next to a directory, locked so that no other process removes it."""
    with ExitStack() as stack:
        aside = _create_hidden(target, stack)
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # still locked


def _create_hidden(target: Path, stack: ExitStack) -> Path:
    for remaining in reversed(range(MAX_ATTEMPTS)):
        aside = _hidden(target)
        try:
            aside.mkdir(mode=0o700, parents=True)
            stack.callback(shutil.rmtree, aside, ignore_errors=True)
            stack.enter_context(locks.locked(aside / LOCK, locks.EXCLUSIVE))
            return aside
        except FileNotFoundError:
            if not remaining:
                raise
    raise AssertionError("the last attempt returns or raises")


def _replace(target: Path, new: Path, aside: Path) -> bool:
    """Rename a directory into place; move the previous one to `aside`, and restore it if the rename fails.

    Returns:
        False if another writer has taken the new directory away.
    """
    old = aside / "old"
    while new.exists():
        with suppress(FileNotFoundError):
            target.rename(old)
        try:
            new.rename(target)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                shutil.rmtree(old, ignore_errors=True)
                continue
            if not new.exists():
                with suppress(OSError):  # the other writer may have written its own directory
                    old.rename(target)
                return False
            if old.exists():
                old.rename(target)
            raise
        return True
    return False


def mark_unpublished(target: Path, recipients: Collection[str]) -> None:
    """Record the recipients that the message of an execution has not reached, next to its directory.

    Args:
        target: directory of the execution.
        recipients: names of the recipients; none removes the record.
    """
    marker = _unpublished_marker(target)
    with suppress(OSError):
        if recipients:
            (new := marker.with_name(f"{marker.name}~")).unlink(missing_ok=True)
            with new.open("x") as file:  # does not follow a symbolic link
                file.write(json.dumps(sorted(recipients)))
            new.replace(marker)
        else:
            marker.unlink(missing_ok=True)


def unpublished(target: Path) -> frozenset[str]:
    """Return the names of the recipients that the message of an execution has not reached.

    An unreadable record, and the empty one of an earlier version, stand for all recipients.
    """
    marker = _unpublished_marker(target)
    if marker.exists() and not marker.is_file():
        return frozenset([EVERYONE])
    try:
        names = json.loads(marker.read_bytes())
        return frozenset(
            names if isinstance(names, list) and all(isinstance(each, str) for each in names) else [EVERYONE]
        )
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, RecursionError):
        return frozenset([EVERYONE])


def _unpublished_marker(target: Path) -> Path:
    return target.parent / f".{target.name}.unpublished"
