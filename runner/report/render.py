"""The report of an execution: a page, a PDF and a notebook with the same figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from markupsafe import Markup

from runner import resource
from runner.domain.attributions import GlobalAttributions
from runner.domain.numbers import Count
from runner.errors import ReportError, os_error_message
from runner.report import charts, context, notebook, pdf
from runner.report import index as indexes
from runner.report.charts import Drawing
from runner.report.context import Page
from runner.report.templates import Templates
from runner.results.directory import INDEX, NOTEBOOK, PDF, REPORT, put
from runner.results.documents import DriftDocument
from runner.results.manifest import Manifest
from runner.results.manifest_file import newest_executions
from runner.types import NO_OTHER_KEYS, FilePath

MOST_LABELS, MOST_ROWS = 100, 2_000
"""Labels, and rows of features of all labels together, on the page and in the notebook; the documents contain all."""
MOST_LABELS_PDF, MOST_ROWS_PDF = 3, 50
"""Labels, and rows of features of all labels together, in the PDF."""


@dataclass(frozen=True)
class Report:
    """Renderer of reports.

    Attributes:
        title: title of page, PDF and notebook.
        max_bars: maximum number of features in a chart; tables contain more.
        templates: folder with templates and charts that replace resource ones of the same name; None for none.
    """

    title: str
    max_bars: Count
    templates: FilePath | None

    __pydantic_config__ = NO_OTHER_KEYS

    def render(
        self, manifest: Manifest, analysis: GlobalAttributions | None = None, drift: DriftDocument | None = None
    ) -> dict[str, bytes]:
        """Return page, PDF and notebook by file name.

        Names in the documents are data in all of them, and nothing is loaded from elsewhere.

        Args:
            manifest: the manifest.json.
            analysis: the analysis.json; None for a failed execution.
            drift: the drift.json; None without a comparison.

        Raises:
            ReportError: if a template or chart is invalid.
        """
        return {name: make() for name, make in self._formats(manifest, analysis, drift).items()}

    def attempt(
        self, manifest: Manifest, analysis: GlobalAttributions | None = None, drift: DriftDocument | None = None
    ) -> tuple[dict[str, bytes], list[str]]:
        """Return the formats that can be rendered, and a sentence for each that cannot."""
        files, problems = {}, []
        for name, make in self._formats(manifest, analysis, drift).items():
            try:
                files[name] = make()
            except ReportError as error:
                problems.append(f"{name} was not written: {error}")
        return files, problems

    def index(self, folder: Path) -> bytes:
        """Return the page of the monitor with this folder; its links are relative to the folder.

        Raises:
            ReportError: if the template or the chart is invalid.
        """
        page = indexes.index(self.title, folder, newest_executions(folder, indexes.MOST))
        chart = None
        if page.points:
            figure = charts.Figure("timeline", "timeline", "Timeline", "", tuple(map(asdict, page.points)))
            chart = _markup(charts.draw(figure, self._templates).svg)
        return self._templates.render("index.html.j2", {**vars(page), "chart": chart}).encode()

    def put_index(self, folder: Path) -> list[str]:
        """Write the page of a monitor into its folder; return the problems."""
        try:
            put(folder / INDEX, self.index(folder))
        except (ReportError, OSError) as error:
            problem = os_error_message(error) if isinstance(error, OSError) else str(error)
            return [f"{INDEX} was not updated: {problem}"]
        return []

    def _formats(
        self, manifest: Manifest, analysis: GlobalAttributions | None, drift: DriftDocument | None
    ) -> dict[str, Callable[[], bytes]]:
        whole = context.page(self.title, manifest, analysis, drift, self.max_bars)
        page, pdf_page = whole.limit(MOST_LABELS, MOST_ROWS), whole.limit(MOST_LABELS_PDF, MOST_ROWS_PDF)
        draw = cache(lambda: [charts.draw(figure, self._templates) for figure in whole.figures])
        return {
            REPORT: lambda: self._html(page, draw()),
            PDF: lambda: self._pdf(pdf_page, draw()),
            NOTEBOOK: lambda: self._notebook(page, draw()),
        }

    @property
    def _templates(self) -> Templates:
        folder = resource("reports_templates")
        if self.templates is not None and not self.templates.is_dir():
            raise ReportError(self.templates, "is not a folder (report.templates)")
        return Templates((folder,) if self.templates is None else (self.templates, folder))

    def _html(self, page: Page, drawings: list[Drawing]) -> bytes:
        figures = [replace(drawing, svg=_markup(drawing.svg)) for drawing in drawings]
        return self._templates.render("report.html.j2", {**vars(page), "figures": figures}).encode()

    def _pdf(self, page: Page, drawings: list[Drawing]) -> bytes:
        figures = [
            replace(drawing, svg=charts.with_pdf_font(drawing.svg), data=(), filled=None) for drawing in drawings
        ]
        return pdf.compile_template(self._templates.find("report.typ"), replace(page, figures=tuple(figures)))

    def _notebook(self, page: Page, drawings: list[Drawing]) -> bytes:
        constants = notebook.script_context(page.agg_method) if page.labels else {}
        script = self._templates.render(
            "report.ipynb.j2", {**vars(page), **constants, "figures": drawings, "most": self.max_bars}
        )
        return notebook.notebook(script, notebook.outputs(page, drawings))


def _markup(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  rendered by vl-convert, which escapes names
