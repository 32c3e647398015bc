"""Explain records: which features raise the score of a model, and which lower it?

python examples/explain_records.py
"""

from pathlib import Path

import polars as pl

import runner
from runner.cli import track
from runner.engine import Engine
from runner.explain import background
from runner.explain.estimator import Estimator
from runner.explain.explainers.kernel import Kernel
from runner.explain.task import Aggregation
from runner.models.linear_learner import LinearLearner

DEMO = Path(runner.__file__).parent / "demo"
COLUMNS = ["label", "radius", "texture", "perimeter", "area", "smoothness"]
COLUMNS += ["compactness", "concavity", "concave points", "symmetry", "fractal dimension"]

# 1. Records: a table with one column per feature.
records = pl.read_csv(DEMO / "baseline.csv", has_header=False, new_columns=COLUMNS).drop("label")

# 2. A model. Other classes in runner/models read ONNX, scikit-learn, XGBoost and LightGBM files, or call an endpoint.
model = LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=("malignant",), deploy=None)

# 3. An estimator. Kernel SHAP evaluates 200 coalitions per record.
estimator = Estimator(
    explainer=Kernel(num_samples=200, seed=0),
    agg_method=Aggregation.MEAN_ABS,
    use_logit=False,
    max_batch_rows=16_000,
    groups={},
    engine=Engine(kind="serial", workers=None, address=None),
)

# 4. Masked features take the values of the background: here the mean of all records.
attributions = estimator.explain(model, records[:5], background.mean(records), track)

# 5. For each record, the expected score plus the sum of all attributions equals the score.
expected = attributions.expected_L[0]
for row, phi in enumerate(attributions.phi_NDL[:, :, 0]):
    print(f"record {row}: score {attributions.scores_NL[row, 0]:.3f}, expected {expected:.3f}")
    for d in abs(phi).argsort()[:-4:-1].tolist():
        print(f"  {phi[d]:+.3f} {attributions.names[d]} = {records[row, d]}")
