"""The contract of models: what every implementation that `conf/model` names has to fulfil."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from runner.demo.build import artefact
from runner.domain.records import Payload
from runner.errors import ArtifactError, EndpointError, MissingInput, SettingsError
from runner.models.http import Http
from runner.models.lightgbm import Lightgbm
from runner.models.linear import LinearModel
from runner.models.linear_learner import LinearLearner
from runner.models.onnx import Onnx
from runner.models.python import Python
from runner.models.sagemaker import SageMaker
from runner.models.sklearn import Sklearn
from runner.models.xgboost import Xgboost
from runner.protocols import Model, RemoteModel, calls_made
from runner.records.fields import Fields
from runner.records.payloads import Format, encoding
from runner.serving.responses import encode_response
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.models.pipelines import PEOPLE, pipeline, skops_file
from tests.models.servers import credentials, lasting
from tests.models.trees import FEATURES, lightgbm_file, onnx_file, xgboost_file

WHOLE = FEATURES.drop_nulls()[:40]


class Kind(NamedTuple):
    """How a kind is tested.

    Attributes:
        make: returns a model of one output with its files in a folder; a second number makes another model.
        features: what it takes.
        exact: whether scores are equal to the bit in every batch.
        in_process: whether nothing is sent.
    """

    make: Callable[[Path, int], Any]
    features: pl.DataFrame
    exact: bool = False
    in_process: bool = True


def linear_learner(folder: Path, number: int) -> LinearLearner:
    """Return a logistic regression of four weights."""
    (folder / "model.tar.gz").write_bytes(artefact(np.array([0.5, -1.0, 2.0, 0.25]) * number, 0.5))
    return LinearLearner(kind="linear_learner", artifact=folder / "model.tar.gz", label_headers=None, deploy=None)


def linear(folder: Path, number: int) -> LinearModel:
    """Return a logistic regression of texts, numbers and booleans."""
    coefficients: Any = {"plan": {"basic": -1, "plus": number}, "age": 0.02, "use": -0.5, "member": 1}
    return LinearModel(
        kind="linear", link="logistic", intercept=(0,), coefficients=coefficients, label_headers=None, deploy=None
    )


def onnx(folder: Path, number: int) -> Onnx:
    """Return boosted trees carried over to ONNX."""
    path = onnx_file(folder, 12 * number)
    return Onnx(kind="onnx", artifact=path, output=None, columns=None, label_headers=None, deploy=None)


def sklearn(folder: Path, number: int) -> Sklearn:
    """Return a pipeline that takes texts."""
    path = skops_file(folder, pipeline(1 / number))
    return Sklearn(
        kind="sklearn",
        artifact=path,
        trusted=(),
        method="predict_proba",
        columns=None,
        label_headers=None,
        deploy=None,
    )


def xgboost(folder: Path, number: int) -> Xgboost:
    """Return boosted trees."""
    return Xgboost(
        kind="xgboost", artifact=xgboost_file(folder, 12 * number), columns=None, label_headers=None, deploy=None
    )


def lightgbm(folder: Path, number: int) -> Lightgbm:
    """Return boosted trees."""
    return Lightgbm(
        kind="lightgbm", artifact=lightgbm_file(folder, 12 * number), columns=None, label_headers=None, deploy=None
    )


def python(folder: Path, number: int) -> Python:
    """Return a function of texts and numbers."""
    name = {1: "chance", 2: "half"}[number]
    return Python(kind="python", function=f"tests.models.functions:{name}", label_headers=None, deploy=None)


def http(folder: Path, number: int) -> Http | SageMaker:
    """Return the linear model behind a URL."""
    return lasting("http", linear(folder, number), PEOPLE.columns)


def sagemaker(folder: Path, number: int) -> Http | SageMaker:
    """Return the linear model behind what answers like SageMaker's runtime."""
    return lasting("sagemaker", linear(folder, number), PEOPLE.columns)


KINDS = {
    "linear_learner": Kind(linear_learner, WHOLE, exact=True),
    "linear": Kind(linear, PEOPLE, exact=True),
    "onnx": Kind(onnx, FEATURES),
    "sklearn": Kind(sklearn, PEOPLE),
    "xgboost": Kind(xgboost, FEATURES),
    "lightgbm": Kind(lightgbm, FEATURES),
    "python": Kind(python, PEOPLE),
    "http": Kind(http, PEOPLE, exact=True, in_process=False),
    "sagemaker": Kind(sagemaker, PEOPLE, exact=True, in_process=False),
}
LIBRARIES = {"onnx": "onnxruntime", "sklearn": "skops", "xgboost": "xgboost", "lightgbm": "lightgbm"}
STORED = [name for name in KINDS if name not in {"linear", "python", "http", "sagemaker"}]


@pytest.fixture(autouse=True, scope="module")
def _credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        credentials(monkeypatch)
        yield


@dataclass(frozen=True)
class Case:
    """A kind with a model of it that exists."""

    name: str
    kind: Kind
    folder: Path
    model: Model

    @property
    def features(self) -> pl.DataFrame:
        """Features for the model."""
        return self.kind.features

    def check_equal(self, scores: Any, expected: Any) -> None:
        """Make sure that scores are equal, to the bit where the kind promises it."""
        np.testing.assert_allclose(scores, expected, rtol=0 if self.kind.exact else 1e-12)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Each model kind."""
    folder, kind = tmp_path_factory.mktemp(request.param), KINDS[request.param]
    return Case(request.param, kind, folder, kind.make(folder, 1))


def configured_kind(name: str) -> str:
    """Return the kind of an option of conf/model, which may be another option's with other values."""
    option: Any = OmegaConf.load(CHECKOUT / f"conf/model/{name}.yaml")
    return str(option.kind) if "kind" in option else configured_kind(option.defaults[0])


def test_the_suite_knows_every_configured_model() -> None:
    """A new option of conf/model has to be added here."""
    names = [path.stem for path in (CHECKOUT / "conf/model").glob("*.yaml")]
    assert {configured_kind(name) for name in names} == KINDS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_fields_are_keys(name: str, tmp_path: Path) -> None:
    """A model has a field for each key of its YAML, without a value of its own."""
    model = KINDS[name].make(tmp_path, 1)
    option = OmegaConf.load(CHECKOUT / f"conf/model/{name}.yaml")
    assert set(option) == {field.name for field in fields(model)}
    assert option.kind == model.kind == name
    with pytest.raises(ValueError, match="label_headers"):
        type(model)(**{key: value for key, value in vars(model).items() if key in option and key != "label_headers"})


def test_scores_are_a_table(case: Case) -> None:
    """There is a score of double precision for each record and output."""
    scores_NL = case.model.predict(case.features)
    assert scores_NL.shape == (case.features.height, 1)
    assert scores_NL.dtype == np.float64
    assert len(np.unique(scores_NL)) > 10


def test_single_records_score_as_in_a_batch(case: Case) -> None:
    """A record has the same score alone and among others."""
    alone = [case.model.predict(row)[0] for row in case.features[:30].iter_slices(1)]
    case.check_equal(case.model.predict(case.features)[:30], alone)


def test_scores_keep_the_order_of_records(case: Case) -> None:
    """Scores move with their records."""
    order = np.random.default_rng(2).permutation(case.features.height)
    case.check_equal(case.model.predict(case.features[order]), case.model.predict(case.features)[order])


@pytest.mark.parametrize("size", [2, 7, 39])
def test_batches_agree(case: Case, size: int) -> None:
    """Scores are the same whatever number of records goes in at a time."""
    parts = [case.model.predict(part) for part in case.features.iter_slices(size)]
    case.check_equal(np.concatenate(parts), case.model.predict(case.features))


def test_empty_input_gives_an_empty_table(case: Case) -> None:
    """No record is answered with no row of as many columns."""
    scores_NL = case.model.predict(case.features.clear())
    assert scores_NL.shape == (0, 1)
    assert scores_NL.dtype == np.float64


def test_inputs_stay_untouched(case: Case) -> None:
    """The records are the same afterwards."""
    features = case.features.clone()
    case.model.predict(features)
    assert features.equals(case.features)
    assert features.schema == case.features.schema


def test_identity_is_the_model(case: Case, tmp_path: Path) -> None:
    """Equal models have equal identities, different models have different ones, remote models have none."""
    model: Any = case.model
    assert replace(model).identity == model.identity
    assert (model.identity is not None) == case.kind.in_process
    other = case.kind.make(tmp_path, 2)
    assert other.identity != case.model.identity or not case.kind.in_process
    assert not np.array_equal(other.predict(case.features), case.model.predict(case.features))


def test_label_headers_are_returned(case: Case, tmp_path: Path) -> None:
    """A model knows the names of its outputs, and that it has none."""
    model = case.kind.make(tmp_path, 1)
    assert model.label_headers is None
    assert replace(model, label_headers=("chance",)).label_headers == ("chance",)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    ("accept", "score"),
    [("application/jsonlines", "score"), ("application/json", "predictions[*].score"), ("text/csv", "0")],
)
def test_response_contains_the_scores(case: Case, accept: Format, score: str, count: int) -> None:
    """The response body of a model is decoded as its scores."""
    features = case.features[:count]
    payload = Payload(accept, encode_response(case.model, features, accept), encoding(accept))
    fields = Fields(features=None, score=score, accept_type=accept)
    read = fields.response_scores(payload, count)
    np.testing.assert_allclose(read, case.model.predict(features), rtol=1e-12, atol=1e-15)


def test_other_media_types_are_refused(case: Case) -> None:
    """The error for a media type nobody writes names it, and is the endpoint's refusal where there is one."""
    with pytest.raises(ValueError if case.kind.in_process else EndpointError, match="'image/png'") as caught:
        encode_response(case.model, case.features[:1], "image/png")
    assert not isinstance(caught.value, EndpointError) or caught.value.status == 406


def test_in_process_models_make_no_calls(case: Case) -> None:
    """A model in this process counts no calls."""
    assert (calls_made(case.model) is None) == case.kind.in_process
    assert isinstance(case.model, RemoteModel) == (not case.kind.in_process)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", STORED)
def test_pickles_are_never_loaded(name: str, protocol: int, tmp_path: Path) -> None:
    """An artefact that is a pickle is refused, and what it would do is not done."""
    kind = KINDS[name]
    model = replace(kind.make(tmp_path, 1), artifact=tmp_path / "trap")
    model.artifact.write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol))
    with pytest.raises(ArtifactError):
        model.predict(kind.features)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", STORED)
def test_missing_artefacts_are_an_error(name: str, tmp_path: Path, golden: Golden) -> None:
    """The error for a file that is not there names the setting and how to save the model."""
    model = replace(KINDS[name].make(tmp_path, 1), artifact=tmp_path / "absent")
    with golden.raises(MissingInput) as caught:
        model.predict(KINDS[name].features)
    assert (caught.value.path, caught.value.key) == (tmp_path / "absent", "model.artifact")


@pytest.mark.parametrize(
    "damage",
    [b"", b"\0", b"garbage", b"{}", b"PK\x03\x04", b"tree\n"],
    ids=["empty", "zero", "words", "object", "archive", "tree"],
)
@pytest.mark.parametrize("name", STORED)
def test_damaged_artefacts_are_an_error(name: str, damage: bytes, tmp_path: Path) -> None:
    """The error for a file that holds something else names its path."""
    model = replace(KINDS[name].make(tmp_path, 1), artifact=tmp_path / "damaged")
    model.artifact.write_bytes(damage)
    with pytest.raises(ArtifactError) as caught:
        model.predict(KINDS[name].features)
    assert caught.value.path == tmp_path / "damaged"


@pytest.mark.parametrize("name", STORED)
def test_the_error_of_a_damaged_artefact(name: str, tmp_path: Path, golden: Golden) -> None:
    """The error says what kind of file was expected, and repeats the library's own error."""
    model = replace(KINDS[name].make(tmp_path, 1), artifact=tmp_path / "damaged")
    model.artifact.write_bytes(b"garbage")
    library = r"(XGBoostError|InvalidProtobuf): .*(?=\) \(model\.artifact\))"
    with golden.raises(ArtifactError, (library, r"\1: {library}")):
        model.predict(KINDS[name].features)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", STORED)
def test_cut_artefacts_are_an_error(name: str, share: float, tmp_path: Path) -> None:
    """The error for a file that was copied half names its path."""
    model = KINDS[name].make(tmp_path, 1)
    data = model.artifact.read_bytes()
    model.artifact.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ArtifactError) as caught:
        model.predict(KINDS[name].features)
    assert caught.value.path == model.artifact


@pytest.mark.parametrize("name", STORED)
def test_other_numbers_of_features_are_an_error(name: str, tmp_path: Path) -> None:
    """The error for records of another width has both numbers."""
    model, features = KINDS[name].make(tmp_path, 1), KINDS[name].features
    for other in (features[:, :3], features.with_columns(more=pl.lit(1))):
        with pytest.raises(ArtifactError) as caught:
            model.predict(other)
        assert caught.value.path == model.artifact
        assert re.findall(r"\d+", caught.value.problem) == ["4", str(other.width)]


@pytest.mark.parametrize("name", LIBRARIES)
def test_absent_libraries_are_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Where a kind's library is not installed, the extra that brings it is named."""
    model = KINDS[name].make(tmp_path, 1)
    monkeypatch.setitem(sys.modules, LIBRARIES[name], None)
    with golden.raises(SettingsError) as caught:
        model.predict(KINDS[name].features)
    (problem,) = caught.value.problems
    assert f"model.kind={name}" in problem
    assert f"shapwatch[{name}]" in problem
