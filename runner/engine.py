"""Engines: compute blocks of work in this process, in local processes, or on a Dask cluster.

All engines yield results in the order of the items, so that sums are bit-identical. joblib pickles data between the
processes of one run; no pickle is stored, or read from another source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self, TypeVar
from warnings import catch_warnings

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from runner.errors import EngineError
from runner.protocols import Item, Model, RemoteModel

Result = TypeVar("Result")
Work = Callable[[Model, Item], Result]

CONNECT_SECONDS = 30
"""Timeout in seconds of a connection to the Dask scheduler."""
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
    workers: Annotated[int, Field(strict=True, ge=1)] | None
    address: str | None

    @model_validator(mode="after")
    def _check_address(self) -> Self:
        if (self.kind == "dask") != (self.address is not None):
            raise ValueError("address: required for engine=dask, such as tcp://10.0.0.1:8786; null for other engines")
        return self

    def map(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        """Yield `work(model, item)` for each item, in the order of the items; each worker queues up to two items.

        Remote models are always called from this process, which counts the calls and limits their rate.

        Raises:
            EngineError: if the workers are unreachable or die.
        """
        if self.kind == "serial" or isinstance(model, RemoteModel):
            return (work(model, item) for item in items)
        return self._in_workers(work, model, items)

    def _in_workers(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        with self._backend():
            tasks = (delayed(_run)(work, model, model.identity, item) for item in items)
            results = Parallel(return_as="generator", batch_size=1, pre_dispatch="2*n_jobs")(tasks)
            try:
                for result in results:  # noqa: UP028  `yield from` would close `results` too early, with a warning
                    yield result
            except TerminatedWorkerError as error:
                raise EngineError(f"engine={self.kind}", "a worker died, possibly out of memory") from error
            finally:
                with catch_warnings(action="ignore", category=UserWarning):  # about unfinished work
                    results.close()

    @contextmanager
    def _backend(self) -> Iterator[None]:
        """Let joblib use the workers of this engine inside this context; local processes use one thread each."""
        from joblib import parallel_config

        if self.kind == "loky":
            with parallel_config(backend="loky", n_jobs=self.workers or -1, inner_max_num_threads=1):
                yield
            return
        with self._client() as client, parallel_config(backend="dask", client=client):
            yield

    def _client(self) -> Any:
        try:
            import distributed
        except ImportError as error:
            raise EngineError("engine=dask", "Dask is not installed; run pip install 'shapwatch[dask]'") from error
        try:
            connect: Any = distributed.Client
            return connect(self.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except OSError as error:
            raise EngineError(f"engine.address={self.address}", f"the scheduler does not respond ({error})") from error


def _run(work: Work[Item, Result], model: Model, identity: str | None, item: Item) -> Result:
    """Return `work(model, item)`, with the model from this worker's cache if it is there."""
    if identity is None:
        return work(model, item)
    if identity not in _models:
        if model.identity != identity:
            raise EngineError(
                "engine", "a worker loaded another model; check that all workers read the same model.artifact"
            )
        if len(_models) == MAX_CACHED_MODELS:
            _models.clear()
        _models[identity] = model
    return work(_models[identity], item)
