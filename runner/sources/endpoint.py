"""Captures of an endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner import storage
from runner.domain.executions import HOUR, Window
from runner.domain.numbers import Integer
from runner.sources.capture_file import CaptureFile
from runner.sources.data import Data
from runner.sources.record_collector import RecordCollector
from runner.storage import File
from runner.types import Location


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class EndpointSource:
    """Captures of an endpoint's variant, `{root}/yyyy/mm/dd/hh/*.jsonl`.

    Attributes:
        kind: `endpoint`.
        root: folder with the folders of hours.
        neighbours: number of hours before and after the window whose folders are searched for events of the window.
    """

    kind: Literal["endpoint"]
    root: Location
    neighbours: Annotated[Integer, Ge(0), Le(24)]

    def folders(self, window: Window) -> list[str]:
        """Return the folders of the window's own hours."""
        return [storage.join(self.root, folder) for folder in storage.hour_folders(window)]

    def files(self, window: Window) -> list[File]:
        """Return the capture files of the window's hours and their neighbours."""
        around = Window(window.start - self.neighbours * HOUR, window.end + self.neighbours * HOUR)
        return storage.list_hours(self.root, around, (".jsonl", ".jsonl.gz"))

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:
        """Collect the events of the window."""
        hours = tuple(storage.hour_folders(window))
        for file in files:
            with storage.local_copy(file.location) as path:
                CaptureFile(path, file.name, data.fields, window, file.name.startswith(hours)).read(collector)
