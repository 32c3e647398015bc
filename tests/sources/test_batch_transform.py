"""The captures of batch transforms: manifests of the files they read."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from runner.domain.executions import Window
from runner.errors import StorageError
from runner.sources.batch_transform import BatchTransformSource
from tests.golden import Golden
from tests.sources.reading import HOUR, data_settings, taken


def job(root: Path, content: object, hour: str = "09", name: str = "a.json") -> BatchTransformSource:
    """Return the tree in which a transform job left this manifest."""
    (folder := root / "tree/input/2026/01/05" / hour).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return BatchTransformSource("batch_transform", str(root / "tree"))


def inputs(root: Path, **files: bytes) -> str:
    """Write input files and return their prefix."""
    (root / "in").mkdir(exist_ok=True)
    for name, data in files.items():
        (root / "in" / name).write_bytes(data)
    return f"{root / 'in'}/"


def test_both_published_shapes_are_read(tmp_path: Path) -> None:
    """A prefix that is the whole key of one file, and a prefix with names, list the same files."""
    prefix = inputs(tmp_path, one=b'{"features":[1]}\n', two=b'{"features":[2]}\n{"features":[3]}\n')
    several = taken(job(tmp_path / "x", [{"prefix": prefix}, "one", "two"]))
    assert (several.rows, several.events) == ([(1,), (2,), (3,)], 3)
    assert several.origins == [(f"{prefix}one", 1, 0), (f"{prefix}two", 1, 0), (f"{prefix}two", 2, 0)]
    assert several.files == ("input/2026/01/05/09/a.json",)
    assert taken(job(tmp_path / "y", [{"prefix": f"{prefix}one"}, ""])).rows == [(1,)]


def test_the_jobs_hour_decides(tmp_path: Path) -> None:
    """Manifests of the window's own hours count, whatever their suffix; neighbours do not."""
    prefix = inputs(tmp_path, one=b'{"features":[1]}\n')
    manifest = [{"prefix": f"{prefix}one"}, ""]
    for hour, name in (("08", "a.json"), ("09", "a.jsonl"), ("09", "b.txt"), ("10", "a.json")):
        tree = job(tmp_path, manifest, hour, name)
    assert taken(tree).rows == [(1,)]
    assert taken(tree, Window.parse("2026-01-05T08/2026-01-05T11")).rows == [(1,)] * 3
    assert tree.folders(HOUR) == [str(tmp_path / "tree/input/2026/01/05/09")]


def test_outputs_are_not_read(tmp_path: Path) -> None:
    """The manifests of a transform's output lie beside those of its input."""
    (folder := tmp_path / "tree/output/2026/01/05/09").mkdir(parents=True)
    (folder / "a.json").write_bytes(b'[{"prefix":"/nowhere"},""]')
    assert taken(BatchTransformSource("batch_transform", str(tmp_path / "tree"))).events == 0


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b"[1]", b'[{"prefix":1},""]', b'[{"prefix":"/x/"},1]', b'[{"prefix":"/x/"},"../y"]']
)
def test_another_file_than_a_manifest_is_rejected(tmp_path: Path, content: bytes) -> None:
    """A manifest that cannot be read is a rejection among the others' records."""
    prefix = inputs(tmp_path, one=b'{"features":[1]}\ntorn\n')
    job(tmp_path, [{"prefix": f"{prefix}one"}, ""], name="b.json")
    found = taken(job(tmp_path, content))
    assert (found.rows, found.events) == ([(1,)], 3)
    assert found.places == [("input/2026/01/05/09/a.json", 1, "not_a_manifest"), (f"{prefix}one", 2, "payload")]


def test_a_listed_file_that_is_gone_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """Nothing is taken for less than a transform read: what a manifest lists must be there."""
    with golden.raises(StorageError) as caught:
        taken(job(tmp_path, [{"prefix": str(tmp_path / "gone")}, ""]))
    assert caught.value.location.endswith("input/2026/01/05/09/a.json")
    assert str(tmp_path / "gone") in str(caught.value)


def test_files_are_read_as_datasets_are(tmp_path: Path) -> None:
    """The listed files may be of any layout, here dense JSON."""
    prefix = inputs(tmp_path, dense=b'{"instances":[{"features":[1]},{"features":[2]}]}')
    tree = job(tmp_path, [{"prefix": f"{prefix}dense"}, ""])
    found = taken(tree, data=data_settings(features="instances[*].features", dataset_type="application/json"))
    assert (found.rows, found.events) == ([(1,), (2,)], 2)
