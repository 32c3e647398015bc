"""Safe reading of model archives: in memory only, with checked names and limited sizes.

Source: the layouts of SageMaker's model.tar.gz and of MXNet's NDArray list (magic 0x112), derived from real files.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from runner.errors import ArtifactError, MissingInput

MAX_ARCHIVE_BYTES = 256 * 2**20
"""Maximum uncompressed size of an archive, in bytes."""

CORRUPT = (
    OSError, EOFError, ValueError, ArithmeticError, LookupError, RuntimeError,
    zlib.error, lzma.LZMAError, struct.error, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""Exceptions that the standard library raises for corrupt archives."""

LIST_MAGIC, ARRAY_MAGIC = 0x112, 0xF993FAC9
DENSE, FLOAT32 = 0, 0


def unpack_tar(path: Path, member: str) -> bytes:
    """Return one regular file of a gzipped tar.

    Raises:
        MissingInput: if the archive does not exist.
        ArtifactError: if it is corrupt, too large, unsafe, or lacks the member.
    """
    try:
        with gzip.open(path) as stream:
            data = stream.read(MAX_ARCHIVE_BYTES + 1)
        if len(data) > MAX_ARCHIVE_BYTES:
            raise ArtifactError(path, f"its uncompressed size exceeds {MAX_ARCHIVE_BYTES:,} bytes")
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            entries = archive.getmembers()
            for entry in entries:
                _check_name(path, entry.name)
            files = {PurePosixPath(entry.name).as_posix(): entry for entry in entries if entry.isfile()}
            if member not in files:
                raise ArtifactError(path, f"has no file {member!r}; it contains {sorted(files)}")
            if files[member].issparse():
                raise ArtifactError(path, f"unsafe: its member {member!r} is sparse")
            file = archive.extractfile(files[member])
            return file.read() if file else b""
    except FileNotFoundError as error:
        raise MissingInput("the model", path, "model.artifact", "give the path of a model.tar.gz") from error
    except CORRUPT as error:
        raise ArtifactError(path, f"cannot be read as a tar.gz archive ({error})") from error


def unpack_zip(path: Path, data: bytes) -> dict[str, bytes]:
    """Return the files of a zip archive by name.

    Raises:
        ArtifactError: if the archive is corrupt, too large or unsafe.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                _check_name(path, name)
            files, remaining = {}, MAX_ARCHIVE_BYTES
            for entry in archive.infolist():
                if entry.is_dir():
                    continue
                with archive.open(entry) as stream:
                    files[entry.filename] = stream.read(remaining + 1)
                remaining -= len(files[entry.filename])
                if remaining < 0:
                    raise ArtifactError(path, f"its uncompressed size exceeds {MAX_ARCHIVE_BYTES:,} bytes")
            return files
    except CORRUPT as error:
        raise ArtifactError(path, f"its model file cannot be read as a zip archive ({error})") from error


def parse_arrays(path: Path, data: bytes) -> dict[str, NDArray[np.float32]]:
    """Return the float32 arrays of an MXNet NDArray list by name.

    Raises:
        ArtifactError: if the bytes are truncated or contain other arrays than dense float32.
    """
    try:
        return _parse_arrays(data)
    except CORRUPT as error:
        raise ArtifactError(path, f"its parameters cannot be read as an MXNet array list ({error})") from error


def _parse_arrays(data: bytes) -> dict[str, NDArray[np.float32]]:
    magic, _, count = struct.unpack_from("<QQQ", data, 0)
    if magic != LIST_MAGIC or count > len(data):
        raise ValueError(f"magic {magic:#x}, {count} arrays")
    arrays, offset = [], 24
    for _ in range(count):
        magic, storage, dimensions = struct.unpack_from("<IiI", data, offset)
        if magic != ARRAY_MAGIC or storage != DENSE or dimensions > 8:
            raise ValueError(f"array with magic {magic:#x}, storage type {storage}, {dimensions} dimensions")
        shape = struct.unpack_from(f"<{dimensions}q", data, offset + 12)
        *_, dtype = struct.unpack_from("<iii", data, offset + 12 + 8 * dimensions)
        size = int(np.prod(shape, dtype=np.object_))
        if dtype != FLOAT32 or size < 0:
            raise ValueError(f"array of dtype {dtype} and shape {shape}")
        offset += 24 + 8 * dimensions
        arrays.append(np.frombuffer(data, "<f4", size, offset).reshape(shape))
        offset += 4 * size
    (names,) = struct.unpack_from("<Q", data, offset)
    if names != count:
        raise ValueError(f"{count} arrays but {names} names")
    offset += 8
    labelled = {}
    for array in arrays:
        (length,) = struct.unpack_from("<Q", data, offset)
        name = data[offset + 8 : offset + 8 + length].decode("utf-8")
        offset += 8 + length
        if offset > len(data):
            raise ValueError("truncated names")
        labelled[name] = array
    return labelled


def _check_name(path: Path, name: str) -> None:
    inner = PurePosixPath(name.replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts:
        raise ArtifactError(path, f"unsafe: its member {name!r} points outside the archive")
