"""Cases of the frontier benchmark: models with records, a background row and exact Shapley values.

Array letters: N records, D features.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner.explain import background as backgrounds
from runner.models.linear_learner import LinearLearner
from runner.protocols import Item, Model
from runner.sources.data import Data
from runner.sources.dataset import Dataset

DEMO = Path(__file__).parents[1] / "runner" / "demo"
ADULT = Path(os.environ.get("ADULT_DIR", "../shared/data/adult"))
ADULT_BASELINE = [[39, 2, 184870, 10, 10, 3, 6, 1, 4, 1, 1597, 61, 41, 37]]
CATEGORIES = (1, 3, 5, 6, 7, 8, 9)
"""Columns of the notebook's data that encode categories, except the country."""
MAX_MATTERING = 20
"""Maximum number of features that can change the output for a record, so that coalitions can be enumerated."""

JSON_LINES = Data(
    dataset_type="application/jsonlines",
    dataset=None,
    traffic=None,
    features="features",
    columnar=False,
    label=None,
    header=False,
    content_type="application/jsonlines",
    accept_type="application/jsonlines",
    score="score",
    content_template=None,
    record_template=None,
    ground_truth=None,
    probability_threshold=0.5,
    max_rejected_share=0.05,
    max_records=None,
    headers=None,
)
"""Format of the notebook's and the demonstration's datasets."""

Matrix = NDArray[np.float64]
Function = Callable[[Matrix], Matrix]


def untracked(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:  # noqa: ARG001
    """Yield the items without showing progress."""
    return items


@dataclass
class Case:
    """A model for shapwatch, and the same model as a function of a matrix for the peers.

    Attributes:
        name: name of the case.
        model, features, background: inputs of shapwatch.
        function: the scores as a vector, as a function of x_ND.
        x_ND, background_D: the same records and background row as numbers.
        matters_ND: whether a feature can change the output for a record.
    """

    name: str
    model: Model
    features: pl.DataFrame
    background: pl.DataFrame
    function: Function
    x_ND: Matrix
    background_D: Matrix
    matters_ND: NDArray[np.bool_]

    @cached_property
    def truth_ND(self) -> Matrix:
        """The exact Shapley values."""
        return enumerated(self.function, self.x_ND, self.background_D, self.matters_ND)

    def first(self, count: int) -> Case:
        """Return the case with at most `count` records."""
        return replace(self, features=self.features[:count], x_ND=self.x_ND[:count], matters_ND=self.matters_ND[:count])

    def resampled(self, count: int) -> Case:
        """Return the case with `count` different records, without exact values."""
        rng = np.random.default_rng(0)
        picked = self.features[rng.integers(self.features.height, size=count)]
        noise = pl.Series("noise", rng.integers(0, 1000, count))
        return replace(self, features=picked.with_columns(pl.col(picked.columns[2]) + noise))


@dataclass
class Predictor:
    """A model that is a function of a table."""

    function: Callable[[pl.DataFrame], Matrix]
    label_headers: None = None
    identity: None = None

    def predict(self, features: pl.DataFrame) -> Matrix:
        """Return scores_NL."""
        return self.function(features)[:, None]


def enumerated(function: Function, x_ND: Matrix, background_D: Matrix, matters_ND: NDArray[np.bool_]) -> Matrix:
    """Return exact Shapley values from all coalitions of the features that matter for a record."""
    phi_ND = np.zeros_like(x_ND)
    for n, x_D in enumerate(x_ND):
        playing = np.flatnonzero(matters_ND[n])
        phi_ND[n, playing] = _shapley(function, x_D, background_D, playing)
    return phi_ND


def _shapley(function: Function, x_D: Matrix, background_D: Matrix, playing: NDArray[np.intp]) -> Matrix:
    P = len(playing)
    masks_KP = (np.arange(2**P)[:, None] >> np.arange(P)) % 2 == 1
    rows_KD = np.tile(background_D, (2**P, 1))
    rows_KD[:, playing] = np.where(masks_KP, x_D[playing], background_D[playing])
    values_K, size_K = function(rows_KD), masks_KP.sum(axis=1)
    weights = 1 / (P * np.array([_choose(P - 1, size) for size in range(P)]))
    joining_K, leaving_K = weights[np.maximum(size_K - 1, 0)], weights[np.minimum(size_K, P - 1)]
    phi_P: Matrix = (values_K * joining_K) @ masks_KP - (values_K * leaving_K) @ ~masks_KP
    return phi_P


def _choose(n: int, k: int) -> float:
    return float(np.prod([(n - i) / (i + 1) for i in range(k)]))


def adult(rows: int) -> tuple[LinearLearner, pl.DataFrame, pl.DataFrame, list[int]]:
    """Return the notebook's model, records, background and labels; without its files, those of the quickstart."""
    folder, data = (ADULT, "validation-dataset.jsonl") if ADULT.is_dir() else (DEMO, "baseline.jsonl")
    (artifact,) = folder.glob("*.tar.gz")
    model = LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)
    features, _ = Dataset(str(folder / data), JSON_LINES, "data.dataset").read()
    background = backgrounds.given(ADULT_BASELINE, features.columns) if folder == ADULT else backgrounds.mean(features)
    scores_N = model.predict(features)[:, 0]
    lines = (folder / data).read_text().splitlines()[: features.height]
    labels = [int(json.loads(line).get("label", scores_N[n] > np.median(scores_N))) for n, line in enumerate(lines)]
    return model, features[:rows], background, labels


def logistic(rows: int) -> Case:
    """Return the case of the notebook's model."""
    model, features, background, _ = adult(rows)
    weights_D, bias, _, _ = model.parameters

    def function(x_ND: Matrix) -> Matrix:
        return np.asarray(1 / (1 + np.exp(-(x_ND.astype(np.float32) @ weights_D + bias))), dtype=np.float64)

    return _case("logistic, 14 features", model, features, background, function)


def trees(rows: int) -> Case:
    """Return boosted trees on the notebook's data: 60 of depth 4."""
    from sklearn.ensemble import GradientBoostingClassifier

    _, features, background, labels = adult(10**6)
    ensemble = GradientBoostingClassifier(n_estimators=60, max_depth=4, random_state=0)
    function = _probability(ensemble.fit(features.to_numpy().astype(np.float64), labels))
    model = Predictor(lambda table: function(table.to_numpy().astype(np.float64)))
    return _case("boosted trees, 14 features", model, features[:rows], background, function)


def categories(rows: int) -> Case:
    """Return boosted trees on the notebook's data with its categories as texts, some of them missing."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    _, numbers, background, labels = adult(10**6)
    names = [numbers.columns[d] for d in CATEGORIES if d < numbers.width]
    texts = [(pl.lit("group ") + pl.col(name).cast(pl.String)).alias(name) for name in names]
    some = pl.when(pl.int_range(pl.len()) % 7 > 0).then(pl.col(numbers.columns[-1])).alias(numbers.columns[-1])
    features = numbers.with_columns(*texts, some)

    def coded(table: pl.DataFrame) -> Matrix:
        codes = [pl.col(name).str.strip_prefix("group ").cast(pl.Float64) for name in names]
        return table.with_columns(*codes).cast(pl.Float64).fill_null(float("nan")).to_numpy()

    ensemble = HistGradientBoostingClassifier(max_iter=60, max_depth=4, random_state=0)
    function = _probability(ensemble.fit(coded(features), labels))
    model = Predictor(lambda table: function(coded(table)))
    return _case("trees with categories", model, features[:rows], background.with_columns(*texts), function, coded)


def thirty(rows: int) -> Case:
    """Return boosted trees on scikit-learn's breast cancer data, with held-out records that can be enumerated."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    x_ND, labels = load_breast_cancer(return_X_y=True)
    train_ND, held_ND, background_D = x_ND[:400], x_ND[400:], x_ND[:400].mean(axis=0)
    ensemble = GradientBoostingClassifier(n_estimators=60, max_depth=3, min_samples_leaf=20, random_state=0)
    function = _probability(ensemble.fit(train_ND, labels[:400]))
    matters_ND = _matters(ensemble, held_ND, background_D)
    few = np.flatnonzero(matters_ND.sum(axis=1) <= MAX_MATTERING)[:rows]
    features = pl.DataFrame(held_ND[few], schema=[f"f{d}" for d in range(30)])
    background = pl.DataFrame(background_D[None], schema=features.columns)
    model = Predictor(lambda table: function(table.to_numpy()))
    shown_ND = held_ND[few]
    return Case(
        "boosted trees, 30 features", model, features, background, function, shown_ND, background_D, matters_ND[few]
    )


def _case(
    name: str,
    model: Model,
    features: pl.DataFrame,
    background: pl.DataFrame,
    function: Function,
    coded: Callable[[pl.DataFrame], Matrix] = lambda table: table.to_numpy().astype(np.float64),
) -> Case:
    x_ND, background_D = coded(features), coded(background)[0]
    return Case(name, model, features, background, function, x_ND, background_D, x_ND != background_D)


def _probability(ensemble: Any) -> Function:
    return lambda x_ND: np.asarray(ensemble.predict_proba(x_ND)[:, 1], dtype=np.float64)


def _matters(ensemble: Any, x_ND: Matrix, background_D: Matrix) -> NDArray[np.bool_]:
    """Return whether a feature of a record and the background are on different sides of a threshold of any tree."""
    matters_ND = np.zeros(x_ND.shape, dtype=np.bool_)
    for tree in (stump.tree_ for stump in ensemble.estimators_[:, 0]):
        for d, threshold in zip(tree.feature, tree.threshold, strict=True):
            if d >= 0:
                matters_ND[:, d] |= (np.float32(x_ND[:, d]) <= threshold) != (np.float32(background_D[d]) <= threshold)
    return matters_ND
