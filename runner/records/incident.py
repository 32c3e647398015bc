"""An incident to rehearse: a feature whose values arrive multiplied by a factor, as after a change of unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from runner.errors import SettingsError
from runner.records import payloads
from runner.records.fields import Fields, Scalar


def rescale(line: bytes, fields: Fields, factors: Mapping[str, float]) -> bytes:
    """Return a record's line with some features multiplied; everything else in the document stays.

    Raises:
        SettingsError: when a feature is unknown, or `fields.features` is an expression that only reads.
    """
    *path, last = fields.features.split(".")
    if not all(key.isidentifier() for key in (*path, last)):
        problem = f"data.features={fields.features!r} is no plain key, so values cannot be put back"
        raise SettingsError([f"stage.rescale: {problem}"])
    (document,) = payloads.documents(line.decode())
    values = fields.feature_values(document)
    names = fields.names(len(values))
    if unknown := [name for name in factors if name not in names]:
        raise SettingsError([f"stage.rescale: no feature {unknown[0]!r}; the features are {', '.join(names)}"])
    holder: Any = document
    for key in path:
        holder = holder[key]
    holder[last] = [_times(value, factors.get(name)) for name, value in zip(names, values, strict=True)]
    return orjson.dumps(document)


def _times(value: Scalar, factor: float | None) -> Scalar:
    return value if factor is None or isinstance(value, bool) or not isinstance(value, int | float) else value * factor
