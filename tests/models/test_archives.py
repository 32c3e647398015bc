"""Safe reading of model archives: corrupt and malicious ones, made with the writers of the demo model."""

from __future__ import annotations

import gzip
import io
import os
import re
import struct
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import ArtifactError
from runner.models import linear_learner
from runner.models.linear_learner import parse_arrays, unpack_tar, unpack_zip
from tests.conftest import DEMO
from tests.demo_files import array_list, tar_gz, zip_archive
from tests.golden import Golden

MEMBER = "model_algo-1"
PATH = Path("model.tar.gz")
OUTSIDE = ["../x", "/etc/x", "a/../../x", "a/..", "..\\x", "\\x"]
ARRAYS = {"arg:fc0_weight": np.array([[1.5], [-2.0]]), "arg:fc0_bias": np.array([[0.25]])}
PARAMS = array_list(ARRAYS)
ARCHIVE = zip_archive({"a.params": b"123456789", "additional-params.json": b"{}"})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the archive under test."""
    return tmp_path / "model.tar.gz"


def tar_of(member: tarfile.TarInfo, data: bytes = b"") -> bytes:
    """Return a gzipped tar with one member and any header."""
    return gzip.compress(member.tobuf(tarfile.PAX_FORMAT) + data + bytes(10240))


def compressed_zip(data: bytes, method: int) -> bytes:
    """Return a zip archive with one compressed file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("a.params", data)
    return buffer.getvalue()


@pytest.mark.parametrize("name", [MEMBER, f"./{MEMBER}"])
def test_tar_member_is_read(path: Path, name: str) -> None:
    """The member is found among others, also if its name starts with `./`."""
    path.write_bytes(tar_gz({"other": b"no", name: b"yes"}))
    assert unpack_tar(path, MEMBER) == b"yes"


@pytest.mark.parametrize("name", OUTSIDE)
def test_tar_with_unsafe_name_is_rejected(path: Path, name: str, golden: Golden) -> None:
    """A name that points outside the archive is an error, although nothing is extracted."""
    path.write_bytes(tar_gz({MEMBER: b"yes", name: b"no"}))
    with golden.raises(ArtifactError):
        unpack_tar(path, MEMBER)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_special_tar_members_are_rejected(path: Path, kind: bytes, golden: Golden) -> None:
    """A link, folder, pipe or device with the member's name is not opened."""
    member = tarfile.TarInfo(MEMBER)
    member.type, member.linkname = kind, "/etc/hostname"
    path.write_bytes(tar_of(member))
    with golden.raises(ArtifactError):
        unpack_tar(path, MEMBER)


def test_missing_tar_member_is_an_error(path: Path, golden: Golden) -> None:
    """The error lists the files in the archive."""
    path.write_bytes(tar_gz({"b": b"", "a": b""}))
    with golden.raises(ArtifactError):
        unpack_tar(path, MEMBER)


@pytest.mark.parametrize("data", [b"", b"no gzip", gzip.compress(b"no tar" * 200, mtime=0), ARCHIVE], ids=range(4))
def test_other_file_formats_are_rejected(path: Path, data: bytes, golden: Golden) -> None:
    """A file that is not a gzipped tar is an error."""
    path.write_bytes(data)
    with golden.raises(ArtifactError):
        unpack_tar(path, MEMBER)


def test_special_files_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """A directory, a pipe or a device is not an archive, and is not read."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        with golden.raises(ArtifactError):
            unpack_tar(path, MEMBER)


def test_truncated_tar_is_rejected(path: Path) -> None:
    """The demo archive, truncated to any length, is an error."""
    data = (DEMO / "model.tar.gz").read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ArtifactError):
            unpack_tar(path, MEMBER)


def test_wrong_gzip_checksum_is_rejected(path: Path) -> None:
    """A changed bit in the checksum is an error."""
    data = bytearray(tar_gz({MEMBER: b"yes"}))
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="CRC"):
        unpack_tar(path, MEMBER)


@pytest.mark.parametrize(
    "headers",
    [{"size": "9" * 20}, {"GNU.sparse.size": "abc"}, {"GNU.sparse.map": "1,2,a"}],
    ids=lambda headers: next(iter(headers)),
)
def test_invalid_extended_header_is_rejected(path: Path, headers: dict[str, str]) -> None:
    """An extended header with an invalid number is an error."""
    member = tarfile.TarInfo(MEMBER)
    member.pax_headers = headers
    path.write_bytes(tar_of(member))
    with pytest.raises(ArtifactError):
        unpack_tar(path, MEMBER)


def test_gzip_bomb_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """An archive with an uncompressed size above the limit is an error."""
    monkeypatch.setattr(linear_learner, "MAX_ARCHIVE_BYTES", 100_000)
    path.write_bytes(tar_gz({MEMBER: bytes(1_000_000)}))
    assert path.stat().st_size < 10_000
    with golden.raises(ArtifactError):
        unpack_tar(path, MEMBER)


def test_sparse_bomb_is_rejected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse member with a size above the limit is an error."""
    monkeypatch.setattr(linear_learner, "MAX_ARCHIVE_BYTES", 100_000)
    member = tarfile.TarInfo(MEMBER)
    member.pax_headers = {"GNU.sparse.size": "1000000", "GNU.sparse.map": "999999,1"}
    member.size = 1
    path.write_bytes(tar_of(member, b"x".ljust(512, b"\0")))
    with pytest.raises(ArtifactError):
        unpack_tar(path, MEMBER)


def test_zip_files_are_read() -> None:
    """All files are read; directories are skipped."""
    data = zip_archive({"folder/": b"", "folder/a": b"1", "b": b"2"})
    assert unpack_zip(PATH, data) == {"folder/a": b"1", "b": b"2"}


@pytest.mark.parametrize("name", OUTSIDE)
def test_zip_with_unsafe_name_is_rejected(name: str, golden: Golden) -> None:
    """A name that points outside the archive is an error."""
    with golden.raises(ArtifactError):
        unpack_zip(PATH, zip_archive({"a": b"yes", name: b"no"}))


def test_truncated_zip_is_rejected() -> None:
    """An archive truncated to any length is an error."""
    for length in range(len(ARCHIVE)):
        with pytest.raises(ArtifactError):
            unpack_zip(PATH, ARCHIVE[:length])


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_changed_zip_is_read_or_rejected(method: int) -> None:
    """A changed byte raises no other error than ArtifactError."""
    data = compressed_zip(b"123456789", method)
    for i in range(len(data)):
        for value in {0, 255, data[i] ^ 1, data[i] ^ 128}:
            with suppress(ArtifactError):
                unpack_zip(PATH, data[:i] + bytes([value]) + data[i + 1 :])


def test_zip_bomb_is_rejected(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """An archive with a declared uncompressed size above the limit is an error."""
    monkeypatch.setattr(linear_learner, "MAX_ARCHIVE_BYTES", 100_000)
    with golden.raises(ArtifactError):
        unpack_zip(PATH, compressed_zip(bytes(1_000_000), zipfile.ZIP_DEFLATED))


def test_zip_bomb_with_wrong_size_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with a wrong declared size is not unpacked beyond the limit."""
    size = 50_000_000
    bomb = compressed_zip(bytes(size), zipfile.ZIP_DEFLATED).replace(struct.pack("<I", size), struct.pack("<I", 10))
    monkeypatch.setattr(linear_learner, "MAX_ARCHIVE_BYTES", 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError):
            unpack_zip(PATH, bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("shape", [(), (1,), (14, 1), (2, 3, 4), (0, 5)])
def test_arrays_are_parsed(shape: tuple[int, ...]) -> None:
    """Arrays of any shape are returned by name."""
    array = np.arange(np.prod(shape)).reshape(shape) / 3
    arrays = parse_arrays(PATH, array_list({"a": array, "b": -array}))
    assert list(arrays) == ["a", "b"]
    np.testing.assert_array_equal(arrays["a"], array.astype(np.float32), strict=True)
    np.testing.assert_array_equal(arrays["b"], -array.astype(np.float32), strict=True)


def test_truncated_parameters_are_rejected() -> None:
    """A list of arrays truncated to any length is an error."""
    for length in range(len(PARAMS)):
        with pytest.raises(ArtifactError):
            parse_arrays(PATH, PARAMS[:length])


@pytest.mark.parametrize(
    ("offset", "layout", "values", "problem"),
    [
        (0, "<Q", [0x113], "magic 0x113"),
        (16, "<Q", [2**40], "1099511627776 arrays"),
        (24, "<I", [0xF993FAC8], "array with magic 0xf993fac8"),
        (28, "<i", [1], "storage type 1"),
        (32, "<I", [9], "9 dimensions"),
        (36, "<qq", [-1, 1], "shape (-1, 1)"),
        (36, "<qq", [-1, -2], "cannot be read as an MXNet array list"),
        (36, "<qq", [2**40, 1], "cannot be read as an MXNet array list"),
        (36, "<qq", [2**62, 2**62], "cannot be read as an MXNet array list"),
        (36, "<qq", [0, 2**62], "cannot be read as an MXNet array list"),
        (60, "<i", [1], "array of dtype 1 and shape (2, 1)"),
        (116, "<Q", [1], "2 arrays but 1 names"),
        (124, "<Q", [2**64 - 1], "truncated names"),
        (132, "<B", [255], "utf-8"),
    ],
)
def test_invalid_parameters_are_rejected(offset: int, layout: str, values: list[int], problem: str) -> None:
    """Other formats, number types and invalid sizes are errors."""
    data = bytearray(PARAMS)
    struct.pack_into(layout, data, offset, *values)
    with pytest.raises(ArtifactError, match=re.escape(problem)):
        parse_arrays(PATH, bytes(data))


@given(st.integers(0, len(PARAMS) - 8), st.binary(min_size=1, max_size=8))
def test_changed_parameters_are_read_or_rejected(offset: int, change: bytes) -> None:
    """Changed bytes raise no other error than ArtifactError."""
    with suppress(ArtifactError):
        parse_arrays(PATH, PARAMS[:offset] + change + PARAMS[offset + len(change) :])
