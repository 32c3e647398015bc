"""Serving as a stage: what it says when it is ready, what ends it, and what it refuses before."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from runner.errors import ArtifactError, MissingInput, SettingsError
from runner.models.linear import Linear
from runner.models.linear_learner import LinearLearner
from runner.records.fields import Fields
from runner.serving.server import listen
from runner.stages.serve import Serve
from tests.conftest import DEMO
from tests.formula_models import Formula, additive
from tests.golden import Golden
from tests.serving.served import events

ONE = (DEMO / "traffic.jsonl").read_text().splitlines()[0]


def stage(**changes: Any) -> Serve:
    """Return a stage that serves a formula of two features, or something else."""
    usual: dict[str, Any] = {
        "model": Formula(additive),
        "fields": Fields("features", "score", ("Age", "Sex")),
        "endpoint": "churn",
        "variant": "AllTraffic",
        "host": "127.0.0.1",
        "port": 0,
        "token": None,
        "token_env": "SHAPWATCH_TOKEN",
        "capture": None,
        "attached": False,
    }
    return Serve(**(usual | changes))


@contextmanager
def process(root: Path, attached: str = "detached") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a process that serves the quickstart's model, and the line it says when it is ready."""
    command = [sys.executable, "-W", "error", "-m", "tests.stages.serving_process", str(root), attached]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as it:  # type: ignore[call-overload]
        try:
            yield it, it.stdout.readline()
        finally:
            it.kill()


def url(line: str) -> str:
    """Return the address in the line that says that a server is ready."""
    found = re.fullmatch(r"serving churn at (http://127\.0\.0\.1:\d+/endpoints/churn/invocations)\n", line)
    assert found, line
    return found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals, golden: Golden) -> None:
    """It says where it serves, answers, and after a signal writes the capture, tells the counts and ends well."""
    with process(tmp_path) as (it, line), httpx.Client(trust_env=False) as client:
        for content in (ONE, ONE, "{"):
            client.post(url(line), content=content, headers={"content-type": "application/jsonlines"})
        it.send_signal(number)
        said, complained = it.communicate(timeout=30)
    assert (it.returncode, complained) == (0, "")
    golden(said)
    assert len(events(tmp_path)) == 2


def test_attached_it_ends_with_its_input(tmp_path: Path, golden: Golden) -> None:
    """A server that hangs on a process is gone when that closes its standard input, as its death does."""
    with process(tmp_path, "attached") as (it, line):
        assert httpx.post(url(line), content=ONE, trust_env=False).is_success
        said, complained = it.communicate(timeout=30)
    assert (it.returncode, complained) == (0, "")
    golden(said)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.com"])  # noqa: S104  they are refused
@pytest.mark.parametrize("token", [None, ""])
def test_others_need_a_token(host: str, token: str | None, golden: Golden) -> None:
    """An address that others can reach is not served without a token; the sentence says which variable holds it."""
    with pytest.raises(SettingsError) as caught:
        stage(host=host, token=token).run()
    golden(str(caught.value))
    golden(str(caught.value))


def test_a_taken_port_is_told(golden: Golden) -> None:
    """A port that somebody else has is a sentence with a way out."""
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with golden.raises(SettingsError):
            stage(port=port).run()


def test_a_host_that_is_not_here_is_told(golden: Golden) -> None:
    """So is an address that is none of this machine's; the token is kept to oneself."""
    with golden.raises(SettingsError) as told:
        stage(host="192.0.2.1", token="sesame").run()
    assert "sesame" not in str(told.value)


def learner(artifact: Path) -> LinearLearner:
    """Return the Linear Learner in a file."""
    return LinearLearner(kind="linear_learner", artifact=artifact, label_headers=None, deploy=None)


@pytest.mark.parametrize("headers", [None, tuple("abcdefghij")])
def test_a_broken_model_is_told_at_the_start(tmp_path: Path, headers: tuple[str, ...] | None, golden: Golden) -> None:
    """A model that is missing or corrupt is told before anybody is told of a server, whether features have names."""
    fields = Fields("features", "score", headers)
    (tmp_path / "broken.tar.gz").write_bytes(b"broken")
    with golden.raises(ArtifactError):
        stage(model=learner(tmp_path / "broken.tar.gz"), fields=fields).run()
    with golden.raises(MissingInput):
        stage(model=learner(tmp_path / "absent.tar.gz"), fields=fields).run()


def test_names_that_are_too_many_are_told_at_the_start(golden: Golden) -> None:
    """Named features that the model does not have are told, too."""
    with golden.raises(ArtifactError):
        stage(model=learner(DEMO / "model.tar.gz")).run()


@pytest.mark.parametrize("headers", [None, ("Age", "Sex")])
def test_a_sound_model_is_served(
    capsys: pytest.CaptureFixture[str], headers: tuple[str, ...] | None, golden: Golden
) -> None:
    """A model that takes texts, or whose number of features nobody knows, is served; without input not for long."""
    coefficients: Any = {"Age": 1.0, "Sex": {"f": 1.0}} if headers else {"column_0": 1.0}
    model = Linear(
        kind="linear", link="logistic", intercept=(0.0,), coefficients=coefficients, label_headers=None, deploy=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runner.serving.server.os.read", lambda *_: b"")
        outcome = stage(model=model, fields=Fields("features", None, headers), attached=True).run()
    assert outcome.message == "answered 0 requests"
    assert outcome.succeeded
    golden(capsys.readouterr().out)
    assert model.predict(pl.DataFrame(schema=dict.fromkeys(coefficients, pl.Null))).shape == (0, 1)
