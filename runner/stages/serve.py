"""Serves the model as an endpoint, with data capture, until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from runner.domain.executions import Outcome
from runner.domain.text import plural
from runner.errors import ModelAnswerError, ModelInputError, SettingsError, ShapwatchError
from runner.models.base import LocalModel
from runner.protocols import Model
from runner.records.fields import Fields
from runner.urls import loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from runner.serving.data_capture import DataCapture


@dataclass(frozen=True)
class Serve:
    """An HTTP server for one model, that boto3's `sagemaker-runtime` can call.

    Attributes:
        model: answers.
        fields: where the features stand in requests; how requests and responses are laid out that do not say.
        endpoint, variant: the names under which SageMaker's runtime would know the model.
        host, port: where to listen; port 0 is a free one.
        token: what a request must bear, None or nothing to answer everybody on this machine.
        token_env: the name of the environment variable that the token comes from.
        capture: puts data capture around the app, None to capture nothing.
        attached: whether to end, too, when the standard input does.
    """

    model: Model
    fields: Fields
    endpoint: str
    variant: str
    host: str
    port: int
    token: str | None
    token_env: str
    capture: Callable[[ASGIApp], DataCapture] | None
    attached: bool

    def run(self) -> Outcome:
        """Answer requests until SIGTERM or SIGINT, and return how many there were.

        Raises:
            SettingsError: when the address is taken, is not this machine's, or is open to others without a token.
            ShapwatchError: when the model cannot be loaded.
        """
        from runner.serving.app import Application
        from runner.serving.batching import RequestBatcher
        from runner.serving.server import Server

        with closing(self._listening()) as listening:
            self._load()
            is_fast = isinstance(self.model, LocalModel) and self.model.is_fast
            batches = RequestBatcher(self.model, self.fields.names, is_fast)
            app = Application(batches, self.fields, self.endpoint, self.variant, self.token or None)
            if self.capture:
                app.capture = self.capture(app)
            server = Server(app.capture or app, lambda: self._tell(listening))
            if self.attached:
                server.stop_at_end_of_input()
            server.run([listening])
        return Outcome(_summary(batches.answered, app.capture))

    def _listening(self) -> socket.socket:
        from runner.serving.server import listen

        if not self.token and not loopback(self.host):
            raise SettingsError([
                f"stage.host={self.host}: others can reach that address, so requests must bear a token: set the "
                f"environment variable {self.token_env} (stage.token_env), or take 127.0.0.1"
            ])  # fmt: skip
        try:
            return listen(self.host, self.port)
        except OSError as error:
            problem = f"stage.port={self.port}: cannot listen at {self.host} ({error.strerror or error})"
            raise SettingsError([f"{problem}; take another port, 0 for a free one, or another stage.host"]) from error

    def _load(self) -> None:
        """Make sure that the model is there before anybody is told so.

        A model refuses a table of no rows for its number of features, which nobody may have told; one that says the
        same whatever the number is broken.
        """
        headers = self.fields.headers
        refusals = [self._refusal(width) for width in ([len(headers)] if headers else [1, 2])]
        if refusals[0] is not None and len({str(refusal) for refusal in refusals}) == 1:
            raise refusals[0]

    def _refusal(self, width: int) -> ShapwatchError | None:
        try:
            self.model.predict(pl.DataFrame(schema=dict.fromkeys(self.fields.names(width), pl.Float64)))
        except (ModelInputError, ModelAnswerError):
            return None
        except ShapwatchError as error:
            return error
        return None

    def _tell(self, listening: socket.socket) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        address = f"http://{host}:{listening.getsockname()[1]}/endpoints/{self.endpoint}/invocations"
        print(f"serving {self.endpoint} at {address}", flush=True)  # noqa: T201  whoever started it waits for this line


def _summary(answered: int, capture: DataCapture | None) -> str:
    counts = f"answered {plural(answered, 'request')}"
    if capture is None:
        return counts
    status = capture.status
    return f"{counts}, captured {status['captured']:,}, dropped {status['dropped']:,}"
