"""The records that baselining keeps, with their local attributions: what later windows are held against.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import polars as pl

from runner.domain.attributions import Attributions, Explained


def draw_sample(dataset: Explained, rows: int, seed: int) -> Explained:
    """Return so many records, drawn without regard to what they hold; all where there are no more."""
    N = dataset.features.height
    if rows >= N:
        return dataset
    return dataset.rows(np.sort(np.random.default_rng(seed).choice(N, rows, replace=False, shuffle=False)))


def canaries(kept: Explained, rows: int) -> Explained:
    """Return so many of the kept records, always the same, that are explained again each time; all of fewer."""
    N = kept.features.height
    return kept.rows(np.arange(min(rows, N)) * N // max(1, min(rows, N)))


def to_parquet(kept: Explained) -> bytes:
    """Return records as a Parquet file: `feature0` …, `score0` …, and `phi0.0` … by label and feature."""
    attributions = kept.attributions
    _, D, L = attributions.phi_NDL.shape
    columns = {f"feature{d}": column for d, column in enumerate(kept.features)}
    columns |= {f"score{i}": pl.Series(attributions.scores_NL[:, i]) for i in range(L)}
    columns |= {f"phi{i}.{d}": pl.Series(attributions.phi_NDL[:, d, i]) for i in range(L) for d in range(D)}
    file = io.BytesIO()
    pl.DataFrame(columns).write_parquet(file)
    return file.getvalue()


def from_parquet(data: bytes, features: Sequence[str], names: tuple[str, ...], labels: tuple[str, ...]) -> Explained:
    """Return what `parquet` wrote.

    Args:
        data: the file.
        features: their names, in their order there.
        names: of what has attributions: the features, or groups of them.
        labels: of the model's outputs, in their order there.

    Raises:
        ValueError: when it is another file.
    """
    try:
        table = pl.read_parquet(io.BytesIO(data))
        records = table.select(f"feature{d}" for d in range(len(features))).rename(
            {f"feature{d}": name for d, name in enumerate(features)}
        )
        phi = [table.select(f"phi{i}.{d}" for d in range(len(names))).to_numpy() for i in range(len(labels))]
        scores_NL = table.select(f"score{i}" for i in range(len(labels))).to_numpy().astype(np.float64)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"is no file of kept records ({error})") from error
    phi_NDL = np.stack(phi, axis=2).astype(np.float64)
    return Explained(records, Attributions(names, labels, phi_NDL, np.zeros(len(labels)), scores_NL, 0))
