"""The captures of an endpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from runner import storage
from runner.domain.executions import HOUR, Window
from runner.records.fields import Fields
from runner.sources.capture_file import CaptureFile
from runner.sources.intake import RecordCollector
from runner.storage import File


@dataclass(frozen=True)
class EndpointReader:
    """The captures of an endpoint's variant, `{root}/yyyy/mm/dd/hh/*.jsonl`.

    Attributes:
        neighbours: how many hours before and after the window are looked through too, for events that lie in a file
            of another hour than their own.
    """

    root: str
    fields: Fields
    neighbours: int

    def folders(self, window: Window) -> list[str]:
        """Return the folders of the window's own hours."""
        return [storage.join(self.root, folder) for folder in storage.hour_folders(window)]

    def files(self, window: Window) -> list[File]:
        """Return the capture files of the window's hours and their neighbours."""
        around = Window(window.start - self.neighbours * HOUR, window.end + self.neighbours * HOUR)
        return storage.listing_hours(self.root, around, (".jsonl", ".jsonl.gz"))

    def take(self, files: Iterable[File], window: Window, intake: RecordCollector) -> None:
        """Take in the events of the window."""
        hours = tuple(storage.hour_folders(window))
        for file in files:
            with storage.fetched(file.location) as path:
                CaptureFile(path, file.name, self.fields, window, file.name.startswith(hours)).read(intake)
