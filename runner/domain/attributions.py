"""SHAP attributions, additive models and model calls.

Array letters: N records, D features, L labels (model outputs), P players.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray


Link = Literal["identity", "logistic"]
"""Function from a sum of terms to a model output."""


def label_names(headers: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """Return the names of a model's outputs.

    >>> label_names(None, 2)
    ('label0', 'label1')
    """
    return headers or tuple(f"label{i}" for i in range(count))


@dataclass(frozen=True)
class Calls:
    """Calls to a remote model.

    Attributes:
        requests: number of requests without retries.
        rows: number of records in the requests.
        bytes: total size of the request bodies in bytes.
        retries: number of retries.
        fallbacks: number of rejected batches that were sent again record by record.
    """

    requests: int = 0
    rows: int = 0
    bytes: int = 0
    retries: int = 0
    fallbacks: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(*(left + right for left, right in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Calls) -> Calls:
        return Calls(*(left - right for left, right in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Additive:
    """Outputs of an additive model: the link function of the sum of a base and one term per feature.

    Attributes:
        link: `identity` if the outputs are the sums; `logistic` if the sums are log-odds and the outputs probabilities.
        base_L: constant term of each output.
        terms_NDL: term of each feature of each record.
    """

    link: Link
    base_L: NDArray[np.float64]
    terms_NDL: NDArray[np.float64]

    @property
    def sums_NL(self) -> NDArray[np.float64]:
        """Sums of base and terms, added in the order of the features."""
        sums_NL = 0 * self.terms_NDL[:, 0] + self.base_L
        for d in range(self.terms_NDL.shape[1]):
            sums_NL += self.terms_NDL[:, d]
        return sums_NL


@dataclass(frozen=True)
class Margin:
    """Additive games: a coalition's value is the link function of the sum of an intercept and its players' terms.

    Attributes:
        intercept_NL: constant term of each game.
        slope_NPL: term of each player.
        link: `identity` if the values are the sums; `logistic` if the sums are log-odds and the values probabilities.
    """

    intercept_NL: NDArray[np.float64]
    slope_NPL: NDArray[np.float64]
    link: Link


@dataclass(frozen=True)
class Estimate:
    """Estimated Shapley values of games.

    Attributes:
        phi_NPL: Shapley values.
        variance_NPL: squared standard errors, NaN if unknown; None if the values are exact.
    """

    phi_NPL: NDArray[np.float64]
    variance_NPL: NDArray[np.float64] | None


@dataclass(frozen=True)
class Errors:
    """Standard errors of attributions: 0 if exact, NaN if unknown.

    Attributes:
        local_L: root mean square of the standard errors of a label's local attributions.
        global_DL: standard errors of the global attributions.
    """

    local_L: NDArray[np.float64]
    global_DL: NDArray[np.float64]


@dataclass(frozen=True)
class Attributions:
    """Local SHAP values; `phi_NDL.sum(1) + expected_L == scores_NL` holds for every record.

    Attributes:
        names: names of the D features or groups of features.
        labels: names of the L model outputs.
        phi_NDL: attributions in the unit of the scores (probability, or log-odds with `use_logit`).
        expected_L: mean model output over the background rows.
        scores_NL: explained model outputs.
        evaluations: number of rows sent to the model.
        error_NDL: standard error of each attribution, 0 if exact; None for attributions read from a file.
        errors: standard errors of all local and of the global attributions; None for attributions read from a file.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    phi_NDL: NDArray[np.float64]
    expected_L: NDArray[np.float64]
    scores_NL: NDArray[np.float64]
    evaluations: int
    error_NDL: NDArray[np.float64] | None = None
    errors: Errors | None = None

    @property
    def residual(self) -> float:
        """Largest violation of efficiency, |Σφ + expected − score|; only rounding causes it."""
        gaps_NL = abs(self.phi_NDL.sum(1) + self.expected_L - self.scores_NL)
        return float(gaps_NL.max(initial=0.0))


@dataclass(frozen=True)
class Explained:
    """Records and their local attributions, in the same order.

    Attributes:
        events: time of the event of each record (`at`, in UTC), and a number that the records of an event share
            (`event`); None for records that were not captured.
    """

    features: pl.DataFrame
    attributions: Attributions
    events: pl.DataFrame | None = None

    def rows(self, indices: NDArray[np.intp]) -> Explained:
        """Return the records at the given indices."""
        attributions = replace(
            self.attributions,
            phi_NDL=self.attributions.phi_NDL[indices],
            scores_NL=self.attributions.scores_NL[indices],
            evaluations=0,
            error_NDL=None,
        )
        events = None if self.events is None else self.events[indices]
        return Explained(self.features[indices], attributions, events)


@dataclass(frozen=True)
class GlobalAttributions:
    """One value per feature and label, as in analysis.json."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    values_DL: NDArray[np.float64]
    expected_L: NDArray[np.float64]

    def values(self, label: str, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the values_D of a label for the features in `names`, in that order."""
        index = {name: d for d, name in enumerate(self.names)}
        return self.values_DL[[index[name] for name in names], self.labels.index(label)]
