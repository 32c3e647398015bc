"""Expected messages, one golden file per area: tests compare with it, `make golden` writes it.

    def test_missing_dataset_is_refused(golden: Golden) -> None:
        with golden.raises(MissingInput) as caught:
            Dataset("missing.jsonl").read()
        assert caught.value.path == "missing.jsonl"

A test asserts types, fields and numbers itself. The wording is in `tests/golden/<area>.txt`, where a reviewer reads all
messages of an area, and sees each change of wording as a line of a diff.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent
MARK = "== "
INDENT = "    "
MACHINE = (
    (re.escape(str(TESTS.parent)), "{checkout}"),
    (re.escape(tempfile.gettempdir()) + r"/pytest-of-[^/\s]+/pytest-\d+(/popen-\w+)?", "{session}"),
    (r"(127\.0\.0\.1|localhost):\d{4,5}\b", r"\1:{port}"),
    (r"\bport([ =])\d{4,5}\b", r"port\1{port}"),
    (r"\b\d+ MiB\)", "{memory})"),
    (r"\b[0-9a-f]{32,64}\b", "{digest}"),
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "{uuid}"),
    (r"shapwatch_\d+_\d+", "{database}"),
    (r"0x[0-9a-f]{8,}", "{address}"),
    (r"sweeps/\d{4}[\dT-]+", "sweeps/{time}"),
    (r'"at": "[^"]+"', '"at": "{time}"'),
    (r"\bin \d+\.\d s\b", "in {seconds}"),
    (r"about \d+ s \([\d,]+ rows took [\d.]+ s\)", "about {seconds} ({rows} rows took {seconds})"),
)
"""Patterns of text that differs between machines and runs, with their replacements."""

E = TypeVar("E", bound=BaseException)


@dataclass
class Golden:
    """Compares the messages of one test with the golden file of its area.

    Attributes:
        test: name in the golden file, such as `test_http.py::test_refusal[400]`.
        expected: messages of the area by name; None while they are being written.
        scrubbed: further patterns with their replacements.
        texts: messages of the test so far, by name.
    """

    test: str
    expected: Mapping[str, str] | None
    scrubbed: tuple[tuple[str, str], ...]
    texts: dict[str, str] = field(default_factory=dict)

    def __call__(self, text: object, *scrubbed: tuple[str, str]) -> None:
        """Compare a message; `scrubbed` are pairs of a pattern and its replacement, for example for times."""
        for pattern, replacement in (*scrubbed, *self.scrubbed):
            text = re.sub(pattern, replacement, str(text))
        lines = [line.rstrip() for line in str(text).strip().splitlines()]
        name = self.test if not self.texts else f"{self.test} #{len(self.texts) + 1}"
        self.texts[name] = "\n".join(lines)
        if self.expected is not None:
            assert self.texts[name] == self.expected.get(name), f"{name}: if the new wording is right, run make golden"

    @contextmanager
    def raises(
        self, kind: type[E] | tuple[type[E], ...], *scrubbed: tuple[str, str]
    ) -> Iterator[pytest.ExceptionInfo[E]]:
        """Expect an error, and compare its message."""
        with pytest.raises(kind) as caught:
            yield caught
        self(caught.value, *scrubbed)


@cache
def load(area: str) -> Mapping[str, str]:
    """Return the messages of an area by name."""
    path = FOLDER / f"{area}.txt"
    texts: dict[str, str] = {}
    for entry in f"\n{path.read_text('utf-8')}".split(f"\n{MARK}")[1:] if path.exists() else []:
        name, _, text = entry.partition("\n")
        texts[name] = "\n".join(line.removeprefix(INDENT) for line in text.rstrip("\n").splitlines())
    return texts


def save(area: str, texts: Mapping[str, str]) -> None:
    """Write the messages of an area, sorted by name."""
    entries = (
        f"{MARK}{name}\n" + "".join(f"{INDENT}{line}".rstrip() + "\n" for line in text.splitlines())
        for name, text in sorted(texts.items())
    )
    (FOLDER / f"{area}.txt").write_text("\n".join(entries), "utf-8")


def located(item: pytest.Item) -> tuple[str, str]:
    """Return the area of a test, and its name in the golden file."""
    path = item.path.relative_to(TESTS)
    return "-".join(path.parts[:-1]) or "runner", f"{path.name}::{item.name}"
