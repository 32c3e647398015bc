"""What a person at a terminal, or a log collector without one, sees while work goes on."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from runner.protocols import Item

LOG_EVERY_SECONDS = 10.0

logger = logging.getLogger("shapwatch")


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging() -> None:
    """Log to standard error: readable on a terminal, JSON lines without one; of libraries only what is a warning."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(show_path=False)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO)


def track(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
    """Yield the items, with a progress bar on a terminal and a log line now and then without one."""
    return _bar(items, what, total) if sys.stderr.isatty() else _log(items, what, total)


def _bar(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, what, total, console=Console(stderr=True), transient=True)


def _log(items: Iterable[Item], what: str, total: int | None) -> Iterable[Item]:
    told = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - told > LOG_EVERY_SECONDS:
            told = time.monotonic()
            logger.info("%s: %d%s", what, done, "" if total is None else f" of {total}")
        yield item
