"""The experiments that ship, from traffic to verdict; and that values keep their types on the way to a model."""

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
from runner.explain.aggregate import Aggregation
from runner.explain.estimator import Estimator
from runner.explain.explainers import Explainer
from runner.explain.explainers.exact import Exact
from runner.explain.explainers.kernel import Kernel
from runner.records import payloads
from runner.records.payloads import Scalar
from runner.records.templates import Template
from tests.cli_runner import Shapwatch
from tests.conftest import DEMO, HERE, untracked
from tests.formula_models import Formula
from tests.golden import Golden

START, HOUR = "stage.start=2026-01-05T09:00:00Z", "stage.window=2026-01-05T09"


def play(root: Path, experiment: str) -> tuple[Shapwatch, list[str]]:
    """Return the program after traffic in mini-batches, baselining and an execution, and what each printed."""
    shapwatch = Shapwatch(root / experiment, experiment)
    stages = (["stage=replay", START, "stage.batch_rows=3", "stage.count=90"], ["stage=baseline"])
    return shapwatch, [shapwatch(*stage) for stage in (*stages, ["stage=monitor", HOUR])]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Shapwatch:
    """The program after the same way with JSON Lines."""
    return play(tmp_path_factory.mktemp("lines"), "quickstart")[0]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the same way leaves of the multi-class experiment."""
    return play(tmp_path_factory.mktemp("classes"), "multiclass")[0].root


@pytest.fixture
def plans(played: Path, tmp_path: Path) -> Shapwatch:
    """The program after it."""
    shutil.copytree(played, tmp_path / "plans")
    return Shapwatch(tmp_path / "plans", "multiclass")


@pytest.mark.parametrize(("experiment", "events"), [("csv", 30), ("json", 30), ("batch_transform", 90)])
def test_a_variant_gives_the_numbers_of_json_lines(
    tmp_path: Path, quickstart: Shapwatch, experiment: str, events: int, golden: Golden
) -> None:
    """The same measurements as CSV, as dense JSON and from a batch transform have the same analysis to the byte."""
    shapwatch, printed = play(tmp_path, experiment)
    golden(printed[2])
    for below in ("baseline", "monitor"):
        ours, theirs = (each.find("analysis.json", below).read_bytes() for each in (shapwatch, quickstart))
        assert ours == theirs
    manifest = shapwatch.read("manifest.json", "monitor")
    assert (manifest["status"], manifest["level"]) == (Status.COMPLETED, "none")
    assert manifest["counts"] == {
        "files": 1,
        "events": events,
        "outside": 0,
        "probes": 0,
        "records": 90,
        "sample": None,
        "rejected": {},
    }
    parity = None if experiment == "batch_transform" else {"largest": 0.0, "records": 90}
    assert manifest["serving_parity"] == parity
    if experiment != "batch_transform":
        check_payloads(shapwatch, experiment)


def check_payloads(shapwatch: Shapwatch, experiment: str) -> None:
    """Check that requests and responses of a mini-batch are one body each, marked with its encoding."""
    encoding, starts = {"csv": ("CSV", "11.37,18.89,"), "json": ("JSON", '{"instances":[{"features":[11.37,18.89,')}[
        experiment
    ]
    lines = shapwatch.find("*.jsonl", "capture").read_bytes().splitlines()
    sides = orjson.loads(lines[0])["captureData"]
    assert [side["encoding"] for side in sides.values()] == [encoding] * 2
    assert sides["endpointInput"]["data"].startswith(starts)
    answer = sides["endpointOutput"]["data"]
    assert len(answer.splitlines() if encoding == "CSV" else orjson.loads(answer)["predictions"]) == 3


def test_several_classes_with_texts(plans: Shapwatch) -> None:
    """Texts, integers, floats, booleans and nulls in flat objects are explained for each of three outputs."""
    explained = plans.read("analysis.json", "monitor")["explanations"]["kernel_shap"]
    assert list(explained) == ["basic", "plus", "pro"]
    names = ["region", "age", "monthly spend", "member", "channel"]
    assert all(list(label["global_shap_values"]) == names for label in explained.values())
    assert sum(label["expected_value"] for label in explained.values()) == pytest.approx(1)
    manifest = plans.read("manifest.json", "monitor")
    assert (manifest["status"], manifest["level"]) == (Status.COMPLETED, "none")
    assert (manifest["counts"]["records"], manifest["counts"]["rejected"]) == (90, {})
    assert manifest["serving_parity"] == {"largest": 0.0, "records": 90}
    assert manifest["background"]["rows"] == [["north", 40, 20.0, False, "web"]]
    assert manifest["efficiency_residual"] < 1e-12
    for line in plans.find("*.jsonl", "capture").read_bytes().splitlines():
        rows = orjson.loads(line)["captureData"]["endpointInput"]["data"].splitlines()
        for row, sent in zip(map(orjson.loads, rows), _customers(len(rows), orjson.loads(line)), strict=True):
            assert [(name, type(v), v) for name, v in row.items()] == [(name, type(v), v) for name, v in sent.items()]


def _customers(count: int, line: Any) -> list[dict[str, Scalar]]:
    """Return the customers that travelled in an event."""
    customers = [orjson.loads(each) for each in (DEMO / "plans-traffic.jsonl").read_bytes().splitlines()]
    first = int(line["eventMetadata"]["inferenceId"])
    return customers[first : first + count]


def test_an_incident_of_several_classes_is_found(plans: Shapwatch) -> None:
    """Ages in months instead of years are a violation."""
    plans("stage=replay", START, "stage.batch_rows=3", "stage.count=90", "stage.rescale={age: 12}")
    assert plans("stage=monitor", HOUR).startswith(f"{Status.COMPLETED_WITH_VIOLATIONS}, ")
    violations = plans.read("constraint_violations.json", "monitor")["violations"]
    assert {violation["label"] for violation in violations} <= {"basic", "plus", "pro"}
    assert "age" in plans.read("manifest.json", "monitor")["sentence"]


def test_shuffled_files_give_the_same_bytes(plans: Shapwatch) -> None:
    """The window's events under other names, otherwise divided, some in neighbour hours, are the same window."""
    path = plans.find("*.jsonl", "capture")
    before = plans.find("analysis.json", "monitor").read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    path.unlink()
    for i, line in enumerate(lines):
        hour = path.parents[1] / ("08" if i == 3 else "10" if i % 7 == 5 else "09")
        hour.mkdir(exist_ok=True)
        with (hour / f"{(11 * i) % 6}.jsonl").open("ab") as file:
            file.write(line)
    plans("stage=monitor", HOUR)
    assert plans.find("analysis.json", "monitor").read_bytes() == before
    assert plans.read("manifest.json", "monitor")["counts"]["files"] > 6


def test_one_file_of_records_is_a_window(tmp_path: Path, quickstart: Shapwatch) -> None:
    """Traffic that somebody else logged, in one file, is judged like captures; six months of it would be."""
    (path := tmp_path / "logged.jsonl").write_bytes(
        b"".join((DEMO / "traffic.jsonl").read_bytes().splitlines(keepends=True)[:90])
    )
    shapwatch = Shapwatch(tmp_path / "root")
    shapwatch("stage=baseline")
    shapwatch("stage=monitor", HOUR, "source=file", f"source.path={path}")
    ours, theirs = (each.find("analysis.json", "monitor").read_bytes() for each in (shapwatch, quickstart))
    assert ours == theirs


def test_a_loggers_records_are_a_window(tmp_path: Path, quickstart: Shapwatch) -> None:
    """KServe's request and response events of the same rows lead to the same analysis."""
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
    ours, theirs = (each.find("analysis.json", "monitor").read_bytes() for each in (shapwatch, quickstart))
    assert ours == theirs
    parity = shapwatch.read("manifest.json", "monitor")["serving_parity"]
    assert parity["records"] == 90
    assert parity["largest"] < 1e-15, "but for the 15 decimals of a Linear Learner's JSON Lines"


def test_a_parquet_dataset_is_a_reference(tmp_path: Path, quickstart: Shapwatch) -> None:
    """Baselining from a Parquet file of the same rows gives the same bytes."""
    rows = [orjson.loads(line) for line in (DEMO / "baseline.jsonl").read_bytes().splitlines()]
    settings_ = quickstart.find("settings.yaml", "baseline").read_text()
    names = [line.strip("- ") for line in settings_.partition("headers:")[2].splitlines()[1:11]]
    table = pl.DataFrame([row["features"] for row in rows], schema=names, orient="row")
    table.with_columns(label=1).write_parquet(tmp_path / "baseline.parquet")
    shapwatch = Shapwatch(tmp_path / "root")
    shapwatch("stage=baseline", "data=parquet", f"data.dataset={tmp_path / 'baseline.parquet'}")
    ours, theirs = (each.find("analysis.json", "baseline").read_bytes() for each in (shapwatch, quickstart))
    assert ours == theirs


@dataclass
class Recorder:
    """A function of tables that keeps every row it saw, and values each by how many of its cells are set."""

    rows: list[tuple[Scalar, ...]] = field(default_factory=list)

    def __call__(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return a score a row."""
        self.rows += features.rows()
        return np.array(
            [sum(value is not None and value != 0 for value in row) for row in features.rows()], dtype=float
        )


def typed(values: Any) -> set[tuple[type, Scalar]]:
    """Return values as what they are in JSON: True is not 1, 1.0 is not 1."""
    return {(type(value), value) for value in values}


def check_types(record: tuple[Scalar, ...], rows: list[tuple[Scalar, ...]], explainer: Explainer) -> None:
    """Check that every cell of every synthetic row of a record comes from it or from a background row, type and all."""
    features = backgrounds.given([record], [f"f{d}" for d in range(len(record))])
    recorder = Recorder()
    estimator = Estimator(
        explainer=explainer, agg_method=Aggregation.MEAN_ABS, groups={}, use_logit=False, max_batch_rows=50, engine=HERE
    )
    estimator.explain(Formula(recorder), features, backgrounds.given(rows, features.columns), untracked)
    allowed = [typed(cells) for cells in zip(record, *rows, strict=True)]
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
        for sent in _values(body, template):
            assert all((type(value), value) in cells for value, cells in zip(sent, allowed, strict=True)), sent


def _values(body: str, template: Template) -> list[list[Scalar]]:
    """Return the values of all rows in a body."""
    if template.content_type == "text/csv":
        return payloads.documents(body, "text/csv")
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
def test_synthetic_rows_hold_nothing_that_did_not_occur(explainer: Explainer, count: int) -> None:
    """What is sent to a model are values of the record or of a background row, each in its own JSON type."""
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
def test_synthetic_rows_of_any_types(data: st.DataObject) -> None:
    """So it is for any columns of texts, integers, floats, booleans and nulls."""
    columns = data.draw(st.lists(st.sampled_from(COLUMNS), min_size=2, max_size=5))
    rows = st.tuples(st.integers(0, 9), *(st.none() | column for column in columns))
    check_types(data.draw(rows), data.draw(st.lists(rows, min_size=1, max_size=3)), Exact())


def test_an_experiments_synthetic_rows_too() -> None:
    """The rows of the multi-class data go through estimator and template without a value being changed."""
    customers = [tuple(row.values()) for row in _customers(4, {"eventMetadata": {"inferenceId": "0"}})]
    for customer in customers:
        check_types(customer, [("north", 40, 20.0, False, "web"), *customers[:2]], Exact())
