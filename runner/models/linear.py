"""A linear model whose coefficients stand in the configuration: numbers, texts and booleans in, scores out.

Array letters: N records, L labels (outputs).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import ConfigDict, PlainValidator, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from runner.domain.attributions import Additive, label_names
from runner.domain.text import plural
from runner.errors import ModelInputError, SettingsError
from runner.models.local import Local, body

LARGEST = 1e100
"""Larger coefficients and feature values are taken for mistakes; their products stay finite."""


def _numbers(value: Any) -> tuple[float, ...]:
    """Return a number, or a list of them, as one number an output."""
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(_is_number(number) for number in numbers):
        raise ValueError("expected a number, or a list of one number for each output")
    return tuple(map(float, numbers))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _coefficient(value: Any) -> tuple[float, ...] | dict[str, tuple[float, ...]]:
    """Return a coefficient, or one for each category."""
    if not isinstance(value, Mapping):
        return _numbers(value)
    if not value or not all(isinstance(name, str | bool) for name in value):
        raise ValueError("expected at least one category, each a text (write numbers in quotes), true or false")
    coefficient = {_category(name): _numbers(numbers) for name, numbers in value.items()}
    if len(coefficient) < len(value):
        raise ValueError("a category occurs twice, as a text and as true or false")
    return coefficient


def _category(name: str | bool) -> str:
    return name if isinstance(name, str) else str(name).lower()


def _check_count(got: str, count: int, before: ValidationInfo) -> None:
    L = len(before.data.get("intercept", range(count)))
    if count != L:
        raise ValueError(f"{got}, expected {L}: one for each output, as in intercept")


Numbers = Annotated[tuple[float, ...], PlainValidator(_numbers)]
Coefficient = Annotated[tuple[float, ...] | dict[str, tuple[float, ...]], PlainValidator(_coefficient)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Linear(Local):
    """A linear, logistic or softmax regression in float64; features are found by their names.

    Attributes:
        kind: `linear`.
        link: what is made of the sums: `identity` nothing, `logistic` a probability each, `softmax` shares of 1.
        intercept: where the sum of each of the L outputs starts.
        coefficients: for each feature what it adds: a number is multiplied by the value (true is 1, false 0), a mapping
            from categories looks it up; either has one number for each output. Nulls and other categories add 0.
        label_headers: the names of the outputs, or None for `label0`, `label1`, …
        deploy: None to explain it in this process, `shadow` through a throw-away endpoint.
    """

    is_fast: ClassVar[bool] = True

    kind: Literal["linear"]
    link: Literal["identity", "logistic", "softmax"]
    intercept: Numbers
    coefficients: dict[str, Coefficient]
    label_headers: tuple[str, ...] | None
    deploy: Literal["shadow"] | None = field()

    @field_validator("intercept")
    @classmethod
    def _several(cls, intercept: tuple[float, ...], before: ValidationInfo) -> tuple[float, ...]:
        if before.data.get("link") == "softmax" and len(intercept) == 1:
            raise ValueError("link softmax needs several outputs, a number for each; take logistic for one")
        return intercept

    @field_validator("coefficients")
    @classmethod
    def _as_many(cls, coefficients: dict[str, Coefficient], before: ValidationInfo) -> dict[str, Coefficient]:
        if not coefficients:
            raise ValueError("expected a coefficient for each feature")
        for name, coefficient in coefficients.items():
            for numbers in coefficient.values() if isinstance(coefficient, dict) else [coefficient]:
                _check_count(f"{name!r} has {plural(len(numbers), 'number')}", len(numbers), before)
        return coefficients

    @field_validator("label_headers")
    @classmethod
    def _unique(cls, names: tuple[str, ...] | None, before: ValidationInfo) -> tuple[str, ...] | None:
        if names is not None:
            _check_count(plural(len(names), "name"), len(names), before)
            if len(set(names)) < len(names):
                raise ValueError("names must be unique")
        return names

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of everything that the scores depend on."""
        parameters = [self.kind, self.link, self.intercept, self.coefficients]
        return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL.

        Products are added feature by feature, in the order of the features' names, and outputs one by one, so that a
        row's score is the same to the bit whatever batch it travels in.

        Raises:
            SettingsError: when the model has other features than the records.
            ModelInputError: when a feature holds something else than its coefficient is for.
        """
        self._check_names(features.columns)
        sums_LN = [np.full(features.height, start) for start in self.intercept]
        for name in sorted(self.coefficients):
            for i, effect_N in enumerate(_effects(features[name], self.coefficients[name])):
                sums_LN[i] += effect_N
        return np.stack(_linked(self.link, sums_LN), axis=1)

    @property
    def is_additive(self) -> bool:  # type: ignore[override]  # here a matter of the link
        """Whether outputs depend on their own sum alone."""
        return self.link != "softmax"

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Return the terms of each output.

        Raises:
            SettingsError: when the model has other features than the records.
            ModelInputError: when a feature holds something else than its coefficient is for.
        """
        self._check_names(features.columns)
        terms = [np.stack(_effects(column, self.coefficients[column.name]), axis=1) for column in features]
        link: Literal["identity", "logistic"] = "logistic" if self.link == "logistic" else "identity"
        return Additive(link, np.array(self.intercept), np.stack(terms, axis=1))

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the body with which an endpoint of the model answers.

        One output: `score`, with `predicted_label` 1 from a probability of a half on. Several outputs: `probabilities`,
        with `predicted_label` the name of the largest. With `link: identity` there is nothing but `score`.

        Raises:
            ValueError: with a sentence, when there is no such form of an answer.
        """
        scores_NL = self.predict(features).tolist()
        answers = [self._answer(scores) for scores in scores_NL]
        if accept == "application/json":
            answers = [dict(reversed(answer.items())) for answer in answers]
        return body(answers, scores_NL, accept)

    def _answer(self, scores_L: list[float]) -> dict[str, Any]:
        one = len(scores_L) == 1
        if self.link == "identity":
            return {"score": scores_L[0] if one else scores_L}
        if one:
            return {"predicted_label": int(scores_L[0] >= 0.5), "score": scores_L[0]}
        return {
            "predicted_label": label_names(self.label_headers, len(scores_L))[scores_L.index(max(scores_L))],
            "probabilities": scores_L,
        }

    def _check_names(self, names: list[str]) -> None:
        problems = [
            f"model.coefficients: none for the feature {name!r}" for name in names if name not in self.coefficients
        ]
        problems += [
            f"model.coefficients: no feature is named {name!r}; the features are {', '.join(names)} (data.headers)"
            for name in self.coefficients
            if name not in names
        ]
        if problems:
            raise SettingsError(problems)


def _effects(
    column: pl.Series, coefficient: tuple[float, ...] | dict[str, tuple[float, ...]]
) -> list[NDArray[np.float64]]:
    """Return what a feature adds to each output, as L arrays of N numbers.

    Raises:
        ModelInputError: when it holds something else than the coefficient is for.
    """
    if isinstance(coefficient, dict):
        places_N = _places(column, list(coefficient))
        return [np.array([*effects, 0.0])[places_N] for effects in zip(*coefficient.values(), strict=True)]
    values_N = _values(column)
    return [values_N * number for number in coefficient]


def _places(column: pl.Series, categories: list[str]) -> NDArray[np.uint32]:
    """Return the place of each value among the categories, their number where it is none of them or null."""
    if column.dtype not in (pl.String, pl.Boolean, pl.Null):
        raise ModelInputError(
            "linear", column.name, _example(column), "texts or booleans there, as in its coefficients"
        )
    others = len(categories)
    found = column.cast(pl.String).replace_strict(categories, range(others), default=others, return_dtype=pl.UInt32)
    return found.fill_null(others).to_numpy()


def _values(column: pl.Series) -> NDArray[np.float64]:
    """Return the values as numbers, 0 for nulls."""
    if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
        problem = "numbers or booleans there, unless its coefficient is a mapping from categories"
        raise ModelInputError("linear", column.name, _example(column), problem)
    values_N = column.cast(pl.Float64).fill_null(0).to_numpy()
    if not (np.abs(values_N) <= LARGEST).all():
        (worst, *_) = values_N[~(np.abs(values_N) <= LARGEST)].tolist()
        raise ModelInputError("linear", column.name, worst, f"finite numbers up to {LARGEST:g}")
    return values_N


def _example(column: pl.Series) -> Any:
    return next(iter(column.drop_nulls()), None)


def _linked(link: str, sums_LN: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return scores_LN; every step is taken value by value."""
    if link == "identity":
        return sums_LN
    if link == "logistic":
        with np.errstate(over="ignore"):
            return [1 / (1 + np.exp(-sum_N)) for sum_N in sums_LN]
    top_N = sums_LN[0]
    for sum_N in sums_LN[1:]:
        top_N = np.maximum(top_N, sum_N)
    powers_LN = [np.exp(sum_N - top_N) for sum_N in sums_LN]
    total_N = sum(powers_LN[1:], powers_LN[0])
    return [power_N / total_N for power_N in powers_LN]
