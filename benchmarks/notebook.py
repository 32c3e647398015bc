"""The notebook's model and data: records of the Adult data set, with `Country` encoded differently in its two files.

Array letters: N records, D features.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runner.engine import Engine

ADULT = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
MODEL = ADULT / "ll-adult-prediction-model.tar.gz"
NAMES = [
    *("Age", "Workclass", "fnlwgt", "Education", "Education-Num", "Marital Status", "Occupation", "Relationship"),
    *("Ethnic group", "Sex", "Capital Gain", "Capital Loss", "Hours per week", "Country"),
]
BACKGROUND = [39, 2, 184870, 10, 10, 3, 6, 1, 4, 1, 1597, 61, 41, 37]
ENGINE = Engine(kind="serial", workers=None, address=None)


def records(name: str) -> NDArray[np.float64]:
    """Return the features in a file of the notebook."""
    with (ADULT / name).open() as lines:
        return np.array([json.loads(line)["features"] for line in lines], dtype=float)


def pooled() -> NDArray[np.float64]:
    """Return the records of both files, with `Country` encoded as in the validation file."""
    test_ND = records("test-dataset.jsonl")
    test_ND[:, NAMES.index("Country")] += test_ND[:, NAMES.index("Country")] == 37
    return np.concatenate([records("validation-dataset.jsonl"), test_ND])
