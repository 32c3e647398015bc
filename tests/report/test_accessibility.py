"""Accessibility: axe-core finds no violation in any page, light on a screen and dark on a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.cli_runner import Shapwatch
from tests.report.samples import (
    EXECUTION,
    HOSTILE,
    attributions,
    drift_document,
    drift_result,
    files,
    write,
)

VERDICTS = {
    "drift": ["verdict violation"],
    "no drift": ["verdict none"],
    "failed": ["verdict failed"],
    "no data": ["verdict few"],
    "baselining": ["verdict ok"],
    "hostile names": ["verdict doubt"],
    "index": ["verdict bad"],
    "sweep": [],
}
"""Classes of the verdicts on a page."""
VIEWS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1280, "light"), (380, "dark"))
"""Widths of a screen and of a telephone, with the two colour schemes."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]
"""Rules of axe-core up to WCAG 2.2 AA, its best practices, and its experimental rules."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of the quickstart, of two hours without traffic, and of a report with hostile names."""
    root = tmp_path_factory.mktemp("pages")
    shapwatch = Shapwatch(root)
    shapwatch("stage=quickstart")
    shapwatch("stage=monitor", "stage.window=2026-01-05T20", code=2)
    shapwatch("stage=monitor", "stage.window=2026-01-05T21", "schedule.on_empty=skip")
    shapwatch("stage=baseline", "shap.num_samples=20,40", options=("-m",))
    live, reference = attributions(HOSTILE), attributions(HOSTILE, 1)
    drift = drift_document(reference, drift_result(live, reference))
    hostile = write(root / "hostile", files(EXECUTION, live, drift))
    monitor = root / "monitor/breast-cancer/breast-cancer-monitor"
    return {
        "drift": monitor / "2026/01/05/12/report.html",
        "no drift": monitor / "2026/01/05/10/report.html",
        "failed": monitor / "2026/01/05/21/report.html",
        "no data": monitor / "2026/01/05/22/report.html",
        "baselining": root / "baseline/breast-cancer-monitor/report.html",
        "hostile names": hostile / "report.html",
        "index": monitor / "index.html",
        "sweep": next((root / "sweeps").glob("*/sweep.html")),
    }


def violations(view: Page) -> tuple[list[str], set[str]]:
    """Return the violations that axe-core finds in a page, and the rules that it cannot decide everywhere."""
    result: dict[str, Any] = Axe().run(view, options={"runOnly": RULES, "resultTypes": ["violations"]}).response
    found = [
        f"{rule['id']}: {node['html']}: {node['failureSummary']}"
        for rule in result["violations"]
        for node in rule["nodes"]
    ]
    return found, {rule["id"] for rule in result["incomplete"]}


@pytest.mark.parametrize("kind", VERDICTS)
def test_axe_finds_no_violation(kind: str, pages: dict[str, Path], browser: Browser) -> None:
    """Unfolded and under the page's own policy; test_browser.py measures the contrast in charts."""
    view = browser.new_page()
    events: list[str] = []
    view.on("request", lambda request: events.append(request.url))
    view.on("console", lambda message: events.append(message.text))
    view.on("pageerror", lambda error: events.append(str(error)))
    view.goto(pages[kind].as_uri())
    assert view.locator(".verdict").evaluate_all("all => all.map(each => each.className)") == VERDICTS[kind]
    assert view.locator("h1").count() == 1
    view.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    for width, scheme in VIEWS:
        view.set_viewport_size({"width": width, "height": 800})
        view.emulate_media(color_scheme=scheme)
        found, undecided = violations(view)
        assert found == [], (width, scheme)
        assert undecided <= {"color-contrast", "hidden-content"}, (width, scheme)
    assert events == [pages[kind].as_uri()]
    view.close()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("document.body.style.color = '#555'", "color-contrast"),
        ("document.documentElement.lang = ''", "html-has-lang"),
        ("document.querySelector('h1').remove()", "page-has-heading-one"),
        (
            "document.querySelectorAll('[tabindex], button').forEach(each => each.tabIndex = -1)",
            "scrollable-region-focusable",
        ),
    ],
)
def test_axe_finds_each_kind_of_violation(change: str, rule: str, pages: dict[str, Path], browser: Browser) -> None:
    """Low contrast in dark mode, no language, no heading, and a scrollable element that is not reached by keyboard."""
    view = browser.new_page(color_scheme="dark", viewport={"width": 380, "height": 800})
    view.goto(pages["drift"].as_uri())
    view.evaluate(change)
    found, _ = violations(view)
    assert {violation.partition(":")[0] for violation in found} == {rule}
    view.close()
