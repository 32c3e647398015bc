"""Renders the report of an execution or a baselining again, from the documents in its directory alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.domain.executions import Outcome
from runner.errors import MissingInput, ReportError
from runner.report.render import Report
from runner.results.directory import ANALYSIS, DRIFT, INDEX, MANIFEST, amend, claim, execution_directory
from runner.results.documents import sha256
from runner.results.manifest import Manifest
from runner.results.manifest_file import as_document, read_manifest
from runner.types import NO_OTHER_KEYS, FilePath

DEPTH = 6
"""Folders between the root of all executions and the files of one: endpoint, monitor, year, month, day, hour."""


@dataclass(frozen=True)
class ReportStage:
    """`stage=report`; conf/stage/report.yaml describes the keys."""

    kind: Literal["report"]
    directory: FilePath

    __pydantic_config__ = NO_OTHER_KEYS


@dataclass(frozen=True)
class Rendering:
    """A new report, with other templates or another title, without model or data.

    Attributes:
        directory: what an execution or a baselining left behind; all but the report stays as it is. The page over
            all executions of its monitor is written anew, too.
    """

    report: Report
    directory: Path

    def run(self) -> Outcome:
        """Put page, PDF and notebook in place of the former ones, at once.

        Raises:
            MissingInput: when there is no such directory.
            ReportError: when a template is wrong, or the documents are not those that the manifest describes.
            OccupiedTarget: when the directory holds more than shapwatch writes.
        """
        claim(self.directory)
        manifest = self._manifest()
        analysis, drift = (self._document(name) for name in (ANALYSIS, DRIFT))
        described = manifest.explanation.hashes.get(ANALYSIS) if manifest.explanation else None
        if described != (None if analysis is None else sha256(analysis)):
            raise ReportError(self.directory / ANALYSIS, f"is another than the {MANIFEST} beside it describes")
        try:
            reports = self.report.render(as_document(manifest), analysis, drift)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            problem = f"holds damaged documents ({type(error).__name__}: {error})"
            raise ReportError(self.directory, problem) from error
        amend(self.directory, reports)
        lines = [f"{manifest.headline}.", *(str(self.directory / name) for name in reports), *self._index(manifest)]
        return Outcome("\n  ".join(lines))

    def _index(self, manifest: Manifest) -> list[str]:
        """Write the page that lists all executions; return its path, or the reason of a failure."""
        folder = _monitor_folder(self.directory.resolve(), manifest)
        return self.report.put_index(folder) or [str(folder / INDEX)] if folder else []

    def _manifest(self) -> Manifest:
        try:
            manifest = read_manifest(self.directory)
        except ValueError as error:
            raise ReportError(self.directory, str(error)) from error
        if manifest is None and (self.directory / MANIFEST).exists():
            raise ReportError(self.directory / MANIFEST, "describes neither an execution nor a baselining")
        if manifest is None:
            remedy = f"give the directory of an execution or a baselining, which holds a {MANIFEST}"
            raise MissingInput(MANIFEST, self.directory, "stage.directory", remedy)
        return manifest

    def _document(self, name: str) -> bytes | None:
        path = self.directory / name
        return path.read_bytes() if path.exists() else None


def _monitor_folder(directory: Path, manifest: Manifest) -> Path | None:
    """Return the folder of a monitor, or None unless `directory` is the result directory of its execution."""
    if manifest.time is None or len(directory.parents) < DEPTH:
        return None
    root, folder = directory.parents[DEPTH - 1], directory.parents[3]
    expected = execution_directory(root, manifest.time.endpoint, manifest.monitor, manifest.time.scheduled)
    return folder if directory == expected else None
