"""The manifests of a batch transform with data capture."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RecordError
from runner.records.manifests import decode, encode

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
    assert decode(manifest) == locations


def test_manifests_are_written_as_published() -> None:
    """One object is its own prefix, several are named below theirs."""
    assert encode("s3://b/in/test.json") == b'[{"prefix":"s3://b/in/test.json"},""]'
    assert encode("s3://b/in/", "a.csv", "b.csv") == b'[{"prefix":"s3://b/in/"},"a.csv","b.csv"]'


@given(st.text().filter(lambda text: ".." not in text.split("/") and "\0" not in text), st.lists(names))
def test_any_manifest_survives(prefix: str, found: list[str]) -> None:
    """What is written is read."""
    assert decode(encode(prefix, *found)) == ([prefix + name for name in found] or [prefix])


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
        decode(manifest)
    assert caught.value.kind == "not_a_manifest"
    assert len(str(caught.value)) < 300


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(orjson.dumps))
def test_no_file_raises_anything_else(data: bytes) -> None:
    """Whatever else stands in a file, it is a record error and no other."""
    with pytest.raises(RecordError):
        decode(data)
