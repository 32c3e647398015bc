"""Accessibility: axe-core finds no violation in any page, in light and dark, on a screen and on a telephone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from runner.domain.drift import Canary, Level, Parity
from tests.cli_runner import Shapwatch
from tests.report.samples import (
    EXECUTION,
    HOSTILE,
    SCORES,
    attributions,
    drift_document,
    files,
    full_drift_result,
    history,
    manifest,
    write,
)

VERDICTS = {
    "drift": ["verdict violation"],
    "no drift": ["verdict none"],
    "failed": ["verdict failed"],
    "no data": ["verdict few"],
    "baselining": ["verdict ok"],
    "in doubt": ["verdict doubt"],
    "model changed": ["verdict warning"],
    "too few records": ["verdict few"],
    "hostile names": ["verdict doubt"],
    "index": ["verdict failed"],
    "sweep": [],
}
"""Classes of the verdicts on a page."""
View = tuple[int, Literal["light", "dark"]]
VIEWS: tuple[View, ...] = ((1280, "light"), (390, "dark"))
OTHER_VIEWS: tuple[View, ...] = ((1280, "dark"), (390, "light"))
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
    result = full_drift_result(live, reference)
    hostile = write(root / "hostile", files(EXECUTION, live, drift_document(reference, result, history(9))))
    documents = {
        "in doubt": (manifest(headline="Model mismatch", serving_parity=Parity(0.25, 10, 1e-6, 4)), result),
        "model changed": (
            manifest(headline="Model changed", level=Level.WARNING, serving_parity=Parity(0.0, 10)),
            replace(result, canary=Canary(20, True, 0.5, 0.1)),
        ),
        "too few records": (manifest(headline="Too few records", serving_parity=None), None),
    }
    states = {
        name: write(root / name, files(document, live, drift_document(reference, found, scores=SCORES))) / "report.html"
        for name, (document, found) in documents.items()
    }
    monitor = root / "monitor/breast-cancer/breast-cancer-monitor"
    return {
        "drift": monitor / "2026/01/05/12/report.html",
        "no drift": monitor / "2026/01/05/10/report.html",
        "failed": monitor / "2026/01/05/21/report.html",
        "no data": monitor / "2026/01/05/22/report.html",
        "baselining": root / "baseline/breast-cancer-monitor/report.html",
        **states,
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


FURTHER = {"in doubt", "model changed", "too few records"}
"""Pages that are tested with the long tests only."""


@pytest.mark.parametrize("views", [VIEWS, pytest.param(OTHER_VIEWS, marks=pytest.mark.soak)], ids=["usual", "other"])
@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=[pytest.mark.soak] * (each in FURTHER)) for each in VERDICTS]
)
def test_axe_finds_no_violation(kind: str, views: tuple[View, ...], pages: dict[str, Path], browser: Browser) -> None:
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
    for width, scheme in views:
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
