"""Endpoint, traffic, captures, reference and monitor together, over real sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
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
from tests.cli_runner import CHECKOUT, HANG_SECONDS, Shapwatch
from tests.conftest import DEMO
from tests.golden import Golden
from tests.models import trees
from tests.models.servers import ReceivedRequest, Reply, always, scoring, serving
from tests.processes import served, wait_until

FAST_CAPTURE = ("data_capture.flush_seconds=0.2",)
TOLERANCE = 1e-6
FEW_SAMPLES = ("shap=kernel", "shap.num_samples=40")
"""Settings of the cheapest explanations."""


def window(start: datetime, end: datetime) -> str:
    """Return the setting of a window of whole seconds."""
    return f"stage.window={start:%FT%TZ}/{end:%FT%TZ}"


def next_second() -> datetime:
    """Wait for the next second, and return it."""
    now = time.time()
    time.sleep(1.01 - now % 1)
    return datetime.now(UTC).replace(microsecond=0)


def test_served_traffic_is_captured_and_monitored(tmp_path: Path) -> None:
    """Serve, traffic, capture, baseline and monitor work together, with three records per request."""
    shapwatch = Shapwatch(tmp_path)
    start = next_second()
    with served(tmp_path, "quickstart", *FAST_CAPTURE) as endpoint:
        sent = shapwatch("stage=traffic", f"stage.url={endpoint.url}", "stage.batch_rows=3", "stage.rate=1000")
    end = next_second()
    assert sent.startswith("sent 270 records in 90 requests")
    assert endpoint.output == "answered 90 requests, captured 90, dropped 0\n"
    inspected = shapwatch("stage=capture", window(start, end))
    assert "90 events, 270 records" in inspected
    assert "rejected: none" in inspected
    shapwatch("stage=baseline")
    printed = shapwatch("stage=monitor", window(start, end))
    assert "Completed, " in printed
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["counts"]["records"] == 270
    parity = manifest["serving_parity"]
    assert (parity["largest"], parity["records"], parity["differing"]) == (pytest.approx(0, abs=1e-15), 270, 0)
    assert manifest["preflight"]["parity"] == pytest.approx(0, abs=1e-15)


@pytest.mark.soak
def test_monitor_ignores_its_own_probes(tmp_path: Path) -> None:
    """Two windows are explained through the endpoint that captures; only traffic counts as records."""
    shapwatch = Shapwatch(tmp_path)
    counts: list[dict[str, Any]] = []
    with served(tmp_path, "quickstart", *FAST_CAPTURE) as endpoint:
        live = ["model=http", "~model.artifact", f"model.url={endpoint.url}", "model.label_headers=[malignant]"]
        live += [*FEW_SAMPLES, "model.max_request_rows=20"]
        shapwatch("stage=baseline", *live)
        start = next_second()
        for name in ("first", "second"):
            shapwatch("stage=traffic", f"stage.url={endpoint.url}", "stage.count=40", "stage.rate=1000")
            end = next_second()
            time.sleep(0.5)
            shapwatch("stage=monitor", window(start, end), f"monitor.name={name}", *live, _reference(tmp_path))
            counts.append(shapwatch.read("manifest.json", f"monitor/breast-cancer/{name}"))
            start = end
    assert [each["counts"]["records"] for each in counts] == [40, 40]
    assert [each["counts"]["events"] for each in counts] == [40, 40]
    probes = [each["counts"]["probes"] for each in counts]
    assert probes == [0, counts[0]["calls"]["requests"]]
    assert probes[1] > 40
    assert all(each["status"] == "Completed" for each in counts)
    assert counts[0]["model_changed"] is None


def _reference(root: Path) -> str:
    return f"monitor.reference={root}/baseline/breast-cancer-monitor"


def test_local_endpoint_gives_the_same_attributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributions equal those in this process, calls equal the plan, and the endpoint is removed."""
    monkeypatch.setenv("SHAPWATCH_TOKEN", "token of another endpoint")
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=baseline", *FEW_SAMPLES)
    expected = values(shapwatch, "baseline")
    shapwatch("stage=plan", "model.deploy=shadow", *FEW_SAMPLES)
    plan = shapwatch.read("baseline.plan.json")
    shapwatch("stage=baseline", "model.deploy=shadow", *FEW_SAMPLES)
    manifest = shapwatch.read("manifest.json", "baseline")
    assert plan["calls"] == {key: manifest["calls"][key] for key in ("requests", "bytes")}
    assert plan["rows"] == manifest["calls"]["rows"]
    assert manifest["calls"]["retries"] == manifest["calls"]["fallbacks"] == 0
    assert values(shapwatch, "baseline") == pytest.approx(expected, abs=1e-12)
    assert children() == []


def test_local_endpoint_is_removed_after_a_failure(tmp_path: Path, golden: Golden) -> None:
    """A failed stage removes its endpoint; an endpoint that cannot start is the reason of the failure."""
    shapwatch = Shapwatch(tmp_path)
    broken = tmp_path / "model.tar.gz"
    broken.write_bytes(b"not an archive")
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
def test_local_endpoint_receives_literal_settings(tmp_path: Path) -> None:
    """Placeholders of SageMaker are not interpolated, and a folder named `runner` is not imported."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "runner").mkdir()
    (tmp_path / "runner" / "__main__.py").write_text("print('WRONG MODULE')")
    template = r"""data: {content_template: '{"r": "\${mean radius}", "features": $features}'}"""
    text = f"# @package _global_\ndefaults: [quickstart, _self_]\n{template}\nmodel: {{deploy: shadow}}\n"
    (tmp_path / "experiment" / "mine.yaml").write_text(text)
    command = [sys.executable, "-P", "-m", "runner", "--config-dir", str(tmp_path), "experiment=mine", "stage=baseline"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert r"\${mean radius}" in next(tmp_path.rglob("settings.yaml")).read_text()


@pytest.mark.soak
def test_output_of_a_model_does_not_disturb_its_endpoint(tmp_path: Path) -> None:
    """Output of the model is passed on, and the endpoint is still recognised as ready."""
    noisy = [
        "model=python",
        "~model.artifact",
        "model.function=tests.models.noisy_model:predict",
        "model.deploy=shadow",
    ]
    printed = Shapwatch(tmp_path).process("stage=baseline", *noisy, *FEW_SAMPLES)
    assert "Completed" in printed
    assert "thinking thinking" in printed


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_local_endpoint_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    """A run that is terminated or killed leaves no endpoint behind."""
    command = [sys.executable, "-m", "runner", "experiment=quickstart", f"paths.root={tmp_path}", "stage=baseline"]
    slow = ["model.deploy=shadow", "shap.explainer=kernel", "shap.num_samples=1022", "shap.max_batch_rows=20"]
    run = subprocess.Popen([*command, *slow], cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: bool(children(run.pid)))
    (endpoint,) = children(run.pid)
    run.send_signal(how)
    _, output = run.communicate(timeout=HANG_SECONDS)
    wait_until(lambda: not (Path("/proc") / str(endpoint)).exists())
    assert run.returncode == (cli.INTERRUPTED if how == signal.SIGTERM else -how)
    assert "Traceback" not in output
    assert not list((tmp_path).rglob("analysis.json"))


def children(parent: int | None = None) -> list[int]:
    """Return the local endpoints among the children of a process, by default of this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ancestor = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                ancestor == (parent or os.getpid())
                and subprocesses.SNAPSHOT.encode() in (folder / "cmdline").read_bytes()
            ):
                found.append(int(folder.name))
    return found


def values(shapwatch: Shapwatch, below: str) -> dict[str, float]:
    """Return the global attributions and the expected value of the only analysis below a folder."""
    ((_, label),) = shapwatch.read("analysis.json", below)["explanations"]["kernel_shap"].items()
    return {**label["global_shap_values"], "expected value": label["expected_value"]}


@pytest.mark.soak
def test_tree_has_the_same_attributions_everywhere(tmp_path: Path) -> None:
    """XGBoost's own format, the same model in ONNX, and both behind endpoints give the same analysis."""
    dataset = tmp_path / "rows.jsonl"
    rows = trees.FEATURES.rows()
    dataset.write_bytes(b"\n".join(orjson.dumps({"features": row}) for row in rows))
    data = [f"data.dataset={dataset}", f"data.headers=[{','.join(trees.NAMES)}]", "shap.baseline=[[0.1,0.2,0.3,0.4]]"]
    files = {"xgboost": trees.xgboost_file(tmp_path), "onnx": trees.onnx_file(tmp_path)}
    found = {}
    for kind, path in files.items():
        local = [*data, f"model={kind}", f"model.artifact={path}"]
        found[kind] = attributions_of(tmp_path / kind, *local)
        found[f"{kind} at a local endpoint"] = attributions_of(
            tmp_path / f"{kind}-local", *local, "model.deploy=shadow"
        )
    with served(tmp_path, "quickstart", *data, "model=xgboost", f"model.artifact={files['xgboost']}") as endpoint:
        found["http"] = attributions_of(
            tmp_path / "http", *data, "model=http", "~model.artifact", f"model.url={endpoint.url}"
        )
        boto = ["model=sagemaker", "~model.artifact", f"model.endpoint_url={endpoint.origin}", "model.region=us-west-2"]
        found["sagemaker"] = attributions_of(tmp_path / "sagemaker", *data, *boto)
    assert len(found) == 6
    for name, analysis in found.items():
        assert analysis == pytest.approx(found["xgboost"], abs=TOLERANCE), name
    assert max(found["xgboost"].values()) > 0.05


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


def attributions_of(root: Path, *overrides: str) -> dict[str, float]:
    """Return the attributions of a baselining."""
    shapwatch = Shapwatch(root)
    shapwatch("stage=baseline", *overrides)
    return values(shapwatch, "baseline")


def test_requests_of_boto3_are_captured_and_monitored(tmp_path: Path) -> None:
    """Requests of SageMaker's client are captured and explained without conversion."""
    shapwatch = Shapwatch(tmp_path)
    lines = (DEMO / "traffic.jsonl").read_bytes().splitlines()
    start = next_second()
    with served(tmp_path, "quickstart", *FAST_CAPTURE) as endpoint:
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
    assert shapwatch("stage=monitor", window(start, end)).splitlines()[-2].split()[1] == "Completed,"
    assert shapwatch.read("manifest.json", "monitor")["counts"]["records"] == 50


@pytest.mark.soak
def test_failing_endpoint_fails_the_execution(tmp_path: Path) -> None:
    """The reason names the URL and the response, or that the connection was refused."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=30")
    shapwatch("stage=baseline")
    with served(tmp_path, "quickstart") as endpoint:
        served_url = endpoint.url
        wrong_path = endpoint.url.replace("breast-cancer/invocations", "another/invocations")
        for url, reason in ((wrong_path, "answered 400: "), (None, "Connection refused (after 2 attempts)")):
            if url is None:
                endpoint.process.terminate()
                endpoint.process.wait(20)
            live = ["model=http", "~model.artifact", f"model.url={url or served_url}", "model.attempts=2"]
            hour = "stage.window=2026-01-05T09"
            printed = shapwatch("stage=monitor", hour, *live, "model.label_headers=[malignant]", code=cli.BAD_INPUT)
            manifest = shapwatch.read("manifest.json", "monitor")
            assert manifest["status"] == "Failed"
            assert (url or served_url) in manifest["failure_reason"]
            assert reason in manifest["failure_reason"], printed


@pytest.mark.soak
def test_transient_faults_do_not_change_bytes(tmp_path: Path) -> None:
    """One of ten calls gets a 503, one is reset and one stalls; the analysis is that of a healthy endpoint."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=90")
    shapwatch("stage=baseline")
    answer = scoring(_demo_model(), [f"column_{i}" for i in range(10)], Fields("features", None))

    def faulty(seen: ReceivedRequest) -> Reply:
        fault = {0: Reply(503, "busy"), 3: Reply(200, "", fault="reset"), 6: Reply(200, "", fault="stall")}
        return fault.get(seen.number % 10) or answer(seen)

    analyses = []
    for name, answering in (("healthy", answer), ("faulty", faulty)):
        with serving(answering) as server:
            live = ["model=http", "~model.artifact", f"model.url={server.url}", f"monitor.name={name}"]
            overrides = [*live, "model.timeout_seconds=0.5", "model.label_headers=[malignant]", _reference(tmp_path)]
            printed = shapwatch(
                "stage=monitor", "stage.window=2026-01-05T09", "model.max_request_rows=1000", *overrides
            )
        assert " Completed, " in printed
        analyses.append(shapwatch.find("analysis.json", f"monitor/breast-cancer/{name}").read_bytes())
    calls = shapwatch.read("manifest.json", "monitor/breast-cancer/faulty")["calls"]
    assert analyses[0] == analyses[1]
    assert calls["retries"] >= 0.3 * calls["requests"] > 10
    assert f"{calls['retries']} " in printed


def test_error_of_the_endpoint_is_in_reason_and_report(tmp_path: Path) -> None:
    """The reason quotes URL, status and response, and the report shows them."""
    shapwatch = Shapwatch(tmp_path)
    shapwatch("stage=replay", "stage.start=2026-01-05T09:00:00Z", "stage.count=30")
    shapwatch("stage=baseline")
    with serving(always(500, "<html>\nNo space left on device: '/tmp'")) as server:
        live = ["model=http", "~model.artifact", f"model.url={server.url}", "model.attempts=3"]
        shapwatch("stage=monitor", "stage.window=2026-01-05T09", *live, code=cli.BAD_INPUT)
    manifest = shapwatch.read("manifest.json", "monitor")
    assert manifest["status"] == "Failed"
    reason = f"{server.url} answered 500: <html>\\nNo space left on device: '/tmp' (after 3 attempts)"
    assert manifest["failure_reason"].startswith(reason)
    assert "No space left on device" in shapwatch.find("report.html", "monitor").read_text("utf-8")


def _demo_model() -> LinearLearner:
    return LinearLearner(kind="linear_learner", artifact=DEMO / "model.tar.gz", label_headers=None, deploy=None)
