"""Universal Binary JSON as XGBoost writes it, and damaged documents."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from runner.models.ubjson import parse_ubjson
from tests.models.trees import booster


def plain(value: Any) -> Any:
    """Return a document with lists in place of arrays, and floats rounded to 32 bits."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | np.ndarray):
        return [plain(inner) for inner in value]
    return float(np.float32(value)) if isinstance(value, float | np.floating) else value


def test_document_equals_that_in_json() -> None:
    """Both formats of a booster have the same content."""
    document = parse_ubjson(bytes(booster().save_raw("ubj")))
    assert plain(document) == plain(json.loads(booster().save_raw("json")))


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"{}", {}),
        (b"{U\x01aZU\x01bTU\x01cF}", {"a": None, "b": True, "c": False}),
        (b"[i\xffU\xffI\x01\x00l\x00\x01\x00\x00]", [-1, 255, 256, 65536]),
        (b"[#U\x02d\x3f\x80\x00\x00D\x3f\xf0\x00\x00\x00\x00\x00\x00", [1.0, 1.0]),
        (b"SU\x02hi", "hi"),
        (b"[$l#U\x01\x00\x00\x00\x07", [7]),
    ],
)
def test_each_type_is_parsed(data: bytes, value: Any) -> None:
    """Constants, numbers, strings, and arrays with and without a size."""
    assert plain(parse_ubjson(data)) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{U",
        b"{U\x01a",
        b"{}x",
        b"{i\xffa}",
        b"{U\x01aTU\x01aF}",
        b"[$l#l\x7f\xff\xff\xff",
        b"[#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[#L\xff\xff\xff\xff\xff\xff\xff\xff",
        b"[$S#U\x01",
        b"SL\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"q",
        b"[" * 100_000,
        b"SU\x01\xff",
    ],
    ids=range(15),
)
def test_malformed_document_is_an_error(data: bytes) -> None:
    """Truncated, endless, deep and duplicate content is an error of its own, without memory for announced sizes."""
    with pytest.raises(ValueError, match=r"."):
        parse_ubjson(data)


def test_damaged_bytes_are_an_error_or_a_document() -> None:
    """Any other exception would be a traceback."""
    data, rng = bytes(booster().save_raw("ubj")), random.Random(0)
    for _ in range(300):
        i = rng.randrange(400)
        damaged = data[:i] + bytes([rng.randrange(256)]) + data[i + rng.randrange(3) :]
        try:
            parse_ubjson(damaged)
        except ValueError:
            continue
