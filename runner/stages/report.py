"""Renders the report of an execution or a baselining again, from the documents in its directory alone."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner.domain.executions import Outcome, utc
from runner.errors import MissingInput, ReportError
from runner.report.render import Report
from runner.results import directories
from runner.results.directories import ANALYSIS, DRIFT, INDEX, MANIFEST, sha256
from runner.types import NO_OTHER_KEYS, FilePath

STAGES = {"monitor", "baseline"}


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
        directories.claim(self.directory)
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
        directories.amend(self.directory, reports)
        lines = [f"{manifest['headline']}.", *(str(self.directory / name) for name in reports), *self._index(manifest)]
        return Outcome("\n  ".join(lines))

    def _index(self, manifest: Mapping[str, Any]) -> list[str]:
        """Write the page over all executions anew, and return where it is or why that was not possible."""
        folder = _monitors(self.directory.resolve(), manifest)
        return self.report.put_index(folder) or [str(folder / INDEX)] if folder else []

    def _manifest(self) -> dict[str, Any]:
        try:
            manifest = directories.read_manifest(self.directory)
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


def _monitors(directory: Path, manifest: Mapping[str, Any]) -> Path | None:
    """Return the folder of the monitor that an execution is of, None where its directory stands in another place."""
    with suppress(LookupError, TypeError, ValueError):
        scheduled = utc(manifest["scheduled"])
        root, folder = directory.parents[5], directory.parents[3]
        if directory == directories.execution_directory(root, manifest["endpoint"], manifest["monitor"], scheduled):
            return folder
    return None
