"""ONNX models: trees of XGBoost, types of inputs and outputs, rejected files."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import xgboost
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data
from sklearn.linear_model import LogisticRegression

from runner.errors import ArtifactError, ModelAnswerError, ModelInputError, ShapwatchError
from runner.models.onnx import Onnx
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.mutations import NUMBERS, deaths
from tests.models.people import PEOPLE
from tests.models.trees import FEATURES, LABELS_N, NAMES, VALUES_ND, booster, onnx_file

FLOAT, DOUBLE, INT64, STRING = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.STRING
WHOLE = FEATURES.fill_null(0)
CLASSES_N = np.arange(len(VALUES_ND)) % 3


def graph_model(
    folder: Path,
    nodes: list[Any],
    inputs: list[Any],
    outputs: list[Any],
    constants: list[Any] | None = None,
    ml_version: int = 3,
) -> Onnx:
    """Return the model with a graph; `ml_version` is that of the operators in ai.onnx.ml."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", ml_version)]
    (folder / "model.onnx").write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return file_model(folder / "model.onnx")


def file_model(path: Path) -> Onnx:
    """Return the model in a file."""
    return Onnx(kind="onnx", artifact=path, output=None, columns=None, label_headers=None, deploy=None)


CONTRACT = ModelContract(
    lambda folder, number: file_model(onnx_file(folder, 12 * number)), FEATURES, library="onnxruntime"
)


def ensemble_model(folder: Path, true_child: int = 1, root: int = 0) -> Onnx:
    """Return a tree of two splits in the operator of version 5: x < 0: 1, x < 1: 2, otherwise 3."""
    node = helper.make_node(
        "TreeEnsemble",
        ["x"],
        ["score"],
        domain="ai.onnx.ml",
        n_targets=1,
        tree_roots=[root],
        nodes_modes=numpy_helper.from_array(np.array([1, 1], np.uint8)),
        nodes_splits=numpy_helper.from_array(np.array([1, 0], np.float32)),
        nodes_featureids=[0, 0],
        nodes_truenodeids=[true_child, 0],
        nodes_trueleafs=[0, 1],
        nodes_falsenodeids=[2, 1],
        nodes_falseleafs=[1, 1],
        leaf_targetids=[0, 0, 0],
        leaf_weights=numpy_helper.from_array(np.array([1, 2, 3], np.float32)),
    )
    inputs, outputs = [tensor("x", FLOAT, None, 1)], [tensor("score", FLOAT, None, 1)]
    return graph_model(folder, [node], inputs, outputs, ml_version=5)


def test_trees_of_operator_version_5_are_checked(tmp_path: Path, golden: Golden) -> None:
    """A path that returns to a node, and a root or child that does not exist, are errors."""
    features = pl.DataFrame({"x": [-1.0, 0.5, 2.0]})
    assert ensemble_model(tmp_path).predict(features)[:, 0].tolist() == [1, 2, 3]
    for damage in ({"true_child": 0}, {"true_child": 5}, {"root": -1}):
        with golden.raises(ArtifactError):
            ensemble_model(tmp_path, **damage).predict(features)


@pytest.mark.parametrize("child", [1, 10**6])
def test_damaged_trees_are_not_given_to_the_library(child: int, tmp_path: Path, golden: Golden) -> None:
    """Onnxruntime would follow a path that returns to a node without end."""
    model = onnx.load(onnx_file(tmp_path))
    (children,) = (each.ints for each in model.graph.node[0].attribute if each.name == "nodes_truenodeids")
    children[next(position for position, number in enumerate(children) if number > 1)] = child
    onnx.save(model, tmp_path / "model.onnx")
    with golden.raises(ArtifactError):
        file_model(tmp_path / "model.onnx").predict(FEATURES)


def attempt(folder: Path, number: int) -> None:
    """Predict with a model with damaged bytes, or with damaged children and features of its trees."""
    rng = random.Random(number)
    data = bytearray((folder / "model.onnx").read_bytes())
    if number % 2:
        for _ in range(rng.choice([1, 2, 5, 20])):
            data[rng.randrange(len(data))] = rng.randrange(256)
    else:
        model = onnx.load_from_string(bytes(data))
        lists = [each.ints for each in model.graph.node[0].attribute if len(each.ints)]
        for _ in range(rng.choice([1, 2, 5])):
            numbers = rng.choice(lists)
            numbers[rng.randrange(len(numbers))] = rng.choice([*range(12), *NUMBERS])
        data[:] = model.SerializeToString()
    path = folder / f"{number}.onnx"
    path.write_bytes(data)
    with suppress(ShapwatchError):
        file_model(path).predict(FEATURES)


@pytest.mark.soak
def test_damaged_models_do_not_crash(tmp_path: Path) -> None:
    """Of 1,000 damaged models, none ends the process or hangs."""
    onnx_file(tmp_path)
    assert deaths(partial(attempt, tmp_path), 1_000) == []


def tensor(name: str, type_: int, *shape: int | None) -> Any:
    """Return the description of an input or output."""
    return helper.make_tensor_value_info(name, type_, shape)


def constant(name: str, values: Any) -> Any:
    """Return a constant of the graph."""
    return numpy_helper.from_array(np.asarray(values), name)


def classifier(folder: Path, estimator: Any, zipmap: bool) -> Onnx:
    """Return a logistic regression in the form of scikit-learn's converters, with labels and probabilities."""
    several = len(estimator.classes_) > 2
    weights = estimator.coef_ if several else np.concatenate([-estimator.coef_, estimator.coef_])
    intercepts = estimator.intercept_ if several else np.concatenate([-estimator.intercept_, estimator.intercept_])
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            classlabels_ints=estimator.classes_.tolist(),
            coefficients=weights.ravel().tolist(),
            intercepts=intercepts.tolist(),
            post_transform="SOFTMAX" if several else "LOGISTIC",
        )
    ]
    outputs = [tensor("label", INT64, None), tensor("scores", FLOAT, None, len(estimator.classes_))]
    if zipmap:
        classes = estimator.classes_.tolist()
        nodes.append(helper.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=classes))
        probability = helper.make_tensor_type_proto(FLOAT, [])
        maps = helper.make_sequence_type_proto(helper.make_map_type_proto(INT64, probability))
        outputs[1] = helper.make_value_info("maps", maps)
    return graph_model(folder, nodes, [tensor("x", FLOAT, None, 4)], outputs)


def doubling_model(folder: Path, type_: int = FLOAT, *shape: int | None) -> Onnx:
    """Return a model that doubles its input."""
    nodes = [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Cast", ["twice"], ["y"], to=DOUBLE)]
    return graph_model(folder, nodes, [tensor("x", type_, *shape)], [tensor("y", DOUBLE, *shape)])


def test_trees_agree_with_xgboost(tmp_path: Path) -> None:
    """Converted trees have the scores of the original booster, also for missing values."""
    expected = booster().predict(xgboost.DMatrix(VALUES_ND, feature_names=list(NAMES)))
    assert np.isnan(VALUES_ND).any(axis=0).all()
    np.testing.assert_allclose(file_model(onnx_file(tmp_path)).predict(FEATURES)[:, 0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("zipmap", [False, True])
def test_binary_classifier_has_one_output(tmp_path: Path, zipmap: bool) -> None:
    """By default, only the second of two probabilities is an output; `columns` selects both."""
    estimator = LogisticRegression().fit(np.nan_to_num(VALUES_ND), LABELS_N)
    expected = estimator.predict_proba(np.nan_to_num(VALUES_ND))
    model = classifier(tmp_path, estimator, zipmap)
    np.testing.assert_allclose(model.predict(WHOLE), expected[:, 1:], rtol=0, atol=1e-6)
    np.testing.assert_allclose(replace(model, columns=(0, 1)).predict(WHOLE), expected, rtol=0, atol=1e-6)
    assert model.predict(WHOLE.clear()).shape == (0, 1)


@pytest.mark.parametrize("zipmap", [False, True])
def test_multiclass_classifier_has_an_output_per_class(tmp_path: Path, zipmap: bool) -> None:
    """By default, all of three probabilities are outputs."""
    estimator = LogisticRegression().fit(np.nan_to_num(VALUES_ND), CLASSES_N)
    model = classifier(tmp_path, estimator, zipmap)
    expected = estimator.predict_proba(np.nan_to_num(VALUES_ND))
    np.testing.assert_allclose(model.predict(WHOLE), expected, rtol=0, atol=1e-6)
    assert model.predict(WHOLE.clear()).shape == (0, 3)


def test_output_is_selected_by_name(tmp_path: Path, golden: Golden) -> None:
    """`output` selects an output and changes the identity; an unknown name is an error."""
    estimator = LogisticRegression().fit(np.nan_to_num(VALUES_ND), CLASSES_N)
    model = classifier(tmp_path, estimator, zipmap=False)
    labels = replace(model, output="label")
    assert labels.predict(WHOLE)[:, 0].tolist() == estimator.predict(np.nan_to_num(VALUES_ND)).tolist()
    assert len({model.identity, labels.identity, replace(model, columns=(0,)).identity}) == 3
    with golden.raises(ArtifactError):
        replace(model, output="probabilities").predict(WHOLE)


def test_several_outputs_need_a_name(tmp_path: Path, golden: Golden) -> None:
    """A model with two outputs of floats needs model.output."""
    nodes = [helper.make_node("Abs", ["x"], ["size"]), helper.make_node("Neg", ["x"], ["minus"])]
    outputs = [tensor("size", FLOAT, None, 1), tensor("minus", FLOAT, None, 1)]
    model = graph_model(tmp_path, nodes, [tensor("x", FLOAT, None, 1)], outputs)
    with golden.raises(ArtifactError):
        model.predict(WHOLE[:, :1])
    assert replace(model, output="minus").predict(pl.DataFrame({"x": [2, None]}))[0] == -2


def test_string_output_is_rejected(tmp_path: Path, golden: Golden) -> None:
    """An output of strings cannot be selected."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = graph_model(tmp_path, nodes, [tensor("x", STRING, None, 1)], [tensor("y", STRING, None, 1)])
    with golden.raises(ModelAnswerError):
        replace(model, output="y").predict(pl.DataFrame({"plan": ["basic", "pro"]}))


@pytest.mark.parametrize("shape", [(None, 1), (None,)])
def test_inputs_get_features_by_name(tmp_path: Path, shape: tuple[int | None, ...], golden: Golden) -> None:
    """Each of several inputs gets the feature of the same name, in its own type and shape."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["plan"],
            ["price"],
            domain="ai.onnx.ml",
            keys_strings=["basic", "plus", "pro"],
            values_floats=[1.0, 2.0, 4.0],
            default_float=0.0,
        ),
        helper.make_node("Cast", ["age"], ["years"], to=FLOAT),
        helper.make_node("Mul", ["years", "use"], ["product"]),
        helper.make_node("Add", ["price", "product"], ["score"]),
    ]
    inputs = [tensor("use", FLOAT, *shape), tensor("plan", STRING, *shape), tensor("age", INT64, *shape)]
    model = graph_model(tmp_path, nodes, inputs, [tensor("score", FLOAT, *shape)])
    price = PEOPLE["plan"].replace_strict({"basic": 1, "plus": 2, "pro": 4}, return_dtype=pl.Float64)
    expected = price + PEOPLE["age"] * PEOPLE["use"]
    people = PEOPLE.select("age", "plan", "use")
    np.testing.assert_allclose(model.predict(people)[:, 0], expected, rtol=1e-5)
    assert model.predict(people.clear()).shape == (0, 1)
    with golden.raises(ArtifactError):
        model.predict(people.rename({"use": "usage"}))
    with golden.raises(ArtifactError):
        model.predict(PEOPLE)


@pytest.mark.parametrize("type_", [FLOAT, DOUBLE, TensorProto.FLOAT16, INT64, TensorProto.INT32])
def test_numbers_are_cast_to_the_input_type(tmp_path: Path, type_: int) -> None:
    """Integers, whole floats and booleans can be cast to every numeric type."""
    features = pl.DataFrame({"a": [1, -2], "b": [3.0, 4.0], "c": [True, False]})
    assert doubling_model(tmp_path, type_, None, 3).predict(features).tolist() == [[2, 6, 2], [-4, 8, 0]]


def test_unknown_shapes_accept_any_width(tmp_path: Path) -> None:
    """Inputs with unknown width or shape get any number of features."""
    features = pl.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    unknown = [helper.make_tensor_value_info(name, FLOAT, None) for name in ("x", "y")]
    for model in (doubling_model(tmp_path, FLOAT, None, None), graph_model(tmp_path, nodes, unknown[:1], unknown[1:])):
        assert model.predict(features).tolist() == [[2, 6, 10], [4, 8, 12]]


def test_string_input_gets_all_features_as_strings(tmp_path: Path, golden: Golden) -> None:
    """A two-dimensional input of strings gets all features as strings; a null is an error."""
    encoder = helper.make_node(
        "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=["basic", "7"], values_floats=[1.0, 2.0]
    )
    model = graph_model(tmp_path, [encoder], [tensor("x", STRING, None, 3)], [tensor("y", FLOAT, None, 3)])
    features = pl.DataFrame({"plan": ["basic", "pro"], "age": [7, 8], "other": ["", "basic"]})
    assert model.predict(features).tolist() == [[1, 2, 0], [0, 0, 1]]
    with golden.raises(ModelInputError):
        model.predict(features.with_columns(age=pl.Series([7, None])))


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (INT64, 1.5, "int64 values in this input"),
        (INT64, None, "int64 values in this input"),
        (TensorProto.INT32, 2**40, "int32 values in this input"),
        (FLOAT, "x", "numbers and booleans"),
    ],
)
def test_invalid_values_are_rejected(tmp_path: Path, type_: int, value: Any, expected: str) -> None:
    """The error names the feature, the value and the expected type."""
    features = pl.DataFrame({"a": [1, 2], "b": [value, value]})
    with pytest.raises(ModelInputError) as caught:
        doubling_model(tmp_path, type_, None, 2).predict(features)
    assert (caught.value.feature, caught.value.value, caught.value.expected) == ("b", value, expected)


def test_unsupported_input_types_are_rejected(tmp_path: Path, golden: Golden) -> None:
    """The error lists the supported types."""
    with golden.raises(ArtifactError):
        doubling_model(tmp_path, TensorProto.UINT32, None, 2).predict(WHOLE[:, :2])


def test_library_errors_are_reported(tmp_path: Path, golden: Golden) -> None:
    """The error quotes onnxruntime, here for more rows than a fixed batch size."""
    with golden.raises(ModelAnswerError):
        doubling_model(tmp_path, FLOAT, 1, 4).predict(WHOLE)


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/weights.bin", "deep/" * 40 + "weights.bin"])
def test_external_weights_are_rejected(tmp_path: Path, location: str, golden: Golden) -> None:
    """A model with weights in another file is rejected, because its identity would not depend on them."""
    weights = constant("weights", np.ones((4, 1), dtype=np.float32))
    set_external_data(weights, location)
    weights.ClearField("raw_data")
    (tmp_path / "weights.bin").write_bytes(np.ones(4, dtype=np.float32).tobytes())
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["y"])]
    model = graph_model(tmp_path, nodes, [tensor("x", FLOAT, None, 4)], [tensor("y", FLOAT, None, 1)], [weights])
    with golden.raises(ArtifactError):
        model.predict(WHOLE)


def test_feature_named_location_is_accepted(tmp_path: Path) -> None:
    """The name `location`, which marks external weights, is allowed as the name of a feature."""
    nodes = [helper.make_node("Add", ["location", "use"], ["y"])]
    inputs = [tensor(name, FLOAT, None, 1) for name in ("location", "use")]
    model = graph_model(tmp_path, nodes, inputs, [tensor("y", FLOAT, None, 1)])
    assert model.predict(pl.DataFrame({"use": [1.0], "location": [2.0]})).tolist() == [[3.0]]
