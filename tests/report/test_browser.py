"""Pages in a browser: names as text, contrast, keyboard, reading order, print."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.cli_runner import Shapwatch
from tests.report.samples import FAILURE, HOSTILE, REPORT, files, full_report, write
from tests.report.visible import order, verdict_state

OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
"""Pixels that the page is wider than the window."""
CONTRAST = """
() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const background = (element) => {
    for (; element; element = element.parentElement) {
      const color = rgb(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const contrasts = [];
  for (const element of document.querySelectorAll("body *")) {
    const nodes = [...element.childNodes].filter((node) => node.nodeType === 3);
    const string = nodes.map((node) => node.data).join("").trim();
    if (!string || element.closest("style")) continue;
    const style = getComputedStyle(element);
    const color = rgb(element.ownerSVGElement ? style.fill : style.color);
    const [high, low] = [luminance(color), luminance(background(element))].sort((a, b) => b - a);
    contrasts.push([(high + 0.05) / (low + 0.05), string.slice(0, 40)]);
  }
  return contrasts;
}
"""
"""Script that returns the contrast of each string with its background, as WCAG 2.2 defines it."""


@pytest.fixture
def pages(tmp_path: Path) -> list[Path]:
    """A report with all optional parts, the report of a failure, and the page of the monitor."""
    folders = [
        write(tmp_path / "e/m/2026/01/05/10", full_report(HOSTILE)),
        write(tmp_path / "e/m/2026/01/05/11", files(FAILURE)),
        write(tmp_path / "e/m", {"index.html": REPORT.index(tmp_path / "e/m")}),
    ]
    return [folder / name for folder, name in zip(folders, ("report.html",) * 2 + ("index.html",), strict=True)]


def record_events(view: Page) -> list[str]:
    """Return a list to which requests, messages and errors of a page are appended."""
    events: list[str] = []
    view.on("request", lambda request: events.append(request.url))
    view.on("console", lambda message: events.append(message.text))
    view.on("pageerror", lambda error: events.append(str(error)))
    view.on("dialog", lambda dialog: events.append(dialog.message))
    return events


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_hostile_names_as_text(pages: list[Path], browser: Browser, scheme: Any) -> None:
    """In tables and charts; nothing is loaded or run, and dark mode is dark."""
    context = browser.new_context(color_scheme=scheme)
    view = context.new_page()
    events = record_events(view)
    view.goto(pages[0].as_uri())
    assert events == [pages[0].as_uri()]
    assert view.title() == "City <b>: '<i>' is new · Title <&>"
    names = view.locator("tbody th[scope=row]").all_text_contents()
    assert {name.strip() for name in HOSTILE} <= {name.strip() for name in names}
    assert view.locator("script").count() == 1
    assert view.locator("img, b, u, i").count() == 0
    assert view.locator("figure").count() == 11
    assert view.locator("figure .picture svg").count() == 2 * 11
    assert "🦊 emoji" in "".join(view.locator("figure .picture svg").all_text_contents())
    text, background = view.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    lightness = [sum(map(int, color[4:-1].split(","))) for color in (text, background)]
    assert (lightness[0] > lightness[1]) == (scheme == "dark")
    label = view.locator("figure .picture svg text").first.evaluate("element => getComputedStyle(element).fill")
    assert (sum(map(int, label[4:-1].split(","))) > lightness[1]) == (scheme == "dark")
    assert view.evaluate(OVERFLOW) == 0
    context.close()


def test_the_report_of_the_quickstart_reads_in_order(tmp_path: Path, browser: Browser) -> None:
    """Verdict, what to do, health, top changes and charts; the timeline has three windows."""
    Shapwatch(tmp_path)("stage=quickstart")
    view = browser.new_page(viewport={"width": 400, "height": 800})
    folder = tmp_path / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/12"
    view.goto((folder / "report.html").as_uri())
    words = json.loads((folder / "manifest.json").read_bytes())["words"]
    assert view.locator(".verdict h1").text_content() == words["title"]
    assert view.locator(".answers dd").all_text_contents() == [words["changed"], words["matters"], words["action"]]
    page = view.content()
    assert verdict_state(page) == "violation"
    assert order(page)[:5] == ["verdict", "advice", "families", "health", "Top changes"]
    assert view.locator("[aria-label^=Timeline] tbody tr").count() == 3
    top_changes = view.get_by_role("region", name="Top changes")
    assert top_changes.locator("tbody th").first.text_content() == "mean compactness"
    assert view.evaluate(OVERFLOW) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_strings_have_enough_contrast(pages: list[Path], browser: Browser, scheme: Any) -> None:
    """At least 4.5, also in charts; the page fits the width of a telephone."""
    for path in pages:
        context = browser.new_context(color_scheme=scheme, viewport={"width": 380, "height": 800})
        view = context.new_page()
        events = record_events(view)
        view.goto(path.as_uri())
        view.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
        assert events == [path.as_uri()]
        contrasts = view.evaluate(CONTRAST)
        assert len(contrasts) > 10
        assert [string for contrast, string in contrasts if contrast < 4.5] == []
        assert view.evaluate(OVERFLOW) == 0
        context.close()


def test_a_screen_reader_reads_the_verdict_first(pages: list[Path], browser: Browser) -> None:
    """There is one heading of the first level, no level is skipped, and images have descriptions."""
    for path in pages:
        view = browser.new_page()
        view.goto(path.as_uri())
        tree = [line.strip(" -") for line in view.locator("main").aria_snapshot().splitlines()]
        assert tree[0] == "main:"
        assert tree[1].startswith('region "')
        assert view.locator("main > section.verdict:first-child h1").count() == 1
        assert "[level=1]" in "".join(tree[2:4])
        assert sum("[level=1]" in line for line in tree) == 1
        levels = [int(level) for level in re.findall(r"\[level=(\d)\]", "\n".join(tree))]
        assert all(level - previous <= 1 for previous, level in itertools.pairwise(levels))
        assert all(line.startswith('img "') for line in tree if line.startswith("img"))
        view.close()


def test_all_controls_are_reached_by_keyboard(pages: list[Path], browser: Browser) -> None:
    """Tab visits links, folded elements and scrollable elements from top to bottom; each has a name."""
    for path in pages:
        view = browser.new_page()
        view.goto(path.as_uri())
        stops = "a, summary, button, input, [tabindex]"
        expected = view.locator(stops).evaluate_all(
            "all => all.filter(each => each.checkVisibility()).map(each => each.outerHTML)"
        )
        visited = []
        for _ in expected:
            view.keyboard.press("Tab")
            visited.append(view.evaluate("document.activeElement.outerHTML"))
        assert visited == expected
        assert view.locator("[tabindex]:not([aria-label])").count() == 0
        view.close()


def test_a_printed_page_is_light_and_unfolded(pages: list[Path], browser: Browser) -> None:
    """Also when it is printed in dark mode."""
    context = browser.new_context(color_scheme="dark")
    view = context.new_page()
    view.goto(pages[0].as_uri())
    view.emulate_media(media="print")
    color = view.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, color[4:-1].split(","))) < 150
    assert view.locator("details code").first.evaluate("each => each.checkVisibility({contentVisibilityAuto: true})")
    context.close()


FEATURES = [f"feature {i}" for i in range(12)]


@pytest.fixture
def features(tmp_path: Path, browser: Browser) -> Iterator[Page]:
    """A report of twelve features."""
    view = browser.new_page()
    view.goto((write(tmp_path, full_report(FEATURES)) / "report.html").as_uri())
    yield view
    view.close()


def shown(view: Page, column: int) -> list[str]:
    """Return the visible cells of a column of the table of all features."""
    rows = view.locator("#features-1 tbody tr:visible").all()
    return [str(row.locator("th, td").nth(column).text_content()) for row in rows]


def test_a_table_is_sorted_by_keyboard(features: Page) -> None:
    """Numbers first in descending order, names in natural order; the head says so, and only one head does."""
    heads = features.locator("#features-1 thead th")
    heads.nth(7).get_by_role("button").focus()
    features.keyboard.press("Enter")
    changes = [float(cell.rstrip("%").replace("\u2212", "-")) for cell in shown(features, 7)]
    assert changes == sorted(changes, reverse=True)
    assert heads.nth(7).get_attribute("aria-sort") == "descending"
    features.keyboard.press("Enter")
    assert [float(cell.rstrip("%").replace("\u2212", "-")) for cell in shown(features, 7)] == changes[::-1]
    assert heads.nth(7).get_attribute("aria-sort") == "ascending"
    heads.nth(0).get_by_role("button").press("Space")
    assert shown(features, 0) == FEATURES
    assert features.locator("#features-1 [aria-sort]").count() == 1


def test_a_table_is_searched_by_keyboard(features: Page) -> None:
    """A slash focuses the search; the number of rows is announced, and an empty search shows all."""
    features.keyboard.press("/")
    features.keyboard.type("Feature 1")
    assert sorted(shown(features, 0)) == ["feature 1", "feature 10", "feature 11"]
    assert features.locator(".search output").first.text_content() == "3 of 12"
    features.keyboard.press("Control+A")
    features.keyboard.press("Delete")
    assert len(shown(features, 0)) == 12


def test_without_scripts_the_page_is_complete(tmp_path: Path, browser: Browser) -> None:
    """Tables have their rows, and controls that would do nothing are hidden."""
    context = browser.new_context(java_script_enabled=False)
    view = context.new_page()
    view.goto((write(tmp_path, full_report(FEATURES)) / "report.html").as_uri())
    assert view.locator("#features-1 tbody tr").count() == 12
    assert view.locator(".search:visible, button").count() == 0
    context.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_verdict_is_legible_without_scrolling(features: Page, width: int) -> None:
    """Words, families and top changes fit the window; text has at least 11 pixels, also in charts."""
    features.set_viewport_size({"width": width, "height": 800})
    assert features.evaluate(OVERFLOW) == 0
    cut = "all => all.filter(each => each.scrollWidth > each.clientWidth + 1).length"
    assert (
        features.locator(".verdict .words, .families, [aria-label='Top changes'], [aria-label=Inputs]").evaluate_all(
            cut
        )
        == 0
    )
    sizes = features.locator("body *:visible").evaluate_all(
        "all => all.filter(each => [...each.childNodes].some(node => node.nodeType === 3 && node.data.trim()))"
        ".map(each => parseFloat(getComputedStyle(each).fontSize))"
    )
    assert min(sizes) >= 11
