"""shapwatch: watches why a model decides, not only what.

The way through the house, from the street to the cellar (imports only go down):

* `cli` composes and validates the settings, runs one stage, turns its outcome into an exit code.
* `stages` are the program: each is frozen, built from collaborators, with one method `run`.
* `models`, `report`, `executions` are the adapters to what lies outside: a model, a page, a directory.
* `records`, `explain`, `drift`, `documents` are the pure core; `storage` touches the disk for them.
* `domain` holds the nouns, `protocols` the seams, `errors` the sentences.

Start with `domain.py`, `protocols.py` and `stages/monitor.py`: they explain the system.
"""

__version__ = "0.1.0"
