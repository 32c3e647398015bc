"""One file of records: traffic that somebody else logged, or six months of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from runner import storage
from runner.domain.executions import Window
from runner.records.fields import Fields
from runner.sources.data_file import DataFile
from runner.sources.intake import RecordCollector
from runner.storage import File


@dataclass(frozen=True)
class FileReader:
    """A file whose records are taken for the window's, whatever time they are of."""

    location: str
    data: DataFile

    @property
    def fields(self) -> Fields:
        """Where the features are."""
        return self.data.fields

    def folders(self, window: Window) -> list[str]:  # noqa: ARG002  the same for every window
        """Return the file."""
        return [self.location]

    def files(self, window: Window) -> list[File]:  # noqa: ARG002
        """Return the file."""
        storage.existing(self.location, "the file of records", "source.path", "give the path of a dataset")
        return [File(self.location, self.location, 0)]

    def take(self, files: Iterable[File], window: Window, intake: RecordCollector) -> None:  # noqa: ARG002
        """Take in the records."""
        for file in files:
            with storage.fetched(file.location) as path:
                replace(self.data, path=path, name=file.name).read(intake)
