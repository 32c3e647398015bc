"""Accessibility: axe-core finds nothing in a page, be it light or dark, wide or on a telephone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.cli_runner import Shapwatch
from tests.report.samples import HOSTILE, attributions, finding, manifest, stored, written

VERDICTS = {
    "drift": ["verdict bad"],
    "no drift": ["verdict good"],
    "failed": ["verdict bad"],
    "baselining": ["verdict good"],
    "hostile names": ["verdict doubtful"],
    "index": ["verdict bad"],
    "sweep": [],
}
"""The classes of the verdicts on a page."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental"]
"""Each rule that axe-core has up to WCAG 2.2 AA, what it calls good practice, and what it is still trying out."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The quickstart's pages, one of an hour without traffic, and one about hostile names."""
    root = tmp_path_factory.mktemp("pages")
    shapwatch = Shapwatch(root)
    shapwatch("stage=quickstart")
    shapwatch("stage=monitor", "stage.window=2026-01-05T20", code=2)
    shapwatch("stage=baseline", "shap.num_samples=20,40", options=("-m",))
    live, reference = attributions(HOSTILE), attributions(HOSTILE, 1)
    hostile = written(root / "hostile", stored(manifest(), live, reference, finding(live, reference)))
    monitor = root / "monitor/breast-cancer/breast-cancer-monitor"
    return {
        "drift": monitor / "2026/01/05/12/report.html",
        "no drift": monitor / "2026/01/05/10/report.html",
        "failed": monitor / "2026/01/05/21/report.html",
        "baselining": root / "baseline/breast-cancer-monitor/report.html",
        "hostile names": hostile / "report.html",
        "index": monitor / "index.html",
        "sweep": next((root / "sweeps").glob("*/sweep.html")),
    }


def judged(view: Page) -> tuple[list[str], set[str]]:
    """Return what axe-core finds in a page as it is shown, and the rules that it can't decide everywhere."""
    told: dict[str, Any] = Axe().run(view, options={"runOnly": RULES, "resultTypes": ["violations"]}).response
    found = [
        f"{rule['id']}: {node['html']}: {node['failureSummary']}"
        for rule in told["violations"]
        for node in rule["nodes"]
    ]
    return found, {rule["id"] for rule in told["incomplete"]}


@pytest.mark.parametrize("kind", VERDICTS)
def test_axe_finds_nothing(kind: str, pages: dict[str, Path], browser: Browser) -> None:
    """All unfolded, under the page's own policy; contrast it can't see in charts is measured in test_report.py."""
    view = browser.new_page()
    told: list[str] = []
    view.on("request", lambda request: told.append(request.url))
    view.on("console", lambda message: told.append(message.text))
    view.on("pageerror", lambda error: told.append(str(error)))
    view.goto(pages[kind].as_uri())
    assert view.locator(".verdict").evaluate_all("all => all.map(each => each.className)") == VERDICTS[kind]
    assert view.locator("h1").count() == 1
    view.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    for width in (1280, 380):
        view.set_viewport_size({"width": width, "height": 800})
        for scheme in SCHEMES:
            view.emulate_media(color_scheme=scheme)
            found, undecided = judged(view)
            assert found == [], (width, scheme)
            assert undecided <= {"color-contrast"}, (width, scheme)
    assert told == [pages[kind].as_uri()]
    view.close()


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        ("document.body.style.color = '#555'", "color-contrast"),
        ("document.documentElement.lang = ''", "html-has-lang"),
        ("document.querySelector('h1').remove()", "page-has-heading-one"),
        ("document.querySelectorAll('[tabindex]').forEach(each => each.tabIndex = -1)", "scrollable-region-focusable"),
    ],
)
def test_axe_would_find_it(spoil: str, rule: str, pages: dict[str, Path], browser: Browser) -> None:
    """Pale texts in the dark, no language, no headline, and what scrolls but is not reached by keyboard."""
    view = browser.new_page(color_scheme="dark", viewport={"width": 380, "height": 800})
    view.goto(pages["drift"].as_uri())
    view.evaluate(spoil)
    found, _ = judged(view)
    assert {each.partition(":")[0] for each in found} == {rule}
    view.close()
