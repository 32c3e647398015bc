"""What a reader finds, judged."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from runner.domain.executions import Window
from runner.errors import NoData, NoValidRecords, ShapwatchError, TooManyRejected
from runner.protocols import Item
from runner.sources.endpoint import EndpointReader
from runner.sources.source import Source
from tests.conftest import untracked
from tests.golden import Golden
from tests.sources.reading import FIELDS, HOUR, event, write


def source(root: Path, max_rejected_share: float = 0.05, /, **files: bytes) -> Source:
    """Return the source of an endpoint with these capture files."""
    return Source(EndpointReader(write(root, **files), FIELDS, neighbours=1), max_rejected_share, None, untracked)


def judged(found: Source, window: Window = HOUR) -> ShapwatchError | None:
    """Return what is wrong with a window, None where nothing is."""
    with found.read(window) as captured:
        try:
            found.check(captured, window)
        except ShapwatchError as error:
            return error
    return None


def test_reading_is_tracked_by_file(tmp_path: Path) -> None:
    """Progress is told in files, those of neighbour hours too."""
    told: list[tuple[str, int | None]] = []

    def track(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
        told.append((what, total))
        return items

    root = write(tmp_path, h08_a=b"", h09_a=event([1]), h09_b=event([2]))
    with Source(EndpointReader(root, FIELDS, 1), 0.05, None, track).read(HOUR) as captured:
        assert captured.records == 2
    assert told == [("reading captures", 3)]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "files found: 0. Check monitor.endpoint"),
        ({"h09_a": b""}, "files found: 1. Check"),
        ({"h09_a": b"\n \r\n"}, "files found: 1. Check"),
        ({"h09_a": event([1], clock="08:59:59") * 2}, "files found: 1, 2 events outside the window. Check"),
    ],
    ids=["no file", "empty", "blank", "other hour"],
)
def test_a_window_without_events_says_where_it_looked(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    """A window in which nothing was captured names folder, files and events that came too early or late."""
    error = judged(source(tmp_path, 0.05, **files))
    assert isinstance(error, NoData)
    assert str(error).startswith("Job inputs had no data: no captured event in 2026-01-05 09:00–10:00 UTC; ")
    assert f"looked in {(tmp_path / '2026/01/05/09').as_posix()}, {said}" in str(error)
    assert error.reason == "Job inputs had no data"


def test_a_longer_window_names_its_first_and_last_folder(tmp_path: Path) -> None:
    """Where was looked is told as a range, without the neighbours."""
    error = judged(source(tmp_path), Window.parse("2026-01-05T09/2026-01-05T12"))
    assert f"looked in {tmp_path}/2026/01/05/09 to {tmp_path}/2026/01/05/11, files" in str(error)


def test_a_window_of_rejected_events_says_why(tmp_path: Path, golden: Golden) -> None:
    """A window whose events are all rejected counts the reasons and shows one of the most frequent."""
    error = judged(source(tmp_path, h09_a=b"{}\n" + b"torn\n" * 2 + event([1], clock="10:00:00")))
    assert isinstance(error, NoValidRecords)
    golden(str(error))


def test_events_with_empty_bodies_are_not_usable(tmp_path: Path) -> None:
    """Events whose bodies hold no record are events, and still nothing can be used."""
    assert isinstance(judged(source(tmp_path, h09_a=event())), NoValidRecords)


def test_the_share_of_rejected_records_is_limited(tmp_path: Path, golden: Golden) -> None:
    """One of four is judged by the limit, to the record, and the sentence shows limit, reasons and examples."""
    data = event([1]) * 3 + b"torn\n"
    assert judged(source(tmp_path, 0.25, h09_a=data)) is None
    error = judged(source(tmp_path, 0.2499, h09_a=data))
    assert isinstance(error, TooManyRejected)
    golden(str(error))


def test_what_was_read_is_gone_afterwards(tmp_path: Path) -> None:
    """The file of rejections is open while the window is at hand, and no longer."""
    with source(tmp_path, h09_a=b"torn\n").read(HOUR) as captured:
        assert b'"not_json"' in captured.rejections.read()
    assert captured.rejections.closed
