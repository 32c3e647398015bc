"""`stage=plan`: the estimated cost of baselining and executions."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner import cli
from runner.errors import NO_DATA
from runner.monitors.attributions import AttributionAnalysis
from runner.records.fields import Fields
from runner.sources.dataset import Dataset
from runner.stages.plan import Plan, PlanStage
from tests.builders import DATA, WINDOW, monitor
from tests.cli_runner import Shapwatch
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.models.servers import ReceivedRequest, Reply, scoring, serving
from tests.processes import served

HOUR = "stage.window=2026-01-05T09"
VARYING = (
    (r"time   about .*", "time   {time}"),
    (r"sent   [\d,]+ rows in [\d,]+ calls", "sent   {rows} rows in {calls} calls"),
    (r"by at most \S+", "by at most {difference}"),
    (r'"at": ".*?"', '"at": "{time}"'),
)
"""Printed values that differ between runs and machines."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an hour of captured traffic and a reference."""
    shapwatch = Shapwatch(tmp_path_factory.mktemp("prepared"))
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=60", "stage.batch_rows=2")
    shapwatch("stage=baseline", "shap=kernel", "shap.num_samples=50")
    return shapwatch.root


@pytest.fixture
def shapwatch(prepared: Path, tmp_path: Path) -> Shapwatch:
    """Return the command line in a copy of that folder."""
    return Shapwatch(Path(shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)))


def test_model_in_this_process_needs_no_calls(shapwatch: Shapwatch, golden: Golden) -> None:
    """The rows are those of the execution and of its preflight; no execution is written."""
    printed = shapwatch("stage=plan", HOUR, "shap=kernel", "shap.num_samples=50")
    golden(printed, *VARYING)
    plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
    assert not (shapwatch.root / "monitor").exists()
    shapwatch("stage=monitor", HOUR, "shap=kernel", "shap.num_samples=50")
    manifest = shapwatch.read("manifest.json", "monitor")
    assert plan["rows"] == manifest["evaluations"] + manifest["preflight"]["rows"]
    assert plan["preflight"] == manifest["preflight"]
    assert (plan["calls"], plan["cost"], manifest["calls"]) == (None, None, None)


def test_records_that_the_model_rejects_are_not_planned(tmp_path: Path) -> None:
    """The plan is that of the other records."""
    rows: list[list[Any]] = [[i, 2, 1] for i in range(30)]
    (tmp_path / "usual").mkdir()
    estimates = []
    for root, captured in ((tmp_path / "usual", rows), (tmp_path, [[7, None, 1], *rows])):
        stage = monitor(root, captured)
        assert isinstance(stage.analysis, AttributionAnalysis)
        dataset = Dataset(str(root / "dataset.jsonl"), DATA, "data.dataset")
        settings = PlanStage("plan", WINDOW)
        Plan(settings, stage.source, dataset, stage.analysis, None, lambda: 0.0, root / "plans").run()
        (path,) = (root / "plans").iterdir()
        estimates.append(orjson.loads(path.read_bytes()))
    assert estimates[0] == estimates[1]


def test_first_sample_is_planned(shapwatch: Shapwatch, golden: Golden) -> None:
    """With `shap.precision` the plan has the cost of the first thousand records, and that of all records."""
    shapwatch("stage=replay", "stage.start=2026-01-05T09:30:00Z", "stage.count=1200", "stage.batch_rows=2")
    precise = [HOUR, "shap=kernel", "shap.num_samples=50", "shap.precision=0.9"]
    printed = shapwatch("stage=plan", *precise)
    plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
    shapwatch("stage=monitor", *precise)
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["counts"]["sample"] == plan["first"]["records"] == 1000
    assert plan["records"] == 1260
    assert plan["first"]["rows"] == manifest["evaluations"] + manifest["preflight"]["rows"] <= plan["rows"]
    golden(printed, *VARYING)


def test_planned_calls_match_the_execution(shapwatch: Shapwatch, golden: Golden) -> None:
    """The execution makes the planned calls with the planned bytes; the cost follows from the price."""
    with served(shapwatch.root, "quickstart", "data_capture.enable_capture=false") as endpoint:
        live = ["model=http", "~model.artifact", f"model.url={endpoint.url}", "model.label_headers=[malignant]"]
        limits = ["model.max_request_rows=100", "model.max_payload_bytes=7000", "shap=kernel", "shap.num_samples=50"]
        printed = shapwatch("stage=plan", HOUR, *live, *limits, "model.price_per_1k_calls=2.5")
        plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
        shapwatch("stage=monitor", HOUR, *live, *limits)
    calls = shapwatch.read("manifest.json", "monitor")["calls"]
    assert plan["calls"] == {"requests": calls["requests"], "bytes": calls["bytes"]}
    assert plan["rows"] == calls["rows"]
    assert calls["requests"] > 3063 / 100
    assert plan["cost"] == pytest.approx(2.5 * calls["requests"] / 1000)
    assert plan["preflight"]["parity"] is not None
    golden(printed, *VARYING)


def test_rate_limit_bounds_the_time(shapwatch: Shapwatch) -> None:
    """The planned time is at least the number of calls divided by the rate."""
    with served(shapwatch.root, "quickstart", "data_capture.enable_capture=false") as endpoint:
        live = ["model=http", "~model.artifact", f"model.url={endpoint.url}", "model.label_headers=[malignant]"]
        rate = ["model.max_requests_per_second=20", "model.max_request_rows=3000", "shap=kernel", "shap.num_samples=50"]
        shapwatch("stage=plan", *live, *rate)
    plan = shapwatch.read("baseline.plan.json")
    assert plan["seconds"] >= plan["calls"]["requests"] / 20


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        pytest.param("data.dataset=null", "data.dataset", id="no dataset"),
        pytest.param("stage.window=2026-01-05T11", NO_DATA, id="no data"),
        pytest.param("shap.baseline=[[1]]", "shap.baseline", id="background"),
        pytest.param("model.label_headers=[a,b]", "model.label_headers", id="label headers"),
    ],
)
def test_invalid_run_cannot_be_planned(shapwatch: Shapwatch, override: str, expected: str, golden: Golden) -> None:
    """Planning reports the same errors as the run."""
    printed = shapwatch("stage=plan", override, code=cli.BAD_INPUT)
    assert expected in printed
    golden(printed)


def test_rejected_batches_are_planned_record_by_record(shapwatch: Shapwatch, golden: Golden) -> None:
    """The probe shows that the endpoint accepts at most ten records; the plan counts single calls, as the run does."""
    answer = scoring(Formula(additive), [f"column_{i}" for i in range(10)], Fields("features", None))

    def limited(seen: ReceivedRequest) -> Reply:
        return answer(seen) if seen.body.count(b"\n") < 10 else Reply(400, "ten at most")

    with serving(limited) as server:
        live = ["model=http", "~model.artifact", f"model.url={server.url}", "model.label_headers=null"]
        printed = shapwatch("stage=plan", HOUR, *live, "shap=kernel", "shap.num_samples=50")
    plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
    assert plan["calls"]["requests"] == plan["rows"]
    golden(printed, *VARYING)
    assert plan["shown"]["requests"] == len(server.seen)
    assert plan["shown"]["fallbacks"] > 0
