"""The protocol of sources, and the reader of a window of records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from runner.domain.executions import Window
from runner.domain.records import Captured
from runner.errors import NoData, NoValidRecords, TooManyRejected
from runner.protocols import Track
from runner.sources.data import Data
from runner.sources.record_collector import RecordCollector
from runner.sources.sample import sampled
from runner.storage import File


class Source(Protocol):
    """A source of records: `endpoint`, `batch_transform`, `file` or `kserve`."""

    def folders(self, window: Window) -> list[str]:
        """Return the folders in which a window's files are expected."""
        ...

    def files(self, window: Window) -> list[File]:
        """Return the files that may contain records of a window, by name."""
        ...

    def read(self, files: Iterable[File], window: Window, data: Data, collector: RecordCollector) -> None:
        """Collect the records of a window, and the rejections, from files."""
        ...


@dataclass(frozen=True)
class WindowReader:
    """Reads the records of a window from a source.

    Attributes:
        source: where the files are.
        data: format of the records; `max_records` and `max_rejected_share` are limits of a window.
        track: shows progress.
    """

    source: Source
    data: Data
    track: Track

    @contextmanager
    def read(self, window: Window) -> Iterator[Captured]:
        """Yield the records and rejections of a window; temporary files are deleted afterwards."""
        files = self.source.files(window)
        with RecordCollector(self.data.fields) as collector:
            self.source.read(self.track(files, "reading captures", len(files)), window, self.data, collector)
            yield sampled(collector.captured([file.name for file in files]), self.data.max_records)

    def check(self, captured: Captured, window: Window) -> None:
        """Check that a window has valid records, and few rejected ones.

        Raises:
            NoData: if no event was captured in the window.
            NoValidRecords: if every record was rejected.
            TooManyRejected: if the share of rejected records exceeds `max_rejected_share`.
        """
        if not captured.events:
            folders = self.source.folders(window)
            raise NoData(window, folders, len(captured.files), captured.outside, captured.probes)
        if not captured.records:
            raise NoValidRecords(window, captured.rejected, str(captured.examples[0]))
        allowed = self.data.max_rejected_share
        if captured.rejected_share > allowed:
            raise TooManyRejected(window, captured.rejected_share, allowed, captured.rejected, captured.examples)
