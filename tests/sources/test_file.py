"""One file of records as a source."""

from __future__ import annotations

from pathlib import Path

from runner.errors import MissingInput
from runner.sources.file import FileSource
from tests.golden import Golden
from tests.sources.reading import HOUR, read_window


def test_all_records_belong_to_the_window(tmp_path: Path) -> None:
    """Records without times belong to any window; an invalid line is rejected with its number."""
    (path := tmp_path / "logged.jsonl").write_bytes(b'{"features":[1]}\ntorn\n{"features":[2]}\n')
    result = read_window(FileSource("file", str(path)))
    assert (result.files, result.events, result.outside) == ((str(path),), 3, 0)
    assert (result.rows, result.scores) == ([(1,), (2,)], None)
    assert result.rejected_lines == [(str(path), 2, "payload")]


def test_missing_file_is_an_error_with_its_setting(tmp_path: Path, golden: Golden) -> None:
    """The error contains the path and the setting."""
    source = FileSource("file", str(tmp_path / "absent"))
    assert source.folders(HOUR) == [str(tmp_path / "absent")]
    with golden.raises(MissingInput) as caught:
        source.files(HOUR)
    assert (str(caught.value.path), caught.value.key) == (str(tmp_path / "absent"), "source.path")
