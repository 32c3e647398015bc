"""Interfaces between packages.

Array letters: N records, D features, L labels, P players, K coalitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from runner.domain.attributions import Additive, Calls, Margin
    from runner.domain.executions import Publication


Item = TypeVar("Item")
Result = TypeVar("Result")


class Model(Protocol):
    """A model to explain, in this process or remote."""

    @property
    def label_headers(self) -> tuple[str, ...] | None:
        """Names of the L outputs, None for `label0`, `label1` and so on."""
        ...

    @property
    def identity(self) -> str | None:
        """A hash that changes with the model, None if the model cannot be identified."""
        ...

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL; a row's score does not depend on the other rows."""
        ...


@runtime_checkable
class AdditiveModel(Protocol):
    """A model that can be additive, depending on its settings."""

    @property
    def is_additive(self) -> bool:
        """Whether each output is a link function of a sum with one term per feature."""
        ...

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the terms, if the model is additive."""
        ...


@runtime_checkable
class TreeModel(Protocol):
    """A tree model whose library computes TreeSHAP values."""

    def tree_shap(self, features: pl.DataFrame) -> Additive:
        """Return the TreeSHAP values of each record's margin.

        Raises:
            ExplainerError: if the library does not compute them for this model.
        """
        ...


@runtime_checkable
class RemoteModel(Protocol):
    """A model in another process, which counts its calls."""

    @property
    def calls_made(self) -> Calls:
        """The calls made so far."""
        ...

    def planned_calls(self, features: pl.DataFrame) -> Calls:
        """Return the calls that `predict` would make."""
        ...


@runtime_checkable
class ResponseEncoder(Protocol):
    """A model whose endpoint has its own response format."""

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the response body in a media type.

        `application/jsonlines`: one line per record, each with a line end. `application/json`: one document with the
        list `predictions`. `text/csv`: one line of scores per record, each with a line end.

        Raises:
            ValueError: if the media type is not supported.
        """
        ...


def as_additive(model: Model) -> AdditiveModel | None:
    """Return the model if it is additive, else None."""
    return model if isinstance(model, AdditiveModel) and model.is_additive else None


def calls_made(model: Model) -> Calls | None:
    """Return the calls made to a remote model so far, None for a model in this process."""
    return model.calls_made if isinstance(model, RemoteModel) else None


class Game(Protocol):
    """Cooperative games of N records with P players each; the only input of most explainers.

    Attributes:
        players: number of players, P.
        scores_NL: value of the grand coalition: the model's output for the record.
        expected_L: value of the empty coalition: the expected output on the background.
    """

    @property
    def players(self) -> int: ...  # noqa: D102  described above

    @property
    def scores_NL(self) -> NDArray[np.float64]: ...  # noqa: D102

    @property
    def expected_L(self) -> NDArray[np.float64]: ...  # noqa: D102

    def margin(self) -> Margin | None:
        """Return the additive form of the games, None if they are not known to be additive."""
        ...

    def reorder(self, order_NP: NDArray[np.intp]) -> Game:
        """Return the same games with each record's players in another order, given by their current indices."""
        ...

    def value(self, masks_KP: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the values_NKL of coalitions."""
        ...


class Workers(Protocol):
    """Workers that process blocks of work."""

    def map(self, work: Callable[[Model, Item], Result], model: Model, items: Iterable[Item]) -> Iterable[Result]:
        """Yield `work(model, item)` for each item, in the order of the items."""
        ...


class Track(Protocol):
    """A display of the progress of long work."""

    def __call__(self, items: Iterable[Item], description: str, total: int | None, /) -> Iterable[Item]:
        """Yield the items unchanged; `total` is their number, None if unknown."""
        ...


class Sink(Protocol):
    """A destination of finished executions."""

    def publish(self, publication: Publication) -> Mapping[str, Sink] | None:
        """Publish an execution.

        Returns:
            Parts that are published apart from each other, such as the recipients of a message, by name; None if
            everything is published.

        Raises:
            PublishError: if it cannot be published; the verdict is unaffected.
        """
        ...
