"""Counts properties of the code that make it easy or hard to maintain, each with a limit.

`python -m benchmarks.house` prints one line per count, and exits with 1 if a count exceeds its limit. `--list` also
prints the counted locations.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
WIRING = "runner/config/wiring.py"
DIALECT = re.compile(
    r"\b(told|tells?|telling|untold|kept|so many|as many as|anew|those that|of which|such as are|beside|an? texts?"
    r"|what is|agenda|inquir\w+|movers?|hands|outness|attention)\b",
    re.IGNORECASE,
)
"""Words that CONTRIBUTING.md replaces by standard terms."""
PROSE = ("runner", "tests", "benchmarks", "conf", "docs", "reports_templates", "examples", "shapwatch", ".github")
SUFFIXES = {".py", ".md", ".yaml", ".j2", ".typ", ".txt", ".json"}
EXEMPT = ("benchmarks/house.py", "tests/versions/")
"""Files and folders that are not searched: they contain the list of words, or what earlier versions wrote."""


Nodes = dict[Path, list[ast.AST]]


@dataclass(frozen=True)
class Figure:
    """A count with its limit and the counted locations."""

    name: str
    limit: int
    count: int
    places: tuple[str, ...] = ()


def figures() -> list[Figure]:
    """Return all counts of this checkout."""
    modules, tests = _nodes("runner"), _nodes("tests")
    dialect, quoted, untyped = list(_dialect()), list(_quoted(tests)), list(_untyped(modules))
    names = Counter(node.name for nodes in modules.values() for node in nodes if isinstance(node, ast.ClassDef))
    twice = sorted(name for name, count in names.items() if count > 1)
    single = sorted(module for module, importers in _importers(modules).items() if len(importers) == 1)
    longest = max(_functions(modules))
    return [
        Figure("files in runner/", 135, len(modules)),
        Figure("modules at the top of runner/", 12, sum(path.parent == CHECKOUT / "runner" for path in modules)),
        Figure("class names defined twice", 0, len(twice), tuple(twice)),
        Figure("dict[str, Any] annotations", 30, len(untyped), tuple(untyped)),
        Figure("modules with one importer", 25, len(single), tuple(single)),
        Figure("lines of the wiring", 300, len((CHECKOUT / WIRING).read_text("utf-8").splitlines())),
        Figure("lines of the longest function", 50, longest[0], (longest[1],)),
        Figure("words of the dialect", 0, len(dialect), tuple(dialect)),
        Figure("assertions that quote sentences", 30, len(quoted), tuple(quoted)),
    ]


def _nodes(folder: str) -> Nodes:
    """Return the nodes of all syntax trees below a folder."""
    paths = sorted((CHECKOUT / folder).rglob("*.py"))
    return {path: list(ast.walk(ast.parse(path.read_text("utf-8")))) for path in paths}


def _place(path: Path, line: int, what: str = "") -> str:
    return f"{path.relative_to(CHECKOUT)}:{line}: {what}".rstrip(": ")


def _functions(modules: Nodes) -> Iterator[tuple[int, str]]:
    for path, nodes in modules.items():
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (node.end_lineno or 0) - (body[0].lineno if body else node.lineno) + 1
                yield lines, _place(path, node.lineno, node.name)


def _untyped(modules: Nodes) -> Iterator[str]:
    for path, nodes in modules.items():
        for node in nodes:
            if isinstance(node, ast.Subscript) and ast.unparse(node) == "dict[str, Any]":
                yield _place(path, node.lineno)


def _importers(modules: Nodes) -> dict[str, set[str]]:
    """Return for each module the modules that import it."""
    dotted = {".".join(path.relative_to(CHECKOUT).with_suffix("").parts): nodes for path, nodes in modules.items()}
    found: dict[str, set[str]] = {name: set() for name in dotted if not name.endswith("__init__")}
    for importer, nodes in dotted.items():
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and node.module:
                targets = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                targets = {alias.name for alias in node.names}
            else:
                continue
            for target in targets & found.keys():
                found[target].add(importer)
    return found


def _dialect() -> Iterator[str]:
    for path in sorted(CHECKOUT.glob("*.md")) + [each for folder in PROSE for each in (CHECKOUT / folder).rglob("*")]:
        name = path.relative_to(CHECKOUT).as_posix()
        if path.is_file() and path.suffix in SUFFIXES and not name.startswith(EXEMPT) and "__pycache__" not in name:
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                for match in DIALECT.finditer(line):
                    yield _place(path, number, match[0])


def _quoted(tests: Nodes) -> Iterator[str]:
    for path, nodes in tests.items():
        for node in nodes:
            if isinstance(node, ast.Assert):
                checked: ast.AST = node.test
            elif isinstance(node, ast.keyword) and node.arg == "match":
                checked = node.value
            else:
                continue
            texts = [each.value for each in ast.walk(checked) if isinstance(each, ast.Constant)]
            if any(isinstance(text, str) and _is_sentence(text) for text in texts):
                yield _place(path, checked.lineno)  # type: ignore[attr-defined]


def _is_sentence(text: str) -> bool:
    """Return whether a string has three words in a row.

    >>> _is_sentence("no such file"), _is_sentence("data.headers"), _is_sentence('<p class="a b">')
    (True, False, False)
    """
    return re.search(r"\b[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}\b", text) is not None


def main() -> int:
    """Print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description="Count properties of the code that make it easy or hard to maintain.")
    parser.add_argument("--list", action="store_true", help="also print the counted locations")
    arguments = parser.parse_args()
    exceeded = False
    for figure in figures():
        exceeded |= figure.count > figure.limit
        print(f"{figure.count:7,} of {figure.limit:4,}  {figure.name}")
        if arguments.list:
            print(*(f"             {place}" for place in figure.places), sep="\n")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
