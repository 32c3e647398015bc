"""The reference: the analysis written by stage=baseline, with a sample of explained records, for drift detection.

Array letters: N records, D features, L labels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl

from runner.domain.attributions import Attributions, Explained, GlobalAttributions
from runner.domain.executions import HOUR
from runner.drift.policy import DriftPolicy
from runner.drift.seasons import cycle, stratified
from runner.drift.units import EPOCH, one_per_unit
from runner.errors import MissingInput, UnusableReference, snippet
from runner.explain import background as backgrounds
from runner.results import directory
from runner.results.directory import ANALYSIS, MANIFEST, REFERENCE_SAMPLE
from runner.results.documents import LARGEST, load_analysis, sha256
from runner.results.manifest import Explanation
from runner.results.manifest_file import load_manifest

MAX_SAMPLE_ROWS = 100_000
"""Maximum number of records of a sample, the upper bound of drift.reference_rows."""
EVENTS: Mapping[str, pl.DataType] = {
    "at": pl.Datetime("us", "UTC"),
    "event": pl.UInt32(),
    "period": pl.UInt16(),
    "weight": pl.Float64(),
}
"""Columns of `Explained.events` and their types; samples of datasets, and of earlier versions, have none of them."""
MOST_VALUES = 4_000_000
"""Maximum number of values in a sample of more than `FEWEST_ROWS` records: 32 MB."""
FEWEST_ROWS = 1_000
"""Number of records that are stored also if they have more values."""
UNITS = ("agg_method", "use_logit", "quantity", "groups")
"""Estimator settings that change the meaning of attributions; the others change only their noise."""


@dataclass(frozen=True)
class Reference:
    """Attributions with which live attributions are compared, and their origin.

    Attributes:
        path: the path of the analysis.json.
        attributions: the content of the analysis.json.
        digest: the SHA-256 of the analysis.json.
        origin: the origin of the attributions; None for a bare analysis.json, for example one of
            SageMaker Clarify.
        sample: the stored sample of explained records, None if there is none.
    """

    path: Path
    attributions: GlobalAttributions
    digest: str
    origin: Explanation | None
    sample: Explained | None

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Return the reference in a baselining directory, or a bare analysis.json.

        All files are of the same version, also if a baselining replaces the directory meanwhile.

        Raises:
            MissingInput: if the file does not exist.
            UnusableReference: if the file, its manifest or its sample cannot be read.
            OSError: if a file cannot be opened.
        """
        file = path if path.suffix == ".json" else path / ANALYSIS
        with directory.opened(file.parent, (file.name, MANIFEST, REFERENCE_SAMPLE)) as files:
            if file.name not in files:
                remedy = "run stage=baseline first, or set the path of an analysis.json"
                raise MissingInput("the reference", str(file), "monitor.reference", remedy)
            data = files[file.name].read()
            try:
                origin = _origin(files.get(MANIFEST), data)
                attributions = load_analysis(data, str(file))
                sample = None if origin is None else _sample(files.get(REFERENCE_SAMPLE), origin, attributions)
            except ValueError as error:
                remedy = "re-run stage=baseline, or remove the manifest to use the analysis alone"
                raise UnusableReference(file, f"{error}; {remedy}") from error
        return cls(file, attributions, sha256(data), origin, sample)

    def background(self) -> pl.DataFrame:
        """Return the background rows with which the reference was computed.

        Raises:
            UnusableReference: if the reference has no manifest.
        """
        if self.origin is None:
            raise UnusableReference(
                self.path, "contains no SHAP baseline; set shap.baseline to the rows that it was computed with"
            )
        return backgrounds.given(self.origin.background.rows, self.origin.background.names)

    def model_changed(self, identity: str | None) -> bool | None:
        """Return whether the model differs from the one of the reference, or None if that is unknown."""
        reference = None if self.origin is None else self.origin.hashes.get("model")
        return None if None in {reference, identity} else bool(reference != identity)

    def differing_settings(self, settings: Mapping[str, object]) -> list[str]:
        """Return the names of estimator settings that differ from the reference; empty if its settings are unknown."""
        reference = {} if self.origin is None else self.origin.estimator
        return [key for key in {**reference, **settings} if reference and reference.get(key) != settings.get(key)]

    def check_comparable(self, settings: Mapping[str, object], background: pl.DataFrame) -> list[str]:
        """Return notes on estimator settings that differ from the reference and change only the estimation noise.

        Raises:
            UnusableReference: if a difference makes the attributions incomparable.
        """
        if self.origin is None:
            return ["the reference is a bare analysis.json; the settings of its estimator are unknown"]
        if self.origin.hashes.get("background") != backgrounds.identity(background):
            raise UnusableReference(
                self.path, "was computed with a different shap.baseline; re-run stage=baseline, or use the same rows"
            )
        reference, names = self.origin.estimator, self.differing_settings(settings)
        problems = [
            f"shap.{name} was {snippet(reference.get(name))}, is now {snippet(settings.get(name))}" for name in names
        ]
        if any(name in UNITS for name in names):
            problem = f"{'; '.join(problems)}; re-run stage=baseline, or use the same settings"
            raise UnusableReference(self.path, problem)
        return [f"the estimation noise of the reference and the live analysis differs: {each}" for each in problems]


def _sample(file: IO[bytes] | None, origin: Explanation, attributions: GlobalAttributions) -> Explained | None:
    """Return the reference sample, or None if the manifest lists none.

    Raises:
        ValueError: if the file does not match the manifest.
    """
    digest = origin.hashes.get(REFERENCE_SAMPLE)
    if digest is None:
        return None
    data = file.read() if file else b""
    if sha256(data) != digest:
        raise ValueError(f"{REFERENCE_SAMPLE} does not match the hash in manifest.json")
    return from_parquet(data, origin.background.names, attributions.names, attributions.labels)


def _origin(file: IO[bytes] | None, analysis: bytes) -> Explanation | None:
    """Return the origin of an analysis.json from the manifest next to it, or None if no manifest describes it.

    Raises:
        ValueError: if the manifest is damaged or describes a different analysis.
    """
    manifest = load_manifest(file.read()) if file else None
    if manifest is None or manifest.explanation is None:
        return None
    if manifest.explanation.hashes.get(ANALYSIS) != sha256(analysis):
        raise ValueError(f"{ANALYSIS} does not match the hash in {MANIFEST}")
    return manifest.explanation


def draw_sample(dataset: Explained, rows: int, seed: int) -> Explained:
    """Sample at most `rows` records uniformly without replacement; return all if there are not more.

    Of records with many values, fewer are drawn: see `MOST_VALUES`.
    """
    N, D, L = dataset.attributions.phi_NDL.shape
    rows = min(rows, max(FEWEST_ROWS, MOST_VALUES // (dataset.features.width + (D + 1) * L)))
    if rows >= N:
        return dataset
    return dataset.rows(np.sort(np.random.default_rng(seed).choice(N, rows, replace=False, shuffle=False)))


def stored_sample(explained: Explained, policy: DriftPolicy) -> Explained:
    """Return the records that a reference stores: one of each unit and hour, equally many of each hour of a cycle.

    Raises:
        SegmentError: if the expression in `drift.unit` is not valid.
    """
    explained = one_per_unit(explained, policy, EPOCH, HOUR)
    if policy.season == "auto" and (period := cycle(explained, policy.seed)):
        return stratified(explained, policy.reference_rows, period, policy.seed)
    return draw_sample(explained, policy.reference_rows, policy.seed)


def canaries(sample: Explained, rows: int) -> Explained:
    """Return the canary records: `rows` evenly spaced records of a sample, or all records if there are fewer."""
    N = sample.features.height
    return sample.rows(np.arange(min(rows, N)) * N // max(1, min(rows, N)))


def _rows(data: bytes) -> int:
    """Return the number of rows of a Parquet file, without reading them; few bytes may contain many equal rows."""
    rows: int = pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item()
    return rows


def to_parquet(sample: Explained) -> bytes:
    """Return records as a Parquet file: `feature0` …, `score0` …, `phi0.0` … by label and feature, and `event.at` …."""
    attributions = sample.attributions
    _, D, L = attributions.phi_NDL.shape
    columns = {f"feature{d}": column for d, column in enumerate(sample.features)}
    columns |= {f"score{i}": pl.Series(attributions.scores_NL[:, i]) for i in range(L)}
    columns |= {f"phi{i}.{d}": pl.Series(attributions.phi_NDL[:, d, i]) for i in range(L) for d in range(D)}
    if sample.events is not None:
        columns |= {f"event.{column.name}": column for column in sample.events}
    file = io.BytesIO()
    pl.DataFrame(columns).write_parquet(file)
    return file.getvalue()


def from_parquet(data: bytes, features: Sequence[str], names: tuple[str, ...], labels: tuple[str, ...]) -> Explained:
    """Return the records of a file that `to_parquet` wrote.

    Args:
        data: the bytes of the file.
        features: the names of the features, in the order of the file.
        names: the names of the features, or groups of features, that have attributions.
        labels: the names of the model outputs, in the order of the file.

    Raises:
        ValueError: if the file has another structure.
    """
    try:
        if not 0 < (rows := _rows(data)) <= MAX_SAMPLE_ROWS:
            raise ValueError(f"{REFERENCE_SAMPLE} has {rows:,} rows; expected 1 to {MAX_SAMPLE_ROWS:,}")
        table = pl.read_parquet(io.BytesIO(data))
        records = table.select(f"feature{d}" for d in range(len(features))).rename(
            {f"feature{d}": name for d, name in enumerate(features)}
        )
        phi = [table.select(f"phi{i}.{d}" for d in range(len(names))).to_numpy() for i in range(len(labels))]
        scores_NL = table.select(f"score{i}" for i in range(len(labels))).to_numpy().astype(np.float64)
        stored = [name for name in EVENTS if f"event.{name}" in table.columns]
        events = table.select(pl.col(f"event.{name}").cast(EVENTS[name]).alias(name) for name in stored)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{REFERENCE_SAMPLE} is not a reference sample ({error})") from error
    phi_NDL = np.stack(phi, axis=2).astype(np.float64)
    if "period" in stored and (events.select(pl.all().is_null().any()).row(0) != (False,) * len(stored)):
        raise ValueError(f"{REFERENCE_SAMPLE} contains a record without the time of its event")
    if not all(np.abs(values).max(initial=0) < LARGEST for values in (phi_NDL, scores_NL)):
        raise ValueError(f"{REFERENCE_SAMPLE} contains a score or an attribution that is no finite number")
    return Explained(
        records, Attributions(names, labels, phi_NDL, np.zeros(len(labels)), scores_NL, 0), events if stored else None
    )
