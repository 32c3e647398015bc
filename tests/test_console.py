"""Logs and progress on standard error: readable on a terminal, JSON lines otherwise."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runner import cli
from tests.cli_runner import CHECKOUT
from tests.golden import Golden


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, whose handlers are restored."""
    logger = logging.getLogger()
    before = logger.handlers[:]
    yield logger
    logger.handlers[:] = before


def test_logs_are_json_lines(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    """Each record is one JSON object with time, level, logger, message and exception."""
    cli.configure_logging()
    try:
        raise ValueError("näh\n")
    except ValueError:
        cli.logger.exception("what %s", "happened")
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert set(logged) == {"at", "level", "logger", "message", "exception"}
    assert (logged["level"], logged["message"], logged["logger"]) == ("error", "what happened", "shapwatch")
    assert "ValueError: näh" in logged["exception"]


def test_log_records_have_a_context(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    """Every line contains execution and schedule; values of the record take precedence; other fields are omitted."""
    cli.configure_logging(execution="7", schedule="churn")
    cli.logger.info("default")
    cli.logger.info("own", extra={"execution": 8, "other": object()})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["execution"], first["schedule"], first["message"]) == ("7", "churn", "default")
    assert (second["execution"], second["schedule"], second["message"]) == (8, "churn", "own")
    assert "other" not in second


def test_terminal_shows_the_context_of_log_records(golden: Golden) -> None:
    """On a terminal execution and schedule precede the message."""
    code = """
from runner import cli
cli.configure_logging(schedule="churn")
cli.logger.info("starts", extra={"execution": 8})
cli.configure_logging()
cli.logger.info("ends")
"""
    shown = terminal_output(code)
    assert shown.split().count("INFO") == 2
    golden(shown, (r"\[.*?\d\d:\d\d:\d\d.*?\]", "[{now}]"))


def test_progress_is_logged_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There is at most one log line every ten seconds."""
    ticks = iter(range(0, 1000, 4))
    monkeypatch.setattr("runner.cli.time.monotonic", lambda: float(next(ticks)))
    with caplog.at_level(logging.INFO):
        assert list(cli.track("abcdefgh", "counting", 8)) == list("abcdefgh")
    assert caplog.messages[0] == "counting: 2 of 8"
    assert 1 < len(caplog.messages) < 8


def test_terminal_shows_a_progress_bar() -> None:
    """The bar has a description and a percentage."""
    code = "import time; from runner.cli import track\nfor _ in track(range(3), 'explaining', 3): time.sleep(0.2)"
    shown = terminal_output(code)
    assert "explaining" in shown
    assert "%" in shown


def terminal_output(code: str) -> str:
    """Return the output of a program on a terminal without colours."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    subprocess.run([sys.executable, "-c", code], stderr=follower, check=True, cwd=CHECKOUT, env=environment)
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
