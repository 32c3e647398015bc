"""Universal Binary JSON, as far as XGBoost writes it.

Source: the specification at ubjson.org, draft 12. The length of a name or string may have any integer type, even if a
shorter type is sufficient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

NUMBERS = {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
"""The types of numbers, as numpy types."""
CONSTANTS: dict[str, bool | None] = {"Z": None, "T": True, "F": False}
MAX_DEPTH = 64


def parse_ubjson(data: bytes) -> Any:
    """Return the document; arrays of numbers of one type are numpy arrays.

    Raises:
        ValueError: if the document is truncated or malformed, has duplicate names, or is nested too deeply.
    """
    reader = _Reader(data)
    document = reader.value(reader.marker(), 0)
    if reader.position != len(data):
        raise ValueError(f"{len(data) - reader.position:,} bytes after the end of the document")
    return document


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def marker(self) -> str:
        return self.take(1).decode("latin-1")

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.position:
            raise ValueError("the file is truncated")
        self.position += size
        return self.data[self.position - size : self.position]

    def value(self, marker: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ValueError("the document is nested too deeply")
        if marker in CONSTANTS:
            return CONSTANTS[marker]
        if marker in NUMBERS:
            return self.numbers(marker, 1)[0].item()
        match marker:
            case "S":
                return self.string()
            case "[":
                return self.array(depth)
            case "{":
                return self.object(depth)
        raise ValueError(f"unknown type {marker!r} at byte {self.position:,}")

    def numbers(self, marker: str, count: int) -> Any:
        dtype = np.dtype(NUMBERS[marker])
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def size(self) -> int:
        marker = self.marker()
        if marker not in "iUIlL":
            raise ValueError(f"expected a length at byte {self.position:,}, got type {marker!r}")
        return int(self.numbers(marker, 1)[0])

    def string(self) -> str:
        return self.take(self.size()).decode()

    def array(self, depth: int) -> Any:
        marker = self.marker()
        if marker == "$":
            kind = self.marker()
            if kind not in NUMBERS or self.marker() != "#":
                raise ValueError(f"expected an array of numbers with its size at byte {self.position:,}")
            return self.numbers(kind, self.size())
        if marker == "#":
            count = self.size()
            if not 0 <= count <= len(self.data):
                raise ValueError("the file is truncated")
            return [self.value(self.marker(), depth + 1) for _ in range(count)]
        values = []
        while marker != "]":
            values.append(self.value(marker, depth + 1))
            marker = self.marker()
        return values

    def object(self, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        while self.data[self.position : self.position + 1] != b"}":
            name = self.string()
            if name in members:
                raise ValueError(f"the name {name!r} occurs twice in an object")
            members[name] = self.value(self.marker(), depth + 1)
        self.position += 1
        return members
