"""The report: one page that says everything, shows hostile names as text and asks nobody for anything."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from runner.domain.drift import DriftResult, Effect, FeatureDrift, LabelResult, Level
from runner.errors import NO_DATA
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.report.samples import HOSTILE, REPORT, attributions, failed, html, manifest, points, stored, whole, written
from tests.report.visible import details, headings, order, parts, seen, state, visible


def page(tmp_path: Path, shown: str) -> Path:
    """Return the file of a page."""
    path = tmp_path / "report.html"
    path.write_text(shown, "utf-8")
    return path


def test_the_page_has_what_the_manifest_has(golden: Golden) -> None:
    """Verdict, health, both labels and all notes stand on the page, hostile texts escaped."""
    shown = html(manifest(), attributions(["a", "b"]), attributions(["b", "a"], 1))
    for text in ("<h1>Drift</h1>", "a &lt;i&gt;note&lt;/i&gt;", "Title &lt;&amp;&gt;", "ab" * 32):
        assert text in shown, text
    assert {"12", "10", "2", "100"} <= set(re.findall(r"\b\d+\b", seen(shown, "health")))
    assert {"0.8000", "0.9"} <= set(re.findall(r"\d+\.\d+", seen(shown, "facts")))
    assert shown.count("<strong>0.8000</strong>") == 2
    assert shown.count("<figure") == 1
    golden(seen(shown, "verdict", "facts"))
    golden(seen(shown, "health"))
    golden(details(shown)[0])


def test_the_page_is_in_the_order_in_which_a_person_reads(golden: Golden) -> None:
    """Verdict, what to do, health, movers, what is material, over time, from where to where, all, parts, appendix."""
    live, reference = attributions(["a", "b"]), attributions(["b", "a"], 1)
    shown = html(manifest(), live, reference, whole(live, reference), points(4))
    assert order(shown)[:5] == ["verdict", "advice", "health", "bar", "figure"]
    assert len(headings(shown)) == 11
    assert len(re.findall(r"<details[^>]*>", shown)) == 5
    (unfolded,) = re.findall(r"<details open>\s*<summary>(.*)</summary>", shown)
    assert unfolded.split(", ")[:2] == ["yes", "warning"]
    golden("\n".join(headings(shown)))
    golden(seen(shown, "facts"))
    golden("\n".join(re.findall("<summary>(.*)</summary>", shown)))


def test_what_was_found_stands_beside_what_chance_does(golden: Golden) -> None:
    """Effects, tests and causes: what has changed most surely comes first, alike ones together, all of it escaped."""
    features = tuple(
        FeatureDrift(name, 0.5, 0.4, 0.5, 0.4, 1, 1, 0.1, 0.2, distance, p, cause)
        for name, distance, p, cause in (
            ("a", 0.25, 1e-9, "<i>"),
            ("<b>b</b>", 0.5, 1e-99, "'&'"),
            ("c", 0.125, 1e-8, "<i>"),
        )
    )
    moved, undefined = Effect(0.25, 0.125, 0.001), Effect(None, None, None)
    found = LabelResult("yes", "yes", Level.WARNING, 1e-99, moved, undefined, Effect(0.875, 0.9375, 0.5), features)
    finding = DriftResult(Level.WARNING, Level.WARNING, 600, 300, 1e-4, 0.17, (found,))
    names = ["a", "<b>b</b>", "c"]
    shown = html(manifest(), attributions(names), attributions(names, 1), finding)
    for cells in (
        r"<td>25\.0%</td><td>[^<]*\b12\.5%</td><td>0\.001</td>",
        "<td>undefined</td><td></td><td></td>",
        r"<td>0\.8750</td><td>[^<]*\b0\.9375</td><td>0\.5</td>",
        r"<td>0\.50</td><td>1e-99</td>",
    ):
        assert re.search(cells, shown), cells
    assert re.findall("<dt>(.*)</dt><dd>(.*)</dd>", parts(shown, "causes")[0]) == [
        ("&lt;b&gt;b&lt;/b&gt;", "&#39;&amp;&#39;"),
        ("a, c", "&lt;i&gt;"),
    ]
    golden(details(shown)[0])


@pytest.mark.parametrize(
    ("changes", "numbers"),
    [
        ({}, ["100"]),
        ({"standard_errors": {"yes": {"local": 0.00214}, "no": {"local": 0.000031}}}, ["100", "0.0021"]),
        ({"standard_errors": {"yes": {"local": None}, "no": {"local": None}}}, ["100"]),
        ({"standard_errors": {"yes": {"local": 0.0}, "no": {"local": 0.0}}}, []),
    ],
    ids=["not measured", "measured", "unknown", "exact"],
)
def test_the_estimators_error_is_on_the_page(changes: dict[str, Any], numbers: list[str], golden: Golden) -> None:
    """That of the label where it is largest; reports of before it was measured can be rendered still."""
    shown = html(manifest(**changes), attributions(["a", "b"]), attributions(["b", "a"], 1))
    (check,) = (line for line in seen(shown, "health").splitlines() if "kernel" in line)
    assert re.findall(r"\d+(?:\.\d+)?", check.split(" — ")[1]) == numbers
    golden(check)


def test_a_model_behind_an_endpoint_has_its_calls_on_the_page(golden: Golden) -> None:
    """Calls, retries and the probes that were left out are on the page; which model it was is not known."""
    calls = {"requests": 1234, "rows": 99, "bytes": 2_500_000, "retries": 3, "fallbacks": 1}
    counts = {"files": 1, "events": 12, "probes": 7, "records": 10}
    changes = {"calls": calls, "counts": counts, "model_changed": None, "hashes": {"model": None}}
    shown = html(manifest(**changes), attributions(["a", "b"]), attributions(["b", "a"], 1))
    health = seen(shown, "health")
    for number in ("1,234", "2.5", "3", "7"):
        assert re.search(rf"\b{number}\b", health), number
    assert "None" not in shown
    golden(health)


def test_failures_have_a_page_too(golden: Golden) -> None:
    """A failed execution has no attributions, but its reason, what was captured, and what to do."""
    counts = {"files": 0, "events": 0, "outside": 3, "probes": 0, "records": 0, "rejected": {}}
    shown = html({**failed(), "counts": counts, "command": "python -m runner <b>"})
    assert state(shown) == "bad"
    assert NO_DATA in seen(shown, "verdict")
    assert re.search(r"\b3\b", seen(shown, "health"))
    assert "<code>python -m runner &lt;b&gt;</code>" in shown
    assert "<svg" not in shown
    assert parts(shown, "doubt") == []
    golden(seen(shown, "verdict", "advice", "health"))


def test_too_few_records_are_no_alarm(golden: Golden) -> None:
    """The ranking was judged all the same, and nothing is shown in red; the advice names the setting."""
    told = {"headline": "Too few records", "sentence": "7.", "serving_parity": None, "level": "insufficient_data"}
    shown = html(manifest(**told), attributions(["a"]), attributions(["a"], 1))
    assert state(shown) == "warning"
    assert "drift.min_rows" in seen(shown, "advice")
    golden(seen(shown, "advice"))


def test_bad_health_takes_the_colour_from_the_verdict(golden: Golden) -> None:
    """Which check makes it doubtful stands below it, and in the advice; where all is well there is no doubt."""
    live, reference = attributions(["a", "b"]), attributions(["b", "a"], 1)
    doubtful, sure = (
        html(manifest(serving_parity={"largest": largest, "records": 10}), live, reference) for largest in (0.25, 0.0)
    )
    assert (state(doubtful), state(sure)) == ("doubtful", "bad")
    assert (len(parts(doubtful, "doubt")), len(parts(sure, "doubt"))) == (1, 0)
    assert len(parts(doubtful, "advice")) == len(parts(sure, "advice")) + 1
    golden(seen(doubtful, "doubt", "advice"))
    golden(seen(sure, "advice"))


def test_documents_of_earlier_versions_are_rendered(golden: Golden) -> None:
    """A finding without what came later, and no history, no material: the page has what there is."""
    live, reference = attributions(["a", "b"]), attributions(["b", "a"], 1)
    told = {key: value for key, value in manifest().items() if key != "material"}
    files = stored(told, live, reference, whole(live, reference), points(4))
    document = json.loads(files["drift.json"])
    del document["history"]
    for key in ("alone", "segments", "separability", "canary"):
        del document["finding"][key]
    for label in document["finding"]["labels"]:
        for feature in label["features"]:
            del feature["attributions"], feature["values"]
    shown = REPORT.render(told, files["analysis.json"], json.dumps(document).encode())["report.html"].decode()
    assert shown.count("<figure") == 2
    golden("\n".join(headings(shown)))


def test_the_same_execution_gives_the_same_bytes() -> None:
    """There is no date and nothing random in a page."""
    pages = {html(manifest(), attributions(["a", "b"]), attributions(["a", "b"], 1)) for _ in range(2)}
    assert len(pages) == 1


@pytest.mark.parametrize("count", [1, 30, 1000])
def test_any_number_of_features(count: int, golden: Golden) -> None:
    """The chart shows the largest, the tables as many as there is room for, and the page stays small."""
    names = [f"feature {i}" for i in range(count)]
    shown = html(manifest(), attributions(names), attributions(names, 1))
    assert shown.count('<th scope="row">feature') == 2 * count + min(10, count)
    assert len(shown) < 1_000_000
    chart = visible(parts(shown, "quiet")[0])
    assert re.findall(r"\d+", chart) == [str(count - 20)] * (count > 20)
    golden(chart)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_names_as_text(tmp_path: Path, browser: Browser, scheme: Any) -> None:
    """Hostile names are text in table and chart; no request leaves, nothing runs, and dark mode is dark."""
    live, reference = attributions(HOSTILE), attributions(HOSTILE, 1)
    written = html(manifest(), live, reference, whole(live, reference), points(12))
    context = browser.new_context(color_scheme=scheme)
    view = context.new_page()
    requests: list[str] = []
    troubles: list[str] = []
    view.on("request", lambda request: requests.append(request.url))
    view.on("console", lambda message: troubles.append(message.text))
    view.on("pageerror", lambda error: troubles.append(str(error)))
    view.on("dialog", lambda dialog: troubles.append(dialog.message))
    address = page(tmp_path, written).as_uri()
    view.goto(address)
    assert requests == [address]
    assert troubles == []
    assert view.title() == "Drift · Title <&>"
    shown = view.locator("tbody th[scope=row]").all_text_contents()
    assert {name.strip() for name in HOSTILE} <= {name.strip() for name in shown}
    assert view.locator("script, img, b, u, i").count() == 0
    assert view.locator("figure svg").count() == 4
    assert "🦊 emoji" in view.locator("figure svg").nth(2).text_content()  # type: ignore[operator]
    ink, paper = view.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
    assert (light[0] > light[1]) == (scheme == "dark")
    label = view.locator("figure svg text").first.evaluate("element => getComputedStyle(element).fill")
    assert label == ink
    width = view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width == 0
    context.close()


def test_a_real_report_reads_in_order(tmp_path: Path, browser: Browser, golden: Golden) -> None:
    """The quickstart's third report has its verdict first, then health and what moved; it knows two hours before."""
    Shapwatch(tmp_path)("stage=quickstart")
    view = browser.new_page(viewport={"width": 400, "height": 800})
    folder = tmp_path / "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/12"
    view.goto((folder / "report.html").as_uri())
    assert view.locator(".verdict h1").text_content() == json.loads((folder / "manifest.json").read_bytes())["headline"]
    shown = view.content()
    assert state(shown) == "bad"
    assert order(shown)[:5] == ["verdict", "advice", "health", "bar", "figure"]
    assert view.locator("[aria-label^=Timeline] tbody tr").count() == 3
    assert view.get_by_role("region", name="Movers").locator("tbody th").first.text_content() == "mean compactness"
    overflow = view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0


CONTRAST = """
() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const paper = (element) => {
    for (; element; element = element.parentElement) {
      const colour = parse(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim();
    if (!text || element.closest("style")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.ownerSVGElement ? style.fill : style.color);
    const [high, low] = [light(ink), light(paper(element))].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), text.slice(0, 40)]);
  }
  return found;
}
"""
"""The contrast of every text with what is behind it, by the formula of WCAG 2.2."""


@pytest.fixture
def pages(tmp_path: Path) -> list[Path]:
    """A report with everything in it, a failure, and the page over both."""
    live, reference = attributions(HOSTILE), attributions(HOSTILE, 1)
    judged = stored(manifest(), live, reference, whole(live, reference), points(12))
    folders = [
        written(tmp_path / "e/m/2026/01/05/10", judged),
        written(tmp_path / "e/m/2026/01/05/11", stored(failed())),
        written(tmp_path / "e/m", {"index.html": REPORT.index(tmp_path / "e/m")}),
    ]
    return [folder / name for folder, name in zip(folders, ("report.html",) * 2 + ("index.html",), strict=True)]


def listening(view: Page) -> list[str]:
    """Return a list that grows by every request and every message of a page."""
    told: list[str] = []
    view.on("request", lambda request: told.append(request.url))
    view.on("console", lambda message: told.append(message.text))
    return told


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(pages: list[Path], browser: Browser, scheme: Any) -> None:
    """Contrast is 4.5 or more, in charts too; nothing is asked for, nothing complains, a telephone is wide enough."""
    for path in pages:
        context = browser.new_context(color_scheme=scheme, viewport={"width": 380, "height": 800})
        view = context.new_page()
        told = listening(view)
        view.goto(path.as_uri())
        view.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
        assert told == [path.as_uri()]
        measured = view.evaluate(CONTRAST)
        assert len(measured) > 10
        assert [text for contrast, text in measured if contrast < 4.5] == []
        assert view.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        context.close()


def test_the_verdict_is_read_first(pages: list[Path], browser: Browser) -> None:
    """Also by a screen reader: one heading of the first level, its sentence, then the rest; pictures have texts."""
    for path in pages:
        view = browser.new_page()
        view.goto(path.as_uri())
        tree = [line.strip(" -") for line in view.locator("body").aria_snapshot().splitlines()]
        assert tree[0] == "main:"
        assert tree[1].startswith('region "')
        assert view.locator("main > section.verdict:first-child > h1").count() == 1
        assert re.fullmatch(r'heading "\w+" \[level=1\]', tree[2])
        assert tree[3].startswith("paragraph: ")
        assert sum("[level=1]" in line for line in tree) == 1
        levels = [int(level) for level in re.findall(r"\[level=(\d)\]", "\n".join(tree))]
        assert all(later - former <= 1 for former, later in itertools.pairwise(levels))
        assert all(line.startswith('img "') for line in tree if line.startswith("img"))
        view.close()


def test_everything_is_reached_by_keyboard(pages: list[Path], browser: Browser) -> None:
    """Tab goes through what scrolls, what links and what unfolds, from top to bottom; each stop has a name."""
    for path in pages:
        view = browser.new_page()
        view.goto(path.as_uri())
        stops = "a, summary, [tabindex]"
        expected = view.locator(stops).evaluate_all(
            "all => all.filter(each => each.checkVisibility()).map(each => each.outerHTML)"
        )
        reached = []
        for _ in expected:
            view.keyboard.press("Tab")
            reached.append(view.evaluate("document.activeElement.outerHTML"))
        assert reached == expected
        assert view.locator("[tabindex]:not([aria-label])").count() == 0
        view.close()


def test_paper_is_white_and_has_all(pages: list[Path], browser: Browser) -> None:
    """Printed in dark mode, ink is dark, and what is folded on the screen is unfolded."""
    context = browser.new_context(color_scheme="dark")
    view = context.new_page()
    view.goto(pages[0].as_uri())
    view.emulate_media(media="print")
    ink = view.evaluate("getComputedStyle(document.body).color")
    assert sum(map(int, ink[4:-1].split(","))) < 150
    assert view.locator("details code").first.evaluate("each => each.checkVisibility({contentVisibilityAuto: true})")
    context.close()
