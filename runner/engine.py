"""Engines: compute blocks of work in this process, in local processes, or on a Dask cluster.

All engines yield results in the order of the items, so that sums are bit-identical. joblib and Dask pickle data between
the processes of one run; no pickle is stored, or read from another source.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Annotated, Any, Literal, Self, TypeVar
from warnings import catch_warnings

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from runner.errors import EngineError, ShapwatchError, snippet
from runner.protocols import Item, Model, RemoteModel

logger = logging.getLogger("shapwatch.engine")

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
SILENT_SECONDS = 30
"""Seconds after which the work of a silent Dask worker is repeated by others."""
MAX_TRANSFERS = 3
"""Maximum number of attempts to receive a result from Dask workers; each may take twice as long as the previous one."""
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
            for item in items:
                workers.submit(_run, work, model, model.identity, item)
                if len(workers.pending) >= 2 * workers.threads:
                    yield workers.next_result()
            while workers.pending:
                yield workers.next_result()

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


class _Call:
    """A call of a function on a Dask cluster, which several workers may execute.

    Attributes:
        function, arguments: the call.
        futures: its executions, with the workers that may execute it; None for all.
        transfers: number of failed attempts to receive its result.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.futures: dict[Any, frozenset[str] | None] = {}
        self.transfers = 0


class _DaskWorkers:
    """The workers of a Dask cluster, their signs of life, and the calls that they execute.

    Attributes:
        threads: number of their threads at the start.
        pending: calls whose result was not returned yet.
    """

    def __init__(self, client: Any, setting: str) -> None:
        self.pending: deque[_Call] = deque()
        self._client = client
        self._setting = setting
        self._last_seen: dict[str, float] = {}
        self._alive = time.monotonic()
        self._has_started = False
        self._silent: dict[str, str] = {}
        self._responsive = frozenset[str]()
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            self.threads = max(1, sum(client.sync(client.scheduler.ncores, callback_timeout=CONNECT_SECONDS).values()))
        except OSError as error:
            problem = f"the scheduler has no worker after {CONNECT_SECONDS} s; start some with dask worker"
            raise EngineError(setting, problem) from error

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Add a call at the end of the queue."""
        self.pending.append(_Call(function, arguments))
        self._start(self.pending[-1])

    def next_result(self) -> Any:
        """Remove the first call from the queue and return its result, or raise its error.

        Raises:
            EngineError: if no worker responds, workers die, or they cannot execute the call.
        """
        call = self.pending[0]
        self._alive = time.monotonic() + (0 if self._has_started else START_SECONDS)
        received: tuple[Any] | None = None
        while received is None:
            if done := [future for future in call.futures if future.done()]:
                received = self._receive(call, done[0])
            else:
                self._wait(call)
        self._has_started = True
        self.pending.popleft()
        return received[0]

    def _start(self, call: _Call) -> None:
        """Start an execution of a call, while some workers do not respond only by the others."""
        allowed = self._responsive if self._silent else None
        restriction = {"workers": sorted(allowed)} if allowed else {}
        future = self._client.submit(call.function, *call.arguments, pure=False, **restriction)
        call.futures[future] = allowed

    def _wait(self, call: _Call) -> None:
        """Wait until an execution of a call ends; check the workers if it takes long."""
        import distributed

        wait: Any = distributed.wait
        try:
            with self._client.as_current():
                wait(list(call.futures), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
        except (TimeoutError, CancelledError):
            self._check()

    def _receive(self, call: _Call, future: Any) -> tuple[Any] | None:
        """Return the result of an execution in a tuple; None if its worker does not respond, after another start.

        Raises:
            ShapwatchError: the error of the call.
            EngineError: if its workers died, or cannot execute it.
        """
        try:
            return (future.result(timeout=POLL_SECONDS * 2**call.transfers),)
        except ShapwatchError:
            raise
        except Exception as error:
            call.transfers += 1
            if future.status != "error" and call.transfers < MAX_TRANSFERS:
                del call.futures[future]
                self._check()
                if not call.futures:
                    self._start(call)
                return None
            problem = f"a worker failed with {type(error).__name__}: {snippet(error)}"
            remedy = "check its memory limit, and that it has the same versions of Python and shapwatch"
            raise EngineError(self._setting, f"{problem}; {remedy}") from error

    def _check(self) -> None:
        """Check that a running worker has sent a heartbeat to the scheduler; repeat the work of others."""
        if self._client.status in ("closing", "closed"):
            raise EngineError(self._setting, "the scheduler has ended the connection")
        problem = "the scheduler does not respond"
        with suppress(OSError):
            found = self._client.sync(self._client.scheduler.identity, callback_timeout=POLL_SECONDS)["workers"]
            running = {name: each["last_seen"] for name, each in found.items() if each["status"] == "running"}
            if running.items() - self._last_seen.items():
                self._alive = max(self._alive, time.monotonic())
            self._last_seen = running
            problem = "no worker responds, or each is paused because of its memory limit,"
            self._repeat(found)
        if time.monotonic() - self._alive > LOST_SECONDS:
            raise EngineError(self._setting, f"{problem} for {LOST_SECONDS} s")

    def _repeat(self, workers: Mapping[str, Any]) -> None:
        """Start calls again that only workers execute that do not respond, or that are paused."""
        newest = max((each["last_seen"] for each in workers.values()), default=0)
        silent = {
            name: f"has not responded for {newest - each['last_seen']:.0f} s"
            if each["status"] == "running"
            else f"is {each['status']}"
            for name, each in workers.items()
            if each["status"] != "running" or newest - each["last_seen"] > SILENT_SECONDS
        }
        for name in silent.keys() - self._silent:
            logger.warning("the worker %s of %s %s; others repeat its work", name, self._setting, silent[name])
        self._silent, self._responsive = silent, frozenset(workers) - silent.keys()
        if not self._responsive:
            return
        executing = self._client.sync(self._client.scheduler.processing, callback_timeout=POLL_SECONDS)
        stuck = {key for name in silent for key in executing.get(name, ())}
        for call in self.pending:
            if all(
                future.key in stuck or not (allowed is None or allowed & self._responsive)
                for future, allowed in call.futures.items()
            ):
                self._start(call)


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
