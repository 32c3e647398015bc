"""Outlines: documents in whose places stand, instead of values, where in a text the values are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

TOKEN = re.compile(r'[ \t\r\n]*("(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+)')
CHARACTER = re.compile(r"\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL)


class Span(NamedTuple):
    """Where a value stands in a text, and the value's own text."""

    start: int
    end: int
    literal: str

    @property
    def inside(self) -> Span:
        """What stands between the quotes of a text."""
        return Span(self.start + 1, self.end - 1, self.literal[1:-1])

    @property
    def characters(self) -> list[int]:
        """Where each character of a JSON text stands, escapes counting as the one they mean, and where it ends."""
        start, end, raw = self.inside
        return [*(start + found.start() for found in CHARACTER.finditer(raw)), end]


def outline(text: str, places: Sequence[int]) -> Any:
    """Return a JSON document with a `Span` for every text, number or word in it; `places` are its characters' own."""
    tokens = TOKEN.finditer(text)

    def value(token: re.Match[str]) -> Any:
        if token[1] == "[":
            return list(items(value))
        if token[1] == "{":
            return dict(items(member))
        return Span(places[token.start(1)], places[token.start(1)] + len(token[1]), token[1])

    def items(read: Callable[[re.Match[str]], Any]) -> Iterator[Any]:
        for token in tokens:
            if token[1] in "]}":
                return
            if token[1] != ",":
                yield read(token)

    def member(key: re.Match[str]) -> tuple[str, Any]:
        next(tokens)
        return orjson.loads(key[1]), value(next(tokens))

    return value(next(tokens))


def cells(line: str, places: Sequence[int]) -> list[Span]:
    """Return the cells of a CSV's row without quotes."""
    found = re.finditer(r"[ \t\r]*([^,]*?)[ \t\r]*(?:,|$)", line)
    return [Span(places[cell.start(1)], places[cell.start(1)] + len(cell[1]), cell[1]) for cell in found if cell[0]]


def leaves(tree: Any) -> Iterator[Span]:
    """Yield all spans of an outline, in the order of the text."""
    if isinstance(tree, Span):
        yield tree
    else:
        for inner in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(inner)
