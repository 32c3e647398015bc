"""What models that run in this process have in common: nothing travels, and their endpoint answers in a plain form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import orjson
import polars as pl
from numpy.typing import NDArray

from runner.domain.attributions import Additive
from runner.errors import NO_TREES, ExplainerError

FORMS = ("application/jsonlines", "application/json", "text/csv")


class Local:
    """A model in this process."""

    calls_made: ClassVar[None] = None
    is_fast: ClassVar[bool] = False
    """Whether an answer is a matter of microseconds, and of nothing but arithmetic."""

    def tree_shap(self, features: pl.DataFrame) -> Additive:  # noqa: ARG002
        """Refuse: only trees have their own.

        Raises:
            ExplainerError: always.
        """
        raise ExplainerError(NO_TREES)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is configured: another process loads the rest itself."""
        return {name: getattr(self, name) for name in getattr(self, "__dataclass_fields__", {}) if name in vars(self)}

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL."""
        raise NotImplementedError

    is_additive: ClassVar[bool] = False
    """Whether its outputs are a link of a sum of one term for each feature."""

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return these terms."""
        raise NotImplementedError

    def planned_calls(self, features: pl.DataFrame) -> None:  # noqa: ARG002  nothing is sent, whatever the features
        """Return None: no call leaves this process."""
        return

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the body with which an endpoint of the model answers: `score`, a list of them for several outputs.

        Raises:
            ValueError: with a sentence, when there is no such form of an answer.
        """
        scores_NL = self.predict(features).tolist()
        answers = [{"score": scores if len(scores) > 1 else scores[0]} for scores in scores_NL]
        return body(answers, scores_NL, accept)


def body(answers: Sequence[Mapping[str, Any]], scores_NL: Sequence[Sequence[float]], accept: str) -> str:
    """Return an answer for each record as JSON Lines or in one JSON document, or just the scores as a CSV.

    Raises:
        ValueError: with a sentence, when `accept` is something else.
    """
    match accept:
        case "application/jsonlines":
            return "".join(orjson.dumps(answer).decode() + "\n" for answer in answers)
        case "application/json":
            return json.dumps({"predictions": answers})
        case "text/csv":
            return "".join(",".join(map(repr, scores)) + "\n" for scores in scores_NL)
    raise ValueError(f"the model answers in {', '.join(FORMS[:-1])} or {FORMS[-1]}, not {accept!r}")
