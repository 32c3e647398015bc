"""Tells sinks what an execution found, and survives whatever they do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Thread

from runner.domain.publication import Publication
from runner.domain.text import plural
from runner.errors import PublishError
from runner.protocols import Sink

PAUSE_SECONDS = 1.0
"""After the first try that failed; twice as long after each further one."""

PATIENCE_SECONDS = 60.0
"""For all sinks together: an execution that waits for ever would be stopped in the end, though it is complete."""

Sleep = Callable[[float], object]

logger = logging.getLogger("shapwatch.publish")


def tell(
    sinks: Sequence[Sink],
    publication: Publication,
    sleep: Sleep,
    attempts: int = 3,
    patience: float = PATIENCE_SECONDS,
) -> list[str]:
    """Return a sentence, logged too, on each sink that could not be told; never raises.

    Args:
        sinks: whom to tell, all at the same time.
        publication: what to tell.
        sleep: waits so many seconds.
        attempts: tries of a sink, where another one may help.
        patience: seconds until it is no longer waited for sinks that hang.
    """
    tellings = [_start(sink, publication, sleep, attempts) for sink in sinks]
    late = wait(tellings, patience).not_done
    found = [
        f"not published to {_name(sink)}: it hangs for {patience:g} s" if telling in late else telling.result()
        for sink, telling in zip(sinks, tellings, strict=True)
    ]
    problems = [problem for problem in found if problem]
    for problem in problems:
        logger.warning("%s", problem)
    return problems


def _start(sink: Sink, publication: Publication, sleep: Sleep, attempts: int) -> Future[str | None]:
    """Return what will be known of a sink; its thread keeps no process from ending."""
    telling: Future[str | None] = Future()
    Thread(target=lambda: telling.set_result(_problem(sink, publication, sleep, attempts)), daemon=True).start()
    return telling


def _name(sink: Sink) -> str:
    return type(sink).__name__.lower()


def _problem(sink: Sink, publication: Publication, sleep: Sleep, attempts: int) -> str | None:
    """Return why a sink could not be told, None where it was."""
    name = _name(sink)
    for attempt in range(1, attempts + 1):
        try:
            sink.publish(publication)
            return None
        except PublishError as error:
            told = f"not published to {error}"
            if not error.retryable:
                return told
            sink = error.remaining or sink
        except Exception as error:  # noqa: BLE001  whatever a library raises, the verdict stands
            told = f"not published to {name}: it fails with {type(error).__name__}"  # its text may hold a secret
        if attempt < attempts:
            sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
    return f"{told} (after {plural(attempts, 'attempt')})"
