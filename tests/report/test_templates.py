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

LIVE = documents.dump_analysis(attributions(["a", "b"]))


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
    ("name", "text", "line"),
    [
        pytest.param("report.html.j2", "a\n{{ titel }}\n", ":2", id="undefined name"),
        pytest.param("report.html.j2", "a\n\n{% if %}\n", ":3", id="syntax"),
        pytest.param("report.html.j2", "{{ headline + 1 }}", ":1", id="types"),
        pytest.param("report.html.j2", "{{ headline.__class__.__mro__ }}", ":1", id="unsafe attribute"),
        pytest.param("report.ipynb.j2", "\n{{ titel }}", ":2", id="undefined name in the notebook"),
        pytest.param("report.typ", "= A\n#let x = (\n", ":2", id="syntax of the PDF"),
        pytest.param("report.typ", "= A\n#titel\n", ":2", id="undefined name in the PDF"),
        pytest.param("charts/attributions.vl.json", "{\n!}", ":2", id="JSON"),
        pytest.param("charts/attributions.vl.json", "[]", ":1", id="no object"),
        pytest.param("charts/attributions.vl.json", '{"mark": 7}', "", id="no chart"),
    ],
)
def test_a_wrong_template_is_an_error_with_its_line(
    tmp_path: Path, golden: Golden, name: str, text: str, line: str
) -> None:
    """File, line and problem in one line; where the documents matter more, the other forms are made all the same."""
    (tmp_path / "charts").mkdir()
    (tmp_path / name).write_text(text)
    report = replace(REPORT, own=tmp_path)
    with golden.raises(ReportError) as caught:
        report.render(manifest(), LIVE)
    assert str(caught.value.location) == f"{tmp_path / name}{line}"
    assert "\n" not in str(caught.value)
    made, troubles = report.attempt(manifest(), LIVE)
    assert len(made) + len(troubles) == 3
    assert len(troubles) == (3 if name.startswith("charts") else 1)
    missing = [form for form in ("report.html", "report.pdf", "report.ipynb") if form not in made]
    for form, trouble in zip(missing, troubles, strict=True):
        assert form in trouble
        assert trouble.endswith(str(caught.value))


def test_each_form_that_cannot_be_made_is_reported(tmp_path: Path, golden: Golden) -> None:
    """By a line with its name and the error; a broken chart lacks in all three."""
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts/attributions.vl.json").write_text("[]")
    made, troubles = replace(REPORT, own=tmp_path).attempt(manifest(), LIVE)
    assert (made, len(troubles)) == ({}, 3)
    golden("\n".join(troubles))


def test_a_missing_folder_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """The error names the folder and the key."""
    with golden.raises(ReportError) as caught:
        replace(REPORT, own=tmp_path / "none").render(manifest(), LIVE)
    assert caught.value.location == tmp_path / "none"
    assert "report.templates" in str(caught.value)
