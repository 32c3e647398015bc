"""Populations of records with their models: the credit portfolio in several forms, and the notebook's data.

Array letters: N records, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import polars as pl

from benchmarks.cases import untracked
from benchmarks.credit import FEATURES, WEEKS, applications, risk, scorecard, sigmoid, trained
from benchmarks.notebook import BACKGROUND, ENGINE, MODEL, NAMES, pooled
from runner.domain.attributions import Explained
from runner.explain.estimator import Estimator
from runner.explain.explainers.linear import LinearExplainer
from runner.explain.task import Aggregation
from runner.models.linear import LinearModel
from runner.models.linear_learner import LinearLearner
from runner.protocols import Model

ESTIMATOR = Estimator(
    explainer=LinearExplainer(),
    agg_method=Aggregation.MEAN_ABS,
    groups={},
    use_logit=False,
    max_batch_rows=1_000_000,
    engine=ENGINE,
)
HOURS = 168 * WEEKS
"""Hours of the period of the reference; windows follow it."""
CUSTOMERS, REQUESTS = 1500, 30
WIDE = 300


@dataclass(frozen=True)
class World:
    """A population and the model that scores it.

    Attributes:
        records: features, and the columns `customer` and `time`.
        training: number of records, from the first, that the model was trained on and that references are drawn from.
        use_logit: whether log-odds are explained, not probabilities.
    """

    records: pl.DataFrame
    model: Any
    background: pl.DataFrame
    training: int = 0
    use_logit: bool = False

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the model's features."""
        return tuple(self.background.columns)

    @cached_property
    def explained(self) -> Explained:
        """All records with their attributions."""
        return self.explain(self.records)

    def explain(self, records: pl.DataFrame, model: Model | None = None) -> Explained:
        """Return records with their attributions by this model or another version of it."""
        features = records.select(self.features)
        background = self.background.cast(features.schema, strict=False)
        estimator = replace(ESTIMATOR, use_logit=self.use_logit)
        attributions = estimator.explain(model or self.model, features, background, untracked)
        return Explained(features, attributions)


def middle(records: pl.DataFrame) -> pl.DataFrame:
    """Return a background row: the median of numbers, the most frequent category."""
    named = [name for name, kind in records.schema.items() if not kind.is_numeric()]
    medians = [pl.col(name).median().cast(kind) for name, kind in records.schema.items() if name not in named]
    modes = [pl.col(name).drop_nulls().mode().sort().first() for name in named]
    return records.select(*medians, *modes).select(records.columns)


def credit(rows: int = 20_000) -> World:
    """Return the credit portfolio."""
    return _credit(applications(rows, np.random.default_rng(3)))


def _credit(records: pl.DataFrame) -> World:
    return World(records, trained(0), middle(records[:5000].select(FEATURES)))


def clusters() -> World:
    """Return customers with many requests each, which differ only in amount, distance, delay and hour."""
    rng = np.random.default_rng(4)
    customers = applications(CUSTOMERS, rng)[np.repeat(np.arange(CUSTOMERS), REQUESTS)]
    fresh = applications(len(customers), rng).select("distance_km", "days_late", "hour", "time")
    amounts = (customers["loan_amount"] * rng.choice([0.8, 0.9, 1, 1.1, 1.2], len(customers))).round(0)
    return _credit(customers.with_columns(*fresh, amounts))


def cycle(period: int) -> World:
    """Return a population whose income and balance swing by one standard deviation, daily or weekly (in hours)."""
    records = applications(100_000, np.random.default_rng(5))
    swing = (pl.col("time") % period * (2 * np.pi / period)).sin()
    higher = (pl.col("income") * (0.45 * swing).exp()).round(2), (pl.col("balance") + 1400 * swing).round(2)
    return _credit(records.with_columns(*higher))


def overfitted(number: int) -> World:
    """Return a portfolio whose model has learnt its 1,000 training records by heart."""
    rng = np.random.default_rng([6, number])
    records = applications(6000, rng)
    training = records[:1000].select(FEATURES)
    model = scorecard(training, rng.random(1000) < sigmoid(risk(records[:1000])), iterations=400, leaf=1)
    return World(records, model, middle(training), training=1000, use_logit=True)


def ties() -> World:
    """Return a portfolio whose numbers have at most five different values, most of them the same."""
    records = applications(20_000, np.random.default_rng(7))
    few = [
        ((pl.col(name) - pl.col(name).mean()) / pl.col(name).std() / 1.6).round().fill_null(0).clip(-2, 2).alias(name)
        for name in ("income", "balance", "interest_rate", "bureau_score", "loan_amount", "age", "employment_years")
    ]
    records = records.with_columns(*few)
    defaults_N = np.random.default_rng(8).random(4000) < sigmoid(-0.6 * records["income"][:4000].to_numpy() - 1)
    return World(records, scorecard(records[:4000].select(FEATURES), defaults_N), middle(records.select(FEATURES)))


def heavy() -> World:
    """Return a portfolio whose balances and incomes have tails of a Pareto distribution, and many missing values."""
    rng = np.random.default_rng(9)
    records = applications(20_000, rng)
    tails = [pl.col(name) * pl.Series(1 + rng.pareto(1.5, records.height)).round(3) for name in ("income", "balance")]
    sparse = pl.when(pl.Series(rng.random(records.height) < 0.5)).then(pl.col("employment_years"))
    return _credit(records.with_columns(*tails, sparse.alias("employment_years")))


def wide() -> World:
    """Return 300 independent features and a logistic model."""
    rng = np.random.default_rng(10)
    names = [f"f{d}" for d in range(WIDE)]
    records = pl.DataFrame(rng.normal(size=(3000, WIDE)), schema=names)
    coefficients: dict[str, tuple[float, ...] | dict[str, tuple[float, ...]]] = {
        name: (float(size),) for name, size in zip(names, rng.normal(size=WIDE) / 10, strict=True)
    }
    model = LinearModel(
        kind="linear",
        link="logistic",
        intercept=(0.0,),
        coefficients=coefficients,
        label_headers=None,
        deploy=None,
    )
    return World(_with_events(records), model, pl.DataFrame({name: [0.0] for name in names}))


def notebook() -> World:
    """Return the notebook's records and model; the files must be in ADULT_DIR."""
    records = pl.DataFrame(pooled(), schema=NAMES)
    model = LinearLearner(kind="linear_learner", artifact=MODEL, label_headers=None, deploy=None)
    background = [pl.Series(n, [float(v)]) for n, v in zip(NAMES, BACKGROUND, strict=True)]
    return World(_with_events(records), model, pl.DataFrame(background))


def _with_events(records: pl.DataFrame) -> pl.DataFrame:
    index = np.arange(records.height)
    return records.with_columns(pl.Series("customer", index), pl.Series("time", index % HOURS))


WORLDS: Mapping[str, Callable[[int], World]] = {
    "credit": lambda _: credit(),
    "large": lambda _: credit(400_000),
    "clusters": lambda _: clusters(),
    "daily": lambda _: cycle(24),
    "weekly": lambda _: cycle(168),
    "overfitted": overfitted,
    "ties": lambda _: ties(),
    "heavy": lambda _: heavy(),
    "wide": lambda _: wide(),
    "notebook": lambda _: notebook(),
}


@lru_cache(maxsize=4)
def world(name: str, number: int = 0) -> World:
    """Return a population by its name; only some differ by number."""
    return WORLDS[name](number)
