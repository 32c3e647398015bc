"""The base classes of models in this process, and their helpers: files, input matrices, scores.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from runner.domain.numbers import plural
from runner.errors import (
    ArtifactError,
    MissingInput,
    ModelAnswerError,
    ModelInputError,
    SettingsError,
    ShapwatchError,
    import_problem,
    listed,
    snippet,
    summary,
)
from runner.storage import is_regular
from runner.types import NO_OTHER_KEYS

MAX_FILE_BYTES = 2 * 2**30
"""Maximum size of a model file in bytes."""

PICKLE_NAMES = (".pkl", ".pickle", ".joblib")
"""File name suffixes of pickles."""

PICKLE_MAGIC = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
"""First bytes of a pickle, for protocols 2 to 5."""
PASSED_ON = (ShapwatchError, KeyboardInterrupt, GeneratorExit)
"""Exceptions that are not failures of a library: our own errors, an interruption, and the end of a generator."""


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("duplicate values; list each value once")
    return values


Columns = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], Field(min_length=1), AfterValidator(_unique)]
Headers = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)]


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class LocalModel:
    """A model in this process.

    Attributes:
        kind: the option of `conf/model`.
        deploy: None to predict in this process, `shadow` to predict through a temporary local endpoint.
    """

    is_fast: ClassVar[bool] = False
    """Whether a prediction takes microseconds and consists of arithmetic only."""

    kind: str
    deploy: Literal["shadow"] | None

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings only: another process loads the model itself."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class FileModel(LocalModel):
    """A model in this process that is loaded from a file of a library.

    Attributes:
        artifact: path of the file.
        columns: indices of the score columns to explain, counted from 0; None for all.
        label_headers: names of the outputs, None for `label0`, `label1`, …
    """

    save_with: ClassVar[str]
    """The function that writes the file, for messages."""

    artifact: Path
    columns: Columns | None
    label_headers: Headers | None

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the artifact and `columns`."""
        return fingerprint(self._bytes, self.columns)

    @cached_property
    def _bytes(self) -> bytes:
        return file_bytes(self.artifact, self.save_with)


@contextmanager
def installed(extra: str) -> Iterator[None]:
    """Turn a failed import of an optional library inside the context into a settings error.

    Raises:
        SettingsError: if the library cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        raise SettingsError([f"model.kind={extra} {import_problem(extra, error)}"]) from error


@contextmanager
def reading(path: Path, format_name: str) -> Iterator[None]:
    """Turn any exception of a library that parses a model file into an artifact error.

    Raises:
        ArtifactError: if the library raises any exception, panics or exits.
    """
    try:
        yield
    except PASSED_ON:
        raise
    except BaseException as error:
        raise ArtifactError(path, f"cannot be read as {format_name} ({summary(error)})") from error


@contextmanager
def computing(name: str) -> Iterator[None]:
    """Turn any exception of a library or function that computes scores into a model error.

    Raises:
        ModelAnswerError: if the library or function raises any exception, panics or exits.
    """
    try:
        yield
    except PASSED_ON:
        raise
    except BaseException as error:
        remedy = "check that the features match those of the training data (data.headers)"
        raise ModelAnswerError(f"{name} failed with {summary(error)}; {remedy}") from error


def file_bytes(path: Path, save_with: str) -> bytes:
    """Return the bytes of a model's file.

    Raises:
        MissingInput: if the file does not exist.
        ArtifactError: if it cannot be read, is not a regular file, is too large, is empty, or is a pickle.
    """
    try:
        check_file(path)
        data = path.read_bytes()
    except FileNotFoundError as error:
        remedy = f"save the model with {save_with} and set model.artifact to its path"
        raise MissingInput("the model", path, "model.artifact", remedy) from error
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror})") from error
    if path.suffix.lower() in PICKLE_NAMES or data.startswith(PICKLE_MAGIC):
        problem = "is a pickle; loading a pickle can run arbitrary code, so pickles are never loaded"
        raise ArtifactError(path, f"{problem}; save the model with {save_with} instead")
    if not data:
        raise ArtifactError(path, "is empty")
    return data


def check_file(path: Path) -> None:
    """Refuse a path that is not a regular file, which might be read for ever, and a file that is too large.

    Raises:
        ArtifactError: if it is a directory, pipe, device, socket or file of the kernel, or is too large.
        OSError: if it does not exist, or its folder cannot be read.
    """
    status = path.stat()
    if not is_regular(status):
        problem = "is a directory, pipe, device, socket, or file of the kernel"
        raise ArtifactError(path, f"{problem}; set model.artifact to the path of the model file")
    if status.st_size > MAX_FILE_BYTES:
        problem = f"has {status.st_size:,} bytes; the maximum is {MAX_FILE_BYTES:,}"
        raise ArtifactError(path, f"{problem}; check that it is the model file")


def fingerprint(data: bytes, *settings: object) -> str:
    """Return the SHA-256 of a model file's bytes and of the settings that change its scores."""
    return hashlib.sha256(data + json.dumps(settings).encode()).hexdigest()


def check_width(path: Path, width: int, features: pl.DataFrame) -> None:
    """Check that the records have the number of features that the model expects.

    Raises:
        ArtifactError: if the numbers differ.
    """
    if features.width != width:
        raise ArtifactError(path, f"the model expects {width} features, but the records have {features.width}")


def in_model_order(path: Path, names: Sequence[str], features: pl.DataFrame) -> pl.DataFrame:
    """Return the features in the order of the model's feature names.

    Raises:
        ArtifactError: if a feature of the model is missing.
    """
    missing = [name for name in names if name not in features.columns]
    if missing:
        lacking = f"the records lack the model's features {listed(map(repr, missing))}"
        problem = f"{lacking}; the records have {listed(map(repr, features.columns))}"
        raise ArtifactError(path, f"{problem}; set data.headers to the feature names of the training data")
    return features.select(names)


def non_empty(features: pl.DataFrame) -> pl.DataFrame:
    """Return the features, or one row of zeros and empty strings if there is no row: libraries reject empty input."""
    if features.height:
        return features
    return pl.DataFrame({column.name: [""] if column.dtype == pl.String else [0] for column in features})


def matrix(kind: str, features: pl.DataFrame) -> NDArray[np.float64]:
    """Return x_ND as floats: booleans become 0 and 1, nulls become NaN.

    Raises:
        ModelInputError: if a feature is neither numeric nor boolean.
    """
    for column in features:
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            example = next(iter(column.drop_nulls()), None)
            raise ModelInputError(kind, column.name, example, "numbers and booleans")
    return np.ascontiguousarray(features.cast(pl.Float64).fill_null(float("nan")).to_numpy())


def scores(name: str, output: Any, rows: int, columns: tuple[int, ...] | None) -> NDArray[np.float64]:
    """Return scores_NL: the selected columns of a model's output, or all of them.

    Args:
        name: the model, for messages.
        output: the scores of N rows; if N is 0, of no row or of one row.
        rows: N.
        columns: indices of the columns to return, None for all.

    Raises:
        ModelAnswerError: if the output does not have one or more numbers per row, or lacks a selected column.
    """
    scores_NL = _numbers(name, output)
    if scores_NL.ndim == 1:
        scores_NL = scores_NL[:, None]
    if scores_NL.ndim != 2 or len(scores_NL) not in {rows, rows or 1}:
        problem = f"returned scores of shape {scores_NL.shape} for {plural(rows, 'row')}"
        raise ModelAnswerError(f"{name} {problem}; expected one or more scores per row")
    if columns and max(columns) >= scores_NL.shape[1]:
        count = plural(scores_NL.shape[1], "column")
        raise ModelAnswerError(f"{name} returned {count}, but model.columns={list(columns)} (counted from 0)")
    return scores_NL[:rows, list(columns)] if columns else scores_NL[:rows]


def default_columns(output: NDArray[Any], columns: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the selected columns; if none are selected, the second of two columns, or None for all.

    >>> default_columns(np.zeros((5, 2)), None), default_columns(np.zeros((5, 3)), None)
    ((1,), None)
    """
    return (1,) if columns is None and output.ndim == 2 and output.shape[1] == 2 else columns


def _numbers(name: str, output: Any) -> NDArray[np.float64]:
    try:
        scores_NL = np.asarray(output)
    except ValueError as error:
        raise ModelAnswerError(f"{name} returned rows of different lengths") from error
    if scores_NL.dtype.kind not in "biuf":
        example = next(iter(scores_NL.ravel()[:1].tolist()), output)
        raise ModelAnswerError(f"{name} returned {snippet(repr(example))}; expected numbers")
    return scores_NL.astype(np.float64)
