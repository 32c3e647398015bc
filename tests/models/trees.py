"""Small tree models of one data set: of XGBoost, the same converted to ONNX, and of LightGBM.

Array letters: N records, D features.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

NAMES = ("age", "hours", "gain", "years")
ROUNDS = 12

rng = np.random.default_rng(11)
VALUES_ND: NDArray[np.float64] = rng.normal(size=(240, len(NAMES))).round(3)
LABELS_N = (VALUES_ND[:, 0] * VALUES_ND[:, 1] + VALUES_ND[:, 2] + 0.3 * rng.normal(size=240) > 0).astype(np.int64)
VALUES_ND[rng.random(VALUES_ND.shape) < 0.08] = np.nan

FEATURES = pl.DataFrame(VALUES_ND, schema=list(NAMES)).fill_nan(None)
"""Features of the training data; 8 % of the values are null."""


@cache
def booster(rounds: int = ROUNDS) -> Any:
    """Return the booster of `xgboost_file` and `onnx_file`; training is bit-identical in each process."""
    import xgboost

    records = xgboost.DMatrix(VALUES_ND, LABELS_N, feature_names=list(NAMES))
    return xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": 0}, records, rounds)


def xgboost_file(folder: Path, rounds: int = ROUNDS) -> Path:
    """Write the booster in XGBoost's format, and return the path."""
    path = folder / "model.ubj"
    booster(rounds).save_model(path)
    return path


def onnx_file(folder: Path, rounds: int = ROUNDS) -> Path:
    """Write the same booster in ONNX, and return the path."""
    path = folder / "model.onnx"
    path.write_bytes(onnx_of_xgboost(booster(rounds)))
    return path


def lightgbm_file(folder: Path, rounds: int = ROUNDS) -> Path:
    """Write a LightGBM booster for the same data in its text format, and return the path."""
    import lightgbm

    path = folder / "model.txt"
    parameters = {"objective": "binary", "num_leaves": 6, "num_threads": 1, "deterministic": True, "verbosity": -1}
    records = lightgbm.Dataset(VALUES_ND, LABELS_N, feature_name=list(NAMES))
    lightgbm.train(parameters, records, rounds).save_model(path)
    return path


def onnx_of_xgboost(model: Any) -> bytes:
    """Return a binary classifier of XGBoost as an ONNX model with the input `x` and the output `probability`.

    The trees become a TreeEnsembleRegressor with the same float32 thresholds (BRANCH_LT) and the same branches for
    missing values. The base score is added to their sum as log-odds.

    Source: XGBoost's JSON model schema; ONNX operators, ai.onnx.ml, TreeEnsembleRegressor (version 3).
    """
    from onnx import TensorProto, helper

    learner = json.loads(model.save_raw("json"))["learner"]
    base = np.atleast_1d(json.loads(learner["learner_model_param"]["base_score"]))[0]
    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        base_values=[float(np.log(base / (1 - base)))],
        **_attributes(learner["gradient_booster"]["model"]["trees"]),
    )
    graph = helper.make_graph(
        [ensemble, helper.make_node("Sigmoid", ["margin"], ["probability"])],
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, model.num_features()])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _attributes(trees: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the attributes of a TreeEnsembleRegressor: lists with one value per node or leaf of all trees."""
    nodes = [(t, i, left) for t, tree in enumerate(trees) for i, left in enumerate(tree["left_children"])]
    leaves = [(t, i) for t, i, left in nodes if left < 0]

    def node_values(key: str, leaf: float) -> list[Any]:
        return [leaf if left < 0 else trees[t][key][i] for t, i, left in nodes]

    return {
        "nodes_treeids": [t for t, _, _ in nodes],
        "nodes_nodeids": [i for _, i, _ in nodes],
        "nodes_modes": ["LEAF" if left < 0 else "BRANCH_LT" for _, _, left in nodes],
        "nodes_featureids": node_values("split_indices", 0),
        "nodes_values": node_values("split_conditions", 0.0),
        "nodes_truenodeids": node_values("left_children", 0),
        "nodes_falsenodeids": node_values("right_children", 0),
        "nodes_missing_value_tracks_true": [int(way) for way in node_values("default_left", 0)],
        "target_treeids": [t for t, _ in leaves],
        "target_nodeids": [i for _, i in leaves],
        "target_ids": [0] * len(leaves),
        "target_weights": [trees[t]["split_conditions"][i] for t, i in leaves],
    }
