"""What a sweep ends in: a table of all members, as they are compared with the best of their kind."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from runner.config.sweep import CSV, PAGE, Member, as_csv, as_page, compared, members, record
from tests.cli_runner import Shapwatch
from tests.golden import Golden

HOSTILE = "=HYPERLINK(1)<script>alert(1)</script>"


def left(folder: Path, number: int, samples: str, values: list[float], rows: int, explainer: str = "kernel") -> None:
    """Leave what a member does."""
    results = folder / str(number) / "baseline"
    results.mkdir(parents=True)
    manifest = {"status": "Completed", "evaluations": rows, "calls": None, "estimator": {"explainer": explainer}}
    (results / "manifest.json").write_text(json.dumps(manifest))
    shap = {"label0": {"global_shap_values": dict(zip("abc", values, strict=True))}}
    (results / "analysis.json").write_text(json.dumps({"explanations": {"kernel_shap": shap}}))
    overrides = ("stage=baseline", f"++shap.num_samples={samples}", f"monitor.name={HOSTILE}")
    record(Member(folder / str(number), overrides), 0, "Completed.\n  more", 0.5, str(results))


def table(folder: Path) -> list[dict[str, Any]]:
    """Return the rows."""
    return list(compared(members(folder)))


def test_members_are_held_against_the_largest_budget(tmp_path: Path) -> None:
    """By root mean square of what their global attributions differ, and by the order of features."""
    left(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50)
    left(tmp_path, 1, "100", [3.0, 2.0, 2.5], 100)
    first, second = table(tmp_path)
    assert (first["error"], second["error"]) == (pytest.approx((1.5**2 / 3) ** 0.5), 0)
    assert (first["best"], second["best"]) == (False, True)
    assert first["ndcg"] < 1
    assert second["ndcg"] == 1


def test_an_exact_member_is_the_best(tmp_path: Path) -> None:
    """Even where another one has sent more rows."""
    left(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50, "exact")
    left(tmp_path, 1, "100", [3.0, 2.0, 2.5], 100)
    assert [row["best"] for row in table(tmp_path)] == [True, False]


def test_a_failed_member_has_its_row(tmp_path: Path) -> None:
    """With its error, and no values for what it did not compute."""
    left(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50)
    record(Member(tmp_path / "10", ("shap.num_samples=5",)), 2, "error: few\n", 0.1, None)
    record(Member(tmp_path / "9", ("shap.num_samples=6",)), 2, "error: few\n", 0.1, None)
    rows = table(tmp_path)
    assert [row["member"] for row in rows] == [0, 9, 10]
    assert (rows[1]["status"], rows[1]["told"], rows[1]["error"]) == ("Failed", "error: few", None)


def test_what_overrides_hold_is_data(tmp_path: Path) -> None:
    """Escaped on the page, and no formula in a spreadsheet."""
    left(tmp_path, 0, "50", [3.0, 2.0, 1.0], 50)
    left(tmp_path, 1, "100", [3.0, 2.0, 2.5], 100)
    rows = table(tmp_path)
    assert "<script>" not in as_page(rows)
    (first, _) = csv.DictReader(as_csv(rows).splitlines())
    assert first["monitor.name"] == f"'{HOSTILE}"
    assert float(first["error"]) > 0


@pytest.mark.parametrize(
    "launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")], ids=["basic", "joblib"]
)
def test_a_sweep_ends_in_one_table(tmp_path: Path, launcher: tuple[str, ...], golden: Golden) -> None:
    """Each member writes to a place of its own; one fails, which does not stop the others and is the exit code."""
    shapwatch = Shapwatch(tmp_path)
    swept = ("shap.explainer=kernel", "shap.compat=clarify", "shap.num_samples=20,5,60")
    printed = shapwatch.process("stage=baseline", *swept, *launcher, options=("-m",), code=2)
    (folder,) = (tmp_path / "sweeps").iterdir()
    lines = printed.splitlines()
    page = lines.index(f"  {folder / PAGE}")
    golden("\n".join(lines[page - 1 : page + 2]), (folder.name, "{now}"))
    rows = list(csv.DictReader((folder / CSV).read_text().splitlines()))
    assert [row["status"] for row in rows] == ["Completed", "Failed", "Completed"]
    assert [row["shap.num_samples"] for row in rows] == ["20", "5", "60"]
    assert float(rows[0]["error"]) > float(rows[2]["error"]) == 0
    golden(rows[1]["told"])
    html = (folder / PAGE).read_text()
    assert html.count("<tr") == 1 + len(rows)
    golden("\n".join(re.findall("<title>(.*)</title>", html)))
    assert not (tmp_path / "baseline").exists()


def test_executions_are_swept_against_one_reference(tmp_path: Path) -> None:
    """The reference stays where it is; each member has its nDCG to it."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z")
    shapwatch("stage=baseline", "shap.num_samples=20")
    shapwatch("stage=monitor", "stage.window=2026-01-05T09", "shap.num_samples=20,40", options=("-m",))
    (folder,) = (tmp_path / "sweeps").iterdir()
    rows = list(csv.DictReader((folder / CSV).read_text().splitlines()))
    assert [row["status"] for row in rows] == ["Completed", "Completed"]
    assert all(float(row["ndcg"]) > 0.9 for row in rows)
    assert not (tmp_path / "monitor").exists()
