"""JMESPath expressions: which are right, which find by structure alone, and how they search documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import jmespath
from jmespath.parser import ParsedResult

Find = Callable[[Any], Any]


def compiled(expression: str) -> ParsedResult:
    """Return a JMESPath expression ready for searching.

    Raises:
        ValueError: with a sentence, when the expression is malformed or calls an unknown function.
    """
    try:
        parsed = jmespath.compile(expression)
        with suppress(jmespath.exceptions.JMESPathTypeError):
            parsed.search(None)
        return parsed
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{expression!r} is no JMESPath expression: {reason}") from error


def structural(expression: str) -> bool:
    """Return whether what an expression finds depends on the structure of a document alone, never on its values.

    >>> structural("instances[*].features"), structural("items[?kind=='a']"), structural("sort(x)")
    (True, False, False)
    """
    return _function(compiled(expression).parsed) is not None


def finder(expression: str | None) -> Find:
    """Return what searches documents for an expression, None for the whole document.

    A structural expression needs no interpreter; a projection of it keeps an empty place where one of its elements
    has nothing, so that the others do not move up. A function applied to what it does not fit finds nothing.
    """
    if expression is None:
        return _itself
    parsed = compiled(expression)

    def search(document: Any) -> Any:
        try:
            return parsed.search(document)
        except (jmespath.exceptions.JMESPathError, ValueError, RecursionError):
            return None

    return _function(parsed.parsed) or search


def _function(node: Mapping[str, Any]) -> Find | None:
    """Return a structural expression as a function, None where the expression is of another kind."""
    if node["type"] in {"identity", "current"}:
        return _itself
    if node["type"] == "field":
        return _field(node["value"])
    if node["type"] == "index":
        return _index(node["value"])
    if node["type"] not in BUILD:
        return None
    inner = [_function(child) for child in node["children"]]
    return None if None in inner else BUILD[node["type"]](*filter(None, inner))


def _itself(document: Any) -> Any:
    return document


def _field(name: str) -> Find:
    return lambda document: document.get(name) if isinstance(document, dict) else None


def _index(place: int) -> Find:
    def find(document: Any) -> Any:
        inside = isinstance(document, list) and -len(document) <= place < len(document)
        return document[place] if inside else None

    return find


def _chain(*steps: Find) -> Find:
    def find(document: Any) -> Any:
        for step in steps:
            document = step(document)
        return document

    return find


def _each(*finds: Find) -> Find:
    return lambda document: None if document is None else [find(document) for find in finds]


def _projection(base: Find, inner: Find) -> Find:
    def find(document: Any) -> Any:
        elements = base(document)
        return [inner(element) for element in elements] if isinstance(elements, list) else None

    return find


BUILD: dict[str, Callable[..., Find]] = {
    "subexpression": _chain,
    "index_expression": _chain,
    "multi_select_list": _each,
    "projection": _projection,
}
