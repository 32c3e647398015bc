"""The experiments in conf/ from traffic to verdict, and the types of values in rows for the model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from runner.domain.executions import Status
from runner.explain import background as backgrounds
from runner.explain.estimator import Estimator
from runner.explain.explainers import Explainer
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.explain.task import Aggregation
from runner.records import payloads
from runner.records.payloads import Scalar
from runner.records.templates import Template
from tests.cli_runner import Shapwatch
from tests.conftest import DEMO, SERIAL, untracked
from tests.formula_models import Formula
from tests.golden import Golden

START, HOUR = "stage.start=2026-01-05T09:00:00Z", "stage.window=2026-01-05T09"


def run_experiment(root: Path, experiment: str) -> tuple[Shapwatch, list[str]]:
    """Return the command line after traffic in mini-batches, baselining and an execution, with the three outputs."""
    shapwatch = Shapwatch(root / experiment, experiment)
    stages = (["stage=replay", START, "stage.batch_rows=3", "stage.count=90"], ["stage=baseline"])
    return shapwatch, [shapwatch(*stage) for stage in (*stages, ["stage=monitor", HOUR])]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Shapwatch:
    """The command line after these stages with JSON Lines."""
    return run_experiment(tmp_path_factory.mktemp("lines"), "quickstart")[0]


@pytest.fixture(scope="module")
def multiclass_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results of experiment=multiclass."""
    return run_experiment(tmp_path_factory.mktemp("classes"), "multiclass")[0].root


@pytest.fixture
def multiclass(multiclass_results: Path, tmp_path: Path) -> Shapwatch:
    """The command line with a copy of these results."""
    shutil.copytree(multiclass_results, tmp_path / "multiclass")
    return Shapwatch(tmp_path / "multiclass", "multiclass")


@pytest.mark.parametrize(("experiment", "events"), [("csv", 30), ("json", 30), ("batch_transform", 90)])
def test_formats_give_the_same_bytes_as_json_lines(
    tmp_path: Path, quickstart: Shapwatch, experiment: str, events: int, golden: Golden
) -> None:
    """CSV, dense JSON and a batch transform of the same measurements have the same analysis, byte for byte."""
    shapwatch, printed = run_experiment(tmp_path, experiment)
    golden(printed[2])
    for below in ("baseline", "monitor"):
        actual, expected = (each.find("analysis.json", below).read_bytes() for each in (shapwatch, quickstart))
        assert actual == expected
    manifest = shapwatch.read("manifest.json", "monitor")
    assert (manifest["status"], manifest["level"]) == (Status.COMPLETED, "none")
    assert manifest["counts"] == {
        "files": 1,
        "events": events,
        "outside": 0,
        "probes": 0,
        "records": 90,
        "sample": None,
        "random": None,
        "rejected": {},
    }
    parity = manifest["serving_parity"]
    assert (parity and (parity["largest"], parity["records"])) == (None if experiment == "batch_transform" else (0, 90))
    if experiment != "batch_transform":
        check_payloads(shapwatch, experiment)


def check_payloads(shapwatch: Shapwatch, experiment: str) -> None:
    """Check that the requests and responses of a mini-batch are single bodies with their encoding."""
    encoding, starts = {"csv": ("CSV", "11.37,18.89,"), "json": ("JSON", '{"instances":[{"features":[11.37,18.89,')}[
        experiment
    ]
    lines = shapwatch.find("*.jsonl", "capture").read_bytes().splitlines()
    sides = orjson.loads(lines[0])["captureData"]
    assert [side["encoding"] for side in sides.values()] == [encoding] * 2
    assert sides["endpointInput"]["data"].startswith(starts)
    response = sides["endpointOutput"]["data"]
    assert len(response.splitlines() if encoding == "CSV" else orjson.loads(response)["predictions"]) == 3


def test_mixed_types_are_explained_for_each_class(multiclass: Shapwatch) -> None:
    """Strings, integers, floats, booleans and nulls in flat objects are explained for three outputs."""
    explained = multiclass.read("analysis.json", "monitor")["explanations"]["kernel_shap"]
    assert list(explained) == ["basic", "plus", "pro"]
    names = ["region", "age", "monthly spend", "member", "channel"]
    assert all(list(label["global_shap_values"]) == names for label in explained.values())
    assert sum(label["expected_value"] for label in explained.values()) == pytest.approx(1)
    manifest = multiclass.read("manifest.json", "monitor")
    assert (manifest["status"], manifest["level"]) == (Status.COMPLETED, "none")
    assert (manifest["counts"]["records"], manifest["counts"]["rejected"]) == (90, {})
    assert (manifest["serving_parity"]["largest"], manifest["serving_parity"]["records"]) == (0, 90)
    assert manifest["background"]["rows"] == [["north", 40, 20.0, False, "web"]]
    assert manifest["efficiency_residual"] < 1e-12
    for line in multiclass.find("*.jsonl", "capture").read_bytes().splitlines():
        rows = orjson.loads(line)["captureData"]["endpointInput"]["data"].splitlines()
        for row, sent in zip(map(orjson.loads, rows), _customers(len(rows), orjson.loads(line)), strict=True):
            assert [(name, type(v), v) for name, v in row.items()] == [(name, type(v), v) for name, v in sent.items()]


def _customers(count: int, line: Any) -> list[dict[str, Scalar]]:
    """Return the customers of an event."""
    customers = [orjson.loads(each) for each in (DEMO / "plans-traffic.jsonl").read_bytes().splitlines()]
    first = int(line["eventMetadata"]["inferenceId"])
    return customers[first : first + count]


def test_rescaled_feature_of_several_classes_is_a_violation(multiclass: Shapwatch) -> None:
    """Ages in months instead of years are a violation."""
    multiclass("stage=replay", START, "stage.batch_rows=3", "stage.count=90", "stage.rescale={age: 12}")
    assert multiclass("stage=monitor", HOUR).splitlines()[-2].split()[1] == f"{Status.COMPLETED_WITH_VIOLATIONS},"
    violations = multiclass.read("constraint_violations.json", "monitor")["violations"]
    assert {violation["label"] for violation in violations} <= {"basic", "plus", "pro"}
    assert "age" in multiclass.read("manifest.json", "monitor")["sentence"]


def test_shuffled_files_give_same_bytes(multiclass: Shapwatch) -> None:
    """Events in other files, in another order and in neighbouring hours give the same analysis."""
    path = multiclass.find("*.jsonl", "capture")
    before = multiclass.find("analysis.json", "monitor").read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    for i, line in enumerate(lines):
        hour = path.parents[1] / ("08" if i == 3 else "10" if i % 7 == 5 else "09")
        hour.mkdir(exist_ok=True)
        with (hour / f"{(11 * i) % 6}.jsonl").open("ab") as file:
            file.write(line)
    multiclass("stage=monitor", HOUR)
    assert multiclass.find("analysis.json", "monitor").read_bytes() == before
    assert multiclass.read("manifest.json", "monitor")["counts"]["files"] > 6


def test_source_file_gives_same_bytes_as_captures(tmp_path: Path, quickstart: Shapwatch) -> None:
    """Records in one file are monitored like captures."""
    (path := tmp_path / "logged.jsonl").write_bytes(
        b"".join((DEMO / "traffic.jsonl").read_bytes().splitlines(keepends=True)[:90])
    )
    shapwatch = Shapwatch(tmp_path / "root")
    shapwatch("stage=baseline")
    shapwatch("stage=monitor", HOUR, "source=file", f"source.path={path}")
    actual, expected = (each.find("analysis.json", "monitor").read_bytes() for each in (shapwatch, quickstart))
    assert actual == expected


def test_source_kserve_gives_same_bytes_as_captures(tmp_path: Path, quickstart: Shapwatch) -> None:
    """Request and response events of KServe's logger with the same rows give the same analysis."""
    events = []
    for line in quickstart.find("*.jsonl", "capture").read_bytes().splitlines():
        captured = orjson.loads(line)
        metadata = captured["eventMetadata"]
        for name, side in captured["captureData"].items():
            kind = f"org.kubeflow.serving.inference.{'request' if name.endswith('Input') else 'response'}"
            events.append(
                {"id": metadata["eventId"], "type": kind, "time": metadata["inferenceTime"], "data": side["data"]}
            )
    root = tmp_path / "capture/breast-cancer"
    root.mkdir(parents=True)
    (root / "log.json").write_bytes(b"\n".join(map(orjson.dumps, reversed(events))))
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=baseline")
    shapwatch("stage=monitor", HOUR, "source=kserve")
    actual, expected = (each.find("analysis.json", "monitor").read_bytes() for each in (shapwatch, quickstart))
    assert actual == expected
    parity = shapwatch.read("manifest.json", "monitor")["serving_parity"]
    assert parity["records"] == 90
    assert parity["largest"] < 1e-15, "Linear Learner writes 15 decimals in JSON Lines"


def test_parquet_dataset_gives_same_bytes(tmp_path: Path, quickstart: Shapwatch) -> None:
    """Baselining of the same rows in a Parquet file gives the same analysis."""
    rows = [orjson.loads(line) for line in (DEMO / "baseline.jsonl").read_bytes().splitlines()]
    settings_ = quickstart.find("settings.yaml", "baseline").read_text()
    names = [line.strip("- ") for line in settings_.partition("headers:")[2].splitlines()[1:11]]
    table = pl.DataFrame([row["features"] for row in rows], schema=names, orient="row")
    table.with_columns(label=1).write_parquet(tmp_path / "baseline.parquet")
    shapwatch = Shapwatch(tmp_path / "root")
    shapwatch("stage=baseline", "data=parquet", f"data.dataset={tmp_path / 'baseline.parquet'}")
    actual, expected = (each.find("analysis.json", "baseline").read_bytes() for each in (shapwatch, quickstart))
    assert actual == expected


@dataclass
class Recorder:
    """A function that records all rows, and scores a row by its number of non-zero cells."""

    rows: list[tuple[Scalar, ...]] = field(default_factory=list)

    def __call__(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return one score per row."""
        self.rows += features.rows()
        return np.array(
            [sum(value is not None and value != 0 for value in row) for row in features.rows()], dtype=float
        )


def with_types(values: Any) -> set[tuple[type, Scalar]]:
    """Return values with their types, because True == 1 == 1.0."""
    return {(type(value), value) for value in values}


def check_types(record: tuple[Scalar, ...], rows: list[tuple[Scalar, ...]], explainer: Explainer) -> None:
    """Check that each cell of each synthetic row is a value of the record or of a background row, with its type."""
    features = backgrounds.given([record], [f"f{d}" for d in range(len(record))])
    recorder = Recorder()
    estimator = Estimator(
        explainer=explainer,
        agg_method=Aggregation.MEAN_ABS,
        groups={},
        use_logit=False,
        max_batch_rows=50,
        engine=SERIAL,
    )
    estimator.explain(Formula(recorder), features, backgrounds.given(rows, features.columns), untracked)
    allowed = [with_types(cells) for cells in zip(record, *rows, strict=True)]
    synthetic = set(recorder.rows)
    assert {record, *rows} <= synthetic
    for row in synthetic:
        assert all((type(value), value) in cells for value, cells in zip(row, allowed, strict=True)), row
    for template in (
        Template("application/jsonlines", None, None, None),
        Template("application/json", "$records", "$features", None),
        Template("application/json", '{"x":$records}', "$features_kvp", None),
        Template("text/csv", None, None, None),
    ):
        (body,) = template.bodies(recorder.rows)
        for values in _values(body, template):
            assert all((type(value), value) in cells for value, cells in zip(values, allowed, strict=True)), values


def _values(body: str, template: Template) -> list[list[Scalar]]:
    """Return the values of all rows in a body."""
    if template.content_type == "text/csv":
        return payloads.parse_body(body, "text/csv").documents
    if template.content_type == "application/jsonlines":
        return [orjson.loads(line)["features"] for line in body.splitlines()]
    document = orjson.loads(body)
    return document if isinstance(document, list) else [list(row.values()) for row in document["x"]]


RECORD: tuple[Scalar, ...] = ("north", 1, 1.0, True, None, "1", 0)
ROWS: list[tuple[Scalar, ...]] = [
    ("Zürich", 0, 0.0, False, "web", "true", 0),
    ('so-called "west", inner', 7, 2.5, True, None, "", 1),
    ("null", -3, 1e20, False, "1.0", "0", 2**53 + 1),
]


@pytest.mark.parametrize("explainer", [Exact(), Kernel(120, 0)], ids=["exact", "kernel"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_synthetic_rows_contain_only_given_values(explainer: Explainer, count: int) -> None:
    """The values of synthetic rows come from the record or a background row, each with its JSON type."""
    check_types(RECORD, ROWS[:count], explainer)


COLUMNS: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**62), 2**62),
    st.integers(0, 2),
    st.floats(-1e50, 1e50),
    st.sampled_from(["", "1", "true", "null", '"', "a,b", "ü", "\n", "x"]),
    st.booleans(),
]


@given(st.data())
@settings(max_examples=40)
def test_synthetic_rows_contain_only_given_values_of_any_type(data: st.DataObject) -> None:
    """The same holds for any columns of strings, integers, floats, booleans and nulls."""
    columns = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=2, max_size=5))
    rows = st.tuples(st.integers(0, 9), *(st.none() | column for column in columns))
    check_types(data.draw(rows), data.draw(st.lists(rows, min_size=1, max_size=3)), Exact())


def test_synthetic_rows_of_multiclass_contain_only_given_values() -> None:
    """The same holds for the records of experiment=multiclass."""
    customers = [tuple(row.values()) for row in _customers(4, {"eventMetadata": {"inferenceId": "0"}})]
    for customer in customers:
        check_types(customer, [("north", 40, 20.0, False, "web"), *customers[:2]], Exact())
