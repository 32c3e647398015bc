"""The program started again, by itself or by somebody who reads a report."""

from __future__ import annotations

import shlex
from pathlib import Path

from runner.program import reproduction


def test_a_relative_directory_is_found_from_the_folder_of_before() -> None:
    """Hydra takes a relative path for one inside the package; names with spaces and quotes are one word still."""
    assert shlex.split(reproduction(Path("out/it's mine"), kind="baseline"))[:5] == [
        *["python", "-m", "runner", "--config-path", "$PWD/out/it's mine"],
    ]


def test_the_stage_is_the_one_that_is_asked_for() -> None:
    """Whatever stage the settings are from, such as a daemon."""
    words = shlex.split(reproduction(Path("/out"), kind="monitor", attached="false"))
    assert words[4:7] == ["/out", "--config-name", "settings"]
    assert words[-2:] == ["~stage", "+stage={kind:monitor,attached:false}"]
