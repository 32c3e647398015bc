"""shapwatch monitors the SHAP feature attributions of a model in production, and reports drift with its likely cause.

The packages, from top to bottom; imports only go down:

* `cli` runs one stage and returns an exit code; `config` composes and validates the settings, and builds the stage.
* `stages` contains the commands, `monitors` the execution of a monitor and the analysis of its records.
* `models`, `sources`, `publish`, `report`, `scheduling`, `serving` and `results` connect to the outside, in this
  order: model endpoints, captures, sinks, report files, schedules, clients and result directories.
* `records`, `explain` and `drift` are the core: pure functions of arrays and tables.
* `domain` contains the types that all packages share, `protocols` the interfaces between them, `errors` the errors.

Start with `domain`, `protocols` and `monitors`.
"""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).parent


def resource(folder: str) -> Path:
    """Return a folder of data files: inside the installed package, or at the top of a checkout."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder
