"""The whole story over real sockets: an endpoint, its traffic, its captures, the reference, the monitor."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import orjson
import pytest
from botocore.config import Config  # type: ignore[import-untyped]

from runner import cli, subprocesses
from runner.models.linear_learner import LinearLearner
from runner.records.fields import Fields
from tests.cli_runner import CHECKOUT, Shapwatch
from tests.conftest import DEMO
from tests.golden import Golden
from tests.models import trees
from tests.models.servers import Reply, Seen, always, scoring, serving
from tests.processes import served

CAPTURE = ("data_capture.flush_seconds=0.2",)
TOLERANCE = 1e-6


def window(start: datetime, end: datetime) -> str:
    """Return the setting of a window of whole seconds."""
    return f"stage.window={start:%FT%TZ}/{end:%FT%TZ}"


def next_second() -> datetime:
    """Return the second that has just begun."""
    now = time.time()
    time.sleep(1.01 - now % 1)
    return datetime.now(UTC).replace(microsecond=0)


def test_from_the_endpoint_to_the_verdict(tmp_path: Path) -> None:
    """Serve, traffic, capture, baseline and monitor, each as a user runs it, in mini-batches of three."""
    shapwatch = Shapwatch(tmp_path)
    start = next_second()
    with served(tmp_path, "quickstart", *CAPTURE) as endpoint:
        sent = shapwatch("stage=traffic", f"stage.url={endpoint.url}", "stage.batch_rows=3", "stage.rate=1000")
    end = next_second()
    assert sent.startswith("sent 270 records in 90 requests")
    assert endpoint.output == "answered 90 requests, captured 90, dropped 0\n"
    seen = shapwatch("stage=capture", window(start, end))
    assert "90 events, 270 records" in seen
    assert "rejected: none" in seen
    shapwatch("stage=baseline")
    printed = shapwatch("stage=monitor", window(start, end))
    assert printed.startswith("Completed, ")
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["counts"]["records"] == 270
    assert manifest["serving_parity"] == {"largest": pytest.approx(0, abs=1e-15), "records": 270}
    assert manifest["preflight"]["parity"] == pytest.approx(0, abs=1e-15)


def test_a_monitor_at_its_own_endpoint_sees_only_traffic(tmp_path: Path) -> None:
    """Three windows end to end, explained through the endpoint that captures: its own calls are never taken in."""
    shapwatch = Shapwatch(tmp_path)
    counts: list[dict[str, Any]] = []
    with served(tmp_path, "quickstart", *CAPTURE) as endpoint:
        live = ["model=http", "~model.artifact", f"model.url={endpoint.url}", "model.label_headers=[malignant]"]
        shapwatch.process("stage=baseline", *live)
        start = next_second()
        for name in ("first", "second", "third"):
            shapwatch("stage=traffic", f"stage.url={endpoint.url}", "stage.count=40", "stage.rate=1000")
            end = next_second()
            time.sleep(0.5)
            shapwatch("stage=monitor", window(start, end), f"monitor.name={name}", *live, _reference(tmp_path))
            counts.append(shapwatch.read("manifest.json", f"monitor/breast-cancer/{name}"))
            start = end
    assert [each["counts"]["records"] for each in counts] == [40, 40, 40]
    assert [each["counts"]["events"] for each in counts] == [40, 40, 40]
    probes = [each["counts"]["probes"] for each in counts]
    assert probes == [0, counts[0]["calls"]["requests"], counts[1]["calls"]["requests"]]
    assert probes[1] > 40
    assert all(each["status"] == "Completed" for each in counts)
    assert counts[0]["model_changed"] is None


def _reference(root: Path) -> str:
    return f"monitor.reference={root}/baseline/breast-cancer-monitor"


def test_a_shadow_is_made_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A throw-away endpoint gives the same attributions, planned calls are counted calls, and nothing stays behind."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", "another endpoint's")
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=baseline")
    (here,) = [values(shapwatch, "baseline")]
    shapwatch("stage=plan", "model.deploy=shadow")
    plan = shapwatch.read("baseline.plan.json")
    shapwatch("stage=baseline", "model.deploy=shadow")
    manifest = shapwatch.read("manifest.json", "baseline")
    assert plan["calls"] == {key: manifest["calls"][key] for key in ("requests", "bytes")}
    assert plan["rows"] == manifest["calls"]["rows"]
    assert manifest["calls"]["retries"] == manifest["calls"]["fallbacks"] == 0
    assert values(shapwatch, "baseline") == pytest.approx(here, abs=1e-12)
    assert children() == []


def test_a_shadow_goes_also_when_things_fail(tmp_path: Path, golden: Golden) -> None:
    """A failing stage takes its endpoint along; an endpoint that cannot start says why, in the execution too."""
    shapwatch = Shapwatch(tmp_path)
    broken = tmp_path / "model.tar.gz"
    broken.write_bytes(b"no archive")
    printed = shapwatch("stage=baseline", "model.deploy=shadow", "shap.baseline=[[1]]", code=cli.BAD_INPUT)
    golden(printed)
    printed = shapwatch(
        "stage=baseline", "model.deploy=shadow", "shap.num_samples=3", "shap=kernel", code=cli.BAD_INPUT
    )
    assert "shap.num_samples=3" in printed
    printed = shapwatch("stage=baseline", "model.deploy=shadow", f"model.artifact={broken}", code=cli.BAD_INPUT)
    golden(printed)
    assert children() == []


@pytest.mark.soak
def test_a_shadow_reads_its_settings_as_they_are(tmp_path: Path) -> None:
    """SageMaker's placeholders are no interpolations, and no folder of the user's is taken for the program."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner" / "__main__.py").write_text("print('IMPOSTOR')")
    template = r"""data: {content_template: '{"r": "\${mean radius}", "features": $features}'}"""
    text = f"# @package _global_\ndefaults: [quickstart, _self_]\n{template}\nmodel: {{deploy: shadow}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    command = [sys.executable, "-P", "-m", "runner", "--config-dir", str(tmp_path), "experiment=mine", "stage=baseline"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert r"\${mean radius}" in next(tmp_path.rglob("settings.yaml")).read_text()


def test_a_shadow_may_talk(tmp_path: Path) -> None:
    """What a model prints neither hides that it serves nor stops it; it is passed on."""
    loud = ["model=python", "~model.artifact", "model.function=tests.models.noisy_model:predict", "model.deploy=shadow"]
    printed = Shapwatch(tmp_path).process("stage=baseline", *loud)
    assert "Completed" in printed
    assert "thinking thinking" in printed


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_shadow_goes_with_its_master(tmp_path: Path, how: signal.Signals) -> None:
    """A run that is told to end, or killed, leaves no endpoint behind."""
    command = [sys.executable, "-m", "runner", "experiment=quickstart", f"paths.root={tmp_path}", "stage=baseline"]
    slow = ["model.deploy=shadow", "shap.explainer=kernel", "shap.num_samples=1022", "shap.max_batch_rows=20"]
    run = subprocess.Popen([*command, *slow], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
    until(lambda: bool(children(run.pid)))
    (shadow,) = children(run.pid)
    run.send_signal(how)
    _, told = run.communicate(timeout=30)
    until(lambda: not (Path("/proc") / str(shadow)).exists())
    assert run.returncode == (cli.INTERRUPTED if how == signal.SIGTERM else -how)
    assert "Traceback" not in told
    assert not list((tmp_path).rglob("analysis.json"))


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.02)


def children(parent: int | None = None) -> list[int]:
    """Return the throw-away endpoints among the children of a process, this one unless told."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if above == (parent or os.getpid()) and subprocesses.SNAPSHOT.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def values(shapwatch: Shapwatch, below: str) -> dict[str, float]:
    """Return the global attributions and the expected value of the one analysis below a folder."""
    ((_, label),) = shapwatch.read("analysis.json", below)["explanations"]["kernel_shap"].items()
    return {**label["global_shap_values"], "expected value": label["expected_value"]}


@pytest.mark.soak
def test_a_tree_is_explained_alike_wherever_it_lives(tmp_path: Path) -> None:
    """XGBoost's own file, the same model in ONNX, and either behind HTTP give the same analysis."""
    dataset = tmp_path / "rows.jsonl"
    rows = trees.FEATURES.rows()
    dataset.write_bytes(b"\n".join(orjson.dumps({"features": row}) for row in rows))
    data = [f"data.dataset={dataset}", f"data.headers=[{','.join(trees.NAMES)}]", "shap.baseline=[[0.1,0.2,0.3,0.4]]"]
    files = {"xgboost": trees.xgboost_file(tmp_path), "onnx": trees.onnx_file(tmp_path)}
    found = {}
    for kind, path in files.items():
        local = [*data, f"model={kind}", f"model.artifact={path}"]
        found[kind] = analysed(tmp_path / kind, *local)
        found[f"{kind} in a shadow"] = analysed(tmp_path / f"{kind}-shadow", *local, "model.deploy=shadow")
    with served(tmp_path, "quickstart", *data, "model=xgboost", f"model.artifact={files['xgboost']}") as endpoint:
        found["http"] = analysed(tmp_path / "http", *data, "model=http", "~model.artifact", f"model.url={endpoint.url}")
        boto = ["model=sagemaker", "~model.artifact", f"model.endpoint_url={endpoint.origin}", "model.region=us-west-2"]
        found["sagemaker"] = analysed(tmp_path / "sagemaker", *data, *boto)
    assert len(found) == 6
    for name, analysis in found.items():
        assert analysis == pytest.approx(found["xgboost"], abs=TOLERANCE), name
    assert max(found["xgboost"].values()) > 0.05


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def analysed(root: Path, *overrides: str) -> dict[str, float]:
    """Return the attributions of a baselining."""
    shapwatch = Shapwatch(root)
    shapwatch("stage=baseline", *overrides)
    return values(shapwatch, "baseline")


def test_boto3s_captures_feed_baseline_and_monitor(tmp_path: Path) -> None:
    """What SageMaker's own client sends is captured, and explained without any change."""
    shapwatch = Shapwatch(tmp_path)
    lines = (DEMO / "traffic.jsonl").read_bytes().splitlines()
    start = next_second()
    with served(tmp_path, "quickstart", *CAPTURE) as endpoint:
        client = boto3.client(
            "sagemaker-runtime",
            endpoint_url=endpoint.origin,
            region_name="us-west-2",
            config=Config(retries={"total_max_attempts": 1}),
        )
        for number, line in enumerate(lines[:50]):
            client.invoke_endpoint(
                EndpointName="breast-cancer",
                ContentType="application/jsonlines",
                Accept="application/jsonlines",
                InferenceId=str(number),
                Body=line,
            )
        client.close()
    end = next_second()
    shapwatch("stage=baseline")
    assert shapwatch("stage=monitor", window(start, end)).startswith("Completed")
    assert shapwatch.read("manifest.json", "monitor")["counts"]["records"] == 50


def test_a_monitor_of_a_failing_endpoint_says_so(tmp_path: Path) -> None:
    """The execution ends in Failed, with the URL, the status and what the endpoint said; one that is away as well."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=30")
    shapwatch("stage=baseline")
    with served(tmp_path, "quickstart") as endpoint:
        gone = endpoint.url
        elsewhere = endpoint.url.replace("breast-cancer/invocations", "another/invocations")
        for url, told in ((elsewhere, "answered 400: "), (None, "Connection refused (after 2 attempts)")):
            if url is None:
                endpoint.process.terminate()
                endpoint.process.wait(20)
            live = ["model=http", "~model.artifact", f"model.url={url or gone}", "model.attempts=2"]
            hour = "stage.window=2026-01-05T09"
            printed = shapwatch("stage=monitor", hour, *live, "model.label_headers=[malignant]", code=cli.BAD_INPUT)
            manifest = shapwatch.read("manifest.json", "monitor")
            assert manifest["status"] == "Failed"
            assert (url or gone) in manifest["failure_reason"]
            assert told in manifest["failure_reason"], printed


@pytest.mark.soak
def test_an_endpoint_with_faults_gives_the_same_numbers(tmp_path: Path) -> None:
    """Of ten calls one is answered with 503, one is reset and one stalls; the analysis is that of a healthy one."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=90")
    shapwatch("stage=baseline")
    answer = scoring(_demo_model(), [f"column_{i}" for i in range(10)], Fields("features", None))

    def faulty(seen: Seen) -> Reply:
        fault = {0: Reply(503, "busy"), 3: Reply(200, "", fault="reset"), 6: Reply(200, "", fault="stall")}
        return fault.get(seen.number % 10) or answer(seen)

    analyses = []
    for name, answering in (("healthy", answer), ("faulty", faulty)):
        with serving(answering) as server:
            live = ["model=http", "~model.artifact", f"model.url={server.url}", f"monitor.name={name}"]
            told = [*live, "model.timeout_seconds=0.5", "model.label_headers=[malignant]", _reference(tmp_path)]
            printed = shapwatch("stage=monitor", "stage.window=2026-01-05T09", "model.max_request_rows=1000", *told)
        assert "\nCompleted, " in f"\n{printed}"  # it may have told of its progress before
        analyses.append(shapwatch.find("analysis.json", f"monitor/breast-cancer/{name}").read_bytes())
    calls = shapwatch.read("manifest.json", "monitor/breast-cancer/faulty")["calls"]
    assert analyses[0] == analyses[1]
    assert calls["retries"] >= 0.3 * calls["requests"] > 10
    assert f"{calls['retries']} " in printed


def test_an_endpoint_that_always_fails_is_a_failed_execution(tmp_path: Path) -> None:
    """The reason names the URL, the status and what the endpoint said, and the report shows it."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=30")
    shapwatch("stage=baseline")
    with serving(always(500, "<html>\nNo space left on device: '/tmp'")) as server:
        live = ["model=http", "~model.artifact", f"model.url={server.url}", "model.attempts=3"]
        shapwatch("stage=monitor", "stage.window=2026-01-05T09", *live, code=cli.BAD_INPUT)
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["status"] == "Failed"
    told = f"{server.url} answered 500: <html>\\nNo space left on device: '/tmp' (after 3 attempts)"
    assert manifest["failure_reason"].startswith(told)
    assert "No space left on device" in shapwatch.find("report.html", "monitor").read_text("utf-8")


def _demo_model() -> LinearLearner:
    return LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None)
