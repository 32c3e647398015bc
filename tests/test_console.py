"""Logs and progress: for people on a terminal, JSON lines without one."""

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

from runner import console
from tests.cli_runner import CHECKOUT
from tests.golden import Golden


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root of all loggers, whose handlers come back."""
    logger = logging.getLogger()
    before = logger.handlers[:]
    yield logger
    logger.handlers[:] = before


def test_logs_are_json_lines(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    """Each record is one JSON object with time, level and message, an exception included."""
    console.configure_logging()
    try:
        raise ValueError("näh\n")
    except ValueError:
        console.logger.exception("what %s", "happened")
    (line,) = capsys.readouterr().err.splitlines()
    logged = json.loads(line)
    assert set(logged) == {"at", "level", "logger", "message", "exception"}
    assert (logged["level"], logged["message"], logged["logger"]) == ("error", "what happened", "shapwatch")
    assert "ValueError: näh" in logged["exception"]


def test_logs_say_what_they_are_about(capsys: pytest.CaptureFixture[str], root: logging.Logger) -> None:
    """Every line carries the constant fields; a record's own come first, others that it has do not show."""
    console.configure_logging(execution="7", schedule="churn")
    console.logger.info("constant")
    console.logger.info("own", extra={"execution": 8, "other": object()})
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["execution"], first["schedule"], first["message"]) == ("7", "churn", "constant")
    assert (second["execution"], second["schedule"], second["message"]) == (8, "churn", "own")
    assert "other" not in second


def test_a_terminal_shows_what_logs_are_about(golden: Golden) -> None:
    """On a terminal the constant and own fields of a record stand before its message."""
    code = """
from runner import console
console.configure_logging(schedule="churn")
console.logger.info("begins", extra={"execution": 8})
console.configure_logging()
console.logger.info("ends")
"""
    shown = on_a_terminal(code)
    assert shown.split().count("INFO") == 2
    golden(shown, (r"\[.*?\d\d:\d\d:\d\d.*?\]", "[{now}]"))


def test_long_work_is_logged_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal a line tells how far the work is, at most one every few seconds."""
    ticks = iter(range(0, 1000, 4))
    monkeypatch.setattr("runner.console.time.monotonic", lambda: float(next(ticks)))
    with caplog.at_level(logging.INFO):
        assert list(console.track("abcdefgh", "eating", 8)) == list("abcdefgh")
    assert caplog.messages[0] == "eating: 2 of 8"
    assert 1 < len(caplog.messages) < 8


def test_a_terminal_shows_a_bar() -> None:
    """On a terminal the work shows as a bar on standard error."""
    code = "import time; from runner.console import track\nfor _ in track(range(3), 'explaining', 3): time.sleep(0.2)"
    shown = on_a_terminal(code)
    assert "explaining" in shown
    assert "%" in shown


def on_a_terminal(code: str) -> str:
    """Return what a program shows on a terminal without colours."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"}
    subprocess.run([sys.executable, "-c", code], stderr=follower, check=True, cwd=CHECKOUT, env=environment)
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
