"""Captures of batch transforms: manifests, and the files in them."""

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
from tests.sources.reading import HOUR, data_settings, read_window


def transform_source(root: Path, content: object, hour: str = "09", name: str = "a.json") -> BatchTransformSource:
    """Return the source with this manifest of a transform job."""
    (folder := root / "tree/input/2026/01/05" / hour).mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
    return BatchTransformSource("batch_transform", str(root / "tree"))


def input_prefix(root: Path, **files: bytes) -> str:
    """Write input files and return their prefix."""
    (root / "in").mkdir(exist_ok=True)
    for name, data in files.items():
        (root / "in" / name).write_bytes(data)
    return f"{root / 'in'}/"


def test_manifests_of_one_and_of_several_files_are_read(tmp_path: Path) -> None:
    """A prefix that is the key of one file, and a prefix with names, list the same files."""
    prefix = input_prefix(tmp_path, one=b'{"features":[1]}\n', two=b'{"features":[2]}\n{"features":[3]}\n')
    several = read_window(transform_source(tmp_path / "x", [{"prefix": prefix}, "one", "two"]))
    assert (several.rows, several.events) == ([(1,), (2,), (3,)], 3)
    assert several.origins == [(f"{prefix}one", 1, 0), (f"{prefix}two", 1, 0), (f"{prefix}two", 2, 0)]
    assert several.files == ("input/2026/01/05/09/a.json",)
    assert read_window(transform_source(tmp_path / "y", [{"prefix": f"{prefix}one"}, ""])).rows == [(1,)]


def test_only_manifests_in_the_window_are_read(tmp_path: Path) -> None:
    """Manifests of the window's own hours are read, those of neighbour hours are not."""
    prefix = input_prefix(tmp_path, one=b'{"features":[1]}\n')
    manifest = [{"prefix": f"{prefix}one"}, ""]
    for hour, name in (("08", "a.json"), ("09", "a.jsonl"), ("09", "b.txt"), ("10", "a.json")):
        tree = transform_source(tmp_path, manifest, hour, name)
    assert read_window(tree).rows == [(1,)]
    assert read_window(tree, Window.parse("2026-01-05T08/2026-01-05T11")).rows == [(1,)] * 3
    assert tree.folders(HOUR) == [str(tmp_path / "tree/input/2026/01/05/09")]


def test_outputs_are_not_read(tmp_path: Path) -> None:
    """The manifests of a transform's output are not read."""
    (folder := tmp_path / "tree/output/2026/01/05/09").mkdir(parents=True)
    (folder / "a.json").write_bytes(b'[{"prefix":"/nowhere"},""]')
    assert read_window(BatchTransformSource("batch_transform", str(tmp_path / "tree"))).events == 0


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b"{}", b"[1]", b'[{"prefix":1},""]', b'[{"prefix":"/x/"},1]', b'[{"prefix":"/x/"},"../y"]']
)
def test_invalid_manifest_is_rejected(tmp_path: Path, content: bytes) -> None:
    """An invalid manifest is one rejection; the other manifests are read."""
    prefix = input_prefix(tmp_path, one=b'{"features":[1]}\ntorn\n')
    transform_source(tmp_path, [{"prefix": f"{prefix}one"}, ""], name="b.json")
    result = read_window(transform_source(tmp_path, content))
    assert (result.rows, result.events) == ([(1,)], 3)
    assert result.rejected_lines == [
        ("input/2026/01/05/09/a.json", 1, "not_a_manifest"),
        (f"{prefix}one", 2, "payload"),
    ]


def test_missing_file_in_a_manifest_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """A file in a manifest must exist, so that no record is missing."""
    with golden.raises(StorageError) as caught:
        read_window(transform_source(tmp_path, [{"prefix": str(tmp_path / "gone")}, ""]))
    assert caught.value.location.endswith("input/2026/01/05/09/a.json")
    assert str(tmp_path / "gone") in str(caught.value)


def test_files_in_a_manifest_have_the_format_of_datasets(tmp_path: Path) -> None:
    """The listed files may have any format, here JSON."""
    prefix = input_prefix(tmp_path, dense=b'{"instances":[{"features":[1]},{"features":[2]}]}')
    tree = transform_source(tmp_path, [{"prefix": f"{prefix}dense"}, ""])
    result = read_window(tree, data=data_settings(features="instances[*].features", dataset_type="application/json"))
    assert (result.rows, result.events) == ([(1,), (2,)], 2)


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
def test_published_manifests_are_decoded(manifest: bytes, locations: list[str]) -> None:
    """A prefix and a name are a location; an empty name stands for the prefix."""
    assert decode_manifest(manifest) == locations


def test_manifests_are_encoded_as_published() -> None:
    """A single object is its own prefix, several are names below their prefix."""
    assert encode_manifest("s3://b/in/test.json") == b'[{"prefix":"s3://b/in/test.json"},""]'
    assert encode_manifest("s3://b/in/", "a.csv", "b.csv") == b'[{"prefix":"s3://b/in/"},"a.csv","b.csv"]'


@given(st.text().filter(lambda text: ".." not in text.split("/") and "\0" not in text), st.lists(names))
def test_any_manifest_is_unchanged_by_encoding_and_decoding(prefix: str, result: list[str]) -> None:
    """Any prefix and names are decoded as they were encoded."""
    assert decode_manifest(encode_manifest(prefix, *result)) == ([prefix + name for name in result] or [prefix])


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
def test_invalid_manifest_is_a_record_error(manifest: bytes) -> None:
    """An invalid manifest, or a name outside the prefix, is an error with a shortened message."""
    with pytest.raises(RecordError) as caught:
        decode_manifest(manifest)
    assert caught.value.kind == "not_a_manifest"
    assert len(str(caught.value)) < 300


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(orjson.dumps))
def test_any_invalid_file_is_a_record_error(data: bytes) -> None:
    """Any other content is a record error."""
    with pytest.raises(RecordError):
        decode_manifest(data)
