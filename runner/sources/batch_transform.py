"""The captures of batch transforms: manifests of the files they read."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable
from dataclasses import dataclass, replace

from runner import storage
from runner.domain.executions import Window
from runner.domain.records import Rejection
from runner.errors import RecordError, StorageError
from runner.records import manifests
from runner.records.fields import Fields
from runner.sources.data_file import DataFile
from runner.sources.intake import RecordCollector
from runner.storage import File


@dataclass(frozen=True)
class BatchTransformReader:
    """The inputs of batch transforms, listed by the manifests `{root}/input/yyyy/mm/dd/hh/*.json`.

    Attributes:
        data: how the listed files are read; its path and name are replaced.
    """

    root: str
    data: DataFile

    @property
    def fields(self) -> Fields:
        """Where the features are."""
        return self.data.fields

    def folders(self, window: Window) -> list[str]:
        """Return the folders of the window's hours."""
        return [storage.join(self.root, "input", hour) for hour in storage.hour_folders(window)]

    def files(self, window: Window) -> list[File]:
        """Return the manifests of the window's hours."""
        return storage.listing_hours(self.root, window, (".json", ".jsonl"), "input")

    def take(self, files: Iterable[File], window: Window, intake: RecordCollector) -> None:  # noqa: ARG002
        """Take in the files that the manifests list."""
        for file in files:
            try:
                listed = self._listed(file)
            except RecordError as error:
                intake.events += 1
                intake.reject(Rejection(file.name, 1, error.kind, str(error)))
                continue
            for location in listed:
                try:
                    with storage.fetched(location) as path:
                        replace(self.data, path=path, name=location).read(intake)
                except FileNotFoundError as error:
                    raise StorageError(file.location, f"it lists {location}, which is not there") from error

    def _listed(self, file: File) -> list[str]:
        """Return the locations in a manifest; one from an object store cannot lead to files of this machine.

        Raises:
            RecordError: `not_a_manifest`.
        """
        with storage.fetched(file.location) as path:
            listed = manifests.decode(path.read_bytes().removeprefix(BOM_UTF8))
        for location in listed:
            if storage.is_remote(file.location) and not storage.is_remote(location):
                raise RecordError("not_a_manifest", f"{location} is a file of this machine, listed in an object store")
        return listed
