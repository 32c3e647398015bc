"""Reading of windows, and checks of the records."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from runner.domain.executions import Window
from runner.errors import NO_DATA, NoData, NoValidRecords, ShapwatchError, TooManyRejected
from runner.protocols import Item
from runner.sources.endpoint import EndpointSource
from runner.sources.source import WindowReader
from tests.conftest import untracked
from tests.golden import Golden
from tests.sources.reading import DATA, HOUR, capture_line, data_settings, write_captures


def window_reader(root: Path, max_rejected_share: float = 0.05, /, **files: bytes) -> WindowReader:
    """Return the reader of an endpoint with these capture files."""
    return WindowReader(
        EndpointSource("endpoint", write_captures(root, **files), neighbours=1),
        data_settings(max_rejected_share=max_rejected_share),
        untracked,
    )


def checked(found: WindowReader, window: Window = HOUR) -> ShapwatchError | None:
    """Return the error of a window, None if it is valid."""
    with found.read(window) as captured:
        try:
            found.check(captured, window)
        except ShapwatchError as error:
            return error
    return None


def test_reading_is_tracked_by_file(tmp_path: Path, golden: Golden) -> None:
    """Progress is counted in files, including neighbour hours."""
    tracked: list[tuple[str, int | None]] = []

    def track(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
        tracked.append((what, total))
        return items

    root = write_captures(tmp_path, h08_a=b"", h09_a=capture_line([1]), h09_b=capture_line([2]))
    with WindowReader(EndpointSource("endpoint", root, 1), DATA, track).read(HOUR) as captured:
        assert captured.records == 2
    ((what, total),) = tracked
    assert total == 3
    golden(what)


@pytest.mark.parametrize(
    ("files", "found", "outside"),
    [
        ({}, 0, 0),
        ({"h09_a": b""}, 1, 0),
        ({"h09_a": b"\n \r\n"}, 1, 0),
        ({"h09_a": capture_line([1], clock="08:59:59") * 2}, 1, 2),
    ],
    ids=["no file", "empty", "blank", "other hour"],
)
def test_window_without_events_is_an_error(
    tmp_path: Path, golden: Golden, files: dict[str, bytes], found: int, outside: int
) -> None:
    """The error has window and folder, and the numbers of files and of events outside the window."""
    error = checked(window_reader(tmp_path, 0.05, **files))
    assert isinstance(error, NoData)
    assert (error.window, [*error.prefixes]) == (HOUR, [(tmp_path / "2026/01/05/09").as_posix()])
    assert (error.files, error.outside, error.probes) == (found, outside, 0)
    assert error.reason == NO_DATA == "Job inputs had no data"
    assert str(error).startswith(NO_DATA)
    golden(error)


def test_message_contains_the_first_and_last_folder(tmp_path: Path, golden: Golden) -> None:
    """The error has all folders of the window; the message contains the first and the last."""
    error = checked(window_reader(tmp_path), Window.parse("2026-01-05T09/2026-01-05T12"))
    assert isinstance(error, NoData)
    assert [*error.prefixes] == [f"{tmp_path}/2026/01/05/{hour}" for hour in ("09", "10", "11")]
    assert ("05/09" in str(error), "05/10" in str(error), "05/11" in str(error)) == (True, False, True)
    golden(error)


def test_window_of_rejected_events_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """The error has the number of events by reason, and an example of the most frequent."""
    error = checked(window_reader(tmp_path, h09_a=b"{}\n" + b"torn\n" * 2 + capture_line([1], clock="10:00:00")))
    assert isinstance(error, NoValidRecords)
    assert (error.window, [*error.reasons.items()]) == (HOUR, [("not_json", 2), ("not_a_capture", 1)])
    assert str(error.example).startswith("2026/01/05/09/a.jsonl:2:")
    golden(error)


def test_events_with_empty_bodies_are_an_error(tmp_path: Path) -> None:
    """Events whose bodies contain no record are events without valid records."""
    assert isinstance(checked(window_reader(tmp_path, h09_a=capture_line())), NoValidRecords)


def test_the_share_of_rejected_records_is_limited(tmp_path: Path, golden: Golden) -> None:
    """The limit of rejected records is exact, and the error has share, limit, reasons and examples."""
    data = capture_line([1]) * 3 + b"torn\n"
    assert checked(window_reader(tmp_path, 0.25, h09_a=data)) is None
    error = checked(window_reader(tmp_path, 0.2499, h09_a=data))
    assert isinstance(error, TooManyRejected)
    assert (error.window, error.share, error.allowed, error.reasons) == (HOUR, 0.25, 0.2499, {"not_json": 1})
    assert [str(example).partition(" ")[0] for example in error.examples] == ["2026/01/05/09/a.jsonl:4:"]
    golden(error)


def test_rejections_are_closed_afterwards(tmp_path: Path) -> None:
    """The file of rejections is open while the window is read, and closed afterwards."""
    with window_reader(tmp_path, h09_a=b"torn\n").read(HOUR) as captured:
        assert b'"not_json"' in captured.rejections.read()
    assert captured.rejections.closed
