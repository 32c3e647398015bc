"""The textfile, read as Prometheus reads it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from runner.domain.drift import Level
from runner.domain.executions import Status
from runner.domain.publication import Publication
from runner.errors import PublishError
from runner.publish.prometheus import Prometheus
from tests.golden import Golden
from tests.publish.publications import NAMES, failure, live, publication

Samples = dict[tuple[str, ...], float]


def sink(folder: Path, max_features: int = 20, max_labels: int = 10) -> Prometheus:
    """Return a sink that writes into a folder that is not there yet."""
    settings: dict[str, Any] = {"folder": str(folder / "made" / "later")}
    return Prometheus(**settings, max_features=max_features, max_labels=max_labels)


def samples(prometheus: Prometheus, told: Publication) -> Samples:
    """Publish, and return the values by name and label values, without those of endpoint and monitor."""
    prometheus.publish(told)
    found: Samples = {}
    for family in text_string_to_metric_families(prometheus.file(told).read_text("utf-8")):
        for sample in family.samples:
            about = dict(sample.labels)
            assert (about.pop("endpoint"), about.pop("monitor")) == (told.endpoint, told.monitor)
            found[sample.name.removeprefix("shapwatch_"), *about.values()] = sample.value
    return found


def test_every_figure_is_there(tmp_path: Path) -> None:
    """Status, level, nDCG, share moved, mass, attributions and the scheduled time, and nothing else."""
    told = publication(Level.WARNING)
    assert samples(sink(tmp_path), told) == {
        ("execution_status", "Completed"): 1,
        ("execution_status", "CompletedWithViolations"): 0,
        ("execution_status", "Failed"): 0,
        ("execution_status", "Stopped"): 0,
        ("execution_scheduled_timestamp_seconds",): told.scheduled.timestamp(),
        ("drift_level",): 3,
        ("label_drift_level", "label0"): 3,
        ("ndcg", "label0"): 0.95,
        ("attribution_shift", "label0"): 0.3,
        ("mass_log2", "label0"): -0.5,
        ("attribution", "age", "label0"): 0.5,
        ("attribution", "income", "label0"): 1.5,
    }


def test_a_failure_takes_the_last_figures_away(tmp_path: Path) -> None:
    """The file is replaced whole: what a failed execution did not find is not shown as if it had."""
    prometheus = sink(tmp_path)
    samples(prometheus, publication())
    found = samples(prometheus, failure())
    assert found["execution_status", "Failed"] == 1
    assert {name for name, *_ in found} == {"execution_status", "execution_scheduled_timestamp_seconds"}
    assert [path.suffix for path in prometheus.folder.iterdir()] == [".prom"]


def test_names_are_data(tmp_path: Path) -> None:
    """Quotes, line ends, emoji and right-to-left text come out as they went in."""
    found = samples(sink(tmp_path), publication(attributions=live(NAMES)))
    assert {key[1] for key in found if key[0] == "attribution"} == set(NAMES)


def test_the_largest_features_and_the_worst_labels_are_shown(tmp_path: Path) -> None:
    """However many there are, the number of series stays bounded."""
    labels, names = tuple(f"l{i}" for i in range(50)), tuple(f"f{d}" for d in range(500))
    told = publication(attributions=live(names, labels))
    told = replace(told, ndcg={label: 1 - i / 100 for i, label in enumerate(labels)})
    found = samples(sink(tmp_path, 3, 2), told)
    assert {key[1:] for key in found if key[0] == "attribution"} == {
        (f"f{d}", f"l{i}") for d in (497, 498, 499) for i in (48, 49)
    }
    assert len(found) == 4 + 1 + 1 + 2 * 4 + 3 * 2


def test_undefined_figures_are_left_out(tmp_path: Path) -> None:
    """NaN and infinity are no figures."""
    found = samples(sink(tmp_path), publication(ndcg={"label0": float("nan")}))
    assert ("ndcg", "label0") not in found


def test_each_monitor_has_a_file_inside_the_folder(tmp_path: Path) -> None:
    """Names of monitors are data too: none leads elsewhere, no two meet."""
    prometheus = sink(tmp_path)
    told = [publication(endpoint=one, monitor=two) for one, two in (("a-b", "c"), ("a", "b-c"), ("../..", "/etc/x"))]
    files = {prometheus.file(each) for each in told}
    assert len(files) == 3
    assert {file.parent for file in files} == {prometheus.folder}


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path, golden: Golden) -> None:
    """It names sink, file and key, and leaves what is there as it was."""
    (tmp_path / "made").write_text("a file")
    with golden.raises(PublishError) as caught:
        sink(tmp_path).publish(publication(status=Status.COMPLETED_WITH_VIOLATIONS))
    assert caught.value.sink == "prometheus"
    assert f"{tmp_path}/made" in str(caught.value)
    assert "publish.prometheus.folder" in str(caught.value)
    assert (tmp_path / "made").read_text() == "a file"
