"""Logs and progress on standard error: readable on a terminal, JSON lines otherwise."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.protocols import Item

LOG_INTERVAL_SECONDS = 10.0
"""Minimum time in seconds between two log lines about progress."""
CONTEXT_KEYS = ("execution", "schedule")
"""Attributes of log records that are shown, set by `extra={"execution": …}`."""

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True)
class LogContext:
    """Execution and schedule of log records.

    Attributes:
        default: values for records without their own.
    """

    default: Mapping[str, str]

    def values(self, record: logging.LogRecord) -> Mapping[str, object]:
        """Return the context of a record."""
        return {**self.default, **{key: vars(record)[key] for key in CONTEXT_KEYS if key in vars(record)}}


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON."""

    def __init__(self, context: LogContext) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"at": time, "level": record.levelname.lower(), "logger": record.name}
        line = {**head, **self._context.values(record), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class ReadableFormatter(logging.Formatter):
    """Formats a log record for a terminal, with its context before the message."""

    def __init__(self, context: LogContext) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record."""
        context = " ".join(f"{key} {value}" for key, value in self._context.values(record).items())
        text = super().format(record)
        return f"{context}: {text}" if context else text


def configure_logging(**context: str) -> None:
    """Log to standard error, from libraries only warnings and errors.

    Args:
        context: execution and schedule of all records.
    """
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(ReadableFormatter(LogContext(context)))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter(LogContext(context)))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logger.setLevel(logging.INFO)


def track(items: Iterable[Item], description: str, total: int | None) -> Iterable[Item]:
    """Yield the items, and show progress: a bar on a terminal, occasional log lines otherwise."""
    return _bar(items, description, total) if sys.stderr.isatty() else _log(items, description, total)


def _bar(items: Iterable[Item], description: str, total: int | None) -> Iterable[Item]:
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description, total, console=Console(stderr=True), transient=True)


def _log(items: Iterable[Item], description: str, total: int | None) -> Iterable[Item]:
    last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last > LOG_INTERVAL_SECONDS:
            last = time.monotonic()
            logger.info("%s: %d%s", description, done, "" if total is None else f" of {total}")
        yield item
