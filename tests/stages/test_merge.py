"""`stage=merge`: captures joined with ground truth, and the model quality that follows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from runner.domain.executions import Outcome, Window
from runner.errors import NoData, SettingsError
from runner.records import ground_truth
from runner.records.ground_truth import GroundTruth
from runner.sources.endpoint import EndpointSource
from runner.stages.merge import Merge, MergeStage
from tests.cli_runner import Shapwatch
from tests.conftest import untracked
from tests.golden import Golden
from tests.sources.reading import HOUR, capture_line, write_captures

PART = (r"part-00000-[-0-9a-f]{36}", "part-00000-{uuid}")
"""Pattern and placeholder of a merged file's name, which depends on its folder."""


def label(id_: str, *labels: object) -> bytes:
    """Return the ground-truth line of a payload."""
    data = orjson.dumps({"instances": [{"label": each} for each in labels]}).decode()
    return ground_truth.encode(GroundTruth(id_, data, "JSON"))


def merge(root: Path, late_hours: int = 24, neighbours: int = 1, window: Window = HOUR) -> Merge:
    """Return the stage over trees below a root."""
    return Merge(
        settings=MergeStage("merge", window, late_hours),
        tree=EndpointSource("endpoint", str(root / "captures"), neighbours),
        ground_truth=str(root / "truth"),
        target=str(root / "merged"),
        summary=root / "summary",
        track=untracked,
    )


def run(root: Path, captures: dict[str, bytes], truth: dict[str, bytes], late_hours: int = 24) -> Outcome:
    """Write captures and ground truth, whose keys are hour and name, and merge the hour."""
    write_captures(root / "captures", **captures)
    write_captures(root / "truth", **truth)
    return merge(root, late_hours).run()


def merged(root: Path) -> list[Any]:
    """Return the documents of all merged files."""
    files = sorted((root / "merged").rglob("*"))
    return [orjson.loads(line) for path in files if path.is_file() for line in path.read_bytes().splitlines()]


def summary(root: Path) -> Any:
    """Return the saved summary of the join."""
    return orjson.loads((root / "summary/2026-01-05T0900--2026-01-05T1000.merge.json").read_bytes())


def test_merged_file_has_the_published_layout(tmp_path: Path) -> None:
    """The folder is the hour of the events, the name is Spark's, and the keys have the published order."""
    captured = capture_line([1], scores=[0.5], id_="e1", inference_id="i1")
    run(tmp_path, {"h09_a": captured}, {"h09_a": label("i1", 1)})
    (path,) = (tmp_path / "merged").rglob("*.jsonl")
    assert path.parent == tmp_path / "merged/2026/01/05/09"
    assert path.name.startswith("part-00000-")
    assert path.name.endswith(".c000.jsonl")
    assert path.read_bytes().endswith(b"}\n")
    (document,) = merged(tmp_path)
    assert list(document) == ["eventVersion", "groundTruthData", "captureData", "eventMetadata"]
    assert document["groundTruthData"] == {"data": '{"instances":[{"label":1}]}', "encoding": "JSON"}
    assert document["captureData"] == orjson.loads(captured)["captureData"]
    time = {"inferenceTime": "2026-01-05T09:30:00Z"}
    assert document["eventMetadata"] == {"eventId": "e1", "inferenceId": "i1", **time}


def test_inference_id_takes_precedence(tmp_path: Path) -> None:
    """Labels are joined by inference id, or by event id if an event has no inference id."""
    events = (
        capture_line([1], id_="a", inference_id="b")
        + capture_line([2], id_="c")
        + capture_line([3], id_="d", inference_id="e")
    )
    run(tmp_path, {"h09_a": events}, {"h09_a": label("a", 1) + label("b", 2) + label("c", 3) + label("d", 4)})
    joined = [(each["eventMetadata"]["eventId"], each["groundTruthData"]["data"]) for each in merged(tmp_path)]
    assert joined == [("a", '{"instances":[{"label":2}]}'), ("c", '{"instances":[{"label":3}]}')]


def test_all_events_with_the_same_id_are_joined(tmp_path: Path, golden: Golden) -> None:
    """The last of several labels for one id is used."""
    events = capture_line([1], inference_id="0") * 3
    outcome = run(tmp_path, {"h09_a": events}, {"h09_a": label("0", 0), "h10_a": label("0", 1)})
    assert [each["groundTruthData"]["data"][-4] for each in merged(tmp_path)] == ["1", "1", "1"]
    counts = summary(tmp_path)
    assert (counts["events"], counts["joined"], counts["join_rate"]) == (3, 3, 1)
    assert (counts["truths"], counts["unused"], counts["superseded"], counts["rejections"]) == (2, 0, 1, [])
    golden(outcome.message, PART)


@pytest.mark.parametrize(("late_hours", "joined"), [(0, ["own"]), (1, ["own", "next"]), (2, ["own", "next", "later"])])
def test_late_labels_are_joined(tmp_path: Path, late_hours: int, joined: list[str]) -> None:
    """Labels collected up to `late_hours` after the window are joined."""
    captures = {"h09_a": b"".join(capture_line([1], inference_id=id_) for id_ in ("own", "next", "later", "before"))}
    hours = {"h08_a": "before", "h09_a": "own", "h10_a": "next", "h11_a": "later"}
    run(tmp_path, captures, {hour: label(id_, 1) for hour, id_ in hours.items()}, late_hours)
    assert [each["eventMetadata"]["inferenceId"] for each in merged(tmp_path)] == joined


def test_unmatched_events_and_labels_are_reported(tmp_path: Path, golden: Golden) -> None:
    """The message and the summary have samples of unmatched ids, the join rate and the rejected labels."""
    captures = {"h09_a": b"".join(capture_line([i], inference_id=f"i{i}") for i in range(8))}
    truth = {"h09_a": label("i0", 1) + label("i1", 0) + b"torn\n" + label("x", 1) + label("y", 1)}
    golden(run(tmp_path, captures, truth).message, PART)
    found = summary(tmp_path)
    assert (found["truths"], found["unused"], found["superseded"]) == (4, 2, 0)
    assert (found["events"], found["joined"], found["join_rate"]) == (8, 2, 0.25)
    assert found["unmatched_events"] == ["i2", "i3", "i4", "i5", "i6"]
    assert found["unmatched_truths"] == ["x", "y"]
    rejections = [(each["file"], each["line"], each["kind"]) for each in found["rejections"]]
    assert rejections == [("2026/01/05/09/a.jsonl", 3, "not_json")]
    assert found["files"] == [str(path) for path in (tmp_path / "merged").rglob("*.jsonl")]


def test_second_run_replaces_the_files(tmp_path: Path) -> None:
    """Labels collected in the meantime are in the same file, without duplicates."""
    captures = {"h09_a": capture_line([1], inference_id="a") + capture_line([2], inference_id="b")}
    run(tmp_path, captures, {"h09_a": label("a", 1)})
    (before,) = (tmp_path / "merged").rglob("*.jsonl")
    run(tmp_path, captures, {"h10_b": label("b", 0)})
    assert [each["eventMetadata"]["inferenceId"] for each in merged(tmp_path)] == ["a", "b"]
    assert [path for path in (tmp_path / "merged").rglob("*") if path.is_file()] == [before]
    assert len(list((tmp_path / "summary").iterdir())) == 1


def test_merged_hour_is_the_time_of_the_event(tmp_path: Path) -> None:
    """Events of neighbouring folders are included; invalid lines are counted only in the folder of the hour."""
    captures = {
        "h08_a": capture_line([1], clock="09:00:00", inference_id="a") + b"torn\n",
        "h09_a": capture_line([2], clock="08:59:59", inference_id="b")
        + b"torn\n\n"
        + capture_line([3], inference_id="c"),
        "h10_a": capture_line([4], clock="10:00:00", inference_id="d") + b"torn\n",
    }
    run(tmp_path, captures, {"h09_a": b"".join(label(id_, 1) for id_ in "abcd")})
    assert [each["eventMetadata"]["inferenceId"] for each in merged(tmp_path)] == ["a", "c"]
    assert [path.parent.name for path in (tmp_path / "merged").rglob("*.jsonl")] == ["09"]
    assert (summary(tmp_path)["events"], summary(tmp_path)["rejected_events"]) == (2, 1)


def test_longer_window_has_one_file_per_hour(tmp_path: Path) -> None:
    """Each hour with joined events has its own merged file."""
    write_captures(tmp_path / "captures", h09_a=capture_line([1]), h11_a=capture_line([2], clock="11:30:00"))
    write_captures(tmp_path / "truth", h12_a=label("e", 1))
    merge(tmp_path, window=Window.parse("2026-01-05T09/2026-01-05T12")).run()
    assert sorted(path.parent.name for path in (tmp_path / "merged").rglob("*.jsonl")) == ["09", "11"]


def test_only_whole_hours_are_merged(tmp_path: Path, golden: Golden) -> None:
    """A part of an hour is refused, since its file would replace the one of the whole hour."""
    with golden.raises(SettingsError) as caught:
        merge(tmp_path, window=Window.parse("2026-01-05T09:30")).run()
    (problem,) = caught.value.problems
    assert problem.startswith("stage.window")


def test_hour_without_joined_events_is_emptied(tmp_path: Path) -> None:
    """If all labels were withdrawn, no merged record remains."""
    captures = {"h09_a": capture_line([1], inference_id="a")}
    run(tmp_path, captures, {"h09_a": label("a", 1)})
    run(tmp_path, captures, {"h09_a": b""})
    assert merged(tmp_path) == []


def test_window_without_labels_is_no_error(tmp_path: Path, golden: Golden) -> None:
    """Labels may arrive later: nothing is merged, and the message says so."""
    outcome = run(tmp_path, {"h09_a": capture_line([1])}, {})
    counts = summary(tmp_path)
    assert (counts["events"], counts["joined"], counts["join_rate"]) == (1, 0, 0)
    golden(outcome.message, PART)
    assert merged(tmp_path) == []


def test_window_without_events_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """No summary is written."""
    with golden.raises(NoData) as caught:
        run(tmp_path, {"h09_a": capture_line([1], clock="10:00:00")}, {"h09_a": label("e", 1)})
    assert (caught.value.window, caught.value.files, caught.value.outside) == (HOUR, 1, 1)
    assert not (tmp_path / "summary").exists()


def merged_quality(root: Path, experiment: str, names: list[str]) -> tuple[Any, list[int], np.ndarray[Any, Any], str]:
    """Return the model quality in the manifest after a merge, the labels, the captured scores, and the report."""
    shapwatch = Shapwatch(root, experiment)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00", "stage.count=90", "stage.batch_rows=3")
    shapwatch("stage=baseline")
    rng, labels, scores = np.random.default_rng(0), [], []
    truth = b""
    for line in shapwatch.find("*.jsonl", "capture").read_bytes().splitlines():
        captured = orjson.loads(line)
        answers = map(orjson.loads, captured["captureData"]["endpointOutput"]["data"].splitlines())
        probabilities = [answer.get("probabilities", answer.get("score")) for answer in answers]
        drawn = [int(rng.choice(len(names) or 2)) for _ in probabilities]
        values: list[object] = [names[i] if names else i for i in drawn]
        truth += label(captured["eventMetadata"]["inferenceId"], *values)
        labels += drawn
        scores += probabilities
    folder = root / "ground-truth" / ("plans" if names else "breast-cancer")
    write_captures(folder, h10_0000=truth)
    shapwatch("stage=merge", "stage.window=2026-01-05T09")
    counts = shapwatch.read("*.merge.json")
    assert (counts["events"], counts["joined"]) == (30, 30)
    shapwatch("stage=monitor", "stage.window=2026-01-05T09")
    report = shapwatch.find("report.html", "monitor").read_text()
    return shapwatch.read("manifest.json", "monitor")["quality"], labels, np.array(scores), report


def quality_check(report: str) -> list[str]:
    """Return the name, the value and the note of the model quality in a report."""
    (item,) = (item for item in re.findall(r"<li class=.*?</li>", report, re.DOTALL) if "AUC" in item)
    return [re.sub(r"<.*?>", "", line).strip() for line in re.findall(r"<div.*</div>", item)]


def test_quality_of_two_classes_matches_scikit_learn(tmp_path: Path, golden: Golden) -> None:
    """The manifest and the report of an execution after the merge have the same metrics."""
    quality, labels, scores, report = merged_quality(tmp_path, "quickstart", [])
    assert quality["records"] == len(labels) == 90
    assert quality["accuracy"] == pytest.approx(accuracy_score(labels, scores >= 0.5), rel=1e-12)
    assert quality["auc"] == pytest.approx(roc_auc_score(labels, scores), rel=1e-12)
    assert quality["log_loss"] == pytest.approx(log_loss(labels, scores), rel=1e-12)
    assert quality["notes"] == []
    assert f"AUC {quality['auc']:.4f}" in report
    golden("\n".join(quality_check(report)))


def test_quality_of_several_classes_matches_scikit_learn(tmp_path: Path) -> None:
    """The labels are the names of the model outputs."""
    quality, labels, scores, report = merged_quality(tmp_path, "multiclass", ["basic", "plus", "pro"])
    assert quality["records"] == len(labels) == 90
    assert quality["accuracy"] == pytest.approx(accuracy_score(labels, scores.argmax(axis=1)), rel=1e-12)
    assert quality["auc"] == pytest.approx(roc_auc_score(labels, scores, multi_class="ovr"), rel=1e-12)
    assert quality["log_loss"] == pytest.approx(log_loss(labels, scores), rel=1e-9)
    assert f"AUC {quality['auc']:.4f}" in report
