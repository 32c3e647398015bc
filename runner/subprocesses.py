"""Commands and environments of subprocesses that run this program with resolved settings, without Hydra."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

SNAPSHOT = "--snapshot"
"""Command-line option with the path of resolved settings as its value."""
SETTINGS_FILE = "--settings"
"""Command-line option with the path of the settings.yaml of a result as its value."""


def command(folder: str, settings: str) -> list[str]:
    """Write settings into a folder, and return the command that runs this program with them.

    Args:
        folder: empty folder, which must exist until the process has read the settings.
        settings: resolved configuration as YAML.
    """
    path = Path(folder) / "settings.yaml"
    path.write_text(settings, "utf-8")
    return [sys.executable, "-P", "-m", "runner", SNAPSHOT, str(path)]


def reproduction(confirmations: Sequence[str], **stage: str) -> str:
    r"""Return the shell command that reproduces the results in the directory `$DIRECTORY`.

    The command must run in the working directory of the original run, because settings may contain relative paths. It
    contains the variable instead of the directory, so that the same inputs give the same command in any directory.

    Args:
        confirmations: overrides that repeat the settings with code or addresses. The program does not accept these
            settings from a settings file unless an override has the same value.
        stage: settings of the stage, including its `kind`.

    >>> reproduction([], kind="baseline")
    'python -m runner --settings "$DIRECTORY/settings.yaml" \'stage={kind:baseline}\''
    """
    settings = ",".join(f"{key}:{value}" for key, value in stage.items())
    overrides = [shlex.quote(each) for each in (f"stage={{{settings}}}", *confirmations)]
    return " ".join(["python -m runner", SETTINGS_FILE, '"$DIRECTORY/settings.yaml"', *overrides])


def environment() -> dict[str, str]:
    """Return an environment in which the command imports the same modules as this process, in any working directory."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    return {**os.environ, "PYTHONPATH": path}
