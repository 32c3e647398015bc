"""Own templates, and the errors of invalid ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import ReportError
from tests.golden import Golden
from tests.report.samples import BASELINE, REPORT, attributions

LIVE = attributions(["a", "b"])


def test_a_single_template_can_be_replaced(tmp_path: Path) -> None:
    """Other templates are the shipped ones, so the other formats do not change."""
    shipped = REPORT.render(BASELINE, LIVE)
    (tmp_path / "report.html.j2").write_text("<p>{{ headline }} {{ sentence }}</p>")
    own = replace(REPORT, templates=tmp_path).render(BASELINE, LIVE)
    assert own["report.html"].startswith(b"<p>Reference The &lt;b&gt;features&lt;/b&gt;")
    assert {name: own[name] for name in ("report.pdf", "report.ipynb")} == {
        name: shipped[name] for name in ("report.pdf", "report.ipynb")
    }


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        pytest.param("report.html.j2", "a\n{{ titel }}\n", ":2", id="undefined name"),
        pytest.param("report.html.j2", "a\n\n{% if %}\n", ":3", id="syntax"),
        pytest.param("report.html.j2", "{{ headline + 1 }}", ":1", id="types"),
        pytest.param("report.html.j2", "{{ headline.__class__.__mro__ }}", ":1", id="unsafe attribute"),
        pytest.param("report.ipynb.j2", "\n{{ titel }}", ":2", id="undefined name in the notebook"),
        pytest.param("report.typ", "= A\n#let x = (\n", ":2", id="syntax of the PDF"),
        pytest.param("report.typ", "= A\n#titel\n", ":2", id="undefined name in the PDF"),
    ],
)
def test_an_invalid_template_is_an_error_with_its_line(
    tmp_path: Path, golden: Golden, name: str, content: str, line: str
) -> None:
    """File, line and problem are on one line; `attempt` renders the other formats."""
    (tmp_path / name).write_text(content)
    report = replace(REPORT, templates=tmp_path)
    with golden.raises(ReportError) as caught:
        report.render(BASELINE, LIVE)
    assert str(caught.value.location) == f"{tmp_path / name}{line}"
    assert "\n" not in str(caught.value)
    files, problems = report.attempt(BASELINE, LIVE)
    assert len(files) + len(problems) == 3
    assert len(problems) == 1
    missing = [format_ for format_ in ("report.html", "report.pdf", "report.ipynb") if format_ not in files]
    for format_, problem in zip(missing, problems, strict=True):
        assert format_ in problem
        assert problem.endswith(str(caught.value))


def test_each_format_that_cannot_be_rendered_is_reported(tmp_path: Path, golden: Golden) -> None:
    """With its own problem."""
    for name in ("report.html.j2", "report.typ", "report.ipynb.j2"):
        (tmp_path / name).write_text("{% if %}" if name.endswith(".j2") else "#titel")
    files, problems = replace(REPORT, templates=tmp_path).attempt(BASELINE, LIVE)
    assert (files, len(problems)) == ({}, 3)
    golden("\n".join(problems))


def test_a_missing_folder_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """The error names the folder and the key."""
    with golden.raises(ReportError) as caught:
        replace(REPORT, templates=tmp_path / "none").render(BASELINE, LIVE)
    assert caught.value.location == tmp_path / "none"
    assert "report.templates" in str(caught.value)
