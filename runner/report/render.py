"""The report of an execution as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from runner.domain import GlobalAttributions
from runner.finding import Finding
from runner.report import charts, context


@dataclass(frozen=True)
class Report:
    """Renders reports.

    Attributes:
        templates: the folder with `report.html.j2` and `charts/`.
        title: the page's title.
        max_bars: the most features a chart shows; tables show all.
    """

    templates: Path
    title: str
    max_bars: int

    def html(
        self,
        manifest: Mapping[str, Any],
        live: GlobalAttributions | None,
        reference: GlobalAttributions | None,
        finding: Finding | None = None,
    ) -> bytes:
        """Return the page; every name and text in it is escaped, and it loads nothing from anywhere."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(self.templates),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        page = context.page(manifest, live, reference, finding)
        specification = self.templates / "charts" / "attributions.vl.json"
        for i, section in enumerate(page["labels"]):
            svg = charts.attributions(specification, section["features"], self.max_bars, f"chart{i}")
            section["chart"] = Markup(svg)  # noqa: S704  rendered by vl-convert, which escapes the names
            section["hidden"] = max(0, len(section["features"]) - self.max_bars)
        return environment.get_template("report.html.j2").render(page, title=self.title).encode()
