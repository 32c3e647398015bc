"""The pages of the documentation, and the commands that they show.

A test runs each command, except in a code block, paragraph or table that follows `<!-- not run: REASON -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.cli_runner import CHECKOUT

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    CHECKOUT / "runner/demo/README.md",
    *sorted((CHECKOUT / "docs").rglob("*.md")),
]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")


@dataclass(frozen=True)
class Command:
    """A shell command on a page.

    Attributes:
        page: path of the page in the repository.
        line: the command as shown, comments included.
        reason: why no test runs it; None if a test does.
    """

    page: str
    line: str
    reason: str | None

    @property
    def is_run(self) -> bool:
        """Whether a test runs the command."""
        return self.reason is None


def text(name: str) -> str:
    """Return the text of a page."""
    return (CHECKOUT / name).read_text("utf-8")


def blocks(page: str, *languages: str) -> list[str]:
    """Return the code blocks in some languages."""
    return [body for name, body in re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL) if name in languages]


def commands() -> list[Command]:
    """Return the commands of all pages: lines of shell blocks, and inline commands that run Python modules."""
    return [command for path in PAGES for command in _commands(path.relative_to(CHECKOUT).as_posix())]


def _commands(page: str) -> Iterator[Command]:
    reason = None
    for part in _parts(text(page)):
        if mark := NOT_RUN.fullmatch(part):
            reason = mark[1]
            continue
        first, *lines = part.splitlines()
        if not first.startswith("```"):
            lines = re.findall(r"`(python -m [^`]+)`", part)
        elif first not in {"```sh", "```bash"}:
            lines = []
        yield from (Command(page, line, reason) for line in lines if line.strip("` "))
        reason = None


def _parts(page: str) -> Iterator[str]:
    """Yield fenced blocks (with their fences), and the paragraphs and tables between them."""
    for i, part in enumerate(re.split(r"^(```.*?^```)$", page, flags=re.MULTILINE | re.DOTALL)):
        yield from [part] if i % 2 else filter(None, re.split(r"\s*\n\s*\n\s*", part.strip()))
