"""A source: what a reader finds in a window, judged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from runner.domain.executions import Window
from runner.domain.records import Captured
from runner.errors import NoData, NoValidRecords, TooManyRejected
from runner.protocols import Track
from runner.records.fields import Fields
from runner.sources.intake import RecordCollector
from runner.sources.sample import sampled
from runner.storage import File


class Reader(Protocol):
    """A kind of source: what lies where, and how it is taken in."""

    @property
    def fields(self) -> Fields:
        """Where features and scores stand."""
        ...

    def folders(self, window: Window) -> list[str]:
        """Return where a window's files are looked for."""
        ...

    def files(self, window: Window) -> list[File]:
        """Return the files that may hold records of a window, by name."""
        ...

    def take(self, files: Iterable[File], window: Window, intake: RecordCollector) -> None:
        """Take in what files hold of a window."""
        ...


@dataclass(frozen=True)
class Source:
    """What a reader finds, judged.

    Attributes:
        max_rejected_share: more than this share of the records rejected is a failure.
        max_records: of more records a sample is taken, None for all.
    """

    reader: Reader
    max_rejected_share: float
    max_records: int | None
    track: Track

    @contextmanager
    def read(self, window: Window) -> Iterator[Captured]:
        """Return what a window holds, rejections included; it may be empty. It is gone afterwards."""
        files = self.reader.files(window)
        with RecordCollector(self.reader.fields) as intake:
            self.reader.take(self.track(files, "reading captures", len(files)), window, intake)
            yield sampled(intake.captured([file.name for file in files]), self.max_records)

    def check(self, captured: Captured, window: Window) -> None:
        """Make sure that a window holds something to explain, and little that cannot be.

        Raises:
            NoData: when no event was captured in the window.
            NoValidRecords: when there were events, but every record was rejected.
            TooManyRejected: when more than `max_rejected_share` of the records were rejected.
        """
        if not captured.events:
            folders = self.reader.folders(window)
            raise NoData(window, folders, len(captured.files), captured.outside, captured.probes)
        if not captured.records:
            raise NoValidRecords(window, captured.rejected, str(captured.examples[0]))
        if captured.share > self.max_rejected_share:
            raise TooManyRejected(window, captured.share, self.max_rejected_share, captured.rejected, captured.examples)
