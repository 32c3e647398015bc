"""Serving while other clients misbehave: rate and latency of honest clients, with and without the others.

    python -m benchmarks.hostile [--json] [--seconds 20] [--idle 5000]

Honest clients send the records of `benchmarks.serve` at a fixed rate over 16 connections. The others open idle
connections, send heads and bodies byte by byte, do not read their responses, leave before they are answered, send
records of a million values, documents of two million lists and invalid data, and offer upgrades. The server may open
1,024 files. Fails if the honest clients reach less than 80 % of their rate, or if a response is not captured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.load import request
from benchmarks.serve import PATH, TRAFFIC

CONNECTIONS = 16
PER_SECOND = 320
"""Requests of all honest clients per second."""
DESCRIPTORS = 1024
"""Number of files that the server may open."""
REQUIRED_SHARE = 0.8
WARM_UP_SECONDS = 2.0
PAUSE_SECONDS = 0.2
"""Seconds between two requests of a hostile client."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
RECORDS = TRAFFIC.read_text().splitlines()
WIDE = b'{"features":[' + b"1," * 999_999 + b"1]}\n"
LISTS = b"[" + b"[]," * 2_000_000 + b"[]]"
VALID = RECORDS[0].encode()
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUA\r\n"


def post(body: bytes, extra: bytes = b"", size: int | None = None, kind: bytes = b"application/jsonlines") -> bytes:
    """Return a request with a body; `size` is another value for its Content-Length."""
    length = len(body) if size is None else size
    head = b"POST %s HTTP/1.1\r\nHost: x\r\n%sContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
    return head % (PATH.encode(), extra, kind, length) + body


@asynccontextmanager
async def connection(port: int) -> AsyncIterator[Streams]:
    """Yield the streams of a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def stay_idle(port: int) -> None:
    """Hold a connection without a request until the server closes it."""
    async with connection(port) as (reader, _):
        await reader.read(1)
        await asyncio.sleep(PAUSE_SECONDS)


async def trickle(port: int, beginning: bytes) -> None:
    """Send the beginning of a request, and then a byte per second."""
    async with connection(port) as (_, writer):
        writer.write(beginning)
        while not writer.is_closing():
            await asyncio.sleep(1)
            writer.write(b"1")
            await writer.drain()


async def send(port: int, data: bytes) -> None:
    """Send a request, read the beginning of the response, and close the connection."""
    async with connection(port) as (reader, writer):
        writer.write(data)
        await writer.drain()
        await reader.read(65536)
    await asyncio.sleep(PAUSE_SECONDS)


async def leave(port: int, data: bytes) -> None:
    """Send a request and close the connection."""
    async with connection(port) as (_, writer):
        writer.write(data)
        await writer.drain()
    await asyncio.sleep(PAUSE_SECONDS)


async def ignore_response(port: int, data: bytes) -> None:
    """Send a request with a large response, and do not read it."""
    async with connection(port) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(data)
        await asyncio.sleep(60)


async def repeat(action: Callable[[], Awaitable[None]]) -> None:
    """Repeat an action, also after the server has closed the connection."""
    while True:
        with suppress(OSError):
            await action()
        await asyncio.sleep(0)


async def misbehave(port: int, idle: int) -> None:
    """Run all hostile clients until the task is cancelled."""
    many = b"\n".join([VALID] * 20_000)
    actions: list[Callable[[], Coroutine[Any, Any, None]]] = [
        *[partial(trickle, port, b"POST / HTTP/1.1\r\nX-A: ")] * 100,
        *[partial(trickle, port, post(b"{", size=6_000_000))] * 100,
        *[partial(ignore_response, port, post(many))] * 10,
        partial(send, port, post(WIDE)),
        partial(send, port, post(LISTS, kind=b"application/json")),
        partial(send, port, post(LISTS[:-100], kind=b"application/json")),
        partial(send, port, post(b"x" * 6_000_000)),
        partial(send, port, b"\x16\x03\x01\x02\x00" * 1000),
        partial(send, port, post(b"x" * 7_000_000)),
        *[partial(send, port, post(VALID, H2C))] * 4,
        *[partial(leave, port, post(many))] * 2,
        *[partial(stay_idle, port)] * idle,
    ]
    await asyncio.gather(*map(repeat, actions))


async def honest_client(port: int, bodies: list[bytes], end: float) -> list[float]:
    """Send requests at a fixed rate, over a new connection if the server has closed it; return the latencies."""
    turns = cycle(bodies)
    due, latencies = time.monotonic(), list[float]()
    while time.monotonic() < end:
        with suppress(OSError, asyncio.IncompleteReadError):
            async with connection(port) as (reader, writer):
                while time.monotonic() < end:
                    await asyncio.sleep(due - time.monotonic())
                    writer.write(next(turns))
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                    body = await reader.readexactly(length)
                    if not head.startswith(b"HTTP/1.1 200"):
                        sys.exit(f"an honest client received {(head + body).decode()}")
                    latencies.append(time.monotonic() - due)
                    due += CONNECTIONS / PER_SECOND
    return latencies


async def load(port: int, seconds: float) -> dict[str, float]:
    """Return the number of responses of the honest clients, their rate and their latencies."""
    bodies = [request(PATH, record, number) for number, record in enumerate(RECORDS)]
    start = time.monotonic()
    clients = [honest_client(port, bodies, start + seconds) for _ in range(CONNECTIONS)]
    latencies = sorted(latency for client in await asyncio.gather(*clients) for latency in client)
    return {
        "answered": len(latencies),
        "per_second": len(latencies) / (time.monotonic() - start),
        "p50_ms": 1e3 * latencies[len(latencies) // 2],
        "p99_ms": 1e3 * latencies[len(latencies) * 99 // 100],
    }


def measure(seconds: float, idle: int | None) -> dict[str, Any]:
    """Return the results of the honest clients, with hostile ones unless `idle` is None."""
    with tempfile.TemporaryDirectory() as root:
        command = [sys.executable, "-m", "benchmarks.serve", "--serve", "shapwatch, capture", "--root", root]
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=limit) as server:  # noqa: S603, PLW1509
            assert server.stdout is not None
            port = server.stdout.readline().partition("127.0.0.1:")[2].partition("/")[0]
            others = None
            try:
                if idle is not None:
                    misbehaving = [sys.executable, "-m", "benchmarks.hostile", "--port", port, "--idle", str(idle)]
                    others = subprocess.Popen(misbehaving)  # noqa: S603
                    time.sleep(WARM_UP_SECONDS)
                row: dict[str, Any] = asyncio.run(load(int(port), seconds))
            finally:
                if others:
                    others.kill()
                    others.wait()
                server.send_signal(signal.SIGTERM)
            server.stdout.read()
        ids = [
            json.loads(line)["eventMetadata"].get("inferenceId")
            for path in Path(root).rglob("*.jsonl")
            for line in path.read_bytes().splitlines()
        ]
    return {"hostile": idle is not None, **row, "captured": sum(id_ is not None for id_ in ids)}


def main() -> None:
    """Print both results and their ratio, as a table or as JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--seconds", type=float, default=20, help="seconds of load per measurement")
    parser.add_argument("--idle", type=int, default=5000, help="number of idle connections")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.port:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        asyncio.run(misbehave(arguments.port, arguments.idle))
        return
    rows = [measure(arguments.seconds, None), measure(arguments.seconds, arguments.idle)]
    ratio = rows[1]["per_second"] / rows[0]["per_second"]
    for row in rows:
        if arguments.json:
            print(json.dumps(row))
        else:
            kind = "with hostile clients" if row["hostile"] else "honest clients only"
            print(
                f"{kind:22}{row['per_second']:8,.0f} per second{row['p50_ms']:9.1f} ms p50{row['p99_ms']:9.1f} ms p99"
                f"{row['answered']:9,} answered{row['captured']:9,} captured"
            )
    print(f"honest clients reach {ratio:.0%} of their rate")
    if ratio < REQUIRED_SHARE or any(row["captured"] < row["answered"] for row in rows):
        sys.exit(f"expected at least {REQUIRED_SHARE:.0%}, and a capture of each response")


if __name__ == "__main__":
    main()
