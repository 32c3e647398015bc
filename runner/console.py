"""What a person at a terminal, or a log collector without one, sees while work goes on."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from runner.protocols import Item

LOG_EVERY_SECONDS = 10.0
ABOUT = ("execution", "schedule")

logger = logging.getLogger("shapwatch")


@dataclass(frozen=True)
class Context:
    """What log records are about: the same for all, unless one says otherwise by `extra={"execution": …}`."""

    constant: Mapping[str, str]

    def of(self, record: logging.LogRecord) -> dict[str, object]:
        """Return what a record is about."""
        return {**self.constant, **{key: vars(record)[key] for key in ABOUT if key in vars(record)}}


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"at": at, "level": record.levelname.lower(), "logger": record.name}
        line = {**head, **self._context.of(record), "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Readable(logging.Formatter):
    """A log record as a person reads it, after what it is about."""

    def __init__(self, context: Context) -> None:
        super().__init__()
        self._context = context

    def format(self, record: logging.LogRecord) -> str:
        """Return the text."""
        about = " ".join(f"{key} {value}" for key, value in self._context.of(record).items())
        told = super().format(record)
        return f"{about}: {told}" if about else told


def configure_logging(**context: str) -> None:
    """Log to standard error: readable on a terminal, JSON lines without one; of libraries only what is a warning.

    Args:
        context: what every record is about, such as `execution` and `schedule`.
    """
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(Readable(Context(context)))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines(Context(context)))
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
