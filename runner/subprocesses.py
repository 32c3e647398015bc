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
    path = Path(folder) / "settings.yaml"
    path.write_text(settings, "utf-8")
    return [sys.executable, "-P", "-m", "runner.again", str(path)]


def reproduction(**stage: str) -> str:
    """Return the command for a shell that makes the directory again whose path is in `DIRECTORY`.

    It is for the folder that the run was started in, where settings have relative paths. It does not name the
    directory itself: the same inputs give the same bytes wherever they are written.

    Args:
        stage: the stage's settings, its `kind` among them.

    >>> reproduction(kind="baseline").startswith('python -m runner --config-path "$DIRECTORY" --config-name settings')
    True
    """
    settings = ",".join(f"{key}:{value}" for key, value in stage.items())
    again = ['--config-path "$DIRECTORY" --config-name settings', *QUIET, "'~stage'", f"'+stage={{{settings}}}'"]
    return " ".join(["python -m runner", *again])


def environment() -> dict[str, str]:
    """Return an environment in which the command finds what this process finds, not what lies about in its folder."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**os.environ, "PYTHONPATH": path}
