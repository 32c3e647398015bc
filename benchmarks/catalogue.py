"""The catalogue: incidents with known truth, and situations without drift.

An incident changes the live records, the reference or the model. Changes are pure functions of values and a generator
of random numbers. Situations draw records of one population on both sides, in ways that are hard for a detector.

Array letters: N records.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.credit import FEATURES, Scorecard, trained


class Cause(StrEnum):
    """What happened. The members of `GENERAL` are true of many causes."""

    SCALE = auto()
    OFFSET = auto()
    SIGN = auto()
    CONSTANT = auto()
    CODES = auto()
    COLUMNS = auto()
    CLIPPED = auto()
    ROUNDED = auto()
    MONOTONE = auto()
    STANDARDISED = auto()
    IMPUTED = auto()
    MISSING = auto()
    CASE = auto()
    BLANK = auto()
    MERGED = auto()
    RENAMED = auto()
    VANISHED = auto()
    NEW = auto()
    NUMBER_AS_STRING = auto()
    DECIMAL_COMMA = auto()
    STALE = auto()
    JOIN = auto()
    NOISE = auto()
    TIME = auto()
    POPULATION = auto()
    MODEL = auto()
    ASSOCIATION = auto()
    UNSEEN = auto()
    FREQUENT = auto()
    MOVED = auto()
    UNCHANGED = auto()


GENERAL = {Cause.ASSOCIATION, Cause.UNSEEN, Cause.FREQUENT, Cause.MOVED, Cause.POPULATION}
"""Statements that describe a change without a reason. They are not wrong, but only right if nothing more is known."""
ALSO_RIGHT: Mapping[Cause, set[Cause]] = {
    Cause.CONSTANT: {Cause.IMPUTED, Cause.STALE},
    Cause.IMPUTED: {Cause.FREQUENT, Cause.CONSTANT},
    Cause.MERGED: {Cause.VANISHED, Cause.FREQUENT},
    Cause.RENAMED: {Cause.VANISHED, Cause.NEW},
    Cause.NEW: {Cause.UNSEEN},
    Cause.COLUMNS: {Cause.JOIN},
    Cause.CODES: {Cause.SIGN},
    Cause.CLIPPED: {Cause.IMPUTED, Cause.FREQUENT},
    Cause.JOIN: {Cause.STALE, Cause.NOISE, Cause.ASSOCIATION},
    Cause.NUMBER_AS_STRING: {Cause.DECIMAL_COMMA},
    Cause.STANDARDISED: {Cause.OFFSET, Cause.MONOTONE},
    Cause.STALE: {Cause.JOIN, Cause.NOISE, Cause.ASSOCIATION},
    Cause.NOISE: {Cause.STALE, Cause.JOIN, Cause.MOVED, Cause.POPULATION},
    Cause.TIME: {Cause.OFFSET, Cause.MOVED},
    Cause.OFFSET: {Cause.MONOTONE},
    Cause.POPULATION: {Cause.MOVED, Cause.FREQUENT, Cause.SCALE, Cause.OFFSET, Cause.VANISHED},
}
"""Causes that are as right as the true one. A grown income is a larger population value and a factor."""

CANDIDATES = 4
"""Records per record of a changed mix, which contains no record twice."""
Records = pl.DataFrame
Rng = np.random.Generator
Change = Callable[[Records, Rng], Records]
FeatureChange = Callable[[pl.Series, Rng], pl.Series]
"""Change of the values of one feature."""


def unchanged(records: Records, rng: Rng) -> Records:  # noqa: ARG001  a Change
    """Return the records."""
    return records


@dataclass(frozen=True)
class Incident:
    """An incident with its truth.

    Attributes:
        name: what happened, in words.
        altered: features whose values were altered; empty if only the model changed.
        cause: kind of the cause.
        change: change of the live records.
        reference: change of the reference records.
        model: function of the model's version that serves the window; None if the model is unchanged.
        factor: ratio of live to true values, where the cause is one.
        corrupts: whether altered values are wrong; in another population they are right.
        mixes: whether a change draws one of `CANDIDATES` records.
    """

    name: str
    altered: tuple[str, ...]
    cause: Cause
    change: Change = unchanged
    reference: Change = unchanged
    model: Callable[[Scorecard], Scorecard] | None = None
    factor: float | None = None
    corrupts: bool = True
    mixes: bool = False


def on(
    feature: str,
    what: str,
    cause: Cause,
    change: FeatureChange,
    *,
    share: float = 1.0,
    among: pl.Expr | None = None,
    factor: float | None = None,
    corrupts: bool = True,
) -> Incident:
    """Return an incident in one feature, in a random share of the records or of the records that meet a condition."""
    where = "" if share == 1 else f", {share:.0%} of the records"
    apply = on_feature(feature, change, share, among)
    return Incident(f"{feature}: {what}{where}", (feature,), cause, apply, factor=factor, corrupts=corrupts)


def on_feature(feature: str, change: FeatureChange, share: float = 1.0, among: pl.Expr | None = None) -> Change:
    """Return the change of one feature; if only some values change their type, all become strings."""

    def apply(records: Records, rng: Rng) -> Records:
        chosen_N = rng.random(records.height) < share
        if among is not None:
            chosen_N &= records.select(among.fill_null(value=False)).to_series().to_numpy()
        old, new = records[feature], change(records[feature], rng)
        if not chosen_N.all():
            if old.dtype != new.dtype:
                common = pl.Float64 if old.dtype.is_numeric() and new.dtype.is_numeric() else pl.String
                old, new = old.cast(common), new.cast(common)
            new = new.zip_with(pl.Series(chosen_N), old)
        return records.with_columns(new.alias(feature))

    return apply


def then(*changes: Change) -> Change:
    """Return several changes, one after the other."""

    def apply(records: Records, rng: Rng) -> Records:
        for change in changes:
            records = change(records, rng)
        return records

    return apply


def expr(function: Callable[[pl.Expr], pl.Expr]) -> FeatureChange:
    """Return the change that a polars expression of the values describes."""
    return lambda values, _: values.to_frame("v").select(function(pl.col("v"))).to_series()


def times(factor: float) -> FeatureChange:
    """Return a multiplication."""
    return expr(lambda value: value * factor)


def plus(offset: float) -> FeatureChange:
    """Return an addition; integers stay integers."""
    return expr(lambda value: value + (int(offset) if offset == int(offset) else offset))


def always(value: object) -> FeatureChange:
    """Return a constant, also in the place of missing values."""
    return expr(lambda _: pl.lit(value)) if value is None else lambda values, _: pl.Series([value] * len(values))


def filled(statistic: str) -> FeatureChange:
    """Return a constant: the mean or median of the values."""
    return lambda values, rng: always(round(float(getattr(values, statistic)()), 4))(values, rng)


def none(values: pl.Series, rng: Rng) -> pl.Series:  # noqa: ARG001  a FeatureChange
    """Return missing values."""
    return pl.Series([None] * len(values), dtype=values.dtype)


def clipped(low: float | None, high: float | None) -> FeatureChange:
    """Return values within limits, which are quantiles of the values."""
    return expr(
        lambda value: value.clip(
            None if low is None else value.quantile(low), None if high is None else value.quantile(high)
        )
    )


def renamed(names: Mapping[object, object]) -> FeatureChange:
    """Return other values in the place of some."""
    return expr(lambda value: value.replace(dict(names)))


def shuffled(values: pl.Series, rng: Rng) -> pl.Series:
    """Return the values in random order: those of other records."""
    return values.gather(rng.permutation(len(values)))


def held(rows: int) -> FeatureChange:
    """Return the first value of each block of records for the whole block, as a cache would."""
    return lambda values, _: values.gather(np.arange(len(values)) // rows * rows)


def noisy(scale: float) -> FeatureChange:
    """Return the values with normal noise, in standard deviations of the values; integers stay integers."""

    def change(values: pl.Series, rng: Rng) -> pl.Series:
        noise_N = rng.normal(size=len(values)) * float(np.std(values.drop_nulls().to_numpy())) * scale
        return values + pl.Series(noise_N if values.dtype.is_float() else noise_N.round().astype(int))

    return change


def aged(share: float) -> FeatureChange:
    """Return values of the same distribution that have only a part of their variance in common with the true ones."""

    def change(values: pl.Series, rng: Rng) -> pl.Series:
        mixed_N = values.rank("random", seed=0).to_numpy() * share + rng.permutation(len(values)) * (1 - share)
        return values.sort().gather(mixed_N.argsort().argsort())

    return change


def moved(sd: float) -> FeatureChange:
    """Return values of a population whose logarithm has another mean, in standard deviations."""
    return expr(lambda value: (value * (value.log().std() * sd).exp()).round(2))


def swapped(one: str, two: str) -> Change:
    """Return the exchange of two columns."""
    return lambda records, _: records.with_columns(pl.col(one).alias(two), pl.col(two).alias(one))


def together(*features: str) -> Change:
    """Return a join with the wrong records: several columns in one random order."""
    return lambda records, rng: records.with_columns(records.select(features)[rng.permutation(records.height)])


def opposed(feature: str, to: str) -> Change:
    """Return a reversed correlation: the largest values of one feature where those of the other are smallest."""

    def apply(records: Records, rng: Rng) -> Records:
        order_N = (records[to].fill_null(0).to_numpy() + rng.random(records.height)).argsort()
        values_N = np.empty(records.height)
        values_N[order_N] = records[feature].sort(descending=True).to_numpy()
        return records.with_columns(pl.Series(feature, values_N, dtype=records.schema[feature]))

    return apply


def mixed(weight: Callable[[Records], pl.Series]) -> Change:
    """Return another mix of the same population: one of `CANDIDATES` records is drawn, with these weights."""

    def apply(records: Records, rng: Rng) -> Records:
        weight_N = weight(records).fill_null(0).cast(pl.Float64).to_numpy()
        drawn = rng.choice(records.height, records.height // CANDIDATES, replace=False, p=weight_N / weight_N.sum())
        return records[drawn]

    return apply


comma = expr(lambda value: value.cast(pl.String).str.replace(".", ",", literal=True))
as_string = expr(lambda value: value.cast(pl.String))
BROKER = pl.col("channel") == "broker"

CREDIT: tuple[Incident, ...] = (
    # units and scale
    on("income", "in cents", Cause.SCALE, times(100), factor=100),
    on("income", "in cents", Cause.SCALE, times(100), share=0.5, factor=100),
    on("income", "in cents", Cause.SCALE, times(100), share=0.05, factor=100),
    on("income", "divided by 12 once too often", Cause.SCALE, times(1 / 12), factor=1 / 12),
    on("income", "twice as large", Cause.SCALE, times(2), factor=2),
    on("loan_amount", "1.65 times as large", Cause.SCALE, times(1.65), factor=1.65),
    on("loan_amount", "1.08 times as large", Cause.SCALE, times(1.08), factor=1.08),
    on("loan_amount", "in thousands", Cause.SCALE, times(1 / 1000), factor=1 / 1000),
    on("distance_km", "in miles", Cause.SCALE, times(1 / 1.609344), factor=1 / 1.609344),
    on("days_late", "in hours", Cause.SCALE, times(24), factor=24),
    on("employment_years", "in days for months (×30.44)", Cause.SCALE, times(30.44), factor=30.44),
    on("interest_rate", "in per cent", Cause.SCALE, times(100), factor=100),
    on("interest_rate", "decimal point lost", Cause.SCALE, times(10_000), share=0.3, factor=10_000),
    on("interest_rate", "3,000 times as large", Cause.SCALE, times(3000), share=0.02, factor=3000),
    # sign
    on("balance", "opposite sign", Cause.SIGN, times(-1)),
    on("balance", "opposite sign", Cause.SIGN, times(-1), share=0.5),
    on("interest_rate", "opposite sign", Cause.SIGN, times(-1)),
    # frozen
    on("bureau_score", "always 650", Cause.CONSTANT, always(650)),
    on("purpose", "always 'car'", Cause.CONSTANT, always("car")),
    on("interest_rate", "the first value of 60 records", Cause.STALE, held(60)),
    # codes and columns
    on("homeowner", "true and false swapped", Cause.CODES, expr(lambda value: ~value)),
    on("education", "codes 2 and 4 swapped", Cause.CODES, renamed({2: 4, 4: 2})),
    on("education", "codes in reverse order", Cause.CODES, expr(lambda value: 6 - value)),
    Incident(
        "income and loan_amount swapped", ("income", "loan_amount"), Cause.COLUMNS, swapped("income", "loan_amount")
    ),
    Incident("age and hour swapped", ("age", "hour"), Cause.COLUMNS, swapped("age", "hour")),
    Incident("balance and income swapped", ("balance", "income"), Cause.COLUMNS, swapped("balance", "income")),
    # offset
    on("education", "one higher", Cause.OFFSET, plus(1)),
    on("age", "10 years older", Cause.OFFSET, plus(10)),
    on("age", "the year of birth", Cause.OFFSET, expr(lambda value: 2026 - value)),
    on("bureau_score", "50 lower", Cause.OFFSET, plus(-50)),
    # clipped, rounded, transformed
    on("income", "at most its 60 % quantile", Cause.CLIPPED, clipped(None, 0.6)),
    on("loan_amount", "saturated at its 90 % quantile", Cause.CLIPPED, clipped(None, 0.9)),
    on("bureau_score", "at least its 40 % quantile", Cause.CLIPPED, clipped(0.4, None)),
    on("income", "rounded to thousands", Cause.ROUNDED, expr(lambda value: (value / 1000).round() * 1000)),
    on("interest_rate", "rounded to whole per cent", Cause.ROUNDED, expr(lambda value: value.round(2))),
    on("income", "its logarithm", Cause.MONOTONE, expr(lambda value: value.log())),
    on("loan_amount", "its square root", Cause.MONOTONE, expr(lambda value: value.sqrt())),
    on(
        "bureau_score",
        "standardised twice",
        Cause.STANDARDISED,
        expr(lambda value: (value - value.mean()) / value.std()),
    ),
    # imputed
    on("income", "0", Cause.IMPUTED, always(0.0), share=0.3),
    on("income", "the mean", Cause.IMPUTED, filled("mean"), share=0.3),
    on("income", "−1", Cause.IMPUTED, always(-1.0), share=0.05),
    on("employment_years", "0", Cause.IMPUTED, always(0.0), share=0.05),
    on("interest_rate", "the mean", Cause.IMPUTED, filled("mean"), share=0.3),
    on("interest_rate", "the mean", Cause.CONSTANT, filled("mean")),
    on("bureau_score", "−1", Cause.CONSTANT, always(-1)),
    on("bureau_score", "0", Cause.IMPUTED, always(0), share=0.3),
    # missing
    on("income", "missing", Cause.MISSING, none, share=0.05),
    on("income", "missing", Cause.MISSING, none, share=0.3),
    on("income", "missing", Cause.MISSING, none),
    on("purpose", "missing", Cause.MISSING, none, share=0.3),
    on("bureau_score", "missing from brokers", Cause.MISSING, none, among=BROKER),
    # categories
    on("channel", "in upper case", Cause.CASE, expr(lambda value: value.str.to_uppercase())),
    on("purpose", "'Car' for 'car'", Cause.CASE, renamed({"car": "Car"})),
    on("purpose", "a leading blank", Cause.BLANK, expr(lambda value: " " + value), share=0.3),
    on("purpose", "a trailing blank", Cause.BLANK, expr(lambda value: value + " ")),
    on("purpose", "'furniture' and 'home' merged", Cause.MERGED, renamed({"furniture": "home"})),
    on("channel", "'broker' is now 'agent'", Cause.RENAMED, renamed({"broker": "agent"})),
    on("channel", "'app', never seen", Cause.NEW, always("app"), share=0.16),
    Incident(
        "channel: no 'broker' any more",
        ("channel",),
        Cause.VANISHED,
        mixed(lambda r: r["channel"] != "broker"),
        corrupts=False,
        mixes=True,
    ),
    # types
    on("income", "a string", Cause.NUMBER_AS_STRING, as_string),
    on("age", "a string", Cause.NUMBER_AS_STRING, as_string, share=0.3),
    on("interest_rate", "a decimal comma", Cause.DECIMAL_COMMA, comma),
    on("income", "a decimal comma", Cause.DECIMAL_COMMA, comma, share=0.3),
    # stale values, joins, noise
    on("bureau_score", "old values", Cause.STALE, aged(0.5)),
    on("income", "of another record", Cause.JOIN, shuffled),
    on("interest_rate", "of another record", Cause.JOIN, shuffled),
    on("interest_rate", "of another record", Cause.JOIN, shuffled, share=0.5),
    Incident(
        "all of the bureau's features: of another record",
        ("bureau_score", "interest_rate", "days_late"),
        Cause.JOIN,
        together("bureau_score", "interest_rate", "days_late"),
    ),
    on("loan_amount", "of the next record", Cause.JOIN, expr(lambda value: value.shift(1, fill_value=value.last()))),
    Incident(
        "loan_amount: correlation with income reversed", ("loan_amount",), Cause.JOIN, opposed("loan_amount", "income")
    ),
    on("balance", "noise of 1 sd", Cause.NOISE, noisy(1.0)),
    on("bureau_score", "noise of 0.5 sd", Cause.NOISE, noisy(0.5)),
    # time
    on("hour", "another time zone (+5 h)", Cause.TIME, expr(lambda value: (value + 5) % 24)),
    on("hour", "daylight saving time (+1 h)", Cause.TIME, expr(lambda value: (value + 1) % 24)),
    on("hour", "of 12 hours", Cause.TIME, expr(lambda value: value % 12)),
    # population
    on("income", "0.1 sd higher", Cause.POPULATION, moved(0.1), corrupts=False),
    on("income", "0.5 sd higher", Cause.POPULATION, moved(0.5), corrupts=False),
    on("income", "1 sd lower", Cause.POPULATION, moved(-1), corrupts=False),
    on("income", "1 sd higher, brokers only", Cause.POPULATION, moved(1), among=BROKER, corrupts=False),
    Incident(
        "younger applicants",
        ("age", "employment_years", "homeowner"),
        Cause.POPULATION,
        mixed(lambda r: (-(r["age"] - 38) / 10 * 0.7).exp()),
        corrupts=False,
        mixes=True,
    ),
    Incident(
        "channel: 3 times as many brokers",
        ("channel",),
        Cause.POPULATION,
        mixed(lambda r: 1 + 3 * (r["channel"] == "broker").cast(pl.Int64)),
        corrupts=False,
        mixes=True,
    ),
    # a subgroup of 6 %
    on("bureau_score", "0 for education", Cause.IMPUTED, always(0), among=pl.col("purpose") == "education"),
    # the model
    Incident("model: trained again", (), Cause.MODEL, model=lambda _: trained(5, "second")),
    Incident(
        "model: other for 6 % of the inputs", (), Cause.MODEL, model=lambda m: m.with_points("purpose", "education", 2)
    ),
    Incident("model: ignores bureau_score", (), Cause.MODEL, model=lambda m: m.without("bureau_score")),
    # the reference
    Incident(
        "reference of a recession",
        ("income", "balance"),
        Cause.POPULATION,
        reference=then(on_feature("income", moved(-0.6)), on_feature("balance", plus(-600))),
        corrupts=False,
    ),
    Incident(
        "reference of the evenings",
        ("hour",),
        Cause.POPULATION,
        reference=mixed(lambda r: 0.1 + (r["hour"] >= 17).cast(pl.Int64)),
        corrupts=False,
        mixes=True,
    ),
)
"""Incidents in the credit portfolio."""


def lagged(*features: str) -> Change:
    """Return columns that are one record late."""
    return lambda records, _: records.with_columns(
        pl.col(name).shift(1, fill_value=records[name][-1]) for name in features
    )


FOREIGN = {"furniture": "möbel", "car": "voiture équipée"}


def respelled(spelling: Callable[[str], str]) -> Change:
    """Return purposes with letters outside ASCII, in another spelling."""
    return on_feature(
        "purpose",
        lambda values, _: pl.Series([spelling(FOREIGN.get(name, name)) for name in values.to_list()], dtype=pl.String),
    )


LATER: tuple[Incident, ...] = (
    Incident(
        "all features: missing in 20% of the records",
        FEATURES,
        Cause.MISSING,
        lambda records, _: records.with_columns(pl.when(pl.int_range(pl.len()) % 5 > 0).then(pl.col(FEATURES))),
    ),
    Incident(
        "bureau_score and days_late: of the previous record",
        ("bureau_score", "days_late"),
        Cause.JOIN,
        lagged("bureau_score", "days_late"),
    ),
    on("employment_years", "whole years by integer division", Cause.ROUNDED, expr(lambda value: value.floor())),
    on("loan_amount", "cut to whole thousands", Cause.ROUNDED, expr(lambda value: (value / 1000).floor() * 1000)),
    on("loan_amount", "rounded to multiples of 500", Cause.ROUNDED, expr(lambda value: (value / 500).round() * 500)),
    on("interest_rate", "0 by integer division", Cause.CONSTANT, expr(lambda value: value.floor())),
    on("interest_rate", "divided by 100", Cause.SCALE, times(0.01), share=0.4, factor=0.01),
    on("income", "in another currency (×7.8)", Cause.SCALE, times(7.8), share=0.2, factor=7.8),
    on("income", "quarterly (×3)", Cause.SCALE, times(3), share=0.5, factor=3),
    on("loan_amount", "in another currency (×0.92)", Cause.SCALE, times(0.92), factor=0.92),
    on("distance_km", "in metres", Cause.SCALE, expr(lambda value: (value * 1000).round()), factor=1000),
    on("interest_rate", "monthly", Cause.SCALE, times(1 / 12), factor=1 / 12),
    on("hour", "minutes of the day", Cause.SCALE, times(60), factor=60),
    on("age", "in months", Cause.SCALE, times(12), factor=12),
    on("age", "56, from a birth in 1970", Cause.IMPUTED, always(56), share=0.2),
    on("bureau_score", "999", Cause.IMPUTED, always(999), share=0.08),
    on("age", "0", Cause.IMPUTED, always(0), share=0.15),
    on("education", "one lower", Cause.OFFSET, plus(-1)),
    on("education", "codes 4 and 5 merged", Cause.MERGED, renamed({5: 4})),
    on(
        "income",
        "a string with thousands separators",
        Cause.NUMBER_AS_STRING,
        lambda values, _: pl.Series([None if value is None else f"{value:,.2f}" for value in values]),
    ),
    on("balance", "NA", Cause.NUMBER_AS_STRING, lambda values, _: pl.Series(["NA"] * len(values)), share=0.05),
    on("homeowner", "0 and 1", Cause.NUMBER_AS_STRING, expr(lambda value: value.cast(pl.Int64))),
    on("purpose", "a non-breaking space", Cause.BLANK, expr(lambda value: value + "\u00a0")),
    on("purpose", "a zero-width space", Cause.BLANK, expr(lambda value: value + "\u200b")),
    on("purpose", "in quotes", Cause.BLANK, expr(lambda value: '"' + value + '"')),
    on("purpose", "cut to 4 letters", Cause.RENAMED, expr(lambda value: value.str.slice(0, 4))),
    on("channel", "with a version, such as web-2", Cause.RENAMED, expr(lambda value: value + "-2")),
    Incident(
        "purpose: decomposed Unicode",
        ("purpose",),
        Cause.CASE,
        respelled(lambda name: unicodedata.normalize("NFD", name)),
        reference=respelled(str),
    ),
    Incident(
        "purpose: UTF-8 read as Latin-1",
        ("purpose",),
        Cause.CASE,
        respelled(lambda name: name.encode().decode("latin-1")),
        reference=respelled(str),
    ),
    on("balance", "without its sign", Cause.SIGN, expr(lambda value: value.abs())),
    on("bureau_score", "in reverse (1150 − score)", Cause.SIGN, expr(lambda value: 1150 - value)),
    on("interest_rate", "the complement (1 − rate)", Cause.SIGN, expr(lambda value: 1 - value)),
    on("bureau_score", "stored in 8 bits", Cause.ROUNDED, expr(lambda value: value % 256)),
    on("age", "its last digit", Cause.ROUNDED, expr(lambda value: value % 10)),
    on("days_late", "the logarithm of 1 plus", Cause.MONOTONE, expr(lambda value: value.log1p())),
    on("days_late", "at most 9", Cause.CLIPPED, expr(lambda value: value.clip(None, 9))),
    on("balance", "of the previous record", Cause.JOIN, expr(lambda value: value.shift(1, fill_value=value.last()))),
    on("balance", "of another record", Cause.JOIN, shuffled, share=0.3),
    on("homeowner", "of another record", Cause.JOIN, shuffled),
    on("employment_years", "old values", Cause.STALE, aged(0.7)),
    on("hour", "UTC (+5 h)", Cause.TIME, expr(lambda value: (value + 5) % 24), share=0.5),
    on("hour", "8 h earlier", Cause.TIME, expr(lambda value: (value - 8) % 24)),
)
"""Further incidents in the credit portfolio. Causes and limits were improved after their first run, too."""

NOTEBOOK: tuple[Incident, ...] = (
    on("Country", "one lower for code 38, as in the notebook's files", Cause.OFFSET, renamed({38.0: 37.0})),
    on("Education-Num", "always 10", Cause.CONSTANT, always(10.0)),
    on("Education-Num", "100 times as large", Cause.SCALE, times(100), share=0.05, factor=100),
    on("Education-Num", "of another record", Cause.JOIN, shuffled),
    on("Hours per week", "per tenth of a week", Cause.SCALE, times(0.1), factor=0.1),
    on("Hours per week", "−1", Cause.IMPUTED, always(-1.0), share=0.3),
    on("Sex", "codes 0 and 1 swapped", Cause.CODES, expr(lambda value: 1 - value)),
    on("Marital Status", "codes 2 and 4 swapped", Cause.CODES, renamed({2.0: 4.0, 4.0: 2.0})),
    on("Capital Gain", "always 0", Cause.CONSTANT, always(0.0)),
    on("Capital Gain", "100 times as large", Cause.SCALE, times(100), factor=100),
    on("fnlwgt", "in thousands", Cause.SCALE, times(1 / 1000), factor=1 / 1000),
    on("Age", "10 years older", Cause.OFFSET, plus(10)),
    on("Relationship", "one higher", Cause.OFFSET, plus(1)),
    Incident(
        "Age and Hours per week swapped", ("Age", "Hours per week"), Cause.COLUMNS, swapped("Age", "Hours per week")
    ),
)
"""Incidents in the notebook's data, whose model is linear in log-odds and extrapolates."""


Pick = Callable[[Records, NDArray[np.intp], int, Rng], NDArray[np.intp]]
"""Draws a window: the indices of its records among all that are free, which are not in the reference."""


def at_random(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:  # noqa: ARG001
    """Draw different records."""
    return rng.choice(free, rows, replace=False)


def looped(different: int) -> Pick:
    """Return a draw of few different records, which are repeated in a loop."""
    return lambda _, free, rows, rng: np.resize(rng.choice(free, different, replace=False), rows)


def resent(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:  # noqa: ARG001
    """Draw the same records for all windows of a reference."""
    return free[:: max(1, len(free) // rows)][:rows]


def skewed(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:
    """Draw records, most of them a few frequent ones, by Zipf's law."""
    places = np.minimum(rng.zipf(1.6, rows), rows) - 1
    picked: NDArray[np.intp] = at_random(records, free, rows, rng)[places]
    return picked


def customers(count: int) -> Pick:
    """Return a draw of all requests of a few customers."""

    def pick(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:
        owner_N = records["customer"].to_numpy()[free]
        chosen = rng.choice(np.unique(owner_N), count, replace=False)
        picked: NDArray[np.intp] = free[np.isin(owner_N, chosen)][:rows]
        return picked

    return pick


def visits(count: int, requests: int) -> Pick:
    """Return a draw of some requests of each of many customers."""

    def pick(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:
        shuffled = rng.permutation(customers(count)(records, free, len(free), rng))
        order = np.argsort(records["customer"].to_numpy()[shuffled], kind="stable")
        owner_N = records["customer"].to_numpy()[shuffled[order]]
        place_N = np.arange(len(order)) - np.searchsorted(owner_N, owner_N)
        picked: NDArray[np.intp] = shuffled[order[place_N < requests]][:rows]
        return picked

    return pick


def hourly(period: int) -> Pick:
    """Return a draw of records of one random hour of the day or week."""

    def pick(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:
        hour_N = records["time"].to_numpy()[free] % period
        here = free[hour_N == rng.choice(hour_N)]
        return rng.choice(here, min(rows, len(here)), replace=False)

    return pick


def wobbling(records: Records, free: NDArray[np.intp], rows: int, rng: Rng) -> NDArray[np.intp]:
    """Draw records of a mix that wobbles between windows: the mean balance by 0.05 standard deviations."""
    balance_N = records["balance"].to_numpy()[free]
    weight_N = np.exp(rng.normal() * 0.05 * (balance_N - balance_N.mean()) / balance_N.std())
    return rng.choice(free, rows, replace=False, p=weight_N / weight_N.sum())


@dataclass(frozen=True)
class Situation:
    """A situation without drift.

    Attributes:
        world: name of the population.
        rows: records of a window.
        pick: draw of a window.
        reference_rows: records of the reference, drawn at random.
        captured: records of three weeks from which the reference is made, with their times; 0 for a reference without.
        shared: number of consecutive windows with the same reference.
        settings: settings of `drift` that differ from their defaults.
    """

    name: str
    world: str = "credit"
    rows: int = 300
    pick: Pick = at_random
    reference_rows: int = 1000
    captured: int = 0
    shared: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)


BY_CUSTOMER = {"unit": "coalesce(income, 0) || '-' || coalesce(balance, 0)"}
"""Customers have their own income and balance."""
TWO_OF_THREE = {"datapoints_to_alert": 2, "evaluation_period": 3}
SITUATIONS: tuple[Situation, ...] = (
    *(Situation(f"windows of {rows:,}", rows=rows) for rows in (10, 30, 100, 300, 1000)),
    Situation("windows of 10,000", "large", rows=10_000),
    Situation("windows of 100,000", "large", rows=100_000),
    Situation("reference of 10,000", reference_rows=10_000),
    Situation("notebook's data", "notebook", reference_rows=666),
    Situation("334 records in a loop", rows=334 * 11, pick=looped(334)),
    Situation("notebook's 334 records in a loop", "notebook", rows=334 * 11, pick=looped(334), reference_rows=666),
    Situation("the same 300 records in each window", pick=resent, shared=10),
    Situation("repeats by Zipf's law", rows=1000, pick=skewed),
    Situation("10 customers with 30 requests each", "clusters", pick=customers(10), settings=BY_CUSTOMER),
    Situation("100 customers with 30 requests each", "clusters", rows=3000, pick=customers(100), settings=BY_CUSTOMER),
    Situation("500 customers with 6 requests each", "clusters", rows=3000, pick=visits(500, 6), settings=BY_CUSTOMER),
    Situation("daily cycle of 1 sd", "daily", pick=hourly(24), captured=50_000, shared=10),
    Situation("weekly cycle of 1 sd", "weekly", pick=hourly(168), captured=50_000, shared=10),
    Situation("daily cycle of 1 sd, 10 records an hour", "daily", rows=60, pick=hourly(24), captured=5040, shared=10),
    Situation("training records of an overfitted model as reference", "overfitted", shared=10),
    Situation("heavy ties", "ties"),
    Situation("heavy tails, half of a feature missing", "heavy"),
    Situation("300 features", "wide"),
    Situation("shared reference, 300", shared=10),
    Situation("shared reference, 10,000", "large", rows=10_000, shared=10),
    Situation("shared reference, 2 of 3, 300", shared=10, settings=TWO_OF_THREE),
    Situation("shared reference, 2 of 3, 3,000", rows=3000, shared=10, settings=TWO_OF_THREE),
    Situation(
        "shared reference, 2 of 3, wobble of 0.05 sd", rows=3000, pick=wobbling, shared=10, settings=TWO_OF_THREE
    ),
)
"""Situations without drift, which a monitor meets."""
CYCLES = ("daily cycle of 1 sd", "weekly cycle of 1 sd")
