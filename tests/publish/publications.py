"""Executions to tell, made by hand, and addresses where nobody listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import DriftResult, Effect, LabelResult, Level
from runner.domain.executions import Status, Window
from runner.domain.publication import AlertHistory, Publication

SECRET = "hush-hush"
WINDOW = Window.parse("2026-01-05T09")
NAMES = (
    "Hours per week",
    'a "quoted" name',
    "two\nlines",
    "\U0001f986 emoji",
    "\u05e9\u05dc\u05d5\u05dd \u202e rtl",
    "x" * 300,
    "x" * 299 + "y",
    "back\\slash",
    "Gr\u00f6\u00dfe",
    "tab\tand {braces}",
)
"""Feature names as they come."""


def finding(level: Level, labels: tuple[str, ...] = ("label0",)) -> DriftResult:
    """Return a finding of a level."""
    share, total_log2_change = Effect(0.3, 0.02, 0.001), Effect(-0.5, 0.1, 0.01)
    found = tuple(
        LabelResult(label, label, level, 0.001, share, total_log2_change, Effect(None, None, None), ())
        for label in labels
    )
    return DriftResult(level, level, 500, 300, 0.001, 0.1, found)


def live(names: tuple[str, ...] = ("age", "income"), labels: tuple[str, ...] = ("label0",)) -> GlobalAttributions:
    """Return attributions: 0.5, 1.5, 2.5 … times 1, 10, … for the labels; 0.25, 1.25 … are expected."""
    rows_D, scales_L = np.arange(len(names)) + 0.5, np.array([10.0**i for i in range(len(labels))])
    expected_L = np.array([i + 0.25 for i in range(len(labels))])
    return GlobalAttributions(names, labels, np.outer(rows_D, scales_L), expected_L)


def publication(level: Level | None = Level.WARNING, **changes: Any) -> Publication:
    """Return an execution that found something, None for nothing to compare with."""
    attributions = changes.pop("attributions", live())
    labels = attributions.labels if attributions else ()
    told = Publication(
        monitor="adult-monitor",
        endpoint="adult",
        window=WINDOW,
        scheduled=WINDOW.scheduled,
        status=Status.COMPLETED,
        sentence="Material drift: 30 % of the attribution moved.",
        report="output/report.html",
        directory=None,
        attributions=attributions,
        ndcg=dict.fromkeys(labels, 0.95),
        finding=finding(level, labels) if level else None,
        past=AlertHistory(),
    )
    return replace(told, **changes)


def failure(**changes: Any) -> Publication:
    """Return an execution that failed."""
    return publication(None, status=Status.FAILED, attributions=None, sentence="the endpoint is gone", **changes)


@contextmanager
def nobody() -> Iterator[int]:
    """Yield a port of this machine that refuses connections, and that nobody takes meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
