"""Reading of large request bodies in another process.

Parsing a body of some megabytes can take a second, and the parsers do not release the interpreter lock meanwhile. In
another process it delays no other request. The process starts with the first large request and ends with the server.
"""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import signal
import struct
import subprocess
import sys
import weakref
from contextlib import suppress
from dataclasses import asdict
from threading import Timer
from typing import IO, cast

import orjson
import polars as pl

from runner.records.fields import Fields
from runner.serving.requests import RequestError, RequestReader, as_table
from runner.subprocesses import environment

READ_SECONDS = 30.0
"""Seconds after which the process is killed if it has not read a body."""

HEADER = struct.Struct("<qq")
"""Numbers before each message: the size of the content type (-1: none) or the status, and the size of the content."""

FAILED = "the request cannot be read; see the server's log"

logger = logging.getLogger("shapwatch")


class LargeRequestReader:
    """Reader of request bodies that uses another process."""

    def __init__(self, fields: Fields) -> None:
        """Create a reader; `fields` are the positions of the features in requests."""
        self._fields = fields
        self._turn = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    async def read(self, content_type: bytes | None, body: bytes) -> pl.DataFrame:
        """Return the records of a request as a table.

        Raises:
            RequestError: 415 for an unsupported media type, 400 for an invalid body, 500 if the process fails.
        """
        async with self._turn:
            exchange = asyncio.ensure_future(asyncio.to_thread(self._exchange, content_type, body))
            try:
                status, content = await asyncio.shield(exchange)
            finally:  # the turn of a cancelled request ends with its exchange
                await asyncio.wait([exchange])
        if status != 200:
            raise RequestError(status, content.decode())
        return await asyncio.to_thread(pl.read_ipc, content)

    def close(self) -> None:
        """End the process, also while it reads a body."""
        if self._process is not None:
            self._process.kill()

    def _exchange(self, content_type: bytes | None, body: bytes) -> tuple[int, bytes]:
        """Return the status and the content of the process's answer."""
        if self._process is None or self._process.poll() is not None:
            self._process = _start(self._fields)
            weakref.finalize(self, _end, self._process)
        process = self._process
        requests, responses = cast(IO[bytes], process.stdin), cast(IO[bytes], process.stdout)
        timer = Timer(READ_SECONDS, process.kill)
        timer.start()
        try:
            requests.write(HEADER.pack(-1 if content_type is None else len(content_type), len(body)))
            requests.write((content_type or b"") + body)
            requests.flush()
            status, size = HEADER.unpack(_exactly(responses, HEADER.size))
            return status, _exactly(responses, size)
        except (OSError, EOFError):
            _end(process)
            logger.error("the process that reads large requests has ended (exit code %s)", process.returncode)
            return 500, FAILED.encode()
        finally:
            timer.cancel()


def _start(fields: Fields) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "runner.serving.large_requests", orjson.dumps(asdict(fields)).decode()]
    return subprocess.Popen(  # noqa: S603  our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe is not None:
                pipe.close()
    process.kill()
    process.wait()


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """Return bytes from a stream.

    Raises:
        EOFError: if the stream ends before.
    """
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _answer(reader: RequestReader, content_type: bytes | None, body: bytes) -> tuple[int, bytes]:
    """Return the status, and the table in Arrow's IPC format or a message."""
    try:
        table = as_table(reader.read(content_type, body), reader.fields.names)
    except RequestError as error:
        return error.status, error.message.encode()
    file = io.BytesIO()
    table.write_ipc(file)
    return 200, file.getvalue()


def main() -> None:
    """Answer requests on standard input until it ends: `python -m runner.serving.large_requests FIELDS`."""
    for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to all processes
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # a collection visits millions of values, and finds no cycles
    options = orjson.loads(sys.argv[1])
    headers = options.pop("headers")
    reader = RequestReader(Fields(**options, headers=None if headers is None else tuple(headers)))
    requests, responses = sys.stdin.buffer, sys.stdout.buffer
    while header := requests.read(HEADER.size):
        type_size, size = HEADER.unpack(header)
        content_type = None if type_size < 0 else _exactly(requests, type_size)
        status, content = _answer(reader, content_type, _exactly(requests, size))
        responses.write(HEADER.pack(status, len(content)))
        responses.write(content)
        responses.flush()


if __name__ == "__main__":
    main()
