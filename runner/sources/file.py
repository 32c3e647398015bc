"""One file of records as a source."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner import storage
from runner.domain.executions import Window
from runner.sources.data import Data
from runner.sources.data_file import DataFile
from runner.sources.record_collector import RecordCollector
from runner.storage import File
from runner.types import Location


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class FileSource:
    """One file of records; all of its records belong to the window.

    Attributes:
        kind: `file`.
        path: the file, local or in an object store.
    """

    kind: Literal["file"]
    path: Location

    def folders(self, window: Window) -> list[str]:  # noqa: ARG002  the same for every window
        """Return the file."""
        return [self.path]

    def files(self, window: Window) -> list[File]:  # noqa: ARG002
        """Return the file."""
        storage.require(self.path, "the file of records", "source.path", "give the path of a dataset")
        return [File(self.path, self.path, 0)]

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:  # noqa: ARG002
        """Collect the records of the file."""
        for file in files:
            with storage.local_copy(file.location) as path:
                DataFile(path, file.name, data).read(collector)
