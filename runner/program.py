"""This program, started again: in a process of its own, with settings of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

QUIET = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")


def command(folder: str, settings: str) -> list[str]:
    """Write settings into a folder and return the command that runs them.

    Args:
        folder: an empty one; it must be there until the process has read it.
        settings: a whole configuration as YAML.
    """
    (Path(folder) / "settings.yaml").write_text(settings, "utf-8")
    return [sys.executable, "-P", "-m", "runner", "--config-path", folder, "--config-name", "settings", *QUIET]


def environment() -> dict[str, str]:
    """Return an environment in which the command finds what this process finds, not what lies about in its folder."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**os.environ, "PYTHONPATH": path}
