"""The engines: what every one has to fulfil, and that all come to the same bytes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from runner import engine as engines
from runner.engine import Engine
from runner.errors import EngineError, ModelInputError
from runner.models.linear import LinearModel
from runner.protocols import Model
from tests.cli_runner import Shapwatch
from tests.conftest import HERE
from tests.dask_cluster import dask_cluster
from tests.golden import Golden
from tests.object_store import s3_server

WINDOW = "stage.window=2026-01-01T00"
START = "stage.start=2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real cluster."""
    with dask_cluster(tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.fixture(params=["serial", "loky", "dask"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine, with two workers where it has any."""
    if request.param == "dask":
        return Engine(kind="dask", workers=None, address=request.getfixturevalue("scheduler"))
    return Engine(kind=request.param, workers=2 if request.param == "loky" else None, address=None)


def model(intercept: float = 0.0) -> LinearModel:
    """Return a small model."""
    coefficients: Any = {"x": 2.0}
    settings: dict[str, Any] = {"link": "identity", "label_headers": None, "deploy": None}
    return LinearModel(kind="linear", intercept=(intercept,), coefficients=coefficients, **settings)


def twice(model: Model, item: int) -> tuple[float, int]:
    """Return what the model makes of a number, and the process that asked it."""
    return float(model.predict(pl.DataFrame({"x": [item]}))[0, 0]), os.getpid()


def slowly(model: Model, item: int) -> tuple[float, int]:
    """Return the same after a while."""
    time.sleep(0.2)
    return twice(model, item)


def refused(model: Model, item: int) -> tuple[float, int]:
    """Fail at the third item."""
    return twice(model, item) if item != 3 else float(model.predict(pl.DataFrame({"x": ["text"]}))[0, 0])  # type: ignore[return-value]


def test_results_come_in_order(engine: Engine) -> None:
    """Whoever works, and however many items there are."""
    assert [result for result, _ in engine.map(twice, model(), range(25))] == [2.0 * item for item in range(25)]
    assert list(engine.map(twice, model(), [])) == []


def test_another_model_is_another_model(engine: Engine) -> None:
    """Workers keep the models they have been sent apart."""
    for intercept in (0.0, 5.0, 0.0):
        assert [result for result, _ in engine.map(twice, model(intercept), range(4))] == [
            intercept + 2 * item for item in range(4)
        ]


def test_errors_come_out_as_they_are(engine: Engine) -> None:
    """With the sentence and the fields they were raised with."""
    with pytest.raises(ModelInputError) as raised:
        list(engine.map(refused, model(), range(6)))
    with pytest.raises(ModelInputError) as here:
        list(HERE.map(refused, model(), range(6)))
    assert (raised.value.feature, raised.value.value) == ("x", "text")
    assert str(raised.value) == str(here.value)
    assert vars(raised.value) == vars(here.value)


def test_work_can_be_left(engine: Engine) -> None:
    """Whoever stops listening stops the work, and may ask for other work."""
    results = iter(engine.map(slowly, model(), range(1000)))
    next(results)
    if engine.kind != "serial":
        results.close()  # type: ignore[attr-defined]
    assert [result for result, _ in engine.map(twice, model(), range(3))] == [0, 2, 4]


def test_several_processes_work(scheduler: str) -> None:
    """None of them is this one."""
    for engine in (
        Engine(kind="loky", workers=2, address=None),
        Engine(kind="dask", workers=None, address=scheduler),
    ):
        pids = {pid for _, pid in engine.map(slowly, model(), range(8))}
        assert len(pids) == 2
        assert os.getpid() not in pids


def test_a_killed_worker_of_a_cluster_is_made_good(scheduler: str) -> None:
    """Its work is done again by another one."""
    results = iter(Engine(kind="dask", workers=None, address=scheduler).map(slowly, model(), range(20)))
    first, pid = next(results)
    os.kill(pid, signal.SIGKILL)
    assert [first, *(result for result, _ in results)] == [2.0 * item for item in range(20)]


def test_a_killed_process_is_an_error(golden: Golden) -> None:
    """Without a cluster no other worker takes over; the next run has new workers."""
    engine = Engine(kind="loky", workers=2, address=None)
    results = iter(engine.map(slowly, model(), range(20)))
    _, pid = next(results)
    os.kill(pid, signal.SIGKILL)
    with golden.raises(EngineError) as caught:
        list(results)
    assert caught.value.setting == "engine=loky"
    assert [result for result, _ in engine.map(twice, model(), range(3))] == [0, 2, 4]


def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names its address."""
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 1)
    engine = Engine(kind="dask", workers=None, address="tcp://127.0.0.1:9")
    with golden.raises(EngineError, (r"\(.*\)", "({dask})")) as caught:
        list(engine.map(twice, model(), range(3)))
    assert caught.value.setting == "engine.address=tcp://127.0.0.1:9"


@pytest.mark.parametrize(
    ("kind", "address"), [("dask", None), ("loky", "tcp://127.0.0.1:1")], ids=["dask without one", "loky with one"]
)
def test_an_address_belongs_to_a_cluster(kind: Any, address: str | None, golden: Golden) -> None:
    """engine=dask needs one, no other engine takes one."""
    with pytest.raises(ValidationError) as caught:
        Engine(kind=kind, workers=None, address=address)
    (problem,) = caught.value.errors()
    assert problem["type"] == "value_error"
    golden(problem["msg"])


def test_all_engines_come_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    """The reference and the analysis of a window, with captures on disk and in an object store."""
    with s3_server(monkeypatch) as bucket:
        analyses: dict[str, set[bytes]] = {"baseline": set(), "monitor": set()}
        for kind, *options in (
            ("serial",),
            ("loky", "engine.workers=2"),
            ("dask", f"engine.address={scheduler}"),
            ("dask", f"engine.address={scheduler}", f"paths.capture={bucket.url}/captures"),
        ):
            run = Shapwatch(tmp_path / f"{kind}{len(options)}")
            common = ("shap.num_samples=40", "shap.max_batch_rows=1000")
            run("stage=replay", START, *options[1:])
            run("stage=baseline", f"engine={kind}", *common, *options)
            run("stage=monitor", WINDOW, f"engine={kind}", *common, *options)
            for stage, found in analyses.items():
                found.add(run.find("analysis.json", stage).read_bytes())
        assert {stage: len(found) for stage, found in analyses.items()} == {"baseline": 1, "monitor": 1}


@pytest.mark.soak
def test_threads_of_linear_algebra_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A design of many samples is the same here, where the machine grants more of them, and in a worker with one."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    analyses = set()
    for kind in ("serial", "loky"):
        run = Shapwatch(tmp_path / kind)
        run.process("stage=baseline", f"engine={kind}", "shap.explainer=kernel", "shap.num_samples=900")
        analyses.add(run.find("analysis.json").read_bytes())
    assert len(analyses) == 1
