"""Compilation of JMESPath expressions, and search of documents with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import jmespath
from jmespath.parser import ParsedResult

Find = Callable[[Any], Any]
"""A function that returns the value of an expression in a document, None if there is none."""


def compiled(expression: str) -> ParsedResult:
    """Return a compiled JMESPath expression.

    Raises:
        ValueError: with a message, if the expression is malformed or calls an unknown function.
    """
    try:
        parsed = jmespath.compile(expression)
        with suppress(jmespath.exceptions.JMESPathTypeError):
            parsed.search(None)
        return parsed
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{expression!r} is not a JMESPath expression: {reason}") from error


def is_structural(expression: str) -> bool:
    """Return whether the result of an expression depends on the structure of a document only, never on its values.

    >>> is_structural("instances[*].features"), is_structural("items[?kind=='a']"), is_structural("sort(x)")
    (True, False, False)
    """
    return _function(compiled(expression).parsed) is not None


def finder(expression: str | None) -> Find:
    """Return a function that evaluates an expression in a document; None stands for the whole document.

    Unlike jmespath, a projection of a structural expression returns None for an element without the value, so that
    the other values stay in their positions. A function of the wrong type of argument returns None.
    """
    if expression is None:
        return _identity
    parsed = compiled(expression)

    def search(document: Any) -> Any:
        try:
            return parsed.search(document)
        except (jmespath.exceptions.JMESPathError, ValueError, RecursionError):
            return None

    return _function(parsed.parsed) or search


def _function(node: Mapping[str, Any]) -> Find | None:
    """Return a structural expression as a function, None for another expression."""
    if node["type"] in {"identity", "current"}:
        return _identity
    if node["type"] == "field":
        return _field(node["value"])
    if node["type"] == "index":
        return _index(node["value"])
    if node["type"] not in BUILDERS:
        return None
    children = [_function(child) for child in node["children"]]
    return None if None in children else BUILDERS[node["type"]](*filter(None, children))


def _identity(document: Any) -> Any:
    return document


def _field(name: str) -> Find:
    return lambda document: document.get(name) if isinstance(document, dict) else None


def _index(index: int) -> Find:
    def find(document: Any) -> Any:
        exists = isinstance(document, list) and -len(document) <= index < len(document)
        return document[index] if exists else None

    return find


def _chain(*steps: Find) -> Find:
    def find(document: Any) -> Any:
        for step in steps:
            document = step(document)
        return document

    return find


def _multi_select(*finds: Find) -> Find:
    return lambda document: None if document is None else [find(document) for find in finds]


def _projection(base: Find, inner: Find) -> Find:
    def find(document: Any) -> Any:
        elements = base(document)
        return [inner(element) for element in elements] if isinstance(elements, list) else None

    return find


BUILDERS: dict[str, Callable[..., Find]] = {
    "subexpression": _chain,
    "index_expression": _chain,
    "multi_select_list": _multi_select,
    "projection": _projection,
}
