"""Traffic: captures as an endpoint writes them, at the times one asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from runner.domain import HOUR, Window
from runner.errors import SettingsError
from runner.models.linear_learner import LinearLearner
from runner.records.capture import decode
from runner.records.fields import Fields
from runner.sources import CaptureTree, Dataset
from runner.stages.traffic import Traffic
from tests.conftest import DEMO, untracked

START = datetime(2026, 1, 5, 9, tzinfo=UTC)


def traffic(tree: Path, model: LinearLearner, **changes: Any) -> Traffic:
    """Return a traffic stage that replays the quickstart's rows."""
    fields = changes.pop("fields", Fields("features", "score"))
    dataset = Dataset(changes.pop("path", DEMO / "traffic.jsonl"), fields, "data.traffic")
    settings = {"rate": 1.0, "batch_rows": 1, "count": 6, "seed": 0, **changes}
    return Traffic(dataset, model, fields, tree, "application/jsonlines", track=untracked, **settings)


def captured(tree: Path) -> list[Any]:
    """Return the events of a capture tree in the order of their files."""
    return [decode(line) for path in sorted(tree.rglob("*.jsonl")) for line in path.read_bytes().splitlines()]


def test_lines_travel_as_they_stand(tmp_path: Path, demo_model: LinearLearner) -> None:
    """The request is the dataset's line to the byte, the response the model's with its line end."""
    traffic(tmp_path, demo_model).run(START, {})
    lines = (DEMO / "traffic.jsonl").read_text().splitlines()
    events = captured(tmp_path)
    assert [event.input.data for event in events] == lines[:6]
    assert [event.inference_id for event in events] == [str(i) for i in range(6)]
    assert all(event.output.data.endswith("}\n") for event in events)
    assert [event.at.second for event in events] == list(range(6))


def test_mini_batches_and_hours(tmp_path: Path, demo_model: LinearLearner) -> None:
    """Several records travel in one event, and each UTC hour has a file named by its first event."""
    traffic(tmp_path, demo_model, batch_rows=2, count=7, rate=1 / 1800).run(START, {})
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl"))
    assert [file[:24] for file in files] == ["2026/01/05/09/00-00-000-", "2026/01/05/10/00-00-000-"]
    assert [event.input.data.count("\n") for event in captured(tmp_path)] == [1, 1, 1, 0]
    tree = CaptureTree(tmp_path, Fields("features", "score"))
    records = tree.read(Window(START, START + 2 * HOUR), untracked).records
    assert len(records) == 7
    assert records.keys["row"].to_list() == [0, 1, 0, 1, 0, 1, 0]


def test_counts_loop_and_skip(tmp_path: Path, demo_model: LinearLearner) -> None:
    """More records than the file has start again at its beginning; a count may begin later."""
    traffic(tmp_path, demo_model, count=4).run(START, {}, skip=268)
    assert [event.inference_id for event in captured(tmp_path)] == ["268", "269", "0", "1"]


def test_a_second_run_rewrites_the_same_files(tmp_path: Path, demo_model: LinearLearner) -> None:
    """Ids and names come from the seed and the start, so that nothing doubles; another seed adds."""
    for seed in (0, 0, 1):
        traffic(tmp_path, demo_model, seed=seed).run(START, {})
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2


def test_an_incident_is_rehearsed(tmp_path: Path, demo_model: LinearLearner) -> None:
    """A rescaled feature reaches the model and the capture, the others stay."""
    traffic(tmp_path / "a", demo_model).run(START, {})
    traffic(tmp_path / "b", demo_model).run(START, {"column_1": 10})
    for before, after in zip(captured(tmp_path / "a"), captured(tmp_path / "b"), strict=True):
        one, other = (orjson.loads(event.input.data)["features"] for event in (before, after))
        assert other == [one[0], one[1] * 10, *one[2:]]
        assert before.output != after.output


def test_nested_features_are_rescaled_in_place(tmp_path: Path, demo_model: LinearLearner) -> None:
    """Where the features stand deeper, the document keeps its shape."""
    rows = [orjson.loads(line) for line in (DEMO / "traffic.jsonl").read_bytes().splitlines()[:2]]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b"\n".join(orjson.dumps({"id": i, "data": {"values": row["features"]}}) for i, row in enumerate(rows))
    )
    fields = Fields("data.values", "score")
    traffic(tmp_path / "tree", demo_model, path=path, fields=fields, count=2).run(START, {"column_0": 2})
    sent = [orjson.loads(event.input.data) for event in captured(tmp_path / "tree")]
    assert [document["id"] for document in sent] == [0, 1]
    assert sent[0]["data"]["values"][0] == rows[0]["features"][0] * 2


@pytest.mark.parametrize(
    ("expression", "rescale", "problem"),
    [
        ("features", {"nope": 2.0}, "no feature 'nope'; the features are column_0"),
        ("features[*]", {"column_0": 2.0}, "is no plain key, so values cannot be put back"),
    ],
)
def test_what_cannot_be_rescaled_is_told(
    tmp_path: Path, demo_model: LinearLearner, expression: str, rescale: Mapping[str, float], problem: str
) -> None:
    """An unknown feature or an expression that only reads is an error that names the setting."""
    with pytest.raises(SettingsError, match=r"stage\.rescale") as caught:
        traffic(tmp_path, demo_model, fields=Fields(expression, "score")).run(START, rescale)
    assert problem in str(caught.value)
