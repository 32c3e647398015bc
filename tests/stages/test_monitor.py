"""An execution, built by hand without any configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.domain import Event, Payload, Status, Window, utc
from runner.executions import Provenance
from runner.explain.aggregate import Aggregation
from runner.explain.estimator import Estimator
from runner.explain.exact import Exact
from runner.records.capture import encode
from runner.records.fields import Fields
from runner.report.render import Report
from runner.sources import CaptureTree, Dataset
from runner.stages.baseline import Baseline
from runner.stages.monitor import Monitor
from tests.conftest import untracked
from tests.models_by_hand import Formula, additive
from tests.running import CHECKOUT

WINDOW = Window.parse("2026-01-05T09")
FIELDS = Fields("features", "score", ("a", "b", "c"))
PARTS: dict[str, Any] = {
    "model": Formula(additive),
    "estimator": Estimator(Exact(), Aggregation.MEAN_ABS, use_logit=False, max_batch_rows=100),
    "background_rows": lambda: None,
    "threshold": 0.9,
    "report": Report(CHECKOUT / "reports_templates", "title", 20),
    "provenance": Provenance("settings: all\n", {"python": "3"}, lambda: 0.0),
    "track": untracked,
}


def monitor(root: Path, rows: list[list[Any]], scores: list[float] | None = None, **changes: Any) -> Monitor:
    """Return a monitor with a reference, over one event with these rows."""
    dataset = root / "dataset.jsonl"
    dataset.write_bytes(b"".join(orjson.dumps({"features": row}) + b"\n" for row in ([0, 0, 0], [3, 2, 1], [6, 2, 1])))
    Baseline(name="m", dataset=Dataset(dataset, FIELDS, "data.dataset"), target=root / "reference", **PARTS).run()
    request = Payload(
        "application/jsonlines", "\n".join(orjson.dumps({"features": row}).decode() for row in rows), "JSON"
    )
    lines = None if scores is None else "".join(f'{{"score":{score}}}\n' for score in scores)
    response = None if lines is None else Payload("application/jsonlines", lines, "JSON")
    folder = root / "captures/2026/01/05/09"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "00-00-000-x.jsonl").write_bytes(encode(Event("id", utc("2026-01-05T09:30:00Z"), request, response)))
    tree = CaptureTree(root / "captures", FIELDS)
    parts = {**PARTS, "reference": root / "reference", **changes}
    return Monitor(name="m", endpoint="e", tree=tree, root=root / "monitor", **parts)


def manifest(root: Path) -> Mapping[str, Any]:
    """Return the manifest of the one execution."""
    document: dict[str, Any] = orjson.loads((root / "monitor/e/m/2026/01/05/10/manifest.json").read_bytes())
    return document


def test_the_background_is_the_references(tmp_path: Path) -> None:
    """With the mean as SHAP baseline, the execution uses the reference's, not the window's."""
    execution = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]).run(WINDOW)
    assert execution.status is Status.COMPLETED
    assert manifest(tmp_path)["background"] == {"names": ["a", "b", "c"], "rows": [[3, 1, 1]]}


def test_drift_is_a_violation(tmp_path: Path) -> None:
    """Where another feature leads, there is a violations document and the status says so."""
    execution = monitor(tmp_path, [[3, 1, 9], [3, 1, 8]]).run(WINDOW)
    assert execution.status is Status.COMPLETED_WITH_VIOLATIONS
    violations = orjson.loads((Path(execution.directory) / "constraint_violations.json").read_bytes())
    assert [violation["label"] for violation in violations["violations"]] == ["label0"]


@pytest.mark.parametrize(
    ("scores", "parity"),
    [(None, None), ([14.0, 11.0], {"largest": 0.0, "records": 2}), ([14.0, 11.5], {"largest": 0.5, "records": 2})],
)
def test_serving_parity(tmp_path: Path, scores: list[float] | None, parity: Mapping[str, float] | None) -> None:
    """The captured scores are compared with the model's own, where there are any."""
    monitor(tmp_path, [[7, 2, 1], [5, 3, 0]], scores).run(WINDOW)
    assert manifest(tmp_path)["serving_parity"] == parity


def test_a_changed_model_is_told(tmp_path: Path) -> None:
    """The model's hash is compared with the one the reference was computed with."""
    monitor(tmp_path, [[7, 2, 1]], model=Formula(additive, identity="another")).run(WINDOW)
    assert manifest(tmp_path)["model_changed"] is True


def test_an_execution_can_be_a_reference(tmp_path: Path) -> None:
    """A former hour serves as reference like a baselining does."""
    first = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]]).run(WINDOW)
    again = monitor(tmp_path, [[7, 2, 1], [5, 3, 0]], reference=Path(first.directory)).run(WINDOW)
    assert again.succeeded
    assert manifest(tmp_path)["verdict"]["labels"][0]["ndcg"] == 1


def test_a_broken_link_is_no_capture(tmp_path: Path) -> None:
    """A name that leads nowhere does not stop an execution."""
    stage = monitor(tmp_path, [[7, 2, 1]])
    (tmp_path / "captures/2026/01/05/09/01-00-000-y.jsonl").symlink_to(
        tmp_path / "captures/2026/01/05/09/01-00-000-y.jsonl"
    )
    execution = stage.run(WINDOW)
    assert execution.status is Status.COMPLETED


def test_the_model_fails_in_words(tmp_path: Path) -> None:
    """A text feature that the other records have too reaches the background check and fails with its sentence."""
    execution = monitor(tmp_path, [["x", 2, 1], ["y", 3, 0]]).run(WINDOW)
    assert execution.status is Status.FAILED
    assert "feature 'a' is 3 there, but the records hold 'x'" in manifest(tmp_path)["failure_reason"]
