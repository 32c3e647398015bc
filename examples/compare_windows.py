"""Compare two windows: did the attributions of the model change?

python examples/compare_windows.py
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf
from pydantic import TypeAdapter

import runner
from runner.cli import CONF, track
from runner.domain.attributions import Explained
from runner.drift.detect import detect_drift
from runner.drift.policy import DriftPolicy
from runner.engine import Engine
from runner.explain import background
from runner.explain.estimator import Estimator
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.task import Aggregation
from runner.models.linear_learner import LinearLearner

DEMO = Path(runner.__file__).parent / "demo"
COLUMNS = ["radius", "texture", "perimeter", "area", "smoothness"]
COLUMNS += ["compactness", "concavity", "concave points", "symmetry", "fractal dimension"]

# 1. Two windows of records. In the second one, compactness arrives in per cent instead of as a fraction.
monday = pl.read_csv(DEMO / "baseline.csv", has_header=False, new_columns=["label", *COLUMNS]).drop("label")
tuesday = pl.read_csv(DEMO / "traffic.csv", has_header=False, new_columns=COLUMNS)
tuesday = tuesday.with_columns(pl.col("compactness") * 100)

# 2. Explain both with the same model, the same estimator and the same background.
model = LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=("malignant",), deploy=None)
engine = Engine(kind="serial", workers=None, address=None)
estimator = Estimator(
    explainer=LinearExplainer(),
    agg_method=Aggregation.MEAN_ABS,
    groups={},
    use_logit=False,
    max_batch_rows=16_000,
    engine=engine,
)
reference, live = (
    Explained(records, estimator.explain(model, records, background.mean(monday), track))
    for records in (monday, tuesday)
)

# 3. Compare them. The policy has the default settings of the group `drift`, such as one false alarm per year.
defaults: Any = OmegaConf.load(CONF / "drift" / "calibrated.yaml")
policy = TypeAdapter(DriftPolicy).validate_python(OmegaConf.to_container(defaults))
result = detect_drift(policy, reference, live, agg_method="mean_abs", window=timedelta(days=1))
(label,) = result.labels
feature = label.top_changes[0]
print(f"level: {result.level}")
print(f"attribution shift: {label.attribution_shift.value:.1%}, by chance up to {label.attribution_shift.noise:.1%}")
print(f"largest change: {feature.name}, rank {feature.rank_before} to {feature.rank_now}: {feature.cause}")
