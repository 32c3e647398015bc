"""Runs the command line as a user does, and reads the files that it writes."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import orjson

from runner import cli

CHECKOUT = Path(__file__).parents[1]
HANG_SECONDS = 300
"""Time in seconds after which a process counts as hanging, much longer than it needs on a busy machine."""


def run_cli(arguments: Sequence[str], folder: Path = CHECKOUT, code: int = 0) -> str:
    """Return the output on both streams of a run in this process, after a check of its exit code."""
    output, exit_code = io.StringIO(), None
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
        mock.patch.object(sys, "argv", ["shapwatch", *arguments]),
    ):
        try:
            cli.main()
        except SystemExit as exit_:
            exit_code = exit_.code
    return _checked(output.getvalue(), exit_code, code)


def _checked(output: str, exit_code: object, code: int) -> str:
    assert exit_code == code, output
    assert "Traceback" not in output, output
    return output


@dataclass(frozen=True)
class Shapwatch:
    """Runs stages of an experiment and writes everything below `root`."""

    root: Path
    experiment: str = "quickstart"

    def __call__(self, *overrides: str, options: tuple[str, ...] = (), code: int = 0) -> str:
        """Return the output on both streams of a run in this process, after a check of its exit code."""
        return run_cli(self._arguments(options, overrides), code=code)

    def process(self, *overrides: str, options: tuple[str, ...] = (), code: int = 0) -> str:
        """Return the same of a run in a separate process, in which warnings are errors."""
        command = [sys.executable, "-W", "error", "-m", "runner", *self._arguments(options, overrides)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False, timeout=HANG_SECONDS)
        return _checked(done.stdout + done.stderr, done.returncode, code)

    def find(self, name: str, below: str = "") -> Path:
        """Return the only file with that name."""
        (path,) = (self.root / below).rglob(name)
        return path

    def read(self, name: str, below: str = "") -> Any:
        """Return the content of the only JSON document with that name."""
        return orjson.loads(self.find(name, below).read_bytes())

    def _arguments(self, options: tuple[str, ...], overrides: tuple[str, ...]) -> list[str]:
        return [*options, f"experiment={self.experiment}", f"paths.root={self.root}", *overrides]
