"""Serves the model as an endpoint with data capture until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import polars as pl
from annotated_types import MinLen

from runner.domain.executions import Outcome
from runner.domain.numbers import plural
from runner.errors import ModelAnswerError, ModelInputError, SettingsError, ShapwatchError
from runner.models.base import LocalModel
from runner.protocols import Model
from runner.records.fields import Fields
from runner.types import NO_OTHER_KEYS, Port, Variable
from runner.urls import bearer_token, is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runner.serving.data_capture import DataCapture

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True)
class ServeStage:
    """`stage=serve`; conf/stage/serve.yaml describes the keys."""

    kind: Literal["serve"]
    host: Annotated[str, MinLen(1)]
    port: Port
    token_env: Variable
    attached: bool

    __pydantic_config__ = NO_OTHER_KEYS

    @property
    def token(self) -> str | None:
        """The bearer token in the environment; see `environment_token`."""
        return environment_token(self.token_env)


@dataclass(frozen=True)
class Serve:
    """An HTTP server for one model; boto3's `sagemaker-runtime` can call it.

    Attributes:
        model: model that answers.
        fields: paths of the features in requests, and the default content types.
        endpoint, variant: names of the endpoint and of its production variant.
        token: bearer token that requests must carry; with None or "", only this machine can send requests, without a
            token.
        capture: function that wraps the app in data capture; None captures nothing.
    """

    settings: ServeStage
    model: Model
    fields: Fields
    endpoint: str
    variant: str
    token: str | None
    capture: Callable[[ASGIApp], DataCapture] | None

    def run(self) -> Outcome:
        """Answer requests until SIGTERM or SIGINT, and return their number.

        Raises:
            SettingsError: if the address is in use or belongs to another machine, or if other machines could send
                requests without a token.
            ShapwatchError: if the model cannot be loaded.
            KeyboardInterrupt: if a second signal has ended open requests.
        """
        from runner.serving.batching import RequestBatcher
        from runner.serving.server import Application, Server

        with closing(self._listening()) as listening:
            self._load()
            is_fast = isinstance(self.model, LocalModel) and self.model.is_fast
            batches = RequestBatcher(self.model, self.fields.names, is_fast)
            app = Application(batches, self.fields, self.endpoint, self.variant, self.token or None)
            if self.capture:
                app.capture = self.capture(app)
            server = Server(app.capture or app, lambda: self._announce(listening))
            if self.settings.attached:
                server.stop_at_end_of_input()
            server.run([listening])
        summary = _summary(batches.answered, app.capture)
        if server.force_exit:
            logger.warning("a second signal has ended the open requests; %s", summary)
            raise KeyboardInterrupt
        return Outcome(summary)

    def _listening(self) -> socket.socket:
        from runner.serving.server import listen

        host, port = self.settings.host, self.settings.port
        if not self.token and not is_loopback(host):
            problem = "other machines can reach this address, so requests must carry a token"
            remedy = f"set the environment variable {self.settings.token_env} (stage.token_env), or use 127.0.0.1"
            raise SettingsError([f"stage.host={host}: {problem}; {remedy}"])
        try:
            return listen(host, port)
        except OSError as error:
            problem = f"stage.port={port}: cannot listen at {host} ({error.strerror or error})"
            raise SettingsError([f"{problem}; use another port (0: a free port) or another stage.host"]) from error

    def _load(self) -> None:
        """Load the model before the server prints its address.

        The model loads when it predicts an empty table. Without headers, the number of columns is unknown, so one and
        two columns are tried. The same failure for both means that the model cannot be loaded.
        """
        headers = self.fields.headers
        failures = [self._failure(width) for width in ([len(headers)] if headers else [1, 2])]
        if failures[0] is not None and len({str(failure) for failure in failures}) == 1:
            raise failures[0]

    def _failure(self, width: int) -> ShapwatchError | None:
        try:
            self.model.predict(pl.DataFrame(schema=dict.fromkeys(self.fields.names(width), pl.Float64)))
        except (ModelInputError, ModelAnswerError):
            return None
        except ShapwatchError as error:
            return error
        return None

    def _announce(self, listening: socket.socket) -> None:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        address = f"http://{host}:{listening.getsockname()[1]}/endpoints/{self.endpoint}/invocations"
        print(f"serving {self.endpoint} at {address}", flush=True)  # noqa: T201  the starting process waits for this line


def environment_token(variable: str) -> str | None:
    """Return the bearer token in an environment variable; None if it is not set.

    Raises:
        SettingsError: if the token cannot be sent in a header.
    """
    text = os.environ.get(variable, "")
    try:
        return bearer_token(text) if text else None
    except ValueError as error:
        raise SettingsError([f"stage.token_env: the environment variable {variable} {error}"]) from error


def _summary(answered: int, capture: DataCapture | None) -> str:
    counts = f"answered {plural(answered, 'request')}"
    if capture is None:
        return counts
    status = capture.status
    return f"{counts}, captured {status['captured']:,}, dropped {status['dropped']:,}"
