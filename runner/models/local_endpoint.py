"""A temporary local endpoint: a process that serves a model on a free port."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import cached_property
from threading import Thread, Timer
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner import subprocesses
from runner.domain.attributions import Calls
from runner.errors import EndpointError
from runner.models.remote import Remote
from runner.protocols import Model

START_SECONDS = 120
"""Seconds the process may take to start."""

STOP_SECONDS = 10
"""Seconds the process may take to exit after SIGTERM before it is killed."""

MAX_PROBLEM_CHARS = 1_000
"""Maximum length of the process output quoted in an error."""


class LocalEndpoint:
    """A model served by a child process, started at the first prediction and stopped on leaving the context.

    The child exits when its standard input closes, so it never outlives this process, even after SIGKILL.
    """

    def __init__(self, model: Model, settings: str, connect: Callable[[str], Remote]) -> None:
        """Prepare an endpoint.

        Args:
            model: the model to serve; its label headers and identity are used.
            settings: configuration of the serving process as YAML.
            connect: returns the model at a URL.
        """
        self.label_headers, self.identity = model.label_headers, model.identity
        self._settings = settings
        self._connect = connect
        self._process: subprocess.Popen[str] | None = None
        self._relay: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._relay:
            self._relay.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    @property
    def calls_made(self) -> Calls:
        """The calls made to the endpoint so far."""
        return self._endpoint.calls_made

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL.

        Raises:
            EndpointError: if the endpoint does not start or does not respond.
        """
        return self._endpoint.predict(features)

    def planned_calls(self, features: pl.DataFrame) -> Calls:
        """Return the calls that `predict` would make."""
        return self._endpoint.planned_calls(features)

    @cached_property
    def _endpoint(self) -> Remote:
        with tempfile.TemporaryDirectory(prefix="shapwatch-") as folder:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                subprocesses.command(folder, self._settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=subprocesses.environment(),
            )
            return self._connect(self._url(self._process))

    def _url(self, process: subprocess.Popen[str]) -> str:
        """Return the URL of the process; forward its later output to standard error.

        Raises:
            EndpointError: if the process exits before it serves; the message quotes its output.
        """
        assert process.stdout  # noqa: S101
        watchdog = Timer(START_SECONDS, process.kill)
        watchdog.start()
        output = []
        try:
            for line in process.stdout:
                if line.startswith("serving "):
                    self._relay = Thread(target=_forward, args=(process.stdout,), daemon=True)
                    self._relay.start()
                    return line.split()[-1]
                output.append(line)
        finally:
            watchdog.cancel()
        message = " ".join("".join(output).rpartition("error: ")[2].split())
        problem = f"the process exited before serving: {message[:MAX_PROBLEM_CHARS]}"
        raise EndpointError("the local endpoint", None, problem, "set model.deploy=null to predict in this process")


def _forward(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(line)
