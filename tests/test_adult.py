"""AWS's notebook end to end with its model and data, compared with the values that it published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest

from tests.cli_runner import Shapwatch
from tests.golden import Golden

PUBLISHED = {
    "Age": (0.05962069398767555, 0.059578),
    "Workclass": (0.009340874120660063, 0.008436),
    "fnlwgt": (0.0010900750377509304, 0.000137),
    "Education": (0.014739126275038199, 0.014514),
    "Education-Num": (0.09891391226656666, 0.098800),
    "Marital Status": (0.05452765230404344, 0.054499),
    "Occupation": (0.0025392834714334667, 0.002124),
    "Relationship": (0.018169508641909988, 0.017880),
    "Ethnic group": (0.005295263900463686, 0.004359),
    "Sex": (0.032080828962127876, 0.031530),
    "Capital Gain": (0.09913318680892579, 0.099148),
    "Capital Loss": (0.013518474176382519, 0.013381),
    "Hours per week": (0.03641124946588507, 0.036267),
    "Country": (0.004894213349476741, 0.004428),
}
"""Feature: (the notebook's analysis.json, exact Shapley values)."""

EXPECTED_VALUE = 0.250623226165771


@pytest.fixture
def shapwatch(tmp_path: Path, adult: Path, monkeypatch: pytest.MonkeyPatch) -> Shapwatch:
    """Runs stages of the notebook's experiment."""
    monkeypatch.setenv("ADULT_DIR", str(adult))
    return Shapwatch(tmp_path, "adult")


def values(shapwatch: Shapwatch, below: str) -> dict[str, float]:
    """Return the global attributions of an analysis after a check of its expected value."""
    label = shapwatch.read("analysis.json", below)["explanations"]["kernel_shap"]["label0"]
    assert label["expected_value"] == pytest.approx(EXPECTED_VALUE, abs=1e-6)
    attributions: dict[str, float] = label["global_shap_values"]
    assert list(attributions) == list(PUBLISHED)
    return attributions


def test_notebook_gives_published_values(shapwatch: Shapwatch, golden: Golden) -> None:
    """Traffic, baselining and an execution give the values, the folder and the status of the notebook."""
    shapwatch("stage=replay", "stage.start=2023-01-19T05:00:00Z")
    captured = shapwatch.find("*.jsonl").read_text().splitlines()
    assert len(captured) == 334
    assert r'"data":"{\"features\":[28,2,133937,9,13,2,0,0,4,1,15024,0,55,37]}"' in captured[0]
    assert r'"data":"{\"predicted_label\":1,\"score\":0.989977359771728}\n"' in captured[0]

    shapwatch("stage=baseline", "shap.compat=clarify", "shap.num_samples=100")
    reference = values(shapwatch, "baseline")
    gaps = [abs(reference[name] - published) for name, (published, _) in PUBLISHED.items()]
    assert max(gaps) <= 6e-4
    shapwatch("stage=baseline", "shap.num_samples=100")

    printed = shapwatch("stage=monitor", "stage.window=2023-01-19T05", "drift.violations=ranking")
    execution = shapwatch.root / "monitor/adult/adult-monitor/2023/01/19/06"
    golden(printed)
    assert sorted(path.name for path in execution.iterdir()) == [
        "analysis.json",
        "drift.json",
        "manifest.json",
        "report.html",
        "report.ipynb",
        "report.pdf",
        "settings.yaml",
    ]
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["status"] == "Completed"
    assert manifest["verdict"]["labels"][0]["ndcg"] > 0.999
    assert manifest["counts"]["records"] == 334
    assert manifest["serving_parity"]["largest"] < 1e-14


@pytest.mark.parametrize("explainer", ["exact", "kernel", "linear", "auto"])
def test_explainers_give_exact_values(shapwatch: Shapwatch, explainer: str) -> None:
    """Each explainer gives the exact values; the two largest features are those of the notebook."""
    shapwatch("stage=baseline", f"shap.explainer={explainer}")
    exact = values(shapwatch, "baseline")
    np.testing.assert_allclose(list(exact.values()), [value for _, value in PUBLISHED.values()], atol=1e-6)
    assert set(sorted(exact, key=exact.__getitem__)[-2:]) == {"Capital Gain", "Education-Num"}


@pytest.mark.soak
def test_batch_size_does_not_change_bytes(shapwatch: Shapwatch) -> None:
    """The analysis is byte-identical across processes and batch sizes."""
    analyses = set()
    for run, rows in ((shapwatch, 1000), (shapwatch, 4096), (shapwatch.process, 32768), (shapwatch.process, 10**7)):
        run("stage=baseline", f"shap.max_batch_rows={rows}")
        analyses.add(shapwatch.find("analysis.json", "baseline").read_bytes())
    assert len(analyses) == 1


@pytest.mark.parametrize(
    ("rescale", "ndcg", "code"), [("{Hours per week: 0.1}", 0.870, "WithViolations"), ("{}", 1.0, "")]
)
def test_rescaled_feature_violates_ndcg(shapwatch: Shapwatch, rescale: str, ndcg: float, code: str) -> None:
    """Hours divided by ten give nDCG 0.870 and a violation; unchanged hours give neither."""
    shapwatch("stage=replay", "stage.start=2023-01-19T05:00:00Z", f"stage.rescale={rescale}")
    shapwatch("stage=baseline", "shap.explainer=exact")
    rule = "drift.violations=ranking"
    printed = shapwatch("stage=monitor", "stage.window=2023-01-19T05", "shap.explainer=exact", rule)
    assert f" Completed{code}, " in printed
    assert shapwatch.read("manifest.json", "monitor")["verdict"]["labels"][0]["ndcg"] == pytest.approx(ndcg, abs=2e-3)


def test_dense_json_gives_same_bytes(shapwatch: Shapwatch, adult: Path, tmp_path: Path) -> None:
    """Datasets and captures in dense JSON give the analysis of JSON Lines, byte for byte."""
    dense = []
    for key, name in (("dataset", "validation-dataset"), ("traffic", "test-dataset")):
        rows = [orjson.loads(line) for line in (adult / f"{name}.jsonl").read_bytes().splitlines()]
        (path := tmp_path / f"{name}.json").write_bytes(orjson.dumps({"instances": rows}))
        dense.append(f"data.{key}={path}")
    baseline = "[{instances: [{features: [39, 2, 184870, 10, 10, 3, 6, 1, 4, 1, 1597, 61, 41, 37]}]}]"
    dense += ["data=json", f"shap.baseline={baseline}"]
    analyses: dict[str, list[bytes]] = {"baseline": [], "monitor": []}
    for name, overrides in (("lines", []), ("dense", dense)):
        run = Shapwatch(shapwatch.root / name, "adult")
        run("stage=replay", "stage.start=2023-01-19T05:00:00Z", "stage.batch_rows=3", *overrides)
        run("stage=baseline", *overrides)
        run("stage=monitor", "stage.window=2023-01-19T05", *overrides)
        for below, found in analyses.items():
            found.append(run.find("analysis.json", below).read_bytes())
        counts = run.read("manifest.json", "monitor")["counts"]
        assert (counts["events"], counts["records"], counts["rejected"]) == (112, 334, {})
    assert all(lines == json for lines, json in analyses.values())
    (first, *_) = run.find("*.jsonl", "capture").read_text().splitlines()
    assert r'"data":"{\"instances\":[{\"features\":[28,2,133937,9,13,2,0,0,4,1,15024,0,55,37]},' in first
    assert r'"data":"{\"predictions\": [{\"score\": 0.9899773597717285' in first
