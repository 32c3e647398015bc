"""Captures of batch transforms: manifests that list the files of records.

Format of a manifest: `[{"prefix": "s3://…/"}, "a.csv", "b.csv"]`. In the manifest of a single object, the prefix is the
URL of the object, and the only name is an empty string.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterable
from typing import Literal

import orjson
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from runner import storage
from runner.domain.executions import Window
from runner.domain.records import Rejection
from runner.errors import RecordError, StorageError, snippet
from runner.sources.data import Data
from runner.sources.file import DataFile
from runner.sources.source import RecordCollector
from runner.storage import File
from runner.types import Location


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class BatchTransformSource:
    """Inputs of batch transforms, listed by the manifests `{root}/input/yyyy/mm/dd/hh/*.json`.

    Attributes:
        kind: `batch_transform`.
        root: folder that contains `input`.
    """

    kind: Literal["batch_transform"]
    root: Location

    def folders(self, window: Window) -> list[str]:
        """Return the folders of the window's hours."""
        return [storage.join(self.root, "input", hour) for hour in storage.hour_folders(window)]

    def files(self, window: Window) -> list[File]:
        """Return the manifests of the window's hours."""
        return storage.list_hours(self.root, window, (".json", ".jsonl"), "input")

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:  # noqa: ARG002
        """Collect the records of the files that the manifests list."""
        for file in files:
            try:
                locations = _listed(file)
            except RecordError as error:
                collector.events += 1
                collector.reject(Rejection(file.name, 1, error.kind, str(error)))
                continue
            for location in locations:
                try:
                    with storage.local_copy(location) as path:
                        DataFile(path, location, data).read(collector)
                except FileNotFoundError as error:
                    raise StorageError(file.location, f"the manifest lists {location}, which does not exist") from error


def decode_manifest(data: bytes) -> list[str]:
    """Return the locations in a manifest.

    Raises:
        RecordError: `not_a_manifest`.

    >>> decode_manifest(b'[{"prefix":"s3://b/in/"},"a.csv","b.csv"]')
    ['s3://b/in/a.csv', 's3://b/in/b.csv']
    >>> decode_manifest(b'[{"prefix":"s3://b/test.json"},""]')
    ['s3://b/test.json']
    """
    try:
        head, *names = orjson.loads(data)
        prefix = head["prefix"]
    except (orjson.JSONDecodeError, TypeError, ValueError, KeyError) as error:
        raise RecordError("not_a_manifest", f'expected [{{"prefix": …}}, names…], got {snippet(data)}') from error
    if not isinstance(prefix, str) or not all(isinstance(name, str) for name in names):
        raise RecordError("not_a_manifest", f"expected strings as prefix and names, got {snippet(data)}")
    if any(".." in name.split("/") or "\0" in name for name in (prefix, *names)):
        raise RecordError("not_a_manifest", f"expected names without .. and NUL, got {snippet(data)}")
    return [prefix + name for name in names]


def encode_manifest(prefix: str, *names: str) -> bytes:
    """Return the manifest of objects below a prefix, or of the single object `prefix`."""
    return orjson.dumps([{"prefix": prefix}, *(names or [""])])


def _listed(file: File) -> list[str]:
    """Return the locations in a manifest; a manifest in an object store cannot list local files.

    Raises:
        RecordError: `not_a_manifest`.
    """
    with storage.local_copy(file.location, file.size) as path:
        locations = decode_manifest(path.read_bytes().removeprefix(BOM_UTF8))
    for location in locations:
        if storage.is_remote(file.location) and not storage.is_remote(location):
            raise RecordError("not_a_manifest", f"{location} is a local file, but the manifest is in an object store")
    return locations
