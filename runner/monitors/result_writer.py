"""Writing of a result directory: the documents, the manifest and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from runner.domain.attributions import GlobalAttributions
from runner.report.render import Report
from runner.results import directory, manifest_file
from runner.results.documents import DriftDocument
from runner.results.manifest import Manifest
from runner.results.provenance import Provenance, Stopwatch


@dataclass(frozen=True)
class ResultWriter:
    """Writer of result directories.

    Attributes:
        report: renderer of the report.
        provenance: parts of the manifest that do not depend on the data.
    """

    report: Report
    provenance: Provenance

    def write(
        self,
        target: Path,
        manifest: Manifest,
        files: Mapping[str, bytes | IO[bytes]],
        stopwatch: Stopwatch,
        attributions: GlobalAttributions | None = None,
        drift: DriftDocument | None = None,
    ) -> Manifest:
        """Replace a directory by the result, and return the manifest with notes on parts of the report that failed.

        Args:
            target: directory.
            manifest: manifest without timings.
            files: documents by name.
            stopwatch: durations of the steps so far.
            attributions: global attributions of the report; None after a failure.
            drift: drift statistics of the report; None without a comparison.

        Raises:
            OccupiedTarget: if the directory contains files that no execution writes.
        """
        with stopwatch.step("report"):
            reports, failures = self.report.attempt(manifest, attributions, drift)
        manifest = replace(manifest, notes=(*manifest.notes, *failures), timings=stopwatch.seconds)
        directory.commit(target, {**files, **manifest_file.common_files(manifest, reports, self.provenance)})
        return manifest
