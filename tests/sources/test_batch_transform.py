"""The captures of batch transforms: manifests of the files they read."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.domain.executions import Window
from runner.errors import RecordError, StorageError
from runner.sources.batch_transform import BatchTransformSource, decode_manifest, encode_manifest
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


names = st.text(min_size=1).filter(lambda name: ".." not in name.split("/") and "\0" not in name)


@pytest.mark.parametrize(
    ("manifest", "locations"),
    [
        (b'[{"prefix":"s3://b/in/test-dataset.json"},""]', ["s3://b/in/test-dataset.json"]),
        (b'[{"prefix":"s3://bucket/in/"},"a.csv","b.csv"]', ["s3://bucket/in/a.csv", "s3://bucket/in/b.csv"]),
        (b'[{"prefix":"s3://b/out/"},"test-dataset.json.out"]', ["s3://b/out/test-dataset.json.out"]),
        (b'[{"prefix": "s3://b/in/"},\n "x y.csv", "sub/b..csv"]\n', ["s3://b/in/x y.csv", "s3://b/in/sub/b..csv"]),
        (b'[{"prefix":"s3://b/in/"}]', []),
        (b'[{"prefix":"s3://b/in/","more":1},"a"]', ["s3://b/in/a"]),
        (b'[{"prefix":""},"a"]', ["a"]),
    ],
)
def test_published_manifests(manifest: bytes, locations: list[str]) -> None:
    """A prefix and its names are locations; the empty name is the prefix itself."""
    assert decode_manifest(manifest) == locations


def test_manifests_are_written_as_published() -> None:
    """One object is its own prefix, several are named below theirs."""
    assert encode_manifest("s3://b/in/test.json") == b'[{"prefix":"s3://b/in/test.json"},""]'
    assert encode_manifest("s3://b/in/", "a.csv", "b.csv") == b'[{"prefix":"s3://b/in/"},"a.csv","b.csv"]'


@given(st.text().filter(lambda text: ".." not in text.split("/") and "\0" not in text), st.lists(names))
def test_any_manifest_survives(prefix: str, found: list[str]) -> None:
    """What is written is read."""
    assert decode_manifest(encode_manifest(prefix, *found)) == ([prefix + name for name in found] or [prefix])


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"torn [",
        b'"\xff"',
        b"[" * 2000,
        b"3",
        b"null",
        b"[]",
        b"{}",
        b'{"prefix":"s3://b/"}',
        b'"text"',
        b'["s3://b/","a"]',
        b'[{"Prefix":"s3://b/"},"a"]',
        b'[["prefix"],"a"]',
        b'[{"prefix":7},"a"]',
        b'[{"prefix":"s3://b/"},7]',
        b'[{"prefix":"s3://b/"},["a"]]',
        b'[{"prefix":"s3://b/in/"},"../a"]',
        b'[{"prefix":"s3://b/in/"},"sub/../../a"]',
        b'[{"prefix":"s3://b/in/"},".."]',
        b"x" * 10_000,
    ],
)
def test_other_files_are_no_manifests(manifest: bytes) -> None:
    """What is no manifest, or leaves its prefix, is shown, shortened."""
    with pytest.raises(RecordError) as caught:
        decode_manifest(manifest)
    assert caught.value.kind == "not_a_manifest"
    assert len(str(caught.value)) < 300


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(orjson.dumps))
def test_no_file_raises_anything_else(data: bytes) -> None:
    """Whatever else stands in a file, it is a record error and no other."""
    with pytest.raises(RecordError):
        decode_manifest(data)
