"""Sinks, the destinations of the metrics and messages of an execution, and publishing to all of them.

A sink is a dataclass whose fields are its settings (`conf/publish/*.yaml`), with one method `publish(publication)`.
`publish_all` calls all sinks, retries failures and returns messages about sinks that failed; a sink never changes a
verdict. Secrets are read from the environment when a sink publishes. They never appear in settings, messages or logs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from threading import Thread

from runner.domain.executions import Publication
from runner.domain.numbers import plural
from runner.errors import PublishError, snippet
from runner.protocols import Sink

PAUSE_SECONDS = 1.0
"""Pause after the first failed attempt; it doubles after each further one."""

TIMEOUT_SECONDS = 60.0
"""Timeout of all sinks together: the daemon would stop an execution that never ends, although its results exist."""

Sleep = Callable[[float], object]

logger = logging.getLogger("shapwatch.publish")


def publish_all(
    sinks: Sequence[Sink],
    publication: Publication,
    sleep: Sleep,
    attempts: int = 3,
    timeout: float = TIMEOUT_SECONDS,
) -> list[str]:
    """Publish to all sinks at the same time, and return and log a message for each sink that failed; never raises.

    Args:
        sinks: the sinks.
        publication: the execution.
        sleep: pauses for a number of seconds.
        attempts: maximum number of attempts for each sink.
        timeout: seconds until unfinished sinks are abandoned.
    """
    futures = [_start(sink, publication, sleep, attempts) for sink in sinks]
    unfinished = wait(futures, timeout).not_done
    found = [
        f"not published to {_name(sink)}: timed out after {timeout:g} s" if future in unfinished else future.result()
        for sink, future in zip(sinks, futures, strict=True)
    ]
    problems = [problem for problem in found if problem]
    for problem in problems:
        logger.warning("%s", problem)
    return problems


def _start(sink: Sink, publication: Publication, sleep: Sleep, attempts: int) -> Future[str | None]:
    """Publish to a sink in a daemon thread, which does not delay the end of the process."""
    future: Future[str | None] = Future()
    Thread(target=lambda: future.set_result(_problem(sink, publication, sleep, attempts)), daemon=True).start()
    return future


def _name(sink: Sink) -> str:
    return type(sink).__name__.lower()


def _problem(sink: Sink, publication: Publication, sleep: Sleep, attempts: int) -> str | None:
    """Publish to a sink, and return the message of a failure."""
    name = _name(sink)
    for attempt in range(1, attempts + 1):
        try:
            sink.publish(publication)
            return None
        except PublishError as error:
            problem = f"not published to {error}"
            if not error.retryable:
                return problem
            sink = error.remaining or sink
        except Exception as error:  # noqa: BLE001  no error of a library may change the verdict
            # the text of the error may contain a secret
            problem = f"not published to {name}: failed with {type(error).__name__}"
        if attempt < attempts:
            sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
    return f"{problem} (after {plural(attempts, 'attempt')})"


@contextmanager
def optional_import(extra: str) -> Iterator[None]:
    """Import an optional library inside this context.

    Raises:
        PublishError: if the library cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        problem = f"needs a library that cannot be imported ({type(error).__name__}: {snippet(error)})"
        raise PublishError(extra, f"{problem}; run pip install 'shapwatch[{extra}]'", retryable=False) from error


def silence(*loggers: str) -> None:
    """Turn off the logs of libraries, which quote addresses that may contain secrets."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
