"""Templates and charts of one's own, and what is said when one is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import ReportError
from runner.results import documents
from tests.golden import Golden
from tests.report.samples import REPORT, attributions, manifest

LIVE = documents.analysis(attributions(["a", "b"]))


def test_any_single_file_may_be_replaced(tmp_path: Path) -> None:
    """What the folder lacks comes from the shipped ones; other forms do not notice."""
    shipped = REPORT.render(manifest(), LIVE)
    (tmp_path / "report.html.j2").write_text("<p>{{ headline }} {{ sentence }}</p>")
    own = replace(REPORT, own=tmp_path).render(manifest(), LIVE)
    assert own["report.html"].startswith(b"<p>Drift The &lt;b&gt;features&lt;/b&gt;")
    assert {name: own[name] for name in ("report.pdf", "report.ipynb")} == {
        name: shipped[name] for name in ("report.pdf", "report.ipynb")
    }


def test_a_chart_of_ones_own_is_in_all_forms(tmp_path: Path) -> None:
    """Its colour is in the page; PDF and notebook are others, too."""
    (tmp_path / "charts").mkdir()
    specification = json.loads((REPORT.templates / "charts/attributions.vl.json").read_text())
    specification["encoding"]["color"]["value"] = "#123456"
    (tmp_path / "charts/attributions.vl.json").write_text(json.dumps(specification))
    shipped, own = REPORT.render(manifest(), LIVE), replace(REPORT, own=tmp_path).render(manifest(), LIVE)
    assert b"#123456" in own["report.html"]
    assert all(own[name] != shipped[name] for name in shipped)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("report.html.j2", "a\n{{ titel }}\n", r"report\.html\.j2:2: 'titel' is undefined$"),
        ("report.html.j2", "a\n\n{% if %}\n", r"report\.html\.j2:3: Expected an expression"),
        ("report.html.j2", "{{ headline + 1 }}", r"report\.html\.j2:1: can only concatenate"),
        ("report.html.j2", "{{ headline.__class__.__mro__ }}", r"report\.html\.j2:1: access to attribute '__class__'"),
        ("report.ipynb.j2", "\n{{ titel }}", r"report\.ipynb\.j2:2: 'titel' is undefined$"),
        ("report.typ", "= A\n#let x = (\n", r"report\.typ:2: unclosed delimiter$"),
        ("report.typ", "= A\n#titel\n", r"report\.typ:2: unknown variable: titel"),
        ("charts/attributions.vl.json", "{\n!}", r"attributions\.vl\.json:2: is no JSON: Expecting property name"),
        ("charts/attributions.vl.json", "[]", r"attributions\.vl\.json:1: is no Vega-Lite specification"),
        ("charts/attributions.vl.json", '{"mark": 7}', r"attributions\.vl\.json: cannot be drawn: "),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    """File, line, problem, in a sentence; where the documents matter more, the other forms are made all the same."""
    (tmp_path / "charts").mkdir()
    (tmp_path / name).write_text(text)
    report = replace(REPORT, own=tmp_path)
    with pytest.raises(ReportError, match=rf"^{tmp_path}/.*{told}") as caught:
        report.render(manifest(), LIVE)
    assert "\n" not in str(caught.value)
    made, troubles = report.attempt(manifest(), LIVE)
    assert len(made) + len(troubles) == 3
    assert len(troubles) == (3 if name.startswith("charts") else 1)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, golden: Golden) -> None:
    """The key is named."""
    with golden.raises(ReportError):
        replace(REPORT, own=tmp_path / "none").render(manifest(), LIVE)
