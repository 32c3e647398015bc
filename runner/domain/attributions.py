"""SHAP attributions, and what they are computed from.

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
"""The function from a sum of terms to a model output."""


def label_names(headers: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
    """Return the names of a model's outputs.

    >>> label_names(None, 2)
    ('label0', 'label1')
    """
    return headers or tuple(f"label{i}" for i in range(count))


@dataclass(frozen=True)
class Calls:
    """What goes over the wire to a model that is not in this process.

    Attributes:
        requests: invocations, each counted once however often it was tried.
        rows: the records in them.
        bytes: of their bodies.
        retries: tries beyond the first.
        fallbacks: batches the endpoint refused, that were sent again record by record.
    """

    requests: int = 0
    rows: int = 0
    bytes: int = 0
    retries: int = 0
    fallbacks: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(*(mine + more for mine, more in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Calls) -> Calls:
        return Calls(*(mine - less for mine, less in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Additive:
    """Outputs that add up: they are a link of a base and one term for each feature.

    Attributes:
        link: `logistic`: the outputs are probabilities, the sums log-odds; `identity`: the outputs are the sums.
        base_L: where each sum starts.
        terms_NDL: what each feature of each record adds.
    """

    link: Link
    base_L: NDArray[np.float64]
    terms_NDL: NDArray[np.float64]

    @property
    def sums_NL(self) -> NDArray[np.float64]:
        """The sums, added feature by feature."""
        sums_NL = 0 * self.terms_NDL[:, 0] + self.base_L
        for d in range(self.terms_NDL.shape[1]):
            sums_NL += self.terms_NDL[:, d]
        return sums_NL


@dataclass(frozen=True)
class Margin:
    """Games that add up: the value of a coalition is a link of an intercept and the slopes of its members.

    Attributes:
        intercept_NL: where each sum starts.
        slope_NPL: what each player adds.
        link: `logistic`: values are the probabilities of these log-odds; `identity`: they are the sums.
    """

    intercept_NL: NDArray[np.float64]
    slope_NPL: NDArray[np.float64]
    link: Link


@dataclass(frozen=True)
class Estimate:
    """What an explainer says about the records of a game.

    Attributes:
        phi_NPL: the attributions.
        variance_NPL: the squares of their standard errors, nan if unknown; None where they are exact.
    """

    phi_NPL: NDArray[np.float64]
    variance_NPL: NDArray[np.float64] | None


@dataclass(frozen=True)
class Errors:
    """How far attributions may be from the exact ones, as standard errors: 0 where they are exact, nan if unknown.

    Attributes:
        local_L: the root mean square of the standard errors of all local attributions of a label.
        global_DL: of the global attributions.
    """

    local_L: NDArray[np.float64]
    global_DL: NDArray[np.float64]


@dataclass(frozen=True)
class Attributions:
    """Local SHAP values; `phi_NDL.sum(1) + expected_L == scores_NL` holds for every record.

    Attributes:
        names: the D features.
        labels: the L model outputs.
        phi_NDL: attributions in the unit of the scores (probability, or log-odds with `use_logit`).
        expected_L: the model output on the background, averaged over its rows.
        scores_NL: the model outputs being explained.
        evaluations: rows that were sent to the model.
        error_NDL: the standard error of each attribution, 0 where it is exact; None for those read from a file.
        errors: of all of them together and of their summary; None for those read from a file.
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
        """The largest violation of efficiency, |Σφ + expected − score|: rounding only."""
        gaps_NL = abs(self.phi_NDL.sum(1) + self.expected_L - self.scores_NL)
        return float(gaps_NL.max(initial=0.0))


@dataclass(frozen=True)
class Explained:
    """Records and their local attributions, in the same order."""

    features: pl.DataFrame
    attributions: Attributions

    def rows(self, places: NDArray[np.intp]) -> Explained:
        """Return the records at some places."""
        some = replace(
            self.attributions,
            phi_NDL=self.attributions.phi_NDL[places],
            scores_NL=self.attributions.scores_NL[places],
            evaluations=0,
            error_NDL=None,
        )
        return Explained(self.features[places], some)


@dataclass(frozen=True)
class GlobalAttributions:
    """One value per feature and label: what an analysis.json carries."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    values_DL: NDArray[np.float64]
    expected_L: NDArray[np.float64]

    def values(self, label: str, names: tuple[str, ...]) -> NDArray[np.float64]:
        """Return the values_D of a label, the features in the order of `names`."""
        place = {name: d for d, name in enumerate(self.names)}
        return self.values_DL[[place[name] for name in names], self.labels.index(label)]
