"""Renders the report of an execution or a baselining again, from the documents in its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.domain.attributions import GlobalAttributions
from runner.domain.executions import Outcome
from runner.errors import MissingInput, ReportError, UnusableReference
from runner.report.render import Report
from runner.results.directory import ANALYSIS, DRIFT, INDEX, MANIFEST, amend, claim, execution_directory, opened
from runner.results.documents import DriftDocument, load_analysis, load_drift, sha256
from runner.results.manifest import Manifest
from runner.results.manifest_file import load_manifest
from runner.types import NO_OTHER_KEYS, FilePath

DEPTH = 6
"""Number of folders from the root to an execution: endpoint, monitor, year, month, day, hour."""


@dataclass(frozen=True)
class ReportStage:
    """`stage=report`: rendering of new reports, for example with other templates; needs no model and no data.

    Attributes:
        directory: directory of an execution or a baselining; only its reports are replaced.
    """

    kind: Literal["report"]
    directory: FilePath

    __pydantic_config__ = NO_OTHER_KEYS

    def run(self, report: Report) -> Outcome:
        """Replace page, PDF and notebook atomically, and write the index page of the monitor.

        Raises:
            MissingInput: if the directory does not exist or contains no manifest.
            ReportError: if a template is invalid, or the documents do not match the manifest.
            OccupiedTarget: if the directory contains files that no execution writes.
        """
        claim(self.directory)
        with opened(self.directory, (MANIFEST, ANALYSIS, DRIFT)) as files:
            documents = {name: file.read() for name, file in files.items()}
        manifest = self._manifest(documents.get(MANIFEST))
        analysis, drift = self._analysis(manifest, documents.get(ANALYSIS)), self._drift(documents.get(DRIFT))
        reports = report.render(manifest, analysis, drift)
        amend(self.directory, reports)
        folder = _monitor_folder(self.directory.resolve(), manifest)
        index = report.put_index(folder) or [str(folder / INDEX)] if folder else []
        paths = [str(self.directory / name) for name in reports]
        return Outcome("\n  ".join([f"{manifest.headline}.", *paths, *index]))

    def _manifest(self, data: bytes | None) -> Manifest:
        if data is None:
            remedy = f"set the directory of an execution or a baselining, which contains a {MANIFEST}"
            raise MissingInput(MANIFEST, self.directory, "stage.directory", remedy)
        try:
            manifest = load_manifest(data)
        except ValueError as error:
            raise ReportError(self.directory, str(error)) from error
        if manifest is None:
            raise ReportError(self.directory / MANIFEST, "describes neither an execution nor a baselining")
        return manifest

    def _analysis(self, manifest: Manifest, data: bytes | None) -> GlobalAttributions | None:
        path = self.directory / ANALYSIS
        expected = manifest.explanation.hashes.get(ANALYSIS) if manifest.explanation else None
        if expected != (None if data is None else sha256(data)):
            raise ReportError(path, f"does not match the hash in {MANIFEST}")
        try:
            return None if data is None else load_analysis(data, str(path))
        except UnusableReference as error:
            raise ReportError(path, error.problem) from error

    def _drift(self, data: bytes | None) -> DriftDocument | None:
        try:
            return None if data is None else load_drift(data)
        except ValueError as error:
            raise ReportError(self.directory, str(error)) from error


def _monitor_folder(directory: Path, manifest: Manifest) -> Path | None:
    """Return the folder of the monitor, or None if the directory is outside such a folder, for example a copy."""
    time = manifest.time
    if time is None or len(directory.parents) < DEPTH:
        return None
    root, folder = directory.parents[5], directory.parents[3]
    expected = execution_directory(root, time.endpoint, manifest.monitor, time.scheduled)
    return folder if directory == expected else None
