"""`stage=report` renders reports again, from the documents of a directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import polars as pl
import pytest

from tests.builders import file_contents
from tests.cli_runner import Shapwatch
from tests.golden import Golden

HOUR = "monitor/breast-cancer/breast-cancer-monitor/2026/01/05/12"
REFERENCE = "baseline/breast-cancer-monitor"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a quickstart with saved local attributions."""
    root = tmp_path_factory.mktemp("finished")
    Shapwatch(root)("stage=quickstart", "shap.save_local_shap_values=true")
    assert (root / HOUR / "explanations_shap/out.csv").exists()
    return root


@pytest.fixture
def shapwatch(tmp_path: Path, finished: Path) -> Shapwatch:
    """Return the command line in a copy of that folder, without captures."""
    for folder in (HOUR, REFERENCE):
        shutil.copytree(finished / folder, tmp_path / folder)
    return Shapwatch(tmp_path)


@pytest.mark.parametrize("folder", [HOUR, REFERENCE])
def test_same_documents_give_the_same_bytes(shapwatch: Shapwatch, folder: str) -> None:
    """Neither the model nor the data is needed; other files do not change."""
    before = file_contents(shapwatch.root / folder)
    for name in ("report.html", "report.pdf"):
        (shapwatch.root / folder / name).unlink()
    printed = shapwatch("stage=report", f"stage.directory={shapwatch.root / folder}", "model.artifact=/none")
    assert "report.pdf" in printed
    assert file_contents(shapwatch.root / folder) == before


def test_charts_have_records_of_the_window(finished: Path) -> None:
    """The records that changed most are rows of the saved attributions; the history has the changed shares."""
    folder = finished / HOUR
    document = orjson.loads((folder / "drift.json").read_bytes())
    changed = document["sample"]["changed"]
    phi = pl.read_csv(folder / "explanations_shap/out.csv")
    events = pl.read_csv(folder / "explained.csv")
    assert changed
    for record in changed:
        assert record["event_id"] == events["event_id"][record["row"]]
        assert record["at"] == events["at"][record["row"]][:19] + "Z"
        total = record["others_phi"] + sum(each["phi"] for each in record["contributions"])
        assert total == pytest.approx(sum(phi.row(record["row"])), abs=1e-4)
        assert record["score"] == pytest.approx(record["expected"] + total, abs=1e-4)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    assert manifest["effects"]["share_changes"]
    assert manifest["effects"]["mean_score"] != manifest["effects"]["mean_score_reference"]
    assert document["history"][-1]["records"]


def test_new_title_is_in_all_formats(shapwatch: Shapwatch) -> None:
    """Other files do not change."""
    before = file_contents(shapwatch.root / HOUR)
    shapwatch("stage=report", f"stage.directory={shapwatch.root / HOUR}", "report.title=Another")
    after = file_contents(shapwatch.root / HOUR)
    assert {name for name in before if before[name] != after[name]} == {"report.html", "report.pdf", "report.ipynb"}


def test_index_of_the_monitor_is_written(shapwatch: Shapwatch) -> None:
    """It has the new title and a link to the execution; a baselining has no index."""
    shapwatch("stage=report", f"stage.directory={shapwatch.root / REFERENCE}")
    assert not list(shapwatch.root.rglob("index.html"))
    printed = shapwatch("stage=report", f"stage.directory={shapwatch.root / HOUR}", "report.title=Another")
    (index,) = shapwatch.root.rglob("index.html")
    assert index == (shapwatch.root / HOUR).parents[3] / "index.html"
    assert printed.endswith(f"\n  {index}\n")
    assert "Another" in index.read_text()
    assert '<a href="2026/01/05/12/report.html">' in index.read_text()


@pytest.mark.parametrize("folder", ["copy", "2026/01/05/12", "e/breast-cancer-monitor/2026/01/05/12", f"{HOUR}-30"])
def test_copy_in_another_folder_has_no_index(shapwatch: Shapwatch, folder: str) -> None:
    """No index.html of another program is overwritten."""
    shutil.copytree(shapwatch.root / HOUR, shapwatch.root / "else" / folder)
    before = file_contents(shapwatch.root).keys()
    printed = shapwatch("stage=report", f"stage.directory={shapwatch.root / 'else' / folder}")
    assert "index.html" not in printed
    assert file_contents(shapwatch.root).keys() == before


@pytest.mark.parametrize("obstacle", ["folder", "template"])
def test_unwritable_index_is_reported(shapwatch: Shapwatch, obstacle: str, golden: Golden) -> None:
    """The reports of the execution are written, and the exit code is 0."""
    own = shapwatch.root / "own"
    own.mkdir()
    index = (shapwatch.root / HOUR).parents[3] / "index.html"
    if obstacle == "folder":
        (index / "taken").mkdir(parents=True)
    else:
        (own / "index.html.j2").write_text("{{ titel }}")
    overrides = [f"stage.directory={shapwatch.root / HOUR}", f"report.templates={own}", "report.title=Another"]
    printed = shapwatch("stage=report", *overrides)
    golden(printed, (r"~[0-9a-f]{8}/", "~{id}/"))
    assert "Another" in (shapwatch.root / HOUR / "report.html").read_text()


def test_failed_execution_is_rendered(tmp_path: Path, golden: Golden) -> None:
    """Its directory has no analysis.json."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=baseline")
    shapwatch("stage=monitor", "stage.window=2026-01-05T09", code=2)
    target = shapwatch.find("manifest.json", "monitor").parent
    before = file_contents(target)
    golden(shapwatch("stage=report", f"stage.directory={target}"))
    assert file_contents(target) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("notes.txt", "mine", id="foreign file"),
        pytest.param("manifest.json", "{", id="torn manifest.json"),
        pytest.param("manifest.json", '{"stage": "other"}', id="another stage"),
        pytest.param("manifest.json", '{"stage": "monitor", "hashes": {}}', id="no hash of the analysis"),
        pytest.param("analysis.json", "{}", id="another analysis"),
        pytest.param("drift.json", '{"reference": 7}', id="incomplete drift.json"),
        pytest.param("drift.json", "{", id="torn drift.json"),
    ],
)
def test_damaged_or_foreign_documents_are_an_error(
    shapwatch: Shapwatch, name: str, content: str, golden: Golden
) -> None:
    """The exit code is 2, and nothing in the directory changes."""
    (shapwatch.root / HOUR / name).write_text(content)
    before = file_contents(shapwatch.root)
    golden(shapwatch("stage=report", f"stage.directory={shapwatch.root / HOUR}", code=2))
    assert file_contents(shapwatch.root) == before


def test_folder_without_manifest_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """The folder is empty, or does not exist."""
    (tmp_path / "empty").mkdir()
    for name in ("empty", "none"):
        printed = Shapwatch(tmp_path)("stage=report", f"stage.directory={tmp_path / name}", code=2)
        assert "manifest.json" in printed
        golden(printed)


def test_invalid_template_leaves_the_previous_reports(shapwatch: Shapwatch, golden: Golden) -> None:
    """The error has file and line of the template; the directory does not change."""
    own = shapwatch.root / "own"
    own.mkdir()
    (own / "report.html.j2").write_text("{{ titel }}")
    before = file_contents(shapwatch.root / HOUR)
    overrides = [f"stage.directory={shapwatch.root / HOUR}", f"report.templates={own}"]
    printed = shapwatch("stage=report", *overrides, code=2)
    assert f"{own}/report.html.j2:1: " in printed
    golden(printed)
    assert file_contents(shapwatch.root / HOUR) == before


def test_invalid_template_loses_no_documents(tmp_path: Path, golden: Golden) -> None:
    """Baselining and executions write all documents and the other formats, and a note."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "report.typ").write_text("#titel")
    printed = Shapwatch(tmp_path)("stage=quickstart", f"report.templates={own}")
    location = f"{own}/report.typ:1: "
    assert printed.count(location) == 4
    for folder, document in ((HOUR, "drift.json"), (REFERENCE, "reference.parquet")):
        names = {path.name for path in (tmp_path / folder).iterdir()}
        assert {"analysis.json", "manifest.json", "report.html", "report.ipynb", document} <= names
        assert "report.pdf" not in names
        notes = orjson.loads((tmp_path / folder / "manifest.json").read_bytes())["notes"]
        (problem,) = (note for note in notes if location in note)
        assert problem in printed
        golden(problem)
