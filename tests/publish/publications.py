"""Sample executions to publish, the sinks of a configuration, and a port without a server."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir

from runner import cli
from runner.config.compose import validate
from runner.domain.attributions import GlobalAttributions
from runner.domain.drift import Change, ChangeKind, DriftResult, Effect, InputResult, LabelResult, Level, Verdict
from runner.domain.executions import AlertHistory, Publication, Status, Window
from runner.protocols import Sink
from runner.publish.prometheus import Prometheus

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
"""Feature names with special characters."""


@dataclass(frozen=True)
class Unreachable:
    """A configuration in which a sink cannot publish.

    Attributes:
        environment: environment variables, with `SECRET` in all that are secret.
        overrides: overrides on the command line.
        ignores_failures: whether the sink publishes nothing about a failed execution.
    """

    environment: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    ignores_failures: bool = False


def configured_sinks(*names: str, overrides: tuple[str, ...] = ()) -> tuple[Sink, ...]:
    """Return the sinks of a configuration that selects them."""
    cli.register_package()
    with initialize_config_dir(str(cli.CONF), version_base="1.3"):
        return validate(compose("config", [f"publish=[{','.join(names)}]", *overrides])).publish.sinks


def drift_result(level: Level, labels: tuple[str, ...] = ("label0",)) -> DriftResult:
    """Return a drift result of a level."""
    shift, total = Effect(0.3, 0.02, 0.001), Effect(-0.5, 0.1, 0.01)
    results = tuple(
        LabelResult(label, label, level, 0.001, shift, total, Effect(None, None, None), ()) for label in labels
    )
    income = InputResult("income", level, 1e-9, 0.5, 0.0, 0.25, 0.0, 0.0, constant=False)
    age = InputResult("age", Level.NONE, 1.0, 0.03, 0.0, 0.0, 0.0, 0.0, constant=False)
    change = Change(ChangeKind.INPUT, "income", "2026-01-05T09:00:00Z", "2026-01-04T23:12:00Z")
    changes = () if level.order < Level.INFO.order else (change,)
    return DriftResult(level, level, 500, 300, 0.001, 0.1, results, inputs=(age, income), changes=changes)


def live_attributions(
    names: tuple[str, ...] = ("age", "income"), labels: tuple[str, ...] = ("label0",)
) -> GlobalAttributions:
    """Return attributions 0.5, 1.5, 2.5 …, times 1, 10 … for each label, and expected values 0.25, 1.25 and so on."""
    rows_D, scales_L = np.arange(len(names)) + 0.5, np.array([10.0**i for i in range(len(labels))])
    expected_L = np.array([i + 0.25 for i in range(len(labels))])
    return GlobalAttributions(names, labels, np.outer(rows_D, scales_L), expected_L)


def publication(level: Level | None = Level.WARNING, **changes: Any) -> Publication:
    """Return an execution with a drift level, None for one without statistical tests."""
    attributions = changes.pop("attributions", live_attributions())
    labels = attributions.labels if attributions else ()
    execution = Publication(
        monitor="adult-monitor",
        endpoint="adult",
        window=WINDOW,
        scheduled=WINDOW.scheduled,
        status=Status.COMPLETED,
        sentence="Material drift: attribution shifted by 30 %.",
        words=Verdict("income: about 12 times larger", "Income rose.", "Moderate.", "Check the source of income."),
        report="output/report.html",
        directory=None,
        attributions=attributions,
        ndcg=dict.fromkeys(labels, 0.95),
        drift=drift_result(level, labels) if level else None,
        history=AlertHistory(),
    )
    return replace(execution, **changes)


def failed_publication(**changes: Any) -> Publication:
    """Return a failed execution."""
    words = Verdict("the endpoint is gone", "The endpoint is gone.", "Drift was not judged.", "Correct the cause.")
    parts = {"status": Status.FAILED, "attributions": None, "sentence": "the endpoint is gone", "words": words}
    return publication(None, **parts, **changes)


@contextmanager
def closed_port() -> Iterator[int]:
    """Yield a local port that refuses connections, and that no other process can take."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def prometheus_sink(folder: Path, max_features: int = 20, max_labels: int = 10) -> Prometheus:
    """Return a sink for a folder that does not exist yet."""
    settings: dict[str, Any] = {"folder": str(folder / "made" / "later")}
    return Prometheus(**settings, max_features=max_features, max_labels=max_labels)
