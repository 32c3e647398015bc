"""shapwatch monitors why a model decides: drift of its inputs, outputs and SHAP feature attributions.

The packages, from top to bottom; imports only go down:

* `cli` composes the settings, runs one stage and returns an exit code; `config` validates the settings and builds the
  stage.
* `stages` are the commands. `monitors` execute a monitor and analyse its records.
* `models`, `sources`, `publish`, `report`, `scheduling`, `serving` and `results` connect to the outside: model
  endpoints, captures, sinks, pages, schedules, clients and directories.
* `records`, `explain` and `drift` are the core: pure functions over arrays and tables.
* `domain` contains the types that all packages share; `protocols` the interfaces between them; `errors` the errors.

Start with `domain`, `protocols.py` and `the package `monitors`.
"""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).parent


def resource(folder: str) -> Path:
    """Return a folder of data files: inside the installed package, or at the top of a checkout."""
    inside = PACKAGE / folder
    return inside if inside.is_dir() else PACKAGE.parent / folder
