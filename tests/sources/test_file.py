"""One file of records as a source."""

from __future__ import annotations

from pathlib import Path

from runner.errors import MissingInput
from runner.sources.file import FileSource
from tests.golden import Golden
from tests.sources.reading import HOUR, taken


def test_all_of_it_is_the_windows(tmp_path: Path) -> None:
    """Records without times belong to whatever window is asked for; what is lost is told by its line."""
    (path := tmp_path / "logged.jsonl").write_bytes(b'{"features":[1]}\ntorn\n{"features":[2]}\n')
    found = taken(FileSource("file", str(path)))
    assert (found.files, found.events, found.outside) == ((str(path),), 3, 0)
    assert (found.rows, found.scores) == ([(1,), (2,)], None)
    assert found.places == [(str(path), 2, "payload")]


def test_a_missing_one_names_its_setting(tmp_path: Path, golden: Golden) -> None:
    """A file that is not there is an error with its path and its setting, and its path is where was looked."""
    source = FileSource("file", str(tmp_path / "absent"))
    assert source.folders(HOUR) == [str(tmp_path / "absent")]
    with golden.raises(MissingInput) as caught:
        source.files(HOUR)
    assert (str(caught.value.path), caught.value.key) == (str(tmp_path / "absent"), "source.path")
