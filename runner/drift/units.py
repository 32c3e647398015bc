"""What counts as one observation: a record, or an event with all of its records, which often are alike.

Array letter: M live records.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def one_of_each(events: pl.DataFrame, seed: int) -> NDArray[np.intp]:
    """Return the places of one record of each event, drawn, in ascending order.

    Args:
        events: a row for each record; the records of an event have equal ones.
        seed: draws.

    >>> one_of_each(pl.DataFrame({"line": [1, 1, 2, 3, 3]}), 0).tolist()
    [0, 2, 4]
    """
    event_M = events.select(pl.struct(pl.all()).rank("dense")).to_series().to_numpy()
    order_M = np.random.default_rng(seed).permutation(len(event_M))
    _, first = np.unique(event_M[order_M], return_index=True)
    places: NDArray[np.intp] = np.sort(order_M[first])
    return places
