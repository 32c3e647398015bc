"""Engines: compute blocks of work in this process, in local processes, or on a Dask cluster.

All engines yield results in the order of the items, so that sums are bit-identical. joblib and Dask pickle data between
the processes of one run; no pickle is stored, or read from another source.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Annotated, Any, Literal, Self, TypeVar
from warnings import catch_warnings

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from runner.errors import EngineError, ShapwatchError, snippet
from runner.protocols import Item, Model, RemoteModel

Result = TypeVar("Result")
Work = Callable[[Model, Item], Result]

ADDRESS = r"(tcp|tls|ws|wss)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
"""Pattern of the address of a Dask scheduler."""
MAX_WORKERS = 1_000
"""Maximum number of local processes."""
CONNECT_SECONDS = 30
"""Timeout in seconds of a connection to the Dask scheduler, and of the wait for its first worker."""
LOST_SECONDS = 40
"""Seconds without a response of any running Dask worker after which the work is given up."""
START_SECONDS = 80
"""Additional seconds for the first result, because scheduler and workers first import the libraries."""
POLL_SECONDS = 8
"""Seconds between two checks of the Dask workers while a result is awaited, and timeout of a check."""
MAX_CACHED_MODELS = 8
"""Maximum number of models in the cache of a worker."""

_models: dict[str, Model] = {}
"""Models that this worker has received, by identity, so that each model loads its files only once."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Engine:
    """`engine`: processes that compute attributions.

    Attributes:
        kind: `serial` for this process, `loky` for local processes, `dask` for the workers of a Dask cluster.
        workers: number of local processes, None for one per core.
        address: address of the Dask scheduler, such as tcp://10.0.0.1:8786.
    """

    kind: Literal["serial", "loky", "dask"]
    workers: Annotated[int, Field(strict=True, ge=1, le=MAX_WORKERS)] | None
    address: str | None

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if (self.kind == "dask") != (self.address is not None):
            raise ValueError("address: required for engine=dask, such as tcp://10.0.0.1:8786; null for other engines")
        if self.address is not None and not re.fullmatch(ADDRESS, self.address):
            raise ValueError("address: expected a URL such as tcp://10.0.0.1:8786, without credentials")
        return self

    def map(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        """Yield `work(model, item)` for each item, in the order of the items; each worker queues up to two items.

        Remote models are always called from this process, which counts the calls and limits their rate.

        Raises:
            EngineError: if the workers are unreachable or die.
        """
        if self.kind == "serial" or isinstance(model, RemoteModel):
            return (work(model, item) for item in items)
        return (self._in_processes if self.kind == "loky" else self._on_cluster)(work, model, items)

    def _in_processes(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results of local processes, which use one thread each."""
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky.process_executor import BrokenProcessPool

        with parallel_config(backend="loky", n_jobs=self.workers or -1, inner_max_num_threads=1):
            tasks = (delayed(_run)(work, model, model.identity, item) for item in items)
            results = Parallel(return_as="generator", batch_size=1, pre_dispatch="2*n_jobs")(tasks)
            try:
                for result in results:  # noqa: UP028  `yield from` would close `results` too early, with a warning
                    yield result
            except BrokenProcessPool as error:
                raise EngineError(f"engine={self.kind}", "a worker died, possibly out of memory") from error
            finally:
                with catch_warnings(action="ignore", category=UserWarning):  # about unfinished work
                    results.close()

    def _on_cluster(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results of the workers of a Dask cluster."""
        with self._client() as client:
            workers = _DaskWorkers(client, f"engine.address={self.address}")
            futures: deque[Any] = deque()
            for item in items:
                futures.append(client.submit(_run, work, model, model.identity, item, pure=False))
                if len(futures) >= 2 * workers.threads:
                    yield workers.result(futures.popleft())
            while futures:
                yield workers.result(futures.popleft())

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            import distributed
        except ImportError as error:
            raise EngineError("engine=dask", "Dask is not installed; run pip install 'shapwatch[dask]'") from error
        found = SimpleQueue[Any]()

        def connect() -> None:
            client: Any = distributed.Client
            try:
                found.put(client(self.address, timeout=CONNECT_SECONDS, set_as_default=False))
            except Exception as error:  # noqa: BLE001  raised below
                found.put(error)

        # in a thread that can be abandoned, because Dask waits for the answer of a stopped scheduler without a timeout
        Thread(target=connect, daemon=True).start()
        try:
            client = found.get(timeout=CONNECT_SECONDS + POLL_SECONDS)
        except Empty:
            client = TimeoutError(f"no answer within {CONNECT_SECONDS + POLL_SECONDS} s")
        if isinstance(client, Exception):
            problem = f"the scheduler does not respond ({snippet(client)})"
            raise EngineError(f"engine.address={self.address}", problem) from client
        try:
            yield client
        finally:
            with suppress(TimeoutError):
                client.close(timeout=POLL_SECONDS)


class _DaskWorkers:
    """The workers of a Dask cluster, and their signs of life.

    Attributes:
        threads: number of their threads at the start.
    """

    def __init__(self, client: Any, setting: str) -> None:
        self._client = client
        self._setting = setting
        self._last_seen: dict[str, float] = {}
        self._alive = time.monotonic()
        self._has_started = False
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            self.threads = max(1, sum(client.sync(client.scheduler.ncores, callback_timeout=CONNECT_SECONDS).values()))
        except OSError as error:
            problem = f"the scheduler has no worker after {CONNECT_SECONDS} s; start some with dask worker"
            raise EngineError(setting, problem) from error

    def result(self, future: Any) -> Any:
        """Return a result, or raise the error of its work.

        Raises:
            EngineError: if no worker responds, workers die, or they cannot run the work.
        """
        import distributed

        wait: Any = distributed.wait
        self._alive = time.monotonic() + (0 if self._has_started else START_SECONDS)
        while not future.done():
            try:
                with self._client.as_current():
                    wait(future, timeout=POLL_SECONDS)
            except TimeoutError:
                self._check()
        self._has_started = True
        try:
            return future.result(timeout=LOST_SECONDS)
        except ShapwatchError:
            raise
        except Exception as error:
            problem = f"a worker failed with {type(error).__name__}: {snippet(error)}"
            remedy = "check its memory limit, and that it has the same versions of Python and shapwatch"
            raise EngineError(self._setting, f"{problem}; {remedy}") from error

    def _check(self) -> None:
        """Check that a running worker has sent a heartbeat to the scheduler."""
        problem = "the scheduler does not respond"
        with suppress(OSError):
            found = self._client.sync(self._client.scheduler.identity, callback_timeout=POLL_SECONDS)
            workers = {name: each for name, each in found["workers"].items() if each["status"] == "running"}
            last_seen = {name: each["last_seen"] for name, each in workers.items()}
            if last_seen.items() - self._last_seen.items():
                self._alive = max(self._alive, time.monotonic())
            self._last_seen = last_seen
            problem = "no worker responds, or each is paused because of its memory limit,"
        if time.monotonic() - self._alive > LOST_SECONDS:
            raise EngineError(self._setting, f"{problem} for {LOST_SECONDS} s")


def _run(work: Work[Item, Result], model: Model, identity: str | None, item: Item) -> Result:
    """Return `work(model, item)`, with the model from this worker's cache if it is there."""
    if identity is None:
        return work(model, item)
    if identity not in _models:
        try:
            loaded = model.identity
        except ShapwatchError as error:
            problem = f"a worker cannot load the model ({error})"
            raise EngineError("engine", f"{problem}; check that all workers read the same model.artifact") from error
        if loaded != identity:
            raise EngineError(
                "engine", "a worker loaded another model; check that all workers read the same model.artifact"
            )
        if len(_models) == MAX_CACHED_MODELS:
            _models.clear()
        _models[identity] = model
    return work(_models[identity], item)
