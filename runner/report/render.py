"""The report of an execution (page, PDF and notebook with the same strings and charts), and the index page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from runner import resource
from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Level
from runner.domain.numbers import Count
from runner.errors import ReportError, error_message
from runner.report import charts, context, sections, tables
from runner.report.charts import Drawing
from runner.report.colors import themed
from runner.report.context import Page
from runner.report.index import MOST_EXECUTIONS, index_page
from runner.report.sections import Section
from runner.report.share_charts import timeline
from runner.report.svg import NARROW, WIDE
from runner.report.tables import ReportTable
from runner.report.templates import Templates
from runner.results.directory import INDEX, NOTEBOOK, PDF, REPORT, put
from runner.results.documents import DriftDocument
from runner.results.manifest import Manifest
from runner.results.manifest_file import newest_executions
from runner.types import NO_OTHER_KEYS, FilePath

CELL = re.compile(r"^# %% (\[markdown\] )?([a-z0-9-]+)$", re.MULTILINE)
"""First line of a cell in the template, with the kind and the name of the cell; the name becomes its ID."""
TABLE_CELLS = {
    "timeline": "windows",
    "histograms": "medians",
    "beeswarm": "sampled",
    "record": "records",
    "heat": "heat-table",
    "parity": "score-groups",
    "percentile": "baseline-scores",
    "detectable": "detectable-changes",
}
"""Names of the cells that print the table of a chart."""
ACCESSIBLE = "ua-1"
"""PDF/UA-1, the standard of accessible PDF."""
MISSING_GLYPH = "could not be displayed with"
"""Part of typst's message about a character that no font contains; PDF/UA forbids such characters."""
MOST_LABELS, MOST_ROWS = 100, 2_000
"""Maximum numbers of labels, and of feature rows of all labels, on the page and in the notebook."""
MOST_LABELS_PDF, MOST_ROWS_PDF = 3, 50
"""Maximum numbers of labels, and of feature rows of all labels, in the PDF."""


def script_context(agg_method: str) -> dict[str, Any]:
    """Return the constants of the notebook's template: columns of tables, effects and levels, as lists of strings."""
    columns = {
        "top_changes": tables.TOP_CHANGES,
        "families": tables.FAMILIES,
        "windows": tables.WINDOWS,
        "records": tables.RECORDS,
        "heat": tables.HEAT,
        "score_groups": tables.SCORE_GROUPS,
        "baseline_scores": tables.BASELINE_SCORES,
        "detectable": tables.DETECTABLE,
        "medians": tables.MEDIANS,
        "effects": tables.EFFECTS,
        "inputs": tables.INPUTS,
        "outputs": tables.OUTPUTS,
        "compared": tables.compared_columns(agg_method),
        "live": tables.live_columns(agg_method),
        "segments": tables.SEGMENTS,
        "baseline": tables.BASELINE,
    }
    return {
        "columns": {name: [list(astuple(column)) for column in each] for name, each in columns.items()},
        "effects": sections.EFFECTS,
        "levels": list(map(str, Level)),
    }


def make_notebook(script: str, outputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Return a notebook (nbformat 4.5) with the cells of a script.

    Args:
        script: cells, each after a line `# %% name` or `# %% [markdown] name`.
        outputs: outputs of code cells by name.
    """
    _, *parts = CELL.split(script)
    cells = [
        _markdown(name, text.strip()) if kind else _code(name, text.strip(), i, outputs.get(name, []))
        for i, (kind, name, text) in enumerate(zip(parts[::3], parts[1::3], parts[2::3], strict=True), 1)
    ]
    document = {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def notebook_outputs(page: Page, drawings: Sequence[Drawing]) -> dict[str, list[dict[str, Any]]]:
    """Return the outputs of the notebook's cells by cell name, with the same strings as the page."""
    streams = dict(_printed(page, drawings))
    cells: dict[str, list[dict[str, Any]]] = {
        name: [{"output_type": "stream", "name": "stdout", "text": _lines(text)}] for name, text in streams.items()
    }
    for drawing in drawings:
        data = {"image/svg+xml": _lines(drawing.svg), "text/plain": [drawing.sentence]}
        cells[drawing.id] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    return cells


def _printed(page: Page, drawings: Sequence[Drawing]) -> Iterator[tuple[str, str]]:
    """Yield the names of cells that print, with their text."""
    yield "verdict", _verdict(page)
    if page.all_effects:
        yield "families", _table(page.all_effects)
    if page.top_changes:
        yield "top-changes", _table(page.top_changes)
    if page.inputs or page.outputs:
        yield "inputs", "".join(_table(table) for table in (page.inputs, page.outputs) if table)
    for drawing in drawings:
        if drawing.table:
            yield TABLE_CELLS[drawing.chart], _table(drawing.table)
    if page.labels:
        yield "labels", "".join(map(_section, page.labels))
    if page.segments:
        yield "segments", _table(page.segments)
    if page.baseline:
        yield "baseline", _table(page.baseline)


def _verdict(page: Page) -> str:
    lines = [f"{page.headline}. {page.sentence}"]
    for section in page.labels:
        if rule := section.rule:
            lines.append(
                f"{_one_line(section.label)}: nDCG {rule.ndcg} (alert below {rule.threshold}; "
                f"reversed ranking {rule.floor}, random ranking {rule.chance} on average)"
            )
    return "\n".join(lines) + "\n"


def _section(section: Section) -> str:
    effects = _table(section.effects) if section.effects else ""
    label = f"{_one_line(section.label)}, expected value {section.expected_value}\n"
    return f"{label}{effects}{_table(section.features)}"


def _table(table: ReportTable) -> str:
    """Return a table as text: first the columns of numbers, aligned right, then the columns of strings."""
    rows = [tuple(column.head for column in table.columns), *table.rows]
    texts = [i for i, column in enumerate(table.columns) if column.is_text]
    widths = {i: max(len(row[i]) for row in rows) for i in range(len(table.columns)) if i not in texts}
    lines = []
    for row in rows:
        numbers = [row[i].rjust(width) for i, width in widths.items()]
        lines.append("  ".join([*numbers, *(_one_line(row[i]) for i in texts)]).rstrip())
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _markdown(name: str, text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": _lines(text)}


def _code(name: str, text: str, count: int, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": name,
        "metadata": {},
        "outputs": list(outputs),
        "source": _lines(text),
    }


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def compile_pdf(template: Path, page: Page, drawings: Sequence[Drawing]) -> bytes:
    """Return the PDF of a typst template, which receives the page as JSON, never as source.

    With typst's embedded fonts, the PDF conforms to PDF/UA-1. If they lack a character, the fonts of the machine are
    also used. If no font contains it, the PDF shows a box instead; it is then tagged, but does not claim conformance.

    Raises:
        ReportError: if the template cannot be compiled, with file and line.
    """
    import typst

    document = {**asdict(replace(page, figures=())), "figures": [asdict(drawing) for drawing in drawings]}
    sys_inputs = {"page": json.dumps(document, ensure_ascii=False)}

    def attempt(embedded_only: bool, standards: list[Any]) -> bytes:
        document = typst.compile(
            template,
            root=template.parent,
            ignore_system_fonts=embedded_only,
            format="pdf",
            sys_inputs=sys_inputs,
            pdf_standards=standards,
            timestamp=0,
        )
        assert isinstance(document, bytes)  # noqa: S101  a PDF is one file
        return document

    problem: typst.TypstError | None = None
    for embedded_only, standards in ((True, [ACCESSIBLE]), (False, [ACCESSIBLE]), (True, [])):
        try:
            return attempt(embedded_only, standards)
        except typst.TypstError as error:
            problem = error
            if MISSING_GLYPH not in error.diagnostic:
                break
    assert problem is not None  # noqa: S101  otherwise an attempt has returned
    source = re.search(r"┌─ .*?([^/\s]+):(\d+):\d+", problem.diagnostic)
    where = f"{template.with_name(source[1])}:{source[2]}" if source else str(template)
    raise ReportError(where, " ".join([problem.message, *problem.hints])) from problem


@dataclass(frozen=True)
class Report:
    """Renderer of reports.

    Attributes:
        title: title of page, PDF and notebook.
        max_bars: maximum number of features in a chart; tables contain more.
        templates: folder of templates and charts that replace shapwatch's files of the same name; None replaces none.
    """

    title: str
    max_bars: Count
    templates: FilePath | None

    __pydantic_config__ = NO_OTHER_KEYS

    def render(
        self, manifest: Manifest, analysis: GlobalAttributions | None = None, drift: DriftDocument | None = None
    ) -> dict[str, bytes]:
        """Return page, PDF and notebook by file name.

        Names in the documents are data in each file, never markup or code. The files load nothing from the network.

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
        """Return the rendered files by name, and a message for each file that cannot be rendered."""
        files, problems = {}, []
        for name, make in self._formats(manifest, analysis, drift).items():
            try:
                files[name] = make()
            except ReportError as error:
                problems.append(f"{name} was not written: {error}")
        return files, problems

    def index(self, folder: Path) -> bytes:
        """Return the index page of the monitor in a folder; links on the page are relative to the folder.

        Raises:
            ReportError: if the template or the chart is invalid.
        """
        page = index_page(self.title, folder, newest_executions(folder, MOST_EXECUTIONS))
        drawings = [_markup(themed(timeline(page.points, width))) for width in (WIDE, NARROW) if page.points]
        values = {**vars(page), "latest": page.latest, "episodes": page.episodes, "charts": drawings}
        return self._templates.render("index.html.j2", values).encode()

    def put_index(self, folder: Path) -> list[str]:
        """Write the index page of a monitor into its folder; return a message if this fails."""
        try:
            put(folder / INDEX, self.index(folder))
        except (ReportError, OSError) as error:
            return [f"{INDEX} was not updated: {error_message(error)}"]
        return []

    def _formats(
        self, manifest: Manifest, analysis: GlobalAttributions | None, drift: DriftDocument | None
    ) -> dict[str, Callable[[], bytes]]:
        whole = context.page(self.title, manifest, analysis, drift, self.max_bars)
        page, pdf_page = whole.limit(MOST_LABELS, MOST_ROWS), whole.limit(MOST_LABELS_PDF, MOST_ROWS_PDF)
        draw = cache(lambda: [charts.draw(figure) for figure in whole.figures])
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
        figures = [
            replace(drawing, svg=_markup(themed(drawing.svg)), narrow=_markup(themed(drawing.narrow)))
            for drawing in drawings
        ]
        return self._templates.render("report.html.j2", {**vars(page), "figures": figures}).encode()

    def _pdf(self, page: Page, drawings: list[Drawing]) -> bytes:
        figures = [
            replace(drawing, svg=charts.with_pdf_font(drawing.paper), narrow="", paper="") for drawing in drawings
        ]
        return compile_pdf(self._templates.find("report.typ"), page, figures)

    def _notebook(self, page: Page, drawings: list[Drawing]) -> bytes:
        constants = script_context(page.agg_method or "mean_abs") if page.labels or page.figures else {}
        script = self._templates.render(
            "report.ipynb.j2",
            {
                **vars(page),
                **constants,
                "figures": drawings,
                "most_tests": sections.MOST_TOP_CHANGES,
            },
        )
        return make_notebook(script, notebook_outputs(page, drawings))


def _markup(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  Canvas escapes names
