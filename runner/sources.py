"""Where records come from: the tree an endpoint's data capture wrote, or a dataset file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner import storage
from runner.domain import Captured, Line, Records, Window
from runner.errors import NoData, NothingUsable
from runner.protocols import Track
from runner.records.fields import Fields
from runner.records.tables import read_dataset, read_window


@dataclass(frozen=True)
class CaptureTree:
    """The captures of one endpoint variant, `{root}/yyyy/mm/dd/hh/*.jsonl`."""

    root: Path
    fields: Fields

    def read(self, window: Window, track: Track) -> Captured:
        """Return everything a window holds, rejections included; it may be empty."""
        files = storage.list_captures(self.root, window)
        lines = track(storage.read_lines(files, self.root), "reading captures", storage.count_lines(files))
        return read_window([file.relative_to(self.root).as_posix() for file in files], lines, self.fields, window)

    def usable(self, window: Window, track: Track) -> Captured:
        """Return what a window holds, at least one usable record; raises as `check` does."""
        captured = self.read(window, track)
        self.check(captured)
        return captured

    def check(self, captured: Captured) -> None:
        """Make sure that a window holds something to explain.

        Raises:
            NoData: when no event was captured in the window.
            NothingUsable: when there were events, but every record was rejected.
        """
        window, outside = captured.window, captured.rejected.get("outside_window", 0)
        if captured.events == outside:
            folders = [folder.as_posix() for folder in storage.hour_folders(self.root, window)]
            raise NoData(window, folders, len(captured.files), outside)
        if not len(captured.records):
            first = next(rejection for rejection in captured.rejections if rejection.kind != "outside_window")
            raise NothingUsable(window, len(captured.rejections), captured.rejected, str(first))


@dataclass(frozen=True)
class Dataset:
    """A JSON Lines file with one record a line; `key` is the setting that names it."""

    path: Path
    fields: Fields
    key: str
    what: str = "the dataset"

    def lines(self) -> Iterator[Line]:
        """Return its lines.

        Raises:
            MissingInput: when there is no such file.
        """
        storage.existing(self.path, self.what, self.key, "give the path of a JSON Lines file")
        return storage.read_lines([self.path], Path())

    def read(self, track: Track) -> Records:
        """Return its records.

        Raises:
            MissingInput: when there is no such file.
            DatasetError: when a line cannot be used, or there is none.
        """
        lines = self.lines()
        return read_dataset(track(lines, f"reading {self.path.name}", storage.count_lines([self.path])), self.fields)
