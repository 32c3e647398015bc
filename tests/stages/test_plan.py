"""What explaining would cost, told before it is paid."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner import cli
from runner.errors import NO_DATA
from runner.records.fields import Fields
from tests.cli_runner import Shapwatch
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.models.servers import Reply, Seen, scoring, serving
from tests.processes import served

HOUR = "stage.window=2026-01-05T09"
VARYING = (
    (r"time   about .*", "time   {time}"),
    (r"shown  [\d,]+ rows in [\d,]+ calls", "shown  {rows} rows in {calls} calls"),
    (r"by at most \S+", "by at most {difference}"),
    (r'"at": ".*?"', '"at": "{time}"'),
)
"""What differs between runs and machines in what planning prints."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an hour of captured traffic and a reference."""
    shapwatch = Shapwatch(tmp_path_factory.mktemp("prepared"))
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=60", "stage.batch_rows=2")
    shapwatch("stage=baseline", "shap=kernel", "shap.num_samples=50")
    return shapwatch.root


@pytest.fixture
def shapwatch(prepared: Path, tmp_path: Path) -> Shapwatch:
    """The program with a copy of that folder."""
    return Shapwatch(Path(shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)))


def test_a_model_in_this_process_costs_no_call(shapwatch: Shapwatch, golden: Golden) -> None:
    """Rows are those of the execution and of the pre-flight; nothing else is written."""
    printed = shapwatch("stage=plan", HOUR, "shap=kernel", "shap.num_samples=50")
    golden(printed, *VARYING)
    plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
    assert not (shapwatch.root / "monitor").exists()
    shapwatch("stage=monitor", HOUR, "shap=kernel", "shap.num_samples=50")
    manifest = shapwatch.read("manifest.json", "monitor")
    assert plan["rows"] == manifest["evaluations"] + manifest["preflight"]["rows"]
    assert plan["preflight"] == manifest["preflight"]
    assert (plan["calls"], plan["cost"], manifest["calls"]) == (None, None, None)


def test_a_first_look_is_planned_too(shapwatch: Shapwatch, golden: Golden) -> None:
    """With `shap.precision` the plan has the cost of the first thousand records, which may do, and that of all."""
    shapwatch("stage=replay", "stage.start=2026-01-05T09:30:00Z", "stage.count=1200", "stage.batch_rows=2")
    sure = [HOUR, "shap=kernel", "shap.num_samples=50", "shap.precision=0.9"]
    printed = shapwatch("stage=plan", *sure)
    plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
    shapwatch("stage=monitor", *sure)
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["counts"]["sample"] == plan["first"]["records"] == 1000
    assert plan["records"] == 1260
    assert plan["first"]["rows"] == manifest["evaluations"] + manifest["preflight"]["rows"] <= plan["rows"]
    golden(printed, *VARYING)


def test_planned_calls_are_counted_calls(shapwatch: Shapwatch, golden: Golden) -> None:
    """Calls, bytes, price and the shortest time that the rate allows; the run then sends just that."""
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


def test_the_rate_bounds_the_time(shapwatch: Shapwatch) -> None:
    """Half a call a second takes two seconds a call."""
    with served(shapwatch.root, "quickstart", "data_capture.enable_capture=false") as endpoint:
        live = ["model=http", "~model.artifact", f"model.url={endpoint.url}", "model.label_headers=[malignant]"]
        rate = ["model.max_requests_per_second=20", "model.max_request_rows=3000", "shap=kernel", "shap.num_samples=50"]
        shapwatch("stage=plan", *live, *rate)
    plan = shapwatch.read("baseline.plan.json")
    assert plan["seconds"] >= plan["calls"]["requests"] / 20


@pytest.mark.parametrize(
    ("override", "named"),
    [
        pytest.param("data.dataset=null", "data.dataset", id="no dataset"),
        pytest.param("stage.window=2026-01-05T11", NO_DATA, id="no data"),
        pytest.param("shap.baseline=[[1]]", "shap.baseline", id="background"),
        pytest.param("model.label_headers=[a,b]", "model.label_headers", id="label headers"),
    ],
)
def test_what_cannot_run_cannot_be_planned(shapwatch: Shapwatch, override: str, named: str, golden: Golden) -> None:
    """The plan meets the same problems as the run, earlier."""
    printed = shapwatch("stage=plan", override, code=cli.BAD_INPUT)
    assert named in printed
    golden(printed)


def test_refused_batches_are_planned_one_by_one(shapwatch: Shapwatch, golden: Golden) -> None:
    """An endpoint that takes ten records at most shows it in the probe; the plan counts what a run would send."""
    answer = scoring(Formula(additive), [f"column_{i}" for i in range(10)], Fields("features", None))

    def choosy(seen: Seen) -> Reply:
        return answer(seen) if seen.body.count(b"\n") < 10 else Reply(400, "ten at most")

    with serving(choosy) as server:
        live = ["model=http", "~model.artifact", f"model.url={server.url}", "model.label_headers=null"]
        printed = shapwatch("stage=plan", HOUR, *live, "shap=kernel", "shap.num_samples=50")
    plan = shapwatch.read("2026-01-05T0900--2026-01-05T1000.plan.json")
    assert plan["calls"]["requests"] == plan["rows"]
    golden(printed, *VARYING)
    assert plan["shown"]["requests"] == len(server.seen)
    assert plan["shown"]["fallbacks"] > 0
