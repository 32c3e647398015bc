"""What holds for every sink that `conf/publish` knows."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
from hydra import compose, initialize_config_dir
from moto.cloudwatch.models import cloudwatch_backends

from runner import cli
from runner.config import compose as composing
from runner.domain.executions import HOUR, Status
from runner.domain.publication import AlertHistory
from runner.protocols import Sink
from runner.publish.dispatch import tell
from tests.cli_runner import Shapwatch
from tests.golden import Golden
from tests.models.servers import always, serving
from tests.object_store import s3_server
from tests.publish.publications import NAMES, SECRET, failure, live, nobody, publication
from tests.stages.test_monitor import WINDOW, manifest, monitor

CHOICES = sorted(path.stem for path in (cli.CONF / "publish").glob("*.yaml") if path.stem != "none")


def chosen(*names: str, overrides: tuple[str, ...] = ()) -> tuple[Sink, ...]:
    """Return the sinks of a configuration that chooses them."""
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return composing.validate(compose("config", [f"publish=[{','.join(names)}]", *overrides])).publish.sinks


@pytest.fixture(params=CHOICES)
def refused(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A sink, alone, in a world in which nobody listens, a file stands in the way, and secrets are set."""
    (tmp_path / "file").write_text("in the way")
    with nobody() as port:
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": SECRET,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://user:{SECRET}@127.0.0.1:{port}/{SECRET}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRET}",
            "SHAPWATCH_NOTIFY_URLS": f"json://user:{SECRET}@127.0.0.1:{port}/{SECRET}?cto=0.2",
            "NO_PROXY": "127.0.0.1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        overrides = (f"++publish.prometheus.folder={tmp_path}/file/x",) if request.param == "prometheus" else ()
        (sink,) = chosen(request.param, overrides=overrides)
        timed: Any = sink
        hurried = "timeout_seconds" in {each.name for each in fields(timed)}
        yield replace(timed, timeout_seconds=0.2) if hurried else sink


def test_every_option_is_a_sink_of_its_own_name() -> None:
    """What conf/publish offers, settings know, one by one and all together."""
    assert sorted(type(sink).__name__.lower() for sink in chosen(*CHOICES)) == CHOICES
    assert [type(chosen(name)[0]).__name__.lower() for name in CHOICES] == CHOICES


def test_none_is_none() -> None:
    """An empty selection and `none` choose nothing."""
    assert chosen() == chosen("none") == ()


@pytest.mark.parametrize("told", [publication(attributions=live(NAMES)), failure()], ids=["drift", "failure"])
def test_a_refused_connection_is_one_line_without_a_secret(
    refused: Sink, told: Any, caplog: pytest.LogCaptureFixture, golden: Golden
) -> None:
    """No exception; one line names the sink, and neither it nor the log at any level holds a secret."""
    caplog.set_level(logging.DEBUG, "shapwatch")
    problems = tell([refused], told, lambda _: None)
    if problems or not isinstance(refused, chosen("cloudwatch")[0].__class__):  # CloudWatch is not told of failures
        (problem,) = problems
        assert type(refused).__name__.lower() in problem
        assert "\n" not in problem
        golden(problem)
    assert SECRET not in "".join(problems) + caplog.text


def test_the_verdict_stands(refused: Sink, tmp_path: Path) -> None:
    """Status, directory and documents are those of an execution that tells nobody; the message has a line more."""

    def executed(root: Path, *sinks: Sink) -> tuple[Any, Any]:
        root.mkdir()
        stage = monitor(root, [[1, 2, 9]], tell=lambda told: tell(sinks, told, lambda _: None))
        done = stage.run(WINDOW)
        found = {path.name: path.read_bytes() for path in Path(done.directory).iterdir()}
        return done, (done.status, found | {"report.html": b""})

    alone, expected = executed(tmp_path / "alone")
    done, found = executed(tmp_path / "told", refused)
    assert found == expected
    assert done.status is Status.COMPLETED_WITH_VIOLATIONS
    *same, problem = done.message.splitlines()
    assert same == alone.message.replace("alone/", "told/").splitlines()
    assert type(refused).__name__.lower() in problem


class Recorded:
    """Remembers what it is told, and answers with the same sentences each time."""

    def __init__(self, *problems: str) -> None:
        self.publications, self.problems = list[Any](), problems

    def __call__(self, publication: Any) -> tuple[str, ...]:
        """Remember it."""
        self.publications.append(publication)
        return self.problems


def test_a_failed_execution_is_told_and_stays_failed(tmp_path: Path) -> None:
    """What is told of a failure is its reason and where its report is; the execution before it is known."""
    told = Recorded("nobody heard")
    stage = monitor(tmp_path, [[1, 2, 9]], tell=told)
    good = stage.run(WINDOW)
    bad = stage.run(type(WINDOW).parse("2026-01-05T11"))
    assert (good.status, bad.status) == (Status.COMPLETED_WITH_VIOLATIONS, Status.FAILED)
    first, second = told.publications
    assert first.past == AlertHistory()
    assert second.past == AlertHistory((Status.COMPLETED_WITH_VIOLATIONS, first.finding.level))
    assert first.ndcg.keys() == {"label0"}
    assert first.attributions.names == ("a", "b", "c")
    assert second.attributions is None
    assert second.sentence == orjson.loads((Path(second.report).parent / "manifest.json").read_bytes())["sentence"]
    assert Path(second.report).is_file()
    assert "nobody heard" in bad.message


def test_a_failure_without_a_report_is_told_without_its_place(tmp_path: Path) -> None:
    """Something foreign stands where the execution belongs: nobody is sent to a page that is not there."""
    told = Recorded()
    stage = monitor(tmp_path, [[1, 2, 9]], tell=told)
    (foreign := tmp_path / "monitor/e/m/2026/01/05/10").mkdir(parents=True)
    (foreign / "thesis.txt").write_text("mine")
    assert stage.run(WINDOW).status is Status.FAILED
    (publication,) = told.publications
    assert (publication.status, publication.report) == (Status.FAILED, "")


def test_what_an_earlier_execution_stands_for_is_not_told_as_failed(tmp_path: Path) -> None:
    """A second try that fails leaves the first result, and nobody is woken for it."""
    told = Recorded()
    stage = monitor(tmp_path, [[1, 2, 9]], tell=told)
    stage.run(WINDOW)
    (tmp_path / "reference/analysis.json").write_text("no JSON")
    assert stage.run(WINDOW).status is Status.FAILED
    assert len(told.publications) == 1
    assert manifest(tmp_path)["status"] == "CompletedWithViolations"


def test_an_alarm_that_reached_nobody_is_told_by_the_next_execution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """Whoever was away for a few seconds hears of it an hour later, and once."""
    sinks = chosen("notify")
    stage = monitor(tmp_path, [[1, 2, 9]], tell=lambda told: tell(sinks, told, lambda _: None))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with nobody() as port:
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", f"json://127.0.0.1:{port}/?cto=0.2")
        assert "notify" in stage.run(WINDOW).message.splitlines()[-1]
    with serving(always(200, "")) as served:
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", served.url.replace("http://", "json://"))
        for hour in (1, 2):
            assert stage.run(WINDOW, WINDOW.scheduled + hour * HOUR).status is Status.COMPLETED_WITH_VIOLATIONS
    (seen,) = served.seen
    assert orjson.loads(seen.body)["title"].startswith("Violation: ")


def test_the_command_line_chooses_any_number(tmp_path: Path, golden: Golden) -> None:
    """A run with a sink leaves its file; one with a sink that cannot work prints a line about it and exits with 0."""
    shapwatch = Shapwatch(tmp_path)
    printed = shapwatch("publish=[prometheus,notify]", "publish.notify.urls_env=[SHAPWATCH_NO_SUCH]")
    lines = [line for line in printed.splitlines() if "SHAPWATCH_NO_SUCH" in line]
    logged, shown = lines[:3], lines[3:]  # the quickstart's three hours
    assert [orjson.loads(line)["message"] for line in logged] == [line.strip() for line in shown]
    golden(shown[0])
    assert 'status="CompletedWithViolations"} 1.0' in next((tmp_path / "prometheus").iterdir()).read_text()


def test_all_sinks_at_once_hear_of_the_quickstart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """In a process of its own, where warnings are errors: three executions, and one message about the drift."""
    with s3_server(monkeypatch) as bucket, serving(always(200, "")) as served:
        cloudwatch_backends.reset()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", served.url)
        monkeypatch.setenv("SHAPWATCH_NOTIFY_URLS", served.url.replace("http://", "json://"))
        printed = Shapwatch(tmp_path).process(f"publish=[{','.join(CHOICES)}]")
        with closing(boto3.client("cloudwatch", endpoint_url=bucket.endpoint, region_name="us-east-1")) as client:
            pages = client.get_paginator("list_metrics").paginate()
            names = {metric["MetricName"] for page in pages for metric in page["Metrics"]}
    assert "shapwatch.publish" not in printed
    assert {"feature_mean radius", "ExpectedValue", "ndcg", "drift_level", "attribution_shift", "mass_log2"} <= names
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
        (("publish.nobody.x=1",), "publish.nobody"),
    ],
    ids=["endpoint", "address", "level", "namespace", "misspelled", "unknown sink"],
)
def test_wrong_settings_are_refused(tmp_path: Path, golden: Golden, overrides: tuple[str, ...], key: str) -> None:
    """Each is named by its full key, without a secret that was put where only a name belongs."""
    printed = Shapwatch(tmp_path)(*overrides, code=2)
    assert key in printed
    assert SECRET not in printed
    golden(printed)
