"""The program as a user runs it, and what it leaves behind."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

from runner import cli

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Shapwatch:
    """Runs stages of an experiment with everything written below `root`."""

    root: Path
    experiment: str = "quickstart"

    def __call__(self, *overrides: str, options: tuple[str, ...] = (), code: int = 0) -> str:
        """Return what a run in this process printed, both streams, after checking its exit code."""
        printed, ended = io.StringIO(), None
        with (
            contextlib.chdir(CHECKOUT),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
            mock.patch.object(sys, "argv", ["shapwatch", *self._arguments(options, overrides)]),
        ):
            try:
                cli.main()
            except SystemExit as exit_:
                ended = exit_.code
        return self._checked(printed.getvalue(), ended, code)

    def process(self, *overrides: str, options: tuple[str, ...] = (), code: int = 0) -> str:
        """Return the same of a run in a process of its own, where warnings are errors."""
        command = [sys.executable, "-W", "error", "-m", "runner", *self._arguments(options, overrides)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False, timeout=120)
        return self._checked(done.stdout + done.stderr, done.returncode, code)

    def find(self, name: str, below: str = "") -> Path:
        """Return the one file of that name."""
        (path,) = (self.root / below).rglob(name)
        return path

    def read(self, name: str, below: str = "") -> Any:
        """Return the one JSON document of that name."""
        return orjson.loads(self.find(name, below).read_bytes())

    def _arguments(self, options: tuple[str, ...], overrides: tuple[str, ...]) -> list[str]:
        return [*options, f"experiment={self.experiment}", f"paths.root={self.root}", *overrides]

    def _checked(self, printed: str, ended: object, code: int) -> str:
        assert ended == code, printed
        assert "Traceback" not in printed, printed
        return printed
