"""A linear model with its coefficients in the configuration; features are numbers, strings and booleans.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import PlainValidator, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, Link, label_names
from runner.domain.numbers import plural
from runner.errors import ModelInputError, SettingsError, listed
from runner.models.base import LocalModel
from runner.records.payloads import encode_scores
from runner.types import NO_OTHER_KEYS

MAX_ABSOLUTE = 1e100
"""Maximum absolute value of coefficients and feature values; products of two such values are finite."""


def _numbers(value: Any) -> tuple[float, ...]:
    """Return a number or a list of numbers as a tuple, one number per output."""
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(_is_number(number) for number in numbers):
        raise ValueError("expected a number, or a list with one number per output")
    return tuple(map(float, numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_ABSOLUTE


def _coefficient(value: Any) -> tuple[float, ...] | dict[str, tuple[float, ...]]:
    """Return a coefficient, or a mapping from categories to coefficients."""
    if not isinstance(value, Mapping):
        return _numbers(value)
    if not value or not all(isinstance(name, str | bool) for name in value):
        raise ValueError("expected at least one category: a string (write numbers in quotes), true or false")
    coefficient = {_category(name): _numbers(numbers) for name, numbers in value.items()}
    if len(coefficient) < len(value):
        raise ValueError("a category occurs twice: as a string and as a boolean")
    return coefficient


def _category(name: str | bool) -> str:
    return name if isinstance(name, str) else str(name).lower()


def _check_count(problem: str, count: int, earlier: ValidationInfo) -> None:
    L = len(earlier.data.get("intercept", range(count)))
    if count != L:
        raise ValueError(f"{problem}; expected {L}, one for each number of intercept")


Numbers = Annotated[tuple[float, ...], PlainValidator(_numbers)]
Coefficient = Annotated[tuple[float, ...] | dict[str, tuple[float, ...]], PlainValidator(_coefficient)]


@dataclass(frozen=True, config=NO_OTHER_KEYS)
class LinearModel(LocalModel):
    """A linear, logistic or softmax regression in float64; features are matched by name.

    Attributes:
        kind: `linear`.
        link: function of the sums: `identity`, `logistic` (one probability per output) or `softmax`.
        intercept: one number per output.
        coefficients: coefficient of each feature: a number, which is multiplied by the value (true is 1, false is 0),
            or a mapping from categories to numbers. With several outputs, a list with one number per output takes the
            place of each number. Nulls and unknown categories contribute 0.
        label_headers: names of the outputs, None for `label0`, `label1`, …
    """

    is_fast: ClassVar[bool] = True

    kind: Literal["linear"]
    link: Literal["identity", "logistic", "softmax"]
    intercept: Numbers
    coefficients: dict[str, Coefficient]
    label_headers: tuple[str, ...] | None

    @field_validator("intercept")
    @classmethod
    def _check_softmax(cls, intercept: tuple[float, ...], earlier: ValidationInfo) -> tuple[float, ...]:
        if earlier.data.get("link") == "softmax" and len(intercept) == 1:
            raise ValueError(
                "link=softmax needs at least two outputs, with one number per output; use link=logistic for one output"
            )
        return intercept

    @field_validator("coefficients")
    @classmethod
    def _check_counts(cls, coefficients: dict[str, Coefficient], earlier: ValidationInfo) -> dict[str, Coefficient]:
        if not coefficients:
            raise ValueError("expected one coefficient per feature")
        for name, coefficient in coefficients.items():
            for numbers in coefficient.values() if isinstance(coefficient, dict) else [coefficient]:
                _check_count(f"{name!r} has {plural(len(numbers), 'number')}", len(numbers), earlier)
        return coefficients

    @field_validator("label_headers")
    @classmethod
    def _unique(cls, names: tuple[str, ...] | None, earlier: ValidationInfo) -> tuple[str, ...] | None:
        if names is not None:
            _check_count(plural(len(names), "name"), len(names), earlier)
            if len(set(names)) < len(names):
                raise ValueError("names must be unique")
        return names

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of all parameters that determine the scores."""
        parameters = [self.kind, self.link, self.intercept, self.coefficients]
        return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL.

        The terms of each output are added one by one, in the order of feature names, so that a row's score is
        bit-identical in every batch.

        Raises:
            SettingsError: if the features of the model and the records differ.
            ModelInputError: if the type of a feature does not fit its coefficient.
        """
        self._check_names(features.columns)
        sums_LN = [np.full(features.height, start) for start in self.intercept]
        for name in sorted(self.coefficients):
            for i, term_N in enumerate(_terms(features[name], self.coefficients[name])):
                sums_LN[i] += term_N
        return np.stack(_apply_link(self.link, sums_LN), axis=1)

    @property
    def is_additive(self) -> bool:
        """Whether each output depends on its own sum only."""
        return self.link != "softmax"

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return one term per record, feature and output.

        Raises:
            SettingsError: if the features of the model and the records differ.
            ModelInputError: if the type of a feature does not fit its coefficient.
        """
        self._check_names(features.columns)
        terms = [np.stack(_terms(column, self.coefficients[column.name]), axis=1) for column in features]
        link: Link = "logistic" if self.link == "logistic" else "identity"
        return Additive(link, np.array(self.intercept), np.stack(terms, axis=1))

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the response body that an endpoint of the model sends.

        With one output, a record has `score`, and `predicted_label`: 1 if the probability is at least 0.5, else 0. With
        several outputs, a record has `probabilities`, and `predicted_label`: the name of the most probable output. With
        `link: identity`, a record has `score` only.

        Raises:
            ValueError: if the media type is not supported.
        """
        record = self._reversed_record if accept == "application/json" else self._record
        return encode_scores(self.predict(features), accept, record)

    def _reversed_record(self, scores_L: list[float]) -> dict[str, Any]:
        return dict(reversed(self._record(scores_L).items()))

    def _record(self, scores_L: list[float]) -> dict[str, Any]:
        single = len(scores_L) == 1
        if self.link == "identity":
            return {"score": scores_L[0] if single else scores_L}
        if single:
            return {"predicted_label": int(scores_L[0] >= 0.5), "score": scores_L[0]}
        return {
            "predicted_label": label_names(self.label_headers, len(scores_L))[scores_L.index(max(scores_L))],
            "probabilities": scores_L,
        }

    def _check_names(self, names: list[str]) -> None:
        problems = [
            f"model.coefficients: no coefficient for the feature {name!r}; add one"
            for name in names
            if name not in self.coefficients
        ]
        problems += [
            f"model.coefficients: no feature is named {name!r}; the features are {listed(names)} (data.headers)"
            for name in self.coefficients
            if name not in names
        ]
        if problems:
            raise SettingsError(problems)


def _terms(
    column: pl.Series, coefficient: tuple[float, ...] | dict[str, tuple[float, ...]]
) -> list[NDArray[np.float64]]:
    """Return a feature's terms for each output, as L arrays of N numbers.

    Raises:
        ModelInputError: if the type of the feature does not fit its coefficient.
    """
    if isinstance(coefficient, dict):
        index_N = _category_index(column, list(coefficient))
        return [
            np.array([*terms_of_category, 0.0])[index_N]
            for terms_of_category in zip(*coefficient.values(), strict=True)
        ]
    values_N = _values(column)
    return [values_N * number for number in coefficient]


def _category_index(column: pl.Series, categories: list[str]) -> NDArray[np.uint32]:
    """Return the index of each value in the categories; nulls and unknown values get the number of categories."""
    if column.dtype not in (pl.String, pl.Boolean, pl.Null):
        raise ModelInputError(
            "linear",
            column.name,
            _example(column),
            "strings or booleans, because its coefficient is a mapping from categories",
        )
    unknown = len(categories)
    index = column.cast(pl.String).replace_strict(categories, range(unknown), default=unknown, return_dtype=pl.UInt32)
    return index.fill_null(unknown).to_numpy()


def _values(column: pl.Series) -> NDArray[np.float64]:
    """Return the values as floats, with 0 for nulls."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        problem = "numbers or booleans, unless its coefficient is a mapping from categories"
        raise ModelInputError("linear", column.name, _example(column), problem)
    values_N = column.cast(pl.Float64).fill_null(0).to_numpy()
    if not (np.abs(values_N) <= MAX_ABSOLUTE).all():
        (worst, *_) = values_N[~(np.abs(values_N) <= MAX_ABSOLUTE)].tolist()
        raise ModelInputError("linear", column.name, worst, f"finite numbers up to {MAX_ABSOLUTE:g}")
    return values_N


def _example(column: pl.Series) -> Any:
    return next(iter(column.drop_nulls()), None)


def _apply_link(link: str, sums_LN: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return scores_LN, computed elementwise."""
    if link == "identity":
        return sums_LN
    if link == "logistic":
        with np.errstate(over="ignore"):
            return [1 / (1 + np.exp(-sum_N)) for sum_N in sums_LN]
    maximum_N = sums_LN[0]
    for sum_N in sums_LN[1:]:
        maximum_N = np.maximum(maximum_N, sum_N)
    exponentials_LN = [np.exp(sum_N - maximum_N) for sum_N in sums_LN]
    total_N = sum(exponentials_LN[1:], exponentials_LN[0])
    return [exponential_N / total_N for exponential_N in exponentials_LN]
