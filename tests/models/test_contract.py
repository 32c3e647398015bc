"""The contract of models, which each kind in `conf/model` must fulfil."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from omegaconf import OmegaConf

from runner.domain.records import Payload
from runner.errors import ArtifactError, EndpointError, MissingInput, SettingsError
from runner.protocols import Model, RemoteModel, calls_made
from runner.records.fields import Fields
from runner.records.payloads import Format, encoding
from runner.serving.requests import encode_response
from tests.cli_runner import CHECKOUT
from tests.golden import Golden
from tests.models.contract import ModelContract
from tests.models.servers import credentials


def option_kind(name: str) -> str:
    """Return the `kind` of an option of conf/model; an option without `kind` inherits it from its default."""
    option: Any = OmegaConf.load(CHECKOUT / f"conf/model/{name}.yaml")
    return str(option.kind) if "kind" in option else option_kind(option.defaults[0])


def contract(kind: str) -> ModelContract:
    """Return the `CONTRACT` of the test module of a kind."""
    found: ModelContract = import_module(f"tests.models.test_{kind}").CONTRACT
    return found


KINDS = sorted({option_kind(path.stem) for path in (CHECKOUT / "conf/model").glob("*.yaml")})
CONTRACTS = {kind: contract(kind) for kind in KINDS}
LIBRARY_KINDS = [kind for kind in KINDS if CONTRACTS[kind].library]
FILE_KINDS = [kind for kind in KINDS if "artifact" in list(OmegaConf.load(CHECKOUT / f"conf/model/{kind}.yaml"))]


@pytest.fixture(autouse=True, scope="module")
def _credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        credentials(monkeypatch)
        yield


@dataclass(frozen=True)
class Case:
    """A model of a kind."""

    contract: ModelContract
    model: Model

    @property
    def features(self) -> pl.DataFrame:
        """Features for the model."""
        return self.contract.features

    def check_equal(self, scores: Any, expected: Any) -> None:
        """Check that scores are equal: bit-identical if the contract says so."""
        np.testing.assert_allclose(scores, expected, rtol=0 if self.contract.exact else 1e-12)


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A model of each kind."""
    contract = CONTRACTS[request.param]
    return Case(contract, contract.make(tmp_path_factory.mktemp(request.param), 1))


@pytest.mark.parametrize("name", KINDS)
def test_fields_are_keys(name: str, tmp_path: Path) -> None:
    """A model has one field for each key of its YAML option, without a default."""
    model = CONTRACTS[name].make(tmp_path, 1)
    option = OmegaConf.load(CHECKOUT / f"conf/model/{name}.yaml")
    assert set(option) == {field.name for field in fields(model)}
    assert option.kind == model.kind == name
    with pytest.raises(ValueError, match="label_headers"):
        type(model)(**{key: value for key, value in vars(model).items() if key in option and key != "label_headers"})


def test_scores_are_float64_with_a_row_per_record(case: Case) -> None:
    """Scores are float64, with one row per record and one column per output."""
    scores_NL = case.model.predict(case.features)
    assert scores_NL.shape == (case.features.height, 1)
    assert scores_NL.dtype == np.float64
    assert len(np.unique(scores_NL)) > 10


def test_single_records_score_as_in_a_batch(case: Case) -> None:
    """A record has the same score alone and in a batch."""
    alone = [case.model.predict(row)[0] for row in case.features[:30].iter_slices(1)]
    case.check_equal(case.model.predict(case.features)[:30], alone)


def test_scores_keep_the_order_of_records(case: Case) -> None:
    """Shuffled records have shuffled scores."""
    order = np.random.default_rng(2).permutation(case.features.height)
    case.check_equal(case.model.predict(case.features[order]), case.model.predict(case.features)[order])


@pytest.mark.parametrize("size", [2, 7, 39])
def test_batch_size_does_not_change_scores(case: Case, size: int) -> None:
    """Batches of any size have the same scores."""
    parts = [case.model.predict(part) for part in case.features.iter_slices(size)]
    case.check_equal(np.concatenate(parts), case.model.predict(case.features))


def test_empty_input_has_empty_scores(case: Case) -> None:
    """Without records, the scores have no rows and the same number of columns."""
    scores_NL = case.model.predict(case.features.clear())
    assert scores_NL.shape == (0, 1)
    assert scores_NL.dtype == np.float64


def test_predict_does_not_change_its_input(case: Case) -> None:
    """The features are unchanged after a prediction."""
    features = case.features.clone()
    case.model.predict(features)
    assert features.equals(case.features)
    assert features.schema == case.features.schema


def test_identity_depends_on_the_model(case: Case, tmp_path: Path) -> None:
    """Equal models have equal identities, different models different ones, remote models none."""
    model: Any = case.model
    assert replace(model).identity == model.identity
    assert (model.identity is not None) == case.contract.in_process
    other = case.contract.make(tmp_path, 2)
    assert other.identity != case.model.identity or not case.contract.in_process
    assert not np.array_equal(other.predict(case.features), case.model.predict(case.features))


def test_label_headers_are_returned(case: Case, tmp_path: Path) -> None:
    """A model has the configured names of its outputs, or None."""
    model = case.contract.make(tmp_path, 1)
    assert model.label_headers is None
    assert replace(model, label_headers=("chance",)).label_headers == ("chance",)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    ("accept", "score"),
    [("application/jsonlines", "score"), ("application/json", "predictions[*].score"), ("text/csv", "0")],
)
def test_response_contains_the_scores(case: Case, accept: Format, score: str, count: int) -> None:
    """The decoded response of a model equals its scores."""
    features = case.features[:count]
    payload = Payload(accept, encode_response(case.model, features, accept), encoding(accept))
    decoded = Fields(features=None, score=score, accept_type=accept).response_scores(payload, count)
    np.testing.assert_allclose(decoded, case.model.predict(features), rtol=1e-12, atol=1e-15)


def test_unsupported_media_type_is_rejected(case: Case) -> None:
    """The error contains the media type; a remote model passes on the rejection by its endpoint."""
    with pytest.raises(ValueError if case.contract.in_process else EndpointError, match="'image/png'") as caught:
        encode_response(case.model, case.features[:1], "image/png")
    assert not isinstance(caught.value, EndpointError) or caught.value.status == 406


def test_only_remote_models_count_calls(case: Case) -> None:
    """A model in this process counts no calls."""
    assert (calls_made(case.model) is None) == case.contract.in_process
    assert isinstance(case.model, RemoteModel) != case.contract.in_process


class FileCreator:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", FILE_KINDS)
def test_pickles_are_never_loaded(name: str, protocol: int, tmp_path: Path) -> None:
    """An artifact that is a pickle is rejected, and its code does not run."""
    model = replace(CONTRACTS[name].make(tmp_path, 1), artifact=tmp_path / "pickle")
    model.artifact.write_bytes(pickle.dumps(FileCreator(tmp_path / "created"), protocol))
    with pytest.raises(ArtifactError):
        model.predict(CONTRACTS[name].features)
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("name", FILE_KINDS)
def test_missing_artifact_is_an_error(name: str, tmp_path: Path, golden: Golden) -> None:
    """The error for a missing file names the setting and how to save the model."""
    model = replace(CONTRACTS[name].make(tmp_path, 1), artifact=tmp_path / "absent")
    with golden.raises(MissingInput) as caught:
        model.predict(CONTRACTS[name].features)
    assert (caught.value.path, caught.value.key) == (tmp_path / "absent", "model.artifact")


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"garbage", b"{}", b"PK\x03\x04", b"tree\n"],
    ids=["empty", "zero", "words", "object", "archive", "tree"],
)
@pytest.mark.parametrize("name", FILE_KINDS)
def test_damaged_artifact_is_an_error(name: str, data: bytes, tmp_path: Path) -> None:
    """The error for a file with other content has its path."""
    model = replace(CONTRACTS[name].make(tmp_path, 1), artifact=tmp_path / "damaged")
    model.artifact.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        model.predict(CONTRACTS[name].features)
    assert caught.value.path == tmp_path / "damaged"


@pytest.mark.parametrize("name", FILE_KINDS)
def test_error_of_damaged_artifact_names_the_format(name: str, tmp_path: Path, golden: Golden) -> None:
    """The error names the expected format and repeats the library's own error."""
    model = replace(CONTRACTS[name].make(tmp_path, 1), artifact=tmp_path / "damaged")
    model.artifact.write_bytes(b"garbage")
    library = r"(XGBoostError|InvalidProtobuf): .*(?=\) \(model\.artifact\))"
    with golden.raises(ArtifactError, (library, r"\1: {library}")):
        model.predict(CONTRACTS[name].features)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", FILE_KINDS)
def test_truncated_artifact_is_an_error(name: str, share: float, tmp_path: Path) -> None:
    """The error for a truncated file has its path."""
    model = CONTRACTS[name].make(tmp_path, 1)
    data = model.artifact.read_bytes()
    model.artifact.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ArtifactError) as caught:
        model.predict(CONTRACTS[name].features)
    assert caught.value.path == model.artifact


@pytest.mark.parametrize("name", FILE_KINDS)
def test_other_number_of_features_is_an_error(name: str, tmp_path: Path) -> None:
    """The error contains the expected and the actual number of features."""
    model, features = CONTRACTS[name].make(tmp_path, 1), CONTRACTS[name].features
    for other in (features[:, :3], features.with_columns(more=pl.lit(1))):
        with pytest.raises(ArtifactError) as caught:
            model.predict(other)
        assert caught.value.path == model.artifact
        assert re.findall(r"\d+", caught.value.problem) == ["4", str(other.width)]


@pytest.mark.parametrize("name", LIBRARY_KINDS)
def test_missing_library_is_an_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The error for a missing library names the extra that installs it."""
    model = CONTRACTS[name].make(tmp_path, 1)
    monkeypatch.setitem(sys.modules, str(CONTRACTS[name].library), None)
    with golden.raises(SettingsError) as caught:
        model.predict(CONTRACTS[name].features)
    (problem,) = caught.value.problems
    assert f"model.kind={name}" in problem
    assert f"shapwatch[{name}]" in problem
