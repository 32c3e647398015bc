"""Serving of a model over HTTP with capture of requests and responses; the settings of data capture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError
from pydantic.dataclasses import dataclass

from runner.domain.numbers import Count
from runner.errors import SettingsError
from runner.types import NO_OTHER_KEYS, MediaType, Seconds


def _percentage(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError("expected a number from 0 to 100")
    return value


MediaTypes = Annotated[tuple[MediaType, ...], Field(max_length=10)]


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class CaptureSettings:
    """`data_capture`: the captured share and content of invocations, named as in SageMaker's `DataCaptureConfig`.

    The default values are for the middleware; they equal those in `conf/data_capture`.

    Attributes:
        enable_capture: whether invocations are captured.
        sampling_percentage: the percentage of invocations that are captured, 0 to 100.
        capture_options: the captured sides of an invocation.
        csv_content_types: media types that are captured as strings with the encoding CSV.
        json_content_types: media types that are captured as strings with the encoding JSON; other types, and bodies
            that are not UTF-8, are captured as BASE64.
        flush_seconds: maximum seconds until an event is written.
        queue_bytes: maximum bytes of queued events; further events are dropped and counted.
        min_free_bytes: minimum free bytes of a local disk; capture stops while fewer bytes are free.
    """

    enable_capture: bool = True
    sampling_percentage: Annotated[float, PlainValidator(_percentage)] = 100
    capture_options: Annotated[tuple[Literal["REQUEST", "RESPONSE"], ...], Field(min_length=1)] = (
        "REQUEST",
        "RESPONSE",
    )
    csv_content_types: MediaTypes = ("text/csv",)
    json_content_types: MediaTypes = ("application/json",)
    flush_seconds: Seconds = 10
    queue_bytes: Count = 2**28
    min_free_bytes: Annotated[int, Field(strict=True, ge=0)] = 2**30


def capture_settings(settings: Mapping[str, Any]) -> CaptureSettings:
    """Validate settings, and return them as `CaptureSettings`.

    Raises:
        SettingsError: if a setting is invalid.
    """
    try:
        return CaptureSettings(**settings)
    except ValidationError as error:
        raise SettingsError([_problem(detail) for detail in error.errors()]) from error


def _problem(detail: Mapping[str, Any]) -> str:
    message = "expected a list" if detail["type"] == "tuple_type" else detail["msg"].removeprefix("Value error, ")
    return f"{'.'.join(map(str, detail['loc']))}: {message} (got {detail['input']!r})"
