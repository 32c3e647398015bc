"""What sinks share that speak through an optional library."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from runner.errors import PublishError, snippet


@contextmanager
def installed(extra: str) -> Iterator[None]:
    """Import an optional library inside.

    Raises:
        PublishError: when it cannot be imported.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        problem = f"needs a library that cannot be imported ({type(error).__name__}: {snippet(error)})"
        raise PublishError(extra, f"{problem}: pip install 'shapwatch[{extra}]'", retryable=False) from error


def quiet(*loggers: str) -> None:
    """Let libraries log nothing: their lines quote addresses, which may hold secrets."""
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
