"""Files on the local disk: the one place that opens them for the stages."""

from __future__ import annotations

import os
import tempfile
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from runner.domain import Line, Window
from runner.errors import MissingInput


def hour_folders(root: Path, window: Window) -> list[Path]:
    """Return the folders `yyyy/mm/dd/hh` below `root` that hold the captures of a window, whether they exist or not."""
    return [root / f"{hour:%Y/%m/%d/%H}" for hour in window.hours]


def list_captures(root: Path, window: Window) -> list[Path]:
    """Return the capture files of a window in the order of their paths; hidden files are still being written.

    Raises:
        OSError: when a folder is there but cannot be listed.
    """
    found: list[Path] = []
    for folder in hour_folders(root, window):
        with suppress(FileNotFoundError):
            found += folder.iterdir()
    return sorted(path for path in found if path.suffix == ".jsonl" and path.name[0] != "." and path.is_file())


def read_lines(paths: Iterable[Path], root: Path) -> Iterator[Line]:
    """Yield the lines of files one by one, named relative to `root`; a byte order mark is no part of the first."""
    for path in paths:
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        with path.open("rb") as file:
            for number, data in enumerate(file, 1):
                yield Line(name, number, data.removeprefix(BOM_UTF8) if number == 1 else data)


def count_lines(paths: Iterable[Path]) -> int:
    """Return how many line ends files have: enough to know how far a reader has come."""
    count = 0
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(2**20):
                count += block.count(b"\n")
    return count


def existing(path: Path, what: str, key: str, remedy: str) -> Path:
    """Return a path that exists.

    Raises:
        MissingInput: when it does not, saying which setting named it and what to do.
    """
    if not path.exists():
        raise MissingInput(what, path, key, remedy)
    return path


def write(path: Path, data: bytes) -> None:
    """Write a file whole: aside first, then renamed into place, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
