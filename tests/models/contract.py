"""How the contract suite makes models of a kind; each test module of a kind has one as `CONTRACT`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl


class ModelContract(NamedTuple):
    """The properties of a model kind, and its models for tests.

    Attributes:
        make: returns a model of one output, with its files in a folder; the numbers 1 and 2 make different models.
        features: features for the models.
        exact: whether scores are bit-identical in every batch.
        in_process: whether the model predicts in this process.
        library: the module of the optional library, None if the kind needs none.
    """

    make: Callable[[Path, int], Any]
    features: pl.DataFrame
    exact: bool = False
    in_process: bool = True
    library: str | None = None
