"""Files for the textfile collector, parsed by Prometheus's client library."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from runner.domain.drift import Level
from runner.domain.executions import Publication, Status
from runner.errors import PublishError
from runner.publish.prometheus import Prometheus
from tests.golden import Golden
from tests.publish.publications import (
    NAMES,
    Unreachable,
    failed_publication,
    live_attributions,
    prometheus_sink,
    publication,
)

Samples = dict[tuple[str, ...], float]


def unreachable(port: int, folder: Path) -> Unreachable:
    """Return a configuration in which the sink cannot publish."""
    (folder / "file").write_text("not a folder")
    return Unreachable(overrides=(f"++publish.prometheus.folder={folder}/file/x",))


def published(prometheus: Prometheus, execution: Publication) -> Samples:
    """Publish, and return the values by metric name and values of the labels, except endpoint and monitor."""
    prometheus.publish(execution)
    found: Samples = {}
    for family in text_string_to_metric_families(prometheus.file(execution).read_text("utf-8")):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert (labels.pop("endpoint"), labels.pop("monitor")) == (execution.endpoint, execution.monitor)
            found[sample.name.removeprefix("shapwatch_"), *labels.values()] = sample.value
    return found


def test_all_metrics_are_written(tmp_path: Path) -> None:
    """The file contains status, scheduled time, level, inputs, nDCG, attribution shift, total and attributions only."""
    execution = publication(Level.WARNING)
    assert published(prometheus_sink(tmp_path), execution) == {
        ("execution_status", "Completed"): 1,
        ("execution_status", "CompletedWithViolations"): 0,
        ("execution_status", "Failed"): 0,
        ("execution_status", "Stopped"): 0,
        ("execution_scheduled_timestamp_seconds",): execution.scheduled.timestamp(),
        ("drift_level",): 3,
        ("input_level",): 3,
        ("changed_inputs",): 1,
        ("input_distance", "income"): 0.5,
        ("label_drift_level", "label0"): 3,
        ("ndcg", "label0"): 0.95,
        ("attribution_shift", "label0"): 0.3,
        ("total_log2_change", "label0"): -0.5,
        ("attribution", "age", "label0"): 0.5,
        ("attribution", "income", "label0"): 1.5,
    }


def test_failed_execution_removes_previous_metrics(tmp_path: Path) -> None:
    """The whole file is replaced."""
    prometheus = prometheus_sink(tmp_path)
    published(prometheus, publication())
    found = published(prometheus, failed_publication())
    assert found["execution_status", "Failed"] == 1
    assert {name for name, *_ in found} == {"execution_status", "execution_scheduled_timestamp_seconds"}
    assert [path.suffix for path in prometheus.folder.iterdir()] == [".prom"]


def test_names_with_special_characters_round_trip(tmp_path: Path) -> None:
    """Quotes, line ends, emoji and right-to-left characters are unchanged after parsing."""
    found = published(prometheus_sink(tmp_path), publication(attributions=live_attributions(NAMES)))
    assert {key[1] for key in found if key[0] == "attribution"} == set(NAMES)


def test_largest_features_and_worst_labels_are_written(tmp_path: Path) -> None:
    """The number of series is limited."""
    labels, names = tuple(f"l{i}" for i in range(50)), tuple(f"f{d}" for d in range(500))
    execution = publication(attributions=live_attributions(names, labels))
    execution = replace(execution, ndcg={label: 1 - i / 100 for i, label in enumerate(labels)})
    found = published(prometheus_sink(tmp_path, 3, 2), execution)
    assert {key[1:] for key in found if key[0] == "attribution"} == {
        (f"f{d}", f"l{i}") for d in (497, 498, 499) for i in (48, 49)
    }
    assert len(found) == 4 + 1 + 1 + 3 + 2 * 4 + 3 * 2


def test_undefined_metrics_are_omitted(tmp_path: Path) -> None:
    """NaN is not written."""
    found = published(prometheus_sink(tmp_path), publication(ndcg={"label0": float("nan")}))
    assert ("ndcg", "label0") not in found


def test_each_monitor_has_a_file_inside_the_folder(tmp_path: Path) -> None:
    """No name leads outside the folder, and files are distinct."""
    prometheus = prometheus_sink(tmp_path)
    executions = [
        publication(endpoint=endpoint, monitor=monitor)
        for endpoint, monitor in (("a-b", "c"), ("a", "b-c"), ("../..", "/etc/x"))
    ]
    files = {prometheus.file(execution) for execution in executions}
    assert len(files) == 3
    assert {file.parent for file in files} == {prometheus.folder}


def test_unwritable_folder_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """The error names sink, file and key; the existing file is unchanged."""
    (tmp_path / "made").write_text("a file")
    with golden.raises(PublishError) as caught:
        prometheus_sink(tmp_path).publish(publication(status=Status.COMPLETED_WITH_VIOLATIONS))
    assert caught.value.sink == "prometheus"
    assert f"{tmp_path}/made" in str(caught.value)
    assert "publish.prometheus.folder" in str(caught.value)
    assert (tmp_path / "made").read_text() == "a file"
