"""SageMaker Linear Learner, loaded from its artifact with numpy only.

Archives are read safely: in memory only, with checked names and limited sizes.

Array letters: N records, D features, L labels (one).

Source: the layouts of SageMaker's model.tar.gz and of MXNet's NDArray list (magic 0x112), derived from real files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from decimal import ROUND_DOWN, Context, Decimal
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, Link
from runner.domain.numbers import plural
from runner.errors import ArtifactError, MissingInput, ModelInputError, listed
from runner.models.base import LocalModel, check_file, check_width
from runner.records.payloads import encode_scores
from runner.types import NO_OTHER_KEYS

MAX_ARCHIVE_BYTES = 256 * 2**20
"""Maximum uncompressed size of an archive, in bytes."""

CORRUPT = (
    OSError, EOFError, ValueError, ArithmeticError, LookupError, RuntimeError,
    zlib.error, lzma.LZMAError, struct.error, tarfile.TarError, zipfile.BadZipFile,
)  # fmt: skip
"""Exceptions that the standard library raises for corrupt archives."""

LIST_MAGIC, ARRAY_MAGIC = 0x112, 0xF993FAC9
DENSE, FLOAT32 = 0, 0
PREDICTORS = ("binary_classifier", "regressor")
"""Supported values of `predictor_type`."""


def unpack_tar(path: Path, member: str) -> bytes:
    """Return one regular file of a gzipped tar.

    Raises:
        MissingInput: if the archive does not exist.
        ArtifactError: if it is corrupt, too large, unsafe, or lacks the member.
    """
    try:
        check_file(path)
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
                raise ArtifactError(path, f"has no file {member!r}; it contains {listed(sorted(files)) or 'no files'}")
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
        ArtifactError: if the bytes are truncated, or an array is not dense float32.
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


class Parameters(NamedTuple):
    """The parameters of an artifact: weights_D and bias in float32, the predictor type and its label threshold."""

    weights_D: NDArray[np.float32]
    bias: np.float32
    predictor: str
    threshold: float


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class LinearLearner(LocalModel):
    """A logistic or linear regression in float32, with the arithmetic of the SageMaker container.

    Attributes:
        kind: `linear_learner`.
        artifact: path of model.tar.gz.
        label_headers: name of the only output, None for `label0`.
    """

    is_fast: ClassVar[bool] = True
    is_additive: ClassVar[bool] = True

    kind: Literal["linear_learner"]
    artifact: Path
    label_headers: tuple[str] | None

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artifact."""
        return hashlib.sha256(self._bytes).hexdigest()

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL: probabilities of a classifier, values of a regressor.

        Products are added one by one in float32, without BLAS, so that a row's score is bit-identical in every batch.

        Raises:
            ArtifactError: if the artifact cannot be read or expects another number of features.
            ModelInputError: if a feature is not numeric.
        """
        weights_D, bias, predictor, _ = self._parameters_for(features)
        margin_N = np.zeros(features.height, dtype=np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            for column, weight in zip(features, weights_D, strict=True):
                margin_N += _numbers(column) * weight
            margin_N += bias
            if not (is_finite_N := np.isfinite(margin_N)).all():
                _raise_overflow(features.filter(~is_finite_N), weights_D)
            if predictor == "binary_classifier":
                margin_N = np.float32(1) / (np.float32(1) + np.exp(-margin_N))
        return margin_N.astype(np.float64)[:, None]

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the terms in float64, computed from weights and features rounded to float32.

        Raises:
            ArtifactError: if the artifact cannot be read or expects another number of features.
            ModelInputError: if a feature is not numeric.
        """
        weights_D, bias, predictor, _ = self._parameters_for(features)
        terms = [
            _numbers(column).astype(np.float64) * weight
            for column, weight in zip(features, weights_D.astype(np.float64), strict=True)
        ]
        link: Link = "logistic" if predictor == "binary_classifier" else "identity"
        return Additive(link, np.array([float(bias)]), np.stack(terms, axis=1)[:, :, None])

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the response body that a SageMaker endpoint sends, in the format of its container.

        Raises:
            ValueError: if the media type is not supported.
        """
        return encode_scores(self.predict(features), accept, self._record, self._line)

    def _record(self, scores: list[float]) -> dict[str, float]:
        return {"score": scores[0], **self._label(scores[0])}

    def _line(self, scores: list[float]) -> str:
        (score,) = scores
        label = "".join(f'"{name}":{value},' for name, value in self._label(score).items())
        return f'{{{label}"score":{_truncated(score)}}}\n'

    def _label(self, score: float) -> dict[str, int]:
        """Return the predicted label of a score; empty for a regressor."""
        if self.parameters.predictor == "regressor":
            return {}
        return {"predicted_label": int(score >= self.parameters.threshold)}

    def _parameters_for(self, features: pl.DataFrame) -> Parameters:
        """Return the parameters after checking the number of features."""
        check_width(self.artifact, len(self.parameters.weights_D), features)
        return self.parameters

    @cached_property
    def parameters(self) -> Parameters:
        """The parameters, read once.

        Raises:
            MissingInput: if the artifact does not exist.
            ArtifactError: if it is corrupt, unsafe or not supported.
        """
        archive = unpack_zip(self.artifact, unpack_tar(self.artifact, "model_algo-1"))
        params = [data for name, data in archive.items() if name.endswith(".params")]
        if len(params) != 1 or "additional-params.json" not in archive:
            raise ArtifactError(
                self.artifact,
                f"is not a Linear Learner model; it contains the files {listed(sorted(archive)) or 'none'}",
            )
        arrays = parse_arrays(self.artifact, params[0])
        try:
            weights_D, biases = arrays["arg:fc0_weight"], arrays["arg:fc0_bias"].ravel()
            extra = orjson.loads(archive["additional-params.json"])
            predictor = extra["predictor_type"]
            threshold = 0.5 if extra.get("threshold") is None else float(extra["threshold"])
        except KeyError as error:
            raise ArtifactError(self.artifact, f"is not a Linear Learner model: it has no {error.args[0]}") from error
        except (ValueError, TypeError, AttributeError) as error:
            problem = "is not a Linear Learner model: additional-params.json is invalid"
            expected = "an object with predictor_type and a numeric threshold"
            raise ArtifactError(self.artifact, f"{problem}; expected {expected}") from error
        if len(biases) != 1:
            problem = f"is not a supported Linear Learner model: it has {plural(len(biases), 'bias value')}"
            raise ArtifactError(self.artifact, f"{problem}; expected one")
        if predictor not in PREDICTORS or weights_D.ndim != 2 or weights_D.shape[1] != 1:
            problem = f"predictor_type {predictor!r} with weights of shape {weights_D.shape} is not supported"
            expected = f"{' or '.join(PREDICTORS)} with weights of shape (D, 1)"
            raise ArtifactError(self.artifact, f"{problem}; expected {expected}")
        return Parameters(weights_D.ravel(), biases[0], predictor, threshold)

    @cached_property
    def _bytes(self) -> bytes:
        return self.artifact.read_bytes()


def _numbers(column: pl.Series) -> NDArray[np.float32]:
    if column.null_count():
        raise ModelInputError("linear_learner", column.name, None, "numbers only")
    if not column.dtype.is_numeric():
        value = column[0] if len(column) else None
        raise ModelInputError("linear_learner", column.name, value, "numbers only")
    return column.to_numpy().astype(np.float32)


def _raise_overflow(features: pl.DataFrame, weights_D: NDArray[np.float32]) -> None:
    """Raise an error for the first of these records, with the feature that contributes most to its sum."""
    for column in features:
        overflowing = column.filter(~np.isfinite(_numbers(column)))
        if len(overflowing):
            raise ModelInputError("linear_learner", column.name, overflowing[0], "numbers in the range of float32")
    row = features.row(0)
    d = int(np.abs(np.array(row, np.float64) * weights_D).argmax())
    expected = "numbers whose weighted sum is in the range of float32"
    raise ModelInputError("linear_learner", features.columns[d], row[d], expected)


def _truncated(score: float) -> str:
    """Return a score in the format of the container: decimal notation, truncated after 15 decimals.

    >>> _truncated(0.9899773597717285)
    '0.989977359771728'
    """
    text = repr(float(score))
    if "e" in text:
        text = f"{Decimal(text).quantize(Decimal('1e-15'), ROUND_DOWN, Context(prec=400)):f}"
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals[:15].rstrip('0') or '0'}"
