"""The program as a user runs it: the command line in a process of its own, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Shapwatch:
    """Runs stages of an experiment with everything written below `root`."""

    root: Path
    experiment: str = "quickstart"

    def __call__(self, *overrides: str, options: tuple[str, ...] = (), code: int = 0, folder: Path = CHECKOUT) -> str:
        """Return what a run printed, both streams, after checking its exit code and that it showed no traceback."""
        named = [f"experiment={self.experiment}", f"paths.root={self.root}"]
        done = subprocess.run(
            [sys.executable, "-m", "runner", *options, *named, *overrides],
            capture_output=True,
            text=True,
            cwd=folder,
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        printed = done.stdout + done.stderr
        assert done.returncode == code, printed
        assert "Traceback" not in printed, printed
        return printed

    def find(self, name: str, below: str = "") -> Path:
        """Return the one file of that name."""
        (path,) = (self.root / below).rglob(name)
        return path

    def read(self, name: str, below: str = "") -> Any:
        """Return the one JSON document of that name."""
        return orjson.loads(self.find(name, below).read_bytes())
