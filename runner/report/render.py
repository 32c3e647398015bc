"""The report of an execution, made from its JSON documents: a page, a PDF and a notebook with the same figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from runner.errors import ReportError
from runner.executions import NOTEBOOK, PDF, REPORT, newest
from runner.report import charts, context, history, notebook, pdf
from runner.report.templates import Templates

CHART, TIMELINE = "attributions", "timeline"
MOST_CHARTS = 12
"""Labels that have one; the others have their tables."""
MOST_LABELS_PRINTED = 6
"""In the PDF, those with violations first; the page has all."""
MOST_ROWS_PRINTED, FEWEST_ROWS_PRINTED = 100, 10
"""Of all tables in the PDF together, and of each; the page has all."""


@dataclass(frozen=True)
class Report:
    """Renders reports.

    Attributes:
        templates: the folder with the shipped templates and `charts/`.
        title: the title of page, PDF and notebook.
        max_bars: the most features a chart shows; tables show all.
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
        page = {"title": self.title, **history.page(folder, newest(folder, history.MOST)), "chart": None}
        if page["points"]:
            filled = charts.filled(self._templates.specification(TIMELINE), page["points"])
            svg = charts.svg(filled, "timeline", self._templates.find(f"charts/{TIMELINE}.vl.json"))
            page["chart"] = Markup(svg)  # noqa: S704  rendered by vl-convert, which escapes texts
        return self._templates.render("index.html.j2", page).encode()

    def _forms(
        self, manifest: Mapping[str, Any], analysis: bytes | None, drift: bytes | None
    ) -> dict[str, Callable[[], bytes]]:
        given = [None if data is None else json.loads(data) for data in (analysis, drift)]
        page = {"title": self.title, **context.page(manifest, *given)}
        for i, section in enumerate(page["labels"]):
            section["charted"] = i < MOST_CHARTS
            section["hidden"] = max(0, len(section["features"]) - self.max_bars)
            section["bars"] = charts.bars(section["features"], self.max_bars)
        drawn = cache(lambda: self._drawn(page, self._templates.specification(CHART)))
        return {
            REPORT: lambda: self._html(page, drawn()),
            PDF: lambda: self._pdf(page),
            NOTEBOOK: lambda: self._notebook(page, drawn()),
        }

    @property
    def _templates(self) -> Templates:
        if self.own is not None and not self.own.is_dir():
            raise ReportError(self.own, "is no folder of templates (report.templates)")
        return Templates((self.templates,) if self.own is None else (self.own, self.templates))

    def _html(self, page: dict[str, Any], drawn: Sequence[str]) -> bytes:
        sections = [
            {**section, "chart": Markup(svg)}  # noqa: S704  rendered by vl-convert, which escapes the names
            for section, svg in zip(page["labels"], drawn, strict=True)
        ]
        return self._templates.render("report.html.j2", {**page, "labels": sections}).encode()

    def _pdf(self, page: dict[str, Any]) -> bytes:
        labels = sorted(page["labels"], key=lambda section: not (section["verdict"] or {}).get("violated"))
        left_out, labels = len(labels[MOST_LABELS_PRINTED:]), labels[:MOST_LABELS_PRINTED]
        labels = [{**section, "charted": True} for section in labels]
        drawn = self._drawn({"labels": labels}, charts.printed(self._templates.specification(CHART)))
        most = max(FEWEST_ROWS_PRINTED, MOST_ROWS_PRINTED // max(1, len(labels)))
        sections = []
        for section, svg in zip(labels, drawn, strict=True):
            rows = section["features"]
            kept = rows[:most]
            sections.append({**section, "chart": svg, "features": kept, "unprinted": len(rows) - len(kept)})
        template = self._templates.find("report.typ")
        return pdf.compiled(template, {**page, "labels": sections, "unprinted": left_out})

    def _notebook(self, page: dict[str, Any], drawn: Sequence[str]) -> bytes:
        specification = self._templates.specification(CHART)
        filled = [charts.filled(specification, section["bars"]) for section in page["labels"]]
        script = self._templates.render(
            "report.ipynb.j2", {**page, "specification": json.dumps(specification), "max_bars": self.max_bars}
        )
        return notebook.notebook(script, notebook.outputs(page, list(zip(filled, drawn, strict=True))))

    def _drawn(self, page: Mapping[str, Any], specification: Mapping[str, Any]) -> list[str]:
        """Return the chart of each label as SVG, an empty text where it has none."""
        file = self._templates.find(f"charts/{CHART}.vl.json")
        return [
            charts.svg(charts.filled(specification, section["bars"]), f"chart{i}", file) if section["charted"] else ""
            for i, section in enumerate(page["labels"])
        ]
