"""The table of a sweep: errors against the best member, as CSV and as a page."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runner.config.sweep import CSV, PAGE, Member, MemberRow, as_csv, as_page, compare, members, record
from runner.domain.attributions import GlobalAttributions
from runner.domain.executions import Status
from runner.results.documents import dump_analysis
from runner.results.manifest_file import dump_manifest
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.results.samples import BASELINE, EXPLANATION

HOSTILE = "=HYPERLINK(1)<script>alert(1)</script>"


def write_member(
    folder: Path, number: int, samples: str, values: list[float], rows: int, explainer: str = "kernel"
) -> None:
    """Write the result and the documents of a member."""
    results = folder / str(number) / "baseline"
    results.mkdir(parents=True)
    explanation = replace(EXPLANATION, evaluations=rows, estimator={"explainer": explainer}, calls=None)
    (results / "manifest.json").write_bytes(dump_manifest(replace(BASELINE, explanation=explanation)))
    attributions = GlobalAttributions(("a", "b", "c"), ("label0",), np.array([values]).T, np.zeros(1))
    (results / "analysis.json").write_bytes(dump_analysis(attributions))
    overrides = ("stage=baseline", f"++shap.num_samples={samples}", f"monitor.name={HOSTILE}")
    record(Member(folder / str(number), overrides), 0, "Completed.\n  more", 0.5, str(results))


def table(folder: Path) -> list[MemberRow]:
    """Return the rows of a sweep."""
    return compare(list(members(folder)))


def test_members_are_compared_with_the_largest_budget(tmp_path: Path) -> None:
    """The error is the root mean square difference of global attributions; nDCG compares the order of features."""
    write_member(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50)
    write_member(tmp_path, 1, "100", [3.0, 2.0, 2.5], 100)
    small, large = table(tmp_path)
    assert small.error == pytest.approx((1.5**2 / 3) ** 0.5)
    assert large.error == 0
    assert (small.best, large.best) == (False, True)
    assert small.ndcg is not None
    assert small.ndcg < 1
    assert large.ndcg == 1


def test_exact_member_is_the_best(tmp_path: Path) -> None:
    """Also if another one has sent more rows."""
    write_member(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50, "exact")
    write_member(tmp_path, 1, "100", [3.0, 2.0, 2.5], 100)
    assert [row.best for row in table(tmp_path)] == [True, False]


def test_failed_member_has_a_row(tmp_path: Path) -> None:
    """The row has the message, and no figures."""
    write_member(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50)
    record(Member(tmp_path / "10", ("shap.num_samples=5",)), 2, "error: few\n", 0.1, None)
    record(Member(tmp_path / "9", ("shap.num_samples=6",)), 2, "error: few\n", 0.1, None)
    rows = table(tmp_path)
    assert [row.member for row in rows] == [0, 9, 10]
    assert (rows[1].status, rows[1].message, rows[1].error) == (Status.FAILED, "error: few", None)


def test_overrides_are_escaped(tmp_path: Path) -> None:
    """They are escaped on the page, and are no formula in a spreadsheet."""
    write_member(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50)
    write_member(tmp_path, 1, "100", [3.0, 2.0, 2.5], 100)
    rows = table(tmp_path)
    assert "<script>" not in as_page(rows)
    (line, _) = csv.DictReader(as_csv(rows).splitlines())
    assert line["monitor.name"] == f"'{HOSTILE}"
    assert float(line["error"]) > 0


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param((), id="basic"),
        pytest.param(("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), id="joblib", marks=pytest.mark.soak),
    ],
)
def test_sweep_writes_one_table(tmp_path: Path, launcher: tuple[str, ...], golden: Golden) -> None:
    """Each member writes to its own folder; a failed member does not stop the others, and gives the exit code."""
    shapwatch = Shapwatch(tmp_path)
    grid = ("shap.explainer=kernel", "shap.compat=clarify", "shap.num_samples=20,5,60")
    printed = shapwatch.process("stage=baseline", *grid, *launcher, options=("-m",), code=2)
    (folder,) = (tmp_path / "sweeps").iterdir()
    lines = printed.splitlines()
    page = lines.index(f"  {folder / PAGE}")
    golden("\n".join(lines[page - 1 : page + 2]), (folder.name, "{now}"))
    rows = list(csv.DictReader((folder / CSV).read_text().splitlines()))
    assert [row["status"] for row in rows] == ["Completed", "Failed", "Completed"]
    assert [row["shap.num_samples"] for row in rows] == ["20", "5", "60"]
    assert float(rows[0]["error"]) > float(rows[2]["error"]) == 0
    golden(rows[1]["message"])
    html = (folder / PAGE).read_text()
    assert html.count("<tr") == 1 + len(rows)
    golden("\n".join(re.findall("<title>(.*)</title>", html)))
    assert not (tmp_path / "baseline").exists()


def test_executions_of_a_sweep_share_the_reference(tmp_path: Path) -> None:
    """The reference is not copied; each member has its nDCG against it."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    shapwatch("stage=baseline", "shap.num_samples=20")
    shapwatch("stage=monitor", "stage.window=2026-01-05T09", "shap.num_samples=20,40", options=("-m",))
    (folder,) = (tmp_path / "sweeps").iterdir()
    rows = list(csv.DictReader((folder / CSV).read_text().splitlines()))
    assert [row["status"] for row in rows] == ["Completed", "Completed"]
    assert all(float(row["ndcg"]) > 0.9 for row in rows)
    assert not (tmp_path / "monitor").exists()
