"""Contract of every sink in `conf/publish`; each test module of a sink has a function `unreachable`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
from moto.cloudwatch.models import cloudwatch_backends

from runner import cli
from runner.domain.executions import HOUR, AlertHistory, ExecutionState, Publication, Status
from runner.protocols import Sink
from runner.publish import publish_all
from tests.builders import WINDOW, event, manifest, monitor, write
from tests.cli_runner import Shapwatch
from tests.drift.samples import POLICY
from tests.golden import Golden
from tests.models.servers import always, serving
from tests.object_store import s3_server
from tests.publish.publications import (
    NAMES,
    SECRET,
    Unreachable,
    closed_port,
    configured_sinks,
    failed_publication,
    live_attributions,
    publication,
)

SINKS = sorted(path.stem for path in (cli.CONF / "publish").glob("*.yaml") if path.stem != "none")
SHIPPED = ("cloudwatch", "notify", "otel", "prometheus")
RANKING = replace(POLICY, violations="ranking")
"""With nDCG, also windows of one record can have violations."""
"""Sinks that the end-to-end test observes."""


@dataclass(frozen=True)
class Failing:
    """A sink that cannot publish, with the configuration that makes it fail."""

    sink: Sink
    configuration: Unreachable


@pytest.fixture(params=SINKS)
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Failing]:
    """A sink that cannot publish, with a short timeout and secrets in the environment."""
    module = import_module(f"tests.publish.test_{request.param}")
    with closed_port() as port:
        configuration: Unreachable = module.unreachable(port, tmp_path)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        for name, value in configuration.environment.items():
            monkeypatch.setenv(name, value)
        (sink,) = configured_sinks(request.param, overrides=configuration.overrides)
        settings: Any = sink
        if "timeout_seconds" in {each.name for each in fields(settings)}:
            settings = replace(settings, timeout_seconds=0.2)
        yield Failing(settings, configuration)


def test_every_option_is_a_sink_of_its_own_name() -> None:
    """Each option in conf/publish selects the sink of its name, alone and together with the others."""
    assert sorted(type(sink).__name__.lower() for sink in configured_sinks(*SINKS)) == SINKS
    assert [type(configured_sinks(name)[0]).__name__.lower() for name in SINKS] == SINKS


def test_none_selects_no_sink() -> None:
    """An empty selection is the same as `none`."""
    assert configured_sinks() == configured_sinks("none") == ()


@pytest.mark.parametrize(
    "execution",
    [publication(attributions=live_attributions(NAMES)), failed_publication()],
    ids=["drift", "failure"],
)
def test_failure_of_a_sink_is_one_line_without_secrets(
    failing: Failing, execution: Publication, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """There is no exception; one line names the sink; neither it nor the log at any level contains a secret."""
    caplog.set_level(logging.DEBUG, "shapwatch")
    problems = publish_all([failing.sink], execution, lambda _: None)
    if execution.status is Status.FAILED and failing.configuration.ignores_failures:
        assert not problems
    else:
        (problem,) = problems
        assert type(failing.sink).__name__.lower() in problem
        assert "\n" not in problem
        golden(problem)
    assert SECRET not in "".join(problems) + caplog.text


def test_failure_of_a_sink_does_not_change_the_execution(failing: Failing, tmp_path: Path) -> None:
    """Status and documents equal those of an execution without sinks; the message has one more line."""

    def executed(root: Path, *sinks: Sink) -> tuple[Any, Any]:
        root.mkdir()
        stage = monitor(
            root, [[1, 2, 9]], policy=RANKING, publish=lambda execution: publish_all(sinks, execution, lambda _: None)
        )
        execution = stage.run(WINDOW)
        files = {path.name: path.read_bytes() for path in Path(execution.directory).iterdir()}
        return execution, (execution.status, files | {"report.html": b""})

    alone, expected = executed(tmp_path / "alone")
    execution, found = executed(tmp_path / "with", failing.sink)
    assert found == expected
    assert execution.status is Status.COMPLETED_WITH_VIOLATIONS
    *same, problem = execution.message.splitlines()
    assert same == alone.message.replace("alone/", "with/").splitlines()
    assert type(failing.sink).__name__.lower() in problem


class Recorded:
    """Records publications, and returns the same messages each time."""

    def __init__(self, *problems: str) -> None:
        self.publications, self.problems = list[Publication](), problems

    def __call__(self, publication: Publication) -> tuple[str, ...]:
        """Record a publication."""
        self.publications.append(publication)
        return self.problems


def test_failed_execution_is_published(tmp_path: Path) -> None:
    """The publication contains the reason, the report and the state of the previous execution."""
    recorded = Recorded("not published")
    stage = monitor(tmp_path, [[1, 2, 9]], policy=RANKING, publish=recorded)
    good = stage.run(WINDOW)
    bad = stage.run(type(WINDOW).parse("2026-01-05T11"))
    assert (good.status, bad.status) == (Status.COMPLETED_WITH_VIOLATIONS, Status.FAILED)
    first, second = recorded.publications
    assert first.history == AlertHistory()
    assert second.history == AlertHistory(ExecutionState(Status.COMPLETED_WITH_VIOLATIONS, first.level))
    assert first.ndcg.keys() == {"label0"}
    assert first.attributions is not None
    assert first.attributions.names == ("a", "b", "c")
    assert second.attributions is None
    assert second.sentence == orjson.loads((Path(second.report).parent / "manifest.json").read_bytes())["sentence"]
    assert Path(second.report).is_file()
    assert "not published" in bad.message


def test_failure_without_a_report_is_published_without_its_path(tmp_path: Path) -> None:
    """If other files occupy the directory of the execution, no report is written."""
    recorded = Recorded()
    stage = monitor(tmp_path, [[1, 2, 9]], policy=RANKING, publish=recorded)
    (foreign := tmp_path / "monitor/e/m/2026/01/05/10").mkdir(parents=True)
    (foreign / "notes.txt").write_text("other data")
    assert stage.run(WINDOW).status is Status.FAILED
    (execution,) = recorded.publications
    assert (execution.status, execution.report) == (Status.FAILED, "")


def test_failed_repetition_is_not_published(tmp_path: Path) -> None:
    """A repetition that fails leaves the first result."""
    recorded = Recorded()
    stage = monitor(tmp_path, [[1, 2, 9]], policy=RANKING, publish=recorded)
    stage.run(WINDOW)
    (tmp_path / "reference/analysis.json").write_text("no JSON")
    assert stage.run(WINDOW).status is Status.FAILED
    assert len(recorded.publications) == 1
    assert manifest(tmp_path)["status"] == "CompletedWithViolations"


def test_alert_without_any_recipient_is_sent_by_the_next_execution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """The recipient receives it an hour later, once."""
    sinks = configured_sinks("notify")
    stage = monitor(
        tmp_path, [[1, 2, 9]], policy=RANKING, publish=lambda execution: publish_all(sinks, execution, lambda _: None)
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with closed_port() as port:
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", f"json://127.0.0.1:{port}/?cto=0.2")
        assert "notify" in stage.run(WINDOW).message.splitlines()[-1]
    with serving(always(200, "")) as served:
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", served.url.replace("http://", "json://"))
        for hour in (1, 2):
            assert stage.run(WINDOW, WINDOW.scheduled + hour * HOUR).status is Status.COMPLETED_WITH_VIOLATIONS
    (seen,) = served.seen
    assert orjson.loads(seen.body)["title"].startswith("Violation: ")


def test_a_window_that_is_executed_again_sends_only_news(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same result sends nothing; another one, after a correction, does; the next window knows of both."""
    sinks = configured_sinks("notify")
    sent = partial(publish_all, sinks, sleep=lambda _: None)
    stage = monitor(tmp_path, [[1, 2, 9]], publish=sent, policy=replace(POLICY, min_rows=1))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(always(200, "")) as served:
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", served.url.replace("http://", "json://"))
        for _ in range(3):
            assert stage.run(WINDOW).status is Status.COMPLETED_WITH_VIOLATIONS
        assert len(served.seen) == 1
        corrected = event([7, 2, 1])
        write(tmp_path, "09/00-00-000-x.jsonl", corrected)
        for _ in range(2):
            assert stage.run(WINDOW).status is Status.COMPLETED
        assert stage.run(WINDOW, WINDOW.scheduled + HOUR).status is Status.COMPLETED
    titles = [orjson.loads(each.body)["title"].partition(":")[0] for each in served.seen]
    assert titles == ["Violation", "No drift any more"]


def test_command_line_selects_several_sinks(tmp_path: Path, golden: Golden) -> None:
    """One sink writes its file; the other one fails, which prints a line and does not change the exit code."""
    shapwatch = Shapwatch(tmp_path)
    printed = shapwatch("publish=[prometheus,notify]", "publish.notify.urls_env=[SHAPWATCH_NO_SUCH]")
    logged = [orjson.loads(line)["message"] for line in printed.splitlines() if line.startswith("{")]
    shown = " ".join(" ".join(line for line in printed.splitlines() if not line.startswith("{")).split())
    assert logged == [logged[0]] * 3  # the quickstart's three hours
    assert shown.count(logged[0]) == 3
    golden(logged[0])
    assert 'status="CompletedWithViolations"} 1.0' in next((tmp_path / "prometheus").iterdir()).read_text()


@pytest.mark.soak
def test_all_sinks_publish_the_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden) -> None:
    """In a subprocess, where warnings are errors, there are three executions and one message about the drift."""
    with s3_server(monkeypatch) as bucket, serving(always(200, "")) as served:
        cloudwatch_backends.reset()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", served.url)
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", served.url.replace("http://", "json://"))
        printed = Shapwatch(tmp_path).process(f"publish=[{','.join(SHIPPED)}]")
        with closing(boto3.client("cloudwatch", endpoint_url=bucket.endpoint, region_name="us-east-1")) as client:
            pages = client.get_paginator("list_metrics").paginate()
            names = {metric["MetricName"] for page in pages for metric in page["Metrics"]}
    assert "shapwatch.publish" not in printed
    assert {"feature_mean radius", "ExpectedValue", "ndcg", "label_drift_level", "attribution_shift"} <= names
    (*sent, last) = sorted(served.seen, key=lambda seen: -len(seen.path))
    assert ([seen.path for seen in sent], last.path) == (["/v1/metrics"] * 3, "/")
    message = orjson.loads(last.body)
    golden(message["title"])
    assert str(tmp_path) in message["message"]
    assert (tmp_path / "prometheus/shapwatch_breast-cancer_breast-cancer-monitor.prom").is_file()


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("publish=[otel]", f"publish.otel.endpoint='http://127.0.0.1/?token={SECRET}'"), "publish.otel.endpoint"),
        (("publish=[notify]", f"publish.notify.urls_env=['json://u:{SECRET}@h']"), "publish.notify.urls_env.0"),
        (("publish=[notify]", "publish.notify.min_level=none"), "publish.notify.min_level"),
        (("publish=[cloudwatch]", "publish.cloudwatch.namespace=':'"), "publish.cloudwatch.namespace"),
        (("publish=[prometheus]", "publish.prometheus.max_feature=1"), "publish.prometheus.max_features"),
        (("publish.unknown.x=1",), "publish.unknown"),
    ],
    ids=["endpoint", "address", "level", "namespace", "misspelled", "unknown sink"],
)
def test_invalid_settings_are_refused(tmp_path: Path, golden: Golden, overrides: tuple[str, ...], key: str) -> None:
    """The message names the full key, and omits a secret in the place of a name."""
    printed = Shapwatch(tmp_path)(*overrides, code=2)
    assert key in printed
    assert SECRET not in printed
    golden(printed)
