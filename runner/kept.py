"""The records that baselining keeps, with their local attributions: what later windows are held against.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import polars as pl

from runner.domain import Attributions


@dataclass(frozen=True)
class Kept:
    """Some of the records of a dataset.

    Attributes:
        features: their inputs.
        attributions: their local attributions, in the same order.
    """

    features: pl.DataFrame
    attributions: Attributions

    @classmethod
    def draw(cls, features: pl.DataFrame, attributions: Attributions, rows: int, seed: int) -> Kept:
        """Return so many records, drawn without regard to what they hold; all where there are no more."""
        N = features.height
        kept_N = np.arange(N)
        if rows < N:
            kept_N = np.sort(np.random.default_rng(seed).choice(N, rows, replace=False, shuffle=False))
        some = Attributions(
            names=attributions.names,
            labels=attributions.labels,
            phi_NDL=attributions.phi_NDL[kept_N],
            expected_L=attributions.expected_L,
            scores_NL=attributions.scores_NL[kept_N],
            evaluations=0,
        )
        return cls(features[kept_N], some)

    def parquet(self) -> bytes:
        """Return them as a Parquet file: `feature0` …, `score0` …, and `phi0.0` … by label and feature."""
        _, D, L = self.attributions.phi_NDL.shape
        columns = {f"feature{d}": column for d, column in enumerate(self.features)}
        columns |= {f"score{i}": pl.Series(self.attributions.scores_NL[:, i]) for i in range(L)}
        columns |= {f"phi{i}.{d}": pl.Series(self.attributions.phi_NDL[:, d, i]) for i in range(L) for d in range(D)}
        file = io.BytesIO()
        pl.DataFrame(columns).write_parquet(file)
        return file.getvalue()

    @classmethod
    def read(cls, data: bytes, names: tuple[str, ...], labels: tuple[str, ...]) -> Kept:
        """Return what `parquet` wrote.

        Args:
            data: the file.
            names: of the features, in their order there.
            labels: of the model's outputs, in their order there.

        Raises:
            ValueError: when it is another file.
        """
        try:
            table = pl.read_parquet(io.BytesIO(data))
            features = table.select(f"feature{d}" for d in range(len(names))).rename(
                {f"feature{d}": name for d, name in enumerate(names)}
            )
            phi = [table.select(f"phi{i}.{d}" for d in range(len(names))).to_numpy() for i in range(len(labels))]
            scores_NL = table.select(f"score{i}" for i in range(len(labels))).to_numpy().astype(np.float64)
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"is no file of kept records ({error})") from error
        phi_NDL = np.stack(phi, axis=2).astype(np.float64)
        return cls(features, Attributions(names, labels, phi_NDL, np.zeros(len(labels)), scores_NL, 0))
