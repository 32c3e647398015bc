"""The reference: the analysis that the baselining stage wrote, against which drift is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from runner.domain.attributions import Explained, GlobalAttributions
from runner.errors import UnusableReference
from runner.explain import background as backgrounds
from runner.results import directories, reference_sample
from runner.results.directories import ANALYSIS, REFERENCE_SAMPLE
from runner.results.documents import read_analysis
from runner.storage import existing

UNITS = ("agg_method", "use_logit", "quantity", "groups")
"""Estimator settings that change what the numbers mean; the others change only their noise."""


@dataclass(frozen=True)
class Reference:
    """Attributions to compare with, and as much of their origin as is known.

    Attributes:
        path: the analysis.json.
        attributions: its content.
        digest: its SHA-256.
        origin: the manifest beside it, None for a bare analysis.json such as SageMaker Clarify's.
        kept: the records that were kept with it, None where there are none.
    """

    path: Path
    attributions: GlobalAttributions
    digest: str
    origin: Mapping[str, Any] | None
    sample: Explained | None

    @classmethod
    def read(cls, path: Path) -> Reference:
        """Return the reference in a baselining directory, or a bare analysis.json.

        Raises:
            MissingInput: when there is none.
            UnusableReference: when it cannot be read.
        """
        file = path if path.suffix == ".json" else path / ANALYSIS
        existing(str(file), "the reference", "monitor.reference", "run stage=baseline first, or give an analysis.json")
        data = file.read_bytes()
        digest = directories.sha256(data)
        try:
            origin = _origin(directories.read_manifest(file.parent), digest)
            attributions = read_analysis(data, str(file))
            records = None if origin is None else _kept(file.with_name(REFERENCE_SAMPLE), origin, attributions)
        except ValueError as error:
            remedy = "run stage=baseline again, or remove the manifest to use the analysis alone"
            raise UnusableReference(file, f"{error}: {remedy}") from error
        return cls(file, attributions, digest, origin, records)

    def background(self) -> pl.DataFrame:
        """Return the background rows that the reference was computed with.

        Raises:
            UnusableReference: when it does not say.
        """
        if self.origin is None:
            raise UnusableReference(self.path, "carries no SHAP baseline; give its rows as shap.baseline")
        stored = self.origin["background"]
        return backgrounds.given(stored["rows"], stored["names"])

    def model_changed(self, identity: str | None) -> bool | None:
        """Return whether the model is another than the reference was computed with; None where that is not known."""
        then = None if self.origin is None else self.origin["hashes"]["model"]
        return None if None in {then, identity} else bool(then != identity)

    def differing_settings(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the names of the estimator's settings that are others than the reference's, none where it has none."""
        then = {} if self.origin is None else self.origin["estimator"]
        return [key for key in {**then, **settings} if then and then.get(key) != settings.get(key)]

    def check_comparable(self, settings: Mapping[str, Any], background: pl.DataFrame) -> list[str]:
        """Return sentences on how the live estimator differs from the reference's, where only noise is concerned.

        Raises:
            UnusableReference: when the numbers would not be comparable.
        """
        if self.origin is None:
            return ["the reference is a bare analysis.json: with which settings it was computed is not known"]
        if self.origin["hashes"]["background"] != backgrounds.identity(background):
            raise UnusableReference(
                self.path, "was computed with another shap.baseline: run stage=baseline again, or use the same rows"
            )
        then, differing = self.origin["estimator"], self.differing_settings(settings)
        told = [f"shap.{key} was {then.get(key)} there, is {settings.get(key)} here" for key in differing]
        if any(key in UNITS for key in differing):
            raise UnusableReference(self.path, f"{'; '.join(told)}: run stage=baseline again, or use the same settings")
        return [f"reference and live analysis carry different noise: {sentence}" for sentence in told]


def _kept(file: Path, origin: Mapping[str, Any], attributions: GlobalAttributions) -> Explained | None:
    """Return the records beside an analysis, None where the manifest knows of none.

    Raises:
        ValueError: when they are others than the manifest describes.
    """
    digest = origin["hashes"].get(REFERENCE_SAMPLE)
    if digest is None:
        return None
    data = file.read_bytes() if file.is_file() else b""
    if directories.sha256(data) != digest:
        raise ValueError(f"has another {REFERENCE_SAMPLE} beside it than its manifest.json describes")
    return reference_sample.from_parquet(data, origin["background"]["names"], attributions.names, attributions.labels)


def _origin(manifest: Mapping[str, Any] | None, digest: str) -> Mapping[str, Any] | None:
    """Return a manifest that describes the analysis with this SHA-256, None where there is none of ours.

    Raises:
        ValueError: when it is damaged, or the analysis is another than it describes.
    """
    hashes = None if manifest is None else manifest.get("hashes")
    if manifest is None or not isinstance(hashes, dict) or ANALYSIS not in hashes:
        return None
    if hashes[ANALYSIS] != digest:
        raise ValueError("is another analysis than the manifest.json beside it describes")
    background = manifest.get("background")
    if not (
        isinstance(manifest.get("estimator"), dict)
        and isinstance(background, dict)
        and isinstance(background.get("rows"), list)
        and isinstance(background.get("names"), list)
        and {"background", "model"} <= hashes.keys()
    ):
        raise ValueError("has a damaged manifest.json beside it")
    return manifest
