"""What models share that a library computes: the library, the file, a matrix in, columns of scores out.

Array letters: N records, D features, L labels (outputs).
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from runner.domain.attributions import Additive
from runner.domain.text import plural
from runner.errors import (
    ArtifactError,
    MissingInput,
    ModelAnswerError,
    ModelInputError,
    SettingsError,
    ShapwatchError,
    snippet,
)

MOST_BYTES = 2 * 2**30
"""The largest model file that is read."""
PICKLE_NAMES = (".pkl", ".pickle", ".joblib")
PICKLE_MAGIC = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise ValueError("each may occur only once")
    return values


Columns = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], Field(min_length=1), AfterValidator(_unique)]
Headers = Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_unique)]


@contextmanager
def installed(extra: str) -> Iterator[None]:
    """Import an optional library inside.

    Raises:
        SettingsError: when it cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        problem = f"model.kind={extra} needs a library that cannot be imported ({_told(error)})"
        raise SettingsError([f"{problem}: pip install 'shapwatch[{extra}]'"]) from error


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Read a model's file inside.

    Raises:
        ArtifactError: whatever the library raises.
    """
    try:
        yield
    except ShapwatchError:
        raise
    except Exception as error:
        raise ArtifactError(path, f"is no {what} that can be read ({_told(error)})") from error


@contextmanager
def computing(what: str) -> Iterator[None]:
    """Compute scores inside.

    Raises:
        ModelAnswerError: whatever the library or function raises.
    """
    try:
        yield
    except ShapwatchError:
        raise
    except Exception as error:
        remedy = "compare the features with those it was made for (data.headers)"
        raise ModelAnswerError(f"{what} fails with {_told(error)}; {remedy}") from error


def file_bytes(path: Path, save_with: str) -> bytes:
    """Return the bytes of a model's file.

    Raises:
        MissingInput: when there is no such file.
        ArtifactError: when it cannot be read, is no file, is too large, empty, or a pickle.
    """
    try:
        _check_file(path)
        data = path.read_bytes()
    except FileNotFoundError as error:
        remedy = f"save it with {save_with} and give its path"
        raise MissingInput("the model", path, "model.artifact", remedy) from error
    except OSError as error:
        raise ArtifactError(path, f"cannot be read ({error.strerror})") from error
    if path.suffix.lower() in PICKLE_NAMES or data.startswith(PICKLE_MAGIC):
        problem = "is a pickle, which executes any code that was put into it when it is loaded, so it is never loaded"
        raise ArtifactError(path, f"{problem}; save the model with {save_with} instead")
    if not data:
        raise ArtifactError(path, "is empty")
    return data


def _check_file(path: Path) -> None:
    """Make sure that reading a file comes to an end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError(
            path, "cannot be read: it is no file but a folder, pipe or device; give the path of the model's file"
        )
    if found.st_size > MOST_BYTES:
        problem = f"has {found.st_size:,} bytes, more than the {MOST_BYTES:,} that a model may have"
        raise ArtifactError(path, f"{problem}: check that it is the model's file")


def fingerprint(data: bytes, *settings: object) -> str:
    """Return the SHA-256 of a model's bytes and of the settings that its scores depend on."""
    return hashlib.sha256(data + json.dumps(settings).encode()).hexdigest()


def check_width(path: Path, width: int, features: pl.DataFrame) -> None:
    """Make sure that the records have as many features as the model.

    Raises:
        ArtifactError: when they do not.
    """
    if features.width != width:
        raise ArtifactError(path, f"the model has {width} features, the records have {features.width}")


def by_name(path: Path, names: Sequence[str], features: pl.DataFrame) -> pl.DataFrame:
    """Return features in the order of a model's names.

    Raises:
        ArtifactError: when one of them is missing.
    """
    missing = [name for name in names if name not in features.columns]
    if missing:
        told = f"the model has the features {snippet(', '.join(map(repr, missing)))}, which the records lack"
        problem = f"{told}; the records have {snippet(', '.join(map(repr, features.columns)))}"
        raise ArtifactError(path, f"{problem}: name them as they were named in training (data.headers)")
    return features.select(names)


def by_known_name(path: Path, names: Sequence[str], features: pl.DataFrame) -> pl.DataFrame:
    """Return features in the order of a model's names, or as they are where it knows none of them by name.

    Raises:
        ArtifactError: when it knows only some of them.
    """
    return features if set(names).isdisjoint(features.columns) else by_name(path, names, features)


def contributed(
    answer: Any, link: Literal["identity", "logistic"], model: pl.DataFrame, features: pl.DataFrame
) -> Additive:
    """Return contributions, the base in the last column, in the order of the records' features.

    Args:
        answer: of the model's one output, a row for each record.
        link: of its outputs.
        model: the features in the model's order.
        features: the same in that of the records.
    """
    values_NC = np.asarray(answer, dtype=np.float64).reshape(len(answer), -1)
    places = [model.columns.index(name) for name in features.columns]
    return Additive(link, values_NC[0, -1:], values_NC[:, places, None])


def at_least_one(features: pl.DataFrame) -> pl.DataFrame:
    """Return features, one row of zeros and empty texts where there is none, which libraries do not take."""
    if features.height:
        return features
    return pl.DataFrame({column.name: [""] if column.dtype == pl.String else [0] for column in features})


def matrix(kind: str, features: pl.DataFrame) -> NDArray[np.float64]:
    """Return x_ND: booleans are 0 and 1, nulls NaN.

    Raises:
        ModelInputError: when a feature holds something else.
    """
    for column in features:
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            example = next(iter(column.drop_nulls()), None)
            raise ModelInputError(kind, column.name, example, "numbers and booleans there")
    return np.ascontiguousarray(features.cast(pl.Float64).fill_null(float("nan")).to_numpy())


def scores(what: str, answer: Any, rows: int, columns: tuple[int, ...] | None) -> NDArray[np.float64]:
    """Return scores_NL: the columns asked for, or all, of what a model answers to N rows, or to one in place of none.

    Raises:
        ModelAnswerError: when it is not a number, or several, for each row, or lacks a column.
    """
    answer_NL = _numbers(what, answer)
    if answer_NL.ndim == 1:
        answer_NL = answer_NL[:, None]
    if answer_NL.ndim != 2 or len(answer_NL) not in {rows, rows or 1}:
        problem = f"scores of the shape {answer_NL.shape}"
        raise ModelAnswerError(f"{what} answers {plural(rows, 'row')} with {problem}, expected one or more for each")
    if columns and max(columns) >= answer_NL.shape[1]:
        there = plural(answer_NL.shape[1], "column")
        raise ModelAnswerError(f"{what} answers with {there}, counted from 0, but model.columns={list(columns)}")
    return answer_NL[:rows, list(columns)] if columns else answer_NL[:rows]


def positive(answer: NDArray[Any], columns: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return the columns asked for; where none are, the second of two probabilities, and all otherwise.

    >>> positive(np.zeros((5, 2)), None), positive(np.zeros((5, 3)), None), positive(np.zeros((5, 2)), (0, 1))
    ((1,), None, (0, 1))
    """
    return (1,) if columns is None and answer.ndim == 2 and answer.shape[1] == 2 else columns


def _numbers(what: str, answer: Any) -> NDArray[np.float64]:
    try:
        answer_NL = np.asarray(answer)
    except ValueError as error:
        raise ModelAnswerError(f"{what} answers with rows of different lengths") from error
    if answer_NL.dtype.kind not in "biuf":
        example = snippet(next(iter(answer_NL.flat), answer))
        raise ModelAnswerError(f"{what} answers with {example}, where numbers are needed")
    return answer_NL.astype(np.float64)


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {snippet(lines[0])}" if lines else type(error).__name__
