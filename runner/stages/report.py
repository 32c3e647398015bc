"""Renders the report of an execution or a baselining again, from the documents in its directory alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import executions
from runner.domain import Outcome
from runner.errors import MissingInput, ReportError
from runner.executions import ANALYSIS, DRIFT, MANIFEST, sha256
from runner.report.render import Report

STAGES = {"monitor", "baseline"}


@dataclass(frozen=True)
class Rendering:
    """A new report, with other templates or another title, without model or data.

    Attributes:
        directory: what an execution or a baselining left behind; all but the report stays as it is.
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
        executions.claim(self.directory)
        manifest = self._manifest()
        analysis, drift = (self._document(name) for name in (ANALYSIS, DRIFT))
        described = manifest.get("hashes", {}).get(ANALYSIS)
        if described != (None if analysis is None else sha256(analysis)):
            raise ReportError(self.directory / ANALYSIS, f"is another than the {MANIFEST} beside it describes")
        try:
            reports = self.report.render(manifest, analysis, drift)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            problem = f"holds damaged documents ({type(error).__name__}: {error})"
            raise ReportError(self.directory, problem) from error
        executions.amend(self.directory, reports)
        return Outcome("\n  ".join([f"{manifest['headline']}.", *(str(self.directory / name) for name in reports)]))

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = executions.read_manifest(self.directory)
        except ValueError as error:
            raise ReportError(self.directory, str(error)) from error
        if manifest is None:
            remedy = f"give the directory of an execution or a baselining, which holds a {MANIFEST}"
            raise MissingInput(MANIFEST, self.directory, "stage.directory", remedy)
        if manifest.get("stage") not in STAGES:
            raise ReportError(self.directory / MANIFEST, "describes neither an execution nor a baselining")
        return manifest

    def _document(self, name: str) -> bytes | None:
        path = self.directory / name
        return path.read_bytes() if path.exists() else None
