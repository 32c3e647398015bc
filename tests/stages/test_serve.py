"""The stage serve: its start, its end, and its errors."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from runner.errors import ArtifactError, MissingInput, SettingsError
from runner.models.linear import LinearModel
from runner.models.linear_learner import LinearLearner
from runner.records.fields import Fields
from runner.serving.server import FORCE_AFTER_SECONDS, listen
from runner.stages.serve import Serve, ServeStage
from tests.cli_runner import HANG_SECONDS
from tests.conftest import DEMO
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.serving.served import events

ONE = (DEMO / "traffic.jsonl").read_text().splitlines()[0]


def stage(**changes: Any) -> Serve:
    """Return a stage that serves a model of two features, with changed fields."""
    options = {key: changes.pop(key) for key in ("host", "port", "attached") if key in changes}
    usual: dict[str, Any] = {
        "model": Formula(additive),
        "fields": Fields("features", "score", ("Age", "Sex")),
        "endpoint": "churn",
        "variant": "AllTraffic",
        "token": None,
        "capture": None,
    }
    defaults: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "token_env": "SHAPWATCH_TOKEN", "attached": False}
    return Serve(ServeStage("serve", **(defaults | options)), **(usual | changes))


@contextmanager
def process(root: Path, attached: str = "detached") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a process that serves the quickstart's model, and the line that it prints when it is ready."""
    command = [sys.executable, "-W", "error", "-m", "tests.stages.serving_process", str(root), attached]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as it:  # type: ignore[call-overload]
        try:
            yield it, it.stdout.readline()
        finally:
            it.kill()


def url(line: str) -> str:
    """Return the URL in the line that a server prints when it is ready."""
    found = re.search(r" (http://127\.0\.0\.1:\d+/endpoints/churn/invocations)\n", line)
    assert found, line
    return found[1]


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGINT, id="SIGINT")]
)
def test_signal_stops_the_server(tmp_path: Path, number: signal.Signals, golden: Golden) -> None:
    """The server prints its URL, answers, and after a signal writes captures, prints counts and exits with 0."""
    with process(tmp_path) as (it, line), httpx.Client(trust_env=False) as client:
        for content in (ONE, ONE, "{"):
            client.post(url(line), content=content, headers={"content-type": "application/jsonlines"})
        it.send_signal(number)
        said, complained = it.communicate(timeout=HANG_SECONDS)
    assert (it.returncode, re.findall(r"\d+", said), complained) == (0, ["2", "2", "0"], "")
    golden(line + said)
    assert len(events(tmp_path)) == 2


def test_second_signal_ends_open_requests(tmp_path: Path) -> None:
    """The exit code is 130, the captures are written, and there is no traceback. Two signals at once are one."""
    with process(tmp_path) as (it, line), httpx.Client(trust_env=False) as client:
        client.post(url(line), content=ONE, headers={"content-type": "application/jsonlines"})
        with socket.create_connection((httpx.URL(url(line)).host, httpx.URL(url(line)).port or 0)) as connection:
            head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
            connection.sendall(head)
            assert connection.recv(99).startswith(b"HTTP/1.1 100 ")
            it.send_signal(signal.SIGINT)
            it.send_signal(signal.SIGINT)
            while it.poll() is None:
                time.sleep(FORCE_AFTER_SECONDS)
                it.send_signal(signal.SIGINT)
            _, complained = it.communicate(timeout=HANG_SECONDS)
    assert it.returncode == 130
    assert "Traceback" not in complained
    assert len(events(tmp_path)) == 1


def test_attached_server_stops_at_the_end_of_input(tmp_path: Path, golden: Golden) -> None:
    """The end of the parent process closes the standard input."""
    with process(tmp_path, "attached") as (it, line):
        assert httpx.post(url(line), content=ONE, trust_env=False).is_success
        said, complained = it.communicate(timeout=HANG_SECONDS)
    assert (it.returncode, re.findall(r"\d+", said), complained) == (0, ["1", "1", "0"], "")
    golden(said)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com"])  # noqa: S104  they are refused
@pytest.mark.parametrize("token", [pytest.param(None, id="no token"), pytest.param("", id="empty token")])
def test_public_address_needs_a_token(host: str, token: str | None, golden: Golden) -> None:
    """The error names the setting, its value, and the environment variable of the token."""
    with golden.raises(SettingsError) as caught:
        stage(host=host, token=token).run()
    (problem,) = caught.value.problems
    assert problem.startswith(f"stage.host={host}: ")
    assert "SHAPWATCH_TOKEN" in problem


def test_port_in_use_is_refused(golden: Golden) -> None:
    """The error names the port."""
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with golden.raises(SettingsError, (rf"\b{port}\b", "{port}")) as caught:
            stage(port=port).run()
    (problem,) = caught.value.problems
    assert problem.startswith(f"stage.port={port}: ")


def test_host_of_another_machine_is_refused(golden: Golden) -> None:
    """The error names the host, not the token."""
    with golden.raises(SettingsError) as caught:
        stage(host="192.0.2.1", token="sesame").run()
    assert "192.0.2.1" in str(caught.value)
    assert "sesame" not in str(caught.value)


def learner(artifact: Path) -> LinearLearner:
    """Return the Linear Learner model in a file."""
    return LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)


@pytest.mark.parametrize("headers", [pytest.param(None, id="unnamed"), pytest.param(tuple("abcdefghij"), id="named")])
def test_missing_or_corrupt_model_is_refused(tmp_path: Path, headers: tuple[str, ...] | None, golden: Golden) -> None:
    """The error occurs before the URL is printed, with and without feature names."""
    fields = Fields("features", "score", headers)
    (tmp_path / "broken.tar.gz").write_bytes(b"broken")
    with golden.raises(ArtifactError) as corrupt:
        stage(model=learner(tmp_path / "broken.tar.gz"), fields=fields).run()
    assert corrupt.value.path == tmp_path / "broken.tar.gz"
    with golden.raises(MissingInput) as missing:
        stage(model=learner(tmp_path / "absent.tar.gz"), fields=fields).run()
    assert (missing.value.path, missing.value.key) == (tmp_path / "absent.tar.gz", "model.artifact")


def test_model_with_another_number_of_features_is_refused(golden: Golden) -> None:
    """The model has ten features, the settings name two."""
    with golden.raises(ArtifactError) as caught:
        stage(model=learner(DEMO / "model.tar.gz")).run()
    assert caught.value.path == DEMO / "model.tar.gz"


@pytest.mark.parametrize("headers", [pytest.param(None, id="unnamed"), pytest.param(("Age", "Sex"), id="named")])
def test_model_of_strings_or_unknown_width_is_served(
    capsys: pytest.CaptureFixture[str], headers: tuple[str, ...] | None, golden: Golden
) -> None:
    """The server runs until its standard input ends."""
    coefficients: Any = {"Age": 1.0, "Sex": {"f": 1.0}} if headers else {"column_0": 1.0}
    model = LinearModel(
        kind="linear", link="logistic", intercept=(0.0,), coefficients=coefficients, label_headers=None, deploy=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.serving.server.os.read", lambda *_: b"")
        outcome = stage(model=model, fields=Fields("features", None, headers), attached=True).run()
    assert outcome.succeeded
    golden(capsys.readouterr().out + outcome.message)
    assert model.predict(pl.DataFrame(schema=dict.fromkeys(coefficients, pl.Null))).shape == (0, 1)
