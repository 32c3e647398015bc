"""`stage=replay`: captures as an endpoint writes them, with event times of choice."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from runner.domain.executions import HOUR, Window
from runner.domain.records import Event
from runner.errors import SettingsError
from runner.models.linear_learner import LinearLearner
from runner.protocols import Model
from runner.records.capture import decode
from runner.records.payloads import Format
from runner.records.templates import Template
from runner.sources.batch_transform import BatchTransformSource
from runner.sources.dataset import Dataset
from runner.sources.endpoint import EndpointSource
from runner.stages.replay import Replay, ReplayStage
from tests.conftest import DEMO, untracked
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.sources.reading import DATA, read_window

START = datetime(2026, 1, 5, 9, tzinfo=UTC)
LINES: Format = "application/jsonlines"
JSON: Format = "application/json"
CSV: Format = "text/csv"
ROWS = [orjson.loads(line)["features"] for line in (DEMO / "traffic.jsonl").read_bytes().splitlines()]


def replay(
    root: Path, model: Model, template: Template | None = None, path: Path = DEMO / "traffic.jsonl", **changes: Any
) -> Replay:
    """Return a stage that replays the rows of the quickstart."""
    dataset = Dataset(str(path), DATA, "data.traffic")
    arguments = {name: changes.pop(name) for name in ("accept", "transform") if name in changes}
    defaults: dict[str, Any] = {"start": START, "rate": 1.0, "batch_rows": 1, "count": 6, "rescale": {}, "seed": 0}
    stage = ReplayStage(kind="replay", **(defaults | changes))
    arguments = {"accept": LINES, "transform": False, **arguments}
    template = template or Template(LINES, None, None, None)
    return Replay(stage, dataset, model, template, tree=str(root), track=untracked, **arguments)


def captured(root: Path) -> list[Event]:
    """Return the events of a capture tree in the order of their files."""
    return [decode(line) for path in sorted(root.rglob("*.jsonl")) for line in path.read_bytes().splitlines()]


def requests(root: Path) -> list[str]:
    """Return the bodies of the requests."""
    return [event.input.data for event in captured(root) if event.input]


def test_requests_match_the_rows_of_the_dataset(tmp_path: Path, demo_model: LinearLearner) -> None:
    """A request equals the line of the dataset byte for byte; a response ends with a line end."""
    replay(tmp_path, demo_model).run()
    assert requests(tmp_path) == (DEMO / "traffic.jsonl").read_text().splitlines()[:6]
    events = captured(tmp_path)
    assert [event.inference_id for event in events] == [str(i) for i in range(6)]
    assert [event.at.second for event in events] == list(range(6))
    assert all(event.output and event.output.data.endswith("}\n") for event in events)
    assert all(event.input and event.input.encoding == "JSON" for event in events)


def test_labels_of_the_dataset_are_not_sent(tmp_path: Path, demo_model: LinearLearner) -> None:
    """A request has only the features."""
    replay(tmp_path, demo_model, path=DEMO / "baseline.jsonl").run()
    assert all(list(orjson.loads(body)) == ["features"] for body in requests(tmp_path))


def test_events_of_mini_batches_are_grouped_by_hour(tmp_path: Path, demo_model: LinearLearner) -> None:
    """One event contains several records, and each UTC hour has a file named after its first event."""
    replay(tmp_path, demo_model, batch_rows=2, count=7, rate=1 / 1800).run()
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl"))
    assert [file[:24] for file in files] == ["2026/01/05/09/00-00-000-", "2026/01/05/10/00-00-000-"]
    assert [body.count("\n") for body in requests(tmp_path)] == [1, 1, 1, 0]
    assert [event.inference_id for event in captured(tmp_path)] == ["0", "2", "4", "6"]
    found = read_window(EndpointSource("endpoint", str(tmp_path), 0), Window(START, START + 2 * HOUR))
    assert [list(row) for row in found.rows] == ROWS[:7]
    assert [row for _, _, row in found.origins] == [0, 1, 0, 1, 0, 1, 0]
    assert found.scores is not None
    assert len(found.scores) == 7


@pytest.mark.parametrize(
    ("template", "accept", "encoding", "first"),
    [
        (Template(LINES, '{"x":$features,"v":1}', None, None), LINES, "JSON", '{"x":[11.37,'),
        (Template(JSON, '{"instances":$records}', '{"features":$features}', None), JSON, "JSON", '{"instances":[{"fea'),
        (Template(JSON, "$records", "$features_kvp", None), JSON, "JSON", '[{"column_0":11.37,'),
        (Template(CSV, None, None, None), CSV, "CSV", "11.37,18.89,"),
        (Template(CSV, None, None, None), JSON, "CSV", "11.37,18.89,"),
    ],
    ids=["JSON Lines", "dense JSON", "flat objects", "CSV", "CSV in, JSON out"],
)
def test_bodies_have_the_configured_format(
    tmp_path: Path, demo_model: LinearLearner, template: Template, accept: str, encoding: str, first: str
) -> None:
    """The template formats requests, `accept` responses; both have their media type."""
    replay(tmp_path, demo_model, template, batch_rows=3, accept=accept).run()
    events = captured(tmp_path)
    assert len(events) == 2
    for event in events:
        assert event.input is not None
        assert event.output is not None
        assert (event.input.content_type, event.input.encoding) == (template.content_type, encoding)
        assert (event.output.content_type, event.output.encoding) == (accept, "CSV" if accept == CSV else "JSON")
    assert requests(tmp_path)[0].startswith(first)


def test_template_of_single_records_sends_them_one_by_one(tmp_path: Path, demo_model: LinearLearner) -> None:
    """There is one event per record for any batch size."""
    replay(tmp_path, demo_model, Template(JSON, '{"x":$record}', "$features", None), batch_rows=3).run()
    assert [list(orjson.loads(body)["x"]) for body in requests(tmp_path)] == ROWS[:6]


def test_replay_repeats_the_dataset(tmp_path: Path, demo_model: LinearLearner) -> None:
    """After the last row it continues with the first one; `skip` starts at a later row."""
    replay(tmp_path, demo_model, count=4).run(skip=268)
    assert [event.inference_id for event in captured(tmp_path)] == ["268", "269", "0", "1"]


def test_second_run_writes_the_same_files(tmp_path: Path, demo_model: LinearLearner) -> None:
    """Ids and file names depend on the seed and the start only; another seed adds a file."""
    for seed in (0, 0, 1):
        replay(tmp_path, demo_model, seed=seed).run()
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2


def test_feature_is_rescaled(tmp_path: Path, demo_model: LinearLearner) -> None:
    """The model and the capture receive the rescaled feature; the others are unchanged."""
    replay(tmp_path / "a", demo_model).run()
    replay(tmp_path / "b", demo_model, rescale={"column_1": 10}).run()
    for before, after in zip(captured(tmp_path / "a"), captured(tmp_path / "b"), strict=True):
        assert before.input is not None
        assert after.input is not None
        original, rescaled = (orjson.loads(side.data)["features"] for side in (before.input, after.input))
        assert rescaled == [original[0], original[1] * 10, *original[2:]]
        assert before.output != after.output


def test_transform_writes_input_file_and_manifest(tmp_path: Path, demo_model: LinearLearner, golden: Golden) -> None:
    """Instead of events it writes the input file of a transform job, and the manifest of its hour."""
    stage = replay(tmp_path / "tree", demo_model, transform=True, batch_rows=2)
    for _ in range(2):
        outcome = stage.run()
    (manifest,) = (tmp_path / "tree/input").rglob("*.json")
    (data,) = (tmp_path / "tree/data").iterdir()
    assert manifest.parent == tmp_path / "tree/input/2026/01/05/09"
    assert orjson.loads(manifest.read_bytes()) == [{"prefix": str(data)}, ""]
    assert str(manifest) in outcome.message
    golden(outcome.message)
    tree = BatchTransformSource("batch_transform", str(tmp_path / "tree"))
    assert [list(row) for row in read_window(tree).rows] == ROWS[:6]


@pytest.mark.parametrize(
    ("rescale", "key"),
    [
        pytest.param({"nope": 2.0}, "stage.rescale", id="unknown feature"),
        pytest.param({"column_0": 1e308}, "data.traffic", id="infinite"),
    ],
)
@pytest.mark.parametrize("transform", [False, True], ids=["endpoint", "transform"])
def test_rescaled_values_that_cannot_be_sent_are_refused(
    tmp_path: Path, rescale: dict[str, float], key: str, transform: bool, golden: Golden
) -> None:
    """An unknown feature or an infinite value is an error that names the setting, and writes nothing."""
    with golden.raises(SettingsError) as caught:
        replay(tmp_path / "tree", Formula(additive), transform=transform, rescale=rescale).run()
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}: ")
    assert not (tmp_path / "tree").exists()


def test_values_keep_their_types(tmp_path: Path) -> None:
    """Requests and model receive strings, numbers, booleans and nulls as in the dataset."""
    rows = [["x", 1, 2.0, True, None], ["y", 2, 2.5, False, "z"]]
    (path := tmp_path / "rows.jsonl").write_bytes(b"\n".join(orjson.dumps({"features": row}) for row in rows))
    received: list[pl.DataFrame] = []

    def constant(features: pl.DataFrame) -> Any:
        received.append(features)
        return features["column_1"].to_numpy()

    replay(tmp_path / "tree", Formula(constant), path=path, count=None, batch_rows=2).run()
    (body,) = requests(tmp_path / "tree")
    assert body == '{"features":["x",1,2.0,true,null]}\n{"features":["y",2,2.5,false,"z"]}'
    assert [list(row) for row in received[0].rows()] == rows
