"""The report of an execution, made from its JSON documents: a page, a PDF and a notebook with the same figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from runner.errors import ReportError, os_error_message
from runner.report import charts, context, index, notebook, pdf, sections, tables
from runner.report.templates import Templates
from runner.results.directory import INDEX, NOTEBOOK, PDF, REPORT, put
from runner.results.documents import read_drift
from runner.results.history import newest_executions

TIMELINE = "timeline"
MOST_LABELS, MOST_ROWS = 100, 2_000
"""On the page and in the notebook: labels, and rows of all their features together; the documents have all."""
MOST_LABELS_PRINTED, MOST_ROWS_PRINTED = 3, 50
"""The same in the PDF."""


@dataclass(frozen=True)
class Report:
    """Renders reports.

    Attributes:
        templates: the folder with the shipped templates and `charts/`.
        title: the title of page, PDF and notebook.
        max_bars: the most features that the charts of attributions show; tables show more.
        own: a folder with templates and charts that come before the shipped ones of the same name, or None.
    """

    templates: Path
    title: str
    max_bars: int
    own: Path | None = None

    def render(
        self, manifest: Mapping[str, Any], analysis: bytes | None = None, drift: bytes | None = None
    ) -> dict[str, bytes]:
        """Return the three forms, by file name; names and texts are data in all of them, and nothing is loaded.

        Args:
            manifest: the manifest.json.
            analysis: the analysis.json, None of a failed execution.
            drift: the drift.json, None where nothing was compared.

        Raises:
            ReportError: when a template or chart is wrong.
        """
        return {name: make() for name, make in self._forms(manifest, analysis, drift).items()}

    def attempt(
        self, manifest: Mapping[str, Any], analysis: bytes | None = None, drift: bytes | None = None
    ) -> tuple[dict[str, bytes], list[str]]:
        """Return the forms that can be made, and a sentence for each that cannot: documents are not lost with them."""
        made, troubles = {}, []
        for name, make in self._forms(manifest, analysis, drift).items():
            try:
                made[name] = make()
            except ReportError as error:
                troubles.append(f"there is no {name}: {error}")
        return made, troubles

    def index(self, folder: Path) -> bytes:
        """Return the page over all executions of the monitor that has this folder; its links are relative to it.

        Raises:
            ReportError: when the template or the chart is wrong.
        """
        page = {"title": self.title, **index.page(folder, newest_executions(folder, index.MOST)), "chart": None}
        if page["points"]:
            filled = charts.filled(self._templates.specification(TIMELINE), page["points"])
            svg = charts.svg(filled, "timeline", self._templates.find(f"charts/{TIMELINE}.vl.json"))
            page["chart"] = Markup(svg)  # noqa: S704  rendered by vl-convert, which escapes texts
        return self._templates.render("index.html.j2", page).encode()

    def put_index(self, folder: Path) -> list[str]:
        """Write the page over all executions of a monitor into its folder, and return why that was not possible."""
        try:
            put(folder / INDEX, self.index(folder))
        except (ReportError, OSError) as error:
            told = os_error_message(error) if isinstance(error, OSError) else str(error)
            return [f"{INDEX} is not up to date: {told}"]
        return []

    def _forms(
        self, manifest: Mapping[str, Any], analysis: bytes | None, drift: bytes | None
    ) -> dict[str, Callable[[], bytes]]:
        explained = None if analysis is None else json.loads(analysis)
        judged = None if drift is None else read_drift(drift)
        whole = {"title": self.title, **context.page(manifest, explained, judged, self.max_bars)}
        page = _bounded(whole, MOST_LABELS, MOST_ROWS)
        drawn = cache(lambda: self._drawn(whole["figures"]))
        return {
            REPORT: lambda: self._html({**page, "figures": drawn()}),
            PDF: lambda: self._pdf({**_bounded(whole, MOST_LABELS_PRINTED, MOST_ROWS_PRINTED), "figures": drawn()}),
            NOTEBOOK: lambda: self._notebook({**page, "figures": drawn()}),
        }

    @property
    def _templates(self) -> Templates:
        if self.own is not None and not self.own.is_dir():
            raise ReportError(self.own, "is no folder of templates (report.templates)")
        return Templates((self.templates,) if self.own is None else (self.own, self.templates))

    def _html(self, page: dict[str, Any]) -> bytes:
        figures = [
            {**figure, "svg": Markup(figure["svg"])}  # noqa: S704  rendered by vl-convert, which escapes the names
            for figure in page["figures"]
        ]
        return self._templates.render("report.html.j2", {**page, "figures": figures}).encode()

    def _pdf(self, page: dict[str, Any]) -> bytes:
        figures = [{**figure, "svg": charts.printed(figure["svg"])} for figure in page["figures"]]
        return pdf.compiled(self._templates.find("report.typ"), {**page, "figures": figures})

    def _notebook(self, page: dict[str, Any]) -> bytes:
        script = self._templates.render("report.ipynb.j2", {**page, "most": self.max_bars})
        return notebook.notebook(script, notebook.outputs(page))

    def _drawn(self, figures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the charts with their specification as JSON, filled with their data, and as SVG."""
        drawn = []
        for figure in figures:
            specification = self._templates.specification(figure["chart"])
            filled = charts.filled(specification, figure["values"])
            svg = charts.svg(filled, figure["id"], self._templates.find(f"charts/{figure['chart']}.vl.json"))
            drawn.append({**figure, "specification": json.dumps(specification), "filled": filled, "svg": svg})
        return drawn


def _bounded(page: dict[str, Any], most_labels: int, most_rows: int) -> dict[str, Any]:
    """Return a page with so many labels at most, and with so many rows of all their features together."""
    labels = page["labels"][:most_labels]
    rows = sections.room(len(labels), most_rows)
    return {
        **page,
        "labels": [{**label, "features": tables.bounded(label["features"], rows)} for label in labels],
        "labels_left_out": len(page["labels"]) - len(labels),
        "most_rows": rows,
        "segments": page["segments"] and tables.bounded(page["segments"], rows),
    }
