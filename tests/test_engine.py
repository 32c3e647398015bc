"""Contract of all engines, and bit-identical results of all of them."""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
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
from tests.conftest import SERIAL
from tests.dask_cluster import dask_cluster
from tests.golden import Golden
from tests.models.test_xgboost import file_model
from tests.models.trees import xgboost_file
from tests.object_store import s3_server

WINDOW = "stage.window=2026-01-01T00"
START = "stage.start=2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the scheduler of a Dask cluster."""
    with dask_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster.address


@pytest.fixture(params=["serial", "loky", pytest.param("dask", marks=pytest.mark.soak)])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine, with two workers if it has any."""
    if request.param == "dask":
        return Engine(kind="dask", workers=None, address=request.getfixturevalue("scheduler"))
    return Engine(kind=request.param, workers=2 if request.param == "loky" else None, address=None)


def linear_model(intercept: float = 0.0) -> LinearModel:
    """Return a small model."""
    coefficients: Any = {"x": 2.0}
    settings: dict[str, Any] = {"link": "identity", "label_headers": None, "deploy": None}
    return LinearModel(kind="linear", intercept=(intercept,), coefficients=coefficients, **settings)


def score(model: Model, item: int) -> tuple[float, int]:
    """Return the score of a number, and the id of the process that computed it."""
    return float(model.predict(pl.DataFrame({"x": [item]}))[0, 0]), os.getpid()


def score_slowly(model: Model, item: int) -> tuple[float, int]:
    """Return the same after 0.2 seconds."""
    time.sleep(0.2)
    return score(model, item)


def fail_at_3(model: Model, item: int) -> tuple[float, int]:
    """Raise an error for the item 3."""
    return score(model, item) if item != 3 else float(model.predict(pl.DataFrame({"x": ["text"]}))[0, 0])  # type: ignore[return-value]


def test_results_come_in_order(engine: Engine) -> None:
    """Results have the order of the items, for any number of items."""
    assert [result for result, _ in engine.map(score, linear_model(), range(25))] == [2.0 * item for item in range(25)]
    assert list(engine.map(score, linear_model(), [])) == []


def test_workers_distinguish_models(engine: Engine) -> None:
    """The cache of a worker uses the identity of a model."""
    for intercept in (0.0, 5.0, 0.0):
        assert [result for result, _ in engine.map(score, linear_model(intercept), range(4))] == [
            intercept + 2 * item for item in range(4)
        ]


def test_errors_of_workers_are_raised_unchanged(engine: Engine) -> None:
    """Message and fields equal those of the same error in this process."""
    with pytest.raises(ModelInputError) as raised:
        list(engine.map(fail_at_3, linear_model(), range(6)))
    with pytest.raises(ModelInputError) as local:
        list(SERIAL.map(fail_at_3, linear_model(), range(6)))
    assert (raised.value.feature, raised.value.value) == ("x", "text")
    assert str(raised.value) == str(local.value)
    assert vars(raised.value) == vars(local.value)


@pytest.mark.soak
def test_work_can_be_abandoned(engine: Engine) -> None:
    """Closing the results stops the work, and the engine accepts other work."""
    results = iter(engine.map(score_slowly, linear_model(), range(1000)))
    next(results)
    if engine.kind != "serial":
        results.close()  # type: ignore[attr-defined]
    assert [result for result, _ in engine.map(score, linear_model(), range(3))] == [0, 2, 4]


@pytest.mark.soak
def test_two_workers_are_two_processes(scheduler: str) -> None:
    """Neither of them is this process."""
    for engine in (
        Engine(kind="loky", workers=2, address=None),
        Engine(kind="dask", workers=None, address=scheduler),
    ):
        pids = {pid for _, pid in engine.map(score_slowly, linear_model(), range(8))}
        assert len(pids) == 2
        assert os.getpid() not in pids


@pytest.mark.soak
def test_work_of_a_killed_dask_worker_is_repeated(scheduler: str) -> None:
    """Another worker repeats it."""
    results = iter(Engine(kind="dask", workers=None, address=scheduler).map(score_slowly, linear_model(), range(20)))
    first, pid = next(results)
    os.kill(pid, signal.SIGKILL)
    assert [first, *(result for result, _ in results)] == [2.0 * item for item in range(20)]


@pytest.mark.soak
def test_killed_local_process_is_an_error(golden: Golden) -> None:
    """The work is not repeated; the next call has new workers."""
    engine = Engine(kind="loky", workers=2, address=None)
    results = iter(engine.map(score_slowly, linear_model(), range(20)))
    _, pid = next(results)
    os.kill(pid, signal.SIGKILL)
    with golden.raises(EngineError) as caught:
        list(results)
    assert caught.value.setting == "engine=loky"
    assert [result for result, _ in engine.map(score, linear_model(), range(3))] == [0, 2, 4]


@pytest.mark.soak
def test_scheduler_without_workers_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error says how to start workers."""
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 5)
    with dask_cluster(tmp_path, workers=0) as cluster, golden.raises(EngineError, (r"tcp:\S+", "{address}:")):
        list(Engine(kind="dask", workers=None, address=cluster.address).map(score, linear_model(), range(3)))


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["workers end", "workers are stopped", "scheduler is stopped", "scheduler ends"])
def test_lost_cluster_is_an_error_within_a_minute(tmp_path: Path, fault: str) -> None:
    """Work does not wait for workers that never answer, whether or not their processes and connections still exist."""
    with dask_cluster(tmp_path) as cluster:
        results = iter(
            Engine(kind="dask", workers=None, address=cluster.address).map(score_slowly, linear_model(), range(400))
        )
        pids = {pid for _, pid in itertools.islice(results, 8)}
        lost = [cluster.scheduler] if "scheduler" in fault else pids
        with stopped(lost) if "stopped" in fault else nullcontext():
            if "end" in fault:
                cluster.end(scheduler="scheduler" in fault)
            start = time.monotonic()
            with pytest.raises(EngineError):
                list(results)
            assert time.monotonic() - start < 60


@pytest.mark.soak
@pytest.mark.parametrize("also_killed", [False, True])
def test_work_of_a_stopped_dask_worker_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, also_killed: bool, golden: Golden
) -> None:
    """A log line names the worker; another one repeats its work, even if that one is replaced in the meantime."""
    monkeypatch.setattr(engines, "SILENT_SECONDS", 3)
    monkeypatch.setattr(engines, "POLL_SECONDS", 1)
    with dask_cluster(tmp_path) as cluster:
        engine = Engine(kind="dask", workers=None, address=cluster.address)
        results = iter(engine.map(score_slowly, linear_model(), range(40)))
        received = list(itertools.islice(results, 8))
        frozen, other = {pid for _, pid in received}
        with stopped([frozen]):
            received += itertools.islice(results, 8)
            if also_killed:
                os.kill(other, signal.SIGKILL)
            received += results
        assert [result for result, _ in received] == [2.0 * item for item in range(40)]
        assert [pid for _, pid in received[12:]].count(frozen) == 0
    messages = [each.getMessage() for each in caplog.records if each.name == "shapwatch.engine"]
    if not also_killed:
        golden(messages[0], (r"tcp:\S+", "{address}"), (r"\d+ s", "{seconds} s"))


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes inside the context."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.soak
def test_first_result_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler on a busy machine does not answer while it imports the libraries."""
    monkeypatch.setattr(engines, "LOST_SECONDS", 1)
    monkeypatch.setattr(engines, "POLL_SECONDS", 1)
    with dask_cluster(tmp_path) as cluster:

        def items() -> Iterator[int]:
            os.kill(cluster.scheduler, signal.SIGSTOP)
            threading.Timer(5, os.kill, (cluster.scheduler, signal.SIGCONT)).start()
            yield from range(3)

        engine = Engine(kind="dask", workers=None, address=cluster.address)
        assert next(iter(engine.map(score, linear_model(), items())))[0] == 0.0


@pytest.mark.soak
def test_workers_above_their_memory_limit_are_an_error(tmp_path: Path) -> None:
    """Dask kills them; after some attempts the work is given up."""
    with dask_cluster(tmp_path, options=("--memory-limit=900MB",)) as cluster, pytest.raises(EngineError) as caught:
        list(Engine(kind="dask", workers=None, address=cluster.address).map(allocate, linear_model(), range(2)))
    assert "KilledWorker" in str(caught.value) or "paused" in str(caught.value)


def allocate(model: Model, item: int) -> tuple[float, int]:
    """Return a score, after using much memory for a while."""
    held = [b"x" * 2**24 for _ in range(200)]
    time.sleep(5)
    return score(model, item + 0 * len(held))


@pytest.mark.soak
def test_workers_that_cannot_run_the_work_are_an_error(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Workers of another version may lack a function or module."""
    (tmp_path / "newer_version.py").write_text("def work(model, item):\n    return item\n")
    monkeypatch.syspath_prepend(tmp_path)
    work = importlib.import_module("newer_version").work
    with golden.raises(EngineError, (r"tcp://\S+:", "{address}:")):
        list(Engine(kind="dask", workers=None, address=scheduler).map(work, linear_model(), range(3)))


@pytest.mark.soak
def test_model_that_workers_cannot_read_is_an_error(scheduler: str, tmp_path: Path, golden: Golden) -> None:
    """The artifact exists only here, such as on another host than the workers."""
    model = file_model(xgboost_file(tmp_path))
    assert model.identity
    model.artifact.unlink()
    with golden.raises(EngineError):
        list(Engine(kind="dask", workers=None, address=scheduler).map(score, model, range(3)))


@pytest.mark.soak
def test_stopped_scheduler_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts the connection, but does not answer."""
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 3)
    monkeypatch.setattr(engines, "POLL_SECONDS", 1)
    with dask_cluster(tmp_path, workers=0) as cluster, stopped([cluster.scheduler]):
        engine = Engine(kind="dask", workers=None, address=cluster.address)
        with pytest.raises(EngineError, match="does not respond"):
            list(engine.map(score, linear_model(), range(3)))


def test_unreachable_scheduler_is_an_error(monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """The error names its address."""
    monkeypatch.setattr(engines, "CONNECT_SECONDS", 1)
    engine = Engine(kind="dask", workers=None, address="tcp://127.0.0.1:9")
    with golden.raises(EngineError, (r"\(.*\)", "({dask})")) as caught:
        list(engine.map(score, linear_model(), range(3)))
    assert caught.value.setting == "engine.address=tcp://127.0.0.1:9"


@pytest.mark.parametrize("address", ["", "host", "http://h:1", "inproc://x", "tcp://h:x", "tcp://u:p@h:1", "/etc"])
def test_address_without_a_scheduler_is_refused(address: str) -> None:
    """Dask would raise various errors, or show a password."""
    with pytest.raises(ValidationError, match="address"):
        Engine(kind="dask", workers=None, address=address)


@pytest.mark.parametrize(
    ("kind", "address"),
    [("dask", None), ("loky", "tcp://127.0.0.1:1")],
    ids=["dask without address", "loky with address"],
)
def test_only_dask_has_an_address(kind: Any, address: str | None, golden: Golden) -> None:
    """engine=dask requires an address, other engines refuse one."""
    with pytest.raises(ValidationError) as caught:
        Engine(kind=kind, workers=None, address=address)
    (problem,) = caught.value.errors()
    assert problem["type"] == "value_error"
    golden(problem["msg"])


@pytest.mark.soak
def test_all_engines_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    """Reference and analysis of a window are equal, with captures on disk and in an object store."""
    with s3_server(monkeypatch) as bucket:
        analyses: dict[str, set[bytes]] = {"baseline": set(), "monitor": set()}
        for kind, *options in (
            ("serial",),
            ("loky", "engine.workers=2"),
            ("dask", f"engine.address={scheduler}"),
            ("dask", f"engine.address={scheduler}", f"paths.capture={bucket.url}/captures"),
        ):
            run = Shapwatch(tmp_path / f"{kind}{len(options)}")
            common = ("shap=kernel", "shap.num_samples=40", "shap.max_batch_rows=400")
            run("stage=replay", START, *options[1:])
            run("stage=baseline", f"engine={kind}", *common, *options)
            run("stage=monitor", WINDOW, f"engine={kind}", *common, *options)
            for stage, found in analyses.items():
                found.add(run.find("analysis.json", stage).read_bytes())
        assert {stage: len(found) for stage, found in analyses.items()} == {"baseline": 1, "monitor": 1}


@pytest.mark.soak
def test_number_of_threads_does_not_change_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear algebra has one thread in this process and in workers, whatever the environment allows."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    analyses = set()
    for kind in ("serial", "loky"):
        run = Shapwatch(tmp_path / kind)
        run.process("stage=baseline", f"engine={kind}", "shap.explainer=kernel", "shap.num_samples=900")
        analyses.add(run.find("analysis.json").read_bytes())
    assert len(analyses) == 1
