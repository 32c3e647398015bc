"""The manifest: its sections, and reading what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest

from runner.domain.attributions import Calls
from runner.domain.drift import Change, ChangeKind, Level, Parity, RankingResult, Verdict
from runner.domain.executions import AlertHistory, ExecutionState, Status
from runner.drift.performance import Quality
from runner.explain.estimator import Estimator
from runner.explain.explainers.kernel import Clarify
from runner.explain.preflight import preflight
from runner.explain.task import Aggregation
from runner.results.directory import DRIFT, MANIFEST, commit, mark_unpublished, remove
from runner.results.documents import DriftDocument, dump_drift
from runner.results.manifest import Explanation, Manifest, call_notes
from runner.results.manifest_file import (
    Stopwatch,
    alert_history,
    as_document,
    dump_manifest,
    earlier_executions,
    earlier_points,
    earlier_results,
    is_finished,
    load_manifest,
    newest_executions,
    read_manifest,
    stored_window,
    with_since,
)
from tests.builders import file_contents
from tests.cli_runner import Shapwatch
from tests.conftest import SERIAL, untracked
from tests.drift.samples import POLICY, compared, local_attributions, mean_abs
from tests.formula_models import Formula, interacting
from tests.golden import Golden
from tests.results.samples import BASELINE, COMPLETED, FAILED, WINDOW

DAMAGES: list[dict[str, object]] = [
    {"status": "Splendid"},
    {"window": 7},
    {"scheduled": "noon"},
    {"verdict": {"threshold": 0.9, "labels": [{}]}},
    {"level": ["?"]},
    {"effects": {"attribution_shift": {"value": []}}},
    {"background": None},
    {"estimator": 7},
    {"hashes": []},
    {"versions": None},
]


@pytest.mark.parametrize(
    ("num_samples", "method", "local", "each"),
    [
        (10, Aggregation.MEAN_ABS, None, None),
        (14, Aggregation.MEAN_ABS, 1, 1),
        (14, Aggregation.MEDIAN, 1, None),
        (30, Aggregation.MEDIAN, 0, 0),
    ],
)
def test_standard_errors_are_listed_by_label(
    num_samples: int, method: Aggregation, local: int | None, each: int | None
) -> None:
    """Local and global errors: None if unknown, 0 if all coalitions were evaluated."""
    features = pl.DataFrame(np.random.default_rng(0).normal(size=(5, 5)), schema=list("abcde"))
    model = Formula(interacting)
    estimator = Estimator(
        explainer=Clarify(num_samples, 0),
        agg_method=method,
        groups={},
        use_logit=False,
        max_batch_rows=100,
        engine=SERIAL,
    )
    attributions = estimator.explain(model, features, features[:1], untracked)
    checked = preflight(model, features, features[:1], use_logit=False)
    explanation = Explanation.of(estimator, attributions, features[:1], checked, None, b"", {})

    def sign(error: float | None) -> int | None:
        return None if error is None else int(np.sign(error))

    assert explanation.standard_errors is not None
    assert list(explanation.standard_errors) == ["label0"]
    errors = explanation.standard_errors["label0"]
    assert sign(errors.local) == local
    assert {name: sign(error) for name, error in errors.by_feature.items()} == dict.fromkeys("abcde", each)
    assert all(error is None or error == float(f"{error:.3g}") for error in errors.by_feature.values())
    assert b"NaN" not in dump_manifest(replace(BASELINE, explanation=explanation))


@pytest.mark.parametrize("manifest", [BASELINE, COMPLETED, FAILED], ids=["baseline", "completed", "failed"])
def test_manifest_round_trip(manifest: Manifest) -> None:
    """Reading returns the values that were written."""
    assert load_manifest(dump_manifest(manifest)) == manifest


@pytest.mark.parametrize("quality", [None, "no labels", Quality(9, 0.5, None, 0.75, ("a note",))])
def test_quality_round_trip(quality: Quality | str | None) -> None:
    """Metrics, the reason why they are missing, and no ground truth at all are different."""
    assert COMPLETED.comparison
    manifest = replace(COMPLETED, comparison=replace(COMPLETED.comparison, quality=quality, serving_parity=None))
    assert load_manifest(dump_manifest(manifest)) == manifest


def test_stored_manifests_keep_their_bytes(tmp_path: Path) -> None:
    """Reading and writing the manifests of a baselining, executions and a failure changes no byte."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=quickstart")
    shapwatch("stage=monitor", "stage.window=2026-01-05T02", code=2)
    files = sorted(tmp_path.rglob(MANIFEST))
    assert len(files) == 5
    for file in files:
        manifest = read_manifest(file.parent)
        assert manifest is not None
        assert dump_manifest(manifest) == file.read_bytes()


def test_manifest_of_an_earlier_version_is_read() -> None:
    """Missing keys have defaults, and former names of effects are replaced."""
    document = orjson.loads(dump_manifest(COMPLETED))
    for key in ("command", "level_alone", "material", "quality", "calls", "timings"):
        del document[key]
    for key in ("outside", "probes", "sample"):
        del document["counts"][key]
    document["effects"] = {
        "share_moved": document["effects"]["attribution_shift"],
        "mass": document["effects"]["total_log2_change"],
    }
    manifest = load_manifest(orjson.dumps(document))
    assert manifest
    assert manifest.comparison
    assert COMPLETED.comparison
    assert manifest.comparison.level_alone == manifest.comparison.level == COMPLETED.comparison.level
    assert manifest.comparison.effects == COMPLETED.comparison.effects
    assert (manifest.comparison.material, manifest.timings) == (None, None)


@pytest.mark.parametrize(
    "data", [b"[]", b"null", b"{}", b'{"stage": "other"}', b'{"stage": []}', b'[{"prefix": "s3://bucket/"}]']
)
def test_other_document_is_no_manifest(data: bytes) -> None:
    """A JSON document of another program is ignored."""
    assert load_manifest(data) is None


@pytest.mark.parametrize("change", DAMAGES, ids=lambda change: next(iter(change)))
def test_damaged_manifest_is_refused(change: dict[str, object], golden: Golden) -> None:
    """The error names the key."""
    document = orjson.loads(dump_manifest(COMPLETED))
    with golden.raises(ValueError):
        load_manifest(orjson.dumps({**document, **change}))


def test_parity_is_stored_with_its_records() -> None:
    """The number of compared records is next to the largest difference."""
    assert COMPLETED.comparison
    assert COMPLETED.comparison.serving_parity == Parity(0.25, 10)
    stored = {"largest": 0.25, "records": 10, "tolerance": 1e-6, "differing": 0}
    assert orjson.loads(dump_manifest(COMPLETED))["serving_parity"] == stored


@pytest.mark.parametrize(
    ("calls", "count"),
    [(None, 0), (Calls(10, 100, 1000), 0), (Calls(10, 100, 1000, retries=1), 1), (Calls(10, 100, 1000, 3, 2), 2)],
)
def test_retries_and_rejected_batches_give_notes(calls: Calls | None, count: int, golden: Golden) -> None:
    """A model in this process, and calls without problems, give none."""
    notes = call_notes(calls)
    assert len(notes) == count
    golden("\n".join(notes))


@pytest.mark.parametrize(
    ("data", "done"),
    [
        (dump_manifest(COMPLETED), True),
        (dump_manifest(replace(COMPLETED, status=Status.COMPLETED)), True),
        (dump_manifest(FAILED), False),
        (b"[]", False),
        (b"null", False),
    ],
)
def test_execution_is_finished_unless_it_failed(tmp_path: Path, data: bytes, done: bool) -> None:
    """A JSON document of another program counts as missing."""
    commit(tmp_path / "06", {MANIFEST: data})
    assert is_finished(tmp_path / "06") is done


@pytest.mark.parametrize("data", [b"", b"torn {", b"\xff"])
def test_manifest_that_is_not_json_is_an_error(tmp_path: Path, data: bytes, golden: Golden) -> None:
    """Its execution counts as finished, so that it is not overwritten."""
    commit(tmp_path / "06", {MANIFEST: data})
    with golden.raises(ValueError):
        read_manifest(tmp_path / "06")
    assert is_finished(tmp_path / "06")
    assert stored_window(tmp_path / "06") is None


def test_missing_manifest_is_none(tmp_path: Path) -> None:
    """Neither a missing folder nor one without a manifest is a finished execution."""
    for target in (tmp_path / "absent", tmp_path):
        assert read_manifest(target) is None
        assert not is_finished(target)


def test_window_of_an_execution_is_stored(tmp_path: Path) -> None:
    """A baselining has none."""
    for name, manifest, window in (("06", COMPLETED, WINDOW), ("reference", BASELINE, None)):
        commit(tmp_path / name, {MANIFEST: dump_manifest(manifest)})
        assert stored_window(tmp_path / name) == window


def test_stopwatch_measures_steps() -> None:
    """Steps are measured with the given clock."""
    ticks = iter([1.0, 3.5, 10.0, 10.00004])
    watch = Stopwatch(lambda: next(ticks))
    for name in ("read", "explain"):
        with watch.step(name):
            pass
    assert watch.seconds == {"read": 2.5, "explain": 0.0}


INFORMED = ExecutionState(Status.COMPLETED, Level.INFO)
HISTORY = (
    "2025/12/31/23",
    "2026/01/04/05-41-23",
    "2026/01/05/08",
    "2026/01/05/08-30",
    "2026/01/05/09",
    "2026/02/01/00",
)


def completed(level: object, status: str = "Completed") -> bytes:
    """Return the manifest of an execution with an alert level."""
    return orjson.dumps({**as_document(COMPLETED), "status": status, "level": level})


def test_earlier_executions_come_newest_first(tmp_path: Path) -> None:
    """They are sorted by time across days and years; other names are skipped."""
    for name in (*HISTORY, "2026/01/05/.08~0a1b2c3d", "2026/01/05/notes", "2026/01/x/07", "notes/01/05/07"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "2026/01/03").write_text("a file where a folder belongs")
    target = tmp_path / "2026/01/05/09"
    found = [path.relative_to(tmp_path).as_posix() for path in earlier_executions(target)]
    assert found == ["2026/01/05/08-30", "2026/01/05/08", "2026/01/04/05-41-23", "2025/12/31/23"]
    assert list(earlier_executions(tmp_path / "2025/12/31/23")) == []
    assert list(earlier_executions(tmp_path / "nowhere/2025/12/31/23")) == []


@pytest.mark.parametrize(
    ("newest", "expected"),
    [
        (dump_manifest(FAILED), AlertHistory(INFORMED, failing=True)),
        (completed("warning"), AlertHistory(ExecutionState(Status.COMPLETED, Level.WARNING), episode=(INFORMED,))),
        (completed(None), AlertHistory(ExecutionState(Status.COMPLETED, Level.NONE))),
        (completed("insufficient_data"), AlertHistory(INFORMED)),
        (b"no JSON", AlertHistory(INFORMED)),
        (completed("info", status="Splendid"), AlertHistory(INFORMED)),
        (completed(["?"]), AlertHistory(INFORMED)),
        (None, AlertHistory(INFORMED)),
    ],
)
def test_alert_history_is_the_newest_verdict(tmp_path: Path, newest: bytes | None, expected: AlertHistory) -> None:
    """Executions with a damaged or missing manifest, or without a verdict, are skipped."""
    documents = {"2026/01/05/08": newest, "2026/01/04/23": completed("info")}
    for name, document in documents.items():
        (tmp_path / name).mkdir(parents=True)
        if document is not None:
            (tmp_path / name / MANIFEST).write_bytes(document)
    assert alert_history(tmp_path / "2026/01/05/09") == expected
    assert alert_history(tmp_path / "2026/01/04/23") == AlertHistory()


def test_unpublished_executions_are_not_in_the_alert_history(tmp_path: Path) -> None:
    """They are skipped until a recipient was reached; the marker is removed with the directory."""
    for hour, level in (("07", "none"), ("08", "violation")):
        commit(tmp_path / f"2026/01/05/{hour}", {MANIFEST: completed(level)})
    target = tmp_path / "2026/01/05/08"
    mark_unpublished(target, ["*"])
    assert alert_history(tmp_path / "2026/01/05/09") == AlertHistory(ExecutionState(Status.COMPLETED, Level.NONE))
    mark_unpublished(target, ())
    assert alert_history(tmp_path / "2026/01/05/09") == AlertHistory(ExecutionState(Status.COMPLETED, Level.VIOLATION))
    mark_unpublished(target, ["*"])
    assert remove(target, tmp_path)
    assert file_contents(tmp_path).keys() == {"2026/01/05/07/manifest.json"}


def test_history_of_a_recipient_lacks_the_executions_that_it_missed(tmp_path: Path) -> None:
    """Other recipients have the whole history; an unreadable record stands for all recipients."""
    for hour, level in (("06", "info"), ("07", "none"), ("08", "violation"), ("09", "violation")):
        commit(tmp_path / f"2026/01/05/{hour}", {MANIFEST: completed(level)})
    mark_unpublished(tmp_path / "2026/01/05/09", ["a", "b"])
    mark_unpublished(tmp_path / "2026/01/05/08", ["a"])
    expected = {
        name: ExecutionState(Status.COMPLETED, level) for name, level in (("a", Level.NONE), ("b", Level.VIOLATION))
    }
    history = alert_history(tmp_path / "2026/01/05/10")
    assert history.last_verdict == ExecutionState(Status.COMPLETED, Level.VIOLATION)
    assert {name: each.last_verdict for name, each in history.missed.items()} == expected
    (tmp_path / "2026/01/05/.09.unpublished").write_bytes(b"")
    (tmp_path / "2026/01/05/.08.unpublished").write_bytes(b'{"a": 1}')
    assert alert_history(tmp_path / "2026/01/05/10") == AlertHistory(ExecutionState(Status.COMPLETED, Level.NONE))


def test_unpublished_marker_needs_the_folder(tmp_path: Path) -> None:
    """If the folder is missing, nothing is raised and nothing is created."""
    for recipients in (["a"], []):
        mark_unpublished(tmp_path / "gone/08", recipients)
    assert not list(tmp_path.iterdir())


def test_alert_history_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After MAX_HISTORY failures, older executions are not read."""
    monkeypatch.setattr("runner.results.manifest_file.MAX_HISTORY", 3)
    for hour, document in enumerate([completed("none"), *[dump_manifest(FAILED)] * 3]):
        (folder := tmp_path / f"2026/01/05/{hour:02d}").mkdir(parents=True)
        (folder / MANIFEST).write_bytes(document)
    assert alert_history(tmp_path / "2026/01/05/03") == AlertHistory(
        ExecutionState(Status.COMPLETED, Level.NONE), failing=True
    )
    assert alert_history(tmp_path / "2026/01/05/04") == AlertHistory(None, failing=True)


def test_points_are_in_the_order_of_time(tmp_path: Path) -> None:
    """Executions with a damaged or missing manifest count towards the limit but have no point."""
    documents = {"07": completed("info"), "08": dump_manifest(FAILED), "09": b"{", "10": completed("warning")}
    for hour, document in documents.items():
        (folder := tmp_path / f"2026/01/05/{hour}").mkdir(parents=True)
        (folder / MANIFEST).write_bytes(document)
    points = earlier_points(tmp_path / "2026/01/05/11", 3)
    assert [(point.status, point.level) for point in points] == [
        (Status.FAILED, Level.NONE),
        (Status.COMPLETED, Level.WARNING),
    ]
    failed, newest = points
    assert (newest.start, newest.end) == ("2026-01-05T09:00:00Z", "2026-01-05T10:00:00Z")
    assert (newest.ndcg, newest.threshold, newest.attribution_shift, newest.total_log2_change) == (0.8, 0.9, 0.25, None)
    assert (failed.ndcg, failed.threshold, failed.attribution_shift, failed.reference) == (None,) * 4


def test_newest_executions_have_a_manifest(tmp_path: Path) -> None:
    """A directory without a manifest is not an execution."""
    for hour in ("07", "08", "09"):
        commit(tmp_path / f"2026/01/05/{hour}", {MANIFEST: b"{}"})
    (tmp_path / "2026/01/05/10").mkdir()
    assert [path.name for path in newest_executions(tmp_path, 2)] == ["09", "08"]


INPUT = ChangeKind.INPUT


def dated(hour: int, *names: str, minute: int = 0, since: str | None = None) -> tuple[Change, ...]:
    """Return changes of inputs that began in an hour."""
    onset = f"2026-01-05T{hour:02}:{minute:02}:00Z"
    return tuple(Change(INPUT, name, onset, since or onset) for name in names)


def executed(changes: tuple[Change, ...], **sections: object) -> bytes:
    """Return the manifest of an execution with these changes."""
    comparison = replace(COMPLETED.comparison, level=Level.WARNING, changes=changes)  # type: ignore[type-var]
    explanation = replace(COMPLETED.explanation, hashes={"reference": "ab"})  # type: ignore[type-var]
    manifest = replace(COMPLETED, status=Status.COMPLETED, comparison=comparison, explanation=explanation)
    return dump_manifest(replace(manifest, **sections))  # type: ignore[arg-type]


def test_a_change_is_dated_by_the_first_window_without_interruption(tmp_path: Path) -> None:
    """Windows that failed, have too few records or another reference, and missing ones, do not interrupt it."""
    too_few = replace(COMPLETED.comparison, level=Level.INSUFFICIENT_DATA)  # type: ignore[type-var]
    other = replace(COMPLETED.explanation, hashes={"reference": "cd"})  # type: ignore[type-var]
    documents = {
        2: executed(dated(2, "a")),
        3: executed(dated(3, "b")),
        4: executed(dated(4, "a", "b", minute=25)),
        5: dump_manifest(FAILED),
        6: executed((), comparison=too_few),
        7: executed((), explanation=other),
        9: executed(dated(9, "b", "a")),
    }
    for hour, document in reversed(documents.items()):
        commit(tmp_path / f"2026/01/05/{hour + 1:02}", {MANIFEST: document})
    found = with_since(tmp_path / "2026/01/05/11", "ab", dated(10, "a", "b", "c"))
    assert {each.name: each.since[11:16] for each in found} == {"a": "04:25", "b": "03:00", "c": "10:00"}
    assert {each.onset for each in found} == {"2026-01-05T10:00:00Z"}
    assert with_since(tmp_path / "2026/01/05/11", "ef", dated(10, "a"))[0].since == "2026-01-05T10:00:00Z"


def test_earlier_results_are_those_of_windows_with_a_verdict(tmp_path: Path) -> None:
    """Newest first; failed executions, those with another reference and damaged documents are skipped."""
    attributions = local_attributions(60, 0)
    stored = DriftDocument(RankingResult(0.9, ()), compared(POLICY, attributions, attributions), mean_abs(attributions))
    other = replace(COMPLETED.explanation, hashes={"reference": "cd"})  # type: ignore[type-var]
    documents = {
        2: {MANIFEST: executed(()), DRIFT: dump_drift(stored)},
        3: {MANIFEST: dump_manifest(FAILED)},
        4: {MANIFEST: executed((), explanation=other), DRIFT: dump_drift(stored)},
        5: {MANIFEST: executed(()), DRIFT: b"{"},
        6: {MANIFEST: executed(())},
        7: {MANIFEST: executed(()), DRIFT: dump_drift(replace(stored, result=None))},
        8: {MANIFEST: executed(()), DRIFT: dump_drift(stored)},
    }
    for hour, files in documents.items():
        commit(tmp_path / f"2026/01/05/{hour:02}", files)
    found = list(earlier_results(tmp_path / "2026/01/05/11", "ab"))
    assert [result for _, result in found] == [stored.result] * 2
    assert {start for start, _ in found} == {WINDOW.start}


def test_the_oldest_execution_states_when_its_changes_began(tmp_path: Path) -> None:
    """Earlier executions may have been removed."""
    commit(tmp_path / "2026/01/05/09", {MANIFEST: executed(dated(8, "a", "b", since="2025-12-24T18:00:00Z"))})
    commit(tmp_path / "2026/01/05/10", {MANIFEST: executed(dated(9, "a"))})
    found = with_since(tmp_path / "2026/01/05/11", "ab", dated(10, "a", "b"))
    assert [each.since for each in found] == ["2025-12-24T18:00:00Z", "2026-01-05T10:00:00Z"]


def test_changes_and_words_are_stored() -> None:
    """A manifest of an earlier version has neither."""
    words = Verdict("a: missing", "Changed.", "Large.", "Check.")
    assert COMPLETED.comparison is not None
    comparison = replace(COMPLETED.comparison, changes=dated(8, "a"), words=words)
    stored = dump_manifest(replace(COMPLETED, comparison=comparison))
    loaded = load_manifest(stored)
    assert loaded is not None
    assert loaded.comparison == comparison
    document = orjson.loads(stored)
    del document["changes"], document["words"]
    former = load_manifest(orjson.dumps(document))
    assert former is not None
    assert former.comparison == replace(comparison, changes=(), words=None)
