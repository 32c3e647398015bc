"""A throw-away endpoint for an artefact: a serving process on a free port, gone when the work is done."""

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
from runner.domain.attributions import Additive, Calls
from runner.errors import NO_TREES, EndpointError, ExplainerError
from runner.protocols import Model

START_SECONDS = 120
STOP_SECONDS = 10
LONGEST_COMPLAINT = 1_000


class LocalEndpoint:
    """A model behind a process of its own, started when it is first asked; leaving the context removes the process.

    The process watches its standard input, so it ends with this one even when this one is killed.
    """

    def __init__(self, model: Model, settings: str, connect: Callable[[str], Model]) -> None:
        """Prepare an endpoint.

        Args:
            model: what it will serve, for what can be known without it.
            settings: the configuration of the serving process, as YAML.
            connect: gives the model behind a URL.
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
    def calls_made(self) -> Calls | None:
        """What has been sent to the endpoint so far."""
        return self._endpoint.calls_made

    def predict(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """Return scores_NL.

        Raises:
            EndpointError: when the endpoint does not start, or does not answer.
        """
        return self._endpoint.predict(features)

    def planned_calls(self, features: pl.DataFrame) -> Calls | None:
        """Return what `predict` would send."""
        return self._endpoint.planned_calls(features)

    is_additive = False

    def additive_terms(self, features: pl.DataFrame) -> Additive:
        """Refuse: only what its endpoint answers is known."""
        raise NotImplementedError

    def tree_shap(self, features: pl.DataFrame) -> Additive:  # noqa: ARG002
        """Refuse: only trees have their own.

        Raises:
            ExplainerError: always.
        """
        raise ExplainerError(NO_TREES)

    def encode_response(self, features: pl.DataFrame, accept: str) -> str:
        """Return the body with which the endpoint answers."""
        return self._endpoint.encode_response(features, accept)

    @cached_property
    def _endpoint(self) -> Model:
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
        """Return where the process serves; what it says afterwards goes to standard error.

        Raises:
            EndpointError: with what it said, when it ends before it serves.
        """
        assert process.stdout  # noqa: S101
        watchdog = Timer(START_SECONDS, process.kill)
        watchdog.start()
        said = []
        try:
            for line in process.stdout:
                if line.startswith("serving "):
                    self._relay = Thread(target=_pass_on, args=(process.stdout,), daemon=True)
                    self._relay.start()
                    return line.split()[-1]
                said.append(line)
        finally:
            watchdog.cancel()
        complaint = " ".join("".join(said).rpartition("error: ")[2].split())
        problem = f"it ended before it served: {complaint[:LONGEST_COMPLAINT]}"
        raise EndpointError("the shadow endpoint", None, problem, "set model.deploy=null to explain without one")


def _pass_on(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stderr.write(line)
