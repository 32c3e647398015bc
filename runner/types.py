"""Types of settings, with validation messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat, StringConstraints

from runner import storage, urls
from runner.domain.executions import Window, utc
from runner.records.fields import compiled

EARLIEST, LATEST = 1970, 9000
"""First year of valid times, and the year after the last one."""

NO_OTHER_KEYS = ConfigDict(extra="forbid")
"""Pydantic configuration of a dataclass of settings: an unknown key is an error."""


def _from_string(parse: Callable[[str], Any]) -> BeforeValidator:
    def validate(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("expected a string")
        return parse(value)

    return BeforeValidator(validate)


def _jmespath(expression: str) -> str:
    compiled(expression)
    return expression


def _name(text: str) -> str:
    """Return a name that SageMaker allows, which is also valid as a folder name and a metric label."""
    if len(text) > 63 or not re.fullmatch(r"[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?", text):
        raise ValueError("expected 1 to 63 letters, digits and hyphens, without a hyphen at either end")
    return text


def _path(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise ValueError("expected a path, got an empty string or a NUL character")
    if re.match(r"[a-z0-9+.-]+:/", text):
        raise ValueError("expected a local path; only captures, datasets and labels may have a URL")
    return Path(text)


def _location(text: str) -> str:
    if not text.strip() or "\0" in text or re.match(r"[a-z0-9+.-]+:/(?!/)", text):
        raise ValueError("expected a path or a URL such as s3://bucket/prefix")
    if re.match(r"[A-Za-z0-9+.-]+://[^/]*@", text):
        raise ValueError("contains credentials; remove them, and set them in the environment")
    if storage.is_remote(text) and text.partition("://")[0] not in storage.SERVICES:
        raise ValueError("expected a path, s3://bucket/…, gs://bucket/… or az://container/…")
    return text


def _url(text: str) -> str:
    if not urls.is_plain_url(text):
        raise ValueError("expected a URL such as http://127.0.0.1:8080/invocations, without credentials")
    return text


def _base_url(text: str) -> str:
    """Return the URL of a folder without the slash at its end; it has no query, since paths are appended to it."""
    if not urls.is_plain_url(text) or "?" in text:
        raise ValueError("expected a URL such as https://reports.example.com/shapwatch, without credentials and query")
    return text.rstrip("/")


def _ledger(text: str) -> str:
    """Return the URL of a database without a password; libpq reads the password from the environment."""
    if re.fullmatch(r"sqlite:///[^?#\0]+", text):
        return text
    if not re.fullmatch(r"postgresql://[^\s?#\0]*", text):
        raise ValueError("expected sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE")
    if ":" in unquote(urlsplit(text).netloc.rpartition("@")[0]):
        raise ValueError("contains a password; remove it, and set PGPASSWORD or PGPASSFILE")
    return text


def _experiment(text: str) -> str:
    if not re.fullmatch(r"[\w./-]+", text):
        raise ValueError("expected the name of an experiment, such as adult")
    return text


def _variable(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text):
        raise ValueError("expected the name of an environment variable with the secret, not the secret itself")
    return text


def _number_as_string(value: Any) -> Any:
    """Return a column number as a string, because YAML reads it as an integer."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _score(text: str) -> str:
    """Return a JMESPath, or the number of a CSV column."""
    return text if text.isdecimal() and text.isascii() else _jmespath(text)


def _background(value: Any) -> Any:
    """Return the SHAP baseline: `mean`, `median_mode`, a location, or rows in the format of the dataset."""
    if isinstance(value, str):
        return _location(value)
    rows = [value] if isinstance(value, dict) else value
    if not isinstance(rows, list) or not all(isinstance(row, list | dict) for row in rows):
        raise ValueError("expected mean, median_mode, a list of rows, or the path of a file")
    return rows


def _window(text: str) -> Window:
    window = Window.parse(text)
    if not EARLIEST <= window.start.year < LATEST:
        raise ValueError(f"{text!r} is not between the years {EARLIEST} and {LATEST}")
    return window


def _instant(text: str) -> datetime:
    time = utc(text)
    if not EARLIEST <= time.year < LATEST:
        raise ValueError(f"{text!r} is not between the years {EARLIEST} and {LATEST}")
    return time


Instant = Annotated[datetime, _from_string(_instant)]
Interval = Annotated[Window, _from_string(_window)]
JmesPath = Annotated[str, _from_string(_jmespath)]
LedgerUrl = Annotated[str, _from_string(_ledger)]
Experiment = Annotated[str, _from_string(_experiment)]
Name = Annotated[str, _from_string(_name)]
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
BaseUrl = Annotated[str, _from_string(_base_url)]
Rate = Annotated[float, Field(ge=1e-3, le=1e6)]
Seconds = Annotated[FiniteFloat, Field(gt=0, le=86_400)]
Url = Annotated[str, _from_string(_url)]
Variable = Annotated[str, _from_string(_variable)]

FeatureName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
FilePath = Annotated[Path, _from_string(_path)]
MediaType = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+$")]
Location = Annotated[str, _from_string(_location)]
Column = Annotated[str, BeforeValidator(_number_as_string), StringConstraints(min_length=1)]
Score = Annotated[str, _from_string(_score), BeforeValidator(_number_as_string)]
Background = Annotated[str | list[list[Any] | dict[Any, Any]], BeforeValidator(_background)]
