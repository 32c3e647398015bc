"""Logs and progress: for people on a terminal, JSON lines without one."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from runner import console
from tests.running import CHECKOUT


def test_logs_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Each record is one JSON object with time, level and message, an exception included."""
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        console.configure_logging()
        try:
            raise ValueError("näh\n")
        except ValueError:
            console.logger.exception("what %s", "happened")
    finally:
        root.handlers[:] = before
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["message"], told["logger"]) == ("error", "what happened", "shapwatch")
    assert "ValueError: näh" in told["exception"]


def test_long_work_is_logged_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a terminal a line tells how far the work is, at most one every few seconds."""
    ticks = iter(range(0, 1000, 4))
    monkeypatch.setattr("runner.console.time.monotonic", lambda: float(next(ticks)))
    with caplog.at_level(logging.INFO):
        assert list(console.track("abcdefgh", "eating", 8)) == list("abcdefgh")
    assert caplog.messages[0] == "eating: 2 of 8"
    assert 1 < len(caplog.messages) < 8


def test_a_terminal_shows_a_bar(tmp_path: Path) -> None:
    """On a terminal the work shows as a bar on standard error."""
    code = "import time; from runner.console import track\nfor _ in track(range(3), 'explaining', 3): time.sleep(0.2)"
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    subprocess.run([sys.executable, "-c", code], stderr=follower, check=True, cwd=CHECKOUT, env=environment)
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    assert "explaining" in shown
    assert "%" in shown
