"""Other monitoring libraries, by their defaults: evidently, nannyml and alibi-detect.

This program runs in an environment of their own, because they need older versions of what shapwatch needs. It imports
nothing of shapwatch. It reads one JSON object per line, the columns of the reference and of the live records, and
writes one per line: by library, whether it sees drift, or null if it fails. The first line has the versions.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import numpy as np
import pandas as pd

Frame = Any
MOST_SAME = 0.05
"""Default significance level of evidently and alibi-detect."""


def main() -> None:
    """Answer the lines of standard input until its end."""
    output, sys.stdout = sys.stdout, sys.stderr
    warnings.simplefilter("ignore")
    found = dict(libraries())
    print(json.dumps({name: metadata.version(name) for name in found}), file=output, flush=True)
    for line in sys.stdin:
        window = json.loads(line)
        before, now = (frame(window[side]) for side in ("before", "now"))
        print(json.dumps({name: answer(sees, before, now) for name, sees in found.items()}), file=output, flush=True)


def answer(sees: Callable[[Frame, Frame], bool], before: Frame, now: Frame) -> bool | None:
    """Return whether a library sees drift; None if it fails."""
    try:
        return bool(sees(before.copy(), now.copy()))
    except Exception as error:  # noqa: BLE001  a library may raise anything on a changed type
        print(f"{sees.__name__}: {error!r}"[:200], file=sys.stderr)
        return None


def frame(columns: dict[str, list[Any]]) -> Frame:
    """Return a data frame; booleans become strings, because the libraries differ in their treatment."""
    table = pd.DataFrame(columns)
    return table.astype({name: str for name in table if table[name].dtype == bool})


def libraries() -> Iterator[tuple[str, Callable[[Frame, Frame], bool]]]:
    """Yield the libraries that can be imported."""
    for name, load in (("evidently", evidently), ("nannyml", nannyml), ("alibi-detect", alibi)):
        try:
            yield name, load()
        except Exception as error:  # noqa: BLE001  an import of an incompatible version may raise anything
            print(f"{name} is skipped: {error!r}"[:200], file=sys.stderr)


def evidently() -> Callable[[Frame, Frame], bool]:
    """Return the preset for data drift: any column with drift; its own limit of half of the columns sees much less."""
    os.environ["DO_NOT_TRACK"] = "1"
    from evidently import Report
    from evidently.presets import DataDriftPreset

    def evidently_sees(before: Frame, now: Frame) -> bool:
        metrics = Report([DataDriftPreset()]).run(now, before).dict()["metrics"]
        return any(bool(each["value"]["count"]) for each in metrics if "DriftedColumnsCount" in each["metric_name"])

    return evidently_sees


def nannyml() -> Callable[[Frame, Frame], bool]:
    """Return the univariate calculator, with one chunk of the live records: an alert of any column."""
    os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
    import nannyml as nml

    def nannyml_sees(before: Frame, now: Frame) -> bool:
        calculator = nml.UnivariateDriftCalculator(column_names=list(before.columns), chunk_size=len(now))
        result = calculator.fit(before).calculate(now).filter(period="analysis").to_df()
        alerts = [column for column in result.columns if column[-1] == "alert"]
        return bool(result[alerts].to_numpy().any())

    return nannyml_sees


def alibi() -> Callable[[Frame, Frame], bool]:
    """Return the test of tabular data: Kolmogorov-Smirnov and χ² with Bonferroni's correction.

    It needs numbers. Missing numbers become the median of the reference, and categories become codes.
    """
    from alibi_detect.cd import TabularDrift

    def alibi_sees(before: Frame, now: Frame) -> bool:
        categories: dict[int, list[int] | None] = {}
        columns = []
        for d, name in enumerate(before.columns):
            pooled = pd.concat([before[name], now[name]], ignore_index=True)
            if all(pd.api.types.is_numeric_dtype(side[name]) for side in (before, now)):
                columns.append(pooled.fillna(before[name].median()).to_numpy())
            else:
                codes = pooled.astype(str).astype("category").cat.codes.to_numpy()
                categories[d] = sorted(set(codes.tolist()))
                columns.append(codes)
        x_KD = np.column_stack(columns).astype(np.float64)
        detector = TabularDrift(x_KD[: len(before)], p_val=MOST_SAME, categories_per_feature=categories or None)
        return bool(detector.predict(x_KD[len(before) :])["data"]["is_drift"])

    return alibi_sees


if __name__ == "__main__":
    main()
