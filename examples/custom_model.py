"""Explain a model of your own: any Python function that scores a table.

python examples/custom_model.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import polars as pl
from numpy.typing import NDArray


# 1. The model: a function from a table with one column per feature to one score per row.
def score(features: pl.DataFrame) -> NDArray[np.float64]:
    """Return the probability that a tumour is malignant, by a rule of thumb."""
    size = features["mean radius"].to_numpy() - 15
    shape = features["mean concavity"].to_numpy() - 0.1
    return np.asarray(1 / (1 + np.exp(-(size + 20 * shape))))


# 2. The settings. With these, shapwatch imports this module from the Python path, and calls the function.
def main() -> None:
    """Compute the reference attributions, and print the strongest features."""
    root = Path(mkdtemp(prefix="shapwatch-"))
    overrides = [
        "experiment=quickstart",
        "stage=baseline",
        "model=python",
        "~model.artifact",
        "model.function=custom_model:score",
        f"paths.root={root}",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-m", "runner", *overrides], check=True, env=environment)

    # 3. The result: global attributions in SageMaker Clarify's format.
    analysis = json.loads(next(root.rglob("analysis.json")).read_text())
    values = analysis["explanations"]["kernel_shap"]["malignant"]["global_shap_values"]
    for name, value in sorted(values.items(), key=lambda item: -item[1])[:3]:
        print(f"{value:.3f} {name}")


if __name__ == "__main__":
    main()
