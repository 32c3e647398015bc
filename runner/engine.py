"""Where blocks of work are done: in this process, in processes beside it, or on a cluster.

Results come back in the order of the work, whoever does it, so that what is made of them is the same to the bit. What
travels between the processes of one run is pickled by joblib; nothing pickled is kept, and none is read from elsewhere.
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
MOST_MODELS = 8

_models: dict[str, Model] = {}
"""The models this worker has been sent, by identity, with all that they have loaded since."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Engine:
    """`engine`: where attributions are computed.

    Attributes:
        kind: `serial`: this process. `loky`: processes of this machine. `dask`: the workers of a Dask cluster.
        workers: loky: how many processes, None for one a core.
        address: dask: of the scheduler, such as tcp://10.0.0.1:8786.
    """

    kind: Literal["serial", "loky", "dask"]
    workers: Annotated[int, Field(strict=True, ge=1)] | None
    address: str | None

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if (self.kind == "dask") != (self.address is not None):
            raise ValueError("address: engine=dask needs that of its scheduler, others have none")
        return self

    def map(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        """Yield `work(model, item)` for each item, in their order; no more than two items a worker wait.

        A model that is asked over the network is asked from this process, which keeps count of calls and to limits.

        Raises:
            EngineError: when the workers cannot be reached, or die.
        """
        if self.kind == "serial" or isinstance(model, RemoteModel):
            return (work(model, item) for item in items)
        return self._elsewhere(work, model, items)

    def _elsewhere(self, work: Work[Item, Result], model: Model, items: Iterable[Item]) -> Iterator[Result]:
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        with self._reached():
            tasks = (delayed(_done)(work, model, model.identity, item) for item in items)
            results = Parallel(return_as="generator", batch_size=1, pre_dispatch="2*n_jobs")(tasks)
            try:
                for result in results:  # noqa: UP028  `yield from` would close it too early, with a warning
                    yield result
            except TerminatedWorkerError as error:
                raise EngineError(f"engine={self.kind}", "a worker died, perhaps for want of memory") from error
            finally:
                with catch_warnings(action="ignore", category=UserWarning):  # of work that nobody waits for any more
                    results.close()

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Within, joblib works with this engine's workers; each computes with one thread."""
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
            raise EngineError("engine=dask", "needs Dask: pip install 'shapwatch[dask]'") from error
        try:
            connect: Any = distributed.Client
            return connect(self.address, timeout=CONNECT_SECONDS, set_as_default=False)
        except OSError as error:
            raise EngineError(f"engine.address={self.address}", f"no scheduler answers ({error})") from error


def _done(work: Work[Item, Result], model: Model, identity: str | None, item: Item) -> Result:
    """Return `work(model, item)`, with the model that this worker has kept of earlier items."""
    if identity is None:
        return work(model, item)
    if identity not in _models:
        if model.identity != identity:
            raise EngineError("engine", "a worker finds another model than the one that is being explained")
        if len(_models) == MOST_MODELS:
            _models.clear()
        _models[identity] = model
    return work(_models[identity], item)
