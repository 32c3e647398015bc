"""Messages for invalid settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError


def format_errors(error: ValidationError, raw: Any) -> Iterator[tuple[str, str]]:
    """Yield the full key of each problem, and a message with the value got and the values allowed.

    Args:
        error: error of the validation.
        raw: validated configuration, as plain data.
    """
    for detail in error.errors(include_url=False):
        key = _key(detail["loc"], raw)
        yield key, _problem(key, detail, raw)


def _key(location: tuple[int | str, ...], raw: Any) -> str:
    """Return the full key of a problem, without the tags that pydantic adds for unions."""
    keys: list[str] = []
    node = raw
    for step in location:
        if isinstance(node, dict) and step not in node and step == node.get("kind"):
            continue
        if not isinstance(node, dict | list) and keys:
            break
        keys.append(str(step))
        node = node[step] if _contains(node, step) else None
    return ".".join(keys)


def _contains(node: Any, step: int | str) -> bool:
    if isinstance(node, dict):
        return step in node
    return isinstance(node, list) and isinstance(step, int) and step < len(node)


def _problem(key: str, detail: Mapping[str, Any], raw: Any) -> str:
    got = _got(key, detail["input"])
    message = detail["msg"].removeprefix("Value error, ")
    match detail["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{key}: no such key{_nearest(key, raw)} {got}"
        case "missing":
            return f"{key}: required, but not set; pass {key}=..."
        case "union_tag_invalid":
            return f"{key}.kind: expected one of {detail['ctx']['expected_tags']} (got {detail['ctx']['tag']!r})"
        case _ if not key:
            return str(message)
        case _ if isinstance(detail["input"], dict):
            return f"{key}.{message}"
        case _:
            return f"{key}: {message} {got}"


def _got(key: str, value: Any) -> str:
    """Return the value got, without secrets."""
    if re.search(r"_env(\.\d+)?$", key):
        return "(the value is not shown because it may be secret)"
    shown = re.sub(r"//[^/@\s]*@", "//…@", f"(got {value!r})")
    return re.sub(r"(://[^\s'\"?]*\?)[^\s'\"]+", r"\1…", shown)


def _nearest(key: str, raw: Any) -> str:
    """Return a hint at the closest known key."""
    known = [path for path in _leaves(raw) if path != key]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    if near:
        return f"; did you mean {near[0]}?"
    parent = key.rpartition(".")[0]
    siblings = [path.removeprefix(f"{parent}.") for path in known if parent and path.startswith(f"{parent}.")]
    return f"; {parent} has {', '.join(siblings)}; if a file sets this key, ~{key} removes it" if siblings else ""


def _leaves(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
